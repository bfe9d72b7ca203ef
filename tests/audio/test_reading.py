"""The loader takes any recording and refuses anything else in one sentence."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import knnvc.audio.decoding
from knnvc.audio import SAMPLE_RATE, load_audio
from knnvc.errors import KnnvcError, KnnvcWarning

# The folder of a test is shared by its examples on purpose: each writes over the last.
examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 220.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def voice(seconds: float, rate: int = SAMPLE_RATE) -> Tensor:
    """A harmonic sound of moving pitch, which the detector takes for speech."""
    time = torch.arange(round(seconds * rate)) / rate
    phase = torch.cumsum(130 + 40 * torch.sin(2 * math.pi * 1.3 * time), 0) / rate
    return 0.2 * torch.stack([torch.sin(2 * math.pi * n * phase) / n for n in range(1, 30)]).sum(0)


def wav_bytes(
    data: bytes, *, rate: int = 16_000, channels: int = 1, bits: int = 16, kind: int = 1
) -> bytes:
    width = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * width & 0xFFFFFFFF, width, bits)
    body = b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data) + 4) + b"WAVE" + body + data


def refusal(path: Path) -> str:
    """What the loader says about a bad file: one sentence that names it."""
    with pytest.raises(KnnvcError) as caught:
        load_audio(path)
    message = caught.value.full
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def audio_or_refusal(path: Path) -> Tensor | str:
    """The loader's waveform or its refusal, after a look that it is a proper one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KnnvcWarning)
            loaded = load_audio(path)
    except KnnvcError:
        return refusal(path)
    assert loaded.dtype == torch.float32
    assert loaded.ndim == 1
    assert len(loaded) > 0
    assert torch.isfinite(loaded).all()
    return loaded


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1e-2),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 1e-7),
        ("wav", "DOUBLE", 1e-7),
        ("flac", "PCM_16", 1e-4),
        ("flac", "PCM_24", 1e-6),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 0.05),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_formats_read_back(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float, channels: int
) -> None:
    gains = torch.linspace(0.4, 1.0, channels)
    expected = tone(0.5)
    path = tmp_path / f"x.{suffix}"
    sf.write(path, (expected[:, None] * gains).numpy(), SAMPLE_RATE, subtype=subtype)
    loaded = load_audio(path)
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, expected * gains.mean(), atol=tolerance, rtol=0)


@examples
@given(
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]),
    channels=st.integers(1, 6),
    suffix=st.sampled_from(["wav", "flac"]),
    frames=st.integers(1, 20_000),
)
def test_rates_and_channels(
    tmp_path: Path, rate: int, channels: int, suffix: str, frames: int
) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(frames).uniform(-0.5, 0.5, (frames, channels))
    sf.write(path, noise, rate, subtype="PCM_24")
    loaded = load_audio(path)
    mono = torch.from_numpy(noise.mean(axis=1).astype(np.float32))
    assert loaded.shape == (max(1, round(frames * SAMPLE_RATE / rate)),)
    whole = torchaudio.functional.resample(mono, rate, SAMPLE_RATE)[: len(loaded)]
    torch.testing.assert_close(loaded, whole, atol=2e-6, rtol=0)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_pitch_survives_resampling(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "x.wav"
    sf.write(path, tone(1.0, rate, hertz=1000.0).numpy(), rate, subtype="FLOAT")
    inner = slice(500, -500)
    error = (load_audio(path) - tone(1.0, hertz=1000.0))[inner].abs().max()
    assert error < 2e-3


def test_another_target_rate(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    sf.write(path, tone(0.5).numpy(), SAMPLE_RATE)
    assert len(load_audio(path, 24_000)) == 12_000


@pytest.mark.parametrize("channels", [1, 2])
def test_long_files_are_read_in_blocks(
    tmp_path: Path, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (50_001, channels)).astype(np.float32)
    sf.write(path, noise, 44_100, subtype="FLOAT")
    whole = load_audio(path)
    monkeypatch.setattr(knnvc.audio.decoding, "BLOCK_SAMPLES", 1000)
    torch.testing.assert_close(load_audio(path), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["x.mp3", "x", "x.txt", "ü ñ.flac"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(wav_bytes(b"\x00\x10" * 800))
    torch.testing.assert_close(load_audio(path), torch.full((800,), 0.125))


@pytest.mark.parametrize("samples", [np.zeros(1), np.full(1, 0.25), np.zeros(16_000)])
def test_silent_and_one_sample_files_load(tmp_path: Path, samples: np.ndarray[Any, Any]) -> None:
    sf.write(tmp_path / "x.wav", samples, SAMPLE_RATE)
    torch.testing.assert_close(load_audio(tmp_path / "x.wav"), torch.from_numpy(samples).float())


def test_a_truncated_wav_gives_what_it_holds(tmp_path: Path) -> None:
    data = wav_bytes(b"\x00\x10" * 8000)
    for keep in (len(data) - 1, len(data) - 8000, len(data) - 8001):
        (tmp_path / "x.wav").write_bytes(data[:keep])
        torch.testing.assert_close(
            load_audio(tmp_path / "x.wav"), torch.full(((keep - 44) // 2,), 0.125)
        )


def test_a_cut_off_wav_says_how_much_is_missing(tmp_path: Path) -> None:
    data = wav_bytes(b"\x00\x10" * 32_000)
    (tmp_path / "x.wav").write_bytes(data[: len(data) - 16_000])
    with pytest.warns(KnnvcWarning, match=r"x\.wav is cut off: it ends 0\.5 s before"):
        assert len(load_audio(tmp_path / "x.wav")) == 24_000


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_a_truncated_file_is_shorter_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    sf.write(path, voice(3.0).numpy(), SAMPLE_RATE)
    data = path.read_bytes()
    for part in (0.9, 0.5, 0.1, 0.01):
        path.write_bytes(data[: int(len(data) * part)])
        loaded = audio_or_refusal(path)
        assert isinstance(loaded, str) or len(loaded) <= 3 * SAMPLE_RATE


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    assert "does not exist" in refusal(bad)
    assert "is a folder" in refusal(tmp_path)
    bad.write_bytes(b"")
    assert "is an empty file" in refusal(bad)
    bad.write_bytes(wav_bytes(b""))
    assert "holds no samples" in refusal(bad)
    bad.write_bytes(b"Not audio at all, but a letter to my aunt. " * 50)
    assert "not audio" in refusal(bad)
    bad.write_bytes(wav_bytes(b"\x00\x10" * 8000)[:30])
    assert "damaged" in refusal(bad)
    bad.write_bytes(wav_bytes(b"\x00\x10" * 8000, rate=1))
    assert "sampling rate of 1 Hz" in refusal(bad)
    bad.rename(tmp_path / "bad.raw")
    assert "sampling rate of 1 Hz" in refusal(tmp_path / "bad.raw")
    (tmp_path / "bad.raw").write_bytes(b"\x10\x00\x20\x00" * 800)
    assert "headerless" in refusal(tmp_path / "bad.raw")
    assert "does not exist" in refusal(tmp_path / "bad.raw" / "x.wav")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rate", [16_000, 44_100, 44_101])
def test_non_finite_samples_are_refused(tmp_path: Path, value: float, rate: int) -> None:
    samples = np.zeros((20_000, 2), np.float32)
    samples[12_345] = value, -value
    sf.write(tmp_path / "x.wav", samples, rate, subtype="FLOAT")
    assert "not finite" in refusal(tmp_path / "x.wav")


MAGIC = [b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x04", b"\xff\xfb\x90\x00", b"FORM", b".snd", b"caff"]


@examples
@given(magic=st.sampled_from(MAGIC), data=st.binary(max_size=3000))
def test_random_bytes(tmp_path: Path, magic: bytes, data: bytes) -> None:
    (tmp_path / "x.wav").write_bytes(magic + data)
    audio_or_refusal(tmp_path / "x.wav")


@examples
@given(
    data=st.binary(max_size=600),
    rate=st.integers(0, 2**31 - 1) | st.sampled_from([16_000, 44_100, 44_101, 47_999]),
    channels=st.integers(0, 9),
    bits=st.sampled_from([0, 4, 8, 16, 24, 32, 64]),
    kind=st.sampled_from([0, 1, 2, 3, 6, 7, 17, 49, 0xFFFE]),
)
def test_random_wav_headers(
    tmp_path: Path, data: bytes, rate: int, channels: int, bits: int, kind: int
) -> None:
    header = {"rate": rate, "channels": channels, "bits": bits, "kind": kind}
    (tmp_path / "x.wav").write_bytes(wav_bytes(data, **header))
    audio_or_refusal(tmp_path / "x.wav")


@examples
@given(
    suffix=st.sampled_from(["wav", "flac", "ogg", "mp3"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20),
    keep=st.floats(0.0, 1.0),
)
def test_damaged_files(
    tmp_path: Path, suffix: str, edits: list[tuple[float, int]], keep: float
) -> None:
    whole = tmp_path / f"whole.{suffix}"
    if not whole.exists():
        sf.write(whole, voice(0.5).numpy(), SAMPLE_RATE)
    data = bytearray(whole.read_bytes())
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    (tmp_path / "x").write_bytes(data[: max(1, int(keep * len(data)))])
    audio_or_refusal(tmp_path / "x")
