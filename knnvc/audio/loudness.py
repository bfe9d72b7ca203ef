"""Loudness by ITU-R BS.1770-4: measuring it, and bringing speech to it without clipping."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from knnvc.audio.limiter import CEILING, Limiter, true_peak
from knnvc.audio.resampling import SAMPLE_RATE
from knnvc.audio.samples import split
from knnvc.errors import KnnvcWarning

_GATE, _STEP = 0.4, 0.1  # seconds, BS.1770-4: blocks and how far they are apart
_LEAD_IN = 0.25  # seconds in which the 38 Hz high-pass decays to less than float32 can tell
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
    name: str = "the result",
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
        name: What a warning calls it: the file that it goes to.

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
            f"{name} has {reached:.1f} LUFS instead of {goal:.3g}: single peaks are so high that "
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
    meter = _Meter(sample_rate)
    for block in split(waveform, _BLOCK):
        meter.add(block)
    return meter.loudness()


def normalize_loudness(
    waveform: Tensor,
    sample_rate: int = SAMPLE_RATE,
    target: float = -16.0,
    *,
    in_place: bool = False,
) -> Tensor:
    """Scale a waveform to an integrated loudness, as published kNN-VC does (to 0.001 dB).

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
    loudness = measure_loudness(waveform, sample_rate)
    if not math.isfinite(loudness):
        return 1.0
    return 10 ** ((target - loudness) / 20)


def _drive(waveform: Tensor, sample_rate: int, goal: float, gain: float) -> tuple[float, float]:
    """The gain in dB before the limiter that reaches `goal`, and what it reaches, in LUFS."""
    drive, best = gain, (gain, -math.inf)
    for _ in range(_TRIES):
        meter = _Meter(sample_rate)
        for block in _limited(waveform, sample_rate, drive):
            meter.add(block)
        reached = meter.loudness()
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


class _Meter:
    """Measures the loudness of a waveform that comes in blocks, in bounded memory.

    `torchaudio.functional.loudness` measures the same, with twenty copies of the waveform, ten
    times as slowly, and too little where its filters pass 1, which they clip.
    """

    def __init__(self, sample_rate: int) -> None:
        self._gate = round(_GATE * sample_rate)
        self._step = round(self._gate * _STEP / _GATE)
        self._lead = round(_LEAD_IN * sample_rate)
        # Of every transform the first part is its neighbour's, and dropped.
        self._size = max(1 << 16, 1 << (4 * self._lead - 1).bit_length())
        self._response = _k_weighting(sample_rate, self._size)
        self._raw = torch.zeros(self._lead)  # not yet weighted, behind the lead-in
        self._weighted = torch.zeros(0)  # not yet measured
        self._first = torch.zeros(0)  # of a clip shorter than one block
        self._energies: list[Tensor] = []

    def add(self, block: Tensor) -> None:
        """Take the next samples [T]."""
        if len(self._first) < self._gate:
            self._first = torch.cat([self._first, block[: self._gate]])
        self._raw = torch.cat([self._raw, block])
        while len(self._raw) >= self._size:
            self._weigh()

    def loudness(self) -> float:
        """The loudness of all of it in LUFS; minus infinity if it has none. Call it once."""
        if 0 < len(self._first) < self._gate:
            times = math.ceil(self._gate / len(self._first)) - 1
            self.add(self._first.repeat(times))
        fresh = len(self._raw) - self._lead
        if fresh:
            self._raw = torch.nn.functional.pad(self._raw, (0, self._size - len(self._raw)))
            self._weigh(fresh)
        energy = torch.cat([torch.zeros(0), *self._energies])
        # BS.1770-4: the mean of the blocks over -70 LUFS, then of those within 10 LU of that mean.
        energy = energy[_level(energy) > -70.0]
        energy = energy[_level(energy) > _level(energy.mean()) - 10.0]
        return float(_level(energy.mean())) if len(energy) else -math.inf

    def _weigh(self, fresh: int | None = None) -> None:
        """Weight one transform's worth of samples, and measure the blocks that are complete."""
        piece = self._raw[: self._size]
        weighted = torch.fft.irfft(torch.fft.rfft(piece) * self._response, self._size)[self._lead :]
        self._raw = self._raw[self._size - self._lead :]
        self._weighted = torch.cat([self._weighted, weighted[:fresh]])
        if len(self._weighted) >= self._gate:
            blocks = self._weighted.unfold(-1, self._gate, self._step)
            self._energies.append(blocks.square().mean(-1))
            self._weighted = self._weighted[len(blocks) * self._step :]


def _level(energy: Tensor) -> Tensor:
    """Mean squares in LUFS (BS.1770-4, equation 2)."""
    return -0.691 + 10 * torch.log10(energy)


def _k_weighting(sample_rate: int, size: int) -> Tensor:
    """The frequency response of BS.1770-4's two filters at the bins of a transform of `size`.

    As torchaudio and published kNN-VC have them, for any rate: a shelf of 4 dB at 1.5 kHz and a
    high-pass at 38 Hz, by R. Bristow-Johnson's Audio EQ Cookbook.
    """
    delay = torch.exp(-2j * math.pi * torch.arange(size // 2 + 1, dtype=torch.float64) / size)

    def response(b: tuple[float, float, float], a: tuple[float, float, float]) -> Tensor:
        return (b[0] + delay * (b[1] + delay * b[2])) / (a[0] + delay * (a[1] + delay * a[2]))

    root = 10 ** (4.0 / 40)
    cosine, alpha = _angle(1500.0, 0.5**0.5, sample_rate)
    up, down, edge = root + 1, root - 1, 2 * root**0.5 * alpha
    shelf = response(
        (
            root * (up + down * cosine + edge),
            -2 * root * (down + up * cosine),
            root * (up + down * cosine - edge),
        ),
        (up - down * cosine + edge, 2 * (down - up * cosine), up - down * cosine - edge),
    )
    cosine, alpha = _angle(38.0, 0.5, sample_rate)
    half = (1 + cosine) / 2
    high = response((half, -2 * half, half), (1 + alpha, -2 * cosine, 1 - alpha))
    return (shelf * high).to(torch.complex64)


def _angle(hertz: float, quality: float, sample_rate: int) -> tuple[float, float]:
    """The cookbook's cos(w0) and alpha."""
    angle = 2 * math.pi * hertz / sample_rate
    return math.cos(angle), math.sin(angle) / (2 * quality)
