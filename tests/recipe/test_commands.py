"""The recipe's command line, from a corpus to a preset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf
from click.testing import CliRunner

from knnvc.cli.configuration import chosen
from knnvc.cli.main import cli as knnvc
from knnvc.mini.refiner import RefinerConfig
from knnvc.presets.search import find_preset
from knnvc.tensors import read_tensors
from recipe import options, package
from recipe.cli import cli
from tiny import RATE

VOCODER = Path(__file__).parents[2] / "vocoder"


def test_the_recipe_packages_what_the_bundled_preset_says() -> None:
    bundled = find_preset("mini")
    assert bundled.defaults == package.MATCHING
    for part, source in (bundled.converter, "recordings"), (bundled.speech_converter, "text"):
        assert part is not None
        config = RefinerConfig.from_dict(part.config["refiner"])
        made = package._converter(source, "refiner", config)
        assert made["config"] == dict(part.config)


def test_the_commands_lead_from_a_corpus_to_a_preset(corpus: Path, tmp_path: Path) -> None:
    """Mini's own dimensions, hardly any steps."""

    def run(*args: str | Path) -> None:
        done = CliRunner().invoke(cli, [*map(str, args)])
        assert done.exit_code == 0, done.output

    encoder, refiner = tmp_path / "e/encoder.safetensors", tmp_path / "r/refiner.safetensors"
    matched, vocoder = tmp_path / "matched.safetensors", tmp_path / "v/vocoder.safetensors"
    given = ("--corpus", corpus, "--steps", 1, "--batch", 1)
    run("encoder", *given, "--frames", 40, "--out", encoder.parent)
    # A further step begins where the last run ended.
    run("encoder", *given, "--frames", 40, "--out", encoder.parent, "--steps", 2)
    assert read_tensors(encoder)[1]["steps"] == "2"
    assert "| option frames | 40 |" in (encoder.parent / "MODEL_CARD.md").read_text()
    given = (*given, "--frames", 36)
    run("refiner", *given, "--encoder", encoder, "--out", refiner.parent)
    run("prematch", "--corpus", corpus, "--encoder", encoder, "--out", tmp_path / "plain.st")
    assert list(tmp_path.glob("plain.*")) == [tmp_path / "plain.st"]
    parts = ("--encoder", encoder, "--refiner", refiner)
    run("prematch", "--corpus", corpus, *parts, "--out", matched)
    run("vocoder", *given, "--prematched", matched, "--channels", 2, "--out", vocoder.parent)
    parts = ("--encoder", encoder, "--refiner", refiner, "--speech-refiner", refiner)
    run("package", *parts, "--vocoder", vocoder, "--out", tmp_path / "preset")
    assert (tmp_path / "preset/speech_refiner.safetensors").exists()
    assert "encoder_steps | 2" in (tmp_path / "preset/MODEL_CARD.md").read_text()
    out = tmp_path / "converted.wav"
    source, target = corpus / "low/low_002.flac", corpus / "high"
    args = ("convert", source, "--ref", target, "--preset", tmp_path / "preset", "-o", out)
    done = CliRunner().invoke(knnvc, list(map(str, args)))
    assert done.exit_code == 0, done.output
    assert sf.info(out).frames == pytest.approx(2 * RATE, abs=640)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["encoder", "--corpus", "nowhere"], "vocoder/mini.py corpus"),
        (["prematch", "--corpus", ".", "--encoder", "no.safetensors"], "vocoder/mini.py encoder"),
        (["vocoder", "--corpus", ".", "--prematched", "no"], "vocoder/mini.py prematch"),
        (["package", "--encoder", "no.safetensors"], "vocoder/mini.py encoder"),
        (["package", "--add-to", "."], "--text-frontend"),
        (["encoder", "--config", "nowhere.json"], "nowhere.json does not exist"),
    ],
)
def test_what_is_missing_is_named(args: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_configuration_is_one_of_every_step() -> None:
    path = VOCODER / "configs/mini.json"
    kinds = {
        "corpus": options.CorpusOptions,
        "twins": options.TwinsOptions,
        "recordings": options.RecordingsOptions,
        "encoder": options.EncoderOptions,
        "refiner": options.RefinerOptions,
        "vocoder": options.VocoderOptions,
    }
    assert json.loads(path.read_text()).keys() == kinds.keys()
    for step, kind in kinds.items():
        assert isinstance(chosen(kind, step, path, {}), kind)


def test_it_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, VOCODER / "mini.py", "encoder", "--corpus", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "vocoder/mini.py corpus" in done.stderr
