"""Ridge regression from sums: what it finds, and that pieces and little evidence count as told."""

from __future__ import annotations

import torch

from knnvc.mini.ridge import Ridge, predict


def test_it_finds_the_weights_and_the_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    read = torch.randn(500, 6, generator=generator)
    weights = torch.randn(7, 3, generator=generator)
    fit, whole = Ridge(6, 3), Ridge(6, 3)
    for part in (read[300:], read[:20], read[20:300]):  # in any order
        fit.add(part, predict(part, weights))
    whole.add(read, predict(read, weights))
    torch.testing.assert_close(fit.solve(1e-6), weights, atol=1e-4, rtol=0)
    torch.testing.assert_close(fit.solve(50.0), whole.solve(50.0))


def test_a_penalty_draws_to_zero_what_few_rows_say() -> None:
    fit = Ridge(1, 1)
    assert torch.equal(fit.solve(10.0), torch.zeros(2, 1))  # nothing is known
    read = torch.tensor([[1.0], [-1.0]]).repeat(5, 1)
    fit.add(read, 3 * read)
    # With as many rows of unit power as the penalty, half of what they say.
    torch.testing.assert_close(fit.solve(10.0), torch.tensor([[1.5], [0.0]]))
