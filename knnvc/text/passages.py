"""What the readers of documents hand on: text with its speed, its times and the pause after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """A stretch of a document that is spoken in one manner.

    Attributes:
        text: words as written; private-use signs stand for phonemes, see `Lexicon.issue`.
        speed: how much faster than usual.
        pause: seconds of silence after it; None for what its last sentence asks for.
        start: when it begins, in seconds; None if the document has no times.
        end: when it ends.
        open: whether a sentence goes on after it, so that the voice does not fall.
        before: seconds of silence before it.
    """

    text: str
    speed: float = 1.0
    pause: float | None = None
    start: float | None = None
    end: float | None = None
    open: bool = False
    before: float = 0.0
