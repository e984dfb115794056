"""Errors that are the user's to mend: one clear line, exit code 2, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What is wrong, and what would be right."""


class Diverged(Exception):
    """The loss, the gradient or the score of a run is no longer finite."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors that bad input raises inside the libraries' own code into UserError."""
    try:
        yield
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise UserError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """The message of an error in one line; its type, where it has no message."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__
