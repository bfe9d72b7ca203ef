"""The vectors in which a preset really compares frames, for plots and probes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.converters.matching_set import MatchingSet
from knnvc.pipeline import VoiceConverter


def compared(converter: VoiceConverter, features: Tensor, starts: Tensor | None = None) -> Tensor:
    """Unit vectors [T, Dv], whose dot products are the similarities that matching goes by.

    Args:
        converter: whose rule compares.
        features: [T, D] of one speaker, as `VoiceConverter.encode` makes them.
        starts: [F] first frames of the recordings; None is one recording.
    """
    vectors = converter.converter.compared(features, starts)
    return functional.normalize(vectors.float(), dim=1)


def of_set(converter: VoiceConverter, one: MatchingSet) -> Tensor:
    """`compared` [N, Dv] of a matching set."""
    columns = converter.encoder.columns
    width = max(int(columns.synth.stop), int(columns.match.stop))
    features = torch.empty(len(one.match), width)
    features[:, columns.synth] = one.synth
    features[:, columns.match] = one.match
    return compared(converter, features, one.frame_start)


def of_features(converter: VoiceConverter, features: Tensor) -> Tensor:
    """`compared` [T, Dv] of features [T, D] of one recording."""
    return compared(converter, features)


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
