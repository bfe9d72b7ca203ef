"""Silence is cut at the ends, as published kNN-VC cuts it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, trim_silence


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 220.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def voice(seconds: float, rate: int = SAMPLE_RATE) -> Tensor:
    """A harmonic sound of moving pitch, which the detector takes for speech."""
    time = torch.arange(round(seconds * rate)) / rate
    phase = torch.cumsum(130 + 40 * torch.sin(2 * math.pi * 1.3 * time), 0) / rate
    return 0.2 * torch.stack([torch.sin(2 * math.pi * n * phase) / n for n in range(1, 30)]).sum(0)


def test_silence_is_cut_at_both_ends() -> None:
    speech = voice(2.0)
    hum = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-4, 32_000)).float()
    trimmed = trim_silence(torch.cat([hum, speech, hum]))
    assert abs(len(trimmed) - len(speech)) < 0.5 * SAMPLE_RATE
    assert trimmed.square().mean() > 0.8 * speech.square().mean()
    assert torch.equal(trim_silence(hum, trigger_level=0.0), hum)


def test_trimming_is_what_the_published_code_does() -> None:
    hum = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-4, 20_000)).float()
    waveform = torch.cat([hum, voice(2.0), hum])
    transform = torchaudio.transforms.Vad(sample_rate=SAMPLE_RATE, trigger_level=7)
    published = torch.flip(transform(torch.flip(transform(waveform[None]), (-1,))), (-1,))[0]
    assert 0 < len(published) < len(waveform)
    assert torch.equal(trim_silence(waveform), published)


@pytest.mark.parametrize("waveform", [tone(0.05), torch.zeros(16_000), torch.zeros(1)])
def test_where_no_speech_is_found_nothing_is_cut(waveform: Tensor) -> None:
    assert torch.equal(trim_silence(waveform), waveform)
