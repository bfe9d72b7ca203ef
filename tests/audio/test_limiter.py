"""Speech reaches the loudness that was asked for, and no peak passes the ceiling."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from knnvc.audio import load_audio, measure_loudness, normalize, resample
from knnvc.audio.limiter import Limiter, true_peak
from knnvc.errors import KnnvcWarning

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"


def peak_between(waveform: Tensor, times: int = 8) -> float:
    """dBTP by an interpolator that is not the limiter's, and finer."""
    fine = scipy.signal.resample_poly(waveform.double().numpy(), times, 1, window=("kaiser", 8.0))
    return 20 * math.log10(float(np.abs(fine).max()))


def crest(waveform: Tensor) -> float:
    """Peak over mean square of what is not silent, in dB."""
    loud = waveform[waveform.abs() > 1e-3 * waveform.abs().max()]
    return 20 * math.log10(float(waveform.abs().max() / loud.square().mean().sqrt()))


def ordinary() -> Iterator[tuple[Tensor, int]]:
    """54 results as conversions are: -14 to -25 LUFS, with crest factors from 12 to 22 dB."""
    paths = sorted((EXAMPLES / "target").glob("*.flac"))
    generator = torch.Generator().manual_seed(0)
    for number in range(54):
        speech = load_audio(paths[number % len(paths)])
        # Pulses at a random few places lift the crest factor, as vocoders' onsets do.
        onsets = torch.zeros_like(speech)
        places = torch.randint(0, len(speech), (12,), generator=generator)
        onsets[places] = float(speech.abs().max()) * (number % 3) * 0.8
        burst = torch.hann_window(25)[None, None] * torch.sin(torch.arange(25) * 1.1)
        onsets = torch.nn.functional.conv1d(onsets[None, None], burst, padding=12)[0, 0]
        rate = (16_000, 22_050, 24_000)[number % 3]
        wave = resample(speech + onsets, 16_000, rate)
        level = -25 + 11 * number / 53
        yield wave * 10 ** ((level - measure_loudness(wave, rate)) / 20), rate


def test_ordinary_speech_reaches_minus_16_lufs_without_a_warning() -> None:
    misses, crests, limited = [], [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for waveform, rate in ordinary():
            crests.append(crest(waveform))
            made = normalize(waveform, rate, -16.0)
            assert made.shape == waveform.shape
            assert peak_between(made) <= -1.0
            misses.append(measure_loudness(made, rate) + 16)
            limited += not torch.allclose(
                made, waveform * (made.abs().sum() / waveform.abs().sum())
            )
    assert max(map(abs, misses)) < 0.5
    assert limited > 20  # else this test would show nothing
    assert min(crests) < 15
    assert max(crests) > 20


def test_the_words_stay_as_they_are() -> None:
    waveform = load_audio(EXAMPLES / "source.wav")
    waveform = waveform * 10 ** ((-22 - measure_loudness(waveform)) / 20)
    made = normalize(waveform, 16_000, -16.0)
    gain = (made @ waveform) / waveform.square().sum()
    changed = 10 * math.log10(float((made - gain * waveform).square().sum() / made.square().sum()))
    assert changed < -15  # dB; clipping at the ceiling would be a few dB better, and crackle
    quiet = waveform.abs() < 0.01 * waveform.abs().max()
    ratio = made[quiet].square().sum() / waveform[quiet].square().sum()
    assert ratio > 0.5 * gain**2


def test_where_nothing_is_too_loud_it_is_only_scaled() -> None:
    waveform = 0.05 * load_audio(EXAMPLES / "source.wav")
    made = normalize(waveform, 16_000, -35.0)
    ratio = made[waveform != 0] / waveform[waveform != 0]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-5, atol=0)
    assert measure_loudness(made) == pytest.approx(-35, abs=0.01)


def test_the_loudness_of_the_source_or_none() -> None:
    waveform = 0.1 * load_audio(EXAMPLES / "source.wav")
    assert normalize(waveform, 16_000, None) is waveform
    assert normalize(waveform, 16_000, "source") is waveform
    assert normalize(waveform, 16_000, "source", source_loudness=-math.inf) is waveform
    made = normalize(waveform, 16_000, "source", source_loudness=-21.5)
    assert measure_loudness(made) == pytest.approx(-21.5, abs=0.5)
    silence = torch.zeros(16_000)
    assert torch.equal(normalize(silence, 16_000, -16.0), silence)
    assert len(normalize(torch.zeros(0), 16_000, -16.0)) == 0


def test_what_cannot_be_so_loud_is_told() -> None:
    clicks = torch.zeros(5 * 16_000)
    clicks[::4000] = 0.9
    with pytest.warns(KnnvcWarning, match=r"LUFS instead of -16"):
        made = normalize(clicks, 16_000, -16.0)
    assert true_peak(made) <= -1.0
    assert measure_loudness(made) < -18


def test_in_place_is_the_same() -> None:
    waveform = load_audio(EXAMPLES / "source.wav")
    expected = normalize(waveform.clone(), 16_000, -14.0)
    again = normalize(waveform, 16_000, -14.0, in_place=True)
    assert again is waveform
    assert torch.equal(again, expected)


@pytest.mark.parametrize("size", [1, 100, 999, 5_000])
@pytest.mark.parametrize("seconds", [0.001, 0.05, 2.0])
def test_blocks_change_nothing(size: int, seconds: float) -> None:
    rate = 16_000
    waveform = 2 * torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(1))
    waveform *= torch.linspace(0, 1, len(waveform)).square()
    if size == 1:
        waveform = waveform[-400:]
    whole = torch.cat(list(Limiter(rate)([waveform])))
    parts = torch.cat(list(Limiter(rate)(waveform.split(size))))
    assert len(parts) == len(whole) == len(waveform)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("hertz", [50.0, 997.0, 3_999.0, 5_333.0, 7_500.0])
@pytest.mark.parametrize("phase", [0.0, 0.7])
def test_peaks_between_samples_are_limited(hertz: float, phase: float) -> None:
    time = torch.arange(16_000, dtype=torch.float64) / 16_000
    wave = (1.9 * torch.sin(2 * math.pi * hertz * time + phase)).float()
    wave *= torch.hann_window(len(wave))
    made = torch.cat(list(Limiter(16_000)([wave])))
    assert peak_between(made) <= -1.0 + 0.05
    assert peak_between(made) > -1.5


def test_a_true_peak_is_found_between_samples() -> None:
    # A sine at a quarter of the rate, sampled 45 degrees off its peaks: ITU-R BS.1770-4, annex 2.
    time = torch.arange(16_000)
    wave = 0.5 * torch.sin(math.pi / 2 * time + math.pi / 4) * torch.hann_window(16_000)
    assert 20 * math.log10(float(wave.abs().max())) == pytest.approx(-9.03, abs=0.01)
    assert true_peak(wave) == pytest.approx(-6.02, abs=0.05)
    assert true_peak(torch.zeros(10)) == -math.inf
