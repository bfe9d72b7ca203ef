"""What a converter is: a rule that maps source features to frames of the target.

T source frames, D, Dm and Ds feature columns (see `knnvc.encoders.base.Columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from torch import Tensor

from knnvc.converters.matching_set import MatchingSet
from knnvc.encoders.base import Encoder
from knnvc.errors import KnnvcError
from knnvc.frames import Frames
from knnvc.options import MatchOptions
from knnvc.progress import Progress

T = TypeVar("T")
Weighted: TypeAlias = tuple[T, float]
"""A voice and its share; the shares of a blend sum to 1."""


class Converter(Protocol):
    """A rule that maps source features to frames of the target."""

    @property
    def config(self) -> Any:
        """What holds where the options say nothing: `k`, `lam`, `weighting`, if it has them."""

    def prepare(
        self, target: MatchingSet, index: str = "auto", progress: Progress | None = None
    ) -> Any:
        """What `convert` needs of a voice: index, statistics. Done once per voice.

        Raises:
            KnnvcError: the set comes from another encoder.
        """

    def convert(
        self,
        features: Tensor,
        voices: Sequence[Weighted[Any]],
        options: MatchOptions | None = None,
        progress: Progress | None = None,
    ) -> Frames:
        """Turn `features` [T, D] into frames [T, Ds] of the voices.

        Args:
            features: of the source.
            voices: what `prepare` made, and shares that sum to 1.
            options: see `knnvc.options.MatchOptions`; None is the preset's.
            progress: see `knnvc.progress`.

        Raises:
            UsageError: an option is out of range.
            KnnvcError: a voice has fewer than k frames.
        """

    def compared(self, features: Tensor, starts: Tensor | None = None) -> Tensor:
        """The vectors [T, Dv] by which frames of one speaker are compared.

        `starts` [F] are the first frames of the recordings that were joined; None is one recording.
        """


def check_encoder(one: MatchingSet, encoder: Encoder) -> None:
    """Raise KnnvcError unless the set was made by this encoder, and has its columns."""
    one.check_encoder(encoder.fingerprint)
    columns = encoder.columns
    wanted = (columns.match.stop - (columns.match.start or 0), columns.width)
    found = (one.match.shape[1], one.synth.shape[1])
    if found != wanted:
        raise KnnvcError(
            f"the matching set has {found[0]} and {found[1]} columns, but its encoder gives "
            f"{wanted[0]} and {wanted[1]}: get or build it again"
        )


def mix(total: Tensor | None, part: Tensor, weight: float) -> Tensor:
    """`total` + `weight` · `part`; writes into both."""
    if weight != 1:
        part *= weight
    return part if total is None else total.add_(part)
