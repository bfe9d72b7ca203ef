"""From records to a table: one row for each pair of groups, system and condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from knnvc.evaluation.measure import Record, TargetFacts
from knnvc.evaluation.statistics import Estimate, bootstrap, equal_error_rate

EER_RESAMPLES = 200  # of the utterances; each takes as many ROC curves as there are targets

Pair = tuple[float, float]
"""A numerator and a denominator."""


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        key: in the JSON.
        title: above the column.
        about: what it says, for people.
        digits: after the point.
        pair: numerator and denominator of a record; None leaves the record out.
        better: 1 if more is better, -1 if less is, 0 if neither.
    """

    key: str
    title: str
    about: str
    digits: int
    pair: Callable[[Record], Pair | None]
    better: int = 1


def _timed(record: Record) -> Pair | None:
    return None if record.compute_seconds is None else (record.seconds, record.compute_seconds)


MEASURES = (
    Measure(
        "wer",
        "WER %",
        "word errors against the transcript, or against what is heard in the source",
        1,
        lambda r: (100.0 * r.word_errors, r.words),
        -1,
    ),
    Measure(
        "wer_added",
        "added",
        "word error rate minus that of the source, in points",
        1,
        lambda r: (100.0 * (r.word_errors - r.source_word_errors), r.words),
        -1,
    ),
    Measure(
        "cer",
        "CER %",
        "character errors, as WER",
        1,
        lambda r: (100.0 * r.character_errors, r.characters),
        -1,
    ),
    Measure(
        "like_target",
        "like target",
        "cosine similarity of speaker embeddings to the target's mean",
        3,
        lambda r: (r.like_target, 1.0),
    ),
    Measure(
        "like_gain",
        "gain",
        "similarity to the target minus the source's similarity to the target",
        3,
        lambda r: (r.like_target - r.source_like_target, 1.0),
    ),
    Measure(
        "like_source",
        "like source",
        "cosine similarity to the source",
        3,
        lambda r: (r.like_source, 1.0),
        0,
    ),
    Measure(
        "distillmos",
        "DistillMOS",
        "predicted naturalness, 1 to 5",
        2,
        lambda r: (r.distillmos, 1.0),
    ),
    Measure("dnsmos", "DNSMOS", "predicted quality, 1 to 5", 2, lambda r: (r.dnsmos, 1.0)),
    Measure(
        "pitch",
        "pitch",
        "correlation of log f0 with the source's",
        2,
        lambda r: None if r.pitch is None else (r.pitch, 1.0),
    ),
    Measure(
        "speed",
        "x real time",
        "seconds of speech for each second of computing; the matching set was there",
        1,
        _timed,
    ),
)
EER = Measure(
    "eer",
    "EER %",
    "speaker verification's equal error rate, mean over targets; 50 cannot be told from the target",
    1,
    lambda r: None,
)
COLUMNS = (*MEASURES[:6], EER, *MEASURES[6:])


@dataclass(frozen=True)
class Row:
    """What a system does under a condition.

    Attributes:
        group: groups of source and target; empty without groups.
        system: see `knnvc.evaluation.measure`.
        condition: label; empty for the yardsticks.
        settings: of the condition, as in `Record`.
        count: recordings measured.
        values: by `Measure.key`; None where nothing could be measured.
        eer_deviation: standard deviation of the equal error rate over the targets, in points.
        eer_of_targets: equal error rates in per cent, by target.
    """

    group: str
    system: str
    condition: str
    settings: dict[str, float]
    count: int
    values: dict[str, Estimate | None]
    eer_deviation: float | None
    eer_of_targets: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def summarise(records: Sequence[Record], targets: Sequence[TargetFacts], seed: int) -> list[Row]:
    """Rows in the order in which their records come, groups together, conversions last.

    `seed` is of the bootstrap.
    """
    real = {target.name: target.real_scores for target in targets}
    groups = list(dict.fromkeys(record.group for record in records))
    keys = dict.fromkeys((record.group, record.system, record.condition) for record in records)
    rows = []
    for key in sorted(keys, key=lambda key: groups.index(key[0])):
        own = [r for r in records if (r.group, r.system, r.condition) == key]
        values: dict[str, Estimate | None] = {}
        for measure in MEASURES:
            pairs = [(pair, r.source) for r in own if (pair := measure.pair(r)) is not None]
            values[measure.key] = bootstrap(
                [top for (top, _), _ in pairs],
                [bottom for (_, bottom), _ in pairs],
                [source for _, source in pairs],
                seed,
            )
        rates = _rates(own, real)
        deviation = float(np.std(list(rates.values()))) if rates else None
        values[EER.key] = _eer(own, real, rates, seed)
        rows.append(Row(*key, own[0].settings, len(own), values, deviation, rates))
    return rows


def _rates(records: Sequence[Record], real: dict[str, list[float]]) -> dict[str, float]:
    """Equal error rate in per cent of every target that has real pairs to compare with."""
    converted: dict[str, list[float]] = {}
    for record in records:
        converted.setdefault(record.target, []).extend(record.scores)
    return {
        target: 100.0 * equal_error_rate(real[target], scores)
        for target, scores in converted.items()
        if real[target] and scores
    }


def _eer(
    records: Sequence[Record], real: dict[str, list[float]], rates: dict[str, float], seed: int
) -> Estimate | None:
    """Mean over targets, with a bootstrap over source utterances."""
    if not rates:
        return None
    by_source: dict[str, list[Record]] = {}
    for record in records:
        by_source.setdefault(record.source, []).append(record)
    sources = list(by_source.values())
    draws = np.random.default_rng(seed).integers(len(sources), size=(EER_RESAMPLES, len(sources)))
    means = []
    for draw in draws:
        drawn = _rates([record for i in draw for record in sources[i]], real)
        if drawn:
            means.append(np.mean(list(drawn.values())))
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(np.mean(list(rates.values()))), float(low), float(high))


def text_table(rows: Sequence[Row]) -> list[str]:
    """Lines for a terminal: values, each with half the width of its confidence interval."""
    head = ["system", "n", *(measure.title for measure in COLUMNS)]
    lines: list[list[str]] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append([group])
        name = row.system if not row.condition else f"{row.system}, {row.condition}"
        lines.append([name, str(row.count), *(_cell(row, measure) for measure in COLUMNS)])
    widths = [
        max(len(line[i]) for line in [head, *lines] if len(line) > i) for i in range(len(head))
    ]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in [head, *lines]
    ]


def _cell(row: Row, measure: Measure) -> str:
    estimate = row.values[measure.key]
    if estimate is None:
        return "–"
    half = (estimate.high - estimate.low) / 2
    value = f"{estimate.value:.{measure.digits}f}"
    return f"{value} ±{half:.{measure.digits}f}" if half else value
