"""Other voices for utterances: a source that is disguised, a speaker who never was."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.vocal_tract import log_mel
from recipe.augmentation import channel_curve, degrade, noise_floor, recast, stretch
from recipe.voices import Listener, Piece

TEMPO = 0.2  # natural logarithm of the largest change of pitch and tempo
FORMANTS = 0.22  # and of the vocal tract on top of it
RECAST_SHARE = 0.85  # of the pieces are of a speaker with another vocal tract and microphone
RECAST_FORMANTS = 0.15  # natural logarithm of the largest change
RECAST_COLOUR = 0.6  # standard deviation, in natural logarithms of the magnitude

Recasting: TypeAlias = Callable[[Tensor], Tensor]


def disguised(
    listener: Listener,
    chosen: list[Piece],
    frames: int,
    degraded: bool,
    rng: np.random.Generator,
) -> Tensor:
    """What is heard [B, frames, columns] of the pieces' sources at another pitch, pace, tract.

    All columns of synthesis and match, at the pace of the originals; `degraded` ones are noisy
    or reverberant, too.
    """
    ratio = float(np.exp(rng.uniform(-TEMPO, TEMPO)))
    length = round(frames / ratio)
    magnitudes = [
        stretch(
            task.source.mel,
            2 * start,
            2 * length,
            ratio,
            ratio * float(np.exp(rng.uniform(-FORMANTS, FORMANTS))),
        )
        for task, start in chosen
    ]
    energy = torch.from_numpy(np.stack(magnitudes)).float()
    if degraded:
        energy = degrade(energy, rng).float()
    mel = log_mel(energy).reshape(len(chosen), length, -1)
    said, pitch, voicing = listener.encode(mel)
    heard = torch.stack([pitch - np.log2(ratio), voicing], -1)
    return resample(torch.cat([mel, heard, said], -1), frames, ratio)


def resample(features: Tensor, frames: int, ratio: float) -> Tensor:
    """`features` [B, T, D] of speech played `ratio` times as fast, at its own pace again."""
    at = ((torch.arange(frames) + 0.5) / ratio - 0.5).clamp(0, features.shape[1] - 1)
    low = at.long().clamp(max=features.shape[1] - 2)
    share = (at - low)[:, None]
    return features[:, low] * (1 - share) + features[:, low + 1] * share


def other_speaker(space: AcousticSpace, rng: np.random.Generator) -> Recasting:
    """What makes another speaker of all frames [N, Ds] of one, in most of the cases."""
    formants = other_tract(rng)
    return same_speaker if formants is None else recasting(space, formants, rng)


def same_speaker(synth: Tensor) -> Tensor:
    """The frames [N, Ds] as they are."""
    return synth


def other_tract(rng: np.random.Generator) -> float | None:
    """By which factor formants move in a speaker that is recast; None for one that is not."""
    if rng.random() >= RECAST_SHARE:
        return None
    return float(np.exp(rng.uniform(-RECAST_FORMANTS, RECAST_FORMANTS)))


def recasting(space: AcousticSpace, formants: float, rng: np.random.Generator) -> Recasting:
    """What moves the formants of frames [N, Ds], and has them heard in another room."""
    width = space.mels * space.substeps
    colour = channel_curve(space.mels, RECAST_COLOUR, rng)
    floor = noise_floor(space.mels, rng)

    def apply(synth: Tensor) -> Tensor:
        spectra = recast(synth[:, :width], space.mels, formants, colour, floor)
        return torch.cat([spectra, synth[:, width:]], dim=1)

    return apply
