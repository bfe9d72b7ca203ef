"""What people type about sound is understood or refused in one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from knnvc.errors import UsageError
from knnvc.sound_options import RawFormat, parse_loudness, parse_raw


@pytest.mark.parametrize(
    ("text", "expected"),
    [("-16", -16.0), (" -23.5 LUFS", -23.5), ("source", "source"), ("NONE", None), ("−20", -20.0)],
)
def test_loudness(text: str, expected: float | str | None) -> None:
    assert parse_loudness(text) == expected


@pytest.mark.parametrize("text", ["", "16", "loud", "nan", "-inf", "-4", "-61", "-1e400"])
def test_no_loudness(text: str) -> None:
    with pytest.raises(UsageError, match=r"source or none$"):
        parse_loudness(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16000:s16le", RawFormat(16_000, "s16le", 1)),
        ("48000:F32LE:2", RawFormat(48_000, "f32le", 2)),
        ("8000", RawFormat(8_000, "s16le", 1)),
    ],
)
def test_raw(text: str, expected: RawFormat) -> None:
    assert parse_raw(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "s16le", "16000:mp3", "1:s16le", "16000:s16le:0", "16000:s16le:1:1", "16000.5", "-1"],
)
def test_no_raw(text: str) -> None:
    with pytest.raises(UsageError, match=r"give RATE:FORMAT"):
        parse_raw(text)


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, knnvc.sound_options; assert not {'torch', 'numpy', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
