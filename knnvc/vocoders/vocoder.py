"""From features to a waveform, and two copy-synthesis baselines that need no features.

The network does the work; `Vocoder` runs it in chunks so that memory is bounded by the chunk and
not by the recording. WORLD and Griffin-Lim take a recording apart and put it together again: what
they lose is the yardstick for what a vocoder loses (`knnvc resynth`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import UsageError
from knnvc.processes import computing

CHUNK_FRAMES = 1500  # 30 s at 50 frames a second

_PIECE_SECONDS = 30.0  # of copy-synthesis at a time
_SEARCH_SECONDS = 5.0  # in which to look for a quiet place to cut before that
_MARGIN_SECONDS = 0.25  # of real neighbours on both sides of a piece
_QUIET_SECONDS = 0.05  # window over which quiet is measured

Progress = Callable[[int, int], None]
"""Called as `progress(frames_done, frames_total)` after every chunk."""


class VocoderNetwork(Protocol):
    """What `Vocoder` asks of a network; `HifiGan` is one.

    Shapes: B batch, T frames, D = `dim` feature columns, P columns after `prepare`.
    """

    @property
    def context_frames(self) -> int:
        """Frames on each side beyond which the output of a frame does not depend on the input."""

    @property
    def hop(self) -> int:
        """Samples per frame."""

    @property
    def dim(self) -> int:
        """Columns of the features."""

    @property
    def sample_rate(self) -> int:
        """Hz of the waveform."""

    def prepare(self, features: Tensor) -> Tensor:
        """Do once, on all frames `[T, D] -> [T, P]`, what is not local (running phase, say)."""

    def __call__(self, features: Tensor, *correction: Tensor) -> Tensor:
        """Map `[B, T, P]` to `[B, 1, T * hop]`; some take what corrects them for a voice, too."""


class Vocoder:
    """Runs a vocoder network over features of any length.

    Chunks get `network.context_frames` real frames on both sides, whose output is dropped, so the
    result equals that of one run over all frames to 1e-5, without seams.

    Args:
        network: A network in the sense of `VocoderNetwork`; a module is set to evaluation mode.
        chunk_frames: The most frames to give it at a time, not counting the context.
        device: Where to run; the default is where the network is.

    Raises:
        UsageError: `chunk_frames` is less than 1.
    """

    def __init__(
        self,
        network: VocoderNetwork,
        chunk_frames: int = CHUNK_FRAMES,
        device: torch.device | str | None = None,
    ) -> None:
        """Keep the network and put it where it is to run."""
        if chunk_frames < 1:
            raise UsageError(f"chunk_frames is {chunk_frames}; use 1 or more.")
        self.network = network
        self.chunk_frames = chunk_frames
        self._device = torch.device("cpu")
        self._dtype = torch.float32
        if isinstance(network, torch.nn.Module):
            if device is not None:
                network.to(device)
            network.eval()
            for parameter in network.parameters():
                self._device, self._dtype = parameter.device, parameter.dtype
                break
        elif device is not None:
            self._device = torch.device(device)

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it makes."""
        return self.network.sample_rate

    def __call__(
        self,
        features: Tensor,
        progress: Progress | None = None,
        correction: Tensor | None = None,
    ) -> Tensor:
        """Make a waveform.

        Args:
            features: `[T, D]`, T frames of `network.dim` columns, on any device.
            progress: Called with the frames done and the frames in total after every chunk.
            correction: For the network, if it takes one (see `knnvc.vocoders.source_filter.FilterFit`).

        Returns:
            `[T * hop]` float32 on the CPU.

        Raises:
            UsageError: The features have another shape, or no frames.
        """
        waveform = torch.empty(self._check(features) * self.network.hop)
        start = 0
        for piece in self.stream(features, progress, correction):
            waveform[start : start + len(piece)] = piece
            start += len(piece)
        return waveform

    def stream(
        self,
        features: Tensor,
        progress: Progress | None = None,
        correction: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Make the same waveform a chunk at a time.

        Args:
            features: `[T, D]`, as for a call.
            progress: As for a call.
            correction: As for a call.

        Yields:
            `[t * hop]` float32 on the CPU for t <= `chunk_frames` frames at a time, in order.

        Raises:
            UsageError: The features have another shape, or no frames.
        """
        frames = self._check(features)
        computing()
        with torch.inference_mode():
            prepared = self.network.prepare(features.to(self._device, self._dtype))
        # Chunks of equal size, not full ones and a rest: a last chunk of a few frames wastes most
        # of its work on context.
        chunks = math.ceil(frames / self.chunk_frames)
        for index in range(chunks):
            start, end = index * frames // chunks, (index + 1) * frames // chunks
            yield self._chunk(prepared, start, end, correction)
            if progress is not None:
                progress(end, frames)

    # Not around the loop in `stream`: a generator would leave the mode on in its caller.
    @torch.inference_mode()
    def _chunk(self, prepared: Tensor, start: int, end: int, correction: Tensor | None) -> Tensor:
        network = self.network
        left = max(0, start - network.context_frames)
        right = min(len(prepared), end + network.context_frames)
        given = () if correction is None else (correction.to(self._device),)
        audio = network(prepared[None, left:right], *given)[0, 0]
        return audio[(start - left) * network.hop : (end - left) * network.hop].float().cpu()

    def _check(self, features: Tensor) -> int:
        if features.ndim != 2 or features.shape[1] != self.network.dim or not len(features):
            raise UsageError(
                f"the features have the shape {list(features.shape)}; "
                f"this vocoder takes [frames, {self.network.dim}]."
            )
        return len(features)


def world(waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Copy-synthesis by WORLD (Morise et al., 2016, doi:10.1587/transinf.2015EDP7457).

    Pitch by DIO and StoneMask, envelope by CheapTrick, aperiodicity by D4C, every 5 ms. Long
    recordings are cut at quiet places, since one hour would need gigabytes of envelopes.

    Args:
        waveform: `[T]`.
        sample_rate: Hz, 16,000 or more.

    Returns:
        `[T]` float32.

    Raises:
        UsageError: The rate is lower: D4C looks at bands up to 7.9 kHz.
    """
    if sample_rate < 16_000:
        raise UsageError(f"WORLD needs a sampling rate of 16000 Hz or more, not {sample_rate}.")
    import pyworld  # the package pyworld-prebuilt; imported here because only this needs it

    def copy(piece: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        samples = piece.astype(np.float64)
        pitch, times = pyworld.dio(samples, sample_rate)
        pitch = pyworld.stonemask(samples, pitch, times, sample_rate)
        envelope = pyworld.cheaptrick(samples, pitch, times, sample_rate)
        aperiodicity = pyworld.d4c(samples, pitch, times, sample_rate)
        made = pyworld.synthesize(pitch, envelope, aperiodicity, sample_rate)
        return np.asarray(made, dtype=np.float32)

    return _piecewise(waveform, sample_rate, copy)


def griffin_lim(
    waveform: Tensor, sample_rate: int = SAMPLE_RATE, *, n_mels: int = 80, seed: int = 0
) -> Tensor:
    """Copy-synthesis from a mel spectrogram by Griffin-Lim (1984, doi:10.1109/TASSP.1984.1164317).

    Windows of 64 ms every 16 ms, 32 iterations of the fast variant (Perraudin et al., 2013).

    Args:
        waveform: `[T]`.
        sample_rate: Hz.
        n_mels: Bands of the mel spectrogram.
        seed: Of the random phase it starts from; the same seed gives the same waveform.

    Returns:
        `[T]` float32.
    """
    import librosa

    n_fft = 1 << round(math.log2(0.064 * sample_rate))
    hop = n_fft // 4

    def copy(piece: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        mel = librosa.feature.melspectrogram(
            y=piece, sr=sample_rate, n_fft=n_fft, hop_length=hop, n_mels=n_mels
        )
        magnitudes = librosa.feature.inverse.mel_to_stft(mel, sr=sample_rate, n_fft=n_fft)
        made = librosa.griffinlim(magnitudes, hop_length=hop, length=len(piece), random_state=seed)
        return np.asarray(made, dtype=np.float32)

    return _piecewise(waveform, sample_rate, copy)


def _piecewise(
    waveform: Tensor,
    sample_rate: int,
    copy: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
) -> Tensor:
    """Copy `[T]` in pieces cut at quiet places, each with a margin around it that is dropped.

    Neither method keeps the phase of its input, so neighbouring pieces cannot be cross-faded;
    where there is next to nothing to hear, there is no step to hear either.
    """
    samples = waveform.detach().cpu().float().numpy()
    margin = round(_MARGIN_SECONDS * sample_rate)
    # Silence around everything: both analyses want more than a window of samples.
    padded = np.pad(samples, margin)
    result = np.zeros_like(samples)
    cuts = [0, *_quiet_cuts(samples, sample_rate), len(samples)]
    for start, end in itertools.pairwise(cuts):
        made = copy(np.ascontiguousarray(padded[start : end + 2 * margin]))
        result[start:end] = made[margin : margin + end - start]
    return torch.from_numpy(result)


def _quiet_cuts(samples: npt.NDArray[np.float32], sample_rate: int) -> list[int]:
    """Places to cut `[T]` into pieces of at most `_PIECE_SECONDS`, each the quietest around."""
    longest, search = round(_PIECE_SECONDS * sample_rate), round(_SEARCH_SECONDS * sample_rate)
    window = round(_QUIET_SECONDS * sample_rate)
    cuts: list[int] = []
    start = 0
    while len(samples) - start > longest:
        first = start + longest - search
        energy = np.square(samples[first : start + longest], dtype=np.float64)
        total = np.concatenate([[0.0], np.cumsum(energy)])
        start = first + int(np.argmin(total[window:] - total[:-window])) + window // 2
        cuts.append(start)
    return cuts
