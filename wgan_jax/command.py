"""How every command starts and ends: flags in, one clear line and exit code 2 for a user's mistake."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from wgan_jax import determinism
from wgan_jax.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            fail(f"{argv[1]!r}: not understood; every argument is a --flag=value")
        try:
            main()
        except UserError as error:
            fail(str(error))

    determinism.require()
    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    # orbax logs its whole life, and its errors twice: they end in one line here. `--verbosity=0` brings it back.
    flags.FLAGS.verbosity = logging.FATAL  # type: ignore[assignment]
    _check_config_file(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(_line(error))
    except (AttributeError, KeyError) as error:
        fail(f"--config: unknown key {_line(error)}; wgan_jax/config.py explains every key")
    except Exception as error:
        # A config file is the user's Python: whatever it raises is a mistake to mend there.
        fail(f"--config: {type(error).__name__}: {_line(error)}")


def _check_config_file(argv: list[str]) -> None:
    """Ends with a clear line if the file that `--config=` names is not there."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "config":
            path = (value if equals else following).partition(":")[0]
            if not Path(path).is_file():
                fail(f"--config={path}: no such file; it is a Python file such as configs/digits.py")


def _line(error: Exception) -> str:
    message = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(message.replace("\n", "; ").split())


def fail(message: str) -> NoReturn:
    """Ends the process with one line on stderr and exit code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def use_compilation_cache() -> None:
    """Keeps compiled programs on the disk, so that a second start need not compile again.

    In `JAX_COMPILATION_CACHE_DIR`, or else `~/.cache/wgan_jax`. Unlike machines may share the folder: the name that JAX
    gives a program has the versions, the flags, and the kind of device in it, of a CPU its features.
    """
    import jax

    # A cache that cannot be written costs time, no more.
    warnings.filterwarnings("ignore", message="Error (writing|reading) persistent compilation cache")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "wgan_jax"))
