"""Files are written whole or not at all, and say why if not."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.errors import KnnvcError, UsageError


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 220.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)]
)
def test_written_files_read_back(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / "out" / f"x.{suffix.upper()}"
    assert write_audio(path, tone(1.0), SAMPLE_RATE) == 1.0
    assert list(path.parent.iterdir()) == [path]
    inner = slice(2000, 12_000)
    torch.testing.assert_close(load_audio(path)[inner], tone(1.0)[inner], atol=tolerance, rtol=0)
    if suffix in ("wav", "flac"):
        assert sf.info(path).subtype == "PCM_16"


def test_peaks_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    scale = write_audio(tmp_path / "x.wav", 4 * tone(0.5), SAMPLE_RATE)
    assert scale == pytest.approx(0.5, rel=1e-3)
    torch.testing.assert_close(load_audio(tmp_path / "x.wav"), 2 * tone(0.5), atol=2e-3, rtol=0)


def test_long_vorbis_files_are_written(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.ogg", torch.zeros(600 * 8_000), 8_000)  # crashes in a single write
    assert sf.info(tmp_path / "x.ogg").frames == 600 * 8_000


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.wav, \.flac, \.ogg, \.mp3"):
        write_audio(tmp_path / "x.m4a", tone(0.1), SAMPLE_RATE)
    with pytest.raises(KnnvcError, match="not finite"):
        write_audio(tmp_path / "x.wav", torch.tensor([0.0, math.nan]), SAMPLE_RATE)
    with pytest.raises(KnnvcError, match="at 96001 Hz"):
        write_audio(tmp_path / "x.mp3", tone(0.1), 96_001)
    assert list(tmp_path.iterdir()) == []
    write_audio(tmp_path / "x.wav", tone(0.1), SAMPLE_RATE)
    with pytest.raises(UsageError, match="already exists"):
        write_audio(tmp_path / "x.wav", tone(0.2), SAMPLE_RATE, force=False)
    assert len(load_audio(tmp_path / "x.wav")) == 1600


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        for suffix in ("wav", "flac", "ogg"):
            noise = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, 400_000)).float()
            with pytest.raises(KnnvcError, match="larger than this system allows") as caught:
                write_audio(tmp_path / f"x.{suffix}", noise, SAMPLE_RATE)
            assert "System error" not in str(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3"])
def test_the_reason_of_a_failed_write_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Every temporary file in this folder is the device that is always full.
    ordinary = Path.open

    def opened(path: Path, *args: Any, **options: Any) -> Any:
        full = path.parent == tmp_path and path.name.startswith(".")
        return ordinary(Path("/dev/full") if full else path, *args, **options)

    monkeypatch.setattr(Path, "open", opened)
    noise = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, 400_000)).float()
    with pytest.raises(KnnvcError, match="no space left on device"):
        write_audio(tmp_path / f"x.{name}", noise, SAMPLE_RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
def test_names_of_any_bytes_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"z\xff\x1b[31m.wav")
    write_audio(path, tone(0.5), SAMPLE_RATE)
    assert len(load_audio(path)) == 8000
    path.write_bytes(b"no sound at all")
    with pytest.raises(KnnvcError) as caught:
        load_audio(path)
    assert r"z\xff\x1b[31m.wav" in str(caught.value)
    assert str(caught.value).isprintable()
