"""BigVGAN: HiFi-GAN's generator with periodic activations that do not alias.

Lee et al. 2023, https://arxiv.org/abs/2206.04658. Every activation is computed at twice the rate,
between two low-pass filters. Parameter names equal those of NVIDIA's published checkpoints, so the
filters come out of the file.

B batch, C channels, T frames, S samples, D columns of a frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from knnvc.errors import KnnvcError
from knnvc.kernels import accelerate
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fit_state, read_tensors
from knnvc.vocoders.chunked import ChunkedVocoder
from knnvc.vocoders.hifigan import OUTER_KERNEL, TRAINING_KEYS, HifiGanConfig, context_frames

ACTIVATIONS = ("snake", "snakebeta")
TAPS = 12  # of both filters around an activation
BANDS = 80  # where a configuration says nothing
_REACH = 7  # samples on each side that such an activation looks at, rounded up
_FLOOR = 1e-9  # added to what is divided by, as published
# What its published config.json carries for training.
_TRAINING = TRAINING_KEYS | {
    *("use_cqtd_instead_of_mrd", "cqtd_filters", "cqtd_max_filters", "cqtd_filters_scale"),
    *("cqtd_dilations", "cqtd_hop_lengths", "cqtd_n_octaves", "cqtd_bins_per_octaves"),
    *("mpd_reshapes", "use_spectral_norm", "discriminator_channel_mult", "resolutions"),
    *("use_multiscale_melloss", "lambda_melloss", "clip_grad_norm", "use_cuda_kernel"),
    *("freeze_step", "normalize_volume", "mrd_channel_mult", "use_mel_loss"),
}


@dataclass(frozen=True)
class BigVganConfig:
    """Architecture of one generator; names are those of its config.json.

    Attributes:
        generator: what it shares with HiFi-GAN; `hubert_dim` is the number of mel bands.
        activation: "snake", or "snakebeta" with a magnitude of its own for each channel.
        snake_logscale: whether the activations' parameters are logarithms.
        use_tanh_at_final: else the output is clipped.
        use_bias_at_final: of the last convolution.

    Raises:
        KnnvcError: the values do not describe a network.
    """

    generator: HifiGanConfig = field(default_factory=lambda: HifiGanConfig(BANDS, None))
    activation: str = "snakebeta"
    snake_logscale: bool = True
    use_tanh_at_final: bool = True
    use_bias_at_final: bool = True

    def __post_init__(self) -> None:
        """Refuse values that describe no network."""
        if self.activation not in ACTIVATIONS:
            raise KnnvcError(
                f"this is not a usable BigVGAN configuration: activation is "
                f"{str(self.activation)[:20]!r}, not {' or '.join(ACTIVATIONS)}"
            )
        for name in ("snake_logscale", "use_tanh_at_final", "use_bias_at_final"):
            if not isinstance(getattr(self, name), bool):
                raise KnnvcError(
                    f"this is not a usable BigVGAN configuration: {name} must be true or false"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BigVganConfig:
        """Read a published `config.json` (already parsed), leaving out its training settings.

        Raises:
            KnnvcError: a key is unknown, or a value not allowed.
        """
        own = {one.name for one in dataclasses.fields(cls)} - {"generator"}
        rest = {key: one for key, one in values.items() if key not in own | _TRAINING}
        rest["num_mels"] = values.get("num_mels", BANDS)
        try:
            generator = HifiGanConfig.from_dict(rest)
        except KnnvcError as error:
            raise KnnvcError(str(error.full).replace("HiFi-GAN", "BigVGAN")) from error
        return cls(generator, **{key: one for key, one in values.items() if key in own})

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, ready for JSON."""
        generator = self.generator.to_dict()
        generator["num_mels"] = generator.pop("hubert_dim")
        del generator["hifi_dim"]
        own = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return generator | {name: one for name, one in own.items() if name != "generator"}


class BigVgan(nn.Module):
    """Mel spectra [B, T, D] to waveform [B, 1, T · hop] in −1..1, at `sample_rate` Hz.

    Built without weight norm, which inference does not need; training calls `add_weight_norm`.
    """

    def __init__(self, config: BigVganConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.generator
        self.dim, self.hop, self.sample_rate = shape.hubert_dim, shape.hop, shape.sampling_rate
        per_block = 2 if shape.resblock == "1" else 1
        longest = max(len(row) for row in shape.resblock_dilation_sizes)
        self.context_frames = context_frames(shape, per_block * longest * _REACH, _REACH)
        width = shape.upsample_initial_channel
        self.conv_pre = nn.Conv1d(self.dim, width, OUTER_KERNEL, padding=OUTER_KERNEL // 2)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(shape.upsample_rates, shape.upsample_kernel_sizes, strict=True):
            padding = (kernel - rate) // 2
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, padding)
            self.ups.append(nn.ModuleList([up]))
            width //= 2
            for size, dilations in zip(
                shape.resblock_kernel_sizes, shape.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(Block(config, width, size, dilations))
        self.activation_post = Activation(config, width)
        self.conv_post = nn.Conv1d(
            width, 1, OUTER_KERNEL, padding=OUTER_KERNEL // 2, bias=config.use_bias_at_final
        )

    def prepare(self, features: Tensor) -> Tensor:
        """Return features [T, D] as they are: `forward` looks only at `context_frames` frames."""
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Turn mel spectra [B, T, D] into a waveform [B, 1, T · hop]."""
        hidden = self.conv_pre(features.transpose(1, 2))
        count = len(self.config.generator.resblock_kernel_sizes)
        for stage, up in enumerate(self.ups):
            hidden = up[0](hidden).float()  # type: ignore[index]
            blocks = self.resblocks[stage * count : (stage + 1) * count]
            total = blocks[0](hidden)
            for block in blocks[1:]:
                total = total + block(hidden)
            hidden = total / count
        made: Tensor = self.conv_post(self.activation_post(hidden))
        return torch.tanh(made) if self.config.use_tanh_at_final else made.clamp(-1.0, 1.0)

    def add_weight_norm(self) -> None:
        """Reparametrise every convolution for training, as published."""
        for module in list(self.modules()):
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                weight_norm(module)


class Block(nn.Module):
    """Convolutions of several dilations around shortcuts, an activation before each: [B, C, S]."""

    def __init__(
        self, config: BigVganConfig, channels: int, kernel: int, dilations: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.twice = config.generator.resblock == "1"

        def convolutions(dilated: bool) -> nn.ModuleList:
            rates = dilations if dilated else (1,) * len(dilations)
            return nn.ModuleList(
                nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2)
                for d in rates
            )

        if self.twice:
            self.convs1, self.convs2 = convolutions(True), convolutions(False)
        else:
            self.convs = convolutions(True)
        count = len(dilations) * (2 if self.twice else 1)
        self.activations = nn.ModuleList(Activation(config, channels) for _ in range(count))

    def forward(self, hidden: Tensor) -> Tensor:
        """Refine [B, C, S]."""
        if not self.twice:
            for conv, activation in zip(self.convs, self.activations, strict=True):
                hidden = hidden + conv(activation(hidden))
            return hidden
        pairs = zip(self.activations[::2], self.activations[1::2], strict=True)
        for one, two, (before, between) in zip(self.convs1, self.convs2, pairs, strict=True):
            hidden = hidden + two(between(one(before(hidden))))
        return hidden


class Activation(nn.Module):
    """A periodic activation at twice the rate: [B, C, S] to the same shape."""

    def __init__(self, config: BigVganConfig, channels: int) -> None:
        super().__init__()
        self.act = Snake(config, channels)
        self.upsample, self.downsample = Upsample(), Downsample()

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, S] -> the same shape."""
        made: Tensor = self.downsample(self.act(self.upsample(hidden.float())))
        return made


class Snake(nn.Module):
    """x + sin²(αx) / β for each channel, with β = α in "snake".

    Ziyin et al. 2020, https://arxiv.org/abs/2006.08195.
    """

    def __init__(self, config: BigVganConfig, channels: int) -> None:
        super().__init__()
        self.logscale = config.snake_logscale
        start = torch.zeros(channels) if self.logscale else torch.ones(channels)
        self.alpha = nn.Parameter(start)
        self.beta = nn.Parameter(start.clone()) if config.activation == "snakebeta" else None

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, S] -> the same shape."""
        alpha = self.alpha[:, None]
        beta = alpha if self.beta is None else self.beta[:, None]
        if self.logscale:
            alpha, beta = alpha.exp(), beta.exp()
        return hidden + (hidden * alpha).sin().square() / (beta + _FLOOR)


class Upsample(nn.Module):
    """[B, C, S] to [B, C, 2S], the edges repeated."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass())

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, S] -> [B, C, 2S]."""
        channels, around = hidden.shape[1], TAPS // 2 - 1
        wide = functional.pad(hidden, (around, around), mode="replicate")
        weight = self.filter.expand(channels, -1, -1)
        made = 2 * functional.conv_transpose1d(wide, weight, stride=2, groups=channels)
        cut = 2 * around + (TAPS - 2) // 2
        return made[..., cut : made.shape[-1] - cut]


class Downsample(nn.Module):
    """[B, C, 2S] to [B, C, S], the edges repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, 2S] -> [B, C, S]."""
        made: Tensor = self.lowpass(hidden)
        return made


class LowPass(nn.Module):
    """The filter and every second sample."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass())

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, 2S] -> [B, C, S]."""
        channels = hidden.shape[1]
        wide = functional.pad(hidden, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return functional.conv1d(
            wide, self.filter.expand(channels, -1, -1), stride=2, groups=channels
        )


def low_pass() -> Tensor:
    """A windowed sinc [1, 1, TAPS] with its cut-off at a quarter of the rate, its sum 1.

    The Kaiser window's shape follows from a transition band of 0.6 of the cut-off's octave, by
    Kaiser's formula for the attenuation.
    """
    width = 4 * 0.3
    attenuation = 2.285 * (TAPS // 2 - 1) * math.pi * width + 7.95
    beta = 0.1102 * (attenuation - 8.7)
    if attenuation <= 50.0:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21.0)
    window = torch.kaiser_window(TAPS, periodic=False, beta=beta, device="cpu")
    times = torch.arange(-(TAPS // 2), TAPS // 2, device="cpu") + 0.5
    taps = window * torch.sinc(0.5 * times)
    return (taps / taps.sum()).view(1, 1, TAPS)


def load(spec: PartSpec, context: Context) -> ChunkedVocoder:
    """The vocoder that a preset describes."""
    assert spec.weights is not None
    return build(spec, as_single(read_tensors(spec.weights)[0]), context)


def build(spec: PartSpec, state: Mapping[str, Tensor], context: Context) -> ChunkedVocoder:
    """The vocoder with the weights `state`, without weight norm.

    Raises:
        KnnvcError: they do not fit the configuration.
    """
    network = fit_state(BigVgan(BigVganConfig.from_dict(spec.config)), state, "vocoder")
    if context.fast and (context.device.type == "cpu" or context.precision != "float32"):
        accelerate(network, context.precision, keep=("conv_post",))
    return ChunkedVocoder(network, device=context.device)
