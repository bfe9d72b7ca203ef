"""What a task keeps of each recording, by layer: means, means and spreads, or frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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


Key = tuple[object, float, float | None]
"""What is heard: a file, or samples, and the cut."""


def key_of(one: Example) -> Key:
    """Equal for examples that are heard alike."""
    audio = one.audio if isinstance(one.audio, Path) else (one.name, id(one.audio[0]))
    return audio, one.start, one.seconds


class Encoded:
    """Encodes each recording once, whatever the seeds deal it into, and for tasks in a row.

    Args:
        hearing: the encoder.
        keep: `averaged`, `moments` or `framed`.
    """

    def __init__(self, hearing: Hearing, keep: Callable[[Hearing, Tensor], Kept]) -> None:
        self.hearing = hearing
        self.keep = keep
        self._kept: dict[Key, Kept] = {}
        self._named: dict[str, Kept] = {}

    def take(self, examples: Sequence[Example], tell: Tell | None = None) -> None:
        """Encode what is not there yet, and forget what these examples do not need.

        Raises:
            KnnvcError: a recording is empty or cannot be read.
        """
        wanted = {key_of(one): one for one in examples}
        self._kept = {key: kept for key, kept in self._kept.items() if key in wanted}
        missing = [key for key in wanted if key not in self._kept]
        for number, key in enumerate(missing):
            if tell:
                tell("encoding", number, len(missing))
            one = wanted[key]
            wave = one.wave(self.hearing.sample_rate)
            if not len(wave):
                raise KnnvcError(f"{one.name} holds no sound: leave it out of the task")
            self._kept[key] = self.keep(self.hearing, wave)
        if tell and missing:
            tell("encoding", len(missing), len(missing))
        self._named = {one.name: self._kept[key_of(one)] for one in examples}

    def __getitem__(self, name: str) -> Kept:
        """What is kept of a recording."""
        return self._named[name]

    def stacked(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Vectors [N, D] of recordings, by layer."""
        return {
            layer: torch.stack([self._named[one.name][layer] for one in examples])
            for layer in self._named[examples[0].name]
        }

    def joined(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Frames [N, D] of recordings behind each other, by layer."""
        return {
            layer: torch.cat([self._named[one.name][layer] for one in examples])
            for layer in self._named[examples[0].name]
        }

    def length(self, one: Example) -> int:
        """Frames T of a recording."""
        return len(next(iter(self._named[one.name].values())))


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
