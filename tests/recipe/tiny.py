"""Speech-like sounds of two made-up speakers, and networks that are small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from knnvc.mini.encoder import MiniEncoder, PhoneEncoderConfig, build
from knnvc.mini.refiner import RefinerConfig
from knnvc.tensors import as_single, read_tensors
from knnvc.vocoders.source_filter import SourceFilterConfig
from recipe.data import MINI_ENCODER

RATE = 16_000
ENCODER = PhoneEncoderConfig(
    hidden=32,
    layers=2,
    heads=2,
    feed_forward=64,
    pitch_layer=1,
    head=16,
    states=MINI_ENCODER.states,
    content=8,
    content_layers=(1,),
)
VOCODER = SourceFilterConfig(channels=16, layers=1)
REFINER = RefinerConfig(states=ENCODER.states, encoded=ENCODER.content, channels=16, layers=1)
SPEAKERS = {
    "high": 220.0,
    "low": 110.0,
    "af_nova": 180.0,
}  # the last is held out


def sing(f0: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Harmonics with a moving spectrum, between two stretches of near silence."""
    at = np.arange(int(seconds * RATE)) / RATE
    formant = 700 + 500 * np.sin(2 * np.pi * at * rng.uniform(1, 3))
    wave = sum(
        np.exp(-(((n * f0 - formant) / 900) ** 2)) * np.sin(2 * np.pi * n * f0 * at)
        for n in range(1, 16)
    )
    wave = wave * ((at > 0.2) & (at < seconds - 0.2)) + 1e-3 * rng.normal(size=len(at))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def alignment(name: str, speaker: str, seconds: float) -> dict[str, object]:
    """Silence, three vowels, silence, in Kokoro's 25 ms units."""
    vowel = int((seconds - 0.4) / 0.025 / 3)
    return {
        "file": name,
        "speaker": speaker,
        "text": "aou",
        "phones": ["a", "ˈ", "o", "ː", "u"],
        "durations": [8, vowel, 1, vowel - 2, 1, vowel, 8],
        "seconds": seconds,
    }


def load_encoder(path: Path) -> MiniEncoder:
    return MiniEncoder(build(ENCODER, as_single(read_tensors(path)[0])))
