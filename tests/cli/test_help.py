"""Help, completion, `doctor`, and what is listed for programs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from knnvc import __version__
from knnvc.cli.completion import SHELLS, script
from knnvc.cli.main import cli


def commands(command: click.Command, name: str = "knnvc") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for below, one in command.commands.items():
            yield from commands(one, f"{name} {below}")


@pytest.mark.parametrize(("name", "command"), list(commands(cli)))
def test_every_command_and_option_is_described(name: str, command: click.Command) -> None:
    assert command.help
    assert command.help.strip().splitlines()[0].endswith((".", ":"))
    for one in command.params:
        if isinstance(one, click.Option):
            assert one.help, f"{name} {one.opts[0]}"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_written_where_the_shell_looks(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    done = CliRunner().invoke(cli, ["--install-completion"])
    assert done.exit_code == 0, done.output
    path = Path(done.stdout.strip())
    assert path.is_file()
    assert path.is_relative_to(tmp_path)
    assert "_KNNVC_COMPLETE" in path.read_text()
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0


def test_completion_for_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    done = CliRunner().invoke(cli, ["--install-completion"])
    assert done.exit_code == 2
    assert "the shell is tcsh: name it" in done.output
    assert "complete" in script(cli, "fish")


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNNVC_CACHE_LIMIT", "1GB")
    done = CliRunner().invoke(cli, ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert found["versions"]["knnvc"] == __version__
    assert "cpu" in found["computing"]["devices"]
    assert "heart" in found["presets"]["ready voices"]
    assert found["folders"]["KNNVC_CACHE_LIMIT"] == "1GB"
    assert done.exit_code == bool(found["problems"])
    said = CliRunner().invoke(cli, ["doctor"]).output
    assert __version__ in said


def test_doctor_finds_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("knnvc.cli.doctor._PACKAGES", ("no-such-package",))
    done = CliRunner().invoke(cli, ["doctor"])
    assert done.exit_code == 1
    assert "the package no-such-package is missing" in done.output


def test_voices_for_programs() -> None:
    short = CliRunner().invoke(cli, ["voices", "--json"])
    long = CliRunner().invoke(cli, ["voices", "list", "--json"])
    assert json.loads(short.stdout) == json.loads(long.stdout)
    assert len(json.loads(short.stdout)) >= 16


def test_a_preset_is_described_without_braces() -> None:
    done = CliRunner().invoke(cli, ["preset", "info", "mini"])
    assert done.exit_code == 0
    assert "{" not in done.output
    assert "text_front_end hours" in done.output


def test_the_set_of_a_ready_voice() -> None:
    done = CliRunner().invoke(cli, ["set", "info", "voice:emma"])
    assert done.exit_code == 0, done.output
    assert "frames, from 1 file\n" in done.output
    assert "mini (encoder" in done.output


@pytest.mark.parametrize("typed", ["emma", "Emma", "emna", "emma:0.5"])
def test_a_voice_without_its_prefix(typed: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    done = CliRunner().invoke(cli, ["convert", str(tmp_path / "a.wav"), "--ref", typed])
    assert done.exit_code == 2
    assert "does not exist; did you mean voice:emma?" in done.output
