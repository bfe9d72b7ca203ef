"""Plans: what is converted to whom, under which conditions."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from knnvc.errors import UsageError
from knnvc.evaluation.plan import (
    Condition,
    Source,
    Target,
    conditions,
    folder_jobs,
    manifest_jobs,
    parse_sweeps,
    readable,
    split_target,
)

Tone = Callable[..., Path]


def test_sweeps_combine() -> None:
    swept = parse_sweeps(["lam=0,0.5", "seconds=10,30,60"])
    found = conditions(Condition(k=8), swept)
    assert len(found) == 6
    assert {(one.lam, one.seconds) for one in found} == set(
        itertools.product((0.0, 0.5), (10.0, 30.0, 60.0))
    )
    assert found[0].label == "10 s, k 8, λ 0"
    assert conditions(Condition(), {}) == [Condition()]
    assert conditions(Condition(), parse_sweeps(["k=1,4"]))[1].settings == {"k": 4, "seconds": 300}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pitch=1", "give each of lam, k, seconds"),
        ("lam", "give numbers, as lam=1,2,3"),
        ("lam=a,b", "give numbers"),
        ("k=1.5", "k is a whole number"),
    ],
)
def test_sweeps_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_sweeps([text])
    with pytest.raises(UsageError, match="at most once"):
        parse_sweeps(["k=1", "k=2"])


def test_a_manifest_is_relative_to_itself(tmp_path: Path, speakers: Path, tone: Tone) -> None:
    tone(tmp_path / "talks/one.wav")
    manifest = tmp_path / "list.csv"
    with manifest.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["source", "target", "text", "language", "reference_seconds", "source_group"]
        )
        table.writerow(["talks/one.wav", "targets/anna", "five five", "", "7", "real"])
        table.writerow(["talks/one.wav", "targets/ben", "", "fr", "", "real"])
    first, second = manifest_jobs(manifest, [Condition()])
    assert (first.source.language, second.source.language) == ("en", "fr")
    assert first.source == Source(tmp_path / "talks/one.wav", "five five", "real")
    assert (first.source.name, first.target.name) == ("talks/one", "anna")
    assert (first.condition.seconds, second.condition.seconds) == (7.0, 300.0)
    assert second.source.text is None
    swept = manifest_jobs(manifest, conditions(Condition(), parse_sweeps(["seconds=5,10"])))
    assert sorted(job.condition.seconds for job in swept) == [5, 5, 10, 10]
    lines = [{"source": "talks/one.wav", "target": "targets/ben", "target_group": "real"}]
    jsonl = tmp_path / "list.jsonl"
    jsonl.write_text("\n".join(map(json.dumps, lines)))
    assert manifest_jobs(jsonl, [Condition()])[0].target == Target(speakers / "ben", "real")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "source,target\nmissing.wav,targets/anna\n", "entry 1: the source 'missing.wav'"),
        ("a.csv", "source,target\n,targets/anna\n", "entry 1: the source ''"),
        ("a.csv", "source,goal\na,b\n", "unknown column goal; use source, target"),
        ("a.csv", "source,target\n", "there is nothing to convert"),
        ("a.csv", "source,target\nx,targets/anna,too,much\n", "unknown column"),
        ("a.jsonl", "{half\n", "is no CSV or JSON lines"),
        ("a.jsonl", "3\n", "is no CSV or JSON lines"),
        (
            "a.csv",
            "source,target,reference_seconds\ntargets/ben/0.flac,targets/anna,long\n",
            "reference_seconds is 'long', no number",
        ),
    ],
)
@pytest.mark.usefixtures("speakers")
def test_manifests_that_are_none(tmp_path: Path, name: str, text: str, reason: str) -> None:
    manifest = tmp_path / name
    manifest.write_text(text)
    with pytest.raises(UsageError, match=re.escape(reason)):
        manifest_jobs(manifest, [Condition()])


def test_folders_leave_out_a_speakers_own_recordings(
    tmp_path: Path, speakers: Path, tone: Tone
) -> None:
    one = tone(tmp_path / "talks/one.wav")
    one.with_suffix(".txt").write_text(" What it says.\n")
    found = folder_jobs([tmp_path / "talks", speakers / "anna/0.flac"], speakers, [Condition()])
    pairs = {(job.source.name, job.target.name): job.source.text for job in found}
    assert pairs == {
        ("talks/one", "anna"): "What it says.",
        ("talks/one", "ben"): "What it says.",
        ("anna/0", "ben"): None,
    }
    with pytest.raises(UsageError, match="holds no folders"):
        folder_jobs([one], tmp_path / "talks", [Condition()])
    twin = tone(tmp_path / "other/talks/one.wav")
    with pytest.raises(UsageError, match="two sources are called talks/one"):
        folder_jobs([one, twin], speakers, [Condition()])


def test_references_and_trials_are_apart(tmp_path: Path, tone: Tone) -> None:
    for number in range(20):
        tone(tmp_path / "anna" / f"{number}.flac", 1.0 if number == 0 else 2.5)
    target = Target(tmp_path / "anna")
    less, more = (split_target(target, seconds, seed=4) for seconds in (5, 15))
    assert more.references[: len(less.references)] == less.references
    assert len(less.references) in (2, 3)
    assert len(more.references) in (6, 7)
    assert not set(more.references) & set(more.trials)
    assert not more.overlap
    assert less.trials[: len(more.trials)] == more.trials  # the same ones, whatever the seconds
    assert tmp_path / "anna/0.flac" not in less.trials  # shorter than a trial may be
    all_of_it = split_target(target, 300, seed=4)
    assert all_of_it.overlap
    assert len(all_of_it.references) == 20
    assert split_target(target, 5, seed=5).references != less.references


def test_names_can_be_written_whatever_bytes_a_file_name_has() -> None:
    assert readable("caf\udcff\n\x1b[1mé") == "caf???[1mé"
    assert Source(Path("a/b\udcff.wav")).name == "a/b?"
    assert Target(Path("x/$x^$")).name == "$x^$"
