"""Ogg files whose bytes depend on nothing but the audio.

libsndfile gives every Ogg stream a random serial number, so that writing the same audio twice makes
two different files. The number only has to be unique among streams of one file, of which there is
one. Layout of a page and its checksum: RFC 3533, section 6.
"""

from __future__ import annotations

import mmap
from pathlib import Path

_SERIAL, _CHECKSUM, _SEGMENTS = 14, 22, 26  # where they stand in the header of a page, bytes
_POLYNOMIAL = 0x104C11DB7


def fix_serial(path: Path) -> None:
    """Set the serial number of a file with one stream to 1, and correct its checksums.

    The checksum is linear over GF(2): it changes by that of the change alone, so that no page has
    to be gone through byte by byte.
    """
    with path.open("r+b") as handle, mmap.mmap(handle.fileno(), 0) as content:
        start = 0
        while content[start : start + 4] == b"OggS":
            table = start + _SEGMENTS + 1
            sizes = content[table : table + content[start + _SEGMENTS]]
            end = table + len(sizes) + sum(sizes)
            where = slice(start + _SERIAL, start + _SERIAL + 4)
            changed = int.from_bytes(content[where], "big") ^ int.from_bytes(b"\1\0\0\0", "big")
            content[where] = b"\1\0\0\0"
            where = slice(start + _CHECKSUM, start + _CHECKSUM + 4)
            checksum = int.from_bytes(content[where], "little")
            # `changed`, followed by the rest of the page and the 32 zeros of the division.
            checksum ^= _multiply(changed, _power(8 * (end - start - _SERIAL - 4) + 32))
            content[where] = checksum.to_bytes(4, "little")
            start = end


def _multiply(one: int, other: int) -> int:
    """The product of two polynomials over GF(2) of degree 31 or less, modulo the checksum's."""
    product = 0
    for bit in range(31, -1, -1):
        product <<= 1
        if product >> 32:
            product ^= _POLYNOMIAL
        if other >> bit & 1:
            product ^= one
    return product


def _power(exponent: int) -> int:
    """x to that power, modulo the checksum's polynomial."""
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result
