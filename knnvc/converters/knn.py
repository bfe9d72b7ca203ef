"""Published kNN-VC: replace every source frame by the mean of its k nearest frames of the target.

Baas, van Niekerk, Kamper: "Voice Conversion With Just Nearest Neighbors", Interspeech 2023,
https://arxiv.org/abs/2305.18975.

Shapes: M source frames, N frames in the matching set, k neighbours, Dm features to search in, Ds
features to build the output from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.converters.approximate import choose, content_hash, open_index
from knnvc.converters.base import T, Weighted, check_encoder, mix
from knnvc.converters.matching_set import MatchingSet
from knnvc.converters.search import Index, Searcher
from knnvc.encoders.base import Columns, Encoder
from knnvc.errors import KnnvcError, KnnvcWarning
from knnvc.frames import Frames
from knnvc.options import (
    K_MOST,
    LAM_MOST,
    WEIGHTINGS,
    ConvertOptions,
    MatchOptions,
    PartConfig,
    setting,
)
from knnvc.progress import Progress, Tell, part_of, stage
from knnvc.registry import Context, PartSpec

BLOCK = 4096  # frames matched at a time, which bounds the temporary memory
# Cosine distances of float32 unit vectors are exact to about 1e-7, so anything nearer than this is
# a match as good as an identical frame.
_NEAREST = 1e-6


@dataclass(frozen=True)
class KnnConfig(PartConfig, what="knn converter"):
    """What a preset recommends.

    Attributes:
        k: neighbours averaged.
        weighting: "mean", or "distance" to weigh near neighbours more.
        lam: λ.
    """

    k: int = setting(4, "Neighbours averaged.", "whole", least=1, most=K_MOST)
    weighting: str = setting("mean", "How neighbours are averaged.", "choice", choices=WEIGHTINGS)
    lam: float = setting(1.0, "λ.", "number", least=0, most=LAM_MOST)

    def chosen(self, options: MatchOptions | None) -> tuple[int, float, str]:
        """k, λ and weighting: what `options` say, or else this."""
        options = options or ConvertOptions()
        k = self.k if options.k is None else options.k
        lam = self.lam if options.lam is None else options.lam
        return k, lam, options.weighting or self.weighting


@dataclass(frozen=True, eq=False)
class KnnTarget:
    """A voice prepared for matching.

    Attributes:
        synth: [N, Ds] frames to build from.
        searcher: over the match columns of the same frames.
    """

    synth: Tensor
    searcher: Searcher


class KnnConverter:
    """A converter (`knnvc.converters.base`).

    Args:
        config: what holds where the options say nothing.
        encoder: whose features are converted.
    """

    def __init__(self, config: KnnConfig, encoder: Encoder) -> None:
        self.config = config
        self.encoder = encoder

    @property
    def columns(self) -> Columns:
        """Of the encoder's features."""
        return self.encoder.columns

    def prepare(
        self, target: MatchingSet, index: str = "auto", progress: Progress | None = None
    ) -> KnnTarget:
        """Index a voice; see `Converter.prepare`."""
        check_encoder(target, self.encoder)
        searcher = build_searcher(
            target, index, lambda: target.match, [target.match], "", self.encoder.device, progress
        )
        return KnnTarget(target.synth, searcher)

    def compared(self, features: Tensor, starts: Tensor | None = None) -> Tensor:
        """What is compared of `features` [T, D]: the match columns."""
        return features[:, self.columns.match]

    def convert(
        self,
        features: Tensor,
        voices: Sequence[Weighted[KnnTarget]],
        options: MatchOptions | None = None,
        progress: Progress | None = None,
    ) -> Frames:
        """Replace every source frame by the target's nearest; see `Converter.convert`."""
        k, lam, weighting = self.config.chosen(options)
        source = features[:, self.columns.synth]
        if lam == 0:
            return Frames(source)
        wanted = features[:, self.columns.match]

        def selected(target: KnnTarget, tell: Tell | None) -> Tensor:
            frames = torch.empty(len(wanted), target.synth.shape[1])
            for start in range(0, len(wanted), BLOCK):
                distances, rows = target.searcher.search(wanted[start : start + BLOCK], k)
                weights = weigh(distances, weighting)
                frames[start : start + len(rows)] = select(target.synth, rows, weights)
                if tell:
                    tell(start + len(rows), len(wanted))
            return frames

        return blend_voices(voices, selected, source, lam, progress)


def load(spec: PartSpec, context: Context) -> KnnConverter:
    """The converter that a preset describes."""
    assert context.encoder is not None
    return KnnConverter(KnnConfig.from_dict(spec.config), context.encoder)


def build_searcher(
    one: MatchingSet,
    index: str,
    vectors: Callable[[], Tensor],
    made_of: list[Tensor],
    settings: str,
    device: torch.device,
    progress: Progress | None = None,
) -> Searcher:
    """What finds neighbours in a set.

    Args:
        one: the set.
        index: kind, see `MatchOptions.index`.
        vectors: makes the vectors [N, Dv] to search in.
        made_of: the tensors that they are made of, and
        settings: how, which decide whether a kept index fits.
        device: where exact search runs.
        progress: see `knnvc.progress`.
    """
    kind = choose(index, len(one.match))
    if kind == "flat":
        return Index(vectors(), device)
    return open_index(
        kind,
        vectors,
        frames=len(one.match),
        keep=one.origin is not None,
        content=lambda: content_hash(kind, made_of, settings),
        progress=stage(progress, "indexing", len(one.match)),
        refused=_warn_unsaved,
    )


def _warn_unsaved(reason: KnnvcError) -> None:
    warnings.warn(f"the index is not kept: {reason}", KnnvcWarning, stacklevel=2)


def weigh(distances: Tensor, weighting: str = "mean") -> Tensor:
    """Turn cosine `distances` [M, k] into weights [M, k], non-negative, each row summing to 1.

    `mean` weighs all k neighbours alike, as published kNN-VC does. `distance` weighs by the
    squared inverse distance, as RVC does with faiss's squared Euclidean distances: between unit
    vectors those are 2 (1 - cos), and the factor cancels. Distances below 1e-6 count as 1e-6, so
    an exact match takes nearly all the weight and several exact matches share it.

    Raises:
        UsageError: `weighting` is neither of the two.
    """
    ConvertOptions(weighting=weighting)
    if weighting == "mean":
        return torch.full(distances.shape, 1 / distances.shape[-1])
    distances = distances.float().clamp_min(_NEAREST)
    # Relative to the nearest, so that every term lies in (0, 1] and nothing overflows.
    weights = (distances.amin(dim=-1, keepdim=True) / distances).square()
    return weights / weights.sum(dim=-1, keepdim=True)


def select(synth: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Average the neighbours: out[m] = sum over j of weights[m, j] * synth[indices[m, j]].

    Args:
        synth: features to build the output from, float32 [N, Ds].
        indices: int64 [M, k], rows of `synth`.
        weights: float32 [M, k].

    Returns:
        float32 [M, Ds]. The selected frames [M, k, Ds] are never held at once.

    Raises:
        KnnvcError: an index lies outside `synth`, or the shapes disagree.
    """
    if synth.ndim != 2 or indices.ndim != 2 or indices.shape != weights.shape:
        raise KnnvcError(
            f"cannot select frames from shape {tuple(synth.shape)} with indices "
            f"{tuple(indices.shape)} and weights {tuple(weights.shape)}: "
            "give [N, D], [M, k] and [M, k]"
        )
    if indices.numel() and not (indices.min() >= 0 and indices.max() < len(synth)):
        raise KnnvcError(
            f"neighbour indices reach outside the {len(synth)} frames of the matching set: "
            "search and select in the same set"
        )
    return functional.embedding_bag(
        indices.long(), synth.float(), per_sample_weights=weights.float(), mode="sum"
    )


def blend(selected: Tensor, source: Tensor, lam: float) -> Tensor:
    """Mix the target's frames with the source's: lam * selected + (1 - lam) * source, all [M, Ds].

    lam = 1 is pure kNN-VC and returns `selected` itself, lam = 0 returns `source` itself; between
    them the voice lies between the two speakers, and above 1 it moves past the target.

    Raises:
        UsageError: `lam` lies outside 0 to 2.
        KnnvcError: the shapes differ.
    """
    ConvertOptions(lam=lam)
    if selected.shape != source.shape:
        raise KnnvcError(
            f"cannot blend target frames {tuple(selected.shape)} with source frames "
            f"{tuple(source.shape)}: take both from the same layer of the same preset"
        )
    if lam == 1:
        return selected
    if lam == 0:
        return source
    return lam * selected + (1 - lam) * source


def blend_voices(
    voices: Sequence[Weighted[T]],
    made: Callable[[T, Tell | None], Tensor],
    source: Tensor,
    lam: float,
    progress: Progress | None = None,
) -> Frames:
    """The weighted sum of the voices' frames, mixed with the source's.

    Args:
        voices: what `prepare` made, and shares that sum to 1.
        made: gives a voice's frames [M, Ds], a tensor of its own, and tells how far it is.
        source: frames [M, Ds].
        lam: λ, above 0.
        progress: see `knnvc.progress`.
    """
    total = len(voices) * len(source)
    tell = stage(progress, "matching", total)
    mixed: Tensor | None = None
    for number, (target, weight) in enumerate(voices):
        frames = made(target, part_of(tell, number * len(source), total))
        mixed = mix(mixed, frames, weight)
    assert mixed is not None
    return Frames(blend_in_place(mixed, source, lam))


def blend_in_place(selected: Tensor, source: Tensor, lam: float) -> Tensor:
    """`blend` of both [M, Ds] into `selected`, without another copy of them."""
    if lam != 1:
        for start in range(0, len(selected), BLOCK):
            part = selected[start : start + BLOCK]
            part.copy_(blend(part, source[start : start + BLOCK], lam))
    return selected
