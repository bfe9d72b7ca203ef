"""Runs a vocoder network over frames of any number, in memory bounded by the chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from knnvc.errors import KnnvcError, UsageError
from knnvc.frames import Frames
from knnvc.processes import computing
from knnvc.progress import Tell
from knnvc.tensors import fingerprint
from knnvc.vocoders.base import VocoderNetwork

CHUNK_FRAMES = 1500  # 30 s at 50 frames a second
WIDE = 512  # columns of features from which on a network is a large one
# Of a large network fewer frames at a time: beyond some megabytes each, the memory that activations
# are written to takes longer than computing them (docs/speed.md).
WIDE_CHUNK_FRAMES = 400


class ChunkedVocoder:
    """A vocoder (`knnvc.vocoders.base`) around a network.

    Chunks get `network.context_frames` real frames on both sides, whose output is dropped, so the
    result equals that of one run over all frames to 1e-5, without seams.

    Args:
        network: a `VocoderNetwork`; a module is set to evaluation mode.
        chunk_frames: the most frames to give it at a time, not counting the context; by default
            1500, of networks that read 512 columns or more 400.
        device: where to run; the default is where the network is.
        identity: fingerprint of the network; by default that of its weights as they are now.

    Raises:
        UsageError: `chunk_frames` is less than 1.
    """

    def __init__(
        self,
        network: VocoderNetwork,
        chunk_frames: int | None = None,
        device: torch.device | str | None = None,
        *,
        identity: str | None = None,
    ) -> None:
        if chunk_frames is None:
            chunk_frames = CHUNK_FRAMES if network.dim < WIDE else WIDE_CHUNK_FRAMES
        if chunk_frames < 1:
            raise UsageError(f"chunk_frames is {chunk_frames}: use 1 or more")
        self.network = network
        self.chunk_frames = chunk_frames
        self.device = torch.device("cpu")
        self._dtype = torch.float32
        self._identity = identity
        if isinstance(network, torch.nn.Module):
            if device is not None:
                network.to(device)
            network.eval()
            for parameter in network.parameters():
                self.device, self._dtype = parameter.device, parameter.dtype
                break
        elif device is not None:
            self.device = torch.device(device)

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms."""
        return self.network.sample_rate

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.network.hop

    @property
    def dim(self) -> int:
        """Columns of a frame."""
        return self.network.dim

    @property
    def fingerprint(self) -> str:
        """Identifies the weights."""
        if self._identity is None:
            network = self.network
            self._identity = (
                fingerprint(network) if isinstance(network, torch.nn.Module) else repr(network)
            )
        return self._identity

    def __call__(self, frames: Frames, progress: Tell | None = None) -> Tensor:
        """Make a waveform.

        Args:
            frames: T frames of `dim` columns, on any device.
            progress: called with the frames done and the frames in total after every chunk.

        Returns:
            `[T · hop]` float32 on the CPU.

        Raises:
            UsageError: the frames have another shape, or there are none.
        """
        waveform = torch.empty(self._check(frames) * self.network.hop)
        start = 0
        for piece in self.stream(frames, progress):
            waveform[start : start + len(piece)] = piece
            start += len(piece)
        return waveform

    def stream(self, frames: Frames, progress: Tell | None = None) -> Iterator[Tensor]:
        """Make the same waveform a chunk at a time.

        Args:
            frames: as for a call.
            progress: as for a call.

        Yields:
            `[t · hop]` float32 on the CPU for t <= `chunk_frames` frames at a time, in order.

        Raises:
            UsageError: the frames have another shape, or there are none.
        """
        count = self._check(frames)
        with torch.inference_mode():
            prepared = self.network.prepare(frames.values.to(self.device, self._dtype))
        # Chunks of equal size, not full ones and a rest: a last chunk of a few frames wastes most
        # of its work on context.
        chunks = math.ceil(count / self.chunk_frames)
        for index in range(chunks):
            start, end = index * count // chunks, (index + 1) * count // chunks
            yield self._chunk(prepared, start, end)
            if progress is not None:
                progress(end, count)

    # Not around the loop in `stream`: a generator would leave the mode on in its caller.
    @torch.inference_mode()
    def _chunk(self, prepared: Tensor, start: int, end: int) -> Tensor:
        network = self.network
        left = max(0, start - network.context_frames)
        right = min(len(prepared), end + network.context_frames)
        audio = network(prepared[None, left:right])[0, 0]
        made = audio[(start - left) * network.hop : (end - left) * network.hop].float().cpu()
        if not bool(torch.isfinite(made).all()):
            raise KnnvcError(
                "the vocoder makes values that are no numbers: the preset or the matching set is "
                "damaged; get or build it again"
            )
        return made

    def _check(self, frames: Frames) -> int:
        computing()
        values = frames.values
        if values.ndim != 2 or values.shape[1] != self.network.dim or not len(values):
            raise UsageError(
                f"the frames have the shape {list(values.shape)}: "
                f"this vocoder takes [frames, {self.network.dim}]"
            )
        return len(values)
