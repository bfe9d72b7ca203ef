"""Evaluation: statistics that mean what they say, plans, records, and the page."""

from __future__ import annotations

import csv
import html
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from knnvc import VoiceConverter
from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.cli.main import cli
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation import page
from knnvc.evaluation.instruments import Heard, errors, pitch_correlation, plain
from knnvc.evaluation.measure import (
    CONVERTED,
    COPY,
    RECORDS,
    SOURCE,
    YARDSTICKS,
    Evaluation,
    Record,
    check_settings,
    read_records,
    slug,
)
from knnvc.evaluation.plan import (
    Condition,
    Job,
    Source,
    Target,
    conditions,
    folder_jobs,
    manifest_jobs,
    parse_sweeps,
    split_target,
)
from knnvc.evaluation.statistics import bootstrap, equal_error_rate
from knnvc.evaluation.summary import summarise, text_table
from knnvc.extras import need, require

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
SAID = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them"
)


# Statistics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "converted", "rate"),
    [
        ([0.8, 0.9], [0.1, 0.2], 0.0),  # always told apart
        ([0.1, 0.2], [0.8, 0.9], 1.0),  # the converted are nearer than the target is to itself
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 0.5),  # the same distribution
        ([2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 2.5, 1.5], 0.25),  # one of four on the wrong side
    ],
)
def test_equal_error_rate_by_hand(real: list[float], converted: list[float], rate: float) -> None:
    assert equal_error_rate(real, converted) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5, 3.0])
def test_equal_error_rate_by_an_independent_formula(shift: float) -> None:
    """Two normal distributions of unit spread err by Φ(−shift / 2); and by counting thresholds."""
    rng = np.random.default_rng(3)
    real, converted = rng.normal(shift, 1, 4000), rng.normal(0, 1, 3000)
    rate = equal_error_rate(real.tolist(), converted.tolist())
    normal = need("scipy.stats").norm.cdf(-shift / 2)
    assert rate == pytest.approx(normal, abs=0.02)
    thresholds = np.concatenate([real, converted])
    missed = np.array([(real < t).mean() for t in thresholds])
    taken = np.array([(converted >= t).mean() for t in thresholds])
    at = np.abs(missed - taken).argmin()
    assert rate == pytest.approx((missed[at] + taken[at]) / 2, abs=1e-3)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(150):
        values = rng.normal(2.0, 1.0, 40).tolist()
        found = bootstrap(values, [1.0] * 40, [str(n) for n in range(40)], trial)
        assert found is not None
        assert found.low < found.value < found.high
        held += found.low <= 2.0 <= found.high
    assert 0.88 <= held / 150 <= 0.99


def test_bootstrap_takes_conversions_of_one_source_together() -> None:
    values = np.random.default_rng(1).normal(0, 1, 20).tolist()
    names = [str(n) for n in range(20)]
    once = bootstrap(values, [1.0] * 20, names, 0)
    copied = bootstrap(values * 5, [1.0] * 100, names * 5, 0)
    independent = bootstrap(values * 5, [1.0] * 100, [str(n) for n in range(100)], 0)
    assert once is not None
    assert copied is not None
    assert independent is not None
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert independent.high - independent.low < 0.7 * (once.high - once.low)


def test_bootstrap_weighs_by_the_denominator() -> None:
    found = bootstrap([1.0, 0.0], [1.0, 9.0], ["a", "b"], 0)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == (0.0, 1.0)
    assert bootstrap([0.0], [0.0], ["a"], 0) is None


def test_numerals_are_words() -> None:
    assert plain("10 of clubs, 4 queens.") == plain("Ten of clubs four queens")
    assert plain("1,250 men") == plain("one thousand, two hundred and fifty men")
    assert plain("9" * 400).split()[0] == "nine"


def test_errors_count_edits_of_plain_words() -> None:
    said, heard = plain("Mister  Dashwood's house, now!"), plain("mr dashwoods house")
    assert said == "mr dashwood's house now"
    counted = errors(said, heard)
    assert (counted.words, counted.word_errors) == (4, 2)
    assert (counted.characters, counted.character_errors) == (23, 5)
    assert errors("", "something") == errors("", "")


def test_pitch_correlation_of_the_same_and_of_silence() -> None:
    wave = load_audio(EXAMPLES / "source.wav").numpy()
    assert pitch_correlation(wave, wave) == pytest.approx(1.0)
    assert pitch_correlation(wave, np.zeros_like(wave)) is None


# Plans --------------------------------------------------------------------------------------------


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


def tone(path: Path, seconds: float = 2.5, hertz: float = 200.0) -> Path:
    at = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    write_audio(path, 0.3 * torch.sin(2 * np.pi * hertz * at), SAMPLE_RATE)
    return path


@pytest.fixture
def speakers(tmp_path: Path) -> Path:
    """Two targets of six and of two recordings."""
    for name, count in (("anna", 6), ("ben", 2)):
        for number in range(count):
            tone(tmp_path / "targets" / name / f"{number}.flac", hertz=150 + 20 * number)
    return tmp_path / "targets"


def test_a_manifest_is_relative_to_itself(tmp_path: Path, speakers: Path) -> None:
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


def test_folders_leave_out_a_speakers_own_recordings(tmp_path: Path, speakers: Path) -> None:
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


def test_references_and_trials_are_apart(tmp_path: Path) -> None:
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


# Records ------------------------------------------------------------------------------------------


class Listening:
    """Hears a fixed text, and a voice that depends on the spectrum; counts what it heard."""

    def __init__(self) -> None:
        self.heard = 0

    def names(self) -> dict[str, str]:
        return {"words": "a stand-in"}

    def listen(self, wave: np.ndarray, words: bool = True) -> Heard:
        self.heard += 1
        return Heard("what it says" if words else "", self.embedding(wave), 3.0, 2.0)

    def embedding(self, wave: np.ndarray) -> np.ndarray:
        found = np.abs(np.fft.rfft(wave, SAMPLE_RATE))[: 256 * 8].reshape(256, 8).sum(1)
        return (found / np.linalg.norm(found)).astype(np.float32)


@pytest.fixture
def jobs(tmp_path: Path, speakers: Path) -> list[Job]:
    """One second of real speech, to two targets, at two values of λ."""
    piece = load_audio(EXAMPLES / "source.wav")[SAMPLE_RATE : 2 * SAMPLE_RATE]
    write_audio(tmp_path / "talks/one & only.wav", piece, SAMPLE_RATE)
    settings = conditions(Condition(k=1, seconds=4), parse_sweeps(["lam=0.5,1"]))
    return folder_jobs([tmp_path / "talks"], speakers, settings)


def silent(*_: object) -> None:
    """No progress."""


def test_a_run_goes_on_where_it_was_stopped(
    mini: VoiceConverter, jobs: list[Job], tmp_path: Path
) -> None:
    listener, folder = Listening(), tmp_path / "results"
    records = Evaluation(mini, listener, folder, seed=0).run(jobs, silent)
    assert [record.system for record in records].count(CONVERTED) == 4
    assert [record.system for record in records].count(SOURCE) == 2
    # Yardsticks are the same for both targets, so each is heard once.
    assert listener.heard == 4 + len(YARDSTICKS)
    lines = (folder / RECORDS).read_text().splitlines(keepends=True)
    assert len(lines) == len(records) == 4 + 2 * len(YARDSTICKS)
    # The last line is torn, as if the machine had been switched off.
    (folder / RECORDS).write_text("".join(lines[:-1]) + lines[-1][:20])
    again = Listening()
    resumed = Evaluation(mini, again, folder, seed=0).run(jobs, silent)
    assert again.heard == 2  # the conversion that was lost, and its source
    assert [record.key for record in resumed] == [record.key for record in records]
    assert resumed[-1].scores == records[-1].scores
    assert len(read_records(folder / RECORDS)) == len(records)
    third = Listening()
    Evaluation(mini, third, folder, seed=0).run(jobs, silent)
    assert third.heard == 0


def test_words_are_counted_of_english_only(
    mini: VoiceConverter, jobs: list[Job], speakers: Path, tmp_path: Path
) -> None:
    french = folder_jobs([tmp_path / "talks"], speakers, [Condition(k=1, seconds=4)], "fr")
    french = [replace(job, source=replace(job.source, text="ce qu'il dit")) for job in french]
    for language, given, count in (("en", jobs, 3), ("fr", french, 0)):
        evaluation = Evaluation(mini, Listening(), tmp_path / language, seed=0)
        records = evaluation.run(given, silent)
        assert {record.words for record in records} == {count}
        assert {bool(record.heard) for record in records} == {count > 0}
        (row,) = (r for r in summarise(records, evaluation.targets, 0) if r.system == COPY)
        assert (row.values["wer"] is None) == (count == 0)
        assert row.values["like_target"] is not None


def test_records_say_what_was_measured(
    mini: VoiceConverter, jobs: list[Job], tmp_path: Path
) -> None:
    records = Evaluation(mini, Listening(), tmp_path / "r", 0, [SOURCE, COPY]).run(jobs, silent)
    source = next(record for record in records if record.system == SOURCE)
    assert source.like_source == pytest.approx(1.0, abs=1e-5)
    assert source.like_target == pytest.approx(source.source_like_target)
    assert source.pitch == pytest.approx(1.0)
    assert source.compute_seconds is None
    converted = next(record for record in records if record.system == CONVERTED)
    assert converted.settings == {"lam": 0.5, "k": 1, "seconds": 4}
    assert converted.compute_seconds is not None
    assert converted.compute_seconds > 0
    assert converted.words == 3  # of what is heard in the source
    assert converted.word_errors == 0
    for record in records:
        assert len(load_audio(tmp_path / "r" / record.audio)) > 0.9 * SAMPLE_RATE


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text('{"system": "source"}\n')
    with pytest.raises(KnnvcError, match="is damaged; evaluate again with --force"):
        read_records(tmp_path / RECORDS)


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    check_settings(tmp_path, {"seed": 0, "preset": "mini"})
    check_settings(tmp_path, {"seed": 0, "preset": "mini"})
    with pytest.raises(UsageError, match="results with another seed"):
        check_settings(tmp_path, {"seed": 1, "preset": "mini"})
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 0


# Table and page -----------------------------------------------------------------------------------


def record(system: str, source: str, target: str, **values: object) -> Record:
    """A record with something everywhere."""
    facts: dict[str, object] = {
        "condition": "300 s" if system == CONVERTED else "",
        "settings": {"seconds": 300.0} if system == CONVERTED else {},
        "group": "real → real",
        "audio": f"audio/{slug(system)}/{target}/{source}.flac",
        "heard": "<b>five five</b>",
        "words": 10,
        "word_errors": 0,
        "characters": 40,
        "character_errors": 0,
        "source_word_errors": 0,
        "source_character_errors": 0,
        "like_target": 0.9,
        "like_source": 0.5,
        "source_like_target": 0.4,
        "scores": [0.5, 0.6],
        "distillmos": 4.0,
        "dnsmos": 3.0,
        "pitch": None,
        "seconds": 4.0,
        "compute_seconds": 0.5,
    }
    return Record(system=system, source=source, target=target, **{**facts, **values})  # type: ignore[arg-type]


@pytest.fixture
def measured(mini: VoiceConverter, jobs: list[Job], tmp_path: Path) -> Evaluation:
    """An evaluation that ran."""
    made = Evaluation(mini, Listening(), tmp_path / "results", 0, [SOURCE, COPY])
    made.run(jobs, silent)
    return made


def test_rows_divide_sums_and_average_over_targets(measured: Evaluation) -> None:
    anna, ben = measured.targets
    records = [
        record(CONVERTED, "a", anna.name, word_errors=3, source_word_errors=1, scores=[9.0] * 3),
        record(CONVERTED, "b", anna.name, words=30, word_errors=1, scores=[9.0] * 3),
        record(CONVERTED, "a", ben.name, scores=[-9.0] * 3, like_target=0.6),
    ]
    (row,) = summarise(records, measured.targets, seed=0)
    values = {key: one.value for key, one in row.values.items() if one is not None}
    assert values["wer"] == pytest.approx(100 * 4 / 50)
    assert values["wer_added"] == pytest.approx(100 * 3 / 50)
    assert values["like_gain"] == pytest.approx(0.8 - 0.4)
    assert values["speed"] == pytest.approx(8.0)
    assert row.values["pitch"] is None
    assert row.eer_of_targets == pytest.approx({anna.name: 100.0, ben.name: 0.0})
    assert (values["eer"], row.eer_deviation) == pytest.approx((50.0, 50.0))
    head, group, line = text_table([row])
    assert head.split()[:4] == ["system", "n", "WER", "%"]
    assert group == "real → real"
    assert line.startswith("converted, 300 s  3  8.0 ±")


def players(text: str) -> list[str]:
    return [unquote(html.unescape(one)) for one in re.findall(r'<audio [^>]*src="([^"]+)"', text)]


def test_the_page_has_numbers_players_and_plots(measured: Evaluation) -> None:
    records = read_records(measured.folder / RECORDS)
    rows = summarise(records, measured.targets, seed=0)
    text = page.build(rows, records, measured.targets, {"seed": "0", "preset": "<mini>"})
    heard = players(text)
    assert len(heard) == len(records) + len(measured.targets)
    assert all((measured.folder / one).is_file() for one in heard)
    # λ is swept, so there is one plot of four panels, and it is inside the page.
    assert text.count("<svg") == 1
    assert "By λ" in text
    for row in rows:
        found = row.values["like_target"]
        assert found is not None
        assert f"<td>{found.value:.3f}" in text
    assert "one-only" in " ".join(heard)
    assert "talks/one &amp; only" in text
    assert "&lt;mini&gt;" in text
    assert "references of ben are compared with" in text  # who has two recordings
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"|<!DOCTYPE[^>]+>|<rdf.*?</rdf:RDF>', "", text,
                                flags=re.DOTALL)  # fmt: skip


def test_the_page_of_one_condition_compares_systems(measured: Evaluation) -> None:
    records = [record(SOURCE, "a", "anna"), record(CONVERTED, "a", "anna")]
    rows = summarise(records, measured.targets, seed=0)
    text = page.build(rows, records, measured.targets, {})
    assert "<h2>Systems</h2>" in text
    assert "&lt;b&gt;five five&lt;/b&gt;" in text
    assert "<b>" not in text


# The command --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing", "-o", "r"], "the source missing does not exist"),
        (["talk.wav", "-o", "r"], "with --targets"),
        (["list.csv", "--targets", ".", "-o", "r"], "a manifest stands alone"),
        (["talk.wav", "--targets", "none", "-o", "r"], "the folder of targets none does not exist"),
        (["talk.wav", "--targets", ".", "-o", "list.csv"], "list.csv is a file"),
        (["talk.wav", "--targets", ".", "-o", "r", "--sweep", "lam=3"], "--lam is 3"),
        (["talk.wav", "--targets", ".", "-o", "r", "--sweep", "x=3"], "give each of lam"),
        (["talk.wav", "--targets", ".", "-o", "r"], "holds no folders"),
    ],
)
def test_one_sentence_about_a_wrong_call(
    arguments: Sequence[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone(tmp_path / "talk.wav")
    (tmp_path / "list.csv").write_text("source,target\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["evaluate", *arguments])
    assert result.exit_code == 2
    assert reason in result.output
    assert result.output.count("\n") == 1
    assert not Path("r").exists()


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(UsageError, match=re.escape("run `pip install 'knnvc[eval]'`")):
        require(("json", "no_such_package"))


def test_evaluate_real_speech_with_the_real_instruments(tmp_path: Path) -> None:
    """Two real clips to a real speaker: what was converted keeps most words and moves to her."""
    source = load_audio(EXAMPLES / "source.wav")
    write_audio(tmp_path / "talks/dashwood.flac", source, SAMPLE_RATE)
    (tmp_path / "talks/dashwood.txt").write_text(SAID)
    write_audio(tmp_path / "talks/start.flac", source[: 3 * SAMPLE_RATE], SAMPLE_RATE)
    for path in sorted((EXAMPLES / "target").glob("*.flac"))[:9]:
        write_audio(tmp_path / "targets/allison" / path.name, load_audio(path), SAMPLE_RATE)
    call = ["evaluate", str(tmp_path / "talks"), "--targets", str(tmp_path / "targets")]
    call += ["-o", str(tmp_path / "results"), "--seconds", "20", "--no-yardsticks"]
    result = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "results/results.json").read_text())
    assert found["seed"] == 0
    assert "Whisper tiny.en" in found["instruments"]["words"]
    rows = {row["system"]: row["values"] for row in found["rows"]}
    assert rows["source"]["wer"]["value"] < 5
    assert rows["copy-synthesis"]["wer"]["value"] < 20
    assert rows["converted"]["wer"]["value"] < 50
    assert rows["converted"]["like_gain"]["value"] > 0.05
    assert rows["converted"]["like_source"]["value"] < rows["source"]["like_source"]["value"] - 0.1
    assert rows["source"]["eer"]["value"] < 5
    assert 3.5 < rows["source"]["distillmos"]["value"] < 5
    assert 2.5 < rows["source"]["dnsmos"]["value"] < 4
    assert rows["copy-synthesis"]["pitch"]["value"] > 0.5
    text = (tmp_path / "results/index.html").read_text()
    assert len(players(text)) == 6 + 1
    before = (tmp_path / "results/records.jsonl").read_bytes()
    again = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert again.exit_code == 0
    assert (tmp_path / "results/records.jsonl").read_bytes() == before
    other = CliRunner().invoke(cli, [*call, "--seed", "3"])
    assert other.exit_code == 2
    assert "results with another seed (0)" in other.output
