"""The one exception of this package whose message is meant for the person at the keyboard.

`explain` says the same of the failures that come from elsewhere; `shown` and `sentence` make text
from anywhere fit to be read in a terminal.
"""

from __future__ import annotations

import re

LONGEST = 190  # characters of a message; with "Error: " before it, it stays below 200
_LEAST_NAME = 24  # characters that stay of a path or an address that is cut in its middle
_CUT = "…"
_MOST_LOOKED_AT = 2000  # characters
_ROUNDS = 50  # of cutting the longest word

# Control characters, what turns the direction of writing, lines' and paragraphs' ends, and what is
# half of a character: bytes of a file name that are no UTF-8 arrive as such halves.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LINE_ENDS = re.compile("[\t\n]")


class KnnvcError(Exception):
    """Something the user can mend: the message is one sentence that says what to do.

    `str` of it is that sentence as `sentence` gives it. `exit_code` is what the command line exits
    with: 1 for a failed job.
    """

    exit_code = 1

    @property
    def full(self) -> str:
        """The message as it was written, with whole paths: for programs, not for terminals."""
        return super().__str__()

    def __str__(self) -> str:
        """One line of at most `LONGEST` characters, without control characters."""
        return sentence(super().__str__())


class UsageError(KnnvcError):
    """The call itself is wrong: an option out of range, a missing or existing path."""

    exit_code = 2


class KnnvcWarning(UserWarning):
    """The work goes on, but not quite as asked: a recording was skipped, a result made quieter."""

    @property
    def full(self) -> str:
        """The message as it was written, with whole paths."""
        return super().__str__()

    def __str__(self) -> str:
        """One line as `sentence` gives it."""
        return sentence(super().__str__())


def shown(text: object, *, lines: bool = True) -> str:
    """The text without what a terminal would obey or could not print; � stands in its place.

    Args:
        text: from anywhere: a file name, the metadata of a set, what a server answered.
        lines: keep ends of lines and tabs, which belong to a text of several lines; else they are
            replaced, too.
    """
    found = _HARMFUL.sub("\ufffd", str(text))
    return found if lines else _LINE_ENDS.sub(" ", found)


def sentence(text: object, longest: int = LONGEST) -> str:
    """The text as one line of at most `longest` characters that a terminal can show.

    Paths and other long words lose their middles first; then the text itself loses its middle, as
    its end says what to do.
    """
    line = " ".join(middle_cut(shown(text), _MOST_LOOKED_AT).split())
    for _ in range(_ROUNDS):
        excess = len(line) - longest
        words = sorted(re.findall(r"\S+", line), key=len)
        if excess <= 0 or len(words[-1]) <= _LEAST_NAME:
            break
        # Of two paths, the longer is cut to the length of the other, then both.
        second = max(_LEAST_NAME, len(words[-2]) if len(words) > 1 else 0)
        keep = max(len(words[-1]) - excess, min(second, len(words[-1]) - 8), _LEAST_NAME)
        line = line.replace(words[-1], middle_cut(words[-1], keep))
    return middle_cut(line, longest)


def middle_cut(text: str, longest: int) -> str:
    """The text, or its beginning and its end with … between them."""
    if len(text) <= longest:
        return text
    left = (longest - 1) // 3  # the end of a path names the file, that of a message what to do
    return text[:left] + _CUT + text[len(text) - (longest - 1 - left) :]


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
        return sentence(f"{error.strerror or error}{name}; check the path")
    return None
