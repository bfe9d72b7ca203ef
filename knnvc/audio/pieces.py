"""What a file consists of, and how its pieces are read as one."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from mmap import mmap
from typing import BinaryIO, Literal, TypeAlias

Content: TypeAlias = mmap | bytes
Order: TypeAlias = Literal["little", "big"]
Part: TypeAlias = bytes | tuple[int, int]
"""Bytes that stand for themselves, or the range [start, end) of a file."""


@dataclass(frozen=True)
class Pieces:
    """What a file consists of.

    Attributes:
        kind: "wav", "aiff", "au", "caf", "flac", "ogg", "mp4", "matroska", "asf", "avi", "w64",
            "amr", "frames" (a stream of MPEG or ADTS frames) or "other".
        pieces: each is a file of its own, by its parts.
        promised: bytes of samples that the header of the last piece names and the file lacks.
        seconds: how long the sound is by the numbers of its pages (Ogg); 0 where there are none.
        lost: of them, about, on pages that are damaged or missing.
        stops: it ends in the middle of a frame or packet; nothing tells how much is missing.
        unread: bytes behind the end that are neither sound nor a tag.
        before: bytes of something else in front of the file, if its format is not known.
    """

    kind: str
    pieces: tuple[tuple[Part, ...], ...]
    promised: int = 0
    seconds: float = 0.0
    lost: float = 0.0
    stops: bool = False
    unread: int = 0
    before: int = 0


class View(io.RawIOBase):
    """Parts of a file, one after the other, as a file to read."""

    def __init__(self, file: BinaryIO, parts: tuple[Part, ...]) -> None:
        self._file, self._parts = file, parts
        self._starts = [0]
        for part in parts:
            size = len(part) if isinstance(part, bytes) else part[1] - part[0]
            self._starts.append(self._starts[-1] + size)
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there, as in any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Where reading goes on."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the end of a part."""
        if self._at >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._at) - 1
        part, into = self._parts[number], self._at - self._starts[number]
        count = min(len(buffer), self._starts[number + 1] - self._at)
        if isinstance(part, bytes):
            data = part[into : into + count]
        else:
            self._file.seek(part[0] + into)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def behind(one: Pieces, other: Pieces) -> Pieces:
    """A file and those behind it."""
    return Pieces(
        one.kind,
        one.pieces + other.pieces,
        one.promised + other.promised,
        lost=one.lost + other.lost,
        stops=one.stops or other.stops,
        unread=one.unread + other.unread,
    )


def moved(found: Pieces, by: int) -> Pieces:
    """Pieces of a file that begins `by` bytes after the beginning of this one."""
    pieces = tuple(
        tuple(part if isinstance(part, bytes) else (part[0] + by, part[1] + by) for part in parts)
        for parts in found.pieces
    )
    return replace(found, pieces=pieces)


def cut_at(content: Content, starts: list[int]) -> tuple[tuple[Part, ...], ...]:
    """A piece from every start to the next one; what precedes the first belongs to it."""
    edges = [0, *starts[1:], len(content)]
    return tuple(((start, end),) for start, end in pairwise(edges))


def places(content: Content, pattern: bytes, first: int) -> list[int]:
    """`first`, and where `pattern` is found after it."""
    return [first, *(one.start() for one in re.finditer(pattern, content) if one.start() > first)]


def whole_number(content: Content, at: int, size: int, order: Order) -> int:
    """The whole number in `size` bytes from `at` on."""
    return int.from_bytes(content[at : at + size], order)
