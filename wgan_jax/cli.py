"""The start and end of every command: it parses the flags, and turns mistakes into one line and an exit code.

| exit code | |
|---|---|
| 0 | done |
| 2 | a mistake of the user, or a limit of this machine: one line on stderr says what is wrong and how to fix it |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |
| 1 | a defect of the program: a traceback |
"""

import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from wgan_jax.devices import determinism
from wgan_jax.errors import UserError, clear_errors, one_line

flags.disclaim_key_flags()  # the flags defined here belong to the command: its --help lists them


def run(main: Callable[[], None]) -> None:
    """Parses the flags, calls `main`, and ends the process with one of the exit codes of this module."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            fail(f"{argv[1]!r}: not understood; every argument is a --flag=value")
        try:
            with clear_errors():
                main()
                sys.stdout.flush()  # what the reader of the output no longer takes is known here, not at exit
        except UserError as error:
            fail(str(error))
        except BrokenPipeError:
            # The reader of the output has closed it, as `head` does. Nothing more may be printed, even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)
        except KeyboardInterrupt:
            sys.exit(130)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may contain characters that the terminal cannot show
    determinism.require()
    app.run(guarded, flags_parser=_parse)


def define_config() -> None:
    """Defines `--config=FILE` and `--config.KEY=VALUE`."""
    try:
        config_flags.DEFINE_config_file(
            "config", None, "A Python file with get_config(). It is executed: give only one that you trust."
        )
    except flags.Error as error:  # it already reads a --flagfile
        fail(one_line(error))


def define_path(name: str, default: str | None, help: str) -> None:
    """Defines a flag for a file or folder of this machine. Its value is a `Path`, and `~` means the home folder."""
    flags.DEFINE(_PathParser(), name, default, help)


class _PathParser(flags.ArgumentParser[Path]):
    def parse(self, argument: str) -> Path:
        if not argument:
            raise ValueError("is empty; give a path, or . for the current folder")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", argument):
            raise ValueError(
                "is not a path of this machine; mount it, such as with gcsfuse or mountpoint-s3, and give the path "
                "there, or use a local or shared disk"
            )
        try:
            return Path(argument).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{error} Write the home folder out") from None


def _parse(argv: list[str]) -> list[str]:
    # orbax logs every operation, and each error twice; our commands print one line. `--verbosity=0` shows its log.
    flags.FLAGS.verbosity = logging.FATAL  # type: ignore[assignment]
    _check_config_file(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(_of_config_file(error) or one_line(error))
    except (AttributeError, KeyError) as error:
        fail(f"--config: unknown key {one_line(error)}; wgan_jax/config/settings.py explains every key")
    except Exception as error:
        # A config file is Python code of the user: whatever it raises is a mistake to fix there.
        fail(f"--config: {type(error).__name__}: {one_line(error)}")


def _of_config_file(error: Exception) -> str:
    """Returns what a config file raised, in place of the traceback that ml_collections makes of it; else nothing."""
    flag, inside, _ = str(error).partition(" Error whilst parsing config file")
    if not inside:
        return ""
    cause: BaseException = error
    while cause.__context__:
        cause = cause.__context__
    kind = "" if isinstance(cause, UserError) else f"{type(cause).__name__}: "
    return f"{flag.removeprefix('flag ')} {kind}{one_line(cause)}"


def _check_config_file(argv: list[str]) -> None:
    """Ends the process with a one-line message if the file of `--config=` does not exist."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "config":
            path = (value if equals else following).partition(":")[0]
            if not os.path.isfile(path):  # `Path.is_file` would raise for a name that is too long
                fail(f"--config={path}: no such file; it is a Python file such as configs/digits.py")


def fail(message: str) -> NoReturn:
    """Ends the process with one line on stderr and exit code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def use_compilation_cache() -> None:
    """Keeps compiled programs on the disk, so that a second start does not compile them again.

    The folder is `JAX_COMPILATION_CACHE_DIR` if that is set, else `~/.cache/wgan_jax`. Different machines may share it:
    JAX names a program by its versions, its flags and the kind of device, and on a CPU also by its features.
    """
    # A cache that cannot be written costs only time.
    warnings.filterwarnings("ignore", message="Error (writing|reading) persistent compilation cache")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        if home.is_absolute():  # in some containers the user has no home folder
            jax.config.update("jax_compilation_cache_dir", str(home / "wgan_jax"))
