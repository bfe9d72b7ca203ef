"""What speech goes through in training, all of it on mel spectra, where it costs almost nothing.

Resampling and vocal-tract length are warps of the time and mel axes, channel colour is a smooth
curve, noise and overlapping talk are added energy, reverberation is an exponential tail. Utterance
mixing follows WavLM (Chen et al. 2022, https://arxiv.org/abs/2110.13900).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.mini.vocal_tract import Floats, log_mel, magnitudes_of, warp


def stretch(
    spectra: npt.NDArray[np.float16], start: float, length: int, ratio: float, formants: float
) -> Floats:
    """Linear magnitudes [length, mels] of log-mel `spectra` [L, mels] played `ratio` times as fast.

    What is heard begins at spectrum `start`; outside the recording there is silence. What stood at
    the frequency f stands at f · `formants`.
    """
    at = start + np.arange(length) * ratio
    low = np.floor(at).astype(int)
    share = (at - low)[:, None].astype(np.float32)
    last = len(spectra) - 1
    inside = (low >= 0) & (low < last)
    low = low.clip(0, last - 1)
    logs = spectra[low].astype(np.float32) * (1 - share) + spectra[low + 1] * share
    stretched: Floats = warp(magnitudes_of(logs), formants) * inside[:, None]
    return stretched


def recast(
    spectra: Tensor, mels: int, formants: float, colour: Tensor, floor: Tensor | None = None
) -> Tensor:
    """Log-mel frames [N, substeps · mels] as of another vocal tract, microphone and room.

    Formants move by the factor `formants`, `colour` [mels] is added to the log magnitudes, and
    noise of the magnitudes `floor` [mels] to the signal. Applied to all frames of a speaker alike,
    it makes a speaker who was never recorded.
    """
    magnitudes = magnitudes_of(spectra.reshape(-1, mels).numpy())
    moved = torch.from_numpy(warp(magnitudes, formants)) * torch.exp(colour)
    if floor is not None:
        # A mel band sums several bins of noise, whose power is exponentially distributed.
        grain = torch.empty_like(moved).exponential_() * 0.5 + 0.5
        moved = (moved.square() + floor.square() * grain).sqrt()
    return log_mel(moved).reshape(spectra.shape)


def noise_floor(mels: int, rng: np.random.Generator) -> Tensor | None:
    """Magnitudes [mels] of a recording's steady noise; None for half of the recordings."""
    if rng.random() < 0.5:
        return None
    level = np.exp(rng.uniform(np.log(0.003), np.log(0.3)))  # speech peaks at about 30
    curve: Tensor = level * torch.exp(channel_curve(mels, 0.7, rng))
    return curve


def channel_curve(mels: int, spread: float, rng: np.random.Generator) -> Tensor:
    """A smooth random frequency response [mels], in natural logarithms of the magnitude."""
    knots = torch.from_numpy(rng.normal(0, spread, (1, 1, 8))).float()
    curve = functional.interpolate(knots, size=mels, mode="linear", align_corners=True)
    return curve[0, 0]


def degrade(energy: Tensor, rng: np.random.Generator) -> Tensor:
    """Level, channel colour, reverberation, overlapping talk, noise, band limit; [B, 2T, mels]."""
    batch, length, mels = energy.shape
    level = torch.from_numpy(np.exp(rng.uniform(-2.3, 0.6, (batch, 1, 1)))).float()
    knots = rng.normal(0, 0.55, (batch, 1, 8)) * (rng.random((batch, 1, 1)) < 0.8)
    curve = functional.interpolate(
        torch.from_numpy(knots).float(), size=mels, mode="linear", align_corners=True
    )
    energy = energy * level * torch.exp(curve)
    if rng.random() < 0.4:
        seconds = rng.uniform(0.1, 0.5)  # until the tail has fallen by 60 dB
        keep = 10 ** (-6 * 0.01 / seconds)
        lags = torch.arange(int(min(50, 100 * seconds)) + 1)
        tail = keep ** lags.float() * rng.uniform(0.02, 0.25)
        tail[0] = 1.0
        power = functional.conv1d(
            functional.pad(energy.square().transpose(1, 2), (len(lags) - 1, 0)).flatten(0, 1)[
                :, None
            ],
            tail.flip(0)[None, None],
        )
        energy = power[:, 0].reshape(batch, mels, length).transpose(1, 2).clamp(min=0).sqrt()
    power = energy.square()
    loudness = power.mean((1, 2), keepdim=True)
    other = power.roll(1, 0)
    talk = torch.zeros(batch, length, 1)
    for index in np.flatnonzero(rng.random(batch) < 0.2):
        span = int(rng.uniform(0.1, 0.5) * length)
        first = int(rng.integers(0, length - span))
        talk[index, first : first + span] = 10 ** (rng.uniform(-15, 0) / 10)
    power = power + other * talk * loudness / loudness.roll(1, 0).clamp(min=1e-6)
    decibels = rng.uniform(3, 40, (batch, 1, 1))
    noisy = (rng.random((batch, 1, 1)) < 0.6) * 10 ** (-decibels / 10)
    tilt = torch.linspace(1, 0, mels) * torch.from_numpy(rng.uniform(-2, 5, (batch, 1, 1))).float()
    shape = torch.exp(tilt)
    shape = shape / shape.mean(2, keepdim=True)
    # A mel band sums several bins of noise, whose power is exponentially distributed.
    grain = torch.empty_like(power).exponential_() * 0.5 + 0.5
    power = power + loudness * torch.from_numpy(noisy).float() * shape * grain
    energy = power.sqrt()
    cut = torch.from_numpy(rng.uniform(55, 78, (batch, 1, 1))).float()
    limited = torch.from_numpy(rng.random((batch, 1, 1)) < 0.15)
    slope = torch.exp(-(torch.arange(mels) - cut).clamp(min=0) * 1.5)
    return torch.where(limited, energy * slope, energy)


def roughen(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Grain, contrast, blur and missing bands of log-mel spectra [B, L, mels].

    Synthetic speech is smoother than any recording: what is trained on it alone should not rely on
    its texture. Missing bands are SpecAugment's (Park et al. 2019,
    https://arxiv.org/abs/1904.08779), filled with their mean.
    """
    batch, _, mels = mel.shape
    grainy = rng.random((batch, 1, 1)) < 0.6
    grain = torch.from_numpy(grainy * rng.uniform(0, 0.14, (batch, 1, 1))).float()
    mel = mel + grain * torch.randn_like(mel)
    contrast = torch.from_numpy(np.exp(rng.uniform(-0.2, 0.2, (batch, 1, 1)))).float()
    mean = mel.mean((1, 2), keepdim=True)
    mel = mean + contrast * (mel - mean)
    for row in np.flatnonzero(rng.random(batch) < 0.3):
        width = int(rng.integers(4, 13))
        first = int(rng.integers(0, mels - width + 1)) if mels > width else 0
        band = mel[row, :, first : first + width]
        mel[row, :, first : first + width] = band.mean()
    for row in np.flatnonzero(rng.random(batch) < 0.2):
        blurred = functional.avg_pool1d(mel[row].T[None], 3, 1, 1, count_include_pad=False)
        mel[row] = blurred[0].T
    return mel
