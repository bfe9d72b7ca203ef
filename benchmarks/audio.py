"""Long recordings for the benchmarks, made by repeating those of examples/audio."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, find_audio, load_audio

AUDIO = Path(__file__).parent.parent / "examples/audio"
SOURCE = AUDIO / "source.wav"
TARGET = AUDIO / "target"


def repeated(path: Path, seconds: float) -> Tensor:
    """All recordings at `path`, repeated until `seconds` are full: [T] at 16 kHz."""
    once = torch.cat([load_audio(file) for file in find_audio(path)])
    length = round(seconds * SAMPLE_RATE)
    return once.repeat(-(-length // len(once)))[:length]
