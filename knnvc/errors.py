"""The one exception of this package whose message is meant for the person at the keyboard.

`explain` says the same of the failures that come from elsewhere.
"""

from __future__ import annotations


class KnnvcError(Exception):
    """Something the user can mend: the message is one sentence that says what to do.

    `exit_code` is what the command line exits with: 1 for a failed job.
    """

    exit_code = 1


class KnnvcWarning(UserWarning):
    """What went otherwise than asked, in one sentence; the work goes on."""


class UsageError(KnnvcError):
    """The call itself is wrong: an option out of range, a missing or existing path."""

    exit_code = 2


def explain(error: BaseException) -> str | None:
    """One sentence about a failure that somebody can mend; None for a bug."""
    if isinstance(error, KnnvcError):
        return str(error)
    # torch reports memory as RuntimeError, in these words on the CPU and on a GPU.
    memory = ("out of memory", "can't allocate memory")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in memory)
    ):
        return "out of memory; use shorter recordings, a smaller preset or --device cpu"
    if isinstance(error, OSError):
        name = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{name}; check the path"
    return None
