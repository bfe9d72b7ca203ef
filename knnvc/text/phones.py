"""Aligned phones: which are told apart, and which of them is spoken when.

The phones are those of espeak-ng's English. Durations come with an aligned corpus, or are what a
text front end predicts. A phone has three states, its thirds in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

STRESS = frozenset("ˈˌ")
LENGTHENING = frozenset("ːʰʲ̃")
PUNCTUATION = frozenset(';:,.!?—…"()“”')
SILENCE = "sil"
IGNORED = -100

# The phones of espeak-ng's en-us and en-gb in Kokoro's vocabulary, in a fixed order, so that
# a longer corpus never renumbers the states of a trained encoder.
PHONES = tuple("abdefhijklmnopstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɹɾʃʊʌʒʔθᵻ")
STATES = 1 + 3 * len(PHONES)

FRAME = 0.02  # seconds


def segments(
    phones: Sequence[str], durations: Sequence[float], unit: float
) -> list[tuple[str | None, float]]:
    """Token durations, with one more at either end for the padding, as (phone, seconds).

    A stress mark's time goes to the phone that follows, a length mark's to the one before;
    punctuation is silence; spaces are None, as they fall inside speech. `unit` is in seconds.
    """
    found: list[list[Any]] = [[SILENCE, durations[0]]]
    pending = 0.0
    for phone, duration in zip(phones, durations[1:-1], strict=True):
        if phone in STRESS:
            pending += duration
            continue
        if phone in LENGTHENING:
            found[-1][1] += duration + pending
        elif phone == " ":
            found.append([None, duration + pending])
        elif phone in PUNCTUATION:
            found.append([SILENCE, duration + pending])
        else:
            found.append([phone, duration + pending])
        pending = 0.0
    found.append([SILENCE, durations[-1] + pending])
    return [(phone, units * unit) for phone, units in found]


def states_of_frames(
    phones: Sequence[str], durations: Sequence[float], unit: float, frames: int
) -> npt.NDArray[np.int16]:
    """State of every 20 ms frame [T]: 0 silence, 1 + 3·phone + third; IGNORED where unknown."""
    number = {phone: index for index, phone in enumerate(PHONES)}
    states = np.full(frames, IGNORED, dtype=np.int16)
    start = 0.0
    for phone, seconds in segments(phones, durations, unit):
        first = max(0, int(np.ceil((start / FRAME) - 0.5)))
        last = min(frames, int(np.ceil(((start + seconds) / FRAME) - 0.5)))
        if phone == SILENCE:
            states[first:last] = 0
        elif phone in number:
            centres = (np.arange(first, last) + 0.5) * FRAME
            third = np.minimum(2, (3 * (centres - start) / max(seconds, 1e-6)).astype(int))
            states[first:last] = 1 + 3 * number[phone] + third
        start += seconds
    return states
