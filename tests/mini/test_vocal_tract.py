"""Spectra as of another vocal tract."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from knnvc.mini.encoder import PhoneEncoderConfig
from knnvc.mini.vocal_tract import log_mel, magnitudes_of, other_tract, warp

MELS = PhoneEncoderConfig().mels


def test_log_mel_and_magnitudes_are_inverse() -> None:
    magnitudes = np.random.default_rng(0).uniform(0, 30, (5, MELS)).astype(np.float32)
    back = magnitudes_of(log_mel(torch.from_numpy(magnitudes)).numpy())
    assert np.allclose(back, magnitudes, rtol=1e-3, atol=1e-4)


def test_nothing_moves_by_a_factor_of_one() -> None:
    frames = log_mel(torch.rand(7, 2 * MELS))
    assert torch.allclose(other_tract(frames, MELS, 1.0), frames, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.85, 1.18])
def test_a_peak_moves_by_the_factor(ratio: float) -> None:
    import librosa

    hertz = librosa.mel_frequencies(MELS + 2, fmin=0.0, fmax=8000.0)[1:-1]
    peak = np.exp(-0.5 * (np.log(hertz / 1000) / 0.1) ** 2).astype(np.float32)[None]
    at = hertz[int(warp(peak, ratio)[0].argmax())]
    assert at == pytest.approx(1000 * ratio, rel=0.04)
