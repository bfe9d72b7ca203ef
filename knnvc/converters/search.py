"""Exact search: for each source frame the k nearest frames of a matching set, by cosine.

Shapes: M source frames, N frames in the matching set, k neighbours, Dm features to search in.
Results lie on the CPU, whatever the device of the search. `knnvc.converters.approximate` has
approximate search for very large matching sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.errors import KnnvcError
from knnvc.options import ConvertOptions
from knnvc.processes import computing

# Rows of the query and of the matching set compared at a time, the product of which takes 16 MB on
# a CPU; a GPU wants larger ones (256 MB). Of wide rows it is fewer: larger pieces of memory come
# new from the system each time, which takes longer than filling them.
_BLOCKS = {"cpu": (512, 8192)}
_GPU_BLOCKS = (4096, 16384)
_BLOCK_VALUES = {"cpu": 3 << 20}
_GROUP = 32  # columns of that product
_CHECKED = 8192  # rows checked at a time


class Searcher(Protocol):
    """What finds neighbours in one matching set; see `Index` for what `search` returns."""

    frames: int
    dim: int

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and rows of the `k` nearest frames of every row of `query`."""


class Index:
    """Exact cosine search in one matching set; build it once, search it often.

    Blocks of the query are multiplied with blocks of the matching set, and only the k best so far
    are kept, so an M x N distance matrix never exists. Frames are scaled to unit length block by
    block: on a CPU the index holds `match` itself and no copy of it.
    """

    def __init__(self, match: Tensor, device: torch.device | str = "cpu") -> None:
        """Index `match` [N, Dm], any floating dtype; do not write to it afterwards.

        Args:
            match: the frames to search in.
            device: where to search; `match` is copied there unless it is there already.

        Raises:
            KnnvcError: `match` is empty, is not a matrix, or holds NaN or infinite values.
        """
        check_match(match)
        self.frames, self.dim = match.shape
        self._match = match.detach().to(device)

    @torch.inference_mode()
    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the `k` nearest frames of every row of `query` [M, Dm], the nearest first.

        A row of zeros has no direction: its distance to everything, and everything's to it, is 1.

        Returns:
            distances: float32 [M, k], cosine distances 1 - cos, in [0, 2].
            indices: int64 [M, k], rows of the matching set. Which of several equally near frames
                comes first, or is left out, is not defined.

        Raises:
            UsageError: `k` is not a whole number from 1 up.
            KnnvcError: `k` exceeds N, or `query` has another dimension or non-finite values.
        """
        check_query(query, k, self.frames, self.dim)
        distances = torch.empty(len(query), k)
        indices = torch.empty(len(query), k, dtype=torch.int64)
        rows, _ = _block_sizes(self._match)
        start = 0
        for block in unit_blocks(query, "the source", rows, self._match.device):
            end = start + len(block)
            cosines, found = self._nearest(block, k)
            # Rounding carries the cosine of equal directions a little past 1.
            distances[start:end] = (1 - cosines).clamp_(0, 2)
            indices[start:end] = found
            start = end
        return distances, indices

    def _nearest(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Cosines and rows [m, k] of the nearest frames to unit vectors `query` [m, Dm]."""
        # Below every cosine, so whatever is found first replaces it; N >= k fills all of it.
        best = query.new_full((len(query), k), -torch.inf)
        rows = torch.zeros(best.shape, dtype=torch.int64, device=query.device)
        start = 0
        for block in torch.split(self._match, _block_sizes(self._match)[1]):
            cosines = query @ _unit(block).T
            maxima = _group_maxima(cosines)
            # Most blocks hold nothing new for most frames; the maximum tells it for a tenth of the
            # time that selecting takes.
            better = (maxima.amax(dim=1) > best[:, -1]).nonzero()[:, 0]
            if len(better):
                if len(better) < len(query):
                    cosines, maxima = cosines[better], maxima[better]
                near, at = _largest(cosines, maxima, k)
                near = torch.cat([best[better], near], dim=1)
                at = torch.cat([rows[better], at + start], dim=1)
                best[better], order = near.topk(k, dim=1)
                rows[better] = at.gather(1, order)
            start += len(block)
        return best, rows


def _group_maxima(values: Tensor) -> Tensor:
    """Maxima of groups of columns of `values` [m, n], then the columns in no group: [m, G + rest].

    Of the G = n // `_GROUP` groups, g is columns g, g + G, g + 2 G and so on.
    """
    groups = values.shape[1] // _GROUP
    if groups == 0:
        return values
    whole = groups * _GROUP
    maxima = values[:, :whole].reshape(-1, _GROUP, groups).amax(dim=1)
    return torch.cat([maxima, values[:, whole:]], dim=1)


def _largest(values: Tensor, maxima: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of each row of `values` [m, n], the largest first, and their columns.

    `maxima` are theirs as of `_group_maxima`. The k largest lie in the k groups that have the
    largest maxima, or in no group, so the rest is not looked at.
    """
    groups, columns = values.shape[1] // _GROUP, values.shape[1]
    if k >= groups:
        return values.topk(min(k, columns), dim=1)
    members = torch.arange(_GROUP, device=values.device) * groups
    rest = torch.arange(groups * _GROUP, columns, device=values.device)
    chosen = maxima[:, :groups].topk(k, dim=1, sorted=False).indices
    looked_at = (chosen[:, :, None] + members).flatten(1)
    looked_at = torch.cat([looked_at, rest.expand(len(values), -1)], dim=1)
    near, at = values.gather(1, looked_at).topk(k, dim=1)
    return near, looked_at.gather(1, at)


def search(query: Tensor, match: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the `k` nearest rows of `match` [N, Dm] for each row of `query` [M, Dm].

    The same as `Index(match).search(query, k)`, which says what is returned and raised.
    """
    return Index(match).search(query, k)


def check_k(k: int) -> None:
    """Raise UsageError unless `k` is a whole number from 1 up."""
    ConvertOptions(k=k)


def check_match(match: Tensor) -> None:
    """Raise KnnvcError unless `match` is a matrix [N, Dm] of finite values, with N and Dm >= 1."""
    computing()
    if match.ndim != 2 or 0 in match.shape:
        raise KnnvcError(
            f"the matching set has shape {tuple(match.shape)} where [frames, dimensions] is "
            "needed: give references that hold speech"
        )
    for block in torch.split(match.detach(), _CHECKED):
        _check_finite(block, "the matching set")


def check_query(query: Tensor, k: int, frames: int, dim: int) -> None:
    """Raise unless `k` neighbours of `query` can be found in `frames` vectors of `dim` columns.

    Raises:
        UsageError: `k` is not a whole number from 1 up.
        KnnvcError: `k` exceeds `frames`, or `query` is not [M, dim].
    """
    computing()
    check_k(k)
    if k > frames:
        raise KnnvcError(
            f"the references hold {frames} frames of speech but k is {k}: "
            "give longer references or a smaller k"
        )
    if query.ndim != 2 or query.shape[1] != dim:
        raise KnnvcError(
            f"the source features have shape {tuple(query.shape)} but the matching set needs "
            f"[frames, {dim}]: encode both with the same preset"
        )


def unit_blocks(
    rows: Tensor, what: str, size: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Yield `rows` [R, D], `size` at a time, as float32 unit vectors; zeros stay zeros.

    Raises:
        KnnvcError: `rows` hold NaN or infinite values; `what` is what the message calls them.
    """
    for block in torch.split(rows.detach(), size):
        _check_finite(block, what)
        yield _unit(block.to(device))


def _unit(rows: Tensor) -> Tensor:
    """`rows` [R, D] as float32 unit vectors; zeros stay zeros."""
    # Two steps, so that in single precision (Metal has no other) neither very large nor very small
    # rows lose their direction.
    rows = rows.float()
    largest = rows.abs().amax(dim=1, keepdim=True)
    return functional.normalize(rows / torch.where(largest > 0, largest, 1), dim=1)


def _block_sizes(match: Tensor) -> tuple[int, int]:
    kind, dim = match.device.type, match.shape[1]
    query, rows = _BLOCKS.get(kind, _GPU_BLOCKS)
    most = _BLOCK_VALUES.get(kind)
    return query, rows if most is None else min(rows, max(1, most // dim))


def _check_finite(block: Tensor, what: str) -> None:
    if not torch.isfinite(block).all():
        raise KnnvcError(
            f"{what} has features that are NaN or infinite: check the recording and the preset"
        )
