"""Samples as torch users have them: `[S]` or `[B, S]`, tensors or arrays, with a rate."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knnvc.audio.samples import to_waveform
from knnvc.errors import UsageError


def mono_batch(samples: Any, wanted_rate: int, sample_rate: int | None = None) -> list[Tensor]:
    """The signals in `samples`, each [S] float32 at `wanted_rate` on the CPU.

    Args:
        samples: [S] or [B, S] as a tensor, an array or a list of numbers, or (samples, rate).
        wanted_rate: Hz of the result.
        sample_rate: Hz of samples that come without their rate.

    Raises:
        UsageError: the rate is missing, or the shape is ambiguous.
        KnnvcError: the samples cannot be used.
    """
    if isinstance(samples, tuple) and len(samples) == 2 and isinstance(samples[1], Real):
        samples, sample_rate = samples[0], int(samples[1])
    if sample_rate is None:
        raise UsageError(
            "the samples come without their sampling rate: give sample_rate=, or (samples, rate)"
        )
    array = samples.detach() if isinstance(samples, Tensor) else np.asarray(samples)
    if array.ndim == 1:
        return [to_waveform((samples, sample_rate), wanted_rate)]
    if array.ndim != 2 or array.shape[0] > max(array.shape[1], 1):
        shape = list(array.shape)
        raise UsageError(
            f"samples of the shape {shape} are ambiguous: give [S] for one signal or [B, S] for a "
            "batch; mix channels down first"
        )
    return [to_waveform((row, sample_rate), wanted_rate) for row in array]


def like(made: list[Tensor], given: Any) -> Any:
    """Results [S] of each signal in the kind and shape of what was `given`.

    A tensor gives a tensor on its device, a batch a batch [B, S] padded with zeros, anything else
    an array.
    """
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Real):
        given = given[0]
    batched = getattr(given, "ndim", 1) == 2
    joined = torch.nn.utils.rnn.pad_sequence(made, batch_first=True) if batched else made[0]
    return joined.to(given.device) if isinstance(given, Tensor) else joined.numpy()


def stacked(made: list[Tensor], given: Any) -> Any:
    """Results [T, D] of the signals in `given`; of a batch [B, T, D], of an array an array."""
    if isinstance(given, tuple):
        given = given[0]
    joined = torch.stack(made) if getattr(given, "ndim", 1) == 2 else made[0]
    return joined.numpy() if isinstance(given, np.ndarray) else joined
