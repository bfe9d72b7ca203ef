"""What to convert: sources, targets, conditions; from folders, from a manifest, with sweeps."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from knnvc.audio import find_audio
from knnvc.errors import KnnvcError, UsageError

REFERENCE_SECONDS = 300.0
ALL_SECONDS = 86_400.0  # the most that can be asked for: all that there is
SWEEPS = ("lam", "k", "seconds")
COLUMNS = (
    *("source", "target", "text", "language", "reference_seconds"),
    *("source_group", "target_group"),
)
ENGLISH = "en"
TRIAL_SECONDS = 2.0  # shorter utterances say little about a speaker
MOST_TRIALS = 40  # real utterances of a target that everything is compared with
LEAST_TRIALS = 4  # apart from the references; with fewer, references serve as trials too


@dataclass(frozen=True)
class Source:
    """A recording to convert.

    Attributes:
        path: of the recording.
        text: what it says, if known.
        group: for the tables.
        language: words are counted of English only, which is what the recognisers know.
        speaker: who speaks; the folder's name if nothing is said.
    """

    path: Path
    text: str | None = None
    group: str = ""
    language: str = ENGLISH
    speaker: str = ""

    @property
    def counted(self) -> bool:
        """Whether the instrument knows its words."""
        return self.language == ENGLISH

    @property
    def who(self) -> str:
        """The speaker's name."""
        return readable(self.speaker or self.path.parent.name)

    @property
    def name(self) -> str:
        """Short and for people; file names may repeat in other folders."""
        return f"{self.who}/{readable(self.path.stem)}"


@dataclass(frozen=True)
class Target:
    """Recordings of one speaker.

    Attributes:
        path: a folder, or one file.
        group: for the tables.
        speaker: the name; the folder's if nothing is said.
        recordings: if any are named, they are the references, in this order, and the trials too;
            else `split_target` splits what lies in `path`.
    """

    path: Path
    group: str = ""
    speaker: str = ""
    recordings: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The speaker's name."""
        own = self.path.stem if self.path.is_file() else self.path.name
        return readable(self.speaker or own)


@dataclass(frozen=True)
class Condition:
    """How to convert; None means what the preset recommends. `seconds` of reference are used."""

    lam: float | None = None
    k: int | None = None
    seconds: float = REFERENCE_SECONDS

    @property
    def settings(self) -> dict[str, float]:
        """What is set, by name."""
        values = {"lam": self.lam, "k": self.k, "seconds": self.seconds}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def label(self) -> str:
        """What tables call it."""
        parts = [f"{self.seconds:g} s"]
        parts += [f"k {self.k}"] if self.k is not None else []
        parts += [f"λ {self.lam:g}"] if self.lam is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Job:
    """One conversion."""

    source: Source
    target: Target
    condition: Condition


@dataclass(frozen=True)
class Voice:
    """The recordings of a target, split by `split_target`.

    Attributes:
        references: in the order in which they are taken until there is enough speech.
        trials: what converted speech is compared with.
        overlap: some trials are references too.
    """

    references: tuple[Path, ...]
    trials: tuple[Path, ...]
    overlap: bool


def readable(text: str) -> str:
    """`text` as it can be written: file names may hold bytes and signs that no file can."""
    written = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(sign if sign.isprintable() else "?" for sign in written)


def parse_sweeps(texts: Iterable[str]) -> dict[str, list[float]]:
    """Read sweeps as "lam=0,0.5,1".

    Raises:
        UsageError: a name is unknown or repeated, or a value is no number.
    """
    found: dict[str, list[float]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in SWEEPS or name in found:
            raise UsageError(
                f"--sweep {text}: give each of {', '.join(SWEEPS)} at most once, as NAME=1,2,3"
            )
        try:
            found[name] = [float(value) for value in values.split(",")]
        except ValueError as error:
            raise UsageError(f"--sweep {text}: give numbers, as {name}=1,2,3") from error
        if name == "k" and any(value != int(value) for value in found[name]):
            raise UsageError(f"--sweep {text}: k is a whole number")
    return found


def conditions(base: Condition, sweeps: dict[str, list[float]]) -> list[Condition]:
    """Every combination of the swept values, on top of `base`."""
    found = []
    for values in itertools.product(*sweeps.values()):
        chosen: dict[str, Any] = dict(zip(sweeps, values, strict=True))
        if "k" in chosen:
            chosen["k"] = int(chosen["k"])
        found.append(replace(base, **chosen))
    return found


def folder_jobs(
    sources: Sequence[Path],
    targets: Path,
    settings: Sequence[Condition],
    language: str = ENGLISH,
) -> list[Job]:
    """Every source to every sub-folder of `targets`, but for a speaker's own recordings.

    What a source says is read from a .txt file of the same name, if there is one; all of them speak
    `language`.

    Raises:
        UsageError: there are no sub-folders, or no source is left to convert.
        KnnvcError: a folder holds no audio.
    """
    voices = [Target(folder) for folder in sorted(targets.iterdir()) if folder.is_dir()]
    if not voices:
        raise UsageError(f"{targets} holds no folders; put each target speaker into one of its own")
    found = [
        Source(path, _transcript(path), language=language)
        for source in sources
        for path in find_audio(source)
    ]
    return checked(
        [
            Job(source, target, condition)
            for condition in settings
            for target in voices
            for source in found
            if target.path.resolve() not in source.path.resolve().parents
        ]
    )


def manifest_jobs(manifest: Path, settings: Sequence[Condition]) -> list[Job]:
    """The lines of a .csv (with a header) or .jsonl file, under every condition.

    Columns: source, target (paths, relative to the manifest), and optionally text (what the source
    says), language (of the source; "en" if it is left out), reference_seconds (overrides the
    condition's unless it is swept over), source_group and target_group (the table has a part for
    each pair of groups).

    Raises:
        UsageError: the file is no manifest, or names what does not exist.
    """
    swept = len({condition.seconds for condition in settings}) > 1
    lines = [_line(manifest, number, line) for number, line in enumerate(_read(manifest), 1)]
    return checked(
        [
            Job(
                source,
                target,
                condition if seconds is None or swept else replace(condition, seconds=seconds),
            )
            for condition in settings
            for source, target, seconds in lines
        ]
    )


def _read(manifest: Path) -> list[dict[str, Any]]:
    try:
        text = manifest.read_text(encoding="utf-8-sig")
        if manifest.suffix == ".jsonl":
            return [dict(json.loads(line)) for line in text.splitlines() if line.strip()]
        return list(csv.DictReader(text.splitlines()))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{manifest} is no CSV or JSON lines: {error}") from error


def _line(manifest: Path, number: int, line: dict[str, Any]) -> tuple[Source, Target, float | None]:
    where = f"{manifest}, entry {number}"
    if unknown := sorted(str(name) for name in line.keys() - set(COLUMNS)):
        raise UsageError(f"{where}: unknown column {unknown[0]}; use {', '.join(COLUMNS)}")
    paths = []
    for column in ("source", "target"):
        value = line.get(column)
        path = manifest.parent / str(value or "")
        if not value or not path.exists():
            raise UsageError(f"{where}: the {column} {value!r} does not exist; check the path")
        paths.append(path)
    seconds = line.get("reference_seconds")
    try:
        wanted = float(seconds) if seconds not in (None, "") else None
    except ValueError as error:
        raise UsageError(f"{where}: reference_seconds is {seconds!r}, no number") from error
    source = Source(
        paths[0],
        line.get("text") or None,
        readable(line.get("source_group") or ""),
        line.get("language") or ENGLISH,
    )
    return source, Target(paths[1], readable(line.get("target_group") or "")), wanted


def _transcript(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    return beside.read_text(encoding="utf-8").strip() or None if beside.is_file() else None


def checked(jobs: list[Job]) -> list[Job]:
    """`jobs`, if there are any and no two sources or targets share a name."""
    if not jobs:
        raise UsageError("there is nothing to convert; name sources that are not the targets' own")
    for what in ("source", "target"):
        named: dict[str, Path] = {}
        for job in jobs:
            one: Source | Target = getattr(job, what)
            if named.setdefault(one.name, one.path.resolve()) != one.path.resolve():
                raise UsageError(
                    f"two {what}s are called {one.name} ({named[one.name]} and {one.path}): "
                    "rename one of the folders"
                )
    return jobs


def split_target(target: Target, seconds: float, seed: int) -> Voice:
    """Choose references of about `seconds` in all, and real utterances to compare with.

    If the target names its recordings, all of them are references and trials. Otherwise files are
    taken in a random order that depends on `seed` alone, so that fewer seconds are a part of more.
    Trials are taken from the other end of that order, so that they are the same for any `seconds`:
    files of 2 s or more, unless too little speech is left for that.

    Raises:
        KnnvcError: there is no readable recording.
    """
    if target.recordings:
        return Voice(target.recordings, target.recordings[:MOST_TRIALS], True)
    files, lengths = [], []
    for path in find_audio(target.path):
        try:
            info = sf.info(str(path))
        except (sf.LibsndfileError, TypeError):
            continue
        if info.frames:
            files.append(path)
            lengths.append(info.frames / info.samplerate)
    if not files:
        raise KnnvcError(f"{target.path} holds no readable recording; add WAV or FLAC files")
    order = np.random.default_rng(seed).permutation(len(files))
    before = np.cumsum([0.0, *(lengths[i] for i in order)])[:-1]  # seconds ahead of each file
    taken = [i for i, start in zip(order, before, strict=True) if start < seconds]
    rest = [i for i in order[len(taken) :][::-1] if lengths[i] >= TRIAL_SECONDS]
    overlap = len(rest) < LEAST_TRIALS
    if overlap:
        rest = [i for i in order if lengths[i] >= TRIAL_SECONDS] or list(order)
    return Voice(
        tuple(files[i] for i in taken), tuple(files[i] for i in rest[:MOST_TRIALS]), overlap
    )
