"""Runs an encoder network over audio of any length, in overlapping chunks."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.encoders.base import Columns
from knnvc.errors import UsageError
from knnvc.processes import computing
from knnvc.progress import Tell
from knnvc.tensors import fingerprint

CHUNK_SECONDS = 30.0
CONTEXT_SECONDS = 2.0
SAMPLE_RATE = 16_000  # Hz, of every published SSL encoder
HOP = 320  # samples: published SSL encoders make a frame of 20 ms
NORMALIZE_FLOOR = 1e-7  # added to the variance, as transformers' Wav2Vec2FeatureExtractor does
WINDOW = 400  # samples: what their convolutions need for the first frame


class Network(Protocol):
    """What `ChunkedEncoder` needs of a network: waveforms [B, S] -> features [B, T, D].

    A network may also have `sample_rate`, `hop` and `window_samples` (of the first frame); by
    default they are those of the published SSL encoders. `normalize` says that recordings are
    scaled to zero mean and unit variance first.
    """

    columns: Columns

    def __call__(self, waveform: Tensor) -> Tensor: ...  # noqa: D102


class ChunkedEncoder:
    """An encoder (`knnvc.encoders.base`) around a network.

    Args:
        network: waveform [B, S] to features [B, T, D]; moved to `device`.
        device: where it computes.
        chunk_seconds: longer audio is cut into pieces of this length, in seconds.
        context_seconds: real neighbouring audio given to each piece on both sides, then dropped.
        identity: fingerprint of the network; by default that of its weights as they are now.
        computed_with: what else decides the last bits of features, such as the precision.

    Attention sees the whole piece, so chunked features differ slightly from unchunked ones;
    docs/large-sets.md states the measured difference.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        chunk_seconds: float = CHUNK_SECONDS,
        context_seconds: float = CONTEXT_SECONDS,
        *,
        identity: str | None = None,
        computed_with: str = "float32",
    ) -> None:
        self.sample_rate: int = getattr(network, "sample_rate", SAMPLE_RATE)
        self.hop: int = getattr(network, "hop", HOP)
        self.window: int = getattr(network, "window_samples", WINDOW)
        frame = self.hop / self.sample_rate
        if not frame <= chunk_seconds < float("inf"):
            raise UsageError(f"the chunk is {chunk_seconds!r} s: give {frame:g} seconds or more")
        self.network = network.eval().to(device)
        self.device = torch.device(device)
        self.chunk = max(1, round(chunk_seconds / frame))  # frames
        self.context = max(0, round(context_seconds / frame))  # frames
        self.computed_with = computed_with
        self._identity = identity

    @property
    def columns(self) -> Columns:
        """Which feature columns are synthesised from and searched in."""
        columns: Columns = self.network.columns  # type: ignore[assignment]
        return columns

    @property
    def fingerprint(self) -> str:
        """Identifies the network and its layers in matching sets."""
        if self._identity is None:
            self._identity = fingerprint(self.network)
        return self._identity

    @property
    def cache_key(self) -> tuple[str, ...]:
        """What else decides the last bits of features: pieces, precision."""
        return (str(self.chunk), str(self.context), self.computed_with)

    def frames(self, samples: int) -> int:
        """How many frames `samples` samples make: (samples − window) // hop + 1, at least 1."""
        return max(1, (samples - self.window) // self.hop + 1)

    @torch.inference_mode()
    def encode(self, waveform: Tensor, progress: Tell | None = None) -> Tensor:
        """Encode `waveform` [S] at `sample_rate` to features [T, D] float32 on the CPU.

        T = (S − window) // hop + 1, as the published encoders have it; shorter audio is padded with
        silence to one frame. `progress(done, total)` is called with frames.
        """
        computing()
        if getattr(self.network, "normalize", False):
            waveform = waveform - waveform.mean()
            waveform = waveform / (waveform.var(unbiased=False) + NORMALIZE_FLOOR).sqrt()
        if waveform.numel() < self.window:
            waveform = functional.pad(waveform, (0, self.window - waveform.numel()))
        frames = self.frames(waveform.numel())
        features: Tensor | None = None
        step = frames if frames <= self.chunk + 2 * self.context else self.chunk
        for start in range(0, frames, step):
            stop = min(frames, start + step)
            first, last = max(0, start - self.context), min(frames, stop + self.context)
            end = (last - 1) * self.hop + self.window if last < frames else None
            piece = self._run(waveform[first * self.hop : end])
            if features is None:
                features = torch.empty(frames, piece.shape[1])
            features[start:stop] = piece[start - first : stop - first]
            if progress:
                progress(stop, frames)
        assert features is not None
        self.finish(waveform, features)
        return features

    def _run(self, waveform: Tensor) -> Tensor:
        """Features of one piece."""
        made: Any = self.network(waveform[None].to(self.device))
        features: Tensor = made[0].float().cpu()
        return features

    def finish(self, waveform: Tensor, features: Tensor) -> None:
        """Improve the `features` [T, D] of `waveform` [S] in place; here there is nothing to do."""
