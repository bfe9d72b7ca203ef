"""Unpacks RNC ProPack, method 1: how *Beneath a Steel Sky* keeps its speech.

The format was Rob Northen's (1991); what is done here follows its description at
https://moddingwiki.shikadi.net/wiki/Rob_Northen_compression. LZ77 with three Huffman tables a
block, bits read from the lowest up out of little-endian words, between which the literals lie.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from knnvc.errors import KnnvcError

MAGIC = b"RNC\x01"
HEADER = 18  # bytes
SHORTEST = 2  # bytes that are repeated


class _Bits:
    """Bits of `data` from `at` on; literals are taken from the next word that is not yet begun."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.held, self.count = 0, 0

    def read(self, count: int) -> int:
        while self.count < count:
            self.held |= int.from_bytes(self.data[self.at : self.at + 2], "little") << self.count
            self.at += 2
            self.count += 16
        value = self.held & ((1 << count) - 1)
        self.held >>= count
        self.count -= count
        return value

    def literals(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken


def _table(bits: _Bits) -> dict[tuple[int, int], int]:
    """A Huffman table: (length, code as it is read) -> symbol."""
    lengths = [bits.read(4) for _ in range(bits.read(5))]
    table: dict[tuple[int, int], int] = {}
    code = 0
    for length in range(1, 17):
        for symbol, wanted in enumerate(lengths):
            if wanted == length:
                table[length, int(f"{code >> (16 - length):0{length}b}"[::-1], 2)] = symbol
                code += 1 << (16 - length)
    return table


def _number(bits: _Bits, table: dict[tuple[int, int], int]) -> int:
    """A number whose size in bits is what is Huffman coded."""
    code = 0
    for length in range(1, 17):
        code |= bits.read(1) << (length - 1)
        size = table.get((length, code))
        if size is not None:
            return size if size < 2 else bits.read(size - 1) | 1 << (size - 1)
    raise KnnvcError("the packed data is damaged: there is no such code")


def unpack(data: bytes) -> bytes:
    """What was packed in `data`.

    Raises:
        KnnvcError: it is not packed by this method, or damaged.
    """
    if data[:4] != MAGIC or len(data) < HEADER:
        raise KnnvcError("this is no RNC data, method 1")
    (size,) = struct.unpack(">I", data[4:8])
    out = bytearray()
    bits = _Bits(data, HEADER)
    bits.read(2)  # flags
    while len(out) < size:
        if bits.at > len(data):
            raise KnnvcError("the packed data is damaged: it ends too early")
        literal, distance, length = (_table(bits) for _ in range(3))
        for left in range(bits.read(16), 0, -1):
            out += bits.literals(_number(bits, literal))
            if left == 1:
                break
            back = _number(bits, distance) + 1
            count = _number(bits, length) + SHORTEST
            if back > len(out):
                raise KnnvcError("the packed data is damaged: it repeats what is not there")
            for _ in range(count):
                out.append(out[-back])
    return bytes(out[:size])


def samples(data: bytes) -> npt.NDArray[np.float32]:
    """Unsigned 8 bit samples that were packed, as float32 [S] in ±1."""
    wave: npt.NDArray[np.float32] = np.frombuffer(unpack(data), np.uint8).astype(np.float32)
    return wave / np.float32(128) - np.float32(1)
