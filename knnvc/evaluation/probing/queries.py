"""Query by example: where in a recording is what another recording says, by subsequence DTW.

T frames of a query, S frames of a recording, B recordings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.evaluation.probing.base import Example
from knnvc.evaluation.probing.encoded import Encoded

# Term-weighted value of MediaEval's QUESST 2014, which SUPERB reports: C_fa / C_miss = 1 / 100,
# prior of a hit 0.0008.
BETA = (1 / 100) * (1 / 0.0008 - 1)

Values = npt.NDArray[np.float64]


def search_all(
    asked: Sequence[Example], searched: Sequence[Example], encoded: Encoded, layer: str
) -> list[tuple[float, float, str]]:
    """Term-weighted value of every query at the threshold that is best for all of them.

    A recording is never searched for itself. Scores of a query are brought to mean 0 and spread 1,
    as one threshold serves for all.
    """
    documents = [functional.normalize(encoded[one.name][layer].float(), dim=1) for one in searched]
    rows = []
    for one in asked:
        own = functional.normalize(encoded[one.name][layer].float(), dim=1)
        others = [n for n, other in enumerate(searched) if other.name != one.name]
        scores = -subsequence_costs(own, [documents[n] for n in others])
        true = np.array(
            [one.target in (searched[n].contains or (searched[n].target,)) for n in others]
        )
        if true.any() and not true.all():
            spread = scores.std() or 1.0
            rows.append(((scores - scores.mean()) / spread, true, one.group or one.name))
    if not rows:
        return []
    best = max(_candidates(rows), key=lambda at: np.mean([_value(s, t, at) for s, t, _ in rows]))
    return [(_value(scores, true, best), 1.0, group) for scores, true, group in rows]


def subsequence_costs(query: Tensor, documents: Sequence[Tensor]) -> Values:
    """The least mean cosine distance [B] between `query` [T, D] and any stretch of a recording.

    Rows have unit length. Steps go one frame on in either or both; the sum along the best path is
    divided by T, so a short query is not favoured.
    """
    longest = max(len(one) for one in documents)
    costs = torch.full((len(documents), len(query), longest), torch.inf)
    for number, one in enumerate(documents):
        costs[number, :, : len(one)] = 1 - query @ one.T
    table = costs.double().numpy()
    before = table[:, 0].copy()  # a match may begin anywhere
    for row in range(1, table.shape[1]):
        here = table[:, row]
        # The best of staying in the recording and going on in both, then steps within the query.
        entered = before.copy()
        entered[:, 1:] = np.minimum(before[:, 1:], before[:, :-1])
        now = np.empty_like(here)
        now[:, 0] = entered[:, 0] + here[:, 0]
        for column in range(1, here.shape[1]):
            now[:, column] = here[:, column] + np.minimum(entered[:, column], now[:, column - 1])
        before = now
    found: Values = before.min(1) / len(query)
    return found


def _candidates(rows: Sequence[tuple[Values, npt.NDArray[np.bool_], str]]) -> list[float]:
    """Thresholds worth trying: just below every score of a true hit, and above all."""
    hits = np.concatenate([scores[true] for scores, true, _ in rows])
    return [float("inf"), *(np.unique(hits) - 1e-9).tolist()]


def _value(scores: Values, true: npt.NDArray[np.bool_], at: float) -> float:
    """1 − (P_miss + β·P_false)."""
    missed = float((scores[true] <= at).mean())
    false = float((scores[~true] > at).mean())
    return 1.0 - (missed + BETA * false)
