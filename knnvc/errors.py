"""The one exception of this package whose message is meant for the person at the keyboard."""

from __future__ import annotations


class KnnvcError(Exception):
    """Something the user can mend: the message is one sentence that says what to do.

    `exit_code` is what the command line exits with: 1 for a failed job.
    """

    exit_code = 1


class UsageError(KnnvcError):
    """The call itself is wrong: an option out of range, a missing or existing path."""

    exit_code = 2
