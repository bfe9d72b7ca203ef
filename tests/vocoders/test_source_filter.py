"""The source-filter vocoder: its sources have the pitch they are asked for, its output is local."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.encoders.chunked import HOP
from knnvc.errors import KnnvcError
from knnvc.frames import Frames
from knnvc.vocoders.chunked import ChunkedVocoder
from knnvc.vocoders.source_filter import STATE_COLUMNS, SourceFilterConfig, SourceFilterVocoder

CONFIG = SourceFilterConfig(mels=8, channels=16, layers=3, kernel=5, expansion=2)


@pytest.fixture(scope="module")
def network() -> SourceFilterVocoder:
    """Random weights, large enough to make every filter depend on its surroundings."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = SourceFilterVocoder(CONFIG)
        torch.nn.init.normal_(made.write.weight, std=0.1)
    return made.eval()


def features(frames: int, seed: int = 0) -> Tensor:
    """Random spectra with a wandering pitch and voiced and unvoiced stretches [T, D]."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(frames, CONFIG.dim, generator=generator)
    time = torch.arange(frames)
    made[:, -2] = 7.2 + 0.4 * torch.sin(time / 7.0)
    made[:, -1] = (torch.sin(time / 11.0) > -0.3).float()
    return made


def steady(f0: float, voicing: float, frames: int = 50) -> Tensor:
    """Features [T, D] of one constant pitch in Hz."""
    made = torch.zeros(frames, CONFIG.dim)
    made[:, -2], made[:, -1] = math.log2(f0), voicing
    return made


def sound(
    network: SourceFilterVocoder,
    values: Tensor,
    chunk_frames: int | None = None,
) -> Tensor:
    """The waveform [T · hop] of frames [T, D]."""
    return ChunkedVocoder(network, chunk_frames)(Frames(values))


def sources(network: SourceFilterVocoder, made: Tensor) -> tuple[Tensor, Tensor]:
    prepared = network.prepare(made)
    harmonic, noise = network.sources(made[None, :, -1], prepared[None, :, -STATE_COLUMNS:])
    return harmonic[0], noise[0]


@pytest.mark.parametrize("f0", [70.0, 110.0, 233.3, 400.0])
def test_the_pulse_train_has_the_pitch_asked_for(network: SourceFilterVocoder, f0: float) -> None:
    harmonic, _ = sources(network, steady(f0, voicing=1.0))
    power = torch.fft.rfft(harmonic, 2 * len(harmonic)).abs().square()
    fine = 16  # lags per sample: two rounded periods would match better than one
    correlation = torch.fft.irfft(power, fine * 2 * len(harmonic))
    shortest = fine * SAMPLE_RATE // 500
    lag = shortest + int(correlation[shortest : fine * SAMPLE_RATE // 60].argmax())
    # Multiples of the period correlate as well, but less, as the overlap is shorter.
    assert lag / fine == pytest.approx(SAMPLE_RATE / f0, abs=0.1)
    assert harmonic.square().mean() == pytest.approx(1.0, rel=0.1)  # unit power


def test_harmonics_stop_before_they_alias(network: SourceFilterVocoder) -> None:
    harmonic, _ = sources(network, steady(150.0, voicing=1.0, frames=100))
    power = torch.fft.rfft(harmonic * torch.hann_window(len(harmonic))).abs().square()
    frequency = torch.linspace(0, SAMPLE_RATE / 2, len(power))
    between = ((frequency / 150.0) % 1.0 - 0.5).abs() < 0.3
    assert power[between].sum() < 1e-4 * power.sum()


def test_the_phase_is_continuous_where_pitch_glides(network: SourceFilterVocoder) -> None:
    glide = steady(100.0, voicing=1.0)
    glide[:, -2] += torch.linspace(0, 1, len(glide))
    prepared = network.prepare(glide).double()
    phase, low, high, _ = prepared[:, -STATE_COLUMNS:].unbind(1)
    end = phase + (low + high) / 2 * HOP / SAMPLE_RATE
    step = (end[:-1] - phase[1:] + 0.5).remainder(1.0) - 0.5
    assert step.abs().max() < 1e-4
    assert torch.equal(high[:-1], low[1:])


def test_unvoiced_means_no_pulses(network: SourceFilterVocoder) -> None:
    harmonic, noise = sources(network, steady(120.0, voicing=0.0))
    assert (harmonic == 0).all()
    assert noise.square().mean() == pytest.approx(1.0, rel=0.1)
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 0.05  # white


def test_unvoiced_frames_take_the_pitch_around_them(network: SourceFilterVocoder) -> None:
    made = steady(100.0, voicing=1.0, frames=9)
    made[6:, -2] = math.log2(400.0)
    made[3:6, -1] = 0.0
    made[3:6, -2] = 1.0  # nonsense, as trackers say where nothing is voiced
    low = network.prepare(made)[:, -3]
    assert (low[1:].diff() >= -1e-3).all()
    assert 100.0 - 1e-2 <= float(low.min()) <= float(low.max()) <= 400.0 + 1e-2


def test_no_voiced_frame_at_all(network: SourceFilterVocoder) -> None:
    made = steady(120.0, voicing=0.2, frames=6)
    made[:, -2] = math.nan  # the pitch head's answer does not matter there
    state = network.prepare(made)[:, -STATE_COLUMNS:]
    assert torch.isfinite(state).all()
    assert ((state[:, 1] >= 20) & (state[:, 1] <= 2000)).all()
    wave = network(network.prepare(steady(120.0, voicing=0.2, frames=6))[None])
    assert torch.isfinite(wave).all()


@pytest.mark.parametrize("log_f0", [-50.0, 50.0])
def test_absurd_pitch_is_bounded(network: SourceFilterVocoder, log_f0: float) -> None:
    made = features(10)
    made[:, -2], made[:, -1] = log_f0, 1.0
    assert torch.isfinite(sound(network, made)).all()


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_shape(network: SourceFilterVocoder, frames: int) -> None:
    assert network.prepare(features(frames)).shape == (frames, CONFIG.dim + STATE_COLUMNS)
    assert sound(network, features(frames)).shape == (frames * HOP,)


def test_it_is_deterministic(network: SourceFilterVocoder) -> None:
    made = features(60)
    assert torch.equal(sound(network, made), sound(network, made))
    with torch.random.fork_rng():
        torch.manual_seed(99)  # the noise is drawn once and for all, not at construction
        other = SourceFilterVocoder(CONFIG)
    other.load_state_dict(network.state_dict())
    assert torch.equal(sound(other, made), sound(network, made))


@pytest.mark.parametrize("chunk", [7, 50, 100, 199])
def test_chunked_equals_whole(network: SourceFilterVocoder, chunk: int) -> None:
    made = features(200)
    whole = sound(network, made, chunk_frames=1000)
    chunked = sound(network, made, chunk_frames=chunk)
    assert whole.abs().max() > 0.1
    assert (whole - chunked).abs().max() < 1e-4 * whole.abs().max()


def test_the_context_is_sufficient_and_not_idle(network: SourceFilterVocoder) -> None:
    """Inputs beyond `context_frames` do not reach a frame's sound; nearer ones do."""
    context, at = network.context_frames, 60
    prepared = network.prepare(features(121))
    with torch.inference_mode():
        base = network(prepared[None])[0, 0, at * HOP : (at + 1) * HOP]
        changes = {}
        for distance in (*range(1, context + 1), context + 1):
            for side in (-1, 1):
                other = prepared.clone()
                outside = slice(None, at - distance + 1) if side < 0 else slice(at + distance, None)
                other[outside] = network.prepare(features(121, seed=5) * 1.5)[outside]
                wave = network(other[None])[0, 0, at * HOP : (at + 1) * HOP]
                changes[side * distance] = float((wave - base).abs().max())
    scale = float(base.abs().max())
    assert changes[context + 1] < 1e-5 * scale
    assert changes[-context - 1] < 1e-5 * scale
    reach = max(d for d, change in changes.items() if change > 1e-5 * scale)
    assert reach >= context // 2  # else chunks would be paying for frames they do not need
    assert changes[1] > 1e-3 * scale
    assert changes[-1] > 1e-3 * scale


def test_configuration() -> None:
    assert SourceFilterConfig.from_dict({"mels": 8}).dim == 18
    with pytest.raises(KnnvcError, match="unknown source-filter vocoder settings: melz"):
        SourceFilterConfig.from_dict({"melz": 8})
