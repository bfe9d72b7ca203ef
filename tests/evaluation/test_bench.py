"""The bench: who is converted to whom, in three layouts; and the pairs of demo pages."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from knnvc.errors import UsageError
from knnvc.evaluation.bench import (
    Utterance,
    bench_jobs,
    published_jobs,
    read_bench,
    read_inputs,
)
from knnvc.evaluation.demos import compare, read_demos
from knnvc.evaluation.plan import Condition, split_target
from knnvc.evaluation.records import CONVERTED, COPY, SOURCE, Record

Tone = Callable[..., Path]


@pytest.fixture
def utterances() -> list[Utterance]:
    """Three English speakers with ten utterances each, and a French one."""
    made = [
        Utterance(name, Path(f"{name}/{number:02}.flac"), f"words of {name}")
        for name in ("anna", "ben", "cleo")
        for number in range(10)
    ]
    return [*made, Utterance("denise", Path("denise/1.flac"), "bonjour", "fr")]


@pytest.mark.parametrize(("sources", "references"), [(2, 8), (6, 4), (7, 10), (10, 10)])
def test_every_speaker_is_converted_to_every_other(
    utterances: list[Utterance], sources: int, references: int
) -> None:
    found = bench_jobs(utterances, sources, [Condition(seconds=5), Condition(seconds=60)])
    assert len(found) == 2 * 3 * 2 * sources
    assert len(set(found)) == len(found)
    for job in found:
        assert job.source.who != job.target.name  # nobody is converted to herself
        assert "denise" not in (job.source.who, job.target.name)  # nor to another language
        assert job.source.path not in job.target.recordings
        assert job.source.text == f"words of {job.source.who}"
        assert len(job.target.recordings) == references
    anna = next(job.target for job in found if job.target.name == "anna")
    expected = [f"{number:02}" for number in range(10 - references, 10)]
    assert [path.stem for path in anna.recordings] == expected
    voice = split_target(anna, 5, seed=3)
    assert voice.references == voice.trials == anna.recordings


def test_a_bench_of_chosen_speakers(utterances: list[Utterance]) -> None:
    found = bench_jobs(utterances, 1, [Condition()], ["ben", "cleo"])
    pairs = [(job.source.name, job.target.name) for job in found]
    assert sorted(pairs) == [("ben/00", "cleo"), ("cleo/00", "ben")]
    with pytest.raises(UsageError, match="there is no speaker eve: choose among anna, ben"):
        bench_jobs(utterances, 1, [Condition()], ["eve"])
    with pytest.raises(UsageError, match="two speakers of the same language"):
        bench_jobs(utterances, 1, [Condition()], ["ben", "denise"])


def test_listed_utterances_are_converted(utterances: list[Utterance], tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyzABCDE"
    utterances = [
        replace(one, path=one.path.with_name(f"{one.speaker}-{letter}.flac"))
        for one, letter in zip(utterances, letters, strict=True)
    ]
    names = ["anna-a", "anna-j", "cleo-C"]
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n\n")
    found = published_jobs(
        utterances, [Condition()], seed=0, inputs=read_inputs(tmp_path / "list.txt")
    )
    pairs = [(job.source.path.stem, job.target.name) for job in found]
    assert sorted(pairs) == [
        *(("anna-a", name) for name in ("ben", "cleo")),
        *(("anna-j", name) for name in ("ben", "cleo")),
        *(("cleo-C", name) for name in ("anna", "ben")),
    ]
    assert {job.target.name: len(job.target.recordings) for job in found} == {
        "anna": 8,
        "ben": 10,
        "cleo": 9,
    }
    assert not {path.stem for job in found for path in job.target.recordings} & set(names)
    with pytest.raises(UsageError, match="there is no utterance eve-1"):
        published_jobs(utterances, [Condition()], seed=0, inputs=["eve-1"])
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="give a text file"):
        read_inputs(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text(" \n")
    with pytest.raises(UsageError, match="names no utterance"):
        read_inputs(tmp_path / "list.txt")


def test_a_manifest_of_the_bench(tmp_path: Path, tone: Tone) -> None:
    for name in ("a/2.flac", "a/1.flac", "b/1.flac"):
        tone(tmp_path / name, 0.2)
    lines = ["part,speaker,file,text,licence", "core,ann,a/2.flac,Second.,CC0"]
    lines += ["core,ann,a/1.flac,First.,CC0", "core,bob,b/1.flac,,CC0"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    for path in (tmp_path, tmp_path / "manifest.csv"):
        found = read_bench(path)
        assert [(one.speaker, one.path.name, one.text) for one in found] == [
            ("ann", "1.flac", "First."),
            ("ann", "2.flac", "Second."),
        ]  # of Bob nobody says what he says
    (tmp_path / "manifest.csv").write_text("speaker,file,text\nann,none.flac,x\n")
    with pytest.raises(UsageError, match=r"entry 1: 'none\.flac' does not exist"):
        read_bench(tmp_path)
    (tmp_path / "manifest.csv").write_text("speaker,text\nann,x\n")
    with pytest.raises(UsageError, match="entry 1: there is no column file"):
        read_bench(tmp_path)


def test_the_layouts_of_librispeech_and_vctk(tmp_path: Path, tone: Tone) -> None:
    chapter = tmp_path / "libri/test-clean/61/70968"
    tone(chapter / "61-70968-0000.flac", 0.2)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 LOST\n")
    assert read_bench(tmp_path / "libri") == [
        Utterance("61", chapter / "61-70968-0000.flac", "HE BEGAN")
    ]
    corpus = tmp_path / "vctk"
    for name in ("p225_001_mic1", "p225_001_mic2", "p225_002_mic1"):
        tone(corpus / f"wav48_silence_trimmed/p225/{name}.flac", 0.2)
    (corpus / "txt/p225").mkdir(parents=True)
    (corpus / "txt/p225/p225_001.txt").write_text("Please call Stella.\n")
    recording = corpus / "wav48_silence_trimmed/p225/p225_001_mic1.flac"
    assert read_bench(corpus) == [Utterance("p225", recording, "Please call Stella.")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=re.escape("holds no bench: it needs a manifest.csv")):
        read_bench(tmp_path / "empty")


# Demo pages ---------------------------------------------------------------------------------------


@pytest.fixture
def demos(tmp_path: Path, tone: Tone) -> Path:
    """Two pairs of two systems; nobody counted the words of the second pair."""
    for name in "abc":
        tone(tmp_path / f"audio/{name}.flac", 0.5)
    titles = ["system", "source", "references", "text", "published_wer", "published_similarity"]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*titles, "published_distillmos"])
        table.writerow(["X", "audio/a.flac", "audio/b.flac", "five five", 0.1, 0.8, 4.5])
        table.writerow(["Y", "audio/a.flac", "audio/b.flac", "five five", 0.3, 0.6, 2.5])
        table.writerow(["X", "audio/c.flac", "audio/a.flac", "", "", 0.6, 3.5])
    return tmp_path


def test_demos_are_compared_pair_by_pair(demos: Path, record: Callable[..., Record]) -> None:
    jobs, published = read_demos(demos, [Condition()])
    assert [(job.source.name, job.target.name) for job in jobs] == [
        ("audio/a", "b"),
        ("audio/c", "a"),
    ]
    assert [job.source.counted for job in jobs] == [True, False]
    assert jobs[0].target.recordings == (demos / "audio/b.flac",)
    ours = [
        record(system, source, target, errors=2, words=words, like=like)
        for system, like in ((SOURCE, 0.3), (CONVERTED, 0.7))
        for source, target, words in (("audio/a", "b", 10), ("audio/c", "a", 0))
    ]
    source, x, y = compare(ours, published)
    assert (x.system, x.pairs) == ("X", 2)
    assert (x.wer, x.our_wer) == pytest.approx((10.0, 20.0))  # of the one pair with words
    assert (x.similarity, x.our_similarity) == pytest.approx((0.7, 0.7))
    assert (x.distillmos, y.distillmos) == pytest.approx((4.0, 2.5))
    assert (y.pairs, y.wer) == (1, pytest.approx(30.0))
    assert (source.system, source.similarity) == (SOURCE, pytest.approx(0.3))


def test_a_source_is_not_compared_with_its_own_words(
    demos: Path, record: Callable[..., Record]
) -> None:
    _, published = read_demos(demos, [Condition()])
    ours = [
        replace(record(system, "audio/a", "b", errors=errors), said="")
        for system, errors in ((SOURCE, 0), (COPY, 1), (CONVERTED, 2))
    ]
    source, copy, *_ = compare(ours, [one for one in published if one.system == "Y"])
    assert source.wer is None
    assert copy.wer == pytest.approx(10.0)
    assert source.our_wer is None or source.our_wer == pytest.approx(20.0)


def test_demos_that_are_none(demos: Path) -> None:
    with pytest.raises(UsageError, match="name the folder of the demos"):
        read_demos(demos / "audio", [Condition()])
    (demos / "audio/b.flac").unlink()
    with pytest.raises(UsageError, match=r"entry 1: .*b\.flac does not exist"):
        read_demos(demos, [Condition()])
    (demos / "manifest.csv").write_text("system,source\nX,audio/a.flac\n")
    with pytest.raises(UsageError, match="entry 1: references is missing"):
        read_demos(demos, [Condition()])
