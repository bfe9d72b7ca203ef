"""Loudness is measured by the standard, and reached without clipping."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, measure_loudness, normalize_loudness


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 220.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def voice(seconds: float, rate: int = SAMPLE_RATE) -> Tensor:
    """A harmonic sound of moving pitch, which the detector takes for speech."""
    time = torch.arange(round(seconds * rate)) / rate
    phase = torch.cumsum(130 + 40 * torch.sin(2 * math.pi * 1.3 * time), 0) / rate
    return 0.2 * torch.stack([torch.sin(2 * math.pi * n * phase) / n for n in range(1, 30)]).sum(0)


@pytest.mark.parametrize("target", [-16.0, -30.0])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 3.0])
def test_loudness_reaches_its_target(target: float, seconds: float) -> None:
    loud = normalize_loudness(0.01 * tone(seconds, hertz=1000.0), target=target)
    # BS.1770: a sine near 1 kHz of -3.01 dBFS RMS per channel measures -3.01 LUFS.
    rms = 10 * math.log10(float(loud.square().mean()))
    assert rms == pytest.approx(target, abs=0.3)


def test_loudness_is_what_the_published_code_does() -> None:
    waveform = 0.1 * voice(2.0)
    loudness = torchaudio.functional.loudness(waveform[None], SAMPLE_RATE)
    published = torchaudio.functional.gain(waveform, -16 - loudness)
    torch.testing.assert_close(normalize_loudness(waveform), published, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100])
@pytest.mark.parametrize("seconds", [0.4, 0.55, 3.0, 47.3])
def test_loudness_of_any_rate_and_length(rate: int, seconds: float) -> None:
    noise = torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(1))
    waveform = 0.05 * torch.linspace(0, 1, len(noise)).square() * noise
    whole = float(torchaudio.functional.loudness(waveform[None], rate))
    assert measure_loudness(waveform, rate) == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("waveform", [torch.zeros(16_000), 1e-5 * tone(1.0), torch.zeros(0)])
def test_what_has_no_loudness_stays(waveform: Tensor) -> None:
    assert torch.equal(normalize_loudness(waveform), waveform)


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_loud_signals_are_measured_without_clipping(rate: int) -> None:
    # BS.1770-4: 6 dB more is 6 LU more, at any level; torchaudio's own measure clips its filters.
    wave = 0.1 * tone(3.0, rate, hertz=3000.0)
    quiet, loud = measure_loudness(wave, rate), measure_loudness(15 * wave, rate)
    assert loud - quiet == pytest.approx(20 * math.log10(15), abs=0.01)
