"""What a task keeps of each recording, by layer: means, means and spreads, or frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError
from knnvc.evaluation.probing.base import Example, Floats
from knnvc.evaluation.probing.layers import Hearing

Tell = Callable[[str, int, int], None]
Kept = dict[str, Tensor]
"""By layer: [D] of a recording, or its frames [T, D]."""


def averaged(hearing: Hearing, wave: Tensor) -> Kept:
    """Means [D] over time."""
    return {name: values.mean(0) for name, values in hearing.layers(wave).items()}


def moments(hearing: Hearing, wave: Tensor) -> Kept:
    """Means and standard deviations over time, [2 · D]."""
    return {
        name: torch.cat([values.mean(0), values.std(0, correction=0)])
        for name, values in hearing.layers(wave).items()
    }


def framed(hearing: Hearing, wave: Tensor) -> Kept:
    """All frames [T, D], in half precision where it holds them."""
    return {name: _small(values) for name, values in hearing.layers(wave).items()}


class Encoded:
    """Encodes each recording of a task once, whatever the seeds deal it into.

    Args:
        hearing: the encoder.
        keep: `averaged`, `moments` or `framed`.
    """

    def __init__(self, hearing: Hearing, keep: Callable[[Hearing, Tensor], Kept]) -> None:
        self.hearing = hearing
        self.keep = keep
        self._kept: dict[str, Kept] = {}

    def take(self, examples: Sequence[Example], tell: Tell | None = None) -> None:
        """Encode what is not there yet.

        Raises:
            KnnvcError: a recording is empty or cannot be read.
        """
        missing = [one for one in examples if one.name not in self._kept]
        for number, one in enumerate(missing):
            if tell:
                tell("encoding", number, len(missing))
            wave = one.wave(self.hearing.sample_rate)
            if not len(wave):
                raise KnnvcError(f"{one.name} holds no sound: leave it out of the task")
            self._kept[one.name] = self.keep(self.hearing, wave)
        if tell and missing:
            tell("encoding", len(missing), len(missing))

    def __getitem__(self, name: str) -> Kept:
        """What is kept of a recording."""
        return self._kept[name]

    def stacked(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Vectors [N, D] of recordings, by layer."""
        return {
            layer: torch.stack([self._kept[one.name][layer] for one in examples])
            for layer in self._kept[examples[0].name]
        }

    def joined(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Frames [N, D] of recordings behind each other, by layer."""
        return {
            layer: torch.cat([self._kept[one.name][layer] for one in examples])
            for layer in self._kept[examples[0].name]
        }

    def length(self, one: Example) -> int:
        """Frames T of a recording."""
        return len(next(iter(self._kept[one.name].values())))


def nearest(values: Floats, times: Tensor, step: float = 0.02) -> Floats:
    """Values [T'], the first in the middle of the first `step` seconds, at `times` [T]."""
    at = np.clip(np.floor(times.numpy() / step).astype(int), 0, len(values) - 1)
    found: Floats = values[at]
    return found


def wave_16k(one: Example) -> Floats:
    """The samples [S] of a recording at 16 kHz."""
    made: Floats = one.wave(SAMPLE_RATE).numpy()
    return made


def _small(values: Tensor) -> Tensor:
    fits = not values.numel() or values.abs().max() < torch.finfo(torch.float16).max
    return values.half() if fits else values
