from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner, Result

from knnvc.cli.main import cli
from knnvc.voices.ready import FOLDER_VARIABLE


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with a recording, and no voices of one's own."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    sf.write("anna.wav", np.random.default_rng(0).normal(0, 0.05, 48_000), 16_000)
    return tmp_path


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


def test_the_voices_are_listed_for_people_and_programs() -> None:
    plain, named, told = run("voices"), run("voices", "list"), run("voices", "list", "--json")
    assert plain.output == named.output
    assert any(line.startswith("emma ") for line in plain.output.splitlines())
    values = json.loads(told.output)
    assert values["emma"]["sex"] == "woman"
    assert not values["emma"]["own"]
    assert Path(values["emma"]["path"]).is_file()
    assert json.loads(run("voices", "info", "emma", "--json").output)["name"] == "emma"


def test_a_voice_of_ones_own_from_recording_to_conversion(work: Path, preset: Path) -> None:
    done = run("voices", "add", "anna.wav", "--name", "Anna", "--licence", "CC0")
    assert done.exit_code == 0, done.output
    assert "added voice:Anna, 3 s" in done.stdout
    assert "40 s or more" in done.stderr
    said = run("voices", "info", "anna").output
    for part in ("Anna (yours)", "anna.wav", "CC0", "16000 Hz"):
        assert part in said
    done = run("convert", "anna.wav", "--ref", "voice:Anna", "--preset", preset)
    assert done.exit_code == 0, done.output
    assert (work / "anna_as_Anna.wav").exists()
    assert run("voices", "preview", "Anna").output == "Anna_preview.wav\n"
    assert run("voices", "rename", "Anna", "Berta").output == "voice:Berta\n"
    assert run("voices", "export", "Berta", "berta.zip").exit_code == 0
    assert run("voices", "remove", "Berta").exit_code == 0
    assert "Berta" not in run("voices").output
    assert run("voices", "add", "berta.zip").output == "added voice:Berta\n"
    assert "Berta" in run("voices").output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("add", "nobody/"), "does not exist"),
        (("add", "anna.wav", "--name", "../anna"), "no name for a voice"),
        (("add", "anna.wav", "anna.wav"), "--name"),
        (("info", "ema"), "did you mean emma?"),
        (("preview", "emma", "-o", "emma.txt"), "end it in"),
        (("export", "emma", "emma.tar"), "FILE.zip"),
        (("export", "x.zip"), "name the voices to export"),
        (("remove", "emma"), "no voice of your own"),
    ],
)
def test_mistakes_are_told_in_one_sentence(args: tuple[str, ...], message: str) -> None:
    done = run("voices", *args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_all_voices_go_into_one_archive(work: Path) -> None:
    assert run("voices", "export", "--all", "all.zip").exit_code == 0
    done = run("voices", "add", "all.zip")
    assert done.exit_code == 0
    assert "skipped emma" in done.stderr
