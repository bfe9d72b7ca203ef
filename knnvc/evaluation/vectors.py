"""The vectors in which a preset really compares frames, for plots and probes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.converters.matching_set import MatchingSet
from knnvc.pipeline import VoiceConverter


def compared(
    converter: VoiceConverter, match: Tensor, synth: Tensor, starts: Tensor | None = None
) -> Tensor:
    """Unit vectors [N, Dv], whose dot products are the similarities that matching goes by.

    They are made of the match columns [N, Dm]; a preset with an acoustic space adds context,
    envelope and pitch, normalised by the statistics of the one speaker of all N frames. `starts`
    [F] are the first frames of the recordings.
    """
    vectors = match
    if converter.space is not None:
        statistics = converter.space.statistics(synth, match)
        vectors = converter.space.vectors(synth, match, statistics, starts)
    return functional.normalize(vectors.float(), dim=1)


def of_set(converter: VoiceConverter, one: MatchingSet) -> Tensor:
    """`compared` [N, Dv] of a matching set."""
    return compared(converter, one.match, one.synth, one.frame_start)


def of_features(converter: VoiceConverter, features: Tensor) -> Tensor:
    """`compared` [T, Dv] of features [T, D] as `VoiceConverter.encode` makes them."""
    columns = converter.encoder.columns
    return compared(converter, features[:, columns.match], features[:, columns.synth])


def principal_components(vectors: Tensor, count: int = 3) -> tuple[Tensor, Tensor]:
    """Coordinates [N, count] on the axes of largest variance, and their shares [count] of it.

    The sign of an axis is chosen so that its largest coordinate is positive.
    """
    centred = (vectors - vectors.mean(0)).double()
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    found = centred @ axes[:count].T
    largest = found.abs().argmax(0)
    signs = torch.sign(found[largest, torch.arange(found.shape[1])])
    shares = values.square() / values.square().sum()
    return (found * signs).float(), shares[:count].float()
