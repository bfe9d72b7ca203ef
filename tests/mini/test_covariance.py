"""Mel cepstra, their covariance, and the map between two covariances."""

from __future__ import annotations

import torch
from torch import Tensor

from knnvc.mini.covariance import ADDED, MOST_CEPSTRA, cepstra_of, mean_and_covariance, transport


def some_covariance(seed: int, size: int = 5) -> Tensor:
    rows = torch.randn(size, 3 * size, generator=torch.Generator().manual_seed(seed)).double()
    return rows @ rows.T / (3 * size)


def test_cepstra_are_orthogonal_and_know_nothing_of_the_level() -> None:
    for mels, count in ((80, MOST_CEPSTRA), (4, 3), (1, 0)):
        cepstra = cepstra_of(mels)
        assert cepstra.shape == (count, mels)
        torch.testing.assert_close(cepstra @ cepstra.T, torch.eye(count).double())
        torch.testing.assert_close(cepstra.sum(1), torch.zeros(count).double())


def test_covariance_does_not_depend_on_blocks() -> None:
    spectra, cepstra = torch.randn(100, 20), cepstra_of(20)
    mean, found = mean_and_covariance(torch.split(spectra, 7), cepstra)
    rows = spectra.double() @ cepstra.T
    wanted = torch.cov(rows.T, correction=0)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(mean, rows.mean(0))
    assert not mean_and_covariance([], cepstra)[1].any()


def test_the_whole_way_gives_the_wanted_covariance() -> None:
    present, wanted = some_covariance(1), some_covariance(2)
    flat = ADDED * torch.eye(5).double()
    moved = transport(present, wanted, 1.0, 1.0)
    torch.testing.assert_close(moved, moved.T)
    torch.testing.assert_close(moved @ (present + flat) @ moved.T, wanted + flat)
    same = transport(present, present, 1.0, 1.0)
    torch.testing.assert_close(same, torch.eye(5).double())


def test_stretching_and_shrinking_go_their_own_share_of_the_way() -> None:
    present = torch.eye(2).double() * (1 - ADDED)
    wanted = torch.diag(torch.tensor([16.0, 1 / 16])).double() - ADDED * torch.eye(2)
    moved = transport(present, wanted, 0.5, 0.25)
    torch.testing.assert_close(moved, torch.diag(torch.tensor([2.0, 4**-0.25])).double())
    assert torch.equal(transport(present, wanted, 0.0, 0.0), torch.eye(2).double())
