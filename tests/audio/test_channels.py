"""Channels are averaged, and where they would cancel, what they hold is heard all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, load_audio, to_waveform
from knnvc.audio.channels import Mixer

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"


@pytest.fixture(scope="module")
def speech() -> Tensor:
    return load_audio(EXAMPLES / "source.wav")


def noise(size: int, level: float, seed: int) -> Tensor:
    """Noise `level` dB above full scale's."""
    samples = np.random.default_rng(seed).standard_normal(size) * 10 ** (level / 20)
    return torch.from_numpy(samples).float()


def heard_of(speech: Tensor, mixed: Tensor) -> float:
    """Decibels of `speech` over everything else in `mixed`, whichever way round it is."""
    speech, mixed = speech[: len(mixed)], mixed[: len(speech)]
    gain = (speech @ mixed) / (speech @ speech)
    return float(
        10 * torch.log10((gain * speech).square().sum() / (mixed - gain * speech).square().sum())
    )


@pytest.mark.parametrize("level", [-200, -60, -40, -35])
@pytest.mark.parametrize("balance", [1.0, 0.7, 1.4])
def test_channels_of_opposite_sign(speech: Tensor, level: float, balance: float) -> None:
    size = len(speech)
    left = speech + noise(size, level, 1)
    right = -balance * speech + noise(size, level, 2)
    one = heard_of(speech, left)
    mixed = to_waveform(torch.stack([left, right]))
    assert heard_of(speech, mixed) > min(one, 40) - 1
    assert mixed.square().mean() > 0.5 * speech.square().mean()


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_channels_of_opposite_sign_and_a_little_late(speech: Tensor, samples: int) -> None:
    """Two microphones some centimetres apart, one of them wired the wrong way round."""
    late = torch.cat([torch.zeros(samples), speech[:-samples]])
    mixed = to_waveform(torch.stack([speech, -late]))
    assert mixed.square().mean() > 0.5 * speech.square().mean()


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("mp3", None), ("ogg", "VORBIS"), ("wav", "PCM_16")]
)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_channels_of_opposite_sign_in_files(
    tmp_path: Path, speech: Tensor, suffix: str, subtype: str | None, rate: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    waveform = to_waveform(speech)
    if rate != SAMPLE_RATE:
        from knnvc.audio import resample

        waveform = resample(speech, SAMPLE_RATE, rate)
    sf.write(path, torch.stack([waveform, -waveform], 1).numpy(), rate, subtype=subtype)
    mixed = load_audio(path)
    assert heard_of(speech, mixed) > 8
    assert mixed.square().mean() > 0.5 * speech.square().mean()


@pytest.mark.parametrize("hertz", [60.0, 100.0, 220.0, 440.0, 3000.0])
@pytest.mark.parametrize("level", [-200, -60])
def test_a_tone_of_opposite_sign(hertz: float, level: float) -> None:
    wave = 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    if hertz < 150 and level > -100:
        pytest.skip("hum may cancel")
    size = len(wave)
    mixed = to_waveform(torch.stack([wave + noise(size, level, 1), noise(size, level, 2) - wave]))
    assert heard_of(wave, mixed) > 40


def test_only_a_part_cancels(speech: Tensor) -> None:
    half = len(speech) // 2
    right = torch.cat([speech[:half], -speech[half:]])
    mixed = to_waveform(torch.stack([speech, right]))
    for part in (slice(0, half - 8000), slice(half + 8000, None)):
        assert heard_of(speech[part], mixed[part]) > 40
    assert torch.equal(mixed[: half - 8000], speech[: half - 8000])


def test_an_offset_or_hum_is_no_speech(speech: Tensor) -> None:
    hum = 0.3 * torch.sin(2 * torch.pi * 50 * torch.arange(len(speech)) / SAMPLE_RATE)
    for other in (torch.full_like(speech, 0.3), hum):
        mixed = to_waveform(torch.stack([speech + other, speech - other]))
        torch.testing.assert_close(mixed, speech, atol=1e-6, rtol=0)


def test_four_channels_of_which_two_are_reversed(speech: Tensor) -> None:
    mixed = to_waveform(torch.stack([speech, -speech, speech, -speech]))
    assert heard_of(speech, mixed) > 60


def two_rooms(speech: Tensor) -> Tensor:
    """Two microphones in a room: the same speech later and weaker, and echoes of their own."""
    right = 0.6 * torch.cat([torch.zeros(9), speech[:-9]])
    echo = 0.3 * torch.cat([torch.zeros(700), speech[:-700]])
    return torch.stack([speech + noise(len(speech), -50, 1), right + echo])


def test_ordinary_stereo_is_averaged_to_the_bit(speech: Tensor) -> None:
    silent = torch.zeros_like(speech)
    other = speech.flip(0)
    for channels in (
        torch.stack([speech, speech]),
        torch.stack([speech, silent]),
        torch.stack([speech, other]),
        two_rooms(speech),
        torch.stack([noise(len(speech), -30, 3), noise(len(speech), -30, 4)]),
        torch.stack([silent, silent]),
    ):
        mean = torch.from_numpy(channels.numpy().mean(axis=0, dtype=np.float64)).float()
        assert torch.equal(to_waveform(channels), mean)


@pytest.mark.parametrize("size", [1, 777, 8000, 12_345])
def test_blocks_change_nothing(speech: Tensor, size: int) -> None:
    if size == 1:
        speech = speech[:20_000]
    frames = torch.stack([speech, -0.9 * speech + noise(len(speech), -50, 5)], 1).numpy()
    whole = to_waveform(torch.from_numpy(frames))
    mixer = Mixer(2, SAMPLE_RATE)
    parts = [mixer.add(frames[at : at + size]) for at in range(0, len(frames), size)]
    joined = np.concatenate([*parts, mixer.finish()])
    assert np.array_equal(joined, whole.numpy())
