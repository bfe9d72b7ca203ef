"""The same audio makes the same Ogg file, and one that every reader takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from knnvc.audio.ogg import fix_serial


def checksum(page: bytes) -> int:
    """RFC 3533's, bit by bit."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value >> 31 else 0)
    return value


@pytest.mark.parametrize("seconds", [0.0, 0.1, 3.0])
def test_pages_are_whole_and_only_the_serial_number_changes(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "a.ogg"
    samples = 0.1 * np.random.default_rng(3).standard_normal(round(16_000 * seconds))
    sf.write(path, samples, 16_000, format="OGG", subtype="VORBIS")
    before, heard = path.read_bytes(), sf.read(path)[0]
    fix_serial(path)
    after = path.read_bytes()
    assert np.array_equal(sf.read(path)[0], heard)
    start = pages = 0
    unlike = set()
    while start < len(after):
        count = after[start + 26]
        end = start + 27 + count + sum(after[start + 27 : start + 27 + count])
        page = bytearray(after[start:end])
        assert page[14:18] == b"\1\0\0\0"
        found = int.from_bytes(page[22:26], "little")
        page[22:26] = bytes(4)
        assert found == checksum(page)
        unlike |= {at - start for at in range(start, end) if after[at] != before[at]}
        start, pages = end, pages + 1
    assert start == len(before)
    assert pages >= 2
    assert unlike <= {14, 15, 16, 17, 22, 23, 24, 25}
