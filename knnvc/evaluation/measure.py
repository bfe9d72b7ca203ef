"""Convert and measure every job, one record each; a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knnvc.audio import (
    SAMPLE_RATE,
    load_audio,
    normalize_loudness,
    require_audio,
    resample,
    write_audio,
)
from knnvc.converters.matching_set import MatchingSet
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.instruments import (
    Heard,
    Listener,
    Vector,
    Wave,
    errors,
    pitch_correlation,
    plain,
)
from knnvc.evaluation.plan import Job, Source, Target, Voice, split_target
from knnvc.files import atomic_path
from knnvc.options import LOUDNESS, ConvertOptions
from knnvc.pipeline import VoiceConverter
from knnvc.vocoders.classical import griffin_lim, world

RECORDS = "records.jsonl"
SETTINGS = "settings.json"
SOURCE, COPY, CONVERTED = "source", "copy-synthesis", "converted"
WORLD, GRIFFIN_LIM = "copy-synthesis by WORLD", "copy-synthesis by Griffin-Lim"
SAMPLE_SECONDS = 6  # the target's utterance that is there to be heard shall be about that long
VOCODERS: dict[str, Callable[[Tensor], Tensor]] = {WORLD: world, GRIFFIN_LIM: griffin_lim}
YARDSTICKS = (SOURCE, COPY, *VOCODERS)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Record:
    """What was measured on one waveform that should sound like `target`.

    Of the systems (`YARDSTICKS` and `CONVERTED`), `source` is the recording itself, and
    `copy-synthesis` encodes and vocodes it without matching, or lets a classical vocoder analyse
    and rebuild it; these are compared with the target all the same.

    Attributes:
        system: one of `YARDSTICKS`, or `CONVERTED`.
        condition: label of the condition; empty for the yardsticks.
        settings: lam, k and seconds of the condition, as far as set; empty for the yardsticks.
        source: name of the source.
        target: name of the target.
        group: the groups of source and target, for tables.
        audio: file of the waveform, relative to the results' folder.
        heard: words.
        words, word_errors, characters, character_errors: against the transcript, or against the
            words heard in the source; all 0 where the source speaks another language than English.
        source_word_errors, source_character_errors: of the source itself.
        like_target, like_source: cosine to the centroid of the target's trials and to the source.
        source_like_target: of the source itself.
        scores: cosine to each of the target's trials.
        distillmos, dnsmos: 1 to 5.
        pitch: correlation of log f0 with the source; None where hardly anything is voiced.
        seconds: of the waveform.
        compute_seconds: to encode, match and vocode, the matching set being there.
    """

    system: str
    condition: str
    settings: dict[str, float]
    source: str
    target: str
    group: str
    audio: str
    heard: str
    words: int
    word_errors: int
    characters: int
    character_errors: int
    source_word_errors: int
    source_character_errors: int
    like_target: float
    like_source: float
    source_like_target: float
    scores: list[float]
    distillmos: float
    dnsmos: float
    pitch: float | None
    seconds: float
    compute_seconds: float | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies it within a run."""
        return self.system, self.condition, self.source, self.target


@dataclass(frozen=True)
class TargetFacts:
    """A target as it was used.

    `real_scores` are the cosines of all pairs of its trials, `audio` is one of these, relative to
    the results' folder.
    """

    name: str
    audio: str
    group: str
    references: list[str]
    trials: list[str]
    overlap: bool
    real_scores: list[float]


@dataclass(frozen=True)
class _Made:
    """A waveform [S] at 16 kHz, what the instruments say about it, and where it lies."""

    wave: Wave
    heard: Heard
    audio: str
    compute_seconds: float | None = None


class _Trials:
    """Real utterances of a target: their embeddings [R, 256] and the centroid of those [256]."""

    def __init__(self, target: Target, voice: Voice, listener: Listener) -> None:
        self.voice = voice
        waves = [load_audio(path) for path in voice.trials]
        self.sample = max(waves, key=lambda wave: min(len(wave), SAMPLE_SECONDS * SAMPLE_RATE))
        self.embeddings = np.stack([listener.embedding(wave.numpy()) for wave in waves])
        mean = self.embeddings.mean(0)
        self.centroid: Vector = mean / np.linalg.norm(mean)
        rows, columns = np.triu_indices(len(self.embeddings), 1)
        self.facts = TargetFacts(
            name=target.name,
            audio=f"audio/target/{slug(target.name)}.flac",
            group=target.group,
            references=[path.name for path in voice.references],
            trials=[path.name for path in voice.trials],
            overlap=voice.overlap,
            real_scores=_rounded((self.embeddings @ self.embeddings.T)[rows, columns]),
        )


class Evaluation:
    """Goes through jobs and writes `records.jsonl` and `audio/` into a folder.

    Args:
        converter: what is measured.
        listener: what measures.
        folder: of the results; what `records.jsonl` holds already is not measured again.
        seed: of the choice of references and trials.
        yardsticks: the systems that conversions are compared with, of `YARDSTICKS`.
    """

    def __init__(
        self,
        converter: VoiceConverter,
        listener: Listener,
        folder: Path,
        seed: int,
        yardsticks: Sequence[str] = YARDSTICKS,
    ) -> None:
        self.converter = converter
        self.listener = listener
        self.folder = folder
        self.seed = seed
        self.yardsticks = tuple(yardsticks)
        self._sources: dict[Path, _Made] = {}
        self._copies: dict[tuple[str, Path], _Made] = {}
        self._trials: dict[Target, _Trials] = {}
        self._voice: tuple[Target, float, MatchingSet] | None = None

    @property
    def targets(self) -> list[TargetFacts]:
        """The targets of the last run."""
        return [trials.facts for trials in self._trials.values()]

    def run(self, jobs: Sequence[Job], progress: Progress) -> list[Record]:
        """Measure all of `jobs`, target by target, and the yardsticks of every pair.

        Raises:
            KnnvcError: a recording cannot be used.
        """
        path = self.folder / RECORDS
        path.parent.mkdir(parents=True, exist_ok=True)
        done = {record.key: record for record in read_records(path)}
        longest: dict[Target, float] = {}
        for job in jobs:
            longest[job.target] = max(longest.get(job.target, 0.0), job.condition.seconds)
        self._trials = {}
        records = []
        tasks = _tasks(jobs, self.yardsticks)
        with path.open("a", encoding="utf-8") as log:
            for number, (system, job) in enumerate(tasks):
                progress("evaluating", number, len(tasks))
                if job.target not in self._trials:
                    voice = split_target(job.target, longest[job.target], self.seed)
                    trials = _Trials(job.target, voice, self.listener)
                    write_audio(self.folder / trials.facts.audio, trials.sample, SAMPLE_RATE)
                    self._trials[job.target] = trials
                key = _key(system, job)
                if key not in done:
                    done[key] = self._measure(system, job)
                    log.write(json.dumps(asdict(done[key]), ensure_ascii=False) + "\n")
                    log.flush()
                records.append(done[key])
        progress("evaluating", len(tasks), len(tasks))
        return records

    def _measure(self, system: str, job: Job) -> Record:
        original = self._source(job.source)
        if system == CONVERTED:
            made = self._convert(job)
        else:
            made = original if system == SOURCE else self._copy(system, job.source)
        trials = self._trials[job.target]
        said = original.heard.words  # none of those that are not counted
        if job.source.counted and job.source.text is not None:
            said = plain(job.source.text)
        own, found = errors(said, original.heard.words), errors(said, made.heard.words)
        pitch = pitch_correlation(original.wave, made.wave)
        _, condition, source, target = _key(system, job)
        return Record(
            system=system,
            condition=condition,
            settings=job.condition.settings if system == CONVERTED else {},
            source=source,
            target=target,
            group=group_name(job),
            audio=made.audio,
            heard=made.heard.words,
            **asdict(found),
            source_word_errors=own.word_errors,
            source_character_errors=own.character_errors,
            like_target=float(made.heard.embedding @ trials.centroid),
            like_source=float(made.heard.embedding @ original.heard.embedding),
            source_like_target=float(original.heard.embedding @ trials.centroid),
            scores=_rounded(trials.embeddings @ made.heard.embedding),
            distillmos=made.heard.distillmos,
            dnsmos=made.heard.dnsmos,
            pitch=pitch,
            seconds=len(made.wave) / SAMPLE_RATE,
            compute_seconds=made.compute_seconds,
        )

    def _source(self, source: Source) -> _Made:
        if source.path not in self._sources:
            wave = require_audio(load_audio(source.path), str(source.path)).numpy()
            name = f"{SOURCE}/{slug(source.name)}"
            self._sources[source.path] = self._keep(
                source, torch.from_numpy(wave), SAMPLE_RATE, name
            )
        return self._sources[source.path]

    def _copy(self, system: str, source: Source) -> _Made:
        key = (system, source.path)
        if key not in self._copies:
            began, rate = time.perf_counter(), SAMPLE_RATE
            if system == COPY:
                made = self.converter.vocode(self.converter.encode(source.path))
                rate = self.converter.sample_rate
            else:
                made = VOCODERS[system](load_audio(source.path))
            made = normalize_loudness(made, rate, LOUDNESS)
            took = time.perf_counter() - began
            name = f"{slug(system)}/{slug(source.name)}"
            self._copies[key] = self._keep(source, made, rate, name, took)
        return self._copies[key]

    def _convert(self, job: Job) -> _Made:
        condition = job.condition
        references = self._matching_set(job.target, condition.seconds)
        options = ConvertOptions(lam=condition.lam, k=condition.k)
        began = time.perf_counter()
        waveform, rate = self.converter.convert(job.source.path, references, options)
        took = time.perf_counter() - began
        name = "/".join(map(slug, (condition.label, job.target.name, job.source.name)))
        return self._keep(job.source, torch.from_numpy(waveform), rate, name, took)

    def _keep(
        self, source: Source, waveform: Tensor, rate: int, name: str, took: float | None = None
    ) -> _Made:
        """Write what was made of `source` as `audio/NAME.flac`, and listen to it."""
        audio = f"audio/{name}.flac"
        write_audio(self.folder / audio, waveform, rate)
        wave = resample(waveform, rate, SAMPLE_RATE).numpy()
        heard = self.listener.listen(wave, words=source.counted)
        return _Made(wave, heard, audio, took)

    def _matching_set(self, target: Target, seconds: float) -> MatchingSet:
        """The first `seconds` of a target's references; the last one made is kept."""
        if self._voice is None or self._voice[:2] != (target, seconds):
            pieces, left = [], round(seconds * SAMPLE_RATE)
            for path in self._trials[target].voice.references:
                if left <= 0:
                    break
                pieces.append(load_audio(path)[:left])
                left -= len(pieces[-1])
            made = self.converter.matching_set(pieces, speaker=target.name)
            self._voice = (target, seconds, made)
        return self._voice[2]


def read_records(path: Path) -> list[Record]:
    """The records of a run, also of one that was stopped while it wrote a line.

    Raises:
        KnnvcError: a line in between is damaged.
    """
    if not path.exists():
        return []
    *whole, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:  # mend it, or the next record would be written behind the torn one
        path.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    try:
        return [Record(**json.loads(line)) for line in whole]
    except (ValueError, TypeError) as error:
        raise KnnvcError(f"{path} is damaged; evaluate again with --force") from error


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new run; those of one that goes on must be the same.

    Raises:
        UsageError: they are not, so its records could not be compared with new ones.
    """
    path, text = folder / SETTINGS, json.dumps(dict(settings), indent=1, ensure_ascii=False) + "\n"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else dict(settings)
    if changed := sorted(
        key for key in {*before, *settings} if before.get(key) != settings.get(key)
    ):
        raise UsageError(
            f"{folder} holds results with another {changed[0]} ({before.get(changed[0])!r}): "
            "choose another folder, or start over with --force"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def group_name(job: Job) -> str:
    """The groups of source and target, for tables; empty if there are none."""
    groups = (job.source.group, job.target.group)
    return " → ".join(groups) if any(groups) else ""


def slug(text: str) -> str:
    """`text` as a part of a file name."""
    return re.sub(r"[^\w.]+", "-", text.replace("λ", "lam"))


def _tasks(jobs: Sequence[Job], yardsticks: Sequence[str]) -> list[tuple[str, Job]]:
    """Systems and jobs by target: each pair's yardsticks first, a matching set's jobs in a row."""
    tasks = []
    for target in dict.fromkeys(job.target for job in jobs):
        own = [job for job in jobs if job.target == target]
        first = {job.source: job for job in reversed(own)}
        tasks += [(system, first[job.source]) for system in yardsticks for job in own]
        own.sort(key=lambda job: job.condition.seconds)
        tasks += [(CONVERTED, job) for job in own]
    return list({_key(*task): task for task in tasks}.values())


def _key(system: str, job: Job) -> tuple[str, str, str, str]:
    """What `Record.key` will be."""
    condition = job.condition.label if system == CONVERTED else ""
    return system, condition, job.source.name, job.target.name


def _rounded(values: Vector) -> list[float]:
    return [round(float(value), 5) for value in values]
