"""All of a file is read: whatever its header says of the length, and however many were joined."""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, load_audio
from knnvc.errors import KnnvcError, KnnvcWarning

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """24 s of speech, and 3 s of near silence before it, on which estimates of length go wrong."""
    parts = [load_audio(path) for path in sorted((EXAMPLES / "target").glob("*.flac"))[:4]]
    hush = 1e-4 * torch.randn(3 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    return torch.cat([hush, *parts])


def encoded(
    waveform: Tensor, kind: str, codec: str, rate: int = 16_000, film: bool = False, **options: str
) -> bytes:
    """`waveform` at 16 kHz in a container, with a moving picture on request."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=options) as container:
        sound = container.add_stream(codec, rate=rate)
        sound.codec_context.layout = "mono"
        if codec == "wmav2":
            sound.bit_rate = 64_000
        if film:
            picture = container.add_stream("mpeg4", rate=5)
            picture.width = picture.height = 64
            for _ in range(round(5 * len(waveform) / SAMPLE_RATE)):
                container.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(waveform[None].numpy(), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        converter = av.AudioResampler(
            sound.codec_context.format.name if sound.codec_context.format else "s16",
            "mono",
            rate,
            sound.codec_context.frame_size or 1024,
        )
        for one in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(sound.encode(one))
        container.mux(sound.encode(None))
    return file.getvalue()


def written(waveform: Tensor, kind: str, rate: int = SAMPLE_RATE, **options: Any) -> bytes:
    """`waveform` as libsndfile writes it."""
    file = io.BytesIO()
    sf.write(file, waveform.numpy(), rate, format=kind, **options)
    return file.getvalue()


def without_header(mp3: bytes) -> bytes:
    """An MP3 without the first frame, in which its encoder says how many follow."""
    with av.open(io.BytesIO(mp3)) as container:
        first = next(container.demux(container.streams.audio[0])).pos
    assert first
    assert b"Xing" in mp3[:first] or b"Info" in mp3[:first]
    return mp3[first:]


def id3(size: int) -> bytes:
    """A tag with so many bytes of a picture in it, which look like MP3 frames."""
    picture = (b"\xff\xfb\x90\x00" + bytes(28)) * (size // 32)
    length = bytes(len(picture) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + length + picture


def read(path: Path, data: bytes) -> Tensor:
    path.write_bytes(data)
    return load_audio(path)


def likeness(one: Tensor, other: Tensor) -> float:
    """Correlation of two waveforms at their best lag within 0.1 s."""
    size = min(len(one), len(other))
    first, second = (torch.fft.rfft(x[:size], 2 * size) for x in (one, other))
    lags = torch.fft.irfft(first * second.conj())
    best = torch.cat([lags[:1600], lags[-1600:]]).max()
    return float(best / (one[:size].norm() * other[:size].norm()))


def seconds(waveform: Tensor) -> float:
    return len(waveform) / SAMPLE_RATE


def test_mp3_of_varying_bit_rate_without_a_header(tmp_path: Path, speech: Tensor) -> None:
    whole = written(speech, "MP3", compression_level=0.4, bitrate_mode="VARIABLE")
    heard = read(tmp_path / "a.mp3", without_header(whole))
    assert seconds(heard) == pytest.approx(seconds(speech), abs=0.15)
    assert likeness(heard, speech) > 0.99


@pytest.mark.parametrize("tag", [b"", id3(64), id3(200_000), b"TAG" + bytes(125)])
@pytest.mark.parametrize("header", [True, False])
def test_joined_mp3(tmp_path: Path, speech: Tensor, tag: bytes, header: bool) -> None:
    one, two = speech[:100_000], speech[100_000:]
    parts = [written(part, "MP3") for part in (one, two)]
    if not header:
        parts = [without_header(part) for part in parts]
    heard = read(tmp_path / "a.mp3", tag * (tag[:1] == b"I") + parts[0] + tag + parts[1])
    if header:  # which tells what the encoder added
        assert len(heard) == len(speech)
    assert seconds(heard) == pytest.approx(seconds(speech), abs=0.2)
    assert likeness(heard[: len(one)], one) > 0.97
    assert likeness(heard[-len(two) :], two) > 0.97


def test_a_damaged_stretch_of_mp3_is_told(tmp_path: Path, speech: Tensor) -> None:
    data = bytearray(written(speech, "MP3"))
    at = len(data) // 2
    data[at : at + 40_000] = np.random.default_rng(0).bytes(40_000)
    with pytest.warns(KnnvcWarning, match=r"a\.mp3 .*the rest was read"):
        heard = read(tmp_path / "a.mp3", bytes(data))
    assert likeness(heard[:80_000], speech[:80_000]) > 0.99


@pytest.mark.parametrize("kind", ["mp3", "aac"])
@pytest.mark.parametrize("junk", [b"\x00", b"<p>error</p>"])
def test_what_lies_between_frames_is_told(
    tmp_path: Path, speech: Tensor, kind: str, junk: bytes
) -> None:
    """The decoder passes over it: there may have been frames in its place."""
    part = speech[48_000:160_000]
    mp3 = kind == "mp3"
    whole = without_header(written(part, "MP3")) if mp3 else encoded(part, "adts", "aac")
    assert seconds(read(tmp_path / f"whole.{kind}", whole)) == pytest.approx(7, abs=0.2)
    start, stop = 2 * len(whole) // 5, 3 * len(whole) // 5
    hole = (junk * len(whole))[: stop - start]
    with pytest.warns(KnnvcWarning, match="between the frames .*the rest was read"):
        heard = read(tmp_path / f"a.{kind}", whole[:start] + hole + whole[stop:])
    assert seconds(heard) == pytest.approx(7 * 4 / 5, abs=0.3)


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("rates", [(16_000, 16_000), (48_000, 24_000)])
def test_chained_ogg(tmp_path: Path, speech: Tensor, kind: str, rates: tuple[int, int]) -> None:
    parts = [
        written(speech[:32_000], "OGG", rate, subtype=kind)  # as if it were recorded at that rate
        for rate in rates
    ]
    heard = read(tmp_path / "a.ogg", b"".join(parts))
    assert len(heard) == sum(round(32_000 * SAMPLE_RATE / rate) for rate in rates)


def pages(ogg: bytes) -> list[int]:
    """Where pages begin, and the end."""
    starts, at = [], 0
    while (at := ogg.find(b"OggS", at)) >= 0:
        starts.append(at)
        at += 4
    return [*starts, len(ogg)]


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("damage", ["cut off", "page lost", "first lost", "bit flipped"])
def test_ogg_with_a_part_missing_is_told(
    tmp_path: Path, speech: Tensor, kind: str, damage: str
) -> None:
    """Decoders fill such holes with silence, or close them, and say nothing."""
    part = speech[48_000:160_000]
    whole = written(part, "OGG", subtype=kind)
    heard = read(tmp_path / "whole.ogg", whole)  # without a warning
    assert len(heard) == len(part)
    starts = pages(whole)
    middle = len(starts) // 2
    data = bytearray(whole)
    if damage == "cut off":
        del data[starts[middle] + 300 :]
    elif damage == "page lost":
        del data[starts[middle] : starts[middle + 1]]
    elif damage == "first lost":
        first = next(n for n, at in enumerate(starts) if any(data[at + 6 : at + 14]))
        del data[starts[first] : starts[first + 1]]
    else:
        data[starts[middle] + 300] ^= 4
    with pytest.warns(KnnvcWarning, match=r"a\.ogg .*the rest was read"):
        heard = read(tmp_path / "a.ogg", bytes(data))
    assert len(heard) > 16_000


def test_joined_flac_is_read_to_the_bit(tmp_path: Path, speech: Tensor) -> None:
    parts = [written(part, "FLAC") for part in (speech[:50_001], speech[50_001:])]
    heard = read(tmp_path / "a.flac", b"".join(parts))
    torch.testing.assert_close(heard, (speech * 32768).round() / 32768, atol=1e-6, rtol=0)


@pytest.mark.parametrize("claimed", [0, 1000, 10**9])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_with_a_wrong_length(
    tmp_path: Path, speech: Tensor, claimed: int, subtype: str
) -> None:
    data = bytearray(written(speech, "FLAC", subtype=subtype))
    expected = read(tmp_path / "a.flac", bytes(data))
    data[21:26] = bytes([data[21] & 0xF0]) + claimed.to_bytes(4, "big")
    with warnings.catch_warnings():
        if claimed > len(speech):
            warnings.simplefilter("ignore", KnnvcWarning)
        assert torch.equal(read(tmp_path / "a.flac", bytes(data)), expected)


def test_cut_off_flac(tmp_path: Path, speech: Tensor) -> None:
    data = written(speech, "FLAC")
    with pytest.warns(KnnvcWarning, match="cut off"):
        heard = read(tmp_path / "a.flac", data[: len(data) // 2])
    assert 0.3 * len(speech) < len(heard) < 0.8 * len(speech)
    torch.testing.assert_close(heard, speech[: len(heard)], atol=1e-4, rtol=0)


CODED = [
    ("mp4", "aac", 0.1),
    ("ipod", "aac", 0.1),
    ("ipod", "alac", 0),
    ("adts", "aac", 0.15),
    ("mov", "pcm_s16le", 0),
    ("webm", "libopus", 0.03),
    ("matroska", "pcm_s16le", 0),
    ("3gp", "aac", 0.1),
    ("asf", "wmav2", 0.1),
    ("mpegts", "mp2", 0.1),
    ("avi", "libmp3lame", 0.15),
    ("amr", "libopencore_amrnb", 0.1),
    ("wv", "wavpack", 0),
]


@pytest.mark.parametrize(("kind", "codec", "tolerance"), CODED)
def test_what_phones_and_films_hold(
    tmp_path: Path, speech: Tensor, kind: str, codec: str, tolerance: float
) -> None:
    narrow = codec == "libopencore_amrnb"
    rate = {"libopencore_amrnb": 8_000, "libopus": 48_000}.get(codec, 16_000)
    try:
        data = encoded(speech, kind, codec, rate)
    except av.error.EncoderNotFoundError:
        pytest.skip(f"this PyAV encodes no {codec}")
    heard = read(tmp_path / "recording", data)  # the name tells nothing
    assert seconds(heard) == pytest.approx(seconds(speech), abs=tolerance or 1e-9)
    assert likeness(heard, speech) > (0.7 if narrow else 0.95)


def test_the_sound_of_a_film(tmp_path: Path, speech: Tensor) -> None:
    heard = read(tmp_path / "a.mp4", encoded(speech, "mp4", "aac", film=True))
    assert seconds(heard) == pytest.approx(seconds(speech), abs=0.1)
    assert likeness(heard, speech) > 0.95


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=5)
        picture.width = picture.height = 64
        container.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(picture.encode(None))
    with pytest.raises(KnnvcError, match="a film without sound"):
        load_audio(path)


@pytest.mark.parametrize(
    ("kind", "codec"), [("ipod", "aac"), ("asf", "wmav2"), ("webm", "libopus")]
)
def test_joined_containers(tmp_path: Path, speech: Tensor, kind: str, codec: str) -> None:
    rate = 48_000 if codec == "libopus" else 16_000
    parts = [encoded(part, kind, codec, rate) for part in (speech[:100_000], speech[100_000:])]
    heard = read(tmp_path / "a", b"".join(parts))
    assert seconds(heard) == pytest.approx(seconds(speech), abs=0.3)


def test_a_playlist_opens_no_other_file(tmp_path: Path, speech: Tensor) -> None:
    secret = tmp_path / "secret.aac"
    secret.write_bytes(encoded(speech, "adts", "aac"))
    lines = [
        "#EXTM3U",
        "#EXT-X-TARGETDURATION:9",
        "#EXTINF:9,",
        f"file://{secret}",
        "#EXT-X-ENDLIST",
    ]
    path = tmp_path / "list.mp3"
    path.write_text("\n".join(lines))
    with pytest.raises(KnnvcError, match="not audio"):
        load_audio(path)
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    with pytest.raises(KnnvcError, match="not audio"):
        load_audio(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_pipe_with_a_name(tmp_path: Path, speech: Tensor) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = written(speech, "FLAC")
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert len(load_audio(path)) == len(speech)
    writer.join()


# Headers that were never finished


def wav(data: bytes, claimed: int, *, after: bytes = b"", riff: bytes = b"RIFF") -> bytes:
    order = ">" if riff == b"RIFX" else "<"
    head = struct.pack(order + "4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    body = b"WAVE" + head + b"data" + struct.pack(order + "I", claimed) + data + after
    size = 0 if claimed in (0, 0xFFFFFFFF) else len(body)
    return riff + struct.pack(order + "I", size) + body


@pytest.mark.parametrize("claimed", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000, 4096])
def test_a_crashed_recorder(tmp_path: Path, claimed: int) -> None:
    samples = np.random.default_rng(0).integers(-20_000, 20_000, 30_000).astype("<i2")
    heard = read(tmp_path / "a.wav", wav(samples.tobytes(), claimed))
    assert torch.equal(heard, torch.from_numpy(samples / 32768).float())


def test_a_crashed_recorder_of_other_formats(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-20_000, 20_000, 30_000).astype(">i2")
    expected = torch.from_numpy(samples / 32768).float()
    rifx = wav(samples.tobytes(), 0, riff=b"RIFX")
    rate = bytes.fromhex("400cfa00000000000000")  # 16000 as an 80-bit float
    common = struct.pack(">4sIhIh", b"COMM", 18, 1, 0, 16) + rate
    body = b"AIFF" + common + b"SSND" + bytes(4) + bytes(8) + samples.tobytes()
    aiff = b"FORM" + bytes(4) + body
    au = b".snd" + struct.pack(">5I", 24, 0, 3, 16_000, 1) + samples.tobytes()
    short = b".snd" + struct.pack(">5I", 24, 100, 3, 16_000, 1) + samples.tobytes()
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0)
    little = wav(samples.astype("<i2").tobytes(), 0xFFFFFFFF)
    rf64 = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + little[12:]
    for name, data in {"rifx": rifx, "aiff": aiff, "au": au, "short": short, "rf64": rf64}.items():
        assert torch.equal(read(tmp_path / f"a.{name}", data), expected), name


@pytest.mark.parametrize(
    "after",
    [
        b"LIST" + struct.pack("<I", 2000) + bytes(range(200)) * 10,
        b"id3 " + struct.pack("<I", 2001) + b"\xaa" * 2001,
        b"TAG" + b"\xaa" * 125,
        bytes(5000),
        b"junk",
    ],
)
def test_what_follows_samples_is_not_heard(tmp_path: Path, after: bytes) -> None:
    samples = np.random.default_rng(0).integers(-20_000, 20_000, 3000).astype("<i2")
    heard = read(tmp_path / "a.wav", wav(samples.tobytes(), 6000, after=after))
    assert torch.equal(heard, torch.from_numpy(samples / 32768).float())


def test_a_wav_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    for data in (wav(b"", 0), wav(b"", 0, after=b"LIST" + struct.pack("<I", 2000) + bytes(2000))):
        (tmp_path / "a.wav").write_bytes(data)
        with pytest.raises(KnnvcError, match="holds no samples"):
            load_audio(tmp_path / "a.wav")


def test_joined_wav(tmp_path: Path, speech: Tensor) -> None:
    data = written(speech[:16_000], "WAV") + written(speech[16_000:], "WAV")
    heard = read(tmp_path / "a.wav", data)
    torch.testing.assert_close(heard, speech, atol=1e-4, rtol=0)
    assert math.isclose(seconds(heard), seconds(speech))


def test_joined_aiff(tmp_path: Path, speech: Tensor) -> None:
    parts = [written(one, "AIFF", subtype="PCM_24") for one in (speech[:5001], speech[5001:20_000])]
    heard = read(tmp_path / "a.aiff", b"".join(parts))
    torch.testing.assert_close(heard, speech[:20_000], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["flac", "opus", "m4a"])
def test_another_format_joined_to_wav(tmp_path: Path, speech: Tensor, kind: str) -> None:
    """Its bytes are no samples: they would be loud noise."""
    one, two = speech[48_000:80_000], speech[80_000:128_000]
    other = {
        "flac": lambda: written(two, "FLAC"),
        "opus": lambda: written(two, "OGG", subtype="OPUS"),
        "m4a": lambda: encoded(two, "ipod", "aac"),
    }[kind]()
    heard = read(tmp_path / "a.wav", written(one, "WAV") + other)
    assert seconds(heard) == pytest.approx(5, abs=0.15)
    torch.testing.assert_close(heard[: len(one)], one, atol=1e-4, rtol=0)
    assert likeness(heard[len(one) :], two) > 0.9


KINDS = {
    "wav": lambda sound: written(sound, "WAV"),
    "aiff": lambda sound: written(sound, "AIFF"),
    "flac": lambda sound: written(sound, "FLAC"),
    "ogg": lambda sound: written(sound, "OGG", subtype="OPUS"),
    "mp3": lambda sound: written(sound, "MP3"),
    "tagged mp3": lambda sound: id3(6400) + written(sound, "MP3"),
    "aac": lambda sound: encoded(sound, "adts", "aac"),
    "m4a": lambda sound: encoded(sound, "ipod", "aac"),
    "webm": lambda sound: encoded(sound, "webm", "libopus", 48_000),
}


@pytest.mark.parametrize(
    "joined",
    [
        *("flac mp3", "flac aac", "flac wav", "flac ogg", "wav mp3", "wav tagged mp3", "wav aac"),
        *("wav aiff", "mp3 wav", "mp3 flac", "ogg wav", "ogg mp3", "m4a wav", "m4a mp3"),
        *("aiff wav", "aiff mp3", "webm wav", "aac flac", "wav zeros wav", "wav junk flac"),
        *("flac mp3 wav", "wav mp3 flac", "mp3 aac", "aac mp3", "aac tagged mp3"),
    ],
)
def test_files_of_any_format_one_behind_the_other(
    tmp_path: Path, speech: Tensor, joined: str
) -> None:
    names = joined.replace("tagged mp3", "tagged_mp3").split()
    data = b""
    parts: list[Tensor] = []
    for name in names:
        if name in ("zeros", "junk"):
            data += bytes(5000) if name == "zeros" else b"<p>error</p>" * 200
            continue
        parts.append(speech[48_000:][len(parts) * 40_000 :][:40_000])
        data += KINDS[name.replace("_", " ")](parts[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heard = read(tmp_path / "a", data)
    assert seconds(heard) == pytest.approx(2.5 * len(parts), abs=0.25)
    assert likeness(heard[:40_000], parts[0]) > 0.9
    assert likeness(heard[-40_000:], parts[-1]) > 0.8


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "aiff", "mp3", "aac", "webm"])
def test_other_bytes_behind_the_end_are_counted(tmp_path: Path, speech: Tensor, kind: str) -> None:
    junk = b"<p>error</p>" * 5000
    with pytest.warns(KnnvcWarning, match=r"\d{5} bytes behind the end of .*the rest was read"):
        heard = read(tmp_path / "a", KINDS[kind](speech[48_000:128_000]) + junk)
    assert seconds(heard) == pytest.approx(5, abs=0.15)


@pytest.mark.parametrize("kind", ["avi", "w64", "mp2", "mpegts", "mp3", "aac"])
def test_a_cut_file_is_told(tmp_path: Path, speech: Tensor, kind: str) -> None:
    part = speech[48_000:160_000]
    data = {
        "avi": lambda: encoded(part, "avi", "libmp3lame"),
        "w64": lambda: written(part, "W64"),
        "mp2": lambda: encoded(part, "mpegts", "mp2"),
        "mpegts": lambda: encoded(part, "mpegts", "aac"),
        "mp3": lambda: without_header(written(part, "MP3")),
        "aac": lambda: encoded(part, "adts", "aac"),
    }[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path / "whole", data)
    end = len(data) // 2 // 188 * 188 + 100
    with pytest.warns(KnnvcWarning, match=r"is cut off|ends in the middle of a frame"):
        heard = read(tmp_path / "a", data[:end])
    assert 2 < seconds(heard) < 4


@pytest.mark.parametrize("kind", ["wav", "aiff", "flac", "ogg", "m4a"])
@pytest.mark.parametrize("before", [bytes(4096), id3(6400), id3(640) + bytes(512)])
def test_zeros_and_tags_in_front_of_a_file(
    tmp_path: Path, speech: Tensor, kind: str, before: bytes
) -> None:
    heard = read(tmp_path / "a", before + KINDS[kind](speech[48_000:128_000]))
    assert seconds(heard) == pytest.approx(5, abs=0.15)


def test_other_bytes_in_front_of_a_file_are_named(tmp_path: Path, speech: Tensor) -> None:
    with pytest.raises(KnnvcError, match="begins with 19 bytes that are no sound"):
        read(tmp_path / "a", b"HTTP/1.1 200 OK\r\n\r\n" + KINDS["wav"](speech[:40_000]))
