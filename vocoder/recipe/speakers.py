"""What the speakers of a corpus have in common: a prior of their mean envelopes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.speaker_prior import (
    LEAST_FRAMES,
    SpeakerPrior,
    Spoken,
    measure_prior,
    split_prior,
)
from knnvc.tensors import read_tensors, write_tensors
from knnvc.text.phones import STATES
from recipe.data import Utterance

SPEAKERS = "speakers.safetensors"  # beside the refiner's weights


def prior_for(
    space: AcousticSpace,
    utterances: Sequence[Utterance],
    folder: Path,
    start: Path | None = None,
) -> SpeakerPrior | None:
    """The prior that a refiner is trained with in `folder`, which keeps it.

    A resumed training has it already; another takes that of the weights in `start`, or else that of
    the `utterances`. None if they have too few speakers.
    """
    kept = prior_beside(folder / "refiner.safetensors")
    if kept is not None:
        return kept
    prior = None if start is None else prior_beside(start)
    if prior is None:
        prior = measured(space, utterances)
    if prior is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / SPEAKERS, prior.tensors(), {})
    return prior


def prior_beside(weights: Path) -> SpeakerPrior | None:
    """The prior that a refiner was trained with, whose file of weights is given; None if without.

    Raises:
        KnnvcError: the file is damaged.
    """
    path = weights.parent / SPEAKERS
    return split_prior(read_tensors(path)[0])[1] if path.exists() else None


def measured(space: AcousticSpace, utterances: Sequence[Utterance]) -> SpeakerPrior | None:
    """The prior of the speakers in `utterances` whose phones are known; None if they are too few.

    `space` says what an envelope is.
    """
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance)
    found = (_spoken(space, some) for some in by_speaker.values())
    speakers = [one for one in found if len(one.states) >= LEAST_FRAMES]
    return measure_prior(speakers, STATES) if len(speakers) > 1 else None


def _spoken(space: AcousticSpace, utterances: Sequence[Utterance]) -> Spoken:
    """The frames of one speaker that are speech."""
    states = torch.from_numpy(np.concatenate([u.states for u in utterances])).long()
    spectra = np.concatenate([u.mel.reshape(len(u.states), -1) for u in utterances])
    speech = states > 0
    frames = torch.from_numpy(spectra).float()[speech]
    return Spoken(space.envelope(frames), states[speech])
