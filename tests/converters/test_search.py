"""Exact search agrees with brute force, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from knnvc.converters import search as searching
from knnvc.converters.knn import select, weigh
from knnvc.converters.search import Index, search
from knnvc.errors import KnnvcError, UsageError


def cosine_distances(query: Tensor, match: Tensor) -> Tensor:
    """Brute force in double precision, [M, N]; a row of zeros is at distance 1 from everything."""
    query, match = (
        torch.nn.functional.normalize(x.double(), dim=1, eps=1e-300) for x in (query, match)
    )
    return 1 - query @ match.T


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Query [M, D], match [N, D], k up to N; of few values (duplicates, zero rows) or of any."""
    dim = draw(st.integers(1, 8))
    values = draw(
        st.sampled_from(
            [
                st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
                st.floats(-(2.0**100), 2.0**100, width=32),
            ]
        )
    )
    query, match = (
        torch.from_numpy(draw(hnp.arrays(np.float32, (rows, dim), elements=values)))
        for rows in (draw(st.integers(0, 12)), draw(st.integers(1, 20)))
    )
    return query, match, draw(st.integers(1, len(match)))


@given(problems())
def test_search_agrees_with_brute_force(problem: tuple[Tensor, Tensor, int]) -> None:
    query, match, k = problem
    distances, indices = search(query, match, k)
    everything = cosine_distances(query, match)
    nearest = everything.sort(dim=1).values[:, :k]
    # Among ties any neighbours will do, so the distances are compared: those reported, and those
    # of the frames that were chosen.
    torch.testing.assert_close(distances.double(), nearest, atol=1e-6, rtol=0)
    torch.testing.assert_close(everything.gather(1, indices), nearest, atol=1e-6, rtol=0)
    assert all(len(set(row)) == k for row in indices.tolist())
    assert distances.dtype == torch.float32
    assert indices.dtype == torch.int64


def test_search_agrees_with_brute_force_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_BLOCKS", {"cpu": (64, 100)})
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(200, 24, generator=generator)
    match = torch.randn(3000, 24, generator=generator)
    distances, indices = search(query, match, 5)
    expected = cosine_distances(query, match).topk(5, largest=False)
    assert torch.equal(indices, expected.indices)
    torch.testing.assert_close(distances.double(), expected.values, atol=1e-6, rtol=0)


def test_search_gives_what_published_knn_vc_gives(parity) -> None:
    expected = load_file(parity / "expected.safetensors")
    distances, indices = search(expected["query"], expected["matching_set"], 4)
    assert torch.equal(indices, expected["knn_indices"])
    torch.testing.assert_close(distances, expected["knn_cosine_distance"], atol=1e-5, rtol=0)
    converted = select(expected["matching_set"], indices, weigh(distances))
    torch.testing.assert_close(converted, expected["converted_features"], atol=1e-5, rtol=0)


def test_index_can_be_searched_again() -> None:
    match = torch.eye(4)
    index = Index(match)
    assert index.frames == index.dim == 4
    for row in range(4):
        distances, indices = index.search(3 * match[row : row + 1], 1)
        assert (distances.item(), indices.item()) == (0, row)


def test_search_takes_half_precision_and_gradients() -> None:
    match = torch.randn(10, 6, requires_grad=True)
    _, indices = search(match[:3], match.half(), 1)
    assert indices.flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("k", [0, -1, 1.5, 2.0])
def test_k_is_a_whole_number_from_one(k) -> None:
    with pytest.raises(UsageError, match="k is"):
        search(torch.ones(1, 2), torch.ones(3, 2), k)


def test_k_beyond_the_reference_is_refused() -> None:
    with pytest.raises(KnnvcError, match="hold 3 frames of speech but k is 4"):
        search(torch.ones(1, 2), torch.ones(3, 2), 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_features_are_refused(bad: float) -> None:
    broken = torch.tensor([[1.0, 2.0], [bad, 0.0]])
    with pytest.raises(KnnvcError, match="the matching set has features that are NaN"):
        Index(broken)
    with pytest.raises(KnnvcError, match="the source has features that are NaN"):
        search(broken, torch.ones(3, 2), 1)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_a_match_without_frames_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(KnnvcError, match="the matching set has shape"):
        Index(torch.ones(shape))


def test_another_dimension_is_refused() -> None:
    with pytest.raises(KnnvcError, match=r"shape \(1, 3\).*\[frames, 2\]"):
        search(torch.ones(1, 3), torch.ones(3, 2), 1)


# Blocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 300])
@pytest.mark.parametrize("blocks", [(7, 50), (64, 299), (64, 1000)])
def test_blocks_and_ties_change_no_distance(
    monkeypatch: pytest.MonkeyPatch, k: int, blocks: tuple[int, int]
) -> None:
    """Every frame stands in the set three times, and k goes up to N, more than a block holds."""
    monkeypatch.setattr(searching, "_BLOCKS", {"cpu": blocks})
    generator = torch.Generator().manual_seed(3)
    match = torch.randn(100, 12, generator=generator).repeat(3, 1)
    query = torch.cat([match[:20], torch.randn(30, 12, generator=generator), torch.zeros(1, 12)])
    distances, indices = search(query, match, k)
    everything = cosine_distances(query, match)
    nearest = everything.sort(dim=1).values[:, :k]
    torch.testing.assert_close(distances.double(), nearest, atol=1e-6, rtol=0)
    torch.testing.assert_close(everything.gather(1, indices), nearest, atol=1e-6, rtol=0)
    assert all(len(set(row)) == k for row in indices.tolist())


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made meanwhile has held."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            # Views hold nothing of their own.
            if isinstance(one, Tensor) and not one._is_view():
                self.numbers = max(self.numbers, one.numel())
        return made


def test_no_tensor_grows_with_the_set_or_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Except the result: an M x N matrix here would be 12 million numbers."""
    monkeypatch.setattr(searching, "_BLOCKS", {"cpu": (100, 200)})
    index = Index(torch.randn(6000, 8))
    query = torch.randn(2000, 8)
    with Largest() as largest:
        index.search(query, 4)
    assert 0 < largest.numbers <= 100 * 200


def test_the_index_holds_no_copy() -> None:
    match = torch.randn(10, 4)
    assert Index(match)._match.data_ptr() == match.data_ptr()
