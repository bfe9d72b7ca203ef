"""Where the sound lies in a file, told by the bytes and not by what a header promises.

A recorder that crashed leaves a header that says 0 samples, or too few. Files joined by `cat` hold
several whole files, of which every reader takes the first. `examine` finds both, so that all of the
sound is read: it cuts a file into pieces that a decoder reads one by one.

Layouts: RIFF and RF64 (EBU Tech 3306), AIFF (Apple, 1989), Sun AU, Ogg (RFC 3533), FLAC (RFC 9639),
ISO base media (ISO/IEC 14496-12), Matroska (RFC 9559), ASF, AMR (RFC 4867), ID3v2, MPEG audio.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from knnvc.audio.joined import (
    frames_end,
    is_cut_in_frame,
    is_cut_in_packet,
    is_file,
    is_flac_frame,
    next_file,
    tag_length,
    what_precedes,
)
from knnvc.audio.ogg import examine_ogg
from knnvc.audio.pieces import (
    Content,
    Order,
    Part,
    Pieces,
    behind,
    cut_at,
    moved,
    places,
    whole_number,
)

_LONGEST_PIECE = 1 << 30  # bytes of samples under one rewritten 32-bit header
_PLACEHOLDER = 0x7FFF0000  # a length from here on means that the writer did not know it
_LEAST_UNEXPECTED = 1024  # bytes after the last chunk that are taken for samples, and not for junk
_LONGEST_JUNK = 1 << 16  # bytes between two files that may be no sound
_TAGS = (b"TAG", b"ID3", b"APET", b"LYRI")  # what other software hangs on to the end of a file
_PRINTED = bytes((9, 10, 13, *range(32, 127)))
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_EBML = b"\x1a\x45\xdf\xa3"
_MP4_BOXES = frozenset(
    b"ftyp styp moov moof mfra mdat wide free skip pnot uuid meta udta sidx ssix emsg prft".split()
)
_MP4_STARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def examine(content: Content) -> Pieces:
    """Find the pieces of a file, and of files of any format behind it.

    Args:
        content: All bytes of the file; mapped, as only headers are looked at, or searched for.
    """
    before = what_precedes(content)
    if before:
        return moved(examine(content[before:]), before)
    first = _first(content)
    if first.kind == "wav":
        return first
    if first.kind == "other":
        inside = next_file(content[:_LONGEST_JUNK], 0, frames=False)
        return replace(first, before=max(0, inside))
    end = _end(content, first.kind)
    at = next_file(content, end, frames=first.kind != "frames", pages=first.kind != "ogg")
    if at > 0:
        return behind(_first(content[:at]), moved(examine(content[at:]), at))
    if first.kind == "flac":
        end = _last_flac_frame(content, end)
    if first.kind == "frames":
        end = frames_end(content)
        rest = len(content) - end
        if rest >= _LEAST_UNEXPECTED and end > _tag_end(content, 0):  # it would mislead FFmpeg
            if is_file(content, end):
                return behind(_first(content[:end]), moved(examine(content[end:]), end))
            unread = 0 if content[end : end + 4].startswith(_TAGS) else rest
            unread = unread if any(content[end : end + 4096]) else 0
            return replace(_first(content[:end]), unread=unread)
    bounded = first.kind not in ("ogg", "frames", "amr", "au")
    if bounded and len(content) - end >= _LEAST_UNEXPECTED:
        padding = content[end : end + 4].startswith(_TAGS) or not any(content[end : end + 4096])
        return first if padding else replace(first, unread=len(content) - end)
    return first


def _end(content: Content, kind: str) -> int:
    """Where a file ends by its own lengths; where it has none, from where on another may begin."""
    size = len(content)
    if kind in ("ogg", "frames", "amr"):
        return _tag_end(content, 0) + 6
    if kind == "flac":
        at = _tag_end(content, 0) + 4
        while at + 4 <= size:
            last, at = content[at] & 0x80, at + 4 + whole_number(content, at + 1, 3, "big")
            if last:
                break
        return min(at, size)
    if kind == "au":
        at = whole_number(content, 4, 4, "big") + whole_number(content, 8, 4, "big")
    elif kind == "aiff":
        at = 8 + whole_number(content, 4, 4, "big")
        at = at + at % 2 if at > 12 else size
    elif kind == "avi":
        at = _avi_end(content)
    elif kind == "matroska":
        at = 0
        while 0 <= at < size and content[at : at + 4] in (_EBML, b"\x18\x53\x80\x67"):
            at = _element_end(content, at)
    else:
        at = _boxes_end(content, kind)
    return at if 0 < at < size else size


def _last_flac_frame(content: Content, begin: int) -> int:
    """Where the last frame of FLAC ends at the latest, if an encoder told how long they are."""
    start = _tag_end(content, 0)
    longest = whole_number(content, start + 15, 3, "big")
    at = len(content)
    while longest:
        at = max(content.rfind(sync, begin, at) for sync in (b"\xff\xf8", b"\xff\xf9"))
        if at < 0:
            return len(content)
        if is_flac_frame(content[at : at + 16]):
            return min(len(content), at + longest)
    return at


def _element_end(content: Content, at: int) -> int:
    """Where an element of Matroska ends that has a name of 4 bytes; -1 if it does not say."""
    first = content[at + 4] if at + 4 < len(content) else 0
    width = 9 - first.bit_length()
    length = whole_number(content, at + 4, width, "big") & ((1 << 7 * width) - 1)
    unknown = not first or length == (1 << 7 * width) - 1
    return -1 if unknown else at + 4 + width + length


def _boxes_end(content: Content, kind: str) -> int:
    """Where boxes, objects or chunks end whose lengths stand beside their names."""
    at = {"caf": 8}.get(kind, 0)
    while at + 24 <= len(content):
        head = content[at : at + 24]
        if at and is_file(content, at) and head[4:8] != b"ftyp":
            return at
        if kind == "mp4":
            length = whole_number(content, at, 4, "big")
            length = whole_number(content, at + 8, 8, "big") if length == 1 else length
            known, least = head[4:8] in _MP4_BOXES, 8
        elif kind == "caf":
            length = 12 + whole_number(content, at + 4, 8, "big")
            known, least = all(32 <= one < 127 for one in head[:4]), 12
        elif kind == "asf":
            length = whole_number(content, at + 16, 8, "little")
            known, least = True, 24
        else:
            length = whole_number(content, at + 16, 8, "little")
            length = length if at else 40  # of W64, the first chunk is around the others
            length, known, least = (length + 7) // 8 * 8, True, 24
        if not known or length < least:
            return at if not known else len(content)
        at += length
    return at


def _avi_end(content: Content) -> int:
    """Where the last RIFF of a film ends; a long one has several."""
    at = 0
    while content[at : at + 4] == b"RIFF" and content[at + 8 : at + 11] == b"AVI":
        length = whole_number(content, at + 4, 4, "little")
        if not 4 <= length < _PLACEHOLDER:
            return len(content)
        at += 8 + length + length % 2
    return at


def _first(content: Content) -> Pieces:
    """Find the pieces of a file, and of files of its own format behind it."""
    head = content[:64]
    whole: tuple[tuple[Part, ...], ...] = (((0, len(content)),),)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(content)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(content)
    if head[:4] == b".snd":
        start, length = (whole_number(head, at, 4, "big") for at in (4, 8))
        # Nothing follows the samples of this format, so a length too short is none.
        unknown = len(content) >= 24 and length + _LEAST_UNEXPECTED < len(content) - start
        promised = _lacking(content, start, length)
        parts: tuple[Part, ...] = (head[:8] + b"\xff" * 4, (12, len(content)))
        return Pieces("au", (parts,) if unknown else whole, promised)
    if head[:4] == b"caff":
        joined = cut_at(content, places(content, rb"(?s)caff\x00\x01..desc", 0))
        return Pieces("caf", joined, _caf_lacks(content))
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Pieces("avi", whole, max(0, _avi_end(content) - len(content)))
    if head[:16] == _W64:
        return Pieces("w64", whole, max(0, _boxes_end(content, "w64") - len(content)))
    if head[:4] == b"OggS":
        return examine_ogg(content)
    if head[4:8] in _MP4_STARTS:
        return Pieces("mp4", cut_at(content, _mp4_starts(content)))
    flac = _tag_end(content, 0)
    if content[flac : flac + 4] == b"fLaC":
        return Pieces(
            "flac", cut_at(content, places(content, rb"fLaC[\x00\x80]\x00\x00\x22", flac))
        )
    if head[:4] == _EBML:  # FFmpeg reads joined files of this kind
        return Pieces("matroska", whole)
    if head[:16] == _ASF:
        return Pieces("asf", cut_at(content, places(content, re.escape(_ASF), 0)))
    for magic in (b"#!AMR\n", b"#!AMR-WB\n"):
        if head.startswith(magic):
            return Pieces("amr", cut_at(content, places(content, re.escape(magic), 0)))
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0):
        return Pieces("frames", _frames(content), stops=is_cut_in_frame(content))
    return Pieces("other", whole, stops=is_cut_in_packet(content))


def _chunks(content: Content, at: int, order: Order) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of every chunk from `at` on, as far as they look like chunks."""
    while at + 8 <= len(content):
        name = content[at : at + 4]
        if not all(32 <= one < 127 for one in name):
            return
        length = whole_number(content, at + 4, 4, order)
        yield name, at + 8, length
        at += 8 + length + length % 2


def _is_end(content: Content, at: int, order: Order) -> bool:
    """Whether nothing but chunks, tags and padding follows."""
    rest = len(content) - at
    if rest < _LEAST_UNEXPECTED or content[at : at + 4].startswith(_TAGS):
        return True
    if is_file(content, at) or _is_text(content, at):
        return True
    if not any(content[at : at + 4096]):
        return True
    last = at
    for name, start, length in _chunks(content, at, order):
        if name in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            return True  # another file
        if start + length > len(content) + 1:
            return last > at
        last = start + length + length % 2
    return last > at and len(content) - last < _LEAST_UNEXPECTED


def _is_text(content: Content, at: int) -> bool:
    """Whether a page or a message of a server follows, as downloads have at their end."""
    return not content[at : at + 4096].translate(None, _PRINTED)


def _samples_end(content: Content, start: int, length: int, order: Order) -> int:
    """Where samples end that begin at `start`, if a header says `length` bytes."""
    end = start + length
    if length >= _PLACEHOLDER or end > len(content):
        return len(content)
    padded = (end + length % 2, end)
    if any(_is_end(content, one, order) for one in padded):
        return end
    other = next_file(content, end)  # with something else in between
    if other < 0:
        return len(content)
    return end if other - end < _LONGEST_JUNK else other


def _lacking(content: Content, start: int, length: int) -> int:
    """Bytes of samples that a header names and the file has not."""
    return 0 if length >= _PLACEHOLDER else max(0, start + length - len(content))


def _caf_lacks(content: Content) -> int:
    """The same of Apple's Core Audio Format, whose chunks have lengths of 64 bits."""
    at = 8
    while at + 12 <= len(content):
        length = whole_number(content, at + 4, 8, "big")
        if content[at : at + 4] == b"data":
            return _lacking(content, at + 12, length)
        at += 12 + length
    return 0


def _wav(content: Content) -> Pieces:
    pieces: list[tuple[Part, ...]] = []
    at = promised = 0
    while content[at : at + 4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        order: Order = "big" if content[at : at + 4] == b"RIFX" else "little"
        width = large = data = length = 0
        for name, start, size in _chunks(content, at + 12, order):
            if name == b"fmt ":
                width = whole_number(content, start + 12, 2, order)
            elif name == b"ds64":
                large = whole_number(content, start + 8, 8, order)
            elif name == b"data":
                data, length = start, large if size == 0xFFFFFFFF and large else size
                break
        if not data:
            break
        end = _samples_end(content, data, length, order)
        promised = _lacking(content, data, length)
        known = end == data + length or promised
        following = end + (length % 2 if known else 0)
        joined = content[following : following + 4] in (b"RIFF", b"RIFX", b"RF64")
        joined = joined and content[following + 8 : following + 12] == b"WAVE"
        other = -1 if joined else next_file(content, _chunks_end(content, following, order))
        if other >= 0:
            pieces += _rewritten(content, at, data, end, width, order)
            one = Pieces("wav", tuple(pieces))
            return behind(one, moved(examine(content[other:]), other))
        if known and not joined and not pieces:
            rest = _chunks_end(content, following, order)
            text = len(content) - rest >= _LEAST_UNEXPECTED and _is_text(content, rest)
            unread = len(content) - rest if text else 0
            return Pieces("wav", (((0, len(content)),),), promised, unread=unread)
        pieces += _rewritten(content, at, data, end, width, order)
        at = following
    return Pieces("wav", tuple(pieces) or (((0, len(content)),),), promised)


def _chunks_end(content: Content, at: int, order: Order) -> int:
    """Where chunks end that follow the samples, as far as they are whole."""
    for _, start, length in _chunks(content, at, order):
        if is_file(content, start - 8) or start + length > len(content):
            break
        at = start + length + length % 2
    return min(at, len(content))


def _rewritten(
    content: Content, at: int, data: int, end: int, width: int, order: Order
) -> Iterator[tuple[Part, ...]]:
    """A WAV file under a header that tells the truth; several if one header cannot name it all."""
    longest = _LONGEST_PIECE // max(1, width) * max(1, width)
    name = b"RIFX" if order == "big" else b"RIFF"
    middle = content[at + 8 : data - 4]
    for start in range(data, max(end, data + 1), longest):
        stop = min(end, start + longest)
        sizes = (len(middle) + 4 + stop - start, stop - start)
        riff, samples = (one.to_bytes(4, order) for one in sizes)
        yield name + riff + middle + samples, (start, stop)


def _aiff(content: Content) -> Pieces:
    """Joined AIFF, or AIFF whose length was never filled in; any other is left to libsndfile."""
    whole = Pieces("aiff", cut_at(content, places(content, rb"(?s)FORM....AIF[FC]", 0)))
    if len(whole.pieces) > 1:
        return whole
    common = width = 0
    for name, start, size in _chunks(content, 12, "big"):
        if name == b"COMM":
            common = start
            bits = whole_number(content, start + 6, 2, "big")
            width = whole_number(content, start, 2, "big") * ((bits + 7) // 8)
        if name != b"SSND":
            continue
        if size > 8 or not common or not width:
            return Pieces("aiff", whole.pieces, _lacking(content, start, size))
        end = _samples_end(content, start, size, "big")
        frames = (end - start - 8) // width
        if frames <= 0:
            return whole
        samples = frames * width + 8
        header = bytearray(content[:start])
        header[4:8] = (start - 8 + samples).to_bytes(4, "big")
        header[common + 2 : common + 6] = frames.to_bytes(4, "big")
        header[start - 4 : start] = samples.to_bytes(4, "big")
        # Offset and block size may be missing where not even they were written.
        return Pieces("aiff", ((bytes(header) + bytes(8), (start + 8, start + samples)),))
    return whole


def _mp4_starts(content: Content) -> list[int]:
    """Where a file begins: at boxes "ftyp" that an index follows."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 8 <= len(content):
        length, name = whole_number(content, at, 4, "big"), content[at + 4 : at + 8]
        if length == 1:
            length = whole_number(content, at + 8, 8, "big")
        found.append((at, name))
        if length < 8:  # 0: to the end of the file
            break
        at += length
    starts = [0]
    for number, (start, name) in enumerate(found):
        names = []
        for _, other in found[number + 1 :]:
            if other == b"ftyp":
                break
            names.append(other)
        if number and name == b"ftyp" and b"moov" in names:
            starts.append(start)
    return starts


def _tag_end(content: Content, at: int) -> int:
    """Where an ID3v2 tag that begins at `at` ends; `at` if there is none."""
    return at + tag_length(content[at : at + 10])


def _is_frame(content: Content, at: int) -> bool:
    return at + 1 < len(content) and content[at] == 0xFF and content[at + 1] >= 0xE0


def _frames(content: Content) -> tuple[tuple[Part, ...], ...]:
    """MPEG or ADTS frames without the tags between them, cut where an encoder began anew.

    A tag in the middle is taken out and no more, as the frames around it may depend on each other.
    A frame with an encoder's header (Xing, Info) begins a file of its own.
    """
    cuts: list[tuple[int, int]] = []
    starts: list[int] = []
    own = _tag_end(content, 0)  # the file's own header stands there
    for match in re.finditer(rb"ID3[\x02-\x04]|TAG|Xing|Info", content):
        at, name = match.start(), bytes(match.group()[:3])
        if name == b"ID3":
            end = _tag_end(content, at)
            if at and end > at and (end >= len(content) or _is_frame(content, end)):
                cuts.append((at, end))
        elif name == b"TAG":
            end = at + 128
            if end >= len(content) - 1 or _is_frame(content, end) or content[end] == 0x49:
                cuts.append((at, min(end, len(content))))
        else:
            # Behind header and side information, whose size depends on version and channels.
            begin = next((at - one for one in (36, 21, 13) if _begins(content, at - one, one)), 0)
            if begin > own:
                starts.append(begin)
    return _without(len(content), cuts, starts)


def _begins(content: Content, at: int, distance: int) -> bool:
    """Whether a layer III frame at `at` has its data after `distance` bytes."""
    if at < 0 or not _is_frame(content, at) or content[at + 1] >> 1 & 3 != 1:
        return False
    first, single = content[at + 1] >> 3 & 3 == 3, content[at + 3] >> 6 == 3
    return distance == 4 + ((17 if single else 32) if first else (9 if single else 17))


def _without(
    size: int, cuts: list[tuple[int, int]], starts: list[int]
) -> tuple[tuple[Part, ...], ...]:
    """The ranges of each piece, where `starts` begin pieces and `cuts` are left out."""
    pieces: list[tuple[Part, ...]] = []
    for first, last in pairwise([0, *starts, size]):
        parts: list[Part] = []
        at = first
        for start, end in cuts:
            if at <= start < last:
                parts.append((at, start))
                at = end
        if at < last:
            parts.append((at, last))
        pieces.append(tuple(parts))
    return tuple(pieces)
