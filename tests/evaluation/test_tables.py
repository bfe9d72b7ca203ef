"""From records to rows and tables: sums, dashes, and every format."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable

import pytest

from knnvc.evaluation.demos import Compared
from knnvc.evaluation.measure import Evaluation
from knnvc.evaluation.records import CONVERTED, COPY, SOURCE, Record, TargetFacts
from knnvc.evaluation.summary import by_speaker, columns, summarise
from knnvc.evaluation.tables import (
    FORMATS,
    demo_table,
    latex,
    main_csv,
    main_table,
    markdown,
    rendered,
    target_table,
    text,
)

Make = Callable[..., Record]


def facts(name: str, scores: list[float]) -> TargetFacts:
    return TargetFacts(name, f"{name}.flac", "", [], [], False, {"resemblyzer": scores})


def test_rows_divide_sums_and_average_over_targets(measured: Evaluation, record: Make) -> None:
    anna, ben = measured.targets
    records = [
        record(CONVERTED, "a", anna.name, errors=3, of_source=1, scores=(9.0, 9.0, 9.0)),
        record(CONVERTED, "b", anna.name, words=30, errors=1, scores=(9.0, 9.0, 9.0)),
        record(CONVERTED, "a", ben.name, scores=(-9.0, -9.0, -9.0), like=0.6),
    ]
    (row,) = summarise(records, measured.targets, seed=0)
    values = {key: one.value for key, one in row.values.items() if one is not None}
    assert values["wer"] == pytest.approx(100 * 4 / 50)
    assert values["wer_added"] == pytest.approx(100 * 3 / 50)
    assert values["like_gain"] == pytest.approx(0.8 - 0.4)
    assert values["speed"] == pytest.approx(8.0)
    assert row.values["pitch"] is None
    rates = row.eer_of_targets["resemblyzer"]
    assert rates == pytest.approx({anna.name: 100.0, ben.name: 0.0})
    assert (values["eer"], row.deviation("resemblyzer")) == pytest.approx((50.0, 50.0))
    head, group, line = text(main_table([row], columns(records))).splitlines()
    assert head.split()[:4] == ["system", "n", "WER", "%"]
    assert group == "real → real"
    assert line.startswith("converted, 300 s  3  8.0 ±")


@pytest.mark.parametrize("said", ["five five", ""])
def test_a_source_is_not_compared_with_itself(record: Make, said: str) -> None:
    """Without a transcript its words are its own; its voice and pitch are so always."""
    records = [
        record(system, "a", "anna", said=said, pitch=1.0, errors=errors)
        for system, errors in ((SOURCE, 0), (COPY, 1))
    ]
    source, copy = summarise(records, [facts("anna", [0.8, 0.9])], 0)
    assert (source.values["wer"] is None) == (said == "")
    assert (source.values["cer"] is None) == (said == "")
    for key in ("wer_added", "like_source", "like_gain", "pitch"):
        assert source.values[key] is None
        assert copy.values[key] is not None
    assert source.values["like_target"] is not None
    shown = text(main_table([source], columns(records)))
    assert shown.splitlines()[-1].split()[2:4] == ["0.0" if said else "–", "–"]


@pytest.mark.parametrize(
    ("asked", "used", "name"),
    [
        (60.0, (60.0, 60.0), "converted, 60 s"),
        (300.0, (9.2, 8.9), "converted, 9 s (of 300)"),
        (60.0, (60.0, 44.6), "converted, 45–60 s (of 60)"),
        (86_400.0, (3.2, 8.7), "converted, 3–9 s"),  # all that there is
    ],
)
def test_rows_are_called_after_the_speech_that_was_there(
    record: Make, asked: float, used: tuple[float, ...], name: str
) -> None:
    records = [
        record(CONVERTED, "a", target, asked=asked, reference_seconds=seconds)
        for target, seconds in zip(("anna", "ben"), used, strict=True)
    ]
    targets = [facts("anna", [0.8]), facts("ben", [0.8])]
    (row,) = summarise(records, targets, 0)
    assert row.name == name
    assert row.settings["seconds"] == asked
    assert row.to_dict()["name"] == name


def test_words_lost_by_source_speaker(record: Make) -> None:
    records = [
        record(system, source, target, speaker=source[0], errors=errors, words=words)
        for system, errors in ((SOURCE, 0), (CONVERTED, 3))
        for source, words in (("x1", 10), ("x2", 10), ("y1", 5))
        for target in ("anna", "ben")
    ]
    rows = summarise(records, [facts("anna", []), facts("ben", [])], 0)
    y, x = by_speaker(records, rows, 0)  # the worst first
    assert (x.speaker, x.words, y.speaker, y.words) == ("x", 20, "y", 5)
    for one, wer in ((x, 30.0), (y, 60.0)):
        found, own = one.wer["converted, 300 s"], one.wer["source"]
        assert found is not None
        assert own is not None
        assert (found.value, own.value) == pytest.approx((wer, 0.0))


NASTY = r"=$x^$ & 50 % |a_b| \ <i>"


def test_every_format_keeps_its_cells_apart(record: Make) -> None:
    records = [
        record(CONVERTED, source, NASTY, speaker=f"@{NASTY}{source}", group=NASTY, errors=errors)
        for source, errors in (("a", 1), ("b", 4))
    ]
    rows = summarise(records, [facts(NASTY, [0.4, 0.9])], 0)
    measures, speakers = columns(records), by_speaker(records, rows, 0)
    tables = {name: rendered(name, rows, measures, speakers, []) for name in FORMATS}

    (head, line) = csv.reader(tables["csv"].splitlines())
    cells = dict(zip(head, line, strict=True))
    assert cells["group"] == f"'{NASTY}"  # no spreadsheet computes it
    assert float(cells["wer"]) == pytest.approx(25.0)
    assert (float(cells["wer_low"]), float(cells["wer_high"])) == pytest.approx((10.0, 40.0))
    assert (cells["pitch"], cells["reference_seconds_least"]) == ("", "300.0")

    for line in filter(None, tables["markdown"].splitlines()):
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (14, 4, 3), line
    assert "25.0 [10.0, 40.0]" in tables["markdown"]

    made = tables["latex"]
    assert made.count(r"\begin{tabular}") == made.count(r"\end{tabular}") == 3
    body = made.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert r"=\$x\textasciicircum{}\$ \& 50 \% |a\_b| \textbackslash{} <i>" in body
    converted = next(line for line in body.splitlines() if line.startswith("converted"))
    assert len(re.findall(r"(?<!\\)&", converted)) == len(measures) + 1
    assert "±" in tables["text"]


def test_csv_of_two_conditions_has_a_line_each(record: Make) -> None:
    records = [record(CONVERTED, "a", "anna", asked=asked) for asked in (5.0, 60.0)]
    rows = summarise(records, [facts("anna", [0.4, 0.9])], 0)
    lines = list(csv.DictReader(main_csv(rows, columns(records)).splitlines()))
    assert [line["condition"] for line in lines] == ["5 s", "60 s"]
    assert target_table(rows).head == ["target", "converted, 5 s", "converted, 60 s"]


def test_demos_stand_beside_ours() -> None:
    rows = [Compared("X_1", 4, None, 12.34, 0.7, 0.75, 4.0, 3.5)]
    assert text(demo_table(rows)).splitlines()[-1].split() == (
        ["X_1", "4", "–", "12.3", "0.700", "0.750", "4.00", "3.50"]
    )
    assert r"X\_1" in latex(demo_table(rows))
    assert "| X\\_1 | 4 | – | 12.3 |" in markdown(demo_table(rows))
