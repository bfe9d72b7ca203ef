"""Weights, selection and blending of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from knnvc.converters.knn import blend, select, weigh
from knnvc.errors import KnnvcError, UsageError
from knnvc.options import WEIGHTINGS


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(0, 2, width=32),
    ),
    st.sampled_from(WEIGHTINGS),
)
def test_weights_are_shares(distances: np.ndarray, weighting: str) -> None:
    weights = weigh(torch.from_numpy(distances), weighting)
    assert weights.shape == distances.shape
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(distances)))


def test_distance_weights_are_squared_inverse_distances() -> None:
    distances = torch.tensor([[0.1, 0.2, 0.4], [0.0, 0.0, 1.0]])
    expected = torch.tensor([[16 / 21, 4 / 21, 1 / 21], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(weigh(distances, "distance"), expected)
    torch.testing.assert_close(weigh(distances, "mean"), torch.full((2, 3), 1 / 3))


def test_unknown_weighting_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="choose one of mean, distance"):
        weigh(torch.ones(1, 1), "median")


@given(st.integers(0, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_select_is_the_weighted_sum(rows: int, frames: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    synth = torch.randn(frames, 3, generator=generator)
    indices = torch.randint(frames, (rows, k), generator=generator)
    weights = torch.rand(rows, k, generator=generator)
    expected = (weights[..., None] * synth[indices]).sum(1)
    torch.testing.assert_close(select(synth, indices, weights), expected)


def test_select_checks_what_it_gets() -> None:
    synth = torch.ones(3, 2)
    for outside in (-1, 3):
        with pytest.raises(KnnvcError, match="outside the 3 frames"):
            select(synth, torch.tensor([[outside]]), torch.ones(1, 1))
    with pytest.raises(KnnvcError, match="cannot select"):
        select(synth, torch.tensor([[0, 1]]), torch.ones(1, 1))


@given(st.floats(0, 2), st.integers(0, 2**32 - 1))
def test_blend_mixes_target_and_source(lam: float, seed: int) -> None:
    selected, source = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed))
    expected = lam * selected.double() + (1 - lam) * source.double()
    blended = blend(selected, source, lam)
    torch.testing.assert_close(blended.double(), expected, atol=1e-5, rtol=1e-5)


def test_blend_is_exact_at_both_ends() -> None:
    selected, source = torch.tensor([[0.1]]), torch.tensor([[float("inf")]])
    assert blend(selected, source, 1.0) is selected
    assert blend(source, selected, 0.0) is selected


@pytest.mark.parametrize("lam", [-0.1, 2.1, float("nan"), float("inf")])
def test_lam_out_of_range_is_refused(lam: float) -> None:
    with pytest.raises(UsageError, match="from 0"):
        blend(torch.ones(1, 1), torch.ones(1, 1), lam)


def test_blend_refuses_other_shapes() -> None:
    with pytest.raises(KnnvcError, match="cannot blend"):
        blend(torch.ones(1, 2), torch.ones(2, 2), 0.5)
