"""The bench: real readers with transcripts, every speaker converted to every other.

Three layouts are recognised: a folder with `manifest.csv` (columns speaker, file and text, and
optionally language), LibriSpeech (`*.trans.txt`) and VCTK (`txt/` beside `wav48*/`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knnvc.errors import UsageError
from knnvc.evaluation.plan import (
    ENGLISH,
    LEAST_TRIALS,
    Condition,
    Job,
    Source,
    Target,
    checked,
)
from knnvc.files import AUDIO_SUFFIXES

MANIFEST = "manifest.csv"
NEEDED = ("speaker", "file", "text")
PUBLISHED_SOURCES = 5  # utterances of each speaker, see `published_jobs`
SECOND_MICROPHONE = "_mic2"  # VCTK 0.92 has every utterance twice


@dataclass(frozen=True)
class Utterance:
    """A recording of a speaker, and what it says."""

    speaker: str
    path: Path
    text: str
    language: str = ENGLISH


def read_bench(path: Path) -> list[Utterance]:
    """The utterances of a manifest or of a folder in a known layout, by speaker and file name.

    Raises:
        UsageError: the layout is none of these, or a recording is missing.
    """
    if path.is_file():
        found = _manifest(path)
    elif (path / MANIFEST).is_file():
        found = _manifest(path / MANIFEST)
    elif (path / "txt").is_dir():
        found = _vctk(path)
    else:
        found = _librispeech(path)
    if not found:
        raise UsageError(
            f"{path} holds no bench: it needs a {MANIFEST} (speaker, file, text), or the layout of "
            "LibriSpeech or VCTK"
        )
    return sorted(found, key=lambda one: (one.speaker, one.path))


def bench_jobs(
    utterances: Sequence[Utterance],
    sources: int,
    settings: Sequence[Condition],
    speakers: Iterable[str] = (),
) -> list[Job]:
    """Every speaker's first utterances to every other speaker of the language.

    A target's references are the utterances that are no sources, in order. Where fewer than
    `LEAST_TRIALS` are left, they are all its utterances. The references are the trials, too. An
    utterance is never converted to its own speaker, so nothing overlaps.

    Args:
        utterances: as `read_bench` finds them.
        sources: utterances of each speaker that are converted.
        settings: conditions; each is measured.
        speakers: names of those that take part; all, if none is given.

    Raises:
        UsageError: a speaker is unknown, or fewer than two speak the same language.
    """
    first: list[Utterance] = []
    for name in dict.fromkeys(one.speaker for one in utterances):
        first += [one for one in utterances if one.speaker == name][:sources]
    return _all_to_all(utterances, first, settings, speakers)


def _all_to_all(
    utterances: Sequence[Utterance],
    sources: Sequence[Utterance],
    settings: Sequence[Condition],
    speakers: Iterable[str],
) -> list[Job]:
    """`sources`, of `utterances`, to all other speakers; see `bench_jobs`."""
    wanted = list(dict.fromkeys(speakers))
    known = dict.fromkeys(one.speaker for one in utterances)
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"there is no speaker {unknown[0]}: choose among {', '.join(known)}")
    chosen = set(sources)
    voices: list[tuple[Target, str, list[Source]]] = []
    for name in wanted or known:
        own = [one for one in utterances if one.speaker == name]
        rest = [one for one in own if one not in chosen]
        rest = rest if len(rest) >= LEAST_TRIALS else own
        target = Target(own[0].path, "", name, tuple(one.path for one in rest))
        taken = [Source(one.path, one.text, "", one.language, name) for one in own if one in chosen]
        voices.append((target, own[0].language, taken))
    jobs = [
        Job(source, target, condition)
        for condition in settings
        for target, language, _ in voices
        for _, _, taken in voices
        for source in taken
        if source.who != target.name and source.language == language
    ]
    if not jobs:
        raise UsageError("a bench needs two speakers of the same language")
    return checked(jobs)


def published_jobs(
    utterances: Sequence[Utterance],
    settings: Sequence[Condition],
    seed: int,
    speakers: Iterable[str] = (),
    inputs: Sequence[str] = (),
) -> list[Job]:
    """The protocol of the authors of kNN-VC and LinearVC on LibriSpeech test-clean.

    Five utterances of every speaker are converted to every other speaker; the rest of a target's
    speech is the reference. With the 40 speakers of test-clean these are 7,800 conversions. So it
    is in the lists that LinearVC's repository publishes (https://github.com/kamperh/linearvc,
    data/eval_inputs_test-clean.txt and speaker-sim-test-clean.csv).

    Args:
        utterances: as `read_bench` finds them.
        settings: conditions; each is measured.
        seed: of the five, where there are no `inputs`.
        speakers: names of those that take part; all, if none is given.
        inputs: names of the utterances to convert, such as "1089-134686-0005".

    Raises:
        UsageError: as `bench_jobs`, or an input is not among the utterances.
    """
    if inputs:
        named = {one.path.stem: one for one in utterances}
        if missing := [name for name in inputs if name not in named]:
            raise UsageError(f"there is no utterance {missing[0]}: check the folder and the list")
        return _all_to_all(utterances, [named[name] for name in inputs], settings, speakers)
    rng = np.random.default_rng(seed)
    drawn: list[Utterance] = []
    for name in dict.fromkeys(one.speaker for one in utterances):
        own = [one for one in utterances if one.speaker == name]
        drawn += [own[number] for number in sorted(rng.permutation(len(own))[:PUBLISHED_SOURCES])]
    return _all_to_all(utterances, drawn, settings, speakers)


def read_inputs(path: Path) -> list[str]:
    """The names of utterances in a text file, one a line.

    Raises:
        UsageError: it is no text, or empty.
    """
    try:
        found = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: give a text file, one name a line") from error
    if not found:
        raise UsageError(f"{path} names no utterance: write one name a line")
    return found


def _manifest(path: Path) -> list[Utterance]:
    """Rows without a text are left out."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path} is no CSV: {error}") from error
    found = []
    for number, row in enumerate(rows, 1):
        if missing := [name for name in NEEDED if row.get(name) is None]:
            raise UsageError(f"{path}, entry {number}: there is no column {missing[0]}")
        recording = path.parent / row["file"]
        if not recording.is_file():
            raise UsageError(f"{path}, entry {number}: {row['file']!r} does not exist")
        if row["text"].strip():
            language = row.get("language") or ENGLISH
            found.append(Utterance(row["speaker"], recording, row["text"].strip(), language))
    return found


def _librispeech(folder: Path) -> list[Utterance]:
    found = []
    for transcripts in folder.rglob("*.trans.txt"):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            recording = _beside(transcripts.with_name(name))
            if recording is not None and text:
                found.append(Utterance(name.partition("-")[0], recording, text))
    return found


def _vctk(folder: Path) -> list[Utterance]:
    found = []
    recordings: dict[str, Path] = {}
    for kind in sorted(folder.glob("wav*/")):
        for recording in sorted(kind.rglob("*")):
            first = not recording.stem.endswith(SECOND_MICROPHONE)
            if recording.suffix.lower() in AUDIO_SUFFIXES and first:
                recordings.setdefault(recording.stem.removesuffix("_mic1"), recording)
    for transcript in (folder / "txt").rglob("*.txt"):
        text = transcript.read_text(encoding="utf-8").strip()
        if transcript.stem in recordings and text:
            recording = recordings[transcript.stem]
            found.append(Utterance(transcript.parent.name, recording, text))
    return found


def _beside(path: Path) -> Path | None:
    """The recording `path`, whatever its suffix."""
    names = (path.with_name(path.name + suffix) for suffix in (".flac", ".wav", ".ogg", ".opus"))
    return next((name for name in names if name.is_file()), None)
