"""Silence at the ends of recordings, cut as published kNN-VC does it."""

from __future__ import annotations

import torchaudio
from torch import Tensor

from knnvc.audio.resampling import SAMPLE_RATE


def trim_silence(
    waveform: Tensor, sample_rate: int = SAMPLE_RATE, trigger_level: float = 7.0
) -> Tensor:
    """Cut what precedes the first and follows the last speech, as published kNN-VC does.

    That is torchaudio's port of the SoX voice activity detector, run forwards and then on the
    reversed rest (https://github.com/bshall/knn-vc, `matcher.py`). An end at which it finds no
    speech at all, as in very short clips, is left alone; the published code would return nothing.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        trigger_level: The detector's threshold; 0 or less trims nothing.

    Returns:
        `[T']` with `0 < T' <= T` (empty only for an empty waveform).
    """
    if trigger_level <= 0:
        return waveform
    front = _trim_front(waveform, sample_rate, trigger_level)
    return _trim_front(front.flip(-1), sample_rate, trigger_level).flip(-1)


def _trim_front(waveform: Tensor, sample_rate: int, trigger_level: float) -> Tensor:
    if not len(waveform):
        return waveform
    trimmed: Tensor = torchaudio.functional.vad(
        waveform, sample_rate=sample_rate, trigger_level=trigger_level
    )
    return trimmed if len(trimmed) else waveform
