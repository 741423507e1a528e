"""How every command starts and ends: flags in; at a mistake one clear line, and an exit code.

| exit code | |
|---|---|
| 0 | done |
| 2 | a mistake of the user's, or something that this machine refuses: one line on stderr says which, and what helps |
| 130, 143 | asked to stop by Ctrl-C, by SIGTERM |
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

flags.disclaim_key_flags()  # those defined here belong to the command, whose --help lists them


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            fail(f"{argv[1]!r}: not understood; every argument is a --flag=value")
        try:
            with clear_errors():
                main()
        except UserError as error:
            fail(str(error))
        except BrokenPipeError:
            # Who read the output has gone, as `head` does. Nothing can be printed, at the interpreter's end neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)
        except KeyboardInterrupt:
            sys.exit(130)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show
    determinism.require()
    app.run(guarded, flags_parser=_parse)


def define_config() -> None:
    """Defines `--config=FILE` and `--config.KEY=VALUE`."""
    try:
        config_flags.DEFINE_config_file(
            "config", None, "A Python file with get_config(). It is executed: give only one that you trust."
        )
    except flags.Error as error:  # it reads a --flagfile already
        fail(one_line(error))


def define_path(name: str, default: str | None, help: str) -> None:
    """Defines the flag of a file or folder of this machine, whose value is a `Path`; `~` is the home folder."""
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
    # orbax logs its whole life, and its errors twice: they end in one line here. `--verbosity=0` brings it back.
    flags.FLAGS.verbosity = logging.FATAL  # type: ignore[assignment]
    _check_config_file(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(one_line(error))
    except (AttributeError, KeyError) as error:
        fail(f"--config: unknown key {one_line(error)}; wgan_jax/config/settings.py explains every key")
    except Exception as error:
        # A config file is the user's Python: whatever it raises is a mistake to mend there.
        fail(f"--config: {type(error).__name__}: {one_line(error)}")


def _check_config_file(argv: list[str]) -> None:
    """Ends with a clear line if the file that `--config=` names is not there."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "config":
            path = (value if equals else following).partition(":")[0]
            if not os.path.isfile(path):  # unlike Path's, False for a name that is too long
                fail(f"--config={path}: no such file; it is a Python file such as configs/digits.py")


def fail(message: str) -> NoReturn:
    """Ends the process with one line on stderr and exit code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def use_compilation_cache() -> None:
    """Keeps compiled programs on the disk, so that a second start need not compile again.

    In `JAX_COMPILATION_CACHE_DIR`, or else `~/.cache/wgan_jax`. Unlike machines may share the folder: the name that JAX
    gives a program has the versions, the flags, and the kind of device in it, of a CPU its features.
    """
    # A cache that cannot be written costs time, no more.
    warnings.filterwarnings("ignore", message="Error (writing|reading) persistent compilation cache")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        if home.is_absolute():  # in some containers the user has no home
            jax.config.update("jax_compilation_cache_dir", str(home / "wgan_jax"))
