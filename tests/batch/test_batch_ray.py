"""The same batch on a Ray cluster of this machine, a worker killed in the middle of it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from knnvc.batch import BatchOptions, convert_batch
from knnvc.batch.journal import read_history

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"

# Not importorskip: importing Ray into this process would leave its warnings to all other tests.
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs knnvc[ray]"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds actors in /proc"),
]


def actors(session: int) -> dict[int, float]:
    """Processes of actors that are calling a worker, by id, in this session of processes."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            parts = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"MapWorker" in name and int(parts[3]) == session:
            found[int(folder.name)] = float(parts[19])
    return found


def test_a_killed_actor_changes_nothing(
    tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(7)
    for folder in ("takes/deep", "anna"):
        Path(folder).mkdir(parents=True)
    for number in range(8):
        path = f"takes/{'deep/' * (number % 2)}{number}.wav"
        sf.write(path, 0.05 * draw.standard_normal(16_000 * (2 + number)), 16_000)
    sf.write("takes/mute.wav", np.zeros(16_000), 16_000)
    speech = sf.read(EXAMPLES / "source.wav", frames=32_000)[0]  # noise would be warned of
    sf.write("anna/one.wav", speech, 16_000)

    code = "from knnvc.cli.main import main; main()"
    command = ["batch", "takes", "out", "--ref", "anna", "--preset", str(preset), "--no-loudness"]
    ray = ["--engine", "ray", "--workers", "2", "--device", "cpu", "--report", "report.csv"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command, *ray],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out = Path("out")
    try:
        deadline = time.monotonic() + 240
        # As soon as the first file is there, the others are in the middle of theirs.
        running: dict[int, float] = {}
        while len(running) < 2 or not list(out.rglob("*.wav")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
            running = actors(os.getsid(process.pid))
        os.kill(min(running), signal.SIGKILL)
        printed, said = process.communicate(timeout=240)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1, said  # for the silent one, and nothing else
    lines = said.splitlines()
    assert len(lines) == 3, said  # whatever Ray had to say is not for the person
    assert lines[0].startswith("Error: takes/mute.wav: ")
    assert lines[0].endswith("is entirely silent; use a recording with speech in it.")
    assert lines[1].startswith("8 done, 1 failed in ")
    assert lines[2].startswith("Error: 1 of 9 files failed; report.csv has them all")
    assert len(printed.split()) == 8

    # The engine of this machine finds nothing left to do but that one, ...
    options = BatchOptions(preset=preset, device="cpu", loudness=False)
    journal = read_history(out / ".knnvc-batch" / "journal.jsonl")
    assert sum(done is not None for done in journal.outputs.values()) == 8
    again = convert_batch("takes", out, ["anna"], options, dry_run=True)
    assert (again.count("up to date"), again.count("not started")) == (8, 1)
    # ... and makes the same bytes.
    Path("takes/mute.wav").unlink()
    assert convert_batch("takes", "local", ["anna"], options).count("done") == 8
    for path in Path("local").rglob("*.wav"):
        assert (out / path.relative_to("local")).read_bytes() == path.read_bytes()
    assert {path.relative_to(out) for path in out.rglob("*.wav")} == {
        path.relative_to("local") for path in Path("local").rglob("*.wav")
    }
