"""What reaches the terminal and the report, and how a command ends when it is told to."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from knnvc.batch.run import DONE, FAILED, Report, Row
from knnvc.cli.main import cli
from knnvc.files import csv_cell, csv_text, native

NAMES = [b"z\xff.wav", b"a\x1b[31mb\nc.wav", b"=cmd.wav"]


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    """A folder of recordings whose names are no text that a terminal could show."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        noise = 0.05 * np.random.default_rng(number).standard_normal(8000)
        sf.write(tmp_path / "one.wav", noise, 16_000)
        try:
            os.rename(tmp_path / "one.wav", os.fsencode(folder) + b"/" + name)  # noqa: PTH104
        except OSError:
            pytest.skip("this file system has no such names")
    return folder


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_of_any_bytes_are_converted_and_shown(
    odd_names: Path, preset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["convert", str(odd_names), "--ref", str(odd_names), "-o", str(out)]
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--preset", str(preset), "--no-cache"])
    assert not caught.value.code
    assert sorted(os.listdir(os.fsencode(out))) == sorted(NAMES)  # noqa: PTH208
    said = capfd.readouterr()
    assert len(said.out.splitlines()) == len(NAMES)
    for line in (*said.out.splitlines(), *said.err.splitlines()):
        assert line.isprintable()
    for name in NAMES:
        assert sf.info(native(out / os.fsdecode(name))).frames > 0


def test_a_report_is_no_program_and_can_be_read_back(tmp_path: Path) -> None:
    sources = [
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\tx",
        "\rx",
        "'=x",
        "'plain",
        "a;=b",
        "z\udcff",
        "ＡＢ",
        "＝1",
        " =x",
        "\u00a0=x",
        "\ufeff=x",
        "\u200b+x",
        "\v@x",
        " plain",
    ]
    rows = [Row(Path(source), Path("out", source), DONE) for source in sources]
    rows.append(Row(Path("x"), Path("y"), FAILED, error="=bad \x1b[31m"))
    Report(rows).write(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        found = list(csv.DictReader(file))
    assert [csv_text(row["source"]) for row in found[:-1]] == sources
    for row in found:
        cells = [cell.lstrip("\v \u00a0\ufeff\u200b") for cell in row.values()]
        assert not any(cell.startswith(tuple("=+-@\t\r＝")) for cell in cells)
    assert "\x1b" not in found[-1]["error"]


@pytest.mark.parametrize("text", ["", "'", "''=", "'=", "=", "a", "'a", "\n=x", " =", "' =", " '="])
def test_a_cell_says_what_it_was(text: str) -> None:
    assert csv_text(csv_cell(text)) == text


def test_an_error_about_an_odd_name_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["convert", "no\x1b]0;owned\x07\n" + "x" * 5000, "--ref", "voice:emma"])
    assert caught.value.code in (1, 2)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    assert len(line) <= 200


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["convert", "batch"])
def test_a_signal_while_it_starts_is_one_sentence(
    tmp_path: Path, number: signal.Signals, command: str
) -> None:
    """The marker is written before anything heavy is imported; most of a second is imports."""
    sf.write(tmp_path / "a.wav", 0.05 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    ready = tmp_path / "ready"
    code = (
        "import knnvc.cli.start as s, pathlib; handle = s.handle_signals;"
        f"s.handle_signals = lambda: (handle(), pathlib.Path({str(ready)!r}).touch()); s.main()"
    )
    output = ["-o", str(tmp_path / "o.wav")] if command == "convert" else [str(tmp_path / "out")]
    arguments = [command, str(tmp_path / "a.wav"), *output, "--ref", str(tmp_path / "a.wav")]
    for delay in (0.0, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KNNVC_CACHE": str(tmp_path / "cache")},
            # Tests that run in the background would hand on a SIGINT that is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        while not ready.exists():
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
        ready.unlink()
        assert process.returncode == 128 + number
        (line,) = said.split("\n\n")[-1].strip().splitlines()
        assert line == "Error: interrupted; nothing half-written was left behind"
    assert not (tmp_path / "o.wav").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_refused_and_does_not_hang() -> None:
    code = """
import os, sys, torch
torch.set_num_threads(2)
from knnvc.converters.knn import Index
from knnvc.errors import KnnvcError
match = torch.randn(20_000, 64)
Index(match).search(match[:300], 4)
child = os.fork()
if not child:
    try:
        Index(match).search(match[:300], 4)
    except KnnvcError as error:
        os.write(1, str(error).encode())
    torch.set_num_threads(1)
    Index(match).search(match[:300], 4)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 7
    assert "forked" in done.stdout
    assert len(done.stdout) <= 200
