"""Monotonic alignment search: which frames are which token's (Kim et al. 2020, Glow-TTS).

https://arxiv.org/abs/2005.11129, section 2.2. Among all ways to give every token one run of frames,
in order and without gaps, dynamic programming finds the most probable.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from knnvc.errors import KnnvcError


def monotonic_alignment(
    scores: npt.NDArray[np.float32],
    tokens: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """The best monotonic alignment of each utterance of a batch, as durations.

    Args:
        scores: [B, N, T] log likelihood of each frame as each token's.
        tokens: [B] how many of the N tokens are no padding.
        frames: [B] how many of the T frames are no padding.

    Returns:
        [B, N] frames of each token: at least 1, 0 for padding, `frames` in sum.

    Raises:
        KnnvcError: an utterance has no token, or fewer frames than tokens.
    """
    if (tokens < 1).any() or (frames < tokens).any():
        raise KnnvcError("an utterance has fewer frames than tokens: check its transcript")
    batch, most_tokens, most_frames = scores.shape
    # best[b, n]: the best sum of all paths that are at token n now; moved[t, b, n]: whether that
    # path came from token n - 1. One step in time serves the whole batch.
    best = np.full((batch, most_tokens), -np.inf)
    best[:, 0] = scores[:, 0, 0]
    moved = np.zeros((most_frames, batch, most_tokens), bool)
    for time in range(1, most_frames):
        before = np.full_like(best, -np.inf)
        before[:, 1:] = best[:, :-1]
        moved[time] = before > best
        best = np.maximum(before, best) + scores[:, :, time]
    durations = np.zeros((batch, most_tokens), np.int64)
    rows = np.arange(batch)
    at = tokens - 1
    for time in range(most_frames - 1, -1, -1):
        inside = time < frames
        durations[rows[inside], at[inside]] += 1
        at = at - (inside & moved[time, rows, at])
    return durations
