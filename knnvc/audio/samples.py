"""Waveforms in memory: what counts as one, and the checks that every path of sound goes through.

Everywhere in this package a waveform is a float32 tensor `[T]` on the CPU: mono, T samples, full
scale at -1 and 1, `SAMPLE_RATE` unless a function says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from knnvc.audio.channels import mono
from knnvc.audio.resampling import SAMPLE_RATE, check_rate, resample
from knnvc.errors import KnnvcError, UsageError

MINIMUM_SECONDS = 0.025  # one window of the encoders: 400 samples
SILENT_PEAK = 1e-5  # -100 dBFS, less than the last bit of 16-bit audio
BLOCK_SAMPLES = 1 << 19  # samples that are worked on at a time: 2 MB
_MOST_CHANNELS = 64  # of an array; more means that somebody passed another kind of matrix

AudioInput: TypeAlias = Any
"""A NumPy array, tensor or sequence of samples, or a tuple of one of them and its rate in Hz."""


def to_waveform(
    audio: AudioInput, sample_rate: int = SAMPLE_RATE, *, name: str = "the audio"
) -> Tensor:
    """Turn samples that a Python caller holds into a mono waveform.

    Args:
        audio: An array, tensor or sequence `[T]`, or two-dimensional with the channels on the
            shorter axis (both `[C, T]` and `[T, C]` are in use), or a tuple of that and its
            sampling rate in Hz. Floats have their full scale at 1; int8, int16, int32 and uint8
            are scaled from their own. Without a rate it is taken to be at `sample_rate`.
        sample_rate: Hz of the result.
        name: What error messages call it.

    Returns:
        `[T]`, a tensor of its own or a view of `audio`; do not write to it.

    Raises:
        UsageError: The shape, type or rate is none of these.
        KnnvcError: It holds no samples, or some that are not finite.
    """
    rate = sample_rate
    if isinstance(audio, tuple) and len(audio) == 2 and np.ndim(audio[1]) == 0:
        audio, rate = audio
    samples = _samples(audio, name)
    if not samples.numel():
        raise KnnvcError(f"{name} holds no samples; pass at least one.")
    if samples.ndim == 2:
        channels = min(samples.shape)
        if channels > _MOST_CHANNELS:
            raise UsageError(
                f"{name} has the shape {list(samples.shape)}, which is not channels and samples."
            )
        frames = samples.T if samples.shape[0] == channels else samples
        samples = torch.from_numpy(
            mono(frames.contiguous().numpy(), sample_rate=check_rate(rate, name))
        )
    if samples.ndim != 1:
        raise UsageError(f"{name} has {samples.ndim} dimensions; pass samples [T] or [C, T].")
    waveform = resample(samples, rate, sample_rate)
    check_finite(waveform, name)
    return waveform


def require_audio(
    waveform: Tensor,
    name: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    minimum_seconds: float = MINIMUM_SECONDS,
) -> Tensor:
    """Return `waveform [T]` if there is something in it to encode.

    Args:
        waveform: `[T]`.
        name: What error messages call it: the path, usually.
        sample_rate: Hz of `waveform`.
        minimum_seconds: The shortest that will do; by default one window of the encoders.

    Raises:
        KnnvcError: It is empty, shorter than `minimum_seconds`, or silent (peak below -100 dBFS).
    """
    if not len(waveform):
        raise KnnvcError(f"{name} holds no samples; record or export it again.")
    seconds = len(waveform) / sample_rate
    if seconds < minimum_seconds:
        raise KnnvcError(
            f"{name} is only {seconds * 1000:.3g} ms long; "
            f"use a recording of at least {minimum_seconds * 1000:g} ms."
        )
    if peak(waveform) < SILENT_PEAK:
        raise KnnvcError(f"{name} is entirely silent; use a recording with speech in it.")
    return waveform


def split(waveform: Tensor, samples: int = BLOCK_SAMPLES) -> Iterator[Tensor]:
    """Views of `waveform [T]`, one after the other, of so many samples each; the last has fewer."""
    return (waveform[at : at + samples] for at in range(0, len(waveform), samples))


def is_finite(waveform: Tensor) -> bool:
    """Whether no sample of `waveform [T]` is NaN or infinite."""
    # In blocks: a mask of hours of audio would be hundreds of megabytes.
    return all(bool(torch.isfinite(block).all()) for block in split(waveform))


def peak(waveform: Tensor) -> float:
    """The largest magnitude in `waveform [T]`; 0 if it is empty."""
    if not len(waveform):
        return 0.0
    lowest, highest = torch.aminmax(waveform)
    return max(-float(lowest), float(highest))


def check_finite(waveform: Tensor, name: str) -> None:
    """Raise KnnvcError if a sample of `waveform [T]` is NaN or infinite."""
    if not is_finite(waveform):
        raise KnnvcError(
            f"{name} holds samples that are not finite (NaN or infinity); export it again."
        )


def _samples(audio: AudioInput, name: str) -> Tensor:
    """Convert anything array-like to a float32 tensor with its full scale at 1, same shape."""
    try:
        samples = audio if isinstance(audio, Tensor) else torch.as_tensor(np.asarray(audio).copy())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} is not an array of samples but {type(audio).__name__}."
        ) from error
    samples = samples.detach().cpu()
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128.0) / 128.0
    if samples.dtype in (torch.int8, torch.int16, torch.int32):
        return samples.float() / float(-torch.iinfo(samples.dtype).min)
    raise UsageError(
        f"{name} has samples of type {samples.dtype}, whose full scale is unknown; "
        "pass floats between -1 and 1."
    )
