"""Treble for recordings that have none, in the log-mel spectra that training reads.

The games' speech (`knnvc.training.recordings`) was sampled at 11 kHz or less. A refiner that is to
speak in such voices learns to leave the treble out, in full-band voices, too, which costs half a
point of predicted MOS. So the bands above a recording's end are predicted from those below, by a
regression on full-band speech, with the grain that it leaves unexplained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from knnvc.mini.vocal_tract import log_mel
from knnvc.training.augmentation import neighbours
from knnvc.training.data import Utterance
from knnvc.training.recordings import FULL_BANDS

Floats = npt.NDArray[np.float32]

UNITS = 400  # random rectified features (Rahimi and Recht 2007) beside the bands themselves
SPREAD = 1.5  # of their weights
RIDGE = 3.0
SILENCE = float(log_mel(torch.zeros(())))  # log-mel value of a band without sound
GRAIN = 0.7  # of the deviation that the regression leaves, so that outliers stay rare


@dataclass(frozen=True)
class BandExtension:
    """A regression from the lowest `cut` bands of three spectra to the other bands.

    `features` [3 · cut + 1, UNITS], `weights` [3 · cut + 1 + UNITS, mels - cut], `spread`
    [mels - cut] is what it leaves unexplained.
    """

    cut: int
    features: Floats
    weights: Floats
    spread: Floats

    @classmethod
    def fit(cls, spectra: Sequence[npt.NDArray[np.float16]], cut: int) -> BandExtension:
        """Learn from full-band log-mel `spectra`, each [S, mels], to continue the first `cut`."""
        width = 3 * cut + 1
        inner = np.random.default_rng(0).normal(0, SPREAD, (width, UNITS))
        features = (inner / np.sqrt(width)).astype(np.float32)
        square = RIDGE * np.eye(width + UNITS, dtype=np.float32)
        target = np.zeros((width + UNITS, spectra[0].shape[1] - cut), np.float32)
        for one in spectra:  # all of them lifted at once would be 0.8 GB an hour
            known = _lifted(one, cut, features)
            square += known.T @ known
            target += known.T @ one[:, cut:].astype(np.float32)
        weights = np.linalg.solve(square, target).astype(np.float32)
        rest = [one[:, cut:] - _lifted(one, cut, features) @ weights for one in spectra]
        return cls(cut, features, weights, np.concatenate(rest).std(0))

    def extend(
        self, spectra: npt.NDArray[np.float16], rng: np.random.Generator
    ) -> npt.NDArray[np.float16]:
        """`spectra` [S, mels] whose bands from `cut` on are what usually goes with the others."""
        made = _lifted(spectra, self.cut, self.features) @ self.weights
        made += rng.normal(0, GRAIN, made.shape) * self.spread
        bands = [spectra[:, : self.cut], np.maximum(made, SILENCE).astype(np.float16)]
        return np.concatenate(bands, axis=1)


def with_treble(recordings: list[Utterance], spoken: list[Utterance]) -> list[Utterance]:
    """The recordings, with the bands that theirs lack continued as in what is `spoken`."""
    extensions: dict[str, BandExtension] = {}
    rng, done = np.random.default_rng(0), []
    for recording in recordings:
        source = Path(recording.file).parts[1]
        if source in FULL_BANDS:
            if source not in extensions:
                spectra = [utterance.mel for utterance in spoken]
                extensions[source] = BandExtension.fit(spectra, FULL_BANDS[source])
            recording = replace(recording, mel=extensions[source].extend(recording.mel, rng))
        done.append(recording)
    return done


def _lifted(spectra: npt.NDArray[np.float16], cut: int, features: Floats) -> Floats:
    """What the regression reads [S, 3 · cut + 1 + UNITS] of `spectra` [S, mels]."""
    lower = torch.from_numpy(spectra[:, :cut].astype(np.float32))
    around = neighbours(lower[None])[0].numpy()
    read = np.concatenate([around, np.ones((len(lower), 1), np.float32)], axis=1)
    return np.concatenate([read, np.maximum(read @ features, 0)], axis=1)
