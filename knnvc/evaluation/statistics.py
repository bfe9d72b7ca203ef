"""Equal error rate and bootstrap: from single measurements to figures with an uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knnvc.extras import need

CONFIDENCE = 0.95
RESAMPLES = 2000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def equal_error_rate(real: Sequence[float], converted: Sequence[float]) -> float:
    """How often a verifier at its equal-error threshold confuses converted with real, in [0, 1].

    As in the speaker similarity script of the kNN-VC authors: for one target, pairs of two real
    utterances are one class, pairs of a converted and a real utterance the other, both scored by
    cosine similarity; the rate is where the linearly interpolated ROC curve meets the diagonal
    `1 - x`. 0.5 means that they cannot be told apart, 0 that they always can, and more than
    0.5 that the converted are nearer to the target's utterances than those are to each other.

    Args:
        real: cosine similarities of real-real pairs, at least one.
        converted: cosine similarities of converted-real pairs, at least one.
    """
    roc_curve = need("sklearn.metrics").roc_curve
    brentq = need("scipy.optimize").brentq
    labels = np.r_[np.ones(len(real)), np.zeros(len(converted))]
    false, true, _ = roc_curve(labels, np.r_[real, converted], pos_label=1)
    return float(brentq(lambda x: 1.0 - x - np.interp(x, false, true), 0.0, 1.0))


def bootstrap(
    numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str], seed: int
) -> Estimate | None:
    """Σ numerators / Σ denominators, with a percentile bootstrap over groups.

    What is drawn again are whole groups (source utterances): conversions of one source to several
    targets share its words and are no independent measurements. None if there is nothing to divide
    by.
    """
    top, bottom = _sums(numerators, groups), _sums(denominators, groups)
    if bottom.sum() == 0:
        return None
    draws = np.random.default_rng(seed).integers(len(top), size=(RESAMPLES, len(top)))
    below = bottom[draws].sum(1)
    ratios = top[draws].sum(1)[below > 0] / below[below > 0]
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high))


def _sums(values: Sequence[float], groups: Sequence[str]) -> Floats:
    """Sums of `values` by group, in the order of the groups' names."""
    _, where = np.unique(np.asarray(groups), return_inverse=True)
    sums: Floats = np.bincount(where, weights=np.asarray(values, np.float64)).astype(np.float64)
    return sums
