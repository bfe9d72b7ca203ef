"""Loudness is measured by the standard, and reached without clipping."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio
from torch import Tensor

import knnvc.audio.loudness
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
    assert torch.equal(normalize_loudness(waveform), published)


def test_loudness_of_long_audio_is_measured_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    swell = torch.linspace(0, 1, 10 * SAMPLE_RATE).square()
    waveform = swell * voice(10.0)
    whole = torchaudio.functional.loudness(waveform[None], SAMPLE_RATE)
    torch.testing.assert_close(
        knnvc.audio.loudness._loudness(waveform, SAMPLE_RATE), whole, atol=0, rtol=0
    )
    for seconds in (0.05, 0.7, 3.0, 9.95):
        monkeypatch.setattr(knnvc.audio.loudness, "_STRETCH_SECONDS", seconds)
        stretches = knnvc.audio.loudness._loudness(waveform, SAMPLE_RATE)
        torch.testing.assert_close(stretches, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("waveform", [torch.zeros(16_000), 1e-5 * tone(1.0), torch.zeros(0)])
def test_what_has_no_loudness_stays(waveform: Tensor) -> None:
    assert torch.equal(normalize_loudness(waveform), waveform)


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_loud_signals_are_measured_without_clipping(rate: int) -> None:
    # BS.1770-4: 6 dB more is 6 LU more, at any level; torchaudio's own measure clips its filters.
    wave = 0.1 * tone(3.0, rate, hertz=3000.0)
    quiet, loud = measure_loudness(wave, rate), measure_loudness(15 * wave, rate)
    assert loud - quiet == pytest.approx(20 * math.log10(15), abs=0.01)
