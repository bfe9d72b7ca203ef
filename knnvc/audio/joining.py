"""Sentence after sentence into one waveform, in memory that does not grow with it."""

from __future__ import annotations

import tempfile
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.files import os_reason

_QUIET = 10 ** (-45 / 20)  # of the loudest 10 ms: below is silence around speech
_LEAD, _TAIL = 0.03, 0.08  # seconds kept before and after speech
_FADE = 0.005  # seconds


class Spool:
    """A waveform that grows at its end and lies on disk, in a file that vanishes with it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._samples = 0

    def __enter__(self) -> Spool:
        """Nothing to do: the file is open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the file go; what `waveform` returned must not be used any more."""
        self._file.close()

    @property
    def samples(self) -> int:
        """How many there are."""
        return self._samples

    def append(self, waveform: Tensor) -> None:
        """Add `waveform` [S].

        Raises:
            KnnvcError: the disk is full.
        """
        try:
            self._file.write(waveform.detach().cpu().float().contiguous().numpy().tobytes())
        except OSError as error:
            raise KnnvcError(
                f"cannot write temporary audio to {tempfile.gettempdir()}: {os_reason(error)}"
            ) from error
        self._samples += len(waveform)

    def waveform(self) -> Tensor:
        """All that was added, [S] float32, read from disk as it is used."""
        if not self._samples:
            return torch.zeros(0)
        self._file.flush()
        mapped = np.memmap(self._file, np.float32, mode="r+", shape=(self._samples,))
        return torch.from_numpy(mapped)


def trim_edges(waveform: Tensor, sample_rate: int) -> Tensor:
    """Cut the silence that a front end predicts around a sentence, and fade both ends.

    Pauses between sentences are then as long as they are meant to be, whatever the front end has
    learnt of the silence around its training sentences.

    Args:
        waveform: `[S]`.
        sample_rate: Hz.

    Returns:
        `[S']`, `S' <= S`; unchanged if there is nothing but silence.
    """
    step = max(1, round(0.01 * sample_rate))
    blocks = len(waveform) // step
    if blocks < 3:
        return waveform
    level = waveform[: blocks * step].reshape(blocks, step).square().mean(1).sqrt()
    speech = (level > _QUIET * level.max()).nonzero()[:, 0]
    if not len(speech) or float(level.max()) == 0:
        return waveform
    first = max(0, int(speech[0]) * step - round(_LEAD * sample_rate))
    last = min(len(waveform), (int(speech[-1]) + 1) * step + round(_TAIL * sample_rate))
    cut = waveform[first:last].clone()
    fade = min(round(_FADE * sample_rate), len(cut) // 2)
    ramp = torch.linspace(0, 1, fade)
    cut[:fade] *= ramp
    cut[len(cut) - fade :] *= ramp.flip(0)
    return cut


def silence(seconds: float, sample_rate: int) -> Tensor:
    """Zeros [S]."""
    return torch.zeros(round(seconds * sample_rate))


def to_length(waveform: Tensor, samples: int) -> Tensor:
    """`waveform` [S] with exactly so many samples.

    Encoders drop what does not fill a frame, so results are up to two frames short. What is missing
    is the end mirrored and faded out: without a step, and without touching what is there.
    """
    missing = samples - len(waveform)
    if missing <= 0:
        return waveform[:samples]
    tail = waveform[-missing:].flip(0)
    tail = tail * torch.linspace(1, 0, len(tail))
    made = torch.zeros(samples)
    made[: len(waveform)] = waveform
    made[len(waveform) : len(waveform) + len(tail)] = tail
    return made
