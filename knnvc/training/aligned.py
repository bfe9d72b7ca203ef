"""Corpora whose phones are aligned: one JSON line for each utterance, in `alignments-*.jsonl`.

A line has `file`, `speaker`, `text`, `phones` (IPA signs) and their `durations` in units of 25 ms,
with one more at either end for the silence there. `vocoder/` has the recipe that makes such a
corpus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knnvc.text.phones import states_of_frames

DURATION_UNIT = 0.025  # seconds; Kokoro predicts durations in it

# Never heard in training, neither alone nor inside a blend: both sexes, several accents.
HELD_OUT = (
    "af_nova",
    "af_sarah",
    "am_fenrir",
    "am_puck",
    "bf_lily",
    "bm_lewis",
    "ef_dora",
    "im_nicola",
)


def is_held_out(record: dict[str, Any]) -> bool:
    """Whether the speaker of an utterance is kept from training: one of `HELD_OUT`, or so marked.

    A line of real readers has `held_out`, which is true or false.
    """
    return bool(record.get("held_out")) or record["speaker"] in HELD_OUT


def read_alignments(corpus: Path) -> list[dict[str, Any]]:
    """The records of all utterances whose audio exists, sorted by file."""
    return read_table(corpus, "alignments-*.jsonl")


def read_table(corpus: Path, tables: str) -> list[dict[str, Any]]:
    """The records in the files `tables` (a pattern), sorted by file.

    Left out are those of which neither the audio exists, nor what trainings keep of it (.npz).
    """
    records = [
        json.loads(line)
        for table in sorted(corpus.glob(tables))
        for line in table.read_text(encoding="utf-8").splitlines()
    ]
    found = [record for record in records if _exists(corpus / record["file"])]
    return sorted(found, key=lambda record: str(record["file"]))


def _exists(audio: Path) -> bool:
    return audio.exists() or audio.with_suffix(".npz").exists()


def frame_states(record: dict[str, Any], frames: int) -> npt.NDArray[np.int16]:
    """State of every 20 ms frame [T] of an aligned utterance; see `knnvc.text.phones`."""
    return states_of_frames(record["phones"], record["durations"], DURATION_UNIT, frames)
