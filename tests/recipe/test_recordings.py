"""Real speech for training: how the archives are read, and how a teacher names the phones."""

from __future__ import annotations

import io
import json
import shutil
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import PhoneEncoder, PhoneEncoderConfig
from knnvc.tensors import read_tensors
from knnvc.text.phones import IGNORED, PHONES, STATES
from recipe import recordings, rnc, teacher
from recipe.cli import cli
from recipe.data import load_recordings
from recipe.encoder import draw_batch, train_encoder
from recipe.options import EncoderOptions, RecordingsOptions
from recipe.package import package_mini

RATE = 16_000
ENCODER = PhoneEncoderConfig(
    hidden=32, layers=2, heads=2, feed_forward=64, pitch_layer=1, states=STATES
)


class Packer:
    """Writes what `rnc.unpack` reads: every symbol of its three tables in four bits."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.word, self.free = 0, 0

    def bits(self, value: int, count: int) -> None:
        for number in range(count):
            if not self.free:
                self.word, self.free = len(self.out), 16
                self.out += b"\0\0"
            bit = 16 - self.free
            self.out[self.word + bit // 8] |= (value >> number & 1) << bit % 8
            self.free -= 1

    def number(self, value: int) -> None:
        size = value if value < 2 else value.bit_length()
        self.bits(int(f"{size:04b}"[::-1], 2), 4)
        if size >= 2:
            self.bits(value & ((1 << (size - 1)) - 1), size - 1)

    def pack(self, size: int, blocks: list[list[tuple[bytes, int, int]]]) -> bytes:
        """Each step is literals, then how far back and how many bytes to repeat."""
        self.bits(0, 2)
        for block in blocks:
            for _ in range(3):
                self.bits(16, 5)
                for _ in range(16):
                    self.bits(4, 4)
            self.bits(len(block), 16)
            for number, (literals, back, count) in enumerate(block):
                self.number(len(literals))
                self.out += literals
                if number + 1 < len(block):
                    self.number(back - 1)
                    self.number(count - rnc.SHORTEST)
        return rnc.MAGIC + struct.pack(">I", size) + bytes(10) + bytes(self.out)


def packed(data: bytes) -> bytes:
    """`data` in literals of 300 bytes, a block for every 900."""
    parts = [data[at : at + 300] for at in range(0, len(data), 300)]
    # A repeat ends every step but a block's last: two bytes that were just there.
    steps = []
    for at in range(0, len(parts), 3):
        group = parts[at : at + 3]
        steps.append([(part, 2, 2) for part in group])
    return Packer().pack(len(unrolled(data)), steps)


def unrolled(data: bytes) -> bytes:
    """What `packed` stands for: the last two bytes twice, except at the end of a block."""
    out = b""
    parts = [data[at : at + 300] for at in range(0, len(data), 300)]
    for at in range(0, len(parts), 3):
        group = parts[at : at + 3]
        for part in group[:-1]:
            out += part + part[-2:]
        out += group[-1]
    return out


def test_packed_data_is_unpacked() -> None:
    data = np.random.default_rng(0).integers(0, 256, 2000, np.uint8).tobytes()
    assert rnc.unpack(packed(data)) == unrolled(data)
    # A repeat may reach into itself.
    run = Packer().pack(11, [[(b"ab", 1, 7), (b"cd", 0, 0)]])
    assert rnc.unpack(run) == b"abbbbbbbbcd"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"RNC\x02" + bytes(20), "no RNC data"),
        (packed(bytes(900))[:-400], "ends too early"),
        (Packer().pack(9, [[(b"ab", 5, 3), (b"", 0, 0)]]), "repeats what is not there"),
    ],
)
def test_damaged_data_is_an_error(data: bytes, words: str) -> None:
    with pytest.raises(KnnvcError, match=words):
        rnc.unpack(data)


def voice(f0: float, seconds: float, rate: int) -> np.ndarray:
    at = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * n * f0 * at) / n for n in range(1, 12))
    return (0.3 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * at))).astype(np.float32)


def games(folder: Path) -> dict[str, Path]:
    """The three packages in small."""
    queen = folder / "q/usr/share/scummvm/flight-of-the-amazon-queen"
    queen.mkdir(parents=True)
    files = []
    for number, wave in enumerate((voice(120, 2.5, 11025), voice(200, 3, 11025))):
        mp3 = io.BytesIO()
        sf.write(mp3, wave, 11025, format="MP3")
        files.append((f"02000{number}J1.SB", mp3.getvalue()))
    files.append(("BUD.DOG", b"no speech"))
    table, blob = b"", b""
    start = 15 + 21 * len(files)
    for name, data in files:
        table += name.encode().ljust(12, b"\0") + b"\1"
        table += struct.pack(">II", start + len(blob), len(data))
        blob += data
    header = b"QTBLCEM10\0\0\0\1" + struct.pack(">H", len(files))
    (queen / "queen.1c").write_bytes(header + table + blob)

    sky = folder / "s/usr/share/scummvm/beneath-a-steel-sky"
    sky.mkdir(parents=True)
    samples = np.round(voice(150, 2, 11025) * 100 + 128).astype(np.uint8).tobytes()
    item = bytes(22) + packed(samples)
    data = bytes(32) + item + bytes(-len(item) % 16) + item
    second = 32 + len(item) + -len(item) % 16

    def entry(number: int, start: int, size: int) -> bytes:
        at = start >> 4 | 1 << 23 if start >= 64 else start
        return struct.pack("<H", number) + at.to_bytes(3, "little") + size.to_bytes(3, "little")

    table = entry(60_001, 32, len(item)) + entry(54_490, second, len(item))
    table += entry(300, 32, len(item))  # no speech
    (sky / "sky.dnr").write_bytes(struct.pack("<I", 3) + table)
    (sky / "sky.dsk").write_bytes(data)

    msu = folder / "m/usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav"
    msu.mkdir(parents=True)
    sf.write(msu / "ru_0001.wav", voice(110, 3, RATE), RATE)
    sf.write(msu / "ru_0002.wav", np.zeros(RATE), RATE)  # silence is left out
    return {"queen": folder / "q", "sky": folder / "s", "msu": folder / "m"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two aligned utterances and the recordings of `games`."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for number in range(2):
        name = f"spoken_{number}.flac"
        sf.write(folder / name, voice(130 + 40 * number, 3, RATE), RATE)
        record = {"file": name, "speaker": "one", "text": "ao", "phones": ["a", "o"]}
        lines.append(json.dumps(record | {"durations": [10, 50, 50, 10], "seconds": 3.0}))
    (folder / "alignments-0.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    recordings.collect(games(tmp_path_factory.mktemp("games")), folder)
    return folder


def listen(wave: np.ndarray) -> np.ndarray:
    """Stands for Whisper: thirty seconds of samples to 1500 frames."""
    frames = np.abs(np.fft.rfft(wave.reshape(1500, 320), axis=1))[:, :64]
    return np.log(1e-3 + frames).astype(np.float32)


def test_archives_become_recordings(corpus: Path) -> None:
    found = recordings.read_recordings(corpus)
    names = ["msu/ru_0001", "queen/020000J1", "queen/020001J1", "sky/54490", "sky/60001"]
    assert [record["file"] for record in found] == [f"recordings/{n}.flac" for n in names]
    # Too little of the actors is there to know them again.
    assert [record["speaker"] for record in found] == ["msu", "", "", "", ""]
    for record, seconds in zip(found, (3, 2.5, 3, 2, 2), strict=True):
        wave, rate = sf.read(corpus / record["file"])
        assert rate == RATE
        assert abs(len(wave) / rate - seconds) < 0.15
        assert abs(np.sqrt(np.mean(wave[np.abs(wave) > 0.02] ** 2)) - recordings.LEVEL) < 0.02
    wave, _ = sf.read(corpus / "recordings/sky/60001.flac")
    pitch = np.argmax(np.abs(np.fft.rfft(wave))) * RATE / len(wave)
    assert abs(pitch - 150) < 3


def test_voices_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "LEAST_SPOKEN", 5.0)
    high, low = voice(320, 3, RATE), voice(90, 3, RATE)
    names = recordings.tell_apart([high, low, high, low, high[:RATE]], "game")
    assert names[0] == names[2] != names[1] == names[3]
    assert all(name.startswith("game") for name in names[:4])
    assert names[4] == ""  # too short to know


def test_frames_are_where_the_wave_is() -> None:
    rng = np.random.default_rng(0)
    waves = [voice(rng.uniform(90, 300), rng.uniform(1, 9), RATE) for _ in range(9)]
    together = teacher.frames_of(waves, listen)
    assert [len(frames) for frames in together] == [len(wave) // 320 for wave in waves]
    for wave, frames in zip(waves, together, strict=True):
        (alone,) = teacher.frames_of([wave], listen)
        np.testing.assert_array_equal(frames, alone)


def test_a_head_learns_and_names_phones(corpus: Path) -> None:
    options = RecordingsOptions(steps=60, batch=4, report_every=60)
    head = teacher.train_head(corpus, listen, options)
    first = 1 + 3 * PHONES.index("a")
    frames = teacher.frames_of([sf.read(corpus / "spoken_0.flac", dtype="float32")[0]], listen)[0]
    states = np.full(len(frames), IGNORED, np.int16)
    states[20:60] = first
    assert teacher.accuracy(head, [(frames, states)]) > 0.9  # the untrained head: 1 of 44
    teacher.name_phones(corpus, head, listen)
    for record in recordings.read_recordings(corpus):
        with np.load(corpus / record["posteriors"]) as saved:
            told = saved["posteriors"]
            assert told.shape[1] == STATES
            np.testing.assert_allclose(told.astype(float).sum(1), 1, atol=0.02)
            phones = np.column_stack([told[:, 0], told[:, 1:].reshape(len(told), -1, 3).sum(2)])
            assert abs(float(saved["confidence"]) - phones.max(1).mean()) < 0.01


def test_recordings_are_learnt_from(corpus: Path, tmp_path: Path) -> None:
    """Where the teacher was sure, its posteriors are what the encoder is to say."""
    network = PhoneEncoder(ENCODER)
    rows = np.full((150, STATES), 0.1 / STATES, np.float16)
    for record in recordings.read_recordings(corpus):
        sure = record["file"].endswith("ru_0001.flac")
        rows[:, 4] = 0.9
        np.savez(corpus / record["posteriors"], posteriors=rows, confidence=0.9 if sure else 0.5)
    loaded = load_recordings(corpus, network)
    assert [u.file for u in loaded] == ["recordings/msu/ru_0001.flac"]
    assert (loaded[0].states == IGNORED).all()
    assert len(loaded[0].mel) == 2 * len(loaded[0].f0) == 300

    rng = np.random.default_rng(0)
    mel, states, f0 = draw_batch(loaded, 3, 40, rng, loaded, 1.0)
    assert mel.shape == (3, 40, 160)
    assert states.shape == (3, 40, STATES)
    assert f0.shape == (3, 40)
    torch.testing.assert_close(states[..., 4], torch.full((3, 40), 0.9), atol=1e-3, rtol=0)

    options = EncoderOptions(steps=2, batch=2, frames=40, report_every=1, recorded_share=1.0)
    (made, facts), (again, _) = (
        read_tensors(train_encoder(corpus, tmp_path / name, options, ENCODER))
        for name in ("one", "two")
    )
    for name, tensor in made.items():  # though batches are made in another thread
        assert torch.equal(tensor, again[name])
    assert facts["recorded_hours"] == "0.00"  # three seconds
    without = EncoderOptions(steps=1, batch=2, frames=40, recorded_share=0.0)
    _, plain = read_tensors(train_encoder(corpus, tmp_path / "without", without, ENCODER))
    assert "recorded_hours" not in plain
    vocoder = tmp_path / "vocoder.safetensors"
    shutil.copyfile(resources.files("knnvc") / "presets/mini/vocoder.safetensors", vocoder)
    package_mini(tmp_path / "one/encoder.safetensors", vocoder, tmp_path / "mini", "mini", ENCODER)
    packed = json.loads((tmp_path / "mini/preset.json").read_text())
    assert "encoder: also Flight" in packed["licences"]["training speech"]


def test_the_command_puts_it_together(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(recordings, "fetch", lambda folder: called.append(folder) or {})
    monkeypatch.setattr(teacher, "fetch", lambda folder: called.append(folder) or folder)
    monkeypatch.setattr(teacher, "whisper", lambda _model, _threads: listen)
    for record in recordings.read_recordings(corpus):
        (corpus / record["posteriors"]).unlink(missing_ok=True)
    args = ["recordings", "--corpus", str(corpus), "--parts", str(tmp_path)]
    done = CliRunner().invoke(cli, [*args, "--steps", "2", "--batch", "2", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert called == [tmp_path / "debian", tmp_path]
    assert done.output.endswith(f"{corpus}\n")
    assert all((corpus / r["posteriors"]).exists() for r in recordings.read_recordings(corpus))
