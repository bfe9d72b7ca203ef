"""`mini`'s converter: phones, envelope and pitch; unit selection; a refiner; speaker adaptation.

It differs from published kNN-VC, whose features carry their context themselves. Frames are compared
in an acoustic space (`knnvc.mini.acoustic_space`), selected frames follow the source's pitch and
level, a small network smooths them (`knnvc.mini.refiner`), and refiner and vocoder are adapted to
each voice (`knnvc.mini.adaptation`).

T source frames, N frames of the target, Ds and Dm columns (`knnvc.mini.format`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from knnvc.converters.base import Weighted, check_encoder, mix
from knnvc.converters.knn import BLOCK, blend_in_place, build_searcher, select, weigh
from knnvc.converters.matching_set import Adaptation, MatchingSet
from knnvc.converters.search import Searcher
from knnvc.errors import KnnvcError
from knnvc.frames import Frames
from knnvc.kernels import accelerate
from knnvc.mini.acoustic_space import SETTINGS, AcousticSpace, Statistics
from knnvc.mini.adaptation import (
    LEAST_ADAPTED,
    MOST_ADAPTED,
    MOST_REFERENCE,
    REFINER_PENALTY,
    VOCODER_PENALTY,
    RefinerFit,
    VocoderFit,
    frames_of,
    part_of_set,
    parted,
    pieces,
    read_voices,
    two_voices_of,
)
from knnvc.mini.encoder import MiniEncoder
from knnvc.mini.format import MEL_SCALE
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.mini.unit_selection import follow, path_first
from knnvc.options import (
    K_MOST,
    LAM_MOST,
    WEIGHTINGS,
    Checked,
    ConvertOptions,
    MatchOptions,
    from_dict,
    setting,
    to_dict,
)
from knnvc.progress import Progress, Tell, part_of, stage
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, read_tensors
from knnvc.vocoders.chunked import ChunkedVocoder
from knnvc.vocoders.source_filter import SourceFilterVocoder


@dataclass(frozen=True)
class MiniConfig(Checked):
    """What a preset says of the converter.

    Attributes:
        k: neighbours averaged for the refiner to read.
        weighting: "mean", or "distance" to weigh near neighbours more.
        lam: λ.
        source: whether "recordings" are converted or "text", whose phones are known.
        refiner: of a `RefinerConfig`.
    """

    k: int = setting(4, "Neighbours averaged.", "whole", least=1, most=K_MOST)
    weighting: str = setting("mean", "How neighbours are averaged.", "choice", choices=WEIGHTINGS)
    lam: float = setting(1.0, "λ.", "number", least=0, most=LAM_MOST)
    source: str = setting("recordings", "What is converted.", "choice", choices=tuple(SETTINGS))
    refiner: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MiniConfig:
        """Build from a preset's JSON.

        Raises:
            KnnvcError: a key is unknown, or a value not allowed.
        """
        made = from_dict(cls, values, "mini converter")
        if not isinstance(made.refiner, Mapping):
            raise KnnvcError("the mini converter settings are damaged: refiner must be an object")
        RefinerConfig.from_dict(made.refiner)
        return made

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return to_dict(self)


@dataclass(frozen=True, eq=False)
class MiniTarget:
    """A voice prepared for matching.

    Attributes:
        synth: [N, Ds] frames to build from.
        searcher: over the vectors of the acoustic space.
        statistics: of the speaker.
        joins: what `unit_selection.follow` needs, or None where joins do not count: [N, J].
        seams: bool [N], the first frames of recordings, with `joins`.
        refiner: adaptation of the refiner, or None.
        vocoder: adaptation of the vocoder, or None.
    """

    synth: Tensor
    searcher: Searcher
    statistics: Statistics
    joins: Tensor | None = None
    seams: Tensor | None = None
    refiner: Tensor | None = None
    vocoder: Tensor | None = None


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
        vocoder: that the frames are for, which is adapted to each voice if it can be.
        refiner: smooths selected frames; None leaves them.
        others: voices that references are converted into, and back, to adapt the refiner; without
            any, the voice's own with other formants serves.
        speaker: makes features [T, D] of the source's speaker, whose statistics then hold for every
            source; None takes them from each source.
    """

    def __init__(
        self,
        config: MiniConfig,
        encoder: MiniEncoder,
        vocoder: Any = None,
        refiner: Refiner | None = None,
        others: Sequence[MatchingSet] = (),
        speaker: Callable[[], Tensor] | None = None,
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.refiner = refiner
        self.others = tuple(others)
        self._vocoder = vocoder
        self._speaker = speaker
        mel = encoder.network.config
        self.space = AcousticSpace(SETTINGS[config.source], mel.mels, mel.substeps)

    @cached_property
    def refiner_fingerprint(self) -> str:
        """Identifies the refiner in an adaptation; "" where there is none."""
        return fingerprint(self.refiner) if self.refiner else ""

    @property
    def vocoder_fingerprint(self) -> str:
        """Identifies the vocoder in an adaptation; "" where it takes none."""
        return str(self._vocoder.fingerprint) if self._adaptable else ""

    @property
    def _adaptable(self) -> bool:
        return isinstance(getattr(self._vocoder, "network", None), SourceFilterVocoder)

    @cached_property
    def cache_key(self) -> tuple[str, ...]:
        """What decides an adaptation, besides the recordings and the encoder."""
        networks = (self.refiner_fingerprint, self.vocoder_fingerprint)
        if self.refiner is None:
            return networks
        digest = hashlib.sha256()
        for one in self.others:
            digest.update(one.match.numpy().tobytes() + one.synth.numpy().tobytes())
        limits = (LEAST_ADAPTED, MOST_ADAPTED, MOST_REFERENCE, REFINER_PENALTY, VOCODER_PENALTY)
        settings = (self.config.k, self.config.weighting, self.space.options, limits)
        return (*networks, repr(settings), digest.hexdigest())

    def compared(self, features: Tensor, starts: Tensor | None = None) -> Tensor:
        """Vectors [T, Dv] of the acoustic space for `features` [T, D]; see `Converter.compared`."""
        columns = self.encoder.columns
        synth, match = features[:, columns.synth], features[:, columns.match]
        return self.space.vectors(synth, match, self.space.statistics(synth, match), starts)

    # Voices -----------------------------------------------------------------------------------

    def adapt(self, one: MatchingSet, progress: Progress | None = None) -> MatchingSet:
        """The set with adaptations of refiner and vocoder, as far as there is enough of it."""
        found = dict(one.adaptations)
        fits: dict[str, Callable[[], Adaptation | None]] = {
            "vocoder": lambda: self._adapt_vocoder(one),
            "refiner": lambda: self._adapt_refiner(one, progress),
        }
        for name, fit in fits.items():
            if self._adaptation(one, name) is None:
                found.pop(name, None)
                made = fit()
                if made is not None:
                    found[name] = made
        return one if found == one.adaptations else replace(one, adaptations=found)

    def prepare(
        self, target: MatchingSet, index: str = "auto", progress: Progress | None = None
    ) -> MiniTarget:
        """Index a voice, and adapt refiner and vocoder to it; see `Converter.prepare`.

        A set that was saved with its adaptations is not adapted again.
        """
        check_encoder(target, self.encoder)
        adapted = self.adapt(target, progress)
        return replace(
            self._indexed(target, index, progress),
            refiner=self._adaptation(adapted, "refiner"),
            vocoder=self._adaptation(adapted, "vocoder"),
        )

    def _indexed(
        self, one: MatchingSet, index: str = "flat", progress: Progress | None = None
    ) -> MiniTarget:
        """A voice without adaptations."""
        space, starts = self.space, one.frame_start
        statistics = space.statistics(one.synth, one.match)
        searcher = build_searcher(
            one,
            index,
            lambda: space.vectors(one.synth, one.match, statistics, starts),
            [one.match, one.synth, starts],
            repr(space.options),
            self.encoder.device,
            progress,
        )
        if space.options.candidates <= 1:
            return MiniTarget(one.synth, searcher, statistics)
        seams = torch.zeros(len(one.synth), dtype=torch.bool)
        seams[starts[starts < len(one.synth)]] = True
        return MiniTarget(
            one.synth, searcher, statistics, space.joins(one.synth, statistics), seams
        )

    def _adaptation(self, one: MatchingSet, name: str) -> Tensor | None:
        """The adaptation of one network that the set holds, if it is for ours."""
        found = one.adaptations.get(name)
        if found is None:
            return None
        if name == "refiner" and self.refiner is not None:
            config = self.refiner.config
            wanted = (self.refiner_fingerprint, (config.channels + 1, config.width))
        elif name == "vocoder" and self._adaptable:
            network = self._vocoder.network.config
            wanted = (self.vocoder_fingerprint, (network.channels + 1, network.mels))
        else:
            return None
        return found.weights if (found.network, tuple(found.weights.shape)) == wanted else None

    def _adapt_vocoder(self, one: MatchingSet) -> Adaptation | None:
        """What makes the vocoder give pieces of the set as they were spoken."""
        if not self._adaptable:
            return None
        fit = VocoderFit(self._vocoder.network, self.encoder.network.log_mel, MEL_SCALE)
        return Adaptation(fit.of_set(one), self.vocoder_fingerprint)

    @torch.inference_mode()
    def _adapt_refiner(self, one: MatchingSet, progress: Progress | None) -> Adaptation | None:
        """What makes the refiner give pieces of the set as they were spoken.

        They are converted into other voices, and from there back by the rest of the set, so what
        they should become is known (back-translation, Sennrich et al. 2016,
        https://aclanthology.org/P16-1009).
        """
        refiner = self.refiner
        if refiner is None:
            return None
        chosen, rest = parted(pieces(one))
        if not chosen:
            return None
        kept = part_of_set(one, rest)
        target = self._indexed(kept)
        voices = self.others or two_voices_of(kept, self.space.mels)
        others = [self._indexed(voice) for voice in voices]
        fit, total = RefinerFit(refiner), frames_of(chosen)
        tell = stage(progress, "adapting", total)
        k, weighting = self.config.k, self.config.weighting
        for number, piece in enumerate(chosen):
            spoken = self._source(one.synth[piece], one.match[piece])
            other = others[number % len(others)]
            converted = self._converted(other, spoken, k, weighting, adapted=False)
            source = self._of_features(self.encoder.complete(converted))
            averaged = self._averages(target, source, k, weighting)
            truth = spoken.synth[:, : refiner.config.width]
            fit.add(truth, *self._refiner_input(averaged, target, source, k))
            if tell:
                tell(fit.frames, total)
        return Adaptation(fit.solve(), self.refiner_fingerprint)

    # Converting -------------------------------------------------------------------------------

    def convert(
        self,
        features: Tensor,
        voices: Sequence[Weighted[MiniTarget]],
        options: MatchOptions | None = None,
        progress: Progress | None = None,
    ) -> Frames:
        """Turn features into frames of the voices; see `Converter.convert`."""
        options = options or ConvertOptions()
        k = self.config.k if options.k is None else options.k
        lam = self.config.lam if options.lam is None else options.lam
        weighting = options.weighting or self.config.weighting
        if lam == 0:
            return Frames(features[:, self.encoder.columns.synth])
        source = self._of_features(features, self._speaker_statistics)
        total = len(voices) * len(features)
        tell = stage(progress, "matching", total)
        made: Tensor | None = None
        adaptation: Tensor | None = None
        for number, (target, weight) in enumerate(voices):
            told = part_of(tell, number * len(features), total)
            adapted = target.refiner is not None
            frames = self._converted(target, source, k, weighting, adapted=adapted, tell=told)
            made = mix(made, frames, weight)
            if target.vocoder is not None:
                share = target.vocoder * (weight * min(lam, 1.0))
                adaptation = share if adaptation is None else adaptation + share
        assert made is not None
        return Frames(blend_in_place(made, source.synth, lam), adaptation)

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
        self,
        target: MiniTarget,
        source: Source,
        k: int,
        weighting: str,
        *,
        adapted: bool,
        tell: Tell | None = None,
    ) -> Tensor:
        """What one voice makes of a source: [T, Ds], selected and, if there is a refiner, refined.

        `adapted` says whether the envelope may stay the selected frames' own.
        """
        averaged = self._averages(target, source, k, weighting, tell, adapted)
        kept = averaged[self._kept(k)]
        if self.refiner is None:
            return kept
        given = self._refiner_input(averaged, target, source, k)
        refined = self.refiner.refine(*given, target.refiner)
        return self.space.combine(kept, refined, source.match, target.statistics)

    def _refiner_input(
        self, averaged: Mapping[int, Tensor], target: MiniTarget, source: Source, k: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
        """What `Refiner.refine` takes, from `selected` to `views`."""
        assert self.refiner is not None
        config, known = self.refiner.config, target.statistics
        views = [averaged[n][:, : config.width] for n in config.views]
        content = self.space.content(source.synth, source.match, source.statistics)
        return averaged[k], content, known.spectrum, known.vector, views

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
        adapted: bool = True,
    ) -> dict[int, Tensor]:
        """The means [T, Ds] of the k nearest frames, of as many as are kept, and of the views.

        `adapted` is as of `AcousticSpace.finish`.
        """
        synth, count = target.synth, len(source.synth)
        views = self.refiner.config.views if self.refiner else ()
        averaged = {n: torch.empty(count, synth.shape[1]) for n in {k, self._kept(k), *views}}
        most = max(k, min(max(averaged), target.searcher.frames))
        own = source.statistics
        for start in range(0, count, BLOCK):
            stop = min(count, start + BLOCK)
            span = (start, stop)
            wanted = self.space.vectors(source.synth, source.match, own, span=span)
            distances, rows = self._neighbours(target, wanted, most)
            for number, frames in averaged.items():
                weights = weigh(distances[:, :number], weighting)
                chosen = select(synth, rows[:, :number], weights)
                leader = source.synth[start:stop]
                frames[start:stop] = self.space.finish(
                    chosen, leader, own, target.statistics, adapted
                )
            if tell:
                tell(stop, count)
        return averaged

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
    refiner.load_state_dict(as_single(read_tensors(spec.weights)[0]), assign=True)
    refiner = refiner.to(context.device).eval()
    if context.device.type == "cpu":
        accelerate(refiner)
    speaks = config.source == "text" and context.front_end is not None
    speaker = partial(_speaker_features, context) if speaks else None
    others = read_voices(spec.assets["voices"], context.encoder) if "voices" in spec.assets else []
    vocoder = context.vocoder if isinstance(context.vocoder, ChunkedVocoder) else None
    return MiniConverter(config, context.encoder, vocoder, refiner, others, speaker)


def _speaker_features(context: Context) -> Tensor:
    """Features [T, D] of the front end's own voice."""
    assert context.front_end is not None
    front_end: Any = context.front_end()
    found: Tensor = front_end.speaker_features()
    return found
