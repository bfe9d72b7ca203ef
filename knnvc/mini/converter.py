"""`mini`'s converter: phones, envelope and pitch; unit selection; a refiner.

It differs from published kNN-VC, whose features carry their context themselves. Frames are compared
in an acoustic space (`knnvc.mini.acoustic_space`), selected frames follow the source's pitch and
level, and a small network smooths them (`knnvc.mini.refiner`).

T source frames, N frames of the target, Ds and Dm columns (`knnvc.mini.format`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from knnvc.converters.base import Weighted, check_encoder
from knnvc.converters.knn import (
    BLOCK,
    KnnConfig,
    blend_voices,
    build_searcher,
    select,
    weigh,
)
from knnvc.converters.matching_set import MatchingSet
from knnvc.converters.search import Searcher
from knnvc.errors import KnnvcError, UsageError
from knnvc.frames import Frames
from knnvc.kernels import accelerate
from knnvc.mini.acoustic_space import SETTINGS, AcousticSpace, Statistics
from knnvc.mini.correction import Correction
from knnvc.mini.encoder import MiniEncoder
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.mini.speaker_prior import SpeakerPrior, split_prior
from knnvc.mini.unit_selection import follow, path_first
from knnvc.options import MatchOptions, setting
from knnvc.progress import Progress, Tell
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, read_tensors

LEAST_NEIGHBOURS = 2  # however little speech there is


@dataclass(frozen=True)
class MiniConfig(KnnConfig, what="mini converter"):
    """What a preset says of the converter.

    The refiner reads the mean of `k` neighbours.

    Attributes:
        source: whether "recordings" are converted or "text", whose phones are known.
        refiner: of a `RefinerConfig`.
    """

    source: str = setting("recordings", "What is converted.", "choice", choices=tuple(SETTINGS))
    refiner: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field, and the refiner's."""
        super().__post_init__()
        if not isinstance(self.refiner, Mapping):
            raise UsageError("refiner must be an object")
        RefinerConfig.from_dict(self.refiner)


@dataclass(frozen=True, eq=False)
class MiniTarget:
    """A voice prepared for matching.

    Attributes:
        synth: [N, Ds] frames to build from.
        searcher: over the vectors of the acoustic space.
        statistics: of the speaker.
        joins: what `unit_selection.follow` needs, or None where joins do not count: [N, J].
        seams: bool [N], the first frames of recordings, with `joins`.
        deviations: [N, bands] see `AcousticSpace.deviations`.
    """

    synth: Tensor
    searcher: Searcher
    statistics: Statistics
    joins: Tensor | None = None
    seams: Tensor | None = None
    deviations: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Averages:
    """Means over nearest frames of a voice.

    Attributes:
        frames: [T, Ds] by the number of neighbours; they follow the source.
        voicing: [T] of the k nearest.
        deviations: [T, bands] of those that are kept, see `AcousticSpace.deviations`.
    """

    frames: Mapping[int, Tensor]
    voicing: Tensor
    deviations: Tensor | None


@dataclass(frozen=True, eq=False)
class Source:
    """What is converted: frames [T, Ds], match columns [T, Dm], statistics of the speaker."""

    synth: Tensor
    match: Tensor
    statistics: Statistics


class MiniConverter:
    """A converter (`knnvc.converters.base`) of `mini`'s features.

    Args:
        config: what holds where the options say nothing.
        encoder: whose features are converted.
        refiner: smooths selected frames; None leaves them.
        speaker: makes features [T, D] of the source's speaker, whose statistics then hold for every
            source; None takes them from each source.
        prior: of the acoustic space.
    """

    def __init__(
        self,
        config: MiniConfig,
        encoder: MiniEncoder,
        refiner: Refiner | None = None,
        speaker: Callable[[], Tensor] | None = None,
        prior: SpeakerPrior | None = None,
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.refiner = refiner
        self._speaker = speaker
        mel = encoder.network.config
        options = SETTINGS[config.source]
        self.space = AcousticSpace(options, mel.mels, mel.substeps, mel.states, prior)

    def compared(self, features: Tensor, starts: Tensor | None = None) -> Tensor:
        """Vectors [T, Dv] of the acoustic space for `features` [T, D]; see `Converter.compared`."""
        columns = self.encoder.columns
        synth, match = features[:, columns.synth], features[:, columns.match]
        return self.space.vectors(synth, match, self.space.statistics(synth, match), starts)

    # Voices -----------------------------------------------------------------------------------

    def prepare(
        self, target: MatchingSet, index: str = "auto", progress: Progress | None = None
    ) -> MiniTarget:
        """Index a voice; see `Converter.prepare`."""
        check_encoder(target, self.encoder)
        space, one, starts = self.space, target, target.frame_start
        statistics = space.statistics(one.synth, one.match)
        known = space.prior.tensors().values() if space.prior else ()
        searcher = build_searcher(
            one,
            index,
            lambda: space.vectors(one.synth, one.match, statistics, starts),
            [one.match, one.synth, starts, *known],
            repr(space.options),
            self.encoder.device,
            progress,
        )
        deviations = space.deviations(one.match) if space.options.balanced else None
        if space.options.candidates <= 1:
            return MiniTarget(one.synth, searcher, statistics, deviations=deviations)
        seams = torch.zeros(len(one.synth), dtype=torch.bool)
        seams[starts[starts < len(one.synth)]] = True
        joins = space.joins(one.synth, statistics)
        return MiniTarget(one.synth, searcher, statistics, joins, seams, deviations)

    # Converting -------------------------------------------------------------------------------

    def convert(
        self,
        features: Tensor,
        voices: Sequence[Weighted[MiniTarget]],
        options: MatchOptions | None = None,
        progress: Progress | None = None,
    ) -> Frames:
        """Turn features into frames of the voices; see `Converter.convert`."""
        k, lam, weighting = self.config.chosen(options)
        asked = options is not None and options.k is not None
        if lam == 0:
            return Frames(features[:, self.encoder.columns.synth])
        source = self._of_features(features, self._speaker_statistics)

        def made(target: MiniTarget, tell: Tell | None) -> Tensor:
            count = k if asked else self._fitting(k, target)
            return self._converted(target, source, count, weighting, tell)

        return blend_voices(voices, made, source.synth, lam, progress)

    @cached_property
    def _speaker_statistics(self) -> Statistics | None:
        """Those that hold for every source, if one speaker speaks them all."""
        return None if self._speaker is None else self._of_features(self._speaker()).statistics

    def _of_features(self, features: Tensor, statistics: Statistics | None = None) -> Source:
        columns = self.encoder.columns
        return self._source(features[:, columns.synth], features[:, columns.match], statistics)

    def _source(self, synth: Tensor, match: Tensor, statistics: Statistics | None = None) -> Source:
        """A source; by default with the statistics of its own columns."""
        return Source(synth, match, statistics or self.space.statistics(synth, match))

    def _converted(
        self, target: MiniTarget, source: Source, k: int, weighting: str, tell: Tell | None
    ) -> Tensor:
        """What one voice makes of a source [T, Ds], refined if there is a refiner."""
        found = self._averages(target, source, k, weighting, tell)
        made = kept = found.frames[self._kept(k)]
        if self.refiner is not None:
            refined = self.refiner.refine(*self._refiner_input(found.frames, target, source, k))
            known, said = target.statistics, source.match
            made = Correction(self.space).combine(kept, refined, said, known, found.deviations)
        self.space.soften_prosody(made, found.voicing)
        return made

    def _refiner_input(
        self, averaged: Mapping[int, Tensor], target: MiniTarget, source: Source, k: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
        """What `Refiner.refine` takes, from `selected` to `views`."""
        assert self.refiner is not None
        config, known = self.refiner.config, target.statistics
        views = [averaged[n][:, : config.width] for n in config.views]
        content = self.space.content(source.synth, source.match, source.statistics)
        return averaged[k], content, known.spectrum, known.vector, views

    def _fitting(self, k: int, target: MiniTarget) -> int:
        """`k`, or fewer where there is too little speech to hold so many frames that are alike."""
        each = self.space.options.frames_each
        if each == 0:
            return k
        return min(k, max(LEAST_NEIGHBOURS, target.statistics.frames // each))

    def _kept(self, k: int) -> int:
        """Of how many neighbours the mean is kept beside what the refiner makes of k."""
        return min(self.space.options.kept or k, k) if self.refiner else k

    def _averages(
        self,
        target: MiniTarget,
        source: Source,
        k: int,
        weighting: str,
        tell: Tell | None = None,
    ) -> Averages:
        """The means of the k nearest frames, of as many as are kept, and of the views."""
        synth, count = target.synth, len(source.synth)
        views = self.refiner.config.views if self.refiner else ()
        kept = self._kept(k)
        averaged = {n: torch.empty(count, synth.shape[1]) for n in {k, kept, *views}}
        most = max(k, min(max(averaged), target.searcher.frames))
        own, voicing = source.statistics, torch.empty(count)
        usual = target.deviations
        deviations = None if usual is None else torch.empty(count, usual.shape[1])
        for start in range(0, count, BLOCK):
            stop = min(count, start + BLOCK)
            span = (start, stop)
            wanted = self.space.vectors(source.synth, source.match, own, span=span)
            distances, rows = self._neighbours(target, wanted, most)
            for number, frames in averaged.items():
                weights = weigh(distances[:, :number], weighting)
                chosen = select(synth, rows[:, :number], weights)
                if number == k:
                    voicing[start:stop] = chosen[:, -1]
                if number == kept and usual is not None and deviations is not None:
                    deviations[start:stop] = select(usual, rows[:, :number], weights)
                leader = source.synth[start:stop]
                frames[start:stop] = self.space.finish(chosen, leader, own, target.statistics)
            if tell:
                tell(stop, count)
        return Averages(averaged, voicing, deviations)

    def _neighbours(self, target: MiniTarget, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and rows [M, k]; where joins count, the first one joins well."""
        if target.joins is None or target.seams is None:
            return target.searcher.search(vectors, k)
        options = self.space.options
        most = min(max(k, options.candidates), target.searcher.frames)
        distances, rows = target.searcher.search(vectors, most)
        path = follow(distances, rows, target.joins, options.join_weight, target.seams)
        order = path_first(rows, path)[:, :k]
        return distances.gather(1, order), rows.gather(1, order)


def load(spec: PartSpec, context: Context) -> MiniConverter:
    """The converter that a preset describes.

    Raises:
        KnnvcError: the encoder is another than mini's, or a file is damaged.
    """
    if not isinstance(context.encoder, MiniEncoder):
        raise KnnvcError(
            f"preset {context.preset!r} has mini's converter, which only mini's encoder serves: "
            "choose another converter"
        )
    config = MiniConfig.from_dict(spec.config)
    assert spec.weights is not None
    with torch.device("meta"):
        refiner = Refiner(RefinerConfig.from_dict(config.refiner))
    weights, prior = split_prior(as_single(read_tensors(spec.weights)[0]))
    refiner.load_state_dict(weights, assign=True)
    refiner = refiner.to(context.device).eval()
    if context.device.type == "cpu":
        accelerate(refiner)
    speaks = config.source == "text" and context.front_end is not None
    speaker = partial(_speaker_features, context) if speaks else None
    return MiniConverter(config, context.encoder, refiner, speaker, prior)


def _speaker_features(context: Context) -> Tensor:
    """Features [T, D] of the front end's own voice."""
    assert context.front_end is not None
    front_end: Any = context.front_end()
    found: Tensor = front_end.speaker_features()
    return found
