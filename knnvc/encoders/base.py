"""What an encoder is: speech to features, one frame every `hop` samples.

Features are one tensor `[T, D]`. `Columns` says which of the D columns the output is built from
(`synth`) and which the neighbours are searched in (`match`). For published kNN-VC both are all of
them, the output of transformer layer 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from knnvc.progress import Tell


@dataclass(frozen=True)
class Columns:
    """Which columns of the features `[T, D]` serve what."""

    synth: slice
    match: slice
    pitch: int | None = None  # column of log2 f0 in Hz; voicing stands in the next one

    @property
    def together(self) -> bool:
        """Whether neighbours are searched in the very columns that are synthesised from."""
        return self.synth == self.match

    @property
    def width(self) -> int:
        """Columns that are synthesised from, Ds."""
        return int(self.synth.stop) - int(self.synth.start or 0)


class Encoder(Protocol):
    """Speech to features."""

    @property
    def sample_rate(self) -> int:
        """Hz of the audio that it reads."""

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""

    @property
    def columns(self) -> Columns:
        """Which feature columns are synthesised from and searched in."""

    @property
    def fingerprint(self) -> str:
        """Identifies weights and layers: features of equal ones can be mixed."""

    @property
    def cache_key(self) -> tuple[str, ...]:
        """What else decides the last bits of features: pieces, precision."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def encode(self, waveform: Tensor, progress: Tell | None = None) -> Tensor:
        """`waveform` [S] at `sample_rate` -> features [T, D] float32 on the CPU."""


def frames_a_second(part: Any) -> Fraction:
    """The frame rate of an encoder or vocoder, exactly."""
    return Fraction(part.sample_rate, part.hop)
