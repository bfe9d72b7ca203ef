"""What an encoder is: speech to features, one frame every `hop` samples.

Features are one tensor `[T, D]`. `Columns` says which of the D columns the output is built from
(`synth`) and which the neighbours are searched in (`match`). For published kNN-VC both are all of
them, the output of transformer layer 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.progress import Tell

ALL = "all"  # layers
LAST = -1  # layer; of SSL encoders with their final layer norm, as "last_hidden_state" has it


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


def chosen_layers(layers: Sequence[int] | str, depth: int) -> tuple[int, ...]:
    """The numbers of layers 0 to `depth` that are wanted; "all" is all, −1 the last one.

    Raises:
        KnnvcError: there is no such layer.
    """
    if layers == ALL:
        return tuple(range(depth + 1))
    for layer in layers:
        if not isinstance(layer, int) or not LAST <= layer <= depth:
            raise KnnvcError(f"layer {layer} is not in this encoder, which has 0 to {depth}")
    return tuple(depth if layer == LAST else int(layer) for layer in layers)


def layer_columns(widths: Sequence[int], every: bool = False) -> Columns:
    """The columns of layers that stand side by side.

    Args:
        widths: of the layers; of two, the first is synthesised from and the second searched in.
        every: both are all of them.
    """
    total = sum(widths)
    if every or len(widths) == 1:
        return Columns(slice(0, total), slice(0, total))
    return Columns(slice(0, widths[0]), slice(widths[0], total))
