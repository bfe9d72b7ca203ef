"""Unit selection: of each frame's candidates the one that joins best with its neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def follow(distances: Tensor, rows: Tensor, joins: Tensor, weight: float, seams: Tensor) -> Tensor:
    """Of each frame's candidates the one on the smoothest path: unit selection (Hunt and Black,
    "Unit selection in a concatenative speech synthesis system using a large speech database",
    ICASSP 1996), with frames for units.

    A path costs the distances along it, and for every two frames on it `weight` times how far the
    second is from what came after the first in its recording; frames that followed each other there
    cost nothing. The cheapest path is found by dynamic programming.

    Args:
        distances: [M, K] of the candidates.
        rows: int64 [M, K], their rows in the matching set.
        joins: [N, J], what must not jump, of every frame of the matching set.
        weight: of a jump.
        seams: bool [N], True for the first frame of each recording.

    Returns:
        int64 [M], a row for every frame.
    """
    count = len(rows)
    if count == 0 or rows.shape[1] == 1:
        return rows[:, 0]
    after = (rows + 1).clamp(max=len(joins) - 1)
    after = torch.where(seams[after], rows, after)
    # [M - 1, K, K]: to each candidate of a frame from each of the one before.
    jumps = weight * torch.cdist(joins[rows[1:]], joins[after[:-1]])
    jumps[rows[1:, :, None] == after[:-1, None, :]] = 0.0
    # In numpy, which spends a fifth of torch's time on so small arrays.
    steps, costs = jumps.numpy(), distances.numpy()
    cost, came = costs[0], np.empty(rows.shape, dtype=np.intp)
    column = np.arange(rows.shape[1])
    for step in range(1, count):
        through = steps[step - 1] + cost
        came[step] = nearest = through.argmin(axis=1)
        cost = through[column, nearest] + costs[step]
    path = np.empty(count, dtype=np.int64)
    best = int(cost.argmin())
    for step in range(count - 1, -1, -1):
        path[step] = best
        best = int(came[step, best])
    return rows.gather(1, torch.from_numpy(path)[:, None])[:, 0]


def path_first(rows: Tensor, path: Tensor) -> Tensor:
    """The order [M, K] that puts what `follow` chose first and leaves the others as they are.

    `rows` [M, K] are the candidates, `path` [M] the row chosen for each frame.
    """
    return (rows != path[:, None]).int().argsort(dim=1, stable=True)
