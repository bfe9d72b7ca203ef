"""Sampling rates: conversion in blocks, with a length that is exact to the sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import torch
import torchaudio
from torch import Tensor

from knnvc.errors import UsageError

SAMPLE_RATE = 16_000  # Hz, what every supported encoder was trained on

# Hz. Outside it a header is damaged, or following it would ask for absurd amounts of memory.
_LOWEST_RATE, _HIGHEST_RATE = 4_000, 768_000
_BLOCK_SAMPLES = 1 << 19  # samples that are converted at a time
_LARGEST_KERNEL = 1 << 22  # taps of one polyphase filter bank: 16 MB


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Convert the sampling rate: torchaudio's windowed sinc, in blocks that bound the memory.

    Equal to `torchaudio.functional.resample` on the whole waveform to 1e-6 of full scale (where
    that adds a sample past the end, this does not). Two rates
    with a tiny common divisor (44,101 Hz, say) would need a filter bank of gigabytes there; those
    go through soxr instead.

    Args:
        waveform: `[T]`.
        from_rate: Hz of `waveform`, 4 to 768 kHz.
        to_rate: Hz of the result, in the same range.

    Returns:
        `[converted_length(T, from_rate, to_rate)]`.

    Raises:
        UsageError: A rate is not a whole number in that range.
    """
    from_rate = check_rate(from_rate, "the audio")
    to_rate = check_rate(to_rate, "the result")
    if from_rate == to_rate:
        return waveform
    return torch.cat(list(resampled(_split(waveform), from_rate, to_rate)))


def converted_length(samples: int, from_rate: int, to_rate: int) -> int:
    """How many samples a waveform has at another rate: `round(samples * to_rate / from_rate)`.

    At least 1 for a waveform that has a sample. Halves round to the even number, as in Python.
    """
    return max(min(samples, 1), round(Fraction(samples * to_rate, from_rate)))


def check_rate(rate: int, name: str) -> int:
    """`rate` as an int; raise UsageError unless it is a whole number from 4 to 768 kHz."""
    try:
        hertz = int(rate)
        valid = hertz == rate and _LOWEST_RATE <= hertz <= _HIGHEST_RATE
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise UsageError(
            f"{name} has a sampling rate of {rate} Hz; "
            f"use a whole number from {_LOWEST_RATE} to {_HIGHEST_RATE} Hz."
        )
    return hertz


def resampled(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """Convert the rate of a waveform that comes in blocks."""
    if from_rate == to_rate:
        return iter(blocks)
    divisor = math.gcd(from_rate, to_rate)
    if (from_rate // divisor) * (to_rate // divisor) > _LARGEST_KERNEL:
        return _resampled_soxr(blocks, from_rate, to_rate)
    return _resampled_sinc(blocks, from_rate // divisor, to_rate // divisor)


def _resampled_sinc(blocks: Iterable[Tensor], orig: int, new: int) -> Iterator[Tensor]:
    """Resample by the reduced ratio `new / orig`.

    Every `orig` samples in are a unit that gives `new` samples out, by filters that do not depend
    on the unit's position. So any run of whole units resampled with enough real neighbours on both
    sides gives the same values as the whole waveform does.
    """
    # The module computes its filters once; in float32, as the function of the same name does.
    convert = torchaudio.transforms.Resample(orig, new, dtype=torch.float32)
    units = math.ceil(convert.width / orig) + 1
    context = units * orig
    pending = torch.zeros(context)  # the silence that the whole conversion pads with
    read = written = 0
    for block in blocks:
        read += len(block)
        pending = torch.cat([pending, block])
        ready = (len(pending) - 2 * context) // orig
        if ready > 0:
            piece = convert(pending[: ready * orig + 2 * context])
            yield piece[units * new : (units + ready) * new]
            pending = pending[ready * orig :]
            written += ready * new
    rest = converted_length(read, orig, new) - written
    piece = convert(torch.cat([pending, torch.zeros(context)]))
    yield piece[units * new :][:rest]


def _resampled_soxr(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    import soxr  # only for odd rates, and librosa brings it

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    read = written = 0
    for block in blocks:
        read += len(block)
        piece = torch.from_numpy(stream.resample_chunk(block.numpy()))
        written += len(piece)
        yield piece
    rest = converted_length(read, from_rate, to_rate) - written
    piece = torch.from_numpy(stream.resample_chunk(np.zeros(0, np.float32), last=True))[:rest]
    yield torch.nn.functional.pad(piece, (0, rest - len(piece)))


def _split(waveform: Tensor) -> Iterator[Tensor]:
    return (waveform[at : at + _BLOCK_SAMPLES] for at in range(0, len(waveform), _BLOCK_SAMPLES))
