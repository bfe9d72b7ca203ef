"""Vocos: ConvNeXt blocks at the frame rate, then an inverse short-time Fourier transform.

Siuzdak 2024, https://arxiv.org/abs/2306.00814. Parameter names equal those of the published
`pytorch_model.bin`; settings are those of its `config.yaml`.

B batch, C channels, T frames, D columns of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.errors import KnnvcError
from knnvc.kernels import accelerate
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fit_state, read_tensors
from knnvc.vocoders.chunked import ChunkedVocoder

KERNEL = 7  # taps of every convolution over frames
LOUDEST = 100.0  # the largest magnitude, as published
_EPSILON = 1e-6  # of every layer norm


@dataclass(frozen=True)
class VocosConfig(PartConfig, what="Vocos"):
    """Architecture of one Vocos, with the names of its config.yaml.

    Attributes:
        sample_rate: Hz.
        input_channels: columns of a frame.
        dim: channels.
        intermediate_dim: channels between a block's two linear layers.
        num_layers: blocks.
        n_fft: samples of the Fourier transform and its window.
        hop_length: samples of a frame.
        padding: "center" (the first frame's middle is sample 0) or "same".
    """

    sample_rate: int = setting(24_000, "Hz.", "whole", least=1000, most=768_000)
    input_channels: int = setting(100, "Columns.", "whole", least=1, most=1 << 16)
    dim: int = setting(512, "Channels.", "whole", least=1, most=1 << 14)
    intermediate_dim: int = setting(1536, "Channels.", "whole", least=1, most=1 << 16)
    num_layers: int = setting(8, "Blocks.", "whole", least=1, most=200)
    n_fft: int = setting(1024, "Samples.", "whole", least=4, most=1 << 15)
    hop_length: int = setting(256, "Samples.", "whole", least=1, most=1 << 14)
    padding: str = setting("center", "Edges.", "choice", choices=("center", "same"))

    def __post_init__(self) -> None:
        """Check every field, and the hop."""
        super().__post_init__()
        if 2 * self.hop_length > self.n_fft or (self.n_fft - self.hop_length) % 2:
            raise KnnvcError(
                "this is not a usable Vocos configuration: hop_length is at most half of n_fft, "
                "and both are even or odd"
            )


class Vocos(nn.Module):
    """Mel spectra [B, T, D] to waveform [B, 1, T · hop], at `sample_rate` Hz."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.hop = config.input_channels, config.hop_length
        self.sample_rate = config.sample_rate
        overlap = -(-config.n_fft // config.hop_length)
        self.context_frames = KERNEL // 2 * (config.num_layers + 1) + overlap
        self.backbone, self.head = Backbone(config), Head(config)

    def prepare(self, features: Tensor) -> Tensor:
        """Return features [T, D] as they are: `forward` looks only at `context_frames` frames."""
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Turn mel spectra [B, T, D] into a waveform [B, 1, T · hop]."""
        made: Tensor = self.head(self.backbone(features))
        return made[:, None]


class Backbone(nn.Module):
    """ConvNeXt blocks: [B, T, D] -> [B, T, C]."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.embed = nn.Conv1d(config.input_channels, config.dim, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(config.dim, eps=_EPSILON)
        self.convnext = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=_EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        """`features` [B, T, D] -> [B, T, C]."""
        hidden = self.norm(self.embed(features.transpose(1, 2)).transpose(1, 2))
        for block in self.convnext:
            hidden = block(hidden)
        made: Tensor = self.final_layer_norm(hidden)
        return made


class Block(nn.Module):
    """A depth-wise convolution and two linear layers around a shortcut: [B, T, C] to the same."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(
            config.dim, config.dim, KERNEL, padding=KERNEL // 2, groups=config.dim
        )
        self.norm = nn.LayerNorm(config.dim, eps=_EPSILON)
        self.pwconv1 = nn.Linear(config.dim, config.intermediate_dim)
        self.pwconv2 = nn.Linear(config.intermediate_dim, config.dim)
        self.gamma = nn.Parameter(torch.full((config.dim,), 1 / config.num_layers))

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> the same shape."""
        made = self.norm(self.dwconv(hidden.transpose(1, 2)).transpose(1, 2))
        made = self.pwconv2(functional.gelu(self.pwconv1(made)))
        refined: Tensor = hidden + self.gamma * made
        return refined


class Head(nn.Module):
    """Log magnitudes and phases, then overlap and add: [B, T, C] -> [B, T · hop]."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.istft = Istft(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> [B, T · hop]."""
        logs, phases = self.out(hidden).float().chunk(2, dim=2)
        spectra = torch.polar(logs.exp().clamp(max=LOUDEST), phases)
        made: Tensor = self.istft(spectra)
        return made


class Istft(nn.Module):
    """Spectra [B, T, n_fft / 2 + 1] to [B, T · hop], divided by the windows' summed squares.

    With the padding "center" the original stops one hop earlier, at the last frame's middle.
    """

    window: Tensor

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.hop, self.size = config.hop_length, config.n_fft
        self.before = self.size // 2 if config.padding == "center" else (self.size - self.hop) // 2
        self.register_buffer("window", torch.hann_window(config.n_fft))

    def forward(self, spectra: Tensor) -> Tensor:
        """`spectra` [B, T, n_fft / 2 + 1] -> [B, T · hop]."""
        frames = torch.fft.irfft(spectra, self.size, dim=2) * self.window
        weights = self.window.square().expand(1, frames.shape[1], -1)
        wanted = slice(self.before, self.before + frames.shape[1] * self.hop)
        return self._add(frames)[:, wanted] / self._add(weights)[:, wanted]

    def _add(self, frames: Tensor) -> Tensor:
        """Overlap and add `frames` [B, T, n_fft]."""
        total = (frames.shape[1] - 1) * self.hop + self.size
        made: Tensor = functional.fold(
            frames.transpose(1, 2), (1, total), kernel_size=(1, self.size), stride=(1, self.hop)
        )
        return made[:, 0, 0]


def load(spec: PartSpec, context: Context) -> ChunkedVocoder:
    """The vocoder that a preset describes."""
    assert spec.weights is not None
    return build(spec, as_single(read_tensors(spec.weights)[0]), context)


def build(spec: PartSpec, state: Mapping[str, Tensor], context: Context) -> ChunkedVocoder:
    """The vocoder with the weights `state`.

    Raises:
        KnnvcError: they do not fit the configuration.
    """
    network = fit_state(Vocos(VocosConfig.from_dict(spec.config)), state, "vocoder")
    if context.fast and context.device.type == "cpu":
        accelerate(network, "float32")  # phases do not bear fewer digits
    return ChunkedVocoder(network, device=context.device)
