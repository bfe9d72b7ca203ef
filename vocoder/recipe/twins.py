"""Twins: the utterances of a corpus again, frame by frame alike, in other voices.

Kokoro's style vectors keep how a voice sounds apart from how it times and intones what it says
(`recipe.kokoro_engine`). So an utterance can be spoken once more with its own timing in
the sound and the range of another speaker: what an ideal conversion of it would be. From such
pairs the refiner learns what to take from a source and what not.

Voices that never were can speak, too: blends of Kokoro's that go beyond what is between them, so
that encoder and refiner meet more voices than Kokoro has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from knnvc.audio.pitch import f0_track
from knnvc.errors import KnnvcError
from knnvc.mini.format import HOP
from knnvc.training.aligned import HELD_OUT, read_alignments, read_table
from recipe.kokoro import (
    SAMPLE_RATE,
    Ingredients,
    Narrator,
    run_workers,
)
from recipe.kokoro_engine import prepare

FOLDER = "twins"
HEARD = 5  # utterances of a speaker that tell its pitch
NEW_FOLDER = "new"
TAKES = 5  # utterances of a new voice
REACH = (0.9, 1.45)  # how far from the mean voice a new one lies, as a multiple of its blend
PITCH_SPREAD = 0.08  # standard deviation of a new voice's mean log f0, around its blend's

Record = dict[str, Any]
Blend = Sequence[tuple[str, float]]  # voices of Kokoro and their weights


def speak_twins(
    ingredients: Ingredients,
    corpus: Path,
    workers: int = 2,
    seed: int = 7,
    bf16: bool = True,
    new_voices: int = 0,
) -> None:
    """Speak every utterance of `corpus` in another of its voices.

    Writes `corpus/twins/SPEAKER/*.flac` and `corpus/twins-*.jsonl`; what is there is kept. Speakers
    held out get twins among themselves only. `new_voices` repeat a few utterances each, and become
    speakers of the corpus.

    Raises:
        KnnvcError: the corpus tells too little to speak it again, has one voice only, or a worker
            failed.
    """
    if not pairs(corpus, seed):
        raise KnnvcError(
            f"no utterance of {corpus} can be spoken again: its alignments lack speed and blend, "
            "or it has one voice; make it with `vocoder/mini.py corpus` and several voices"
        )
    prepare(ingredients.model)
    given = [(ingredients, corpus, number, workers, seed, bf16) for number in range(workers)]
    run_workers(_work, given)
    if new_voices:
        given_new = [(*one, new_voices) for one in given]
        run_workers(_speak_new, given_new)
    print(f"{len(read_twins(corpus))} utterances have a twin", flush=True)


def read_twins(corpus: Path) -> list[Record]:
    """The records of all twins whose audio exists; `original` is the file of what they repeat."""
    return read_table(corpus, "twins-*.jsonl")


def repeatable(corpus: Path) -> list[Record]:
    """The utterances that can be spoken again: their records tell speed and blend."""
    return [record for record in read_alignments(corpus) if "speed" in record]


def pairs(corpus: Path, seed: int) -> list[tuple[Record, Record]]:
    """Every utterance that can be repeated, with one of the speaker that is to repeat it."""
    groups: dict[bool, dict[str, Record]] = defaultdict(dict)
    records = repeatable(corpus)
    for record in records:
        groups[record["speaker"] in HELD_OUT].setdefault(record["speaker"], record)
    rng = np.random.default_rng(seed)
    found = []
    for record in records:
        group = groups[record["speaker"] in HELD_OUT]
        others = [name for name in sorted(group) if name != record["speaker"]]
        if others:
            found.append((record, group[others[int(rng.integers(len(others)))]]))
    return found


def speaker_pitch(corpus: Path) -> dict[str, float]:
    """Mean natural logarithm of f0 in Hz of each speaker, over a few `repeatable` utterances."""
    files: dict[str, list[str]] = defaultdict(list)
    for record in repeatable(corpus):
        files[record["speaker"]].append(record["file"])
    heard = {}
    for speaker, names in files.items():
        tracks = []
        for name in names[:HEARD]:
            wave, _ = sf.read(corpus / name, dtype="float32")
            tracks.append(f0_track(wave, len(wave) // HOP))
        f0 = np.concatenate(tracks)
        if (f0 > 0).any():
            heard[speaker] = float(np.log(f0[f0 > 0]).mean())
    return heard


def new_voice(
    number: int, blends: Mapping[str, Blend], pitch: Mapping[str, float], seed: int
) -> tuple[Record, float]:
    """The blend of a voice that never was, as in a record, and its mean natural log of f0.

    `blends` are speakers to make it from, `pitch` is theirs. Its distance from their mean is that
    of a blend of a few, stretched or shortened by `REACH`, so that weights may be negative; they
    sum to 1.
    """
    names = sorted(blends)
    rng = np.random.default_rng([seed, number])
    count = min(len(names), int(rng.choice([1, 2, 2, 3])))
    chosen = [str(name) for name in rng.choice(names, size=count, replace=False)]
    parts = rng.dirichlet([2.0] * count)
    reach = float(rng.uniform(*REACH))
    shares = dict.fromkeys(names, (1 - reach) / len(names))
    for name, part in zip(chosen, parts, strict=True):
        shares[name] += reach * float(part)
    weights: dict[str, float] = defaultdict(float)
    for name, share in shares.items():
        for voice, weight in blends[name]:
            weights[voice] += share * weight
    usual = sum(pitch[name] * float(part) for name, part in zip(chosen, parts, strict=True))
    record = {"speaker": f"new{number:03d}", "blend": list(weights.items())}
    return record, usual + float(rng.normal(0, PITCH_SPREAD))


def _speak_new(
    ingredients: Ingredients,
    corpus: Path,
    worker: int,
    workers: int,
    seed: int,
    bf16: bool,
    voices: int,
) -> None:
    narrator = Narrator(ingredients, bf16)
    pitch = speaker_pitch(corpus)
    records = [r for r in repeatable(corpus) if r["speaker"] in pitch.keys() - HELD_OUT]
    blends = {record["speaker"]: record["blend"] for record in records}
    done = {record["file"] for record in read_alignments(corpus)}
    order = np.random.default_rng(seed).permutation(len(records))
    spoken, twins = (corpus / f"{table}-new-{worker}.jsonl" for table in ("alignments", "twins"))
    for number in range(worker, voices * TAKES, workers):
        voice, usual = new_voice(number // TAKES, blends, pitch, seed)
        record = records[order[number % len(records)]]
        name = f"{NEW_FOLDER}/{voice['speaker']}/{number:05d}.flac"
        if name in done:
            continue
        new = _repeat(narrator, corpus, name, record, voice, usual - pitch[record["speaker"]])
        _append(spoken, new)
        _append(twins, new | {key: record[key] for key in ("file", "speaker")} | {"original": name})
        if number % (50 * workers) < workers:
            print(f"worker {worker}: {number} of {voices * TAKES} by new voices", flush=True)


def _repeat(
    narrator: Narrator, corpus: Path, name: str, record: Record, voice: Record, higher: float
) -> Record:
    """Speak `record` again as `corpus / name` in another voice; returns the record of that.

    `higher` is the natural logarithm of the factor of its pitch.
    """
    wave, durations = narrator.repeat(record, voice, float(np.exp(higher)))
    if durations != record["durations"]:
        raise KnnvcError(f"{record['file']} was spoken by another model: durations differ")
    (corpus / name).parent.mkdir(parents=True, exist_ok=True)
    sf.write(corpus / name, wave, SAMPLE_RATE, subtype="PCM_16")
    kept = {key: record[key] for key in ("text", "phones", "durations")}
    made = {"file": name, "speaker": voice["speaker"], "seconds": len(wave) / SAMPLE_RATE}
    return kept | made


def _append(table: Path, record: Record) -> None:
    with table.open("a", encoding="utf-8") as log:
        log.write(json.dumps(record, ensure_ascii=False) + "\n")


def _work(
    ingredients: Ingredients, corpus: Path, worker: int, workers: int, seed: int, bf16: bool
) -> None:
    narrator = Narrator(ingredients, bf16)
    pitch = speaker_pitch(corpus)
    table = corpus / f"twins-{worker}.jsonl"
    done = {record["original"] for record in read_twins(corpus)}
    mine = pairs(corpus, seed)[worker::workers]
    for number, (record, other) in enumerate(mine, 1):
        speaker = other["speaker"]
        if record["file"] in done or not {speaker, record["speaker"]} <= set(pitch):
            continue
        name = f"{FOLDER}/{speaker}/{Path(record['file']).stem}_as_{speaker}.flac"
        higher = pitch[speaker] - pitch[record["speaker"]]
        twin = _repeat(narrator, corpus, name, record, other, higher)
        _append(table, twin | {"original": record["file"]})
        if number % 50 == 0:
            print(f"worker {worker}: {number} of {len(mine)} twins", flush=True)
