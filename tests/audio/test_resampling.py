"""Rates are converted in blocks, to an exact length, without changing what is heard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import knnvc.audio.resampling
from knnvc.audio import SAMPLE_RATE, converted_length, resample
from knnvc.errors import UsageError

# The folder of a test is shared by its examples on purpose: each writes over the last.
examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 220.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@examples
@given(
    frames=st.integers(1, 30_000),
    rates=st.sampled_from(
        [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (96_000, 16_000), (16_000, 22_050)]
    ),
    block=st.integers(1, 8_000),
)
def test_blocks_change_nothing(frames: int, rates: tuple[int, int], block: int) -> None:
    waveform = torch.from_numpy(np.random.default_rng(frames).uniform(-1, 1, frames)).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knnvc.audio.resampling, "_BLOCK_SAMPLES", max(block, frames // 50 + 1))
        blocked = resample(waveform, *rates)
    whole = torchaudio.functional.resample(waveform, *rates)
    assert len(whole) - 1 <= len(blocked) <= len(whole)
    torch.testing.assert_close(blocked, whole[: len(blocked)], atol=1e-6, rtol=0)


RATES = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_100, 44_101, 48_000]


@examples
@given(
    frames=st.integers(0, 40_000),
    before=st.sampled_from([*RATES, 96_000, 192_000]),
    after=st.sampled_from([16_000, 22_050, 24_000, 44_100, 48_000]),
)
def test_the_length_is_exact(frames: int, before: int, after: int) -> None:
    converted = resample(torch.zeros(frames), before, after)
    expected = max(1, round(frames * after / before)) if frames else 0
    assert len(converted) == converted_length(frames, before, after) == expected


def test_nothing_resamples_to_nothing() -> None:
    assert resample(torch.zeros(0), 44_100, SAMPLE_RATE).shape == (0,)
    assert resample(torch.zeros(0), 44_101, SAMPLE_RATE).shape == (0,)


@pytest.mark.parametrize("rate", [44_101, 15_999, 47_999, 767_999])
def test_odd_rates_keep_length_and_pitch(rate: int) -> None:
    converted = resample(tone(1.0, rate, hertz=1000.0), rate, SAMPLE_RATE)
    assert len(converted) == SAMPLE_RATE
    error = (converted - tone(1.0, hertz=1000.0))[500:-500].abs().max()
    assert error < 2e-3


@pytest.mark.parametrize("rate", [0, -16_000, 3_999, 768_001, 10**30, math.nan, math.inf, "fast"])
def test_impossible_rates_are_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match="sampling rate of"):
        resample(tone(0.1), rate, SAMPLE_RATE)
