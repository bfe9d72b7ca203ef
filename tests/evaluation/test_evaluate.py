"""`knnvc evaluate` as people call it: wrong calls, real speech, the bench with any preset."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.cli import evaluate as command
from knnvc.cli.main import cli
from knnvc.evaluation.recognisers import RECOGNISERS, WHISPER
from knnvc.evaluation.tables import FORMATS
from knnvc.evaluation.verifiers import RESEMBLYZER, VERIFIERS
from knnvc.presets.download import REGISTRY, RemoteFile
from knnvc.presets.search import PUBLISHED, downloads_folder

Tone = Callable[..., Path]
EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
TARGETS = sorted((EXAMPLES / "target").glob("*.flac"))
SAID = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them"
)


def test_the_choices_are_the_instruments_that_there_are() -> None:
    assert [WHISPER, *command.RECOGNISERS] == list(RECOGNISERS)
    assert [RESEMBLYZER, *command.VERIFIERS] == list(VERIFIERS)
    assert list(command.FORMATS) == list(FORMATS)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing", "-o", "r"], "the source missing does not exist"),
        (["talk.wav", "-o", "r"], "with --targets"),
        (["-o", "r"], "name a manifest, recordings with --targets, --bench DIR, --test-clean DIR"),
        (["talk.wav", "--bench", ".", "-o", "r"], "name a manifest, recordings"),
        (["--bench", ".", "--demos", ".", "-o", "r"], "name a manifest, recordings"),
        (["--bench", ".", "-o", "r"], "holds no bench"),
        (["--bench", "none", "-o", "r"], "the bench none does not exist"),
        (["--demos", ".", "-o", "r"], "name the folder of the demos"),
        (["--demos", ".", "-o", "r", "--sweep", "k=1,2"], "give no --sweep"),
        (["--bench", ".", "--targets", ".", "-o", "r"], "give no other source and no --targets"),
        (["list.csv", "--targets", ".", "-o", "r"], "a manifest stands alone"),
        (["talk.wav", "--targets", "none", "-o", "r"], "the folder of targets none does not exist"),
        (["talk.wav", "--targets", ".", "-o", "list.csv"], "list.csv is a file"),
        (["talk.wav", "--targets", ".", "-o", "r", "--sweep", "lam=3"], "--lam is 3"),
        (["talk.wav", "--targets", ".", "-o", "r", "--sweep", "x=3"], "give each of lam"),
        (["talk.wav", "--targets", ".", "-o", "r"], "holds no folders"),
    ],
)
def test_one_sentence_about_a_wrong_call(
    arguments: Sequence[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tone: Tone,
) -> None:
    tone(tmp_path / "talk.wav")
    (tmp_path / "list.csv").write_text("source,target\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["evaluate", *arguments])
    assert result.exit_code == 2
    assert reason in result.output
    assert result.output.count("\n") == 1
    assert not Path("r").exists()


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
    assert "Whisper tiny.en" in found["instruments"]["words, whisper"]
    rows = {row["system"]: row["values"] for row in found["rows"]}
    assert rows["source"]["wer"]["value"] < 5  # of the clip that has a transcript
    assert rows["copy-synthesis"]["wer"]["value"] < 20
    assert rows["converted"]["wer"]["value"] < 50
    assert rows["converted"]["like_gain"]["value"] > 0.05
    assert rows["converted"]["like_source"]["value"] < 0.9
    assert rows["source"]["like_source"] is None  # it would be 1
    assert rows["source"]["eer"]["value"] < 5
    assert 3.5 < rows["source"]["distillmos"]["value"] < 5
    assert 2.5 < rows["source"]["dnsmos"]["value"] < 4
    assert rows["copy-synthesis"]["pitch"]["value"] > 0.5
    text = (tmp_path / "results/index.html").read_text()
    assert text.count("<audio ") == 6 + 1
    before = (tmp_path / "results/records.jsonl").read_bytes()
    again = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert again.exit_code == 0
    assert (tmp_path / "results/records.jsonl").read_bytes() == before
    other = CliRunner().invoke(cli, [*call, "--seed", "3"])
    assert other.exit_code == 2
    assert "results with another seed (0)" in other.output


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A bench of two readers in a few seconds: the clips of the examples."""
    folder = tmp_path / "bench"
    source = load_audio(EXAMPLES / "source.wav")
    recordings = {"she": [load_audio(path)[: 2 * SAMPLE_RATE] for path in TARGETS[:5]]}
    recordings["he"] = [source[n * 16_000 : (n + 2) * 16_000] for n in range(5)]
    lines = [["speaker", "file", "text"]]
    for speaker, waves in recordings.items():
        for number, wave in enumerate(waves):
            write_audio(folder / f"{speaker}/{number}.flac", wave, SAMPLE_RATE)
            lines.append([speaker, f"{speaker}/{number}.flac", "what is said"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder


def test_the_bench_runs_with_a_preset_in_the_published_format(
    bench: Path, preset: Path, tmp_path: Path
) -> None:
    """So the table of the published weights is one command: --preset wavlm-large."""
    folder = tmp_path / "results"
    call = ["evaluate", "--bench", str(bench), "-o", str(folder), "--preset", str(preset)]
    call += ["--sources", "1", "--sweep", "seconds=2,60", "--format", "latex"]
    result = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (folder / "table.tex").read_text() in result.output
    found = json.loads((folder / "results.json").read_text())
    assert found["preset"] == preset.name
    assert [row["name"] for row in found["rows"]] == [
        "source",
        "copy-synthesis",
        "converted, 2 s",
        "converted, 8 s (of 60)",  # four utterances of two seconds are all there is
    ]
    assert [row["count"] for row in found["rows"]] == [2, 2, 2, 2]
    assert {line["speaker"] for line in found["lines"]} == {"he", "she"}
    assert len(found["lines"]) == 8
    speakers = {row["speaker"]: row["words"] for row in found["source_speakers"]}
    assert speakers == {"he": 3, "she": 3}
    values = found["rows"][-1]["values"]
    assert values["wer"]["value"] > 50  # random weights say nothing,
    assert values["distillmos"]["value"] < found["rows"][0]["values"]["distillmos"]["value"]


@pytest.fixture
def release(parity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wavlm-large` means tiny files in the published formats, put there by hand."""
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    config = json.loads((parity / "hifigan_tiny.json").read_text())
    known = replace(PUBLISHED["wavlm-large"], vocoder_config=config, text_front_end=None)
    monkeypatch.setitem(PUBLISHED, known.name, known)
    downloads_folder().mkdir(parents=True)
    for name, file in ((known.encoder, "wavlm_tiny.pt"), (known.vocoder, "hifigan_tiny.pt")):
        content = (parity / file).read_bytes()
        (downloads_folder() / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        nowhere = RemoteFile(name, f"http://127.0.0.1:9/{name}", len(content), digest, "MIT")
        monkeypatch.setitem(REGISTRY, name, nowhere)


@pytest.mark.usefixtures("release")
def test_the_published_preset_is_pulled_and_measured_beside_mini(
    bench: Path, tmp_path: Path, listening: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`knnvc preset pull wavlm-large`, then the same command for either; a stand-in listens."""
    monkeypatch.setattr("knnvc.evaluation.instruments.Instruments", lambda *_: listening())

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    run("preset", "pull", "wavlm-large")
    shapes = {}
    for name in ("wavlm-large", "mini"):
        folder = tmp_path / name
        call = ("evaluate", "--bench", bench, "--sources", "1", "--no-yardsticks")
        printed = run(*call, "--seconds", "5", "-o", folder, "--preset", name)
        found = json.loads((folder / "results.json").read_text())
        assert found["preset"] == name
        assert all(line["seconds"] == pytest.approx(2, abs=0.05) for line in found["lines"])
        shapes[name] = [(row["name"], row["count"]) for row in found["rows"]]
        assert "copy-synthesis" in printed
        assert "converted, 5 s" in printed
    assert shapes["wavlm-large"] == shapes["mini"]


def test_demos_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "demos").mkdir()
    write_audio(tmp_path / "demos/a.flac", load_audio(EXAMPLES / "source.wav")[:32_000], 16_000)
    write_audio(tmp_path / "demos/b.flac", load_audio(TARGETS[0])[:32_000], 16_000)
    (tmp_path / "demos/manifest.csv").write_text(
        "system,source,references,text,published_wer,published_similarity,published_distillmos\n"
        "FreeVC,a.flac,b.flac,,0.032,0.78,4.21\n"
    )
    call = ["evaluate", "--demos", str(tmp_path / "demos"), "-o", str(tmp_path / "r")]
    result = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("FreeVC"))
    assert line.split()[:3] == ["FreeVC", "1", "3.2"]
    (_, _, row) = json.loads((tmp_path / "r/results.json").read_text())["demos"]
    assert (row["wer"], row["similarity"], row["distillmos"]) == pytest.approx((3.2, 0.78, 4.21))
    assert row["our_similarity"] > 0.5
    assert "converted, 2 s  1" in result.output  # all that there is
