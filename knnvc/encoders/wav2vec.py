"""wav2vec, the first one: convolutions over the waveform, a causal aggregator on top, 100 Hz.

Schneider et al. 2019, https://arxiv.org/abs/1904.05862. Parameter names are those of the published
`wav2vec_large.pt`, which fairseq no longer loads. Layer 0 is the feature extractor's output, z in
the paper; layer n what the n-th layer of the aggregator returns; the last one is c.

B batch, S samples, T frames, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.encoders.base import ALL, LAST, chosen_layers, layer_columns
from knnvc.encoders.chunked import CHUNK_SECONDS, CONTEXT_SECONDS, SAMPLE_RATE, ChunkedEncoder
from knnvc.errors import KnnvcError
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, fit_state, read_tensors

_MOST_LAYERS = 64
_LARGEST = 1 << 14  # of a width, a kernel, a stride
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
# wav2vec_large.pt as its paper and its `args` describe it.
_FEATURES = ((512, 10, 5), (512, 8, 4), *((512, 4, 2),) * 3, *((512, 1, 1),) * 2)
_AGGREGATOR = tuple((512, kernel, 1) for kernel in range(2, 14))


@dataclass(frozen=True)
class Wav2VecConfig(PartConfig, what="wav2vec"):
    """Dimensions of a `Wav2Vec`; names are fairseq's.

    Attributes:
        conv_feature_layers: (channels, kernel, stride) of each layer of the feature extractor.
        conv_aggregator_layers: the same of the aggregator.
        skip_connections_feat: add a layer's input to its output in the feature extractor.
        skip_connections_agg: the same in the aggregator.
        residual_scale: such sums are multiplied by the root of this.
        log_compression: z is log(1 + |z|).
        agg_zero_pad: the aggregator's past before the first frame is zero, not that frame again.
        no_conv_bias: the aggregator's convolutions have no bias.
        non_affine_group_norm: norms have no weights.
        activation: "relu" or "gelu".
    """

    conv_feature_layers: tuple[tuple[int, int, int], ...] = setting(_FEATURES, "Layers.", "any")
    conv_aggregator_layers: tuple[tuple[int, int, int], ...] = setting(
        _AGGREGATOR, "Layers.", "any"
    )
    skip_connections_feat: bool = setting(False, "Shortcuts.", "flag")
    skip_connections_agg: bool = setting(True, "Shortcuts.", "flag")
    residual_scale: float = setting(0.5, "Scale.", "number", least=0, most=100)
    log_compression: bool = setting(True, "Logarithm.", "flag")
    agg_zero_pad: bool = setting(False, "Padding.", "flag")
    no_conv_bias: bool = setting(False, "Bias.", "flag")
    non_affine_group_norm: bool = setting(False, "Norms.", "flag")
    activation: str = setting("relu", "Activation.", "choice", choices=tuple(_ACTIVATIONS))

    def __post_init__(self) -> None:
        """Check every field, and the layers."""
        super().__post_init__()
        for layers in (self.conv_feature_layers, self.conv_aggregator_layers):
            listed = isinstance(layers, tuple) and 0 < len(layers) <= _MOST_LAYERS
            if not listed or not all(_is_layer(layer) for layer in layers):
                raise KnnvcError(
                    "the wav2vec settings are damaged: a layer is three whole numbers, its "
                    "channels, kernel and stride"
                )
        if any(stride != 1 for _, _, stride in self.conv_aggregator_layers):
            raise KnnvcError("the wav2vec settings are damaged: the aggregator has no strides")

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(stride for _, _, stride in self.conv_feature_layers)

    @property
    def window(self) -> int:
        """Samples of the first frame."""
        window, hop = 1, 1
        for _, kernel, stride in self.conv_feature_layers:
            window, hop = window + (kernel - 1) * hop, hop * stride
        return window


def _is_layer(layer: object) -> bool:
    return (
        isinstance(layer, tuple)
        and len(layer) == 3
        and all(type(size) is int and 0 < size <= _LARGEST for size in layer)
    )


class Wav2Vec(nn.Module):
    """Waveforms [B, S] to the outputs of one or more layers, side by side: [B, T, D].

    Args:
        config: its dimensions.
        layers: whose outputs; see `knnvc.encoders.base.chosen_layers`.

    Raises:
        KnnvcError: there is no such layer.
    """

    def __init__(self, config: Wav2VecConfig, layers: tuple[int, ...] | str = (LAST,)) -> None:
        super().__init__()
        self.config = config
        self.depth = len(config.conv_aggregator_layers)
        self.wanted = chosen_layers(layers, self.depth)
        self.sample_rate, self.hop = SAMPLE_RATE, config.hop
        self.window_samples = config.window
        self.feature_extractor = FeatureExtractor(config)
        self.feature_aggregator = Aggregator(config)
        widths = [config.conv_feature_layers[-1][0]]
        widths += [width for width, _, _ in config.conv_aggregator_layers]
        self.widths = [widths[layer] for layer in self.wanted]
        self.columns = layer_columns(self.widths, every=layers == ALL)

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, T, D]."""
        features: Tensor = self.feature_extractor(waveform)
        deepest = max(self.wanted)
        taken = [features, *self.feature_aggregator(features, deepest)]
        return torch.cat([taken[layer] for layer in self.wanted], dim=1).transpose(1, 2)


class FeatureExtractor(nn.Module):
    """Strided convolutions with group norm over time and channels: [B, S] -> z [B, C, T]."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        self.config = config
        inputs = [1, *(width for width, _, _ in config.conv_feature_layers)]
        affine = not config.non_affine_group_norm
        self.conv_layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(inputs[number], width, kernel, stride=stride, bias=False),
                nn.Identity(),  # dropout in training; keeps the published names
                nn.GroupNorm(1, width, affine=affine),
                _ACTIVATIONS[config.activation](),
            )
            for number, (width, kernel, stride) in enumerate(config.conv_feature_layers)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> z [B, C, T]."""
        hidden = waveform[:, None]
        for layer in self.conv_layers:
            made = layer(hidden)
            if self.config.skip_connections_feat and made.shape[1] == hidden.shape[1]:
                # Every so many frames, since a layer may have a stride.
                short = hidden[..., :: hidden.shape[2] // made.shape[2]][..., : made.shape[2]]
                made = (made + short) * math.sqrt(self.config.residual_scale)
            hidden = made
        return hidden.abs().add(1).log() if self.config.log_compression else hidden


class Aggregator(nn.Module):
    """Causal convolutions with shortcuts: z [B, C, T] to the output of each layer."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        self.config = config
        layers, shortcuts = [], []
        inputs = config.conv_feature_layers[-1][0]
        affine, bias = not config.non_affine_group_norm, not config.no_conv_bias
        for width, kernel, _ in config.conv_aggregator_layers:
            layers.append(
                nn.Sequential(
                    nn.Identity(),  # the padding, in `forward`
                    nn.Conv1d(inputs, width, kernel, bias=bias),
                    nn.Identity(),
                    nn.GroupNorm(1, width, affine=affine),
                    _ACTIVATIONS[config.activation](),
                )
            )
            other = config.skip_connections_agg and inputs != width
            shortcuts.append(nn.Conv1d(inputs, width, 1, bias=False) if other else nn.Identity())
            inputs = width
        self.conv_layers, self.residual_proj = nn.ModuleList(layers), nn.ModuleList(shortcuts)

    def forward(self, features: Tensor, deepest: int) -> list[Tensor]:
        """`features` [B, C, T] -> the outputs of the layers 1 to `deepest`, each [B, C', T]."""
        mode = "constant" if self.config.agg_zero_pad else "replicate"
        taken: list[Tensor] = []
        hidden = features
        for (_, kernel, _), layer, shortcut in zip(
            self.config.conv_aggregator_layers, self.conv_layers, self.residual_proj, strict=True
        ):
            if len(taken) == deepest:
                break
            made = layer(functional.pad(hidden, (kernel - 1, 0), mode=mode))
            if self.config.skip_connections_agg:
                made = (made + shortcut(hidden)) * math.sqrt(self.config.residual_scale)
            taken.append(made)
            hidden = made
        return taken


def load(spec: PartSpec, context: Context) -> ChunkedEncoder:
    """The encoder that a preset describes."""
    assert spec.weights is not None
    return build(spec, as_single(read_tensors(spec.weights)[0]), context)


def build(spec: PartSpec, state: Mapping[str, Tensor], context: Context) -> ChunkedEncoder:
    """The encoder with the weights `state`.

    Raises:
        KnnvcError: they do not fit the configuration, or a layer does not exist.
    """
    config = Wav2VecConfig.from_dict(spec.config)
    network = fit_state(Wav2Vec(config, spec.layers or (LAST,)), state, "encoder")
    return ChunkedEncoder(
        network,
        context.device,
        spec.seconds("chunk", context.chunk, CHUNK_SECONDS),
        spec.seconds("context", None, CONTEXT_SECONDS),
        identity=fingerprint(network),
    )
