"""Bytes and lines with something wrong in them, whatever they mean."""

from __future__ import annotations

import re
from random import Random

from fuzz.values import NUMBERS, TEXTS

_WORDS = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f")


def broken(rng: Random, data: bytes, most: int = 3) -> bytes:
    """`data` with one to `most` changes: bits, lengths, order."""
    for _ in range(rng.randint(1, most)):
        data = _break(rng, data)
    return data


def _break(rng: Random, data: bytes) -> bytes:
    size = len(data)
    at, end = sorted(rng.randint(0, size) for _ in range(2))
    near = min(at, rng.randint(0, 200))  # most of what matters stands in front
    how = rng.randrange(10)
    if how == 0:
        return data[:at]
    if how == 1 and size:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 8, 200))):
            changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if how == 2 and size:
        changed = bytearray(data)
        changed[min(near, size - 1)] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if how == 3:
        return data[:near] + rng.choice(_WORDS) + data[near + 4 :]
    if how == 4:
        return data[:at] + data[end:]
    if how == 5:
        return data[:at] + data[at : at + 5000] * rng.choice((2, 3, 20)) + data[at + 5000 :]
    if how == 6:
        return data[:at] + rng.randbytes(rng.choice((1, 3, 64, 4096))) + data[at:]
    if how == 7:
        return data + rng.choice((data, b"\x00" * 4096, rng.randbytes(500)))
    if how == 8:
        return data[:at] + bytes(end - at) + data[end:]
    return data[: rng.choice((0, 1, 4, 12, 44, 100))] if rng.random() < 0.3 else data[at:] + data


def broken_text(rng: Random, text: str, tokens: tuple[str, ...] = (), most: int = 4) -> str:
    """`text` with one to `most` changes: lines, numbers, signs, and `tokens` where none belong."""
    for _ in range(rng.randint(1, most)):
        text = _break_text(rng, text, tokens)
    return text


def _break_text(rng: Random, text: str, tokens: tuple[str, ...]) -> str:
    lines = text.split("\n")
    line = rng.randrange(len(lines))
    at = rng.randint(0, len(text))
    how = rng.randrange(11)
    if how == 0:
        del lines[line]
    elif how == 1:
        lines.insert(line, lines[rng.randrange(len(lines))])
    elif how == 2:
        other = rng.randrange(len(lines))
        lines[line], lines[other] = lines[other], lines[line]
    elif how in (3, 4):
        found = list(re.finditer(r"\d+", text))
        if found:
            one = rng.choice(found)
            number = rng.choice((*NUMBERS, "9" * 5000, "٣", "²", "1:1"))
            if isinstance(number, int) and abs(number) > 10**300:
                number = "9" * 400
            return text[: one.start()] + str(number) + text[one.end() :]
    elif how in (5, 6) and tokens:
        return text[:at] + rng.choice(tokens) * rng.choice((1, 1, 2, 50, 3000)) + text[at:]
    elif how == 7:
        return text[:at] + rng.choice(TEXTS) + text[at:]
    elif how == 8:
        return text[:at] + text[at + rng.randint(1, 40) :]
    elif how == 9:
        lines[line] = lines[line] * rng.choice((2, 30, 500))
    else:
        return text.replace("\n", rng.choice(("\r\n", "\r", "\u2028", "\n\n", " ")))
    return "\n".join(lines)


def encoded(rng: Random, text: str) -> bytes:
    """A text as bytes, mostly in UTF-8."""
    chance = rng.random()
    if chance < 0.04:
        return text.encode(rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig")), "replace")
    data = text.encode("utf-8", "surrogatepass" if chance < 0.5 else "replace")
    return broken(rng, data, 1) if chance > 0.9 else data


def file_name(rng: Random, stem: bytes, suffix: str) -> bytes:
    """A name for a file: now and then one that hardly anybody would type."""
    if rng.random() < 0.92:
        return stem + suffix.encode()
    odd = (b"z\xff", b"\xed\xa0\x80", b"a\nb", b"\x1b[31m", b"a" * 200, b"-x", b"'\"$x^$", b" ")
    return rng.choice((*odd, "\u202egpj".encode(), b"%s{0}", b"=1+1", b"a:0.5")) + suffix.encode()
