"""What a vocoder is: frames to a waveform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from knnvc.frames import Frames
from knnvc.progress import Tell


class Vocoder(Protocol):
    """Frames to a waveform. Shapes: T frames, D = `dim` columns."""

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms."""

    @property
    def hop(self) -> int:
        """Samples of a frame."""

    @property
    def dim(self) -> int:
        """Columns of a frame."""

    @property
    def fingerprint(self) -> str:
        """Identifies the weights."""

    def stream(self, frames: Frames, progress: Tell | None = None) -> Iterator[Tensor]:
        """The waveform of `frames`, [t · hop] float32 on the CPU at a time, in order."""

    def __call__(self, frames: Frames, progress: Tell | None = None) -> Tensor:
        """The waveform [T · hop] float32 on the CPU."""


class VocoderNetwork(Protocol):
    """What `knnvc.vocoders.chunked.ChunkedVocoder` asks of a network; `HifiGan` is one.

    Shapes: B batch, T frames, D = `dim` feature columns, P columns after `prepare`.
    """

    @property
    def context_frames(self) -> int:
        """Frames on each side beyond which the output of a frame does not depend on the input."""

    @property
    def hop(self) -> int:
        """Samples of a frame."""

    @property
    def dim(self) -> int:
        """Columns of the features."""

    @property
    def sample_rate(self) -> int:
        """Hz of the waveform."""

    def prepare(self, features: Tensor) -> Tensor:
        """Do once, on all frames `[T, D] -> [T, P]`, what is not local (running phase, say)."""

    def __call__(self, features: Tensor) -> Tensor:
        """Map `[B, T, P]` to `[B, 1, T · hop]`."""
