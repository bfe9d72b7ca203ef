"""What can be no speech is told from speech, and short sounds are measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import knnvc
from knnvc.audio import load_audio
from knnvc.audio.suspicion import listen

RATE = 16_000
VOICES = Path(knnvc.__file__).parent / "voices"
TIME = torch.arange(3 * RATE) / RATE
ON = ((TIME * 2) % 1 < 0.5).float()


def noise(slope: float = 0.0) -> Tensor:
    """Noise whose amplitude falls with the frequency to the power of `slope`."""
    white = torch.randn(3 * RATE, generator=torch.Generator().manual_seed(1))
    hertz = torch.fft.rfftfreq(len(white), 1 / RATE).clamp(min=20)
    return torch.fft.irfft(torch.fft.rfft(white) * hertz**-slope, len(white))


def sine(hertz: float) -> Tensor:
    return torch.sin(2 * torch.pi * hertz * TIME)


STEADY = {
    "white noise": noise(),
    "pink noise": noise(0.5),
    "brown noise": noise(1.0),
    "noise in bursts": noise() * (ON + 1e-4),
    "noise that swells": noise() * (1 + 0.9 * sine(3)),
    "a tone": sine(440),
    "a low tone": sine(80),
    "a tone in noise": sine(440) + 0.1 * noise(),
    "hum": sum((sine(50.0 * k) / k for k in range(2, 20)), sine(50)),
    "a square wave": sine(150).sign(),
    "a sawtooth": (TIME * 200) % 1 - 0.5,
    "a chord": sine(262) + sine(330) + sine(392),
    "an offset": torch.full((3 * RATE,), 0.3),
}
TONES = {
    "beeps": sine(1000) * ON,
    "a sweep": torch.sin(2 * torch.pi * (50 * TIME + 1200 * TIME**2)),
    "vibrato": torch.sin(2 * torch.pi * 300 * TIME + 20 * sine(5)),
}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("seconds", [3.0, 1.0])
def test_noise_and_hum_hardly_change(name: str, seconds: float) -> None:
    assert listen(STEADY[name][: int(seconds * RATE)], RATE).fault == (
        "hardly changes, as a noise, a hum or a tone does"
    )


@pytest.mark.parametrize("name", TONES)
def test_tones_are_heard_as_tones(name: str) -> None:
    assert listen(TONES[name], RATE).fault == "is one pure tone at a time"


def test_dialling_tones_are_always_equally_loud() -> None:
    keys = (sine(697) + sine(1209)) * ON + (sine(770) + sine(1336)) * (1 - ON)
    assert listen(keys, RATE).fault == "is always equally loud, as signals are"


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_the_rate_is_minded(rate: int) -> None:
    time = torch.arange(2 * rate) / rate
    assert listen(torch.sin(2 * torch.pi * 440 * time), rate).fault
    assert listen(load_audio(VOICES / "emma.opus", rate)[: 4 * rate], rate).fault is None


@pytest.mark.parametrize("voice", ["emma", "george", "heart", "michael"])
def test_speech_is_not_suspected(voice: str) -> None:
    """In pieces of 2 s, also in noise, clipped and through a telephone."""
    waveform = load_audio(VOICES / f"{voice}.opus")
    hiss = noise()
    for at in range(0, len(waveform) - 3 * RATE, 5 * RATE):
        piece = waveform[at : at + 2 * RATE]
        spectrum = torch.fft.rfft(piece)
        hertz = torch.fft.rfftfreq(len(piece), 1 / RATE)
        telephone = torch.fft.irfft(spectrum * ((hertz > 300) & (hertz < 3400)), len(piece))
        noisy = piece + 0.3 * piece.std() * hiss[: len(piece)]
        clipped = torch.tanh(3 * piece / piece.std())
        for heard in (listen(one, RATE) for one in (piece, noisy, clipped, telephone)):
            assert heard.fault is None


def test_pauses_are_no_sound() -> None:
    sound = torch.zeros(10 * RATE)
    assert listen(sound, RATE).seconds == 0
    sound[5 * RATE : 5 * RATE + RATE // 10] = noise()[: RATE // 10]
    assert listen(sound, RATE).seconds == pytest.approx(0.1, abs=0.04)
    assert listen(sound[:0], RATE).seconds == 0
    assert listen(load_audio(VOICES / "emma.opus")[: 10 * RATE], RATE).seconds > 5


def test_hours_are_taken_in_pieces_that_change_nothing() -> None:
    waveform = load_audio(VOICES / "emma.opus")
    whole = listen(waveform, RATE)
    twice = listen(torch.cat([waveform, waveform]), RATE)
    assert twice.seconds == pytest.approx(2 * whole.seconds, rel=0.01)
