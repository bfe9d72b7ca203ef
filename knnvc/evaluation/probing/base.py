"""What a probing task is: recordings, what is to be read out of them, and how it is judged.

A frozen encoder hears the recordings; small heads learn from its layers on the part "train", are
chosen on "valid" and judged on "test".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.audio import load_audio, resample
from knnvc.errors import KnnvcError
from knnvc.evaluation.statistics import Estimate

TRAIN, VALID, TEST = "train", "valid", "test"
PARTS = (TRAIN, VALID, TEST)
SUPERB, HEAR, OWN = "SUPERB-style", "HEAR-style", "own"
CLASSIFY, VERIFY, RECOGNISE, REGRESS, EVENTS, QUERY = (
    *("classify", "verify", "recognise", "regress", "events", "query"),
)
KINDS = (CLASSIFY, VERIFY, RECOGNISE, REGRESS, EVENTS, QUERY)
MIXTURE = "all, weighted"
"""The name of the head that learns how much of every layer it takes."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Event:
    """`label` from `start` to `end`, in seconds."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Example:
    """A recording, and what a head shall say of it.

    Attributes:
        name: unique within a task.
        audio: its file, or samples [S] with their rate in Hz.
        target: a label for "classify", "verify" and "query"; units for "recognise"; `Event`s for
            "events"; for "regress" values [T], one every 20 ms and NaN where there is none, or a
            function that makes them of the wave [S] at 16 kHz.
        part: of `PARTS`; for "query" TEST is searched in, and TRAIN holds the queries.
        group: what the bootstrap draws; the name, if nothing is said.
        start, seconds: of the file that is heard; None is to its end.
        contains: for "query": the labels of all words in it, by default the target alone.
    """

    name: str
    audio: Path | tuple[Floats, int]
    target: Any
    part: str
    group: str = ""
    start: float = 0.0
    seconds: float | None = None
    contains: tuple[str, ...] = ()

    def wave(self, rate: int) -> Tensor:
        """Its samples [S] at `rate` Hz."""
        if isinstance(self.audio, Path):
            wave = load_audio(self.audio, rate)
        else:
            samples, given = self.audio
            wave = torch.from_numpy(np.asarray(samples, np.float32))
            wave = resample(wave, given, rate) if given != rate else wave
        first = round(self.start * rate)
        last = None if self.seconds is None else first + round(self.seconds * rate)
        return wave[first:last]


@dataclass(frozen=True)
class Task:
    """A question to an encoder.

    Attributes:
        name: on the command line.
        benchmark: `SUPERB`, `HEAR` or `OWN`.
        kind: of `KINDS`; decides the head and the metric.
        about: what it is, for tables.
        data: where the recordings come from.
        deviations: from the benchmark.
        examples: makes them, given the folders and the seed.
        hidden: columns of a hidden layer of the head; 0 is a linear head.
    """

    name: str
    benchmark: str
    kind: str
    about: str
    data: str
    deviations: str
    examples: Callable[[Places, int], list[Example]]
    hidden: int = 0


@dataclass(frozen=True)
class Places:
    """Where data lie.

    Attributes:
        speech: a folder with `train/manifest.csv` and `eval/manifest.csv` (columns speaker, file,
            text).
        soundfont: for synthesised notes, .sf2.
        samples: a folder of short sounds whose names begin with their kind, "bd_808.flac".
        most: examples of a task at most, 0 for all of them.
    """

    speech: Path = Path("../shared/speech")
    soundfont: Path | None = None
    samples: Path | None = None
    most: int = 0


@dataclass(frozen=True)
class LayerScore:
    """What one layer, or the learned mixture, gives.

    Attributes:
        layer: its name.
        dim: D.
        score: mean over seeds; the bootstrap draws groups of test examples.
        weight: the share that the mixture gives to this layer; None outside of it.
    """

    layer: str
    dim: int
    score: Estimate | None
    weight: float | None = None


@dataclass(frozen=True)
class Result:
    """What an encoder gets in a task.

    `chance` is what guessing gives, None where that says nothing. `counts` tells examples by part.
    """

    task: str
    benchmark: str
    metric: str
    better: int
    chance: float | None
    encoder: str
    counts: dict[str, int]
    scores: list[LayerScore]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> LayerScore | None:
        """The best single layer on the test part, which flatters it a little."""
        known = [one for one in self.scores if one.score is not None and one.layer != MIXTURE]
        if not known:
            return None
        return max(known, key=lambda one: self.better * one.score.value)  # type: ignore[union-attr]

    @property
    def mixture(self) -> LayerScore | None:
        """The learned mixture of all layers, if the task has one."""
        return next((one for one in self.scores if one.layer == MIXTURE), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """What `to_dict` made.

        Raises:
            TypeError, KeyError, AttributeError: these are not its values.
        """
        scores = [
            LayerScore(**{**one, "score": one["score"] and Estimate(**one["score"])})
            for one in values["scores"]
        ]
        return cls(**{**values, "scores": scores})


def check_examples(task: Task, examples: Sequence[Example]) -> None:
    """Raise KnnvcError unless every part that the kind of task needs is there."""
    needed = {
        VERIFY: (TRAIN, TEST),
        QUERY: (TRAIN, TEST),
    }.get(task.kind, PARTS)
    counts = count_parts(examples)
    if missing := [part for part in needed if not counts[part]]:
        raise KnnvcError(
            f"the task {task.name} has no example in its part {missing[0]!r}: give it more "
            "recordings"
        )
    if task.kind == CLASSIFY:
        known = {one.target for one in examples if one.part == TRAIN}
        if len(known) < 2:
            raise KnnvcError(f"the task {task.name} has fewer than two labels: give it more")


def count_parts(examples: Sequence[Example]) -> dict[str, int]:
    """How many examples each part has."""
    return {part: sum(one.part == part for one in examples) for part in PARTS}


def digest(examples: Sequence[Example]) -> str:
    """Identifies the data of a task: names, parts, targets and cuts, not the samples of files."""
    told = [
        [one.name, one.part, one.start, one.seconds, _plain(one.target), one.contains]
        for one in examples
    ]
    return hashlib.sha256(json.dumps(told, ensure_ascii=False).encode()).hexdigest()[:16]


def _plain(target: Any) -> Any:
    if callable(target):
        return getattr(target, "__name__", "function")
    if isinstance(target, np.ndarray):
        return hashlib.sha256(target.tobytes()).hexdigest()[:16]
    if isinstance(target, list | tuple):
        return [_plain(one) for one in target]
    return asdict(target) if isinstance(target, Event) else target


def dealt(names: Sequence[str], seed: int, shares: tuple[float, float] = (0.6, 0.2)) -> list[str]:
    """A part for each name: shares of train and valid, the rest test, drawn by `seed`.

    With three names or more none of the parts is empty.
    """
    order = np.random.default_rng(seed).permutation(len(names))
    train = max(1, round(shares[0] * len(names)))
    valid = max(1, round(shares[1] * len(names)))
    if train + valid >= len(names) > 2:
        train = len(names) - valid - 1
    parts = [TEST] * len(names)
    for place, number in enumerate(order):
        if place < train:
            parts[number] = TRAIN
        elif place < train + valid:
            parts[number] = VALID
    return parts
