"""BYOL-A: two-dimensional convolutions over log-mel spectra, one embedding every 80 or 40 ms.

Niizumi et al. 2021, https://arxiv.org/abs/2103.06695 (AudioNTT2020: three blocks, pooled by 8),
and 2023, https://arxiv.org/abs/2204.07402 (AudioNTT2022: two blocks, pooled by 4, with the
convolutions' output beside the MLP's). Parameter names are those of the published files, whose
licence allows evaluation only: who wants them brings them.

B batch, S samples, T frames, M spectra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from knnvc.encoders.base import layer_columns
from knnvc.encoders.chunked import CHUNK_SECONDS, CONTEXT_SECONDS, ChunkedEncoder
from knnvc.encoders.mel import Mel, MelConfig
from knnvc.errors import KnnvcError
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, fit_state, read_tensors

# Mean and standard deviation of log-mel spectra that the authors' examples use. They are a data
# set's: whoever has another one gives its own.
STATISTICS = {3: (-5.4919195, 5.0389895), 2: (-9.660292, 4.7219563)}
_LAST_CONVOLUTION = 64  # channels


@dataclass(frozen=True)
class ByolConfig(PartConfig, what="BYOL-A"):
    """Dimensions of a `Byol`.

    Attributes:
        blocks: of convolutions, each of which halves time and bands: 3 in 2021, 2 in 2023.
        channels: of the convolutions.
        bands: of the log-mel spectrum, from 60 to 7800 Hz.
        hidden: columns between the two linear layers.
        out: columns of the second one.
        stack: whether the convolutions' output stands before the second layer's (2023).
        mean: of the log-mel spectra, over all bands and frames of the data.
        std: their standard deviation.
        slaney: the bands' scale and area; the authors' code of 2023 has Slaney's, of 2021 HTK's.
    """

    blocks: int = setting(3, "Blocks.", "whole", least=1, most=6)
    channels: int = setting(_LAST_CONVOLUTION, "Channels.", "whole", least=1, most=4096)
    bands: int = setting(64, "Bands.", "whole", least=8, most=512)
    hidden: int = setting(2048, "Columns.", "whole", least=1, most=1 << 16)
    out: int = setting(2048, "Columns.", "whole", least=1, most=1 << 16)
    stack: bool = setting(False, "Shortcut.", "flag")
    mean: float = setting(STATISTICS[3][0], "Mean.", "number", least=-1000, most=1000)
    std: float = setting(STATISTICS[3][1], "Spread.", "number", least=1e-6, most=1000)
    slaney: bool = setting(False, "Scale.", "flag")

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], **chosen: Any) -> ByolConfig:
        """The dimensions that published weights have; `chosen` are `mean` and `std`.

        Raises:
            KnnvcError: they are no weights of BYOL-A, or `chosen` has something else.
        """
        if unknown := sorted(set(chosen) - {"mean", "std"}):
            raise KnnvcError(f"BYOL-A takes mean and std, not {unknown[0]}: leave it out")
        try:
            blocks = sum(f"features.{4 * number}.weight" in state for number in range(6))
            channels = state["features.0.weight"].shape[0]
            hidden, wide = state["fc.0.weight"].shape
            out = state["fc.3.weight"].shape[0]
            stack = blocks < 3
            mean, std = STATISTICS[2 if stack else 3]
            values = {"mean": mean, "std": std, **chosen}
            bands = wide // channels * 2**blocks
            return cls(blocks, channels, bands, hidden, out, stack, slaney=stack, **values)
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise KnnvcError(
                f"these are no weights of BYOL-A (no {error}): give a file of the authors, such as "
                "AudioNTT2020-BYOLA-64x96d512.pth"
            ) from error

    @property
    def mel(self) -> MelConfig:
        """The log-mel spectra that it reads: 16 kHz, 64 ms every 10 ms."""
        return MelConfig(
            num_mels=self.bands,
            fmin=60.0,
            fmax=7800.0,
            center=True,
            power=2,
            scale="slaney" if self.slaney else "htk",
            norm=self.slaney,
            floor=0.0,
            added=torch.finfo(torch.float32).eps,
        )


class Byol(nn.Module):
    """Waveforms [B, S] to time-stamped embeddings [B, T, D]; `mean_max` makes one of a clip."""

    def __init__(self, config: ByolConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = Mel(config.mel)
        pooled = 2**config.blocks
        self.sample_rate, self.hop = self.mel.sample_rate, self.mel.hop * pooled
        # Spectra are one more than hops, and a frame is `pooled` of them.
        self.window_samples = (pooled - 1) * self.mel.hop
        layers: list[nn.Module] = []
        inputs = 1
        for _ in range(config.blocks):
            layers += [
                nn.Conv2d(inputs, config.channels, 3, padding=1),
                nn.BatchNorm2d(config.channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            inputs = config.channels
        self.features = nn.Sequential(*layers)
        wide = config.channels * (config.bands // pooled)
        self.fc = nn.Sequential(
            nn.Linear(wide, config.hidden),
            nn.ReLU(),
            nn.Identity(),  # dropout in training; keeps the published names
            nn.Linear(config.hidden, config.out),
            nn.ReLU(),
        )
        self.columns = layer_columns([config.out + (wide if config.stack else 0)])

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, T, D]."""
        return self.embed((self.mel(waveform) - self.config.mean) / self.config.std)

    def embed(self, spectra: Tensor) -> Tensor:
        """Normalised log-mel spectra [B, M, bands] -> [B, T, D]."""
        hidden: Tensor = self.features(spectra.transpose(1, 2)[:, None])  # [B, C, bands', T]
        rows = hidden.permute(0, 3, 2, 1).flatten(2)  # the channels of a band stand together
        made: Tensor = self.fc(rows)
        return torch.cat([rows, made], dim=2) if self.config.stack else made


def mean_max(features: Tensor) -> Tensor:
    """One embedding [D] of a clip's frames [T, D], as the authors pool them: maximum plus mean."""
    return features.amax(0) + features.mean(0)


def load(spec: PartSpec, context: Context) -> ChunkedEncoder:
    """The encoder that a preset describes."""
    assert spec.weights is not None
    return build(spec, as_single(read_tensors(spec.weights)[0]), context)


def build(spec: PartSpec, state: Mapping[str, Tensor], context: Context) -> ChunkedEncoder:
    """The encoder with the weights `state`.

    Raises:
        KnnvcError: they do not fit the configuration.
    """
    config = ByolConfig.from_dict(spec.config)
    counted = {name: one for name, one in state.items() if not name.endswith("batches_tracked")}
    network = Byol(config)
    own = {n: t for n, t in network.state_dict().items() if n.endswith("batches_tracked")}
    fit_state(network, {**own, **counted}, "encoder")
    return ChunkedEncoder(
        network,
        context.device,
        spec.seconds("chunk", context.chunk, CHUNK_SECONDS),
        spec.seconds("context", None, CONTEXT_SECONDS),
        identity=f"{fingerprint(network)} {config.mean} {config.std}",
    )
