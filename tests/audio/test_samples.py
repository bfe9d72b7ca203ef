"""Samples that Python callers hold become waveforms, or are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, require_audio, to_waveform
from knnvc.errors import KnnvcError


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 220.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(
    "samples",
    [
        np.array([0.5, -0.25], np.float64),
        np.array([0.5, -0.25], np.float16),
        np.array([16384, -8192], np.int16),
        np.array([2**30, -(2**29)], np.int32),
        np.array([64, -32], np.int8),
        np.array([192, 96], np.uint8),
        [0.5, -0.25],
        torch.tensor([0.5, -0.25], dtype=torch.float64, requires_grad=True),
        torch.tensor([16384, -8192], dtype=torch.int16),
        np.array([[0.5, -0.25]]),
        (np.array([0.5, -0.25]), 16_000),
    ],
)
def test_every_type_has_its_full_scale(samples: Any) -> None:
    torch.testing.assert_close(to_waveform(samples), torch.tensor([0.5, -0.25]))


def test_channels_are_on_the_shorter_axis() -> None:
    left, right = torch.rand(2, 1000)
    expected = (left + right) / 2
    torch.testing.assert_close(to_waveform(torch.stack([left, right])), expected)
    torch.testing.assert_close(to_waveform(torch.stack([left, right], dim=1)), expected)


def test_a_rate_beside_the_samples_is_converted() -> None:
    expected = torchaudio.functional.resample(tone(0.5, 44_100), 44_100, SAMPLE_RATE)
    torch.testing.assert_close(to_waveform((tone(0.5, 44_100).numpy(), 44_100)), expected)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.float32(0.5), "0 dimensions"),
        (np.zeros((500, 500)), "not channels and samples"),
        (np.zeros(0), "no samples"),
        (np.zeros((1, 0)), "no samples"),
        (np.array([0.0, np.nan]), "not finite"),
        (np.zeros(5, np.int64), "full scale is unknown"),
        (np.zeros(5, bool), "full scale is unknown"),
        (np.zeros(5, complex), "full scale is unknown"),
        ("voice.wav", "not an array"),
        (None, "not an array"),
        ((np.zeros(5), 0), "sampling rate of 0"),
        ((np.zeros(5), 44_100.5), "sampling rate of 44100.5"),
        ((np.zeros(5), math.nan), "sampling rate of nan"),
    ],
)
def test_what_is_not_a_waveform_is_refused(bad: Any, words: str) -> None:
    with pytest.raises(KnnvcError, match=words) as caught:
        to_waveform(bad, name="the source")
    assert "\n" not in str(caught.value)


def test_require_audio() -> None:
    for bad, words in [
        (torch.zeros(0), "no samples"),
        (tone(0.02), "only 20 ms long; use a recording of at least 25 ms"),
        (torch.zeros(16_000), "entirely silent"),
        (tone(1.0) * 1e-6, "entirely silent"),
    ]:
        with pytest.raises(KnnvcError, match=f"^a.wav .*{words}"):
            require_audio(bad, "a.wav")
    quiet = tone(0.025) * 1e-3
    assert require_audio(quiet, "a.wav") is quiet
    with pytest.raises(KnnvcError, match="at least 1000 ms"):
        require_audio(tone(0.5), "a.wav", minimum_seconds=1.0)
