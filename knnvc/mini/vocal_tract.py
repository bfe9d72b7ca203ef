"""Log-mel spectra as of another vocal tract: a warp of the frequency axis.

A shorter vocal tract has all its resonances higher by about the same factor (vocal tract length
perturbation, Jaitly and Hinton 2013). On mel spectra the harmonics move with them, as if the speech
was played at another rate without becoming shorter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.mini.encoder import PhoneEncoderConfig
from knnvc.mini.format import MEL_SCALE, MEL_SHIFT

Floats = npt.NDArray[np.float32]
FLOOR = PhoneEncoderConfig.floor

_HERTZ_OF_MEL: dict[int, Floats] = {}


def log_mel(magnitudes: Tensor) -> Tensor:
    """Linear mel magnitudes to the encoder's log-mel values, any shape."""
    return (torch.log(magnitudes + FLOOR) - MEL_SHIFT) / MEL_SCALE


def magnitudes_of(logs: Floats) -> Floats:
    """Linear mel magnitudes of the encoder's log-mel values, any shape."""
    linear: Floats = np.maximum(np.exp(logs * MEL_SCALE + MEL_SHIFT) - FLOOR, 0.0)
    return linear


def warp(magnitudes: Floats, ratio: float) -> Floats:
    """Move spectra [S, mels] along the frequency axis: what stood at f stands at f · ratio."""
    mels = magnitudes.shape[1]
    if mels not in _HERTZ_OF_MEL:
        import librosa

        _HERTZ_OF_MEL[mels] = librosa.mel_frequencies(mels + 2, fmin=0.0, fmax=8000.0)[1:-1]
    hertz = _HERTZ_OF_MEL[mels]
    at = np.interp(hertz / ratio, hertz, np.arange(mels)).astype(np.float32)
    low = np.minimum(at.astype(int), mels - 2)
    share = (at - low).astype(np.float32)
    warped: Floats = magnitudes[:, low] * (1 - share) + magnitudes[:, low + 1] * share
    return warped


def other_tract(spectra: Tensor, mels: int, ratio: float) -> Tensor:
    """Log-mel frames [N, substeps · mels] with formants and harmonics moved by a factor."""
    moved = warp(magnitudes_of(spectra.reshape(-1, mels).numpy()), ratio)
    return log_mel(torch.from_numpy(moved)).reshape(spectra.shape)
