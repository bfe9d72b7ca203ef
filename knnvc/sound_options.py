"""What people type about sound: a loudness, and the layout of raw samples. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from knnvc.errors import UsageError

DEFAULT_LOUDNESS = -16.0  # LUFS, of published kNN-VC
_LOUDNESS_RANGE = (-60.0, -5.0)  # LUFS: quieter is not heard, louder is no speech any more
RAW_FORMATS: tuple[str, ...] = (
    "s8",
    "u8",
    "s16le",
    "s16be",
    "s24le",
    "s24be",
    "s32le",
    "s32be",
    "f32le",
    "f32be",
)
_RATES = (4_000, 768_000)  # Hz, what knnvc.audio converts
_MOST_CHANNELS = 64


@dataclass(frozen=True)
class RawFormat:
    """How samples without a header are stored.

    Attributes:
        sample_rate: Hz.
        encoding: One of `RAW_FORMATS`: kind, bits and byte order, as FFmpeg names them.
        channels: How many, interleaved.
    """

    sample_rate: int
    encoding: str = "s16le"
    channels: int = 1


def parse_loudness(text: str) -> float | Literal["source"] | None:
    """What `--loudness` says: "-16" (LUFS), "source", or "none", which is None.

    Raises:
        UsageError: It is nothing of that, or out of range.
    """
    word = text.strip().lower()
    if word == "none":
        return None
    if word == "source":
        return "source"
    word = word.removesuffix("lufs").strip().replace("\N{MINUS SIGN}", "-")
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    low, high = _LOUDNESS_RANGE
    if not low <= value <= high:
        raise UsageError(
            f"the loudness is {text!r}: give LUFS from {low:g} to {high:g} "
            f"(such as {DEFAULT_LOUDNESS:g}), source or none"
        )
    return value


def parse_raw(text: str) -> RawFormat:
    """What `--raw` says: "16000:s16le", or with channels "48000:f32le:2".

    Raises:
        UsageError: It is nothing of that, or out of range.
    """
    rate, _, rest = text.strip().lower().partition(":")
    encoding, _, channels = rest.partition(":")
    form = RawFormat(_whole(rate), encoding or "s16le", _whole(channels or "1"))
    low, high = _RATES
    if (
        not low <= form.sample_rate <= high
        or form.encoding not in RAW_FORMATS
        or not 1 <= form.channels <= _MOST_CHANNELS
    ):
        raise UsageError(
            f"raw sound is described as {text!r}: give RATE:FORMAT or RATE:FORMAT:CHANNELS, such "
            f"as 16000:s16le; the formats are {', '.join(RAW_FORMATS)}"
        )
    return form


def _whole(text: str) -> int:
    """A whole number without a sign; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
