"""Sound and text through pipes: what comes out is what a file would hold."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

RATE = 16_000


def run(*arguments: str | Path, data: bytes = b"", code: int = 0) -> tuple[bytes, str]:
    """Run the command line; its output and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "knnvc", *map(str, arguments)],
        input=data,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    return done.stdout, said


@pytest.fixture
def source(tmp_path: Path) -> Path:
    samples = 0.05 * np.random.default_rng(0).standard_normal(RATE)
    sf.write(tmp_path / "source.wav", samples, RATE, subtype="PCM_16")
    return tmp_path / "source.wav"


@pytest.fixture
def common(source: Path, preset: Path) -> tuple[str | Path, ...]:
    return ("--ref", source, "--preset", preset, "--no-cache")


def test_a_pipe_gives_what_a_file_gives(
    source: Path, tmp_path: Path, common: tuple[str | Path, ...]
) -> None:
    run("convert", source, *common, "-o", tmp_path / "file.wav")
    wanted, rate = sf.read(tmp_path / "file.wav", dtype="int16")
    piped, said = run("convert", "-", *common, data=source.read_bytes())
    made, made_rate = sf.read(io.BytesIO(piped), dtype="int16")
    assert made_rate == rate
    assert np.abs(made.astype(int) - wanted).max() <= 1
    assert "Error" not in said


def test_raw_samples_go_in_and_out(source: Path, common: tuple[str | Path, ...]) -> None:
    samples, _ = sf.read(source, dtype="int16")
    arguments = ("convert", "-", *common, "-o", "-")
    piped, _ = run(*arguments, "--raw", "16000:s16le", data=samples.tobytes())
    waves, _ = run(*arguments, data=source.read_bytes())
    assert len(piped) == 2 * RATE
    wanted, _ = sf.read(io.BytesIO(waves), dtype="int16")
    assert np.abs(np.frombuffer(piped, "<i2").astype(int) - wanted).max() <= 1
    slow, _ = run(*arguments, "--raw", "8000:f32le:2", data=b"\0" * 4 + samples.tobytes(), code=1)
    assert slow == b""


def test_one_end_may_be_a_file(
    source: Path, tmp_path: Path, common: tuple[str | Path, ...]
) -> None:
    out = tmp_path / "out.flac"
    printed, _ = run("convert", "-", *common, "-o", out, data=source.read_bytes())
    assert printed.decode().strip() == str(out)
    assert sf.info(out).frames == RATE
    raw, _ = run("convert", source, *common, "-o", "-", "--raw", "8000:u8")
    assert len(raw) == 8000


def test_what_a_pipe_cannot_do(source: Path, common: tuple[str | Path, ...]) -> None:
    for arguments, code, words in (
        (("convert", "-", source, *common), 2, "a pipe holds one recording"),
        (("convert", source, *common, "--raw", "16000:s16le"), 2, "name one of them as -"),
        (("convert", "-", *common, "-o", "-"), 1, "standard input is empty"),
        (("convert", "-", *common, "--raw", "16k:s16"), 2, "RATE:FORMAT"),
        (("speak", "Hi", "--raw", "16000:s16le"), 2, "give -o -, too"),
    ):
        said = run(*arguments, code=code)[1]
        assert words in said
        assert said.count("\n") == 1


def test_speech_through_pipes(tmp_path: Path) -> None:
    """A text comes in, sound goes out, in the voice that nobody named."""
    piped, _ = run("speak", "-o", "-", data=b"Hello there.\n")
    made, rate = sf.read(io.BytesIO(piped))
    assert rate == RATE
    assert 0.4 < len(made) / rate < 4
    out = tmp_path / "named.wav"
    run("speak", "Hello there.", "--ref", "voice:heart", "-o", out)
    wanted, _ = sf.read(out)
    assert np.allclose(made, wanted, atol=2e-4)


def test_no_text_is_said() -> None:
    said = run("speak", code=2)[1]
    assert said == "Error: there is no text; give it in quotes, as -f FILE, or through a pipe\n"
