"""Equal error rate and bootstrap: statistics that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from knnvc.evaluation.statistics import bootstrap, equal_error_rate
from knnvc.extras import need


@pytest.mark.parametrize(
    ("real", "converted", "rate"),
    [
        ([0.8, 0.9], [0.1, 0.2], 0.0),  # always told apart
        ([0.1, 0.2], [0.8, 0.9], 1.0),  # the converted are nearer than the target is to itself
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 0.5),  # the same distribution
        ([2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 2.5, 1.5], 0.25),  # one of four on the wrong side
    ],
)
def test_equal_error_rate_by_hand(real: list[float], converted: list[float], rate: float) -> None:
    assert equal_error_rate(real, converted) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5, 3.0])
def test_equal_error_rate_by_an_independent_formula(shift: float) -> None:
    """Two normal distributions of unit spread err by Φ(−shift / 2); and by counting thresholds."""
    rng = np.random.default_rng(3)
    real, converted = rng.normal(shift, 1, 4000), rng.normal(0, 1, 3000)
    rate = equal_error_rate(real.tolist(), converted.tolist())
    normal = need("scipy.stats").norm.cdf(-shift / 2)
    assert rate == pytest.approx(normal, abs=0.02)
    thresholds = np.concatenate([real, converted])
    missed = np.array([(real < t).mean() for t in thresholds])
    taken = np.array([(converted >= t).mean() for t in thresholds])
    at = np.abs(missed - taken).argmin()
    assert rate == pytest.approx((missed[at] + taken[at]) / 2, abs=1e-3)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(150):
        values = rng.normal(2.0, 1.0, 40).tolist()
        found = bootstrap(values, [1.0] * 40, [str(n) for n in range(40)], trial)
        assert found is not None
        assert found.low < found.value < found.high
        held += found.low <= 2.0 <= found.high
    assert 0.88 <= held / 150 <= 0.99


def test_bootstrap_takes_conversions_of_one_source_together() -> None:
    values = np.random.default_rng(1).normal(0, 1, 20).tolist()
    names = [str(n) for n in range(20)]
    once = bootstrap(values, [1.0] * 20, names, 0)
    copied = bootstrap(values * 5, [1.0] * 100, names * 5, 0)
    independent = bootstrap(values * 5, [1.0] * 100, [str(n) for n in range(100)], 0)
    assert once is not None
    assert copied is not None
    assert independent is not None
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert independent.high - independent.low < 0.7 * (once.high - once.low)


def test_bootstrap_weighs_by_the_denominator() -> None:
    found = bootstrap([1.0, 0.0], [1.0, 9.0], ["a", "b"], 0)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == (0.0, 1.0)
    assert bootstrap([0.0], [0.0], ["a"], 0) is None
