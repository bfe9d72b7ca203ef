"""Pitch in matching: for encoders that hear it, neighbours are chosen by intonation as well.

A purely phonetic distance averages frames of unrelated pitch. So the pitch of either speaker,
normalised by the speaker's own mean and spread, joins the vectors that are compared, and the output
gets the source's contour, with every pitch as frequent as the target has it. Published kNN-VC does
neither.

Columns of `[N, D]` tensors here: log2 of f0 in Hz, probability of voicing, then anything else.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples of a frame of 20 ms

VOICED = 0.5  # probability above which a frame counts as voiced
F0_RANGE = (55.0, 600.0)  # Hz
NEAR = 0.01  # octaves: where StoneMask moved f0 by more, it looks again from there
DIO_QUICK = 6  # decimation for DIO: at 2.7 kHz it is ten times as fast, and hears the same
FAR = 0.2  # octaves from DIO's f0 at which that is believed
LEAST_SPREAD = 0.05  # octaves: a monotone speaker is not stretched beyond this
SHARES = torch.linspace(0.02, 0.98, 33)  # of voiced frames, that lie below a quantile
_DEVIATIONS = torch.special.ndtri(SHARES)  # where a normal distribution has them
_INNER = (8, -9)  # the quantiles that tell the spread, unmoved by octave errors
BLUR = 0.2  # standard deviations, see `_knots`


def pitch_statistics(columns: Tensor) -> Tensor:
    """Median and robust spread of log2 f0 over the voiced frames of `columns` [N, ≥ 2], as [2].

    In octaves above 1 Hz, and octaves; octave errors of the pitch tracker hardly move them. Without
    any voiced frame the result is NaN, which the other functions read as "leave pitch alone".
    """
    quartiles = _quantiles(columns, torch.tensor([0.25, 0.5, 0.75]))
    # 1.349 quartile distances are one standard deviation of a normal distribution.
    spread = ((quartiles[2] - quartiles[0]) / 1.349).clamp(min=LEAST_SPREAD)
    return torch.stack([quartiles[1], spread])


def _quantiles(columns: Tensor, shares: Tensor) -> Tensor:
    """The log2 f0 that `shares` [Q] of the voiced frames lie below; NaN if none is voiced."""
    voiced = columns[columns[:, 1] > VOICED, 0].float()
    if len(voiced) == 0:
        return torch.full_like(shares, float("nan"))
    return torch.quantile(_thinned(voiced), shares.to(voiced))


def _thinned(values: Tensor, limit: int = 1_000_000) -> Tensor:
    """Every n-th value: torch.quantile takes at most 16 million."""
    return values[:: -(-len(values) // limit)]


def pitch_quantiles(columns: Tensor) -> Tensor:
    """The log2 f0 below which `SHARES` of the voiced frames of `columns` [N, ≥ 2] lie: [33].

    Without any voiced frame they are NaN, as in `pitch_statistics`.
    """
    return _quantiles(columns, SHARES)


def move_pitch(log_f0: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Move a contour `log_f0` [M] of the `source` speaker to where the `target` has such pitch.

    Both speakers are given by `pitch_quantiles` [33]. What is as high as a share of the source's
    pitch becomes as high as that share of the target's: unlike mean and spread this keeps the form
    of the target's distribution (histogram equalisation, for f0 by Wu et al. 2010,
    http://cs.joensuu.fi/pages/tkinnu/webpage/pdf/IS2010_ProsodyConversion.pdf). Beyond the outer
    quantiles it goes on in proportion to the spreads.
    """
    if not (torch.isfinite(source).all() and torch.isfinite(target).all()):
        return log_f0
    (given, spread), (wanted, other) = _knots(source), _knots(target)
    at = torch.searchsorted(given, log_f0.to(given).contiguous()).clamp(1, len(given) - 1)
    share = (log_f0 - given[at - 1]) / (given[at] - given[at - 1])
    moved = wanted[at - 1].lerp(wanted[at], share)
    below, above = (log_f0 - end for end in (given[0], given[-1]))
    moved = torch.where(below < 0, wanted[0] + below * (other / spread), moved)
    return torch.where(above > 0, wanted[-1] + above * (other / spread), moved)


def _knots(quantiles: Tensor) -> tuple[Tensor, Tensor]:
    """The quantiles [33], as far apart as needed to divide by that, and the spread they tell.

    Those of a normal distribution are added in part: where many frames have one pitch, it would be
    torn apart without.
    """
    deviations = _DEVIATIONS.to(quantiles)
    low, high = _INNER
    found = (quantiles[high] - quantiles[low]) / (deviations[high] - deviations[low])
    spread = found.clamp(min=LEAST_SPREAD)
    return quantiles + (BLUR * spread + (spread - found)) * deviations, spread


def smooth_pitch(log_f0: Tensor, voiced: Tensor, deviation: float) -> Tensor:
    """A contour `log_f0` [M] without what is faster than a tone of voice.

    A `voiced` [M] frame gets the mean of the voiced frames around it, weighed by a Gaussian of that
    `deviation` in frames. Others stay as they are; at 0 all do.
    """
    if deviation == 0 or not voiced.any():
        return log_f0
    reach = math.ceil(3 * deviation)
    at = torch.arange(-reach, reach + 1).to(log_f0)
    weights = torch.exp(-0.5 * (at / deviation).square())[None, None]
    counted = voiced.to(log_f0)
    rows = torch.stack([torch.where(voiced, log_f0, 0.0), counted])[:, None]
    total, weight = functional.conv1d(rows, weights, padding=reach)[:, 0]
    return torch.where(voiced, total / weight.clamp(min=1e-6), log_f0)


def refine_pitch(waveform: Tensor, columns: Tensor, wanted: slice = slice(None)) -> Tensor:
    """log2 f0 [N] of `columns` [N, ≥ 2], made exact by the `waveform` [S] where it is voiced.

    A network that reads mel spectra hears pitch to half a semitone, and very low pitch worse. Where
    DIO (Morise et al. 2009a) is `FAR` from it, that is where StoneMask starts (both are part of
    WORLD), which finds the instantaneous frequencies of the harmonics near there. Frames where that
    finds nothing stay as they are, and so do those that are not `wanted`.
    """
    import pyworld

    log_f0, voiced = columns[:, 0], torch.zeros_like(columns[:, 1], dtype=torch.bool)
    voiced[wanted] = columns[wanted, 1] > VOICED
    low, high = F0_RANGE
    samples = waveform.cpu().double().numpy()
    heard, _ = _dio(samples, DIO_QUICK)
    other = torch.from_numpy(_at_frames(heard, len(log_f0))).to(log_f0)
    apart = (other.clamp(min=low).log2() - log_f0).abs() > FAR
    start = torch.where((other > 0) & apart, other, torch.exp2(log_f0)).double().clamp(low, high)
    guess = torch.where(voiced, start, 0.0).cpu().numpy()
    centres = (np.arange(len(guess)) + 0.5) * (HOP / SAMPLE_RATE)
    once = pyworld.stonemask(samples, guess, centres, SAMPLE_RATE)
    moved = np.abs(np.log2(np.maximum(once, 1.0) / np.maximum(guess, 1.0))) > NEAR
    twice = pyworld.stonemask(samples, np.where(moved, once, 0.0), centres, SAMPLE_RATE)
    found = torch.from_numpy(np.where(moved, twice, once)).to(log_f0.device)
    exact = torch.log2(found.clamp(min=low)).to(log_f0)
    return torch.where(voiced & (found > 0), exact, log_f0)


def f0_track(wave: npt.NDArray[np.float32], frames: int) -> npt.NDArray[np.float32]:
    """f0 in Hz at the centre of every 20 ms frame [T], 0 where unvoiced (DIO, StoneMask)."""
    import pyworld

    samples = wave.astype(np.float64)
    f0 = pyworld.stonemask(samples, *_dio(samples), SAMPLE_RATE)
    return _at_frames(f0, frames).astype(np.float32)


def _dio(
    samples: npt.NDArray[np.float64], decimation: int = 1
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """DIO's f0 in Hz every 10 ms, 0 where unvoiced, and its times in seconds."""
    import pyworld

    low, high = F0_RANGE
    f0, times = pyworld.dio(
        samples, SAMPLE_RATE, f0_floor=low, f0_ceil=high, frame_period=10.0, speed=decimation
    )
    return f0, times


def _at_frames(f0: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float64]:
    """What `_dio` gave, at the centre of every 20 ms frame [T]."""
    return f0[np.minimum(1 + 2 * np.arange(frames), len(f0) - 1)]
