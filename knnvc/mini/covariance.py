"""Refined spectra that vary as a voice's do.

Networks make spectra that vary otherwise than speech. Statistical speech synthesis gives them the
variance of the speaker's cepstra back ("global variance", Toda and Tokuda 2007,
https://doi.org/10.1093/ietisy/e90-d.5.816). Here it is their whole covariance: the linear map with
the least change that turns one normal distribution into another (Olkin and Pukelsheim 1982,
https://doi.org/10.1016/0024-3795(82)90112-4).

C mel cepstra, which are the cosine transform of a log-mel spectrum. The first of all, the level, is
left out: how loud speech is belongs to the source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

MOST_CEPSTRA = 19
ADDED = 0.02  # variance that is added on either side, so that none is divided by nothing


def cepstra_of(mels: int) -> Tensor:
    """The first mel cepstra's vectors [C, mels] float64, of length 1, without the level's."""
    order = torch.arange(1, min(MOST_CEPSTRA, mels - 1) + 1).double()
    at = torch.arange(mels).double() + 0.5
    return math.sqrt(2 / mels) * torch.cos(math.pi / mels * order[:, None] * at)


def mean_and_covariance(blocks: Iterable[Tensor], cepstra: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and covariance [C, C], float64, of the `cepstra` [C, mels] of all spectra.

    These are the rows of `blocks`, each [N, mels].
    """
    columns = len(cepstra)
    count, total = 0, torch.zeros(columns).double()
    squares = torch.zeros(columns, columns).double()
    for block in blocks:
        rows = block.double().cpu() @ cepstra.T
        count += len(rows)
        total += rows.sum(0)
        squares += rows.T @ rows
    mean = total / max(1, count)
    return mean, squares / max(1, count) - torch.outer(mean, mean)


def transport(present: Tensor, wanted: Tensor, expansion: float, contraction: float) -> Tensor:
    """The map [C, C] from cepstra of covariance `present` [C, C] towards `wanted` [C, C].

    Where it stretches it goes `expansion` of the way, where it shrinks `contraction`; with 1 and 1
    it goes all of it.
    """
    flat = ADDED * torch.eye(len(present)).double()
    present, wanted = present + flat, wanted + flat
    root, inverse = _power(present, 0.5), _power(present, -0.5)
    whole = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    factors, axes = torch.linalg.eigh((whole + whole.T) / 2)
    shares = torch.where(factors > 1, expansion, contraction).double()
    moved: Tensor = (axes * factors**shares) @ axes.T
    return moved


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric `matrix` [C, C] without negative eigenvalues."""
    values, axes = torch.linalg.eigh(matrix)
    found: Tensor = (axes * values.clamp(min=1e-9) ** exponent) @ axes.T
    return found
