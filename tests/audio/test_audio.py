"""The loader takes any recording and refuses anything else in one sentence."""

from __future__ import annotations

import math
import struct
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

from knnvc.audio import (
    SAMPLE_RATE,
    find_audio,
    load_audio,
    normalize_loudness,
    require_audio,
    resample,
    to_waveform,
    trim_silence,
    write_audio,
)
from knnvc.audio import files as audio
from knnvc.errors import KnnvcError, UsageError

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
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def audio_or_refusal(path: Path) -> Tensor | str:
    """The loader's waveform or its refusal, after a look that it is a proper one."""
    try:
        loaded = load_audio(path)
    except KnnvcError:
        return refusal(path)
    assert loaded.dtype == torch.float32
    assert loaded.ndim == 1
    assert len(loaded) > 0
    assert torch.isfinite(loaded).all()
    return loaded


# Loading


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
    assert loaded.shape == (math.ceil(frames * SAMPLE_RATE / rate),)
    whole = torchaudio.functional.resample(mono, rate, SAMPLE_RATE)
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
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 1000)
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


# Samples from Python


@pytest.mark.parametrize(
    "samples",
    [
        np.array([0.5, -0.25], np.float64),
        np.array([0.5, -0.25], np.float16),
        np.array([16384, -8192], np.int16),
        np.array([2**30, -(2**29)], np.int32),
        np.array([64, -32], np.int8),
        np.array([192, 96], np.uint8),
        [0.5, -0.25],
        torch.tensor([0.5, -0.25], dtype=torch.float64, requires_grad=True),
        torch.tensor([16384, -8192], dtype=torch.int16),
        np.array([[0.5, -0.25]]),
        (np.array([0.5, -0.25]), 16_000),
    ],
)
def test_every_type_has_its_full_scale(samples: Any) -> None:
    torch.testing.assert_close(to_waveform(samples), torch.tensor([0.5, -0.25]))


def test_channels_are_on_the_shorter_axis() -> None:
    left, right = torch.rand(2, 1000)
    expected = (left + right) / 2
    torch.testing.assert_close(to_waveform(torch.stack([left, right])), expected)
    torch.testing.assert_close(to_waveform(torch.stack([left, right], dim=1)), expected)


def test_a_rate_beside_the_samples_is_converted() -> None:
    expected = torchaudio.functional.resample(tone(0.5, 44_100), 44_100, SAMPLE_RATE)
    torch.testing.assert_close(to_waveform((tone(0.5, 44_100).numpy(), 44_100)), expected)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.float32(0.5), "0 dimensions"),
        (np.zeros((500, 500)), "not channels and samples"),
        (np.zeros(0), "no samples"),
        (np.zeros((1, 0)), "no samples"),
        (np.array([0.0, np.nan]), "not finite"),
        (np.zeros(5, np.int64), "full scale is unknown"),
        (np.zeros(5, bool), "full scale is unknown"),
        (np.zeros(5, complex), "full scale is unknown"),
        ("voice.wav", "not an array"),
        (None, "not an array"),
        ((np.zeros(5), 0), "sampling rate of 0"),
        ((np.zeros(5), 44_100.5), "sampling rate of 44100.5"),
        ((np.zeros(5), math.nan), "sampling rate of nan"),
    ],
)
def test_what_is_not_a_waveform_is_refused(bad: Any, words: str) -> None:
    with pytest.raises(KnnvcError, match=words) as caught:
        to_waveform(bad, name="the source")
    assert "\n" not in str(caught.value)


def test_require_audio() -> None:
    for bad, words in [
        (torch.zeros(0), "no samples"),
        (tone(0.02), "only 20 ms long; use a recording of at least 25 ms"),
        (torch.zeros(16_000), "entirely silent"),
        (tone(1.0) * 1e-6, "entirely silent"),
    ]:
        with pytest.raises(KnnvcError, match=f"^a.wav .*{words}"):
            require_audio(bad, "a.wav")
    quiet = tone(0.025) * 1e-3
    assert require_audio(quiet, "a.wav") is quiet
    with pytest.raises(KnnvcError, match="at least 1000 ms"):
        require_audio(tone(0.5), "a.wav", minimum_seconds=1.0)


# Resampling


@examples
@given(
    frames=st.integers(1, 30_000),
    rates=st.sampled_from(
        [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (96_000, 16_000), (16_000, 22_050)]
    ),
    block=st.integers(1, 8_000),
)
def test_blocks_change_nothing(frames: int, rates: tuple[int, int], block: int) -> None:
    waveform = torch.from_numpy(np.random.default_rng(frames).uniform(-1, 1, frames)).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "_BLOCK_SAMPLES", max(block, frames // 50 + 1))
        blocked = resample(waveform, *rates)
    whole = torchaudio.functional.resample(waveform, *rates)
    torch.testing.assert_close(blocked, whole, atol=1e-6, rtol=0)


def test_nothing_resamples_to_nothing() -> None:
    assert resample(torch.zeros(0), 44_100, SAMPLE_RATE).shape == (0,)
    assert resample(torch.zeros(0), 44_101, SAMPLE_RATE).shape == (0,)


@pytest.mark.parametrize("rate", [44_101, 15_999, 47_999, 767_999])
def test_odd_rates_keep_length_and_pitch(rate: int) -> None:
    converted = resample(tone(1.0, rate, hertz=1000.0), rate, SAMPLE_RATE)
    assert len(converted) == SAMPLE_RATE
    error = (converted - tone(1.0, hertz=1000.0))[500:-500].abs().max()
    assert error < 2e-3


@pytest.mark.parametrize("rate", [0, -16_000, 3_999, 768_001, 10**30, math.nan, math.inf, "fast"])
def test_impossible_rates_are_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match="sampling rate of"):
        resample(tone(0.1), rate, SAMPLE_RATE)


# Finding


def test_folders_are_searched(tmp_path: Path) -> None:
    wanted = ["a.WAV", "b/c.flac", "b/d/e.ogg", "z.mp3"]
    for name in [*wanted, ".hidden.wav", ".git/f.wav", "notes.txt", "b/cover.jpg", "noext"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_audio(tmp_path) == [tmp_path / name for name in wanted]
    assert find_audio(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    assert find_audio(tmp_path / ".git") == [tmp_path / ".git" / "f.wav"]


def test_nothing_to_find_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no audio files"):
        find_audio(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        find_audio(tmp_path / "missing")


# Trimming and loudness


def test_silence_is_cut_at_both_ends() -> None:
    speech = voice(2.0)
    hum = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-4, 32_000)).float()
    trimmed = trim_silence(torch.cat([hum, speech, hum]))
    assert abs(len(trimmed) - len(speech)) < 0.5 * SAMPLE_RATE
    assert trimmed.square().mean() > 0.8 * speech.square().mean()
    assert torch.equal(trim_silence(hum, trigger_level=0.0), hum)


def test_trimming_is_what_the_published_code_does() -> None:
    hum = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-4, 20_000)).float()
    waveform = torch.cat([hum, voice(2.0), hum])
    transform = torchaudio.transforms.Vad(sample_rate=SAMPLE_RATE, trigger_level=7)
    published = torch.flip(transform(torch.flip(transform(waveform[None]), (-1,))), (-1,))[0]
    assert 0 < len(published) < len(waveform)
    assert torch.equal(trim_silence(waveform), published)


@pytest.mark.parametrize("waveform", [tone(0.05), torch.zeros(16_000), torch.zeros(1)])
def test_where_no_speech_is_found_nothing_is_cut(waveform: Tensor) -> None:
    assert torch.equal(trim_silence(waveform), waveform)


@pytest.mark.parametrize("target", [-16.0, -30.0])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 3.0])
def test_loudness_reaches_its_target(target: float, seconds: float) -> None:
    loud = normalize_loudness(0.01 * tone(seconds, hertz=1000.0), target=target)
    # BS.1770: a sine near 1 kHz of -3.01 dBFS RMS per channel measures -3.01 LUFS.
    rms = 10 * math.log10(float(loud.square().mean()))
    assert rms == pytest.approx(target, abs=0.3)


def test_loudness_is_what_the_published_code_does() -> None:
    waveform = 0.1 * voice(2.0)
    loudness = torchaudio.functional.loudness(waveform[None], SAMPLE_RATE)
    published = torchaudio.functional.gain(waveform, -16 - loudness)
    assert torch.equal(normalize_loudness(waveform), published)


def test_loudness_of_long_audio_is_measured_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    swell = torch.linspace(0, 1, 10 * SAMPLE_RATE).square()
    waveform = swell * voice(10.0)
    whole = torchaudio.functional.loudness(waveform[None], SAMPLE_RATE)
    torch.testing.assert_close(audio._loudness(waveform, SAMPLE_RATE), whole, atol=0, rtol=0)
    for seconds in (0.05, 0.7, 3.0, 9.95):
        monkeypatch.setattr(audio, "_STRETCH_SECONDS", seconds)
        stretches = audio._loudness(waveform, SAMPLE_RATE)
        torch.testing.assert_close(stretches, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("waveform", [torch.zeros(16_000), 1e-5 * tone(1.0), torch.zeros(0)])
def test_what_has_no_loudness_stays(waveform: Tensor) -> None:
    assert torch.equal(normalize_loudness(waveform), waveform)


# Writing


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


def test_the_same_audio_decodes_the_same(tmp_path: Path) -> None:
    """Not the same bytes: libsndfile gives every Ogg stream a random serial number."""
    for name in ("a.ogg", "b.ogg"):
        write_audio(tmp_path / name, tone(0.5), SAMPLE_RATE)
    assert torch.equal(*(load_audio(tmp_path / name) for name in ("a.ogg", "b.ogg")))


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
            with pytest.raises(KnnvcError, match="check the free space"):
                write_audio(tmp_path / f"x.{suffix}", noise, SAMPLE_RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []
