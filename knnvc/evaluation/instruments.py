"""What listens to a waveform: recognisers, speaker verifiers, and models of naturalness.

Their weights come inside their packages, so nothing is downloaded when they run. Waveforms are [S]
float32 at 16 kHz, as everywhere in this package.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from knnvc.audio import SAMPLE_RATE
from knnvc.audio.pitch import f0_track
from knnvc.evaluation.recognisers import RECOGNISERS, WHISPER, recogniser, version
from knnvc.evaluation.verifiers import RESEMBLYZER, VERIFIERS, Vector, Wave
from knnvc.extras import need, require
from knnvc.text.english import number_in_words

MODULES = ("distillmos", "jiwer", "matplotlib", "scipy", "sklearn", "speechmos")
LEAST_VOICED = 10  # frames voiced in both recordings, 0.2 s: with fewer, no correlation is given
MOST_DIGITS = 12  # of a numeral that is spelt out


@dataclass(frozen=True)
class Heard:
    """What the instruments say about one waveform.

    Attributes:
        texts: by recogniser, as `plain` writes them; empty texts if nobody asked for words.
        embeddings: by verifier, of unit length.
        distillmos: predicted mean opinion score, 1 to 5.
        dnsmos: predicted overall mean opinion score, 1 to 5.
    """

    texts: dict[str, str]
    embeddings: dict[str, Vector]
    distillmos: float
    dnsmos: float

    @property
    def words(self) -> str:
        """What the first recogniser hears."""
        return next(iter(self.texts.values()))

    @property
    def embedding(self) -> Vector:
        """The first verifier's."""
        return next(iter(self.embeddings.values()))


@dataclass(frozen=True)
class Errors:
    """Edits that turn what was heard into what was said, and how much was said."""

    words: int
    word_errors: int
    characters: int
    character_errors: int


class Listener(Protocol):
    """What an evaluation needs; `Instruments` is the real one."""

    def names(self) -> dict[str, str]:
        """What is measured: the instrument and its version."""

    def listen(self, wave: Wave, words: bool = True) -> Heard:
        """Measure `wave` [S], its English words only if there are any to expect."""

    def embed(self, wave: Wave) -> dict[str, Vector]:
        """Speaker embeddings of `wave` [S] by verifier, of unit length."""


class Instruments:
    """The real instruments; each is loaded when first used.

    Args:
        recognisers: beside Whisper, of `RECOGNISERS`.
        verifiers: beside Resemblyzer, of `VERIFIERS`.
        numerals: write "10" as "ten"; for texts whose numerals are spelt out.

    Raises:
        UsageError: packages are missing.
    """

    def __init__(
        self,
        recognisers: Sequence[str] = (),
        verifiers: Sequence[str] = (),
        *,
        numerals: bool = False,
    ) -> None:
        require(MODULES)
        self.numerals = numerals
        heard_by = dict.fromkeys([WHISPER, *recognisers])
        judged_by = dict.fromkeys([RESEMBLYZER, *verifiers])
        self.recognisers = {name: recogniser(name) for name in heard_by}
        self.verifiers = {name: VERIFIERS[name]() for name in judged_by}

    def names(self) -> dict[str, str]:
        """What is measured: the instrument and its version."""
        return {
            **{f"words, {name}": one.about for name, one in self.recognisers.items()},
            **{f"speaker, {name}": one.about for name, one in self.verifiers.items()},
            "naturalness": f"{version('distillmos')}; DNSMOS of {version('speechmos')}",
            "pitch": f"DIO and StoneMask of {version('pyworld-prebuilt')}",
        }

    def listen(self, wave: Wave, words: bool = True) -> Heard:
        """Measure `wave` [S] with all of them, or with all but the recognisers."""
        texts = {name: self._text(name, wave) if words else "" for name in self.recognisers}
        return Heard(texts, self.embed(wave), self._distillmos(wave), self._dnsmos(wave))

    def embed(self, wave: Wave) -> dict[str, Vector]:
        """Speaker embeddings of `wave` [S] by verifier, of unit length."""
        return {name: one.embed(wave) for name, one in self.verifiers.items()}

    def embedding(self, wave: Wave) -> Vector:
        """Resemblyzer's embedding [256] of `wave` [S], of unit length."""
        return self.verifiers[RESEMBLYZER].embed(wave)

    def words(self, wave: Wave) -> str:
        """What Whisper hears in `wave` [S], as `plain` writes it."""
        return self._text(WHISPER, wave)

    def _text(self, name: str, wave: Wave) -> str:
        text = self.recognisers[name].hear(wave)
        return plain(spelt(text) if self.numerals else text)

    def _distillmos(self, wave: Wave) -> float:
        with torch.inference_mode():
            return float(self._distillmos_model(torch.from_numpy(wave)[None]))

    def _dnsmos(self, wave: Wave) -> float:
        scaled = wave / max(1.0, float(np.abs(wave).max()))  # it refuses what goes past full scale
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(need("speechmos.dnsmos").run(scaled, sr=SAMPLE_RATE)["ovrl_mos"])

    @cached_property
    def _distillmos_model(self) -> Any:
        package = need("distillmos")
        with contextlib.redirect_stdout(io.StringIO()):  # it tells where its weights lie
            return package.ConvTransformerSQAModel().eval()


def plain(text: str) -> str:
    """Lower case; the letters a to z and apostrophes; one space between words.

    Digits are dropped, as all other signs. LibriSpeech's and VCTK's transcripts have none.
    """
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def spelt(text: str) -> str:
    """`text` with its numerals in words."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return re.sub(
        r"\d+", lambda found: f" {number_in_words(found[0][:MOST_DIGITS], 'cardinal')} ", text
    )


def errors(said: str, heard: str) -> Errors:
    """Edit distances between two `plain` texts, in words and in characters.

    An empty `said` (a clip in which nothing is understood) counts no words, so it cannot weigh.
    """
    if not said:
        return Errors(0, 0, 0, 0)
    jiwer = need("jiwer")
    words, letters = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
    return Errors(
        words.hits + words.substitutions + words.deletions,
        words.substitutions + words.deletions + words.insertions,
        letters.hits + letters.substitutions + letters.deletions,
        letters.substitutions + letters.deletions + letters.insertions,
    )


def pitch_correlation(one: Wave, other: Wave) -> float | None:
    """Pearson correlation of log f0 where both waveforms [S] are voiced; None if hardly anywhere.

    They are compared frame by frame and must be aligned, as a conversion is with its source.
    """
    frames = min(len(one), len(other)) // 320
    tracks = np.stack([f0_track(wave, frames) for wave in (one, other)])
    voiced = tracks[:, (tracks > 0).all(0)]
    if voiced.shape[1] < LEAST_VOICED:
        return None
    logs = np.log(voiced)
    return float(np.corrcoef(logs)[0, 1]) if (logs.std(1) > 0).all() else None


__all__ = [
    "RECOGNISERS",
    "VERIFIERS",
    "Errors",
    "Heard",
    "Instruments",
    "Listener",
    "Vector",
    "Wave",
    "errors",
    "pitch_correlation",
    "plain",
    "spelt",
]
