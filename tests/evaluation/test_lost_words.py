"""`benchmarks/lost_words.py`: phones of the transcript beside those that are heard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from knnvc.evaluation.records import CONVERTED, RECORDS, SOURCE, Record, line_of


@pytest.fixture
def lost(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("lost_words")


def test_phones_are_those_of_the_classes(lost: ModuleType) -> None:
    assert lost.phones("three blind mice") == "θɹiblaɪndmaɪs"
    assert sorted(lost.MANNER_OF) == sorted("".join(lost.MANNERS.values()))  # no phone in two


@pytest.mark.parametrize(
    ("said", "heard", "pairs"),
    [
        ("bæt", "bæt", ["bb", "ææ", "tt"]),
        ("bæt", "pæt", ["bp", "ææ", "tt"]),
        ("bæt", "bt", ["bb", "æ", "tt"]),  # lost
        ("bt", "bæt", ["bb", "æ", "tt"]),  # added
        ("sɪn", "θɛn", ["sθ", "ɪɛ", "nn"]),  # classes are kept together
        ("", "a", ["a"]),
    ],
)
def test_alignment(lost: ModuleType, said: str, heard: str, pairs: list[str]) -> None:
    assert ["".join(pair) for pair in lost.align(said, heard)] == pairs


def test_classes_by_system_and_speaker(
    lost: ModuleType,
    record: Callable[..., Record],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The source is understood; of the conversion a nasal becomes a stop, a fricative is lost."""

    def heard(system: str, words: str) -> Record:
        made = record(system, "p225/1", "anna", speaker="p225", said="mice")
        told = replace(made.recognised["whisper"], heard=words)
        return replace(made, recognised={"whisper": told})

    lines = [heard(SOURCE, "mice"), heard(CONVERTED, "by")]
    (tmp_path / RECORDS).write_text("".join(map(line_of, lines)))
    monkeypatch.setattr(sys, "argv", ["lost_words.py", str(tmp_path)])
    lost.main()
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    titles = [row[0] for row in rows if row]
    nasals, fricatives = (titles.index(name) for name in ("nasals", "fricatives"))
    rows = [row for row in rows if row]
    assert rows[nasals + 1] == ["source", "1", "100.0", "0.0", "0.0", "0.0"]
    assert rows[nasals + 2] == ["converted, 300 s", "1", "0.0", "0.0", "100.0", "0.0"]
    assert rows[fricatives + 2] == ["converted, 300 s", "1", "0.0", "0.0", "0.0", "100.0"]
    assert ["m → b", "1", "100.0", "0.0"] in rows
    assert ["p225, converted, 300 s", "0.0", "–", "100.0", "100.0", "–"] in rows
