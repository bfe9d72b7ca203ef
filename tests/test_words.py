"""What an independent speech recogniser hears: the words of a real recording survive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from knnvc.audio import load_audio
from knnvc.evaluation.instruments import Instruments, errors
from knnvc.pipeline import VoiceConverter
from knnvc.vocoders.classical import world

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"
TEXT = (
    "and mr john dashwood had then leisure to consider how much there might be prudently in his "
    "power to do for them"
)


@pytest.fixture(scope="module")
def error_rate() -> Callable[[Tensor], float]:
    """Word error rate of a waveform [S] against TEXT, by Whisper tiny.en."""
    instruments = Instruments()

    def measure(waveform: Tensor) -> float:
        counted = errors(TEXT, instruments.words(waveform.numpy()))
        return counted.word_errors / counted.words

    return measure


def test_the_recording_itself(error_rate: Callable[[Tensor], float]) -> None:
    assert error_rate(load_audio(EXAMPLES / "source.wav")) <= 0.05


def test_copy_synthesis_keeps_the_words(
    mini: VoiceConverter, error_rate: Callable[[Tensor], float]
) -> None:
    source = load_audio(EXAMPLES / "source.wav")
    assert error_rate(world(source)) <= 0.1
    assert error_rate(mini.vocode(mini.encode((source, 16_000)))) <= 0.2


def test_conversion_keeps_most_words(
    mini: VoiceConverter, error_rate: Callable[[Tensor], float]
) -> None:
    made, _ = mini.convert(EXAMPLES / "source.wav", EXAMPLES / "target")
    assert error_rate(torch.from_numpy(made)) <= 0.5
