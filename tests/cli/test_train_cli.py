from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knnvc.cli.main import cli
from knnvc.training.options import (
    EncoderOptions,
    HifiGanOptions,
    VocoderOptions,
)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["train", *(str(a) for a in args)])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the training loops are called with."""
    calls: list[Any] = []

    def encoder(_corpus: Path, out: Path, options: EncoderOptions, start: Path | None) -> Path:
        calls.append((options, start))
        return out

    def vocoder(
        _corpus: Path, out: Path, options: VocoderOptions, matched: Path | None, start: Path | None
    ) -> Path:
        calls.append((options, matched, start))
        return out

    monkeypatch.setattr("knnvc.training.encoder.train_encoder", encoder)
    monkeypatch.setattr("knnvc.training.vocoder.train_vocoder", vocoder)
    return calls


def configuration(folder: Path, **steps: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(steps))
    return path


def test_the_command_line_wins_over_the_configuration(tmp_path: Path, seen: list[Any]) -> None:
    config = configuration(tmp_path, encoder={"steps": 2400, "batch": 6, "rate": 1}, vocoder={})
    args = ("--corpus", tmp_path, "--config", config, "--batch", 3, "--bf16", "--out", "there")
    done = run("encoder", *map(str, args))
    assert done.exit_code == 0, done.output
    assert done.output == "there\n"
    assert seen == [(EncoderOptions(steps=2400, batch=3, bf16=True, rate=1), None)]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"stepz": 3}, "stepz"),
        ({"frames": "many"}, "give a int"),
        ({"recipe": "wavenet"}, "none of source-filter, hifigan"),
        ({"recipe": "hifigan", "mixed_precision": "bf8"}, "choose no, bf16, fp16"),
        ([], "one object for each step"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(
    tmp_path: Path, seen: list[Any], step: object, words: str
) -> None:
    config = configuration(tmp_path, vocoder=step)
    done = run("vocoder", "--corpus", tmp_path, "--config", config)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not seen


def test_options_of_the_other_recipe_are_refused(tmp_path: Path, seen: list[Any]) -> None:
    done = run("vocoder", "--corpus", tmp_path, "--segment-size", "640")
    assert done.exit_code == 2
    assert "does not know segment_size" in done.stderr
    assert not seen


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["encoder", "--corpus", "nowhere"], "knnvc train corpus"),
        (["prematch", "--corpus", ".", "--encoder", "no.safetensors"], "knnvc train encoder"),
        (["vocoder", "--corpus", ".", "--prematched", "no"], "knnvc train prematch"),
        (["vocoder", "--corpus", ".", "--recipe", "hifigan"], "needs --prematched"),
        (["package", "--encoder", "no.safetensors"], "knnvc train encoder"),
        (["encoder", "--config", "nowhere.json"], "nowhere.json does not exist"),
    ],
)
def test_what_is_missing_is_named(args: list[str], words: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_shipped_configurations_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    from knnvc.cli.train import chosen, read_config
    from knnvc.vocoders.hifigan import HifiGanConfig

    folder = Path(__file__).parents[2] / "vocoder/configs"
    if not folder.exists():
        pytest.skip("the recipes stay in the repository")
    chosen(EncoderOptions, "encoder", folder / "mini.json", {})
    chosen(VocoderOptions, "vocoder", folder / "mini.json", {})
    # The published recipe and architecture are the defaults.
    large = folder / "wavlm-large.json"
    assert chosen(HifiGanOptions, "vocoder", large, {}) == HifiGanOptions()
    assert HifiGanConfig.from_dict(read_config(large, "generator")) == HifiGanConfig()
