"""Selecting frames of a voice for a source, as a conversion with `mini` does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.converters.knn import select
from knnvc.mini.acoustic_space import AcousticSpace, Statistics
from knnvc.mini.unit_selection import follow, path_first
from recipe.voices import Voice

CANDIDATES = 16  # of which the smoothest path is taken


@dataclass(frozen=True)
class Matched:
    """Statistics of source and target; `selected` [T, Ds] and `views` [T, views · width]."""

    own: Statistics
    target: Statistics
    selected: Tensor
    views: Tensor


class Selector:
    """Selects in `space`; a refiner is shown the means of so many neighbours as `views`."""

    def __init__(self, space: AcousticSpace, views: tuple[int, ...] = ()) -> None:
        self.space, self.views = space, views

    def matched(
        self,
        voice: Voice,
        pool: Tensor,
        built: Tensor,
        synth: Tensor,
        match: Tensor,
        k: int,
        smooth: bool,
        factor: float = 1.0,
    ) -> Matched:
        """What the rows `pool` [M] of `voice` give for a source, as far as there are k of them.

        Args:
            voice: the target.
            pool: of its frames, those to select from.
            built: [M, Ds] how these sound.
            synth: [T, Ds] the source.
            match: [T, Dm] its match columns.
            k: neighbours whose mean is taken.
            smooth: see `neighbours`.
            factor: on the weight of the envelope.
        """
        own = self.space.statistics(synth, match)
        target = self.space.statistics(built, voice.match[pool])
        query, among = self.space.vectors(synth, match, own), voice.vectors[pool]
        if factor != 1:
            envelope = slice(-2 - self.space.options.bands, -2)
            query[:, envelope] *= factor
            among[:, envelope] *= factor
        # Normalised by the speaker's statistics, the vectors hardly change when it is recast.
        rows = self.neighbours(voice, pool, query, among, smooth)
        selected, views = self.means(built, rows, min(k, len(pool)), synth, own, target)
        return Matched(own, target, selected, views)

    def neighbours(
        self, voice: Voice, pool: Tensor, query: Tensor, among: Tensor, smooth: bool
    ) -> Tensor:
        """Rows of `pool` [M, CANDIDATES at most], nearest first.

        With `smooth`, the first is the one that joins well with those before and after.
        """
        query, among = functional.normalize(query, dim=1), functional.normalize(among, dim=1)
        most = min(max([CANDIDATES, *self.views]), len(pool))
        cosines, rows = torch.topk(query @ among.T, most, dim=1)
        if not smooth:
            return rows
        seams = torch.ones(len(pool), dtype=torch.bool)
        seams[1:] = pool[1:] != pool[:-1] + 1
        seams |= torch.isin(pool, torch.tensor(voice.starts))
        weight = self.space.options.join_weight
        near = slice(CANDIDATES)
        path = follow(1 - cosines[:, near], rows[:, near], voice.joins[pool], weight, seams)
        return rows.gather(1, path_first(rows, path))

    def means(
        self,
        built: Tensor,
        rows: Tensor,
        k: int,
        synth: Tensor,
        own: Statistics,
        target: Statistics,
    ) -> tuple[Tensor, Tensor]:
        """Mean of the first k of `rows` [T, Ds], and of the views [T, views · width].

        All at the level of the source, whose frames and statistics are `synth` and `own`.
        """
        first, *seen = (
            self.space.follow_level(_mean(built, rows[:, :count]), synth, own, target)
            for count in (k, *self.views)
        )
        width = self.space.mels * self.space.substeps
        return first, torch.cat([first[:, :0], *(view[:, :width] for view in seen)], dim=1)


def _mean(synth: Tensor, rows: Tensor) -> Tensor:
    return select(synth, rows, torch.full(rows.shape, 1 / rows.shape[1]))
