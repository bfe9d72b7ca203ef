"""How long work says how far it is. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`, first with 0 done.

Stages are "references" (in per cent of a recording), "indexing", "encoding", "matching" and
"vocoding" (in frames), "speaking" (in sentences)."""
Tell: TypeAlias = Callable[[int, int], None]
"""Called as `tell(done, total)` of one stage."""


def stage(progress: Progress | None, name: str, total: int) -> Tell | None:
    """What tells of one stage, which has begun with this call; None if nobody listens."""
    if progress is None:
        return None
    told = progress
    told(name, 0, total)
    return lambda done, total: told(name, done, total)


def part_of(tell: Tell | None, before: int, total: int) -> Tell | None:
    """What tells of a part of a stage: `before` units are done already, of `total`."""
    if tell is None:
        return None
    told = tell
    return lambda done, _part: told(before + done, total)
