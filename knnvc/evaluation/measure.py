"""Convert and measure every job, one record each; a run that was stopped goes on where it was."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from knnvc import ConvertOptions, MatchingSet, VoiceConverter
from knnvc.audio import SAMPLE_RATE, load_audio, require_audio, resample, write_audio
from knnvc.evaluation.instruments import (
    Heard,
    Listener,
    Vector,
    Wave,
    errors,
    plain,
)
from knnvc.evaluation.plan import Job, Source, Target, Voice, split_target
from knnvc.evaluation.records import (
    CONVERTED,
    COPY,
    GRIFFIN_LIM,
    RECORDS,
    SOURCE,
    WORLD,
    YARDSTICKS,
    Likeness,
    Recognised,
    Record,
    TargetFacts,
    line_of,
    read_records,
)
from knnvc.evaluation.remembered import Remembered
from knnvc.vocoders.classical import griffin_lim, world

SAMPLE_SECONDS = 6  # the target's utterance that is there to be heard shall be about that long
VOCODERS: dict[str, Callable[[Tensor], Tensor]] = {WORLD: world, GRIFFIN_LIM: griffin_lim}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Made:
    """A waveform [S] at 16 kHz, what the instruments say about it, and where it lies."""

    wave: Wave
    heard: Heard
    audio: str
    compute_seconds: float | None = None
    reference_seconds: float | None = None


class _Trials:
    """Real utterances of a target: by verifier, embeddings [R, D] and the centroid of those [D]."""

    def __init__(self, target: Target, voice: Voice, listener: Listener) -> None:
        self.voice = voice
        waves = [load_audio(path) for path in voice.trials]
        self.sample = max(waves, key=lambda wave: min(len(wave), SAMPLE_SECONDS * SAMPLE_RATE))
        found = [listener.embed(wave.numpy()) for wave in waves]
        self.embeddings = {name: np.stack([one[name] for one in found]) for name in found[0]}
        self.centroids: dict[str, Vector] = {}
        real = {}
        rows, columns = np.triu_indices(len(waves), 1)
        for name, own in self.embeddings.items():
            mean = own.mean(0)
            self.centroids[name] = mean / np.linalg.norm(mean)
            real[name] = _rounded((own @ own.T)[rows, columns])
        self.facts = TargetFacts(
            name=target.name,
            audio=f"audio/target/{slug(target.name)}.flac",
            group=target.group,
            references=[path.name for path in voice.references],
            trials=[path.name for path in voice.trials],
            overlap=voice.overlap,
            real_scores=real,
        )

    def likeness(self, made: Heard, original: Heard) -> dict[str, Likeness]:
        """How like the target and its own source a waveform is, by verifier."""
        found = {}
        for name, centroid in self.centroids.items():
            own, before = made.embeddings[name], original.embeddings[name]
            found[name] = Likeness(
                target=float(own @ centroid),
                source=float(own @ before),
                source_to_target=float(before @ centroid),
                scores=_rounded(self.embeddings[name] @ own),
            )
        return found


class Evaluation:
    """Goes through jobs and writes `records.jsonl` and `audio/` into a folder.

    Args:
        converter: what is measured.
        listener: what measures; it is asked once for every distinct waveform.
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
        self.listener = Remembered(listener)
        self.folder = folder
        self.seed = seed
        self.yardsticks = tuple(yardsticks)
        self._sources: dict[Path, _Made] = {}
        self._copies: dict[tuple[str, Path], _Made] = {}
        self._trials: dict[Target, _Trials] = {}
        self._voice: tuple[Target, float, MatchingSet, float] | None = None

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
                    log.write(line_of(done[key]))
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
        transcript = plain(job.source.text or "") if job.source.counted else ""
        _, condition, source, target = _key(system, job)
        return Record(
            system=system,
            condition=condition,
            settings=job.condition.settings if system == CONVERTED else {},
            source=source,
            speaker=job.source.who,
            target=target,
            group=group_name(job),
            audio=made.audio,
            said=transcript,
            recognised=_recognised(transcript, made.heard, original.heard),
            likeness=self._trials[job.target].likeness(made.heard, original.heard),
            distillmos=made.heard.distillmos,
            dnsmos=made.heard.dnsmos,
            pitch=self.listener.pitch_correlation(original.wave, made.wave),
            seconds=len(made.wave) / SAMPLE_RATE,
            reference_seconds=made.reference_seconds,
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
            took = time.perf_counter() - began
            name = f"{slug(system)}/{slug(source.name)}"
            self._copies[key] = self._keep(source, made, rate, name, took)
        return self._copies[key]

    def _convert(self, job: Job) -> _Made:
        condition = job.condition
        references, seconds = self._matching_set(job.target, condition.seconds)
        options = ConvertOptions(lam=condition.lam, k=condition.k)
        began = time.perf_counter()
        waveform, rate = self.converter.convert(job.source.path, references, options)
        took = time.perf_counter() - began
        name = "/".join(map(slug, (condition.label, job.target.name, job.source.name)))
        wave = torch.from_numpy(np.asarray(waveform))
        return self._keep(job.source, wave, rate, name, took, seconds)

    def _keep(
        self,
        source: Source,
        waveform: Tensor,
        rate: int,
        name: str,
        took: float | None = None,
        seconds: float | None = None,
    ) -> _Made:
        """Write what was made of `source` as `audio/NAME.flac`, and listen to it."""
        audio = f"audio/{name}.flac"
        write_audio(self.folder / audio, waveform, rate)
        wave = resample(waveform, rate, SAMPLE_RATE).numpy()
        heard = self.listener.listen(wave, words=source.counted)
        return _Made(wave, heard, audio, took, seconds)

    def _matching_set(self, target: Target, seconds: float) -> tuple[MatchingSet, float]:
        """The first `seconds` of a target's references, and how many there are.

        The last one made is kept.
        """
        if self._voice is None or self._voice[:2] != (target, seconds):
            pieces, left = [], round(seconds * SAMPLE_RATE)
            for path in self._trials[target].voice.references:
                if left <= 0:
                    break
                pieces.append(load_audio(path)[:left])
                left -= len(pieces[-1])
            made = self.converter.matching_set(pieces, sample_rate=SAMPLE_RATE)
            used = sum(map(len, pieces)) / SAMPLE_RATE
            self._voice = (target, seconds, made, used)
        return self._voice[2:]


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


def _recognised(said: str, made: Heard, original: Heard) -> dict[str, Recognised]:
    """Word errors by recogniser: against `said`, or, without it, what is heard in the source."""
    found = {}
    for name, heard in made.texts.items():
        against = said or original.texts[name]
        own = errors(against, original.texts[name])
        found[name] = Recognised(
            heard=heard,
            **asdict(errors(against, heard)),
            source_word_errors=own.word_errors,
            source_character_errors=own.character_errors,
        )
    return found
