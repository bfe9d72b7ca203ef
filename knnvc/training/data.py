"""Corpora as training data: phone-state labels from durations, pitch, log-mel spectra.

B batch, T frames of 20 ms, `mel` spectra of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from knnvc.audio import HOP
from knnvc.encoder import MelWavLM, MelWavLMConfig
from knnvc.errors import KnnvcError
from knnvc.pitch import f0_track
from knnvc.refiner import RefinerConfig
from knnvc.source_filter import SourceFilterConfig
from knnvc.training.kokoro import DURATION_UNIT, HELD_OUT, read_alignments

STRESS = frozenset("ˈˌ")
LENGTHENING = frozenset("ːʰʲ̃")
PUNCTUATION = frozenset(';:,.!?—…"()“”')
SILENCE = "sil"
IGNORED = -100

# The phones of espeak-ng's en-us and en-gb in Kokoro's vocabulary, in a fixed order, so that
# a longer corpus never renumbers the states of a trained encoder.
PHONES = tuple("abdefhijklmnopstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɹɾʃʊʌʒʔθᵻ")

# The dimensions of `mini`.
MINI_ENCODER = MelWavLMConfig(states=1 + 3 * len(PHONES))
MINI_VOCODER = SourceFilterConfig()
MINI_REFINER = RefinerConfig(states=MINI_ENCODER.states)


@dataclass(frozen=True)
class Utterance:
    """One recording, ready for training.

    Shapes: `mel` [2T, mels] float16 log-mel, `states` [T] int16, `f0` [T] Hz with 0 for unvoiced.
    """

    file: str
    speaker: str
    mel: npt.NDArray[np.float16]
    states: npt.NDArray[np.int16]
    f0: npt.NDArray[np.float32]


def segments(phones: list[str], durations: list[int]) -> list[tuple[str | None, float]]:
    """Token durations, with one more at either end for the padding, as (phone, seconds).

    A stress mark's time goes to the phone that follows, a length mark's to the one before;
    punctuation is silence; spaces are None, as they fall inside speech.
    """
    found: list[list[Any]] = [[SILENCE, durations[0]]]
    pending = 0
    for phone, duration in zip(phones, durations[1:-1], strict=True):
        if phone in STRESS:
            pending += duration
            continue
        if phone in LENGTHENING:
            found[-1][1] += duration + pending
        elif phone == " ":
            found.append([None, duration + pending])
        elif phone in PUNCTUATION:
            found.append([SILENCE, duration + pending])
        else:
            found.append([phone, duration + pending])
        pending = 0
    found.append([SILENCE, durations[-1] + pending])
    return [(phone, units * DURATION_UNIT) for phone, units in found]


def frame_states(record: dict[str, Any], frames: int) -> npt.NDArray[np.int16]:
    """State of every 20 ms frame [T]: 0 silence, 1 + 3·phone + third; IGNORED where unknown."""
    number = {phone: index for index, phone in enumerate(PHONES)}
    states = np.full(frames, IGNORED, dtype=np.int16)
    start = 0.0
    for phone, seconds in segments(record["phones"], record["durations"]):
        first = max(0, int(np.ceil((start / 0.02) - 0.5)))
        last = min(frames, int(np.ceil(((start + seconds) / 0.02) - 0.5)))
        if phone == SILENCE:
            states[first:last] = 0
        elif phone in number:
            centres = (np.arange(first, last) + 0.5) * 0.02
            third = np.minimum(2, (3 * (centres - start) / max(seconds, 1e-6)).astype(int))
            states[first:last] = 1 + 3 * number[phone] + third
        start += seconds
    return states


def load_corpus(corpus: Path, network: MelWavLM) -> list[Utterance]:
    """Every aligned utterance of a corpus; spectra and pitch are cached as .npz.

    Raises:
        KnnvcError: there is none.
    """
    out = []
    for record in read_alignments(corpus):
        audio = corpus / record["file"]
        cache = audio.with_suffix(".npz")
        if not cache.exists():
            wave, _ = sf.read(audio, dtype="float32")
            with torch.inference_mode():
                mel = network.log_mel(torch.from_numpy(wave)[None])[0]
            frames = len(wave) // HOP
            substeps = network.config.substeps
            temporary = cache.with_suffix(".tmp.npz")
            np.savez(
                temporary,
                mel=mel.reshape(frames * substeps, -1).half().numpy(),
                f0=f0_track(wave, frames),
            )
            temporary.replace(cache)
        with np.load(cache) as saved:
            mel16, f0 = saved["mel"], saved["f0"]
        out.append(
            Utterance(record["file"], record["speaker"], mel16, frame_states(record, len(f0)), f0)
        )
    if not out:
        raise KnnvcError(f"{corpus} holds no aligned speech: make it with `knnvc train corpus`")
    return out


def split(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to train on, and those of the speakers held out.

    Raises:
        KnnvcError: there is nothing to train on.
    """
    training = [u for u in utterances if u.speaker not in HELD_OUT]
    if not training:
        raise KnnvcError("every speaker of the corpus is held out: make a longer corpus")
    return training, [u for u in utterances if u.speaker in HELD_OUT]
