"""Ridge regression that is gathered piece by piece: what corrects a network for one voice.

A network's last hidden layer is read, and what its last layer lacks is to be found, as in the
adaptation of a recogniser's output layer to a speaker (Neto et al. 1995). Only sums are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class Ridge:
    """Linear regression of `writes` columns on `reads` columns and a constant.

    The sums are in double precision, so the order of the pieces does not matter.
    """

    def __init__(self, reads: int, writes: int) -> None:
        self._squares = torch.zeros(reads + 1, reads + 1, dtype=torch.double)
        self._products = torch.zeros(reads + 1, writes, dtype=torch.double)

    def add(self, read: Tensor, wanted: Tensor) -> None:
        """Count rows of `read` [N, reads] whose values `wanted` [N, writes] are known."""
        known = functional.pad(read.cpu().double(), (0, 1), value=1.0)
        self._squares += known.T @ known
        self._products += known.T @ wanted.cpu().double()

    def solve(self, penalty: float) -> Tensor:
        """Weights [reads + 1, writes] float32, the constant's last.

        With fewer rows than `penalty` they are nearer to zero than to what fits those.
        """
        diagonal = penalty * torch.eye(len(self._squares), dtype=torch.double)
        found: Tensor = torch.linalg.solve(self._squares + diagonal, self._products)
        return found.float()


def predict(read: Tensor, weights: Tensor) -> Tensor:
    """What `weights` of `Ridge.solve` say of `read` [..., reads]: [..., writes]."""
    given = weights.to(read)
    return read @ given[:-1] + given[-1]
