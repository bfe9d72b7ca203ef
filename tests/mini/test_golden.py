"""What `mini` says stays what it is: fingerprints of three results.

They are of the weights and the settings of 2026-12-01: the encoder that begins with
Whisper's layers, and the refiner that reads its content columns and learnt from conversions
between readers.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knnvc import ConvertOptions, MatchingSet, VoiceConverter

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
GOLDEN = json.loads(
    (Path(__file__).parents[1] / "assets" / "golden" / "mini.json").read_text(encoding="utf-8")
)
TEXT = "The meeting is at half past three, in the old library."


@pytest.fixture(scope="module")
def voice(mini: VoiceConverter) -> MatchingSet:
    return mini.matching_set(EXAMPLES / "target")


def fingerprint(waveform: Any) -> tuple[np.ndarray, np.ndarray]:
    """Levels of every 100 ms, and of 16 bands of the whole, in dB."""
    samples = np.asarray(waveform, dtype=np.float64)
    pieces = samples[: len(samples) // 1600 * 1600].reshape(-1, 1600)
    power = np.abs(np.fft.rfft(samples)) ** 2 / len(samples)
    edges = np.linspace(0, len(power), 17).astype(int)
    bands = [power[a:b].mean() for a, b in itertools.pairwise(edges)]
    levels = 10 * np.log10(np.square(pieces).mean(axis=1) + 1e-6)
    return levels, 10 * np.log10(np.array(bands) + 1e-12)


def check(name: str, waveform: Any) -> None:
    """Another processor may choose another neighbour here and there, and no more than that."""
    wanted = GOLDEN[name]
    levels, bands = fingerprint(waveform)
    assert abs(len(waveform) - wanted["samples"]) <= 320  # a frame at the end
    count = min(len(levels), len(wanted["levels"]))
    apart = np.abs(levels[:count] - wanted["levels"][:count])
    assert np.mean(apart < 0.1) > 0.9
    assert apart.max() < 3.0
    assert np.abs(bands - wanted["bands"]).max() < 0.1


def test_a_conversion(mini: VoiceConverter, voice: MatchingSet) -> None:
    check("example", mini.convert(EXAMPLES / "source.wav", voice)[0])


def test_a_conversion_with_every_option(mini: VoiceConverter, voice: MatchingSet) -> None:
    options = ConvertOptions(lam=0.7, k=8, weighting="distance")
    check("example_lam", mini.convert(EXAMPLES / "source.wav", voice, options)[0])


def test_speech_from_text(mini: VoiceConverter, voice: MatchingSet) -> None:
    check("speech", mini.speak(TEXT, voice)[0])


def test_another_result_would_be_noticed(mini: VoiceConverter) -> None:
    """The measure has teeth: a difference that can hardly be heard fails."""
    source, _ = mini.convert(EXAMPLES / "source.wav", EXAMPLES / "target", ConvertOptions(k=2))
    with pytest.raises(AssertionError):
        check("example", source)
