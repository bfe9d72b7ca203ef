"""Of each frame's candidates the one that joins best with its neighbours."""

from __future__ import annotations

import itertools

import torch

from knnvc.mini.unit_selection import follow, path_first


class TestFollow:
    JOINS = torch.arange(10.0)[:, None]  # each frame lies one further than the one before
    SEAMS = torch.tensor([True, *[False] * 4, True, *[False] * 4])

    def test_without_weight_the_nearest_win(self) -> None:
        distances = torch.tensor([[0.1, 0.2], [0.3, 0.1], [0.2, 0.2001]])
        rows = torch.tensor([[3, 7], [1, 8], [0, 2]])
        path = follow(distances, rows, self.JOINS, 0.0, self.SEAMS)
        assert path.tolist() == [3, 8, 0]

    def test_frames_that_followed_each_other_are_preferred(self) -> None:
        distances = torch.tensor([[0.1, 0.12], [0.1, 0.12], [0.12, 0.1]])
        rows = torch.tensor([[0, 6], [4, 7], [8, 2]])
        path = follow(distances, rows, self.JOINS, 0.05, self.SEAMS)
        assert path.tolist() == [6, 7, 8]

    def test_the_end_of_a_recording_is_no_neighbour_of_the_next(self) -> None:
        """4 to 5 goes from one recording to another: no better than to what 4 itself is like."""
        distances = torch.tensor([[0.0, 9.0], [0.1, 0.1]])
        joins = self.JOINS.clone()
        joins[8] = joins[4]
        path = follow(distances, torch.tensor([[4, 0], [5, 8]]), joins, 1.0, self.SEAMS)
        assert path.tolist() == [4, 8]
        one_recording = torch.tensor([True, *[False] * 9])
        path = follow(distances, torch.tensor([[4, 0], [5, 8]]), joins, 1.0, one_recording)
        assert path.tolist() == [4, 5]

    def test_it_is_the_cheapest_of_all_paths(self) -> None:
        generator = torch.Generator().manual_seed(0)
        joins = torch.randn(20, 3, generator=generator)
        seams = torch.zeros(20, dtype=torch.bool)
        rows = torch.stack([torch.randperm(20, generator=generator)[:3] for _ in range(5)])
        distances = torch.rand(5, 3, generator=generator)

        def cost(choice: tuple[int, ...]) -> float:
            total = sum(float(distances[m, j]) for m, j in enumerate(choice))
            path = [int(rows[m, j]) for m, j in enumerate(choice)]
            for one, other in itertools.pairwise(path):
                after = min(one + 1, 19)
                total += 0.7 * float((joins[after] - joins[other]).norm()) * (after != other)
            return total

        best = min(itertools.product(range(3), repeat=5), key=cost)
        path = follow(distances, rows, joins, 0.7, seams)
        assert path.tolist() == [int(rows[m, j]) for m, j in enumerate(best)]

    def test_nothing_in_nothing_out(self) -> None:
        path = follow(
            torch.empty(0, 4), torch.empty(0, 4, dtype=torch.int64), self.JOINS, 1.0, self.SEAMS
        )
        assert path.shape == (0,)


def test_the_chosen_come_first_and_the_others_stay_in_order() -> None:
    rows = torch.tensor([[3, 7, 1], [4, 5, 6]])
    order = path_first(rows, torch.tensor([7, 4]))
    assert rows.gather(1, order).tolist() == [[7, 3, 1], [4, 5, 6]]
