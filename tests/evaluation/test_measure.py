"""Records: what is measured of whom, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from knnvc import VoiceConverter
from knnvc.audio import SAMPLE_RATE, load_audio
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.measure import Evaluation
from knnvc.evaluation.plan import Condition, Job, folder_jobs
from knnvc.evaluation.records import (
    CONVERTED,
    COPY,
    RECORDS,
    SOURCE,
    YARDSTICKS,
    check_settings,
    read_records,
)
from knnvc.evaluation.summary import columns, summarise


def silent(*_: object) -> None:
    """No progress."""


def test_a_run_goes_on_where_it_was_stopped(
    mini: VoiceConverter, jobs: list[Job], tmp_path: Path, listening: type
) -> None:
    listener, folder = listening(), tmp_path / "results"
    records = Evaluation(mini, listener, folder, seed=0).run(jobs, silent)
    assert [record.system for record in records].count(CONVERTED) == 4
    assert [record.system for record in records].count(SOURCE) == 2
    # Yardsticks are the same for both targets, so each is heard once.
    assert listener.heard == 4 + len(YARDSTICKS)
    lines = (folder / RECORDS).read_text().splitlines(keepends=True)
    assert len(lines) == len(records) == 4 + 2 * len(YARDSTICKS)
    # The last line is torn, as if the machine had been switched off.
    (folder / RECORDS).write_text("".join(lines[:-1]) + lines[-1][:20])
    again = listening()
    resumed = Evaluation(mini, again, folder, seed=0).run(jobs, silent)
    assert again.heard == 2  # the conversion that was lost, and its source
    assert [record.key for record in resumed] == [record.key for record in records]
    assert resumed[-1].voice.scores == records[-1].voice.scores
    assert read_records(folder / RECORDS)[0] == records[0]
    third = listening()
    Evaluation(mini, third, folder, seed=0).run(jobs, silent)
    assert third.heard == 0


def test_every_distinct_waveform_is_heard_once(
    mini: VoiceConverter, speakers: Path, tmp_path: Path, listening: type, jobs: list[Job]
) -> None:
    original = jobs[0].source.path
    other = original.with_name("the same.wav")
    other.write_bytes(original.read_bytes())
    given = folder_jobs([original, other], speakers, [Condition(k=1, lam=0, seconds=4)])
    listener = listening()
    records = Evaluation(mini, listener, tmp_path / "r", 0, [SOURCE, COPY]).run(given, silent)
    assert len(records) == 3 * 2 * 2  # three systems, two names of one source, two targets
    # The source, its copy, and a conversion that takes nothing of either target.
    assert listener.heard == 3
    alone = [job for job in given if job.source.path == other]
    again = Evaluation(mini, listening(), tmp_path / "s", 0, [SOURCE, COPY]).run(alone, silent)
    known = {record.key: record for record in records}
    for record in again:
        assert replace(known[record.key], compute_seconds=None) == replace(
            record, compute_seconds=None
        )


def test_words_are_counted_of_english_only(
    mini: VoiceConverter, jobs: list[Job], speakers: Path, tmp_path: Path, listening: type
) -> None:
    french = folder_jobs([tmp_path / "talks"], speakers, [Condition(k=1, seconds=4)], "fr")
    french = [replace(job, source=replace(job.source, text="ce qu'il dit")) for job in french]
    for language, given, count in (("en", jobs, 3), ("fr", french, 0)):
        evaluation = Evaluation(mini, listening(), tmp_path / language, 0, [SOURCE, COPY])
        records = evaluation.run(given, silent)
        assert {record.words.words for record in records} == {count}
        assert {bool(record.words.heard) for record in records} == {count > 0}
        (row,) = (r for r in summarise(records, evaluation.targets, 0) if r.system == COPY)
        assert (row.values["wer"] is None) == (count == 0)
        assert row.values["like_target"] is not None


def test_records_say_what_was_measured(
    mini: VoiceConverter, jobs: list[Job], tmp_path: Path, listening: type
) -> None:
    records = Evaluation(mini, listening(), tmp_path / "r", 0, [SOURCE, COPY]).run(jobs, silent)
    source = next(record for record in records if record.system == SOURCE)
    assert source.voice.source == pytest.approx(1.0, abs=1e-5)
    assert source.voice.target == pytest.approx(source.voice.source_to_target)
    assert source.pitch == pytest.approx(1.0)
    assert (source.compute_seconds, source.reference_seconds) == (None, None)
    converted = next(record for record in records if record.system == CONVERTED)
    assert converted.settings == {"lam": 0.5, "k": 1, "seconds": 4}
    assert converted.reference_seconds == pytest.approx(4.0)
    assert converted.compute_seconds is not None
    assert converted.compute_seconds > 0
    assert converted.speaker == "talks"
    assert converted.words.words == 3  # of what is heard in the source
    assert converted.words.word_errors == 0
    for record in records:
        assert len(load_audio(tmp_path / "r" / record.audio)) > 0.9 * SAMPLE_RATE


def test_a_transcript_is_what_words_are_compared_with(
    mini: VoiceConverter, jobs: list[Job], tmp_path: Path, listening: type
) -> None:
    told = [replace(job, source=replace(job.source, text="What it SAYS now.")) for job in jobs[:1]]
    evaluation = Evaluation(mini, listening(second=True), tmp_path / "r", 0, [SOURCE])
    records = evaluation.run(told, silent)
    for record in records:
        assert record.said == "what it says now"
        first, second = record.recognised["whisper"], record.recognised["other"]
        assert (first.words, first.word_errors, first.source_word_errors) == (4, 1, 1)
        assert (second.words, second.word_errors, second.source_word_errors) == (4, 2, 2)
    rows = {row.system: row.values for row in summarise(records, evaluation.targets, 0)}
    titles = {one.key: one.title for one in columns(records)}
    assert titles["wer_other"] == "WER % other"
    for key, value in (("wer", 25.0), ("wer_other", 50.0), ("wer_added_other", 0.0)):
        found = rows[CONVERTED][key]
        assert found is not None
        assert found.value == pytest.approx(value)
    assert {"like_target_other", "eer_other"} <= titles.keys()


def test_seconds_of_reference_are_those_that_there_are(
    mini: VoiceConverter, speakers: Path, tmp_path: Path, jobs: list[Job], listening: type
) -> None:
    """Ben has five seconds in all; asking for sixty does not make them more."""
    asked = folder_jobs([jobs[0].source.path], speakers, [Condition(k=1, seconds=60)])
    ben = [job for job in asked if job.target.name == "ben"]
    evaluation = Evaluation(mini, listening(), tmp_path / "r", 0, [])
    (record,) = evaluation.run(ben, silent)
    assert record.reference_seconds == pytest.approx(5.0)
    (row,) = summarise([record], evaluation.targets, 0)
    assert row.name == "converted, 5 s (of 60), k 1"


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    for damage in ('{"system": "source"}\n', "3\n", '{"recognised": 3, "likeness": {}}\n'):
        (tmp_path / RECORDS).write_text(damage)
        with pytest.raises(KnnvcError, match="is damaged; evaluate again with --force"):
            read_records(tmp_path / RECORDS)


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    check_settings(tmp_path, {"seed": 0, "preset": "mini"})
    check_settings(tmp_path, {"seed": 0, "preset": "mini"})
    with pytest.raises(UsageError, match="results with another seed"):
        check_settings(tmp_path, {"seed": 1, "preset": "mini"})
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 0
