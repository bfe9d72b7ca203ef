"""Sound goes in and out through pipes, with a header and without."""

from __future__ import annotations

import io
import math
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from knnvc.audio import load_audio, read_stream, write_stream
from knnvc.errors import KnnvcError
from knnvc.sound_options import RAW_FORMATS, RawFormat, parse_raw

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
RATE = 16_000


def tone(seconds: float, rate: int = RATE) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * 220 * torch.arange(round(seconds * rate)) / rate)


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces and cannot be sought in."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece, self.data = self.data[: min(len(buffer), 777)], self.data[min(len(buffer), 777) :]
        buffer[: len(piece)] = piece
        return len(piece)


def through(write: Any) -> bytes:
    """What `write` puts into one end of a pipe comes out at the other."""
    out, into = os.pipe()
    received = []

    def collect() -> None:
        with os.fdopen(out, "rb") as file:
            received.append(file.read())

    reader = threading.Thread(target=collect)
    reader.start()
    with os.fdopen(into, "wb") as file:
        write(file)
    reader.join()
    return received[0]


def test_wav_out_and_in() -> None:
    waveform = tone(1.0, 24_000)
    data = through(lambda file: write_stream(file, waveform, 24_000))
    with sf.SoundFile(io.BytesIO(data)) as handle:
        assert (handle.samplerate, handle.channels, handle.subtype) == (24_000, 1, "PCM_16")
        assert handle.frames == len(waveform)
        np.testing.assert_allclose(handle.read(dtype="float32"), waveform, atol=1e-4)
    heard = read_stream(Pipe(data), 24_000)
    torch.testing.assert_close(heard, waveform, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF024])
def test_wav_of_unknown_length_comes_in(size: int) -> None:
    data = bytearray(through(lambda file: write_stream(file, tone(1.0), RATE)))
    data[40:44] = size.to_bytes(4, "little")
    torch.testing.assert_close(read_stream(Pipe(bytes(data))), tone(1.0), atol=1e-4, rtol=0)


def test_any_format_comes_in() -> None:
    for path in [EXAMPLES / "source.wav", *sorted((EXAMPLES / "target").glob("*.flac"))[:1]]:
        assert torch.equal(read_stream(Pipe(path.read_bytes())), load_audio(path))


@pytest.mark.parametrize("encoding", RAW_FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_raw_out_and_in(encoding: str, channels: int) -> None:
    raw = RawFormat(RATE, encoding, channels)
    data = through(lambda file: write_stream(file, tone(0.5), RATE, raw=raw))
    assert len(data) == 8000 * channels * int(encoding[1:].rstrip("leb")) // 8
    tolerance = {"8": 1e-2, "1": 1e-4}.get(encoding[1], 1e-6)
    heard = read_stream(Pipe(data), raw=raw)
    torch.testing.assert_close(heard, tone(0.5), atol=tolerance, rtol=0)


@pytest.mark.parametrize("encoding", ["s16be", "s24le", "s24be", "s32be", "f32le", "u8"])
def test_raw_is_what_others_call_so(encoding: str) -> None:
    """libsndfile writes the same bytes."""
    name = (
        "FLOAT"
        if encoding[0] == "f"
        else f"PCM_{'U' * (encoding[0] == 'u')}{encoding[1:].rstrip('leb')}"
    )
    file = io.BytesIO()
    endian = "BIG" if encoding.endswith("be") else "LITTLE"
    samples = tone(0.2).double().numpy()
    sf.write(file, samples, RATE, format="RAW", subtype=name, endian=endian)
    heard = read_stream(io.BytesIO(file.getvalue()), raw=parse_raw(f"{RATE}:{encoding}"))
    np.testing.assert_allclose(heard, samples, atol=1e-2 if encoding == "u8" else 1e-4)


def test_raw_converts_rate_and_channels() -> None:
    raw = parse_raw("48000:f32le:2")
    both = np.stack([tone(1.0, 48_000), -tone(1.0, 48_000)], 1).astype("<f4")
    heard = read_stream(Pipe(both.tobytes() + b"\0\0\0"), raw=raw)
    assert len(heard) == RATE
    torch.testing.assert_close(heard[500:-500].abs(), tone(1.0)[500:-500].abs(), atol=2e-3, rtol=0)
    made = through(lambda file: write_stream(file, tone(1.0), RATE, raw=parse_raw("8000:s16le")))
    assert len(made) == 2 * 8000


def test_too_loud_is_scaled() -> None:
    into: list[float] = []
    data = through(lambda file: into.append(write_stream(file, 4 * tone(0.5), RATE)))
    assert into[0] == pytest.approx(0.5, rel=1e-3)
    assert read_stream(Pipe(data)).abs().max() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("raw", [None, RawFormat(RATE)])
def test_nothing_comes_in(raw: RawFormat | None) -> None:
    with pytest.raises(KnnvcError, match="standard input is empty"):
        read_stream(Pipe(), raw=raw)


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(KnnvcError, match=r"^standard input is damaged or not audio"):
        read_stream(Pipe(b"a letter to my aunt " * 100))
    with pytest.raises(KnnvcError, match="not finite"):
        read_stream(Pipe(np.array([0.0, np.nan], "<f4").tobytes()), raw=parse_raw("16000:f32le"))
    with pytest.raises(KnnvcError, match=r"cannot write standard output: .* not finite"):
        write_stream(io.BytesIO(), torch.tensor([math.nan]), RATE)


def test_a_reader_that_goes_is_told() -> None:
    out, into = os.pipe()
    os.close(out)
    file: BinaryIO
    with os.fdopen(into, "wb") as file, pytest.raises(KnnvcError, match="has ended"):
        write_stream(file, tone(10.0), RATE)
