"""Corpora as training data: phone-state labels from durations, pitch, log-mel spectra.

B batch, T frames of 20 ms, `mel` spectra of 10 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from knnvc.audio.pitch import f0_track
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path
from knnvc.mini.encoder import PhoneEncoder, PhoneEncoderConfig
from knnvc.mini.format import HOP
from knnvc.mini.refiner import RefinerConfig
from knnvc.text.phones import FRAME, IGNORED, STATES
from knnvc.training.aligned import frame_states, is_held_out, read_alignments
from knnvc.vocoders.source_filter import SourceFilterConfig
from recipe.recordings import read_recordings
from recipe.twins import read_twins

# The dimensions of `mini`.
MINI_ENCODER = PhoneEncoderConfig(states=STATES, content_layers=(2, 4))
MINI_VOCODER = SourceFilterConfig()
MINI_REFINER = RefinerConfig(
    states=STATES, encoded=MINI_ENCODER.content, normed=False, views=(1, 16), layers=12
)

LEAST_CONFIDENCE = 0.78  # mean probability of the likeliest phone: below it the teacher guesses


@dataclass(frozen=True)
class Utterance:
    """One recording, ready for training.

    Shapes: `mel` [2T, mels] float16 log-mel, `states` [T] int16, `f0` [T] Hz with 0 for unvoiced.
    `posteriors` [T, states] float16 stand in for the states where only a teacher has named them.
    """

    file: str
    speaker: str
    mel: npt.NDArray[np.float16]
    states: npt.NDArray[np.int16]
    f0: npt.NDArray[np.float32]
    posteriors: npt.NDArray[np.float16] | None = None
    held_out: bool = False


def load_corpus(corpus: Path, network: PhoneEncoder) -> list[Utterance]:
    """Every aligned utterance of a corpus; spectra and pitch are cached as .npz.

    Raises:
        KnnvcError: there is none.
    """
    out = [_utterance(corpus, record, network) for record in read_alignments(corpus)]
    if not out:
        raise KnnvcError(f"{corpus} holds no aligned speech: make it with `vocoder/mini.py corpus`")
    return out


def load_twins(corpus: Path, network: PhoneEncoder) -> dict[str, Utterance]:
    """The twins of a corpus (see `recipe.twins`), by the files of what they repeat."""
    return {
        record["original"]: _utterance(corpus, record, network) for record in read_twins(corpus)
    }


def load_recordings(corpus: Path, network: PhoneEncoder) -> list[Utterance]:
    """The real speech of a corpus whose phones a teacher has named with some confidence.

    See `recipe.recordings` and `recipe.teacher`; there may be none.
    """
    out = []
    for record in read_recordings(corpus):
        posteriors = _heard(corpus / record["posteriors"])
        if posteriors is None:
            continue
        mel, f0 = spectra_of(corpus / record["file"], network)
        frames = min(len(posteriors), len(f0))
        unknown = np.full(frames, IGNORED, np.int16)
        out.append(
            Utterance(
                record["file"],
                record["speaker"],
                mel[: frames * network.config.substeps],
                unknown,
                f0[:frames],
                posteriors[:frames],
            )
        )
    return out


def _heard(path: Path) -> npt.NDArray[np.float16] | None:
    """The posteriors that a teacher wrote; None if there are none, or it was not sure."""
    if not path.exists():
        return None
    with np.load(path) as saved:
        posteriors: npt.NDArray[np.float16] = saved["posteriors"]
        return posteriors if float(saved["confidence"]) >= LEAST_CONFIDENCE else None


def hours(utterances: Sequence[Utterance]) -> float:
    """How long they are together."""
    return sum(len(u.f0) for u in utterances) * FRAME / 3600


def recorded(recordings: Sequence[Utterance]) -> dict[str, str]:
    """What is kept with weights that learnt from `recordings`; nothing if there were none."""
    return {"recorded_hours": f"{hours(recordings):.2f}"} if recordings else {}


def _utterance(corpus: Path, record: dict[str, Any], network: PhoneEncoder) -> Utterance:
    mel, f0 = spectra_of(corpus / record["file"], network)
    states = frame_states(record, len(f0))
    return Utterance(
        record["file"], record["speaker"], mel, states, f0, held_out=is_held_out(record)
    )


def spectra_of(
    audio: Path, network: PhoneEncoder
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
    """Log-mel [2T, mels] and f0 [T] of a 16 kHz file, cached beside it."""
    cache = audio.with_suffix(".npz")
    if not cache.exists():
        wave, _ = sf.read(audio, dtype="float32")
        with torch.inference_mode():
            mel = network.log_mel(torch.from_numpy(wave)[None])[0]
        frames = len(wave) // HOP
        substeps = network.config.substeps
        rows = mel.reshape(frames * substeps, -1).half().numpy()
        with atomic_path(cache) as temporary:
            np.savez(temporary, mel=rows, f0=f0_track(wave, frames))
    with np.load(cache) as saved:
        return saved["mel"], saved["f0"]


def split(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to train on, and those of the speakers held out.

    Raises:
        KnnvcError: there is nothing to train on.
    """
    training = [u for u in utterances if not u.held_out]
    if not training:
        raise KnnvcError("every speaker of the corpus is held out: make a longer corpus")
    return training, [u for u in utterances if u.held_out]
