"""From records to rows: one for each pair of groups, system and condition; and one by speaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from knnvc.evaluation.plan import ALL_SECONDS
from knnvc.evaluation.records import CONVERTED, COPY, SOURCE, Record, TargetFacts
from knnvc.evaluation.statistics import Estimate, bootstrap, equal_error_rate

EER_RESAMPLES = 200  # of the utterances; each takes as many ROC curves as there are targets
MAIN, MORE, OTHERS = "main", "more", "others"

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
        part: of the page: `MAIN`, `MORE`, or `OTHERS` for further instruments.
        verifier: whose equal error rate it is, if it is one.
    """

    key: str
    title: str
    about: str
    digits: int
    pair: Callable[[Record], Pair | None]
    better: int = 1
    part: str = MAIN
    verifier: str = ""


@dataclass(frozen=True)
class Row:
    """What a system does under a condition.

    Attributes:
        group: groups of source and target; empty without groups.
        system: see `knnvc.evaluation.records`.
        condition: label; empty for the yardsticks. It holds the seconds asked for.
        settings: of the condition, as in `Record`.
        reference_seconds: least and most seconds of reference that were really used.
        count: recordings measured.
        values: by `Measure.key`; None where nothing could be measured.
        eer_of_targets: equal error rates in per cent, by verifier and target.
    """

    group: str
    system: str
    condition: str
    settings: dict[str, float]
    reference_seconds: tuple[float, float] | None
    count: int
    values: dict[str, Estimate | None]
    eer_of_targets: dict[str, dict[str, float]]

    @property
    def name(self) -> str:
        """The system, and what was really used for it."""
        if not self.condition:
            return self.system
        _, *rest = self.condition.split(", ")
        return ", ".join([self.system, self.reference, *rest])

    @property
    def reference(self) -> str:
        """The seconds of reference that were really used, and those asked for where they differ."""
        asked = self.settings.get("seconds", 0.0)
        least, most = self.reference_seconds or (asked, asked)
        if round(least) == round(most) == round(asked):
            return f"{asked:g} s"
        span = f"{least:.0f}" if round(least) == round(most) else f"{least:.0f}–{most:.0f}"
        return f"{span} s" if asked >= ALL_SECONDS else f"{span} s (of {asked:g})"

    def deviation(self, verifier: str) -> float | None:
        """Standard deviation of the equal error rate over the targets, in points."""
        rates = list(self.eer_of_targets.get(verifier, {}).values())
        return float(np.std(rates)) if len(rates) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "name": self.name}


@dataclass(frozen=True)
class SpeakerRow:
    """Words of one source speaker that are lost, in per cent, by system and condition.

    Attributes:
        speaker: who speaks in the sources.
        words: in the sources.
        wer: by `Row.name`; None where no words are counted.
    """

    speaker: str
    words: int
    wer: dict[str, Estimate | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def columns(records: Sequence[Record]) -> tuple[Measure, ...]:
    """The columns for these records: the first recogniser and verifier, then what was added."""
    recognisers = list(records[0].recognised) if records else []
    verifiers = list(records[0].likeness) if records else []
    made = [*_word_measures("", recognisers[0])] if recognisers else []
    made += _voice_measures("", verifiers[0]) if verifiers else []
    made += _SOUND
    for name in recognisers[1:]:
        made += _word_measures(name, name)
    for name in verifiers[1:]:
        made += _voice_measures(name, name)
    return tuple(made)


def summarise(records: Sequence[Record], targets: Sequence[TargetFacts], seed: int) -> list[Row]:
    """Rows in the order in which their records come, groups together, conversions last.

    `seed` is of the bootstrap.
    """
    real = {target.name: target.real_scores for target in targets}
    groups = list(dict.fromkeys(record.group for record in records))
    keys = dict.fromkeys((record.group, record.system, record.condition) for record in records)
    measures = columns(records)
    rows = []
    for key in sorted(keys, key=lambda key: groups.index(key[0])):
        own = [r for r in records if (r.group, r.system, r.condition) == key]
        values: dict[str, Estimate | None] = {}
        rates: dict[str, dict[str, float]] = {}
        for measure in measures:
            if measure.verifier:
                rates[measure.verifier] = _rates(own, real, measure.verifier)
                values[measure.key] = _eer(own, real, measure.verifier, seed)
            else:
                values[measure.key] = _estimate(own, measure, seed)
        used = [r.reference_seconds for r in own if r.reference_seconds is not None]
        span = (min(used), max(used)) if used else None
        rows.append(Row(*key, own[0].settings, span, len(own), values, rates))
    return rows


def by_speaker(records: Sequence[Record], rows: Sequence[Row], seed: int) -> list[SpeakerRow]:
    """Word error rates of every source speaker, the worst under the last condition first."""
    shown = [row for row in rows if row.system in (SOURCE, COPY, CONVERTED)]
    names = {(row.group, row.system, row.condition): row.name for row in shown}
    measure = next((one for one in columns(records) if one.key == "wer"), None)
    found = []
    for speaker in dict.fromkeys(record.speaker for record in records):
        own = [record for record in records if record.speaker == speaker]
        wer: dict[str, Estimate | None] = {}
        for name in dict.fromkeys(names.values()):
            these = [r for r in own if names.get((r.group, r.system, r.condition)) == name]
            wer[name] = _estimate(these, measure, seed) if measure and these else None
        words = {record.source: record.words.words for record in own if record.said}
        found.append(SpeakerRow(speaker, sum(words.values()), wer))

    def worst(row: SpeakerRow) -> float:
        last = list(row.wer.values())[-1] if row.wer else None
        return -last.value if last else 0.0

    return sorted(found, key=worst)


def _word_measures(suffix: str, name: str) -> list[Measure]:
    """WER and its growth by the recogniser `name`; for the first one the CER, too."""

    def words(record: Record) -> Pair | None:
        found = record.recognised[name]
        return None if record.self_compared else (100.0 * found.word_errors, found.words)

    def added(record: Record) -> Pair | None:
        found = record.recognised[name]
        more = found.word_errors - found.source_word_errors
        return None if record.system == SOURCE else (100.0 * more, found.words)

    def letters(record: Record) -> Pair | None:
        found = record.recognised[name]
        return None if record.self_compared else (100.0 * found.character_errors, found.characters)

    key, title, part = _suffixed(suffix)
    made = [
        Measure(
            f"wer{key}",
            f"WER %{title}",
            f"word errors heard by {name}, against the transcript; without one, against the words "
            "that it hears in the source",
            1,
            words,
            -1,
            part,
        ),
        Measure(
            f"wer_added{key}",
            f"added{title}",
            "word error rate minus the source's, in points",
            1,
            added,
            -1,
            part,
        ),
    ]
    if not suffix:
        made.append(Measure("cer", "CER %", "character errors, as WER", 1, letters, -1, MORE))
    return made


def _voice_measures(suffix: str, name: str) -> list[Measure]:
    """Similarities and equal error rate by the verifier `name`."""

    def gain(record: Record) -> Pair | None:
        found = record.likeness[name]
        return None if record.system == SOURCE else (found.target - found.source_to_target, 1.0)

    def source(record: Record) -> Pair | None:
        return None if record.system == SOURCE else (record.likeness[name].source, 1.0)

    key, title, part = _suffixed(suffix)
    return [
        Measure(
            f"like_target{key}",
            f"like target{title}",
            f"cosine similarity of speaker embeddings ({name}) to the target's mean",
            3,
            lambda r: (r.likeness[name].target, 1.0),
            part=part,
        ),
        Measure(
            f"like_source{key}",
            f"like source{title}",
            "cosine similarity to the source recording",
            3,
            source,
            0,
            part,
        ),
        Measure(
            f"like_gain{key}",
            f"gain{title}",
            "similarity to the target minus the source's similarity to the target",
            3,
            gain,
            part=part,
        ),
        Measure(
            f"eer{key}",
            f"EER %{title}",
            f"equal error rate of speaker verification by {name}, mean over targets; at 50 it "
            "cannot tell the converted from the real",
            1,
            lambda r: None,
            part=part,
            verifier=name,
        ),
    ]


def _suffixed(name: str) -> tuple[str, str, str]:
    """Suffix of keys, suffix of titles, and part of the page."""
    return (f"_{name}", f" {name}", OTHERS) if name else ("", "", MAIN)


def _pitch(record: Record) -> Pair | None:
    return None if record.pitch is None or record.system == SOURCE else (record.pitch, 1.0)


def _timed(record: Record) -> Pair | None:
    return None if record.compute_seconds is None else (record.seconds, record.compute_seconds)


_SOUND = [
    Measure(
        "distillmos",
        "DistillMOS",
        "predicted naturalness, 1 to 5",
        2,
        lambda r: (r.distillmos, 1.0),
    ),
    Measure(
        "dnsmos", "DNSMOS", "predicted quality, 1 to 5", 2, lambda r: (r.dnsmos, 1.0), part=MORE
    ),
    Measure("pitch", "pitch", "correlation of log f0 with the source's", 2, _pitch, part=MORE),
    Measure(
        "speed",
        "x real time",
        "seconds of speech for each second of computing; the matching set was there",
        1,
        _timed,
        part=MORE,
    ),
]


def _estimate(records: Sequence[Record], measure: Measure, seed: int) -> Estimate | None:
    pairs = [(pair, r.source) for r in records if (pair := measure.pair(r)) is not None]
    return bootstrap(
        [top for (top, _), _ in pairs],
        [bottom for (_, bottom), _ in pairs],
        [source for _, source in pairs],
        seed,
    )


def _rates(
    records: Sequence[Record], real: dict[str, dict[str, list[float]]], verifier: str
) -> dict[str, float]:
    """Equal error rate in per cent of every target that has real pairs to compare with."""
    converted: dict[str, list[float]] = {}
    for record in records:
        converted.setdefault(record.target, []).extend(record.likeness[verifier].scores)
    return {
        target: 100.0 * equal_error_rate(real[target][verifier], scores)
        for target, scores in converted.items()
        if real[target][verifier] and scores
    }


def _eer(
    records: Sequence[Record],
    real: dict[str, dict[str, list[float]]],
    verifier: str,
    seed: int,
) -> Estimate | None:
    """Mean over targets, with a bootstrap over source utterances."""
    rates = _rates(records, real, verifier)
    if not rates:
        return None
    by_source: dict[str, list[Record]] = {}
    for record in records:
        by_source.setdefault(record.source, []).append(record)
    sources = list(by_source.values())
    draws = np.random.default_rng(seed).integers(len(sources), size=(EER_RESAMPLES, len(sources)))
    means = []
    for draw in draws:
        drawn = _rates([record for i in draw for record in sources[i]], real, verifier)
        if drawn:
            means.append(np.mean(list(drawn.values())))
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(np.mean(list(rates.values()))), float(low), float(high))
