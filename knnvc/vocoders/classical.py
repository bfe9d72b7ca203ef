"""Copy-synthesis without a network: WORLD and Griffin-Lim take a recording apart and rebuild it.

What they lose is the yardstick for what a vocoder loses (`knnvc resynth`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import UsageError

MFCC = 20  # coefficients, librosa's default
_PIECE_SECONDS = 30.0  # of copy-synthesis at a time
_SEARCH_SECONDS = 5.0  # in which to look for a quiet place to cut before that
_MARGIN_SECONDS = 0.25  # of real neighbours on both sides of a piece
_QUIET_SECONDS = 0.05  # window over which quiet is measured


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
    waveform: Tensor,
    sample_rate: int = SAMPLE_RATE,
    *,
    n_mels: int = 80,
    n_mfcc: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Copy-synthesis from a mel spectrogram by Griffin-Lim (1984, doi:10.1109/TASSP.1984.1164317).

    Windows of 64 ms every 16 ms, 32 iterations of the fast variant (Perraudin et al., 2013).

    Args:
        waveform: `[T]`.
        sample_rate: Hz.
        n_mels: Bands of the mel spectrogram.
        n_mfcc: Cepstral coefficients that are kept of it; None keeps the spectrogram.
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
        if n_mfcc is not None:
            kept = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=n_mfcc)
            mel = librosa.feature.inverse.mfcc_to_mel(kept, n_mels=n_mels)
        magnitudes = librosa.feature.inverse.mel_to_stft(mel, sr=sample_rate, n_fft=n_fft)
        made = librosa.griffinlim(magnitudes, hop_length=hop, length=len(piece), random_state=seed)
        return np.asarray(made, dtype=np.float32)

    return _piecewise(waveform, sample_rate, copy)


def griffin_lim_mfcc(waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """`griffin_lim` from 20 cepstral coefficients, librosa's number, of the mel spectrogram."""
    return griffin_lim(waveform, sample_rate, n_mfcc=MFCC)


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
