"""Refined spectra, moved towards those that a voice has spoken.

M or N frames, each with `substeps` log-mel spectra of so many bands (mels), which are its first
`width` columns.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

BANDS = 9  # of the mel spectrum: wider than a formant, narrower than two
BLOCK = 8192  # frames worked on at a time, which bounds the temporary memory


def peaks(spectra: Tensor) -> Tensor:
    """How far the bands of `spectra` [S, mels] rise from those around, `BANDS` wide."""
    around = functional.avg_pool1d(spectra[:, None], BANDS, 1, BANDS // 2, count_include_pad=False)
    return spectra - around[:, 0]


def moments(blocks: Iterable[Tensor], columns: int) -> tuple[Tensor, Tensor]:
    """Mean and mean square [columns] float64 of all rows in `blocks`, each [N, columns]."""
    count, total, squares = 0, torch.zeros(columns).double(), torch.zeros(columns).double()
    for block in blocks:
        rows = block.double()
        count += len(rows)
        total += rows.sum(0).cpu()
        squares += rows.square().sum(0).cpu()
    return total / max(1, count), squares / max(1, count)


def sharpened(frames: Tensor, gain: Tensor, width: int) -> Tensor:
    """`frames` [M, ≥ width] whose `peaks` are raised by `gain` [mels] times themselves."""
    raised = frames.clone()
    for start in range(0, len(frames), BLOCK):
        block = frames[start : start + BLOCK, :width]
        more = gain * peaks(block.reshape(-1, len(gain)))
        raised[start : start + len(block), :width] += more.reshape(len(block), width)
    return raised


def balanced(refined: Tensor, wanted: Tensor, reach: int, width: int) -> Tensor:
    """`refined` frames [M, ≥ width] with the mean of the `wanted` ones, `reach` frames around."""
    done = refined.clone()
    for start in range(0, len(refined), BLOCK):
        stop = min(len(refined), start + BLOCK)
        first, last = max(0, start - reach), min(len(refined), stop + reach)
        missing = (wanted[first:last, :width] - refined[first:last, :width]).double()
        total = functional.pad(missing, (0, 0, 1, 0)).cumsum(0)
        at = torch.arange(start, stop)
        low, high = (at - reach).clamp(min=0), (at + reach + 1).clamp(max=len(refined))
        mean = (total[high - first] - total[low - first]) / (high - low)[:, None]
        done[start:stop, :width] += mean.to(done)
    return done
