"""Which phones are lost, by class and by speaker: source, copy-synthesis and conversions.

    knnvc evaluate --bench LibriSpeech/test-clean -o results/
    python benchmarks/lost_words.py results/                        # a folder of knnvc evaluate
    python benchmarks/lost_words.py results/ --recogniser moonshine --speaker p225

The phones of the transcript and those of the words that a recogniser heard (both by espeak-ng) are
aligned. A phone of the transcript is heard as itself, as another one, or not at all. Words that a
recogniser guesses from context hide phones that were lost, so the shares are lower bounds. The
share for "source" is what the recogniser itself gets wrong.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from manners import MANNER_OF, MANNERS

from knnvc.evaluation.records import CONVERTED, COPY, RECORDS, SOURCE, Record, read_records
from knnvc.evaluation.tables import DASH, Table, markdown
from knnvc.text.espeak import phonemize

NOTHING = ""  # what a lost phone is heard as
ALIKE, UNLIKE, MISSING = 0.7, 1.2, 1.0  # costs: another phone of the class, of another one, none
MOST_PAIRS = 12  # confusions listed

Pair = tuple[str, str]
"""A phone that is said, and the phone that is heard."""


@cache
def phones(text: str) -> str:
    """The phones of a text, without stress, length and gaps."""
    return "".join(sign for sign in phonemize(text) if sign in MANNER_OF)


def align(said: str, heard: str) -> list[Pair]:
    """Pairs by the cheapest alignment; what is added has no phone that is said."""
    costs = [[MISSING * column for column in range(len(heard) + 1)]]
    for row, one in enumerate(said, 1):
        line = [MISSING * row]
        for column, other in enumerate(heard, 1):
            line.append(
                min(
                    costs[-1][column - 1] + _cost(one, other),
                    costs[-1][column] + MISSING,
                    line[-1] + MISSING,
                )
            )
        costs.append(line)
    pairs = []
    row, column = len(said), len(heard)
    while row or column:
        here = costs[row][column]
        together = row and column
        if together and here == costs[row - 1][column - 1] + _cost(
            said[row - 1], heard[column - 1]
        ):
            row, column = row - 1, column - 1
            pairs.append((said[row], heard[column]))
        elif row and here == costs[row - 1][column] + MISSING:
            row -= 1
            pairs.append((said[row], NOTHING))
        else:
            column -= 1
            pairs.append((NOTHING, heard[column]))
    return pairs[::-1]


def _cost(one: str, other: str) -> float:
    if one == other:
        return 0.0
    return ALIKE if MANNER_OF[one] == MANNER_OF[other] else UNLIKE


def confusions(records: Iterable[Record], recogniser: str) -> Counter[Pair]:
    """How often each phone is heard as each other one."""
    found: Counter[Pair] = Counter()
    for record in records:
        found.update(align(phones(record.said), phones(record.recognised[recogniser].heard)))
    return found


def shares(found: Counter[Pair], name: str) -> list[float]:
    """Of the phones of a class in per cent: right, as one of the class, of another, not at all."""
    own = {pair: count for pair, count in found.items() if MANNER_OF.get(pair[0]) == name}
    total = sum(own.values())
    kinds = [0, 0, 0, 0]
    for (one, other), count in own.items():
        alike = MANNER_OF.get(other) == name
        kinds[0 if one == other else 1 if alike else 2 if other else 3] += count
    return [100 * kind / total for kind in kinds] if total else []


def class_table(systems: dict[str, Counter[Pair]]) -> Table:
    """A line for each class and system."""
    lines: list[list[str]] = []
    for name in MANNERS:
        lines.append([name])
        for system, found in systems.items():
            total = sum(count for (one, _), count in found.items() if MANNER_OF.get(one) == name)
            cells = [f"{share:.1f}" for share in shares(found, name)] or [DASH] * 4
            lines.append([system, str(total), *cells])
    head = ["", "phones", "right %", "same class %", "other class %", "lost %"]
    return Table("Phones by class: how they are heard", head, lines)


def matrix_table(system: str, found: Counter[Pair]) -> Table:
    """Classes said, by classes heard, in per cent of what is said."""
    lines = []
    for name in MANNERS:
        heard: Counter[str] = Counter()
        for (one, other), count in found.items():
            if MANNER_OF.get(one) == name and one != other:
                heard[MANNER_OF.get(other, "lost")] += count
        total = sum(count for (one, _), count in found.items() if MANNER_OF.get(one) == name)
        columns = [*MANNERS, "lost"]
        share = [f"{100 * heard[kind] / total:.1f}" if total else DASH for kind in columns]
        lines.append([name, *share])
    return Table(f"{system}: heard wrongly as", ["said", *MANNERS, "lost"], lines)


def pair_table(system: str, found: Counter[Pair], before: Counter[Pair]) -> Table:
    """The confusions that cost most, in per cent of the phone said, and the same of the source."""
    said: Counter[str] = Counter()
    said_before: Counter[str] = Counter()
    for counted, whole in ((found, said), (before, said_before)):
        for (one, _), count in counted.items():
            whole[one] += count
    worst = [(pair, n) for pair, n in found.most_common() if pair[0] and pair[0] != pair[1]]
    lines = [
        [
            f"{one} → {other or 'lost'}",
            str(count),
            f"{100 * count / said[one]:.1f}",
            f"{100 * before[one, other] / said_before[one]:.1f}" if said_before[one] else DASH,
        ]
        for (one, other), count in worst[:MOST_PAIRS]
    ]
    return Table(f"{system}: the confusions that cost most", ["", "n", "%", "source %"], lines)


def speaker_table(records: Sequence[Record], names: dict[str, str], recogniser: str) -> Table:
    """Phones heard wrongly or not at all, by speaker of the source and class."""
    systems = list(dict.fromkeys(names.values()))
    lines: list[list[str]] = []
    for speaker in dict.fromkeys(record.speaker for record in records):
        for system in systems:
            own = [r for r in records if r.speaker == speaker and names[_label(r)] == system]
            found = confusions(own, recogniser)
            wrong = [shares(found, name) for name in MANNERS]
            cells = [f"{100 - one[0]:.1f}" if one else DASH for one in wrong]
            lines.append([f"{speaker}, {system}", *cells])
    return Table("Heard wrongly or not at all, %", ["speaker", *MANNERS], lines)


def _label(record: Record) -> str:
    return f"{record.system}, {record.condition}" if record.condition else record.system


def main() -> None:
    """Read records.jsonl and print Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of knnvc evaluate")
    parser.add_argument("--recogniser", default="whisper", help="[default: whisper]")
    parser.add_argument("--speaker", help="of the sources; all, if none is named")
    arguments = parser.parse_args()
    every = [
        record
        for record in read_records(arguments.results / RECORDS)
        if record.said and record.system in (SOURCE, COPY, CONVERTED)
        if arguments.speaker in (None, record.speaker)
    ]
    if not every:
        parser.error(f"{arguments.results} has no records with a transcript")
    if arguments.recogniser not in every[0].recognised:
        parser.error(f"choose a recogniser among {', '.join(every[0].recognised)}")
    # A source and its copy are the same for all targets: once is enough.
    kept = {(_label(r), r.source, r.target if r.system == CONVERTED else ""): r for r in every}
    records = list(kept.values())
    names = {label: label for label in dict.fromkeys(map(_label, records))}
    systems = {
        name: confusions([r for r in records if _label(r) == name], arguments.recogniser)
        for name in names
    }
    made = [class_table(systems)]
    for name, found in systems.items():
        if name != SOURCE:
            made += [matrix_table(name, found), pair_table(name, found, systems.get(SOURCE, found))]
    if arguments.speaker is None:
        made.append(speaker_table(records, names, arguments.recogniser))
    print("\n".join(map(markdown, made)))


if __name__ == "__main__":
    main()
