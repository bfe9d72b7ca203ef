from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knnvc.cli.configuration import chosen, read_config
from knnvc.cli.main import cli
from knnvc.errors import UsageError
from knnvc.training.options import HifiGanOptions
from knnvc.vocoders.hifigan import HifiGanConfig


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["train", *(str(a) for a in args)])


def configuration(folder: Path, **steps: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(steps))
    return path


def test_the_command_line_wins_over_the_configuration(tmp_path: Path) -> None:
    config = configuration(tmp_path, vocoder={"steps": 2400, "batch_size": 6, "learning_rate": 1})
    found = chosen(HifiGanOptions, "vocoder", config, {"batch_size": 3, "seed": None})
    assert found == HifiGanOptions(steps=2400, batch_size=3, learning_rate=1)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": "many"}, "give a int"),
        ({"mixed_precision": "bf8"}, "choose one of no, bf16, fp16"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number, 1 or more"),
        ({"adam_b1": 1.5}, "adam_b1 is 1.5: give a number from 0 to 0.9999"),
        ({"learning_rate": -1}, "learning_rate is -1: give a number, 0 or more"),
        ([], "one object for each step"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(tmp_path: Path, step: object, words: str) -> None:
    config = configuration(tmp_path, vocoder=step)
    done = run("vocoder", "--corpus", tmp_path, "--config", config)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["prematch", "--corpus", "nowhere"], "nowhere is no folder with recordings"),
        (["vocoder", "--corpus", "."], "knnvc train prematch --corpus . --out runs/prematched"),
        (["vocoder", "--corpus", ".", "--config", "no.json"], "no.json does not exist"),
        (["text-frontend", "--corpus", ".", "--start", "no"], "knnvc train text-frontend"),
        (["text-frontend", "--corpus", ".", "--language", "xx"], "does not speak 'xx'"),
    ],
)
def test_what_is_missing_is_named(
    args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_each_step_tells_one_program() -> None:
    """No two names for one thing, and one default each."""
    for step in ("vocoder", "text-frontend", "prematch"):
        defaults = re.findall(r"\[default:([^]]*)\]", run(step, "--help").output)
        assert defaults
        assert not any(re.search(r"\bor\b", default) for default in defaults)
    told = run("vocoder", "--help").output
    assert "--batch-size" in told
    assert "--batch " not in told


def test_the_published_configuration_is_the_default() -> None:
    large = Path(__file__).parents[2] / "vocoder/configs/wavlm-large.json"
    if not large.exists():
        pytest.skip("the recipes stay in the repository")
    assert chosen(HifiGanOptions, "vocoder", large, {}) == HifiGanOptions()
    assert HifiGanConfig.from_dict(read_config(large, "generator")) == HifiGanConfig()


def test_options_that_stand_outside_of_a_step_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "flat.json"
    config.write_text(json.dumps({"steps": 3, "batch_size": 2, "vocoder": {}}))
    with pytest.raises(UsageError, match=r"steps, batch_size .* write .\"vocoder\": .\"steps\""):
        chosen(HifiGanOptions, "vocoder", config, {})
