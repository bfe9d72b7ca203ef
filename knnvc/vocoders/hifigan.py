"""HiFi-GAN generator that reads SSL features, as published kNN-VC has it, or mel spectra.

Architecture: Kong et al., "HiFi-GAN" (https://arxiv.org/abs/2010.05646), with the linear layer in
front that kNN-VC adds (Baas et al., https://arxiv.org/abs/2305.18975). Without that layer it is the
published generator on mel spectra, or the one of ssl-vocoders on SSL features. Parameter names
equal the published checkpoints'. Shapes: B batch, T frames, D feature columns, `hop` samples per
frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from knnvc.errors import KnnvcError
from knnvc.kernels import accelerate
from knnvc.options import as_tuple, to_dict
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, read_tensors
from knnvc.vocoders.chunked import ChunkedVocoder

SLOPE = 0.1  # of every LeakyReLU but the last
LAST_SLOPE = 0.01  # published HiFi-GAN leaves PyTorch's default slope before conv_post
OUTER_KERNEL = 7  # taps of conv_pre and conv_post

# What published config files carry for their training script and the network does not need.
TRAINING_KEYS = frozenset(
    {"num_gpus", "num_workers", "dist_config", "seed", "batch_size", "segment_size"}
    | {"learning_rate", "lr_decay", "adam_b1", "adam_b2"}
    | {"num_mels", "num_freq", "n_fft", "hop_size", "win_size"}
    | {"fmin", "fmax", "fmax_loss", "fmax_for_loss"}
)


# No file makes the machine swap: limits of kernels, rates, dilations; of widths and sample rates;
# and of how many there are.
LARGEST = 1 << 14
LARGEST_SIZE = 1 << 20
MOST_NUMBERS = 200


@dataclass(frozen=True)
class HifiGanConfig:
    """Architecture of one generator; the defaults are the published v1 for WavLM-Large.

    `hubert_dim` is D, `hifi_dim` the width after the linear layer, None without one;
    `sampling_rate` is in Hz.
    `resblock` is "1" (two convolutions per dilation) or "2" (one), as in the HiFi-GAN paper.

    Raises KnnvcError when the values do not describe a network.
    """

    hubert_dim: int = 1024
    hifi_dim: int | None = 512
    upsample_rates: tuple[int, ...] = (10, 8, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (20, 16, 4, 4)
    upsample_initial_channel: int = 512
    resblock: str = "1"
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    sampling_rate: int = 16_000

    def __post_init__(self) -> None:
        """Refuse values that describe no network."""
        problem = self._problem()
        if problem:
            raise KnnvcError(f"this is not a usable HiFi-GAN configuration: {problem}")

    def _problem(self) -> str | None:
        """Say what is wrong with the values, or None."""
        linear = self.hubert_dim if self.hifi_dim is None else self.hifi_dim
        sizes = (self.hubert_dim, linear, self.upsample_initial_channel, self.sampling_rate)
        lists = (self.upsample_rates, self.upsample_kernel_sizes, self.resblock_kernel_sizes)
        rows = (*lists, *self.resblock_dilation_sizes)
        numbers: list[object] = [*sizes, *(number for row in rows for number in row)]  # from JSON
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
            return "every size must be a whole number of at least 1"
        if max((n for row in rows for n in row), default=0) > LARGEST or max(sizes) > LARGEST_SIZE:
            return f"no size may be larger than {LARGEST}"
        if len(numbers) > MOST_NUMBERS or prod(self.upsample_rates) > LARGEST:
            return "it has too many layers, or makes too many samples of a frame"
        if not self.upsample_rates or not self.resblock_kernel_sizes:
            return "upsample_rates and resblock_kernel_sizes must not be empty"
        if self.resblock not in ("1", "2"):
            return f'resblock must be "1" or "2", not {self.resblock!r}'
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            return "upsample_rates and upsample_kernel_sizes must be equally long"
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            return "resblock_kernel_sizes and resblock_dilation_sizes must be equally long"
        if any(kernel % 2 == 0 for kernel in self.resblock_kernel_sizes):
            return "every size in resblock_kernel_sizes must be odd"
        if not all(self.resblock_dilation_sizes):
            return "no list in resblock_dilation_sizes may be empty"
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True):
            # An odd difference would make every stage one sample too long for T * hop.
            if kernel < rate or (kernel - rate) % 2:
                return f"upsample kernel {kernel} does not fit rate {rate} (needs rate + 2n)"
        if self.upsample_initial_channel % 2 ** len(self.upsample_rates):
            return "upsample_initial_channel must halve evenly at every upsampling stage"
        return None

    @property
    def hop(self) -> int:
        """Samples per frame: the product of the upsampling rates."""
        return prod(self.upsample_rates)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HifiGanConfig:
        """Read a published `config.json` (already parsed), leaving out its training settings.

        Where nothing is said of `hubert_dim`, the network reads `num_mels` bands, or
        `num_input_channels` columns as ssl-vocoders name them, without a linear layer.

        Raises KnnvcError for keys that are neither architecture nor known training settings.
        """
        values = dict(values)
        plain = values.pop("num_input_channels", values.get("num_mels"))
        if plain is not None and not {"hubert_dim", "hifi_dim"} & values.keys():
            values |= {"hubert_dim": plain, "hifi_dim": None}
        fields = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - fields - TRAINING_KEYS)
        if unknown:
            raise KnnvcError(
                f"the HiFi-GAN configuration has unknown keys ({', '.join(unknown)}): "
                f"remove them; the known ones are {', '.join(sorted(fields))}"
            )
        chosen = {key: as_tuple(value) for key, value in values.items() if key in fields}
        if isinstance(chosen.get("resblock"), int):
            chosen["resblock"] = str(chosen["resblock"])
        try:
            return cls(**chosen)
        except TypeError as error:  # a number where a list belongs, or the reverse
            raise KnnvcError(f"this is not a usable HiFi-GAN configuration: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, ready for JSON."""
        return to_dict(self)


class HifiGan(nn.Module):
    """Features [B, T, D] to waveform [B, 1, T * hop] in -1..1, at `sample_rate` Hz.

    Built without weight norm, which inference does not need; training calls `add_weight_norm`.
    Weights start at PyTorch's defaults: the published initialisation of the weight-normed layers
    writes to a tensor that weight norm recomputes, so it never took effect.
    """

    def __init__(self, config: HifiGanConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.hubert_dim
        self.hop = config.hop
        self.sample_rate = config.sampling_rate
        self.context_frames = context_frames(config)

        width = config.upsample_initial_channel
        inputs = config.hubert_dim if config.hifi_dim is None else config.hifi_dim
        self.lin_pre: nn.Module = (
            nn.Identity() if config.hifi_dim is None else nn.Linear(config.hubert_dim, inputs)
        )
        self.conv_pre = _same_conv(inputs, width, OUTER_KERNEL)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        block = ResBlock1 if config.resblock == "1" else ResBlock2
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            padding = (kernel - rate) // 2
            self.ups.append(nn.ConvTranspose1d(width, width // 2, kernel, rate, padding))
            width //= 2
            for size, dilations in _resblock_shapes(config):
                self.resblocks.append(block(width, size, dilations))
        self.conv_post = _same_conv(width, 1, OUTER_KERNEL)

    @classmethod
    def from_state(cls, config: HifiGanConfig, state: Mapping[str, Tensor]) -> HifiGan:
        """Build the network in eval mode around a folded state dict, whose tensors it takes over.

        Raises KnnvcError when the weights belong to another configuration.
        """
        with torch.device("meta"):  # real random weights take longer than reading the right ones
            network = cls(config)
        try:
            network.load_state_dict(dict(state), strict=True, assign=True)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise KnnvcError(
                "the vocoder weights do not fit their configuration: use the config file that "
                f"belongs to the checkpoint ({detail})"
            ) from error
        return network.eval()

    def prepare(self, features: Tensor) -> Tensor:
        """Return features [T, D] as they are: `forward` looks only at `context_frames` frames."""
        return features

    def export_graph(self) -> tuple[str, list[int], list[str]]:
        """For ONNX: the method, the shape of an example, the names of its outputs."""
        return "forward", [1, 40, self.dim], ["waveform"]

    def forward(self, features: Tensor) -> Tensor:
        """Turn features [B, T, D] into a waveform [B, 1, T * hop]."""
        x = self.conv_pre(self.lin_pre(features).transpose(1, 2))
        per_stage = len(self.config.resblock_kernel_sizes)
        for stage, up in enumerate(self.ups):
            x = up(_activated(x, up)).float()  # shortcuts add up in single precision
            blocks = self.resblocks[stage * per_stage : (stage + 1) * per_stage]
            total = blocks[0](x)
            for block in blocks[1:]:
                total = total + block(x)
            x = total / per_stage
        output: Tensor = torch.tanh(self.conv_post(F.leaky_relu(x, LAST_SLOPE)))
        return output

    def add_weight_norm(self) -> None:
        """Reparametrise every convolution for training, as published; lin_pre stays plain.

        `presets.published.fold_weight_norm(network.state_dict())` gives the inference weights back.
        """
        for module in list(self.modules()):
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                weight_norm(module)


def load(spec: PartSpec, context: Context) -> ChunkedVocoder:
    """The vocoder that a preset describes."""
    assert spec.weights is not None
    return build(spec, as_single(read_tensors(spec.weights)[0]), context)


def build(spec: PartSpec, state: Mapping[str, Tensor], context: Context) -> ChunkedVocoder:
    """The vocoder with the weights `state`, without weight norm."""
    return chunked(HifiGan.from_state(HifiGanConfig.from_dict(spec.config), state), context)


def chunked(network: HifiGan, context: Context) -> ChunkedVocoder:
    """The network as a vocoder, made fast for where it runs."""
    if context.fast and (context.device.type == "cpu" or context.precision != "float32"):
        accelerate(network, context.precision, keep=("conv_post",))
    return ChunkedVocoder(network, device=context.device)


class ResBlock1(nn.Module):
    """For each dilation a dilated and a plain convolution around a shortcut; [B, C, T] to same."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_conv(channels, channels, kernel, d) for d in dilations)
        self.convs2 = nn.ModuleList(_same_conv(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Refine x [B, C, T]."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu_(dilated(_activated(x, dilated)), SLOPE))
        return x


class ResBlock2(nn.Module):
    """For each dilation one convolution around a shortcut; [B, C, T] to same."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same_conv(channels, channels, kernel, d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Refine x [B, C, T]."""
        for conv in self.convs:
            x = x + conv(_activated(x, conv))
        return x


def _activated(x: Tensor, layer: nn.Module) -> Tensor:
    """What `layer` is to read: LeakyReLU of `x`, in the type of the layer's weight."""
    dtype: torch.dtype = layer.weight.dtype  # type: ignore[assignment]
    return F.leaky_relu(x, SLOPE) if x.dtype == dtype else F.leaky_relu_(x.to(dtype), SLOPE)


def _same_conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    return nn.Conv1d(
        inputs, outputs, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2
    )


def _resblock_shapes(config: HifiGanConfig) -> list[tuple[int, tuple[int, ...]]]:
    sizes, dilations = config.resblock_kernel_sizes, config.resblock_dilation_sizes
    return list(zip(sizes, dilations, strict=True))


def context_frames(config: HifiGanConfig, in_block: int = 0, at_end: int = 0) -> int:
    """Frames on each side that can change the samples of one frame (the receptive field).

    Follows the samples 0..hop-1 of one frame backwards through the network as an interval.
    `in_block` and `at_end` are what activations look at besides, in samples of their own rate.
    """
    plain = 1 if config.resblock == "1" else 0  # the undilated convolution of a ResBlock1
    block_reach = in_block + max(
        (kernel - 1) // 2 * sum(dilation + plain for dilation in dilations)
        for kernel, dilations in _resblock_shapes(config)
    )
    outer_reach = (OUTER_KERNEL - 1) // 2
    first, last = -outer_reach - at_end, config.hop - 1 + outer_reach + at_end
    stages = list(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))
    for rate, kernel in reversed(stages):
        first, last = first - block_reach, last + block_reach
        # Output o of the upsampling reads the inputs i with 0 <= o + padding - i * rate < kernel.
        padding = (kernel - rate) // 2
        first = -((kernel - 1 - padding - first) // rate)
        last = (last + padding) // rate
    return max(outer_reach - first, last + outer_reach)
