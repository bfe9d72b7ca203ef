"""Where the sound lies in an Ogg file, and what is missing of it (RFC 3533)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from knnvc.audio.pieces import Content, Pieces, cut_at, whole_number

_LONGEST_PAGE = 10  # seconds of sound in the first page of an Ogg file: usual is one
_REVERSED = bytes(int(f"{one:08b}"[::-1], 2) for one in range(256))  # the bits of every byte


def examine_ogg(content: Content) -> Pieces:
    """Links of a chain, and how long they are: a page carries the number of its last sample.

    A link begins with pages that begin streams, after others (RFC 3533, section 4).
    """
    starts, at, inside = [0], 0, False
    links: list[dict[int, _OggStream]] = [{}]
    while at + 27 <= len(content):
        if content[at : at + 4] != b"OggS":
            at = content.find(b"OggS", at + 1)
            if at < 0:
                break
            continue
        begins = bool(content[at + 5] & 2)
        if begins and inside:
            starts.append(at)
            links.append({})
        inside = not begins
        table = at + 27
        body = table + content[at + 26]
        serial = whole_number(content, at + 14, 4, "little")
        if begins:
            links[-1][serial] = _OggStream(*_ogg_rate(content[body : body + 64]))
        following = body + sum(content[table:body])
        if not begins and serial in links[-1]:
            links[-1][serial].count(content[at:following])
        at = following
    streams = [max(link.values(), key=lambda one: one.seconds) for link in links if link]
    seconds, lost = (sum(getattr(one, name) for one in streams) for name in ("seconds", "lost"))
    return Pieces("ogg", cut_at(content, starts), seconds=seconds, lost=lost)


@dataclass
class _OggStream:
    """One stream of a link: samples in a second, samples to leave out; then what is counted.

    Attributes:
        rate: numbers of samples in a second; 0 of a stream that is no sound.
        skipped: samples that are not to be heard.
        first: number on the first page of sound.
        last: on the last one.
        pages: so far.
        lost: seconds on pages that are damaged or missing.
    """

    rate: int
    skipped: int = 0
    first: int = -1
    last: int = -1
    pages: int = 1
    lost: float = 0.0

    def count(self, page: bytes) -> None:
        """Count a page; its number is 0 if it is of headers, -1 if no packet ends on it."""
        number, place = (int.from_bytes(page[a:b], "little") for a, b in ((6, 14), (18, 22)))
        whole = place == self.pages and _is_whole(page)
        self.pages = place + 1
        if not 0 < number < 1 << 63 or not self.rate:
            return
        if not whole and self.last >= 0:
            self.lost += max(0.0, (number - self.last) / self.rate)
        self.first = number if self.first < 0 else self.first
        self.last = number

    @property
    def seconds(self) -> float:
        """What it holds; of a stream that was tuned into, less its first page."""
        if not self.rate or self.last < 0:
            return 0.0
        begun = self.skipped if self.first <= _LONGEST_PAGE * self.rate else self.first
        return max(0.0, (self.last - begun) / self.rate)


def _is_whole(page: bytes) -> bool:
    """Whether the checksum of an Ogg page is right: a CRC-32 as zlib's, but from the other side."""
    found = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_REVERSED), 0xFFFFFFFF)
    turned = f"{found ^ 0xFFFFFFFF:032b}"[::-1]
    return int(turned, 2) == int.from_bytes(page[22:26], "little")


def _ogg_rate(head: bytes) -> tuple[int, int]:
    """Page numbers in a second, and how many to leave out, told by the first page of a stream."""
    if head.startswith(b"OpusHead"):
        return 48_000, int.from_bytes(head[10:12], "little")
    if head.startswith(b"\x01vorbis"):
        return int.from_bytes(head[12:16], "little"), 0
    if head.startswith(b"\x7fFLAC"):
        return int.from_bytes(head[27:30], "big") >> 4, 0
    return 0, 0
