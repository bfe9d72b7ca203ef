"""Where another file begins behind the end of one, or in front of it, and where a stream stops.

`cat`, broken downloads and recorders put whole files one after the other, of any formats. A decoder
reads the first and leaves the rest without a word, or takes it for samples.
"""

from __future__ import annotations

import re

from knnvc.audio.pieces import Content

# Beginnings of files, long enough that no sound holds them by chance.
_STARTS = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64)....(?:WAVE|AVI )"
    rb"|FORM....AIF[FC]"
    rb"|(?<!\x7fFLAC\x01...)fLaC[\x00\x80]\x00\x00\x22"  # not inside of Ogg
    rb"|OggS\x00\x02\x00{8}"
    rb"|caff\x00\x01..desc"
    rb"|\x00\x00\x00.ftyp[ -~]{4}"
    rb"|\x1a\x45\xdf\xa3(?=.{1,60}?(?:webm|matroska))"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
    rb"|riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
    rb"|\.snd\x00\x00\x00[\x18-\xff]....\x00\x00\x00[\x01-\x1b]"
    rb"|#!AMR(?:-WB)?\n",
    re.DOTALL,
)
# What to look for first, as that is several times as fast, and how far inside it stands.
_NAMES = (
    *((one, 0) for one in b"RIFF RIFX RF64 BW64 FORM fLaC OggS riff .snd #!AMR".split()),
    *((b"caff\x00\x01", 0), (b"ftyp", 4), (b"\x1a\x45\xdf\xa3", 0), (b"\x30\x26\xb2\x75", 0)),
)
_FRAME = re.compile(rb"ID3[\x02-\x04]|\xff[\xe2-\xe7\xf0-\xff]")
_ZEROS = re.compile(rb"\x00*")
_TAIL = 1 << 15  # bytes in which a few frames lie
_CHAIN = 6  # frames one after the other that are no chance
# Kbit/s of MPEG audio by layer: version 1, then 2 and 2.5 (ISO/IEC 11172-3, 13818-3).
_RATES_1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_RATES_2 = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = (44_100, 48_000, 32_000)


def tag_length(head: bytes) -> int:
    """Bytes of the ID3v2 tag that begins with the ten bytes `head`; 0 if they are none."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] > 4 or max(head[6:10]) > 0x7F:
        return 0
    length = 0
    for one in head[6:10]:
        length = length << 7 | one
    return 10 + length + (10 if head[5] & 0x10 else 0)


def is_file(content: Content, at: int) -> bool:
    """Whether a file begins here: by its name, or by frames of MPEG audio or AAC."""
    if _STARTS.match(content, at):
        return True
    return _chained(content, at + tag_length(content[at : at + 10]))


def next_file(content: Content, at: int, *, frames: bool = True, pages: bool = True) -> int:
    """Where the next file begins, from `at` on; -1 if none does.

    Args:
        content: All bytes.
        at: Where to begin to search.
        frames: Look for frames of MPEG audio and AAC, too, if the file ends in them.
        pages: Look for Ogg, too.
    """
    found = -1
    for name, before in _NAMES:
        if name != b"OggS" or pages:
            start = _next_start(content, at, found, name, before)
            found = start if start >= 0 else found
    last = len(content) if found < 0 else found
    tail = max(at, last - _TAIL)
    if not frames or last - at < 64 or _first_chain(content, tail, last) < 0:
        return found
    first = _first_chain(content, at, last)
    return found if first < 0 else first


def _next_start(content: Content, at: int, last: int, name: bytes, before: int) -> int:
    """Where the next file begins whose `name` stands `before` bytes behind its beginning."""
    last = len(content) if last < 0 else last
    found = content.find(name, at + before, last + before)
    while found >= 0 and not _STARTS.match(content, found - before):
        found = content.find(name, found + 1, last + before)
    return found - before if found >= 0 else -1


def what_precedes(content: Content) -> int:
    """Bytes of zeros and ID3 tags in front of a file that does not begin with them; else 0."""
    at = 0
    while length := tag_length(content[at : at + 10]):
        at += length
    zeros = _ZEROS.match(content, at)
    end = zeros.end() if zeros else at
    # MP4 begins with zeros of its own.
    return next((one for one in range(end, max(at, end - 3) - 1, -1) if _begins(content, one)), 0)


def _begins(content: Content, at: int) -> bool:
    return bool(at and _STARTS.match(content, at))


def is_cut_in_frame(content: Content) -> bool:
    """Whether a stream of MPEG audio or AAC ends in the middle of a frame."""
    at = _first_chain(content, max(0, len(content) - _TAIL), len(content))
    if at < 0:
        return False
    while length := _frame_length(content[at : at + 6]):
        at += length
    # A header of less than four bytes cannot be read, but it is no tag either.
    return at > len(content) or (0 < len(content) - at < 6 and content[at] == 0xFF)


def frames_end(content: Content) -> int:
    """Where the last frame of the first one's layer ends, whatever lies between frames."""
    end = tag_length(content[:10])
    at, layer = _first_chain(content, end, len(content)), -1
    while at >= 0:
        at += tag_length(content[at : at + 10])
        layer = content[at + 1] & 6 if layer < 0 else layer
        if content[at + 1] & 6 != layer:
            break
        while (length := _frame_length(content[at : at + 6])) and content[at + 1] & 6 == layer:
            at += length
        end = at
        at = _first_chain(content, at, len(content))
    return min(end, len(content))


def is_cut_in_packet(content: Content) -> bool:
    """Whether an MPEG transport stream ends in the middle of a packet, or of a unit of sound."""
    for size, first in ((188, 0), (192, 4), (204, 0)):
        marks = range(first, min(len(content), first + 8 * size), size)
        if len(marks) == 8 and all(content[one] == 0x47 for one in marks):
            whole = len(content) // size * size
            return whole < len(content) or _lacks_sound(content, size, first)
    return False


def is_flac_frame(head: bytes) -> bool:
    """Whether a frame of FLAC begins with `head`, told by its checksum of 8 bits."""
    if len(head) < 16:
        return False
    size, hertz = head[2] >> 4, head[2] & 15
    end = 4 + max(1, 8 - (head[4] ^ 0xFF).bit_length())  # the frame's number, as UTF-8 has it
    end += {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(hertz, 0)
    found = 0
    for one in head[:end]:
        found ^= one
        for _ in range(8):
            found = found << 1 ^ (0x107 if found & 0x80 else 0)
    return size > 0 and hertz < 15 and found == head[end]


def _lacks_sound(content: Content, size: int, first: int) -> bool:
    """Whether the last unit (PES packet) of a stream of sound is shorter than it says."""
    held: dict[int, int] = {}
    begun: dict[int, int] = {}
    for at in reversed(range(first, len(content) - 187, size)):
        number = (content[at + 1] & 0x1F) << 8 | content[at + 2]
        if number in begun or not content[at + 3] & 0x10:
            continue
        start = at + 4 + (1 + content[at + 4] if content[at + 3] & 0x20 else 0)
        held[number] = held.get(number, 0) + max(0, at + 188 - start)
        if content[at + 1] & 0x40:
            head = content[start : start + 6]
            sound = head[:3] == b"\x00\x00\x01" and 0xC0 <= head[3] < 0xE0
            begun[number] = int.from_bytes(head[4:6], "big") + 6 if sound and any(head[4:6]) else 0
        if len(content) - at > 1 << 20:
            break
    return any(held[number] < said for number, said in begun.items())


def _first_chain(content: Content, at: int, last: int) -> int:
    """Where the first chain of frames begins, or the tag in front of it; -1 if there is none."""
    for match in _FRAME.finditer(content, at, last):
        begin = match.start()
        if _chained(content, begin + tag_length(content[begin : begin + 10])):
            return begin
    return -1


def _chained(content: Content, at: int) -> bool:
    """Whether frames of one kind follow each other from here, to the end or a few of them."""
    kind = content[at : at + 3]
    for number in range(_CHAIN):
        head = content[at : at + 6]
        length = _frame_length(head)
        alike = length and head[1] == kind[1] and (head[2] ^ kind[2]) & 0x0C == 0
        if not alike:
            return False
        at += length
        if at >= len(content):
            return number >= 2
    return True


def _frame_length(head: bytes) -> int:
    """Bytes of the frame that begins with `head`; 0 if it does not begin one."""
    if len(head) < 6 or head[0] != 0xFF or head[1] < 0xE0:
        return 0
    if head[1] & 0xF6 == 0xF0:  # AAC: its length stands in the header
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return length if length > 7 and head[2] >> 2 & 15 < 13 else 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, hertz = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < rate < 15 or hertz == 3:
        return 0
    bits = 1000 * (_RATES_1 if version == 3 else _RATES_2)[layer][rate - 1]
    herz = _HERTZ[hertz] // {3: 1, 2: 2, 0: 4}[version]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // herz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // herz + padding
