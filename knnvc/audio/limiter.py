"""A true-peak limiter with look-ahead: louder speech without a peak over the ceiling.

Gain follows the peaks between samples, found by oversampling as in ITU-R BS.1770-4, annex 2. It is
lowered before a peak comes and rises slowly after it, so that nothing is clipped and little is
heard. All steps are exact over any cutting into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

CEILING = -1.0  # dBTP, what EBU R 128 allows
_OVERSAMPLING = 8  # BS.1770-4, annex 2 has 4, and misses 0.3 dB of a tone at a third of the rate
_TAPS = 16  # of the interpolator on either side of a point; annex 2 has 6
_MARGIN = 0.1  # dB kept for what lies between even those points
_ATTACK = 0.005  # seconds of look-ahead, over which the gain falls
_RELEASE = 60.0  # dB a second at which it rises again: within a syllable
_HOLD = 0.015  # seconds for which it stays down, so that it does not follow single periods
_DEEPEST = -60.0  # dB, a bound for the gain


class Limiter:
    """Limits a waveform that comes in blocks; the result has the same length, and no delay.

    Args:
        sample_rate: Hz.
        ceiling: dBTP that no peak passes.
    """

    def __init__(self, sample_rate: int, ceiling: float = CEILING) -> None:
        self._ceiling = ceiling - _MARGIN
        self._attack = max(1, round(_ATTACK * sample_rate))
        self._hold = max(1, round(_HOLD * sample_rate))
        self._rise = _RELEASE / sample_rate  # dB a sample
        self._kernel = _interpolator()
        # What a sample's gain depends on before and behind it.
        self._before = 2 * self._attack + self._hold + _TAPS
        self._behind = 2 * self._attack + _TAPS

    def __call__(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Limit blocks [T] into blocks [T']; together they are as long."""
        pending = torch.zeros(self._before)
        recovering = 0.0  # dB: the released gain where `pending` will begin to be settled
        for block in blocks:
            pending = torch.cat([pending, block])
            ready = len(pending) - self._before - self._behind
            if ready > 0:
                made, recovering = self._limit(pending, ready, recovering)
                yield made
                pending = pending[ready:]
        ready = len(pending) - self._before
        if ready > 0:
            made, _ = self._limit(
                torch.cat([pending, torch.zeros(self._behind)]), ready, recovering
            )
            yield made

    def _limit(self, waveform: Tensor, ready: int, recovering: float) -> tuple[Tensor, float]:
        """Samples `_before` to `_before + ready` of `waveform`, and the state for the next ones."""
        level = true_peaks(waveform, self._kernel)
        needed = (self._ceiling - 20 * torch.log10(level.clamp(min=1e-9))).clamp(_DEEPEST, 0.0)
        inner = slice(self._before, self._before + ready)
        if recovering >= 0 and not bool((needed < 0).any()):
            return waveform[inner], 0.0
        # For each sample the lowest gain that is needed from `_hold` before its attack to the end
        # of it: then the smoothing below, which looks `_attack` both ways, stays under `needed`.
        width = self._hold + 2 * self._attack + 1
        lowest = _sliding_minimum(needed, width)
        lowest = lowest[_TAPS : _TAPS + ready + 2 * self._attack].double()
        # From there it rises straight, in dB: the least of all lines that begin earlier.
        line = self._rise * torch.arange(len(lowest), dtype=torch.float64)
        risen = torch.cummin(lowest - line, 0).values.clamp(max=recovering) + line
        risen = risen.clamp(max=0.0)
        # Two means in a row, a triangle: the gain has no corner anywhere, and so adds no hiss.
        smooth = _sliding_mean(_sliding_mean(risen, self._attack + 1), self._attack + 1)
        gain = 10 ** (smooth.float() / 20)
        later = min(0.0, float(risen[ready - 1]) + self._rise)
        return waveform[inner] * gain, later


def _sliding_minimum(values: Tensor, width: int) -> Tensor:
    """The least of every `width` neighbours in `values [T]`: [T - width + 1]."""
    size = 1
    while 2 * size <= width:
        values = torch.minimum(values[:-size], values[size:])
        size *= 2
    return torch.minimum(values[: len(values) - (width - size)], values[width - size :])


def _sliding_mean(values: Tensor, width: int) -> Tensor:
    """The mean of every `width` neighbours in `values [T]` (float64): [T - width + 1]."""
    sums = torch.nn.functional.pad(values.cumsum(0), (1, 0))
    return (sums[width:] - sums[:-width]) / width


def true_peaks(waveform: Tensor, kernel: Tensor | None = None) -> Tensor:
    """The largest magnitude at each sample of `waveform [T]` and up to the next one: [T]."""
    if not len(waveform):
        return torch.zeros(0)
    kernel = _interpolator() if kernel is None else kernel
    padded = torch.nn.functional.pad(waveform[None, None], (_TAPS - 1, _TAPS))
    between = torch.nn.functional.conv1d(padded, kernel)[0].abs().amax(0)[: len(waveform)]
    here = torch.maximum(waveform.abs(), between)
    # A peak before a sample counts for it, too.
    before: Tensor = torch.nn.functional.pad(between, (1, 0))[: len(waveform)]
    highest: Tensor = torch.maximum(here, before)
    return highest


def true_peak(waveform: Tensor) -> float:
    """The true peak of `waveform [T]` in dBTP; minus infinity if it is silent."""
    kernel = _interpolator()
    size, highest = 1 << 18, 0.0
    for at in range(0, len(waveform), size):
        piece = waveform[max(0, at - _TAPS) : at + size + _TAPS]
        highest = max(highest, float(true_peaks(piece, kernel).max()))
    return 20 * math.log10(highest) if highest else -math.inf


def _interpolator() -> Tensor:
    """Filters for the points between two samples: [7, 1, 2 * _TAPS], a sinc in a Kaiser window."""
    offsets = torch.arange(-_TAPS + 1, _TAPS + 1, dtype=torch.float64)
    fractions = torch.arange(1, _OVERSAMPLING, dtype=torch.float64)[:, None] / _OVERSAMPLING
    distance = offsets - fractions
    inside = (1 - (distance / _TAPS).square()).clamp(min=0)
    window = torch.special.i0(6.0 * inside.sqrt()) / torch.special.i0(torch.tensor(6.0))
    kernel = torch.sinc(distance) * window
    filters: Tensor = (kernel / kernel.sum(1, keepdim=True)).float()[:, None]
    return filters
