"""The error for mistakes of the user, and the hints in its messages."""

import difflib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax


class UserError(ValueError):
    """A mistake that the user can fix. A command prints it as one line and exits with code 2."""


def nearest(name: str, known: list[str]) -> str:
    """Returns a hint for a message: the known name most similar to `name`, or all of them if none is similar."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(known)


def multiples(size: int, unit: int) -> str:
    """Returns a hint for a message: the multiples of `unit` nearest to a batch size that is not one of them."""
    low = size // unit * unit
    return f"the nearest that works is {unit}" if not low else f"{low} and {low + unit} are the nearest that work"


def say(line: str) -> None:
    """Prints a line for the user on stderr."""
    print(line, file=sys.stderr, flush=True)


def one_line(error: BaseException) -> str:
    message = str(error if isinstance(error, OSError) else error.args[0]) if error.args else type(error).__name__
    return " ".join(message.replace("\n", "; ").split())


@contextmanager
def clear_errors(memory: str = "ask for less at once, or use a machine with more") -> Iterator[None]:
    """Turns a lack of memory, a file error or a missing device into a one-line `UserError`.

    Other errors pass through: they are defects of the program.

    Args:
      memory: advice for the case that memory runs out.
    """
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise UserError(f"not enough memory; {memory}") from error
        raise
    except OSError as error:
        if error.errno is None:
            raise
        place = error.filename or "a file"
        raise UserError(f"{place}: {error.strerror}; use another path, or fix its permissions or its disk") from error
    except RuntimeError as error:
        if "Unable to initialize backend" in str(error):
            raise UserError(f"{one_line(error)}; JAX_PLATFORMS=cpu uses the processor") from error
        raise
