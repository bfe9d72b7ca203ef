"""The six kinds of task: how heads learn them, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.errors import KnnvcError
from knnvc.evaluation.probing.base import (
    CLASSIFY,
    EVENTS,
    PARTS,
    QUERY,
    RECOGNISE,
    REGRESS,
    TEST,
    TRAIN,
    VALID,
    VERIFY,
    Example,
    Task,
)
from knnvc.evaluation.probing.encoded import Encoded, averaged, framed, moments, nearest
from knnvc.evaluation.probing.events import LABEL_LEAST, Tracks, onset_counts
from knnvc.evaluation.probing.heads import Heads, Layers, Scaling, Training, learn
from knnvc.evaluation.probing.layers import Hearing
from knnvc.evaluation.probing.queries import search_all
from knnvc.evaluation.statistics import Estimate, bootstrap, equal_error_rate
from knnvc.extras import need

BATCH_FRAMES, BATCH_UTTERANCES = 1024, 12
VOICES = 128  # columns of a speaker embedding
EER_RESAMPLES = 200

Pairs = list[tuple[float, float, str]]
"""For a layer: numerators, denominators and groups of test examples."""


Step = Callable[[int, int], None]


@dataclass
class Findings:
    """What came out of a task, before it is summed up.

    Attributes:
        dims: D by layer.
        pairs: by layer, for a ratio with a bootstrap.
        turn: applied to that ratio, as 1 − x for R².
        compared: by layer and deal, similarities [N, N] of the test recordings of a verification.
        shares: what the mixture takes, by deal.
        chance: what guessing gives.
    """

    dims: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, Pairs] = field(default_factory=dict)
    turn: Callable[[float], float] = float
    compared: dict[str, list[Tensor]] = field(default_factory=dict)
    voices: list[str] = field(default_factory=list)
    shares: list[dict[str, float]] = field(default_factory=list)
    chance: float | None = None

    def add(self, layer: str, pairs: Pairs) -> None:
        """More test examples of a layer."""
        self.pairs.setdefault(layer, []).extend(pairs)

    def weigh(self, heads: Heads) -> None:
        """Note what the mixture takes."""
        if heads.mixture is not None:
            self.shares.append(heads.mixture.shares)

    def estimate(self, layer: str, seed: int) -> Estimate | None:
        """The score of a layer."""
        if layer in self.compared:
            mean = torch.stack(self.compared[layer]).mean(0).numpy()
            return verification(mean, self.voices, seed)
        if not self.pairs.get(layer):
            return None
        top, bottom, groups = zip(*self.pairs[layer], strict=True)
        found = bootstrap(top, bottom, groups, seed)
        if found is None:
            return None
        value, low, high = (self.turn(one) for one in (found.value, found.low, found.high))
        return Estimate(value, min(low, high), max(low, high))


@dataclass(frozen=True)
class Deal:
    """One deal of a task's examples into parts, ready to learn from."""

    task: Task
    examples: list[Example]
    encoded: Encoded
    seed: int
    step: Step | None

    def part(self, name: str) -> list[Example]:
        """The examples of a part."""
        return [one for one in self.examples if one.part == name]

    def heads(self, dims: dict[str, int], outputs: int, hidden: int | None = None) -> Heads:
        """Heads for these layers."""
        width = self.task.hidden if hidden is None else hidden
        return Heads(dims, outputs, width, Training.dropout, self.seed)


@dataclass(frozen=True)
class Kind:
    """Metric, whether more is better (1) or less (-1), what is kept of recordings, and the work.

    `run` adds what it finds in a deal to `Findings`.
    """

    metric: str
    better: int
    keep: Any
    run: Callable[[Deal, Findings], None]


def classify(deal: Deal, found: Findings) -> None:
    """A label for a recording, from the mean of its frames."""
    parts = [deal.part(name) for name in PARTS]
    labels = sorted({one.target for one in parts[0]})
    if strange := {one.target for part in parts[1:] for one in part} - set(labels):
        raise KnnvcError(
            f"the task {deal.task.name} tests a label that it does not teach "
            f"({sorted(strange)[0]}): give that label more recordings"
        )
    layers, wanted = _clips(deal.encoded, parts, labels)
    found.dims = _dims(layers[0])
    heads = deal.heads(found.dims, len(labels))

    def judge(heads: Heads) -> dict[str, float]:
        """Accuracy; among equals, the surer."""
        return {
            name: float((made.argmax(1) == wanted[1]).float().mean())
            - 1e-3 * float(_cross_entropy(made, wanted[1]))
            for name, made in heads(layers[1]).items()
        }

    how = Training(descent=True)
    one = (layers[0], wanted[0])
    learn(heads, lambda _: one, _cross_entropy, judge, how, deal.seed, deal.step)
    found.weigh(heads)
    with torch.inference_mode():
        for name, made in heads(layers[2]).items():
            right = (made.argmax(1) == wanted[2]).tolist()
            found.add(
                name,
                [(float(r), 1.0, _group(one)) for r, one in zip(right, parts[2], strict=True)],
            )
    most = torch.bincount(wanted[0], minlength=len(labels)).argmax()
    found.chance = float((wanted[2] == most).float().mean())


def verify(deal: Deal, found: Findings) -> None:
    """Whether two recordings are of one speaker, by the cosine of what a bottleneck gives."""
    train, test = deal.part(TRAIN), deal.part(TEST)
    labels = sorted({one.target for one in train})
    learnt, checked = _halves(train)
    layers, wanted = _clips(deal.encoded, (learnt, checked, test), labels)
    found.dims = {name: dim // 2 for name, dim in _dims(layers[0]).items()}
    heads = deal.heads(_dims(layers[0]), len(labels), VOICES)
    heads.straighten()

    def judge(heads: Heads) -> dict[str, float]:
        made = heads(layers[1])
        return {name: -float(_cross_entropy(one, wanted[1])) for name, one in made.items()}

    learn(heads, lambda _: (layers[0], wanted[0]), _cross_entropy, judge, Training(), deal.seed,
          deal.step)  # fmt: skip
    found.weigh(heads)
    found.voices, found.chance = [one.target for one in test], 0.5
    with torch.inference_mode():
        for name, vectors in heads.inner(layers[2]).items():
            unit = functional.normalize(vectors, dim=1)
            found.compared.setdefault(name, []).append(unit @ unit.T)


def recognise(deal: Deal, found: Findings) -> None:
    """A sequence of units, by connectionist temporal classification (Graves et al. 2006)."""
    train, encoded = deal.part(TRAIN), deal.encoded
    units = sorted({unit for one in train for unit in one.target})
    place = {unit: index for index, unit in enumerate(units, 1)}  # 0 is the blank
    scaling = Scaling(encoded.joined(train))
    found.dims = _dims(encoded[train[0].name])
    heads = deal.heads(found.dims, 1 + len(units))
    held, said = _padded(encoded, deal.part(VALID), scaling, place)
    rng = np.random.default_rng(deal.seed)
    order: list[int] = []

    def batch(_: int) -> tuple[Layers, object]:
        count = min(BATCH_UTTERANCES, len(train))
        if len(order) < count:
            order.extend(rng.permutation(len(train)).tolist())
        drawn = [train[order.pop(0)] for _ in range(count)]
        return _padded(encoded, drawn, scaling, place)

    def judge(heads: Heads) -> dict[str, float]:
        return {name: -float(_ctc(made, said)) for name, made in heads(held).items()}

    how = Training(rate=3e-3, steps=300, every=25, patience=4)
    learn(heads, batch, _ctc, judge, how, deal.seed, deal.step)
    found.weigh(heads)
    for one in deal.part(TEST):
        with torch.inference_mode():
            for name, made in heads(scaling(encoded[one.name])).items():
                heard = [units[i - 1] for i in collapsed(made.argmax(1).tolist())]
                errors = edits(list(one.target), heard)
                found.add(name, [(float(errors), float(len(one.target)), _group(one))])


def regress(deal: Deal, found: Findings) -> None:
    """A value for every frame; R² on test frames."""
    parts = [_valued(deal.part(name), deal.encoded) for name in PARTS]
    if not all(len(values) for _, values, _ in parts):
        raise KnnvcError(f"the task {deal.task.name} has a part without any value: give it more")
    scaling = Scaling(parts[0][0])
    layers = [scaling(part[0]) for part in parts]
    middle, spread = parts[0][1].mean(), parts[0][1].std(correction=0) + 1e-8
    wanted = [(part[1] - middle) / spread for part in parts]
    found.dims = _dims(layers[0])
    heads = deal.heads(found.dims, 1)

    def loss(made: Tensor, values: Any) -> Tensor:
        return functional.mse_loss(made[:, 0], values)

    def judge(heads: Heads) -> dict[str, float]:
        return {name: -float(loss(one, wanted[1])) for name, one in heads(layers[1]).items()}

    batch = _drawn(layers[0], wanted[0], deal.seed)
    learn(heads, batch, loss, judge, Training(), deal.seed, deal.step)
    found.weigh(heads)
    found.turn, found.chance = lambda ratio: 1.0 - ratio, 0.0
    total = (wanted[2] - wanted[2].mean()).square().tolist()
    with torch.inference_mode():
        for name, made in heads(layers[2]).items():
            left = (made[:, 0] - wanted[2]).square().tolist()
            found.add(name, list(zip(left, total, parts[2][2], strict=True)))


def events(deal: Deal, found: Findings) -> None:
    """What sounds when: F-measure of onsets."""
    train, valid, encoded = deal.part(TRAIN), deal.part(VALID), deal.encoded
    tracks = Tracks(train, encoded)
    scaling = Scaling(encoded.joined(train))
    layers, held = scaling(encoded.joined(train)), scaling(encoded.joined(valid))
    sounding, true = (torch.cat([tracks.rows(one) for one in part]) for part in (train, valid))
    found.dims = _dims(layers)
    heads = deal.heads(found.dims, len(tracks.labels))

    def loss(made: Tensor, wanted: Any) -> Tensor:
        return functional.binary_cross_entropy_with_logits(made, wanted)

    def judge(heads: Heads) -> dict[str, float]:
        return {name: -float(loss(made, true)) for name, made in heads(held).items()}

    batch = _drawn(layers, sounding, deal.seed)
    learn(heads, batch, loss, judge, Training(), deal.seed, deal.step)
    found.weigh(heads)
    with torch.inference_mode():
        chosen = tracks.thresholds(heads, valid, scaling, encoded)
        for one in deal.part(TEST):
            for name, logits in heads(scaling(encoded[one.name])).items():
                heard = tracks.decoded(torch.sigmoid(logits), chosen[name])
                hits, wrong, missed = onset_counts(one.target, heard)
                found.add(name, [(2.0 * hits, 2.0 * hits + wrong + missed, _group(one))])


def query(deal: Deal, found: Findings) -> None:
    """Which recordings hold a spoken word, without any learning: subsequence DTW in each layer."""
    asked, searched = deal.part(TRAIN), deal.part(TEST)
    found.dims, found.chance = _dims(deal.encoded[asked[0].name]), 0.0
    for number, layer in enumerate(found.dims):
        if deal.step:
            deal.step(number, len(found.dims))
        found.add(layer, search_all(asked, searched, deal.encoded, layer))


KINDS: dict[str, Kind] = {
    CLASSIFY: Kind("accuracy", 1, averaged, classify),
    VERIFY: Kind("EER", -1, moments, verify),
    RECOGNISE: Kind("error rate", -1, framed, recognise),
    REGRESS: Kind("R²", 1, framed, regress),
    EVENTS: Kind(f"onset F ({1000 * LABEL_LEAST:.0f} ms)", 1, framed, events),
    QUERY: Kind("MTWV", 1, framed, query),
}


def new_encoded(kind: str, hearing: Hearing) -> Encoded:
    """What keeps recordings for tasks of this kind."""
    return Encoded(hearing, KINDS[kind].keep)


def collapsed(path: Sequence[int]) -> list[int]:
    """What a path of CTC says: repeated units are one, blanks (0) are nothing."""
    return [unit for before, unit in zip([0, *path], path, strict=False) if unit and unit != before]


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, deletions and insertions between two sequences of units."""
    if not said or not heard:
        return max(len(said), len(heard))
    names = {unit: chr(0x4E00 + place) for place, unit in enumerate(sorted({*said, *heard}))}
    one, other = (" ".join(names[unit] for unit in units) for units in (said, heard))
    found = need("jiwer").process_words(one, other)
    return int(found.substitutions + found.deletions + found.insertions)


def verification(scores: npt.NDArray[Any], voices: Sequence[str], seed: int) -> Estimate | None:
    """EER of all pairs of N test recordings; the bootstrap draws speakers.

    `scores` are similarities [N, N], `voices` the speaker of each recording. A speaker who is drawn
    twice is not compared with themselves as if they were two.

    Raises:
        KnnvcError: there are fewer than two speakers.
    """
    speakers = sorted(set(voices))
    if len(speakers) < 2:
        raise KnnvcError("verification needs two test speakers or more: give it more recordings")
    of = {name: [n for n, one in enumerate(voices) if one == name] for name in speakers}

    def rate(drawn: Sequence[str]) -> float | None:
        same: list[float] = []
        other: list[float] = []
        for number, name in enumerate(drawn):
            block = scores[np.ix_(of[name], of[name])]
            same += block[np.triu_indices(len(block), 1)].tolist()
            for second in drawn[number + 1 :]:
                if second != name:
                    other += scores[np.ix_(of[name], of[second])].ravel().tolist()
        return equal_error_rate(same, other) if same and other else None

    value = rate(speakers)
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(speakers), size=(EER_RESAMPLES, len(speakers)))
    rates = [rate([speakers[i] for i in draw]) for draw in draws]
    low, high = np.quantile([one for one in rates if one is not None], [0.025, 0.975])
    return Estimate(value, float(low), float(high))


# Helpers ------------------------------------------------------------------------------------------


def _halves(train: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Of every speaker the last recording to check with, if there are two; the others to learn."""
    last = {one.target: one.name for one in train}
    counts: dict[Any, int] = {}
    for one in train:
        counts[one.target] = counts.get(one.target, 0) + 1
    held = [one for one in train if counts[one.target] > 1 and last[one.target] == one.name]
    names = {one.name for one in held}
    return [one for one in train if one.name not in names], held or list(train)


def _clips(
    encoded: Encoded, parts: Sequence[Sequence[Example]], labels: Sequence[str]
) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
    """Scaled vectors of every part, and the numbers of their labels (−1: unknown)."""
    place = {label: number for number, label in enumerate(labels)}
    raw = [encoded.stacked(part) for part in parts]
    scaling = Scaling(raw[0])
    wanted = [torch.tensor([place.get(one.target, -1) for one in part]) for part in parts]
    return [scaling(layers) for layers in raw], wanted


def _dims(layers: Layers) -> dict[str, int]:
    return {name: values.shape[-1] for name, values in layers.items()}


def _group(one: Example) -> str:
    return one.group or one.name


def _cross_entropy(made: Tensor, wanted: Any) -> Tensor:
    return functional.cross_entropy(made, wanted)


def _drawn(layers: Layers, wanted: Tensor, seed: int) -> Callable[[int], tuple[Layers, object]]:
    """Batches of frames."""
    rng = np.random.default_rng(seed)

    def batch(_: int) -> tuple[Layers, object]:
        rows = torch.from_numpy(rng.integers(len(wanted), size=BATCH_FRAMES))
        return {name: values[rows] for name, values in layers.items()}, wanted[rows]

    return batch


def _padded(
    encoded: Encoded, examples: Sequence[Example], scaling: Scaling, place: dict[str, int]
) -> tuple[Layers, tuple[Tensor, Tensor, Tensor]]:
    """Scaled layers [B, T, D], and for CTC: lengths [B], all units behind each other, counts."""
    kept = [scaling(encoded[one.name]) for one in examples]
    layers = {
        name: torch.nn.utils.rnn.pad_sequence([one[name] for one in kept], batch_first=True)
        for name in kept[0]
    }
    said = [[place[unit] for unit in one.target if unit in place] for one in examples]
    return layers, (
        torch.tensor([encoded.length(one) for one in examples]),
        torch.tensor([unit for units in said for unit in units]),
        torch.tensor([len(units) for units in said]),
    )


def _ctc(made: Tensor, wanted: Any) -> Tensor:
    lengths, units, counts = wanted
    logs = torch.log_softmax(made, dim=-1).transpose(0, 1)
    return functional.ctc_loss(logs, units, lengths, counts, zero_infinity=True)


def _valued(
    examples: Sequence[Example], encoded: Encoded
) -> tuple[dict[str, Tensor], Tensor, list[str]]:
    """Layers [N, D], values [N] and groups of all frames that have a value."""
    layers: dict[str, list[Tensor]] = {}
    values, groups = [], []
    for one in examples:
        told = one.target(one) if callable(one.target) else np.asarray(one.target, np.float32)
        length = encoded.length(one)
        own = nearest(told, encoded.hearing.times(length))
        known = torch.from_numpy(np.isfinite(own))
        for name, frames in encoded[one.name].items():
            layers.setdefault(name, []).append(frames[known].float())
        values.append(torch.from_numpy(own)[known])
        groups += [one.group or one.name] * int(known.sum())
    return {name: torch.cat(own) for name, own in layers.items()}, torch.cat(values), groups
