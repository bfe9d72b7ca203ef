"""WAV, FLAC and MP3 files with something wrong in their structure."""

from __future__ import annotations

import io
import struct
from random import Random
from typing import Any

import numpy as np
import soundfile as sf

from fuzz.raw import broken

_SIZES = (0, 1, 3, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_SHORTS = (0, 1, 2, 3, 7, 8, 12, 16, 17, 24, 32, 64, 255, 0x7FFF, 0x8000, 0xFFFF)
_RATES = (0, 1, 100, 3999, 4000, 7999, 44_100, 48_000, 768_000, 768_001, 2**31, 2**32 - 1)
_TAGS = (0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x50, 0x55, 0xFF, 0x2000, 0xFFFE, 0xFFFF)
_FIELDS = ("tag", "channels", "rate", "bytes", "align", "bits")


def seeds() -> dict[str, list[bytes]]:
    """Short good files of each format."""
    time = np.arange(8000) / 16_000
    voice = 0.3 * np.sin(2 * np.pi * 180 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))
    stereo = np.stack([voice, -0.5 * voice], 1)
    made: dict[str, list[bytes]] = {"wav": [], "flac": [], "mp3": []}
    for kind, subtypes in {
        "wav": ("PCM_16", "PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"),
        "flac": ("PCM_16", "PCM_24"),
        "mp3": ("MPEG_LAYER_III",),
    }.items():
        for subtype in subtypes:
            for samples, rate in ((voice, 16_000), (stereo, 44_100)):
                file = io.BytesIO()
                sf.write(file, samples, rate, format=kind.upper(), subtype=subtype)
                made[kind].append(file.getvalue())
    return made


def wav(rng: Random, seed: bytes) -> bytes:
    """A WAV file from a good one."""
    if rng.random() < 0.25:
        return broken(rng, seed)
    head, chunks = _chunks(seed)
    for _ in range(rng.randint(1, 3)):
        head, chunks = _change_wav(rng, head, chunks)
    body = b"".join(name + struct.pack("<I", size) + data for name, size, data in chunks)
    size = len(body) + 4 if rng.random() < 0.7 else rng.choice(_SIZES)
    made = head[:4] + struct.pack("<I", size) + head[8:] + body
    return broken(rng, made, 1) if rng.random() < 0.1 else made


def _chunks(data: bytes) -> tuple[bytes, list[tuple[bytes, int, bytes]]]:
    found, at = [], 12
    while at + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        found.append((data[at : at + 4], size, data[at + 8 : at + 8 + size + size % 2]))
        at += 8 + size + size % 2
    return data[:12], found


def _change_wav(rng: Random, head: bytes, chunks: list[Any]) -> tuple[bytes, list[Any]]:
    chunks = list(chunks)
    at = rng.randrange(len(chunks)) if chunks else 0
    how = rng.randrange(10) if chunks else 9
    if how < 4:
        chunks = [_format(rng, one) if one[0] == b"fmt " else one for one in chunks]
    elif how == 4:  # a length that is not so
        name, _, data = chunks[at]
        chunks[at] = (name, rng.choice((*_SIZES, len(data) + 1, len(data) // 2)), data)
    elif how == 5:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif how == 6:
        del chunks[at]
    elif how == 7:
        rng.shuffle(chunks)
    elif how == 8:
        head = rng.choice((b"RF64", b"RIFX", b"FFIR", b"BW64")) + head[4:]
        sizes = struct.pack("<QQQI", *(rng.choice((0, 100, 2**40, 2**64 - 1)) for _ in "123"), 0)
        chunks.insert(0, (b"ds64", len(sizes), sizes))
    else:
        junk = rng.randbytes(rng.choice((0, 1, 10, 5000)))
        name = rng.choice((b"LIST", b"JUNK", b"fact", b"data", b"bext", b"id3 ", b"\xff\x00\n\x1b"))
        chunks.insert(rng.randrange(len(chunks) + 1), (name, len(junk), junk))
    return head, [_samples(rng, one) if one[0] == b"data" else one for one in chunks]


def _format(rng: Random, chunk: tuple[bytes, int, bytes]) -> tuple[bytes, int, bytes]:
    name, size, data = chunk
    values = dict(zip(_FIELDS, struct.unpack_from("<HHIIHH", data.ljust(16, b"\0")), strict=True))
    field = rng.choice(_FIELDS)
    choices = {"tag": _TAGS, "rate": _RATES, "bytes": _SIZES}
    values[field] = rng.choice(choices.get(field, _SHORTS))
    return name, size, struct.pack("<HHIIHH", *values.values()) + data[16:]


def _samples(rng: Random, chunk: tuple[bytes, int, bytes]) -> tuple[bytes, int, bytes]:
    """Now and then samples of which some are no numbers, or huge."""
    if rng.random() > 0.1:
        return chunk
    name, size, data = chunk
    kind = rng.choice(("f", "d"))
    value = struct.pack("<" + kind, rng.choice((float("nan"), float("inf"), -3e38, 1e-45)))
    at = rng.randrange(0, max(1, len(data) - 8), len(value))
    return name, size, data[:at] + value * rng.choice((1, 50)) + data[at + len(value) :]


def flac(rng: Random, seed: bytes) -> bytes:
    """A FLAC file from a good one."""
    chance = rng.random()
    if chance < 0.3:
        return broken(rng, seed)
    data = bytearray(seed)
    if chance < 0.6:  # bits of STREAMINFO: block sizes, rate, channels, depth, length, MD5
        for _ in range(rng.randint(1, 3)):
            data[rng.randint(8, 41)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif chance < 0.8:  # another block of metadata, of any kind and with any length
        kind, inside = rng.randrange(128), rng.randbytes(rng.choice((0, 4, 40, 3000)))
        length = rng.choice((len(inside), len(inside) + 1, 0, 2**24 - 1))
        data[42:42] = bytes([kind]) + length.to_bytes(3, "big") + inside
    else:  # frames
        for _ in range(rng.choice((1, 5, 100))):
            data[rng.randrange(42, len(data))] = rng.randrange(256)
    return broken(rng, bytes(data), 1) if rng.random() < 0.2 else bytes(data)


def mp3(rng: Random, seed: bytes, others: list[bytes]) -> bytes:
    """An MP3 file from a good one."""
    chance = rng.random()
    if chance < 0.3:
        return broken(rng, seed)
    if chance < 0.5:  # a tag, true or not, in front
        size = rng.choice((0, 10, 300, 2**21, 2**28 - 1))
        seven = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
        name = rng.choice((b"TIT2", b"APIC", b"TLEN", b"\x00\x00\x00\x00", b"CHAP"))
        frame = name + struct.pack(">I", rng.choice(_SIZES)) + rng.randbytes(rng.choice((2, 300)))
        return (
            b"ID3"
            + bytes([rng.choice((2, 3, 4, 9)), 0, rng.randrange(256)])
            + seven
            + (frame + seed)
        )
    starts = [at for at in range(len(seed) - 1) if seed[at] == 0xFF and seed[at + 1] >= 0xE0]
    data = bytearray(seed)
    if chance < 0.75:  # headers of frames: layer, bit rate, sampling rate, channels
        for _ in range(rng.choice((1, 3, 10))):
            data[min(rng.choice(starts) + rng.randint(1, 3), len(data) - 1)] = rng.randrange(256)
        return bytes(data)
    if chance < 0.9:  # frames of two files in turn, some lost
        cuts = [seed, rng.choice(others), rng.randbytes(rng.choice((0, 10, 2000)))]
        return b"".join(one[rng.randrange(300) :] for one in rng.choices(cuts, k=3))
    at = max(data.find(b"Xing"), data.find(b"Info"), 0)
    for _ in range(rng.randint(1, 8)):
        data[min(at + 4 + rng.randrange(120), len(data) - 1)] = rng.choice((0, 0x7F, 0xFF, 1))
    return bytes(data)
