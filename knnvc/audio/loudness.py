"""Loudness by ITU-R BS.1770-4: measuring it, and bringing speech to it without clipping."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal

import torch
import torchaudio
from torch import Tensor

from knnvc.audio.limiter import CEILING, Limiter, true_peak
from knnvc.audio.resampling import SAMPLE_RATE
from knnvc.audio.samples import split
from knnvc.errors import KnnvcWarning

_GATE, _STEP = 0.4, 0.1  # seconds, BS.1770-4: blocks and how far they are apart
_STRETCH_SECONDS = 300.0  # of loudness measured at a time
_LEAD_IN_SECONDS = 2.0  # in which the 38 Hz high-pass decays to less than float32 can tell
# torchaudio's filters clip at 1; this much lower nothing does. A power of two loses no bit.
_HEADROOM = 2.0**-4
_BLOCK = 1 << 17  # samples that are limited at a time
_CLOSE = 0.1  # LU from the target at which it is reached
_TRIES = 6  # times that the gain before the limiter is corrected
_MOST_DRIVE = 12.0  # dB more than the plain gain that the limiter may be driven with
_WORTH_SAYING = 2.0  # LU below the target: less is hard to hear


def normalize(
    waveform: Tensor,
    sample_rate: int,
    target: float | Literal["source"] | None,
    *,
    source_loudness: float | None = None,
    in_place: bool = False,
) -> Tensor:
    """Bring a waveform to a loudness; where peaks would pass -1 dBTP, limit them.

    Without such peaks the waveform is scaled and nothing else. Otherwise a limiter with look-ahead
    (`knnvc.audio.limiter`) takes them down, and the gain before it makes up for what it takes.
    Audio without a loudness (silence, or everything under the -70 LUFS gate) stays as it is.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        target: LUFS; "source" for `source_loudness`; None to leave the waveform alone.
        source_loudness: LUFS, from `measure_loudness` of the source. Without one (None, or not
            finite) the target "source" leaves the waveform alone.
        in_place: Write the result over `waveform`, which for hours of audio spares a copy.

    Returns:
        `[T]`; `waveform` itself if nothing was to do.

    Warns:
        KnnvcWarning: The result is more than 2 LU quieter than asked.
    """
    goal = source_loudness if target == "source" else target
    if goal is None or not math.isfinite(goal):
        return waveform
    loudness = measure_loudness(waveform, sample_rate)
    if not math.isfinite(loudness):
        return waveform
    gain = float(goal) - loudness
    if true_peak(waveform) + gain <= CEILING:
        factor = 10 ** (gain / 20)
        return waveform.mul_(factor) if in_place else waveform * factor
    drive, reached = _drive(waveform, sample_rate, float(goal), gain)
    if goal - reached > _WORTH_SAYING:
        warnings.warn(
            f"the result has {reached:.1f} LUFS instead of {goal:g}: single peaks are so high that "
            "it cannot be louder.",
            KnnvcWarning,
            stacklevel=2,
        )
    made = waveform if in_place else torch.empty_like(waveform)
    at = 0
    for block in _limited(waveform, sample_rate, drive):
        made[at : at + len(block)] = block
        at += len(block)
    over = true_peak(made) - CEILING
    return made.mul_(10 ** (-over / 20)) if over > 0 else made


def measure_loudness(waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """The integrated loudness of `waveform [T]` in LUFS; minus infinity if it has none.

    A clip shorter than one 0.4 s block of BS.1770-4 is measured as if repeated to fill one.
    """
    return float(_loudness(waveform, sample_rate))


def normalize_loudness(
    waveform: Tensor,
    sample_rate: int = SAMPLE_RATE,
    target: float = -16.0,
    *,
    in_place: bool = False,
) -> Tensor:
    """Scale a waveform to an integrated loudness, as published kNN-VC does.

    Audio without a loudness stays as it is. Peaks may pass 1: `normalize` limits them.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        target: LUFS.
        in_place: Write the result over `waveform`, which for hours of audio spares a copy.

    Returns:
        `[T]`.
    """
    factor = loudness_gain(waveform, sample_rate, target)
    return waveform.mul_(factor) if in_place else waveform * factor


def loudness_gain(waveform: Tensor, sample_rate: int = SAMPLE_RATE, target: float = -16.0) -> float:
    """The factor that `normalize_loudness` scales by; 1 for audio without a loudness.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        target: LUFS.
    """
    loudness = _loudness(waveform, sample_rate)
    if not bool(torch.isfinite(loudness)):
        return 1.0
    return float(10 ** ((target - loudness) / 20))


def _drive(waveform: Tensor, sample_rate: int, goal: float, gain: float) -> tuple[float, float]:
    """The gain in dB before the limiter that reaches `goal`, and what it reaches, in LUFS."""
    drive, best = gain, (gain, -math.inf)
    for _ in range(_TRIES):
        meter = _Meter(sample_rate)
        for block in _limited(waveform, sample_rate, drive):
            meter.add(block)
        reached = float(meter.loudness())
        if abs(goal - reached) < abs(goal - best[1]):
            best = drive, reached
        if abs(goal - reached) < _CLOSE or drive >= gain + _MOST_DRIVE:
            break
        # The limiter takes part of every further dB away again.
        drive = min(drive + 1.3 * (goal - reached), gain + _MOST_DRIVE)
    return best


def _limited(waveform: Tensor, sample_rate: int, gain: float) -> Iterator[Tensor]:
    factor = 10 ** (gain / 20)
    return Limiter(sample_rate)(block * factor for block in split(waveform, _BLOCK))


def _loudness(waveform: Tensor, sample_rate: int) -> Tensor:
    """Measure `[T]` in LUFS, a scalar tensor: `torchaudio.functional.loudness`, memory bounded.

    That function keeps some twenty copies of the waveform, gigabytes for an hour. Up to one stretch
    the result is the same to the bit, unless its filters clip there.
    """
    meter = _Meter(sample_rate)
    for block in split(waveform, max(1, round(_STRETCH_SECONDS * sample_rate))):
        meter.add(block)
    return meter.loudness()


class _Meter:
    """Measures the loudness of a waveform that comes in blocks.

    The K-weighting runs over stretches, with a lead-in long enough for its filters to forget where
    they began.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._gate = round(_GATE * sample_rate)
        self._step = round(self._gate * _STEP / _GATE)
        self._lead = round(_LEAD_IN_SECONDS * sample_rate)
        self._stretch = max(self._gate, round(_STRETCH_SECONDS * sample_rate))
        self._pending: list[Tensor] = []
        self._held = self._measured = 0  # samples held, and how many of them are behind us
        self._energies: list[Tensor] = []

    def add(self, block: Tensor) -> None:
        """Take the next samples [T]."""
        self._pending.append(block)
        self._held += len(block)
        if self._held - self._measured >= self._stretch + self._gate:
            self._measure()

    def loudness(self) -> Tensor:
        """The loudness of all of it in LUFS; minus infinity or NaN if there is none."""
        if not self._energies and self._held < self._gate:
            if not self._held:
                return torch.tensor(-math.inf)
            whole = torch.cat(self._pending)
            self._pending = [whole.repeat(math.ceil(self._gate / len(whole)))]
        self._measure()
        energy = torch.cat(self._energies)
        # BS.1770-4: the mean of the blocks over -70 LUFS, then of those within 10 LU of that mean.
        level = -0.691 + 10 * torch.log10(energy)
        loud = level > -70.0
        relative = -0.691 + 10 * torch.log10((loud * energy).sum() / loud.count_nonzero()) - 10
        loud &= level > relative
        loudness = -0.691 + 10 * torch.log10((loud * energy).sum() / loud.count_nonzero())
        return torch.where(loudness.isnan(), -math.inf, loudness)

    def _measure(self) -> None:
        """Filter what is held, and keep the energies of its whole blocks."""
        held = torch.cat(self._pending) if len(self._pending) > 1 else self._pending[0]
        piece = (held * _HEADROOM)[None]
        piece = torchaudio.functional.treble_biquad(piece, self._rate, 4.0, 1500.0, 0.5**0.5)
        piece = torchaudio.functional.highpass_biquad(piece, self._rate, 38.0, 0.5)
        fresh = piece[0, self._measured :]
        if len(fresh) >= self._gate:
            energy = torch.square(fresh).unfold(-1, self._gate, self._step).mean(dim=-1)
            self._energies.append(energy / _HEADROOM**2)
            self._measured += len(energy) * self._step
        cut = max(0, self._measured - self._lead)
        self._pending, self._held = [held[cut:]], len(held) - cut
        self._measured -= cut
