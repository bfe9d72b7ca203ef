"""The WavLM transformer, for inference first: Chen et al. 2022, https://arxiv.org/abs/2110.13900.

Parameter names and results are those of `transformers.WavLMModel`, so its weights and published
ones load, and fingerprints of encoders stay what they were. Why not that class itself: importing it
takes longer than converting a short clip, and its attention writes several [heads, T, T] matrices
in every layer. Here attention runs over blocks of queries, so memory grows with T and not with T².

B batch, T frames, C channels, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc import kernels

QUERIES = 256  # rows of attention computed at once: their matrix stays in the cache
TOGETHER = 3 << 17  # scores of all heads that are computed at once, 1.5 MB
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
}
# What a configuration carries for training, with dropout and masking, and features do not need.
TRAINING_KEYS = frozenset(
    {"hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"}
    | {"layerdrop", "mask_time_prob", "mask_feature_prob", "apply_spec_augment"}
    | {"initializer_range", "model_type"}
)


@dataclass(frozen=True)
class WavLMConfig:
    """Dimensions of a `WavLM`, named and preset as in `transformers.WavLMConfig`.

    `feat_extract_norm` is "group" (after the first convolution only) or "layer";
    `do_stable_layer_norm` normalises before attention and feed-forward instead of after.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    do_stable_layer_norm: bool = False
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    num_buckets: int = 320
    max_bucket_distance: int = 800

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WavLMConfig:
        """Build from a preset's JSON; what only training uses (`TRAINING_KEYS`) is left out.

        Raises:
            ValueError: a key is unknown, or the values describe no network.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known - TRAINING_KEYS):
            raise ValueError(f"unknown WavLM settings: {', '.join(unknown)}")
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, (list, tuple)) else value
            for key, value in values.items()
            if key in known
        }
        return cls(**chosen)

    def __post_init__(self) -> None:
        """Refuse what describes no network."""
        for name in (self.hidden_act, self.feat_extract_activation):
            if name not in _ACTIVATIONS:
                raise ValueError(f"the activation is {name!r}, not {' or '.join(_ACTIVATIONS)}")
        if self.feat_extract_norm not in ("group", "layer"):
            raise ValueError(f"feat_extract_norm is {self.feat_extract_norm!r}, not group or layer")
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel):
            raise ValueError("conv_dim, conv_stride and conv_kernel are not equally long")
        for field in fields(self):
            size = getattr(self, field.name)
            if field.type == "int" and (type(size) is not int or not 0 < size <= 1 << 16):
                raise ValueError(f"{field.name} is {str(size)[:20]}, no whole number above 0")
        for size in (*self.conv_dim, *self.conv_stride, *self.conv_kernel):
            if type(size) is not int or not 0 < size <= 1 << 16:
                raise ValueError(f"a convolution's size is {str(size)[:20]}, no whole number")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not divisible by num_attention_heads")


class WavLM(nn.Module):
    """Waveforms to the outputs of transformer layers."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = ConvolutionStack(config)
        self.feature_projection = Projection(config)
        self.encoder = Transformer(config)

    def forward(self, waveform: Tensor, layers: Iterable[int]) -> list[Tensor]:
        """`waveform` [B, S] -> the outputs [B, T, C] of `layers`, see `Transformer.forward`."""
        features = self.feature_extractor(waveform).transpose(1, 2)
        outputs: list[Tensor] = self.encoder(self.feature_projection(features), layers)
        return outputs


class ConvolutionStack(nn.Module):
    """The convolutions that turn a waveform [B, S] into [B, C, T]."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        channels = (1, *config.conv_dim)
        everywhere = config.feat_extract_norm == "layer"
        self.conv_layers = nn.ModuleList(
            Convolution(config, number, channels[number], everywhere)
            for number in range(len(config.conv_dim))
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, C, T]."""
        hidden = waveform[:, None]
        for layer in self.conv_layers:
            hidden = layer(hidden)
        return hidden


class Convolution(nn.Module):
    """One strided convolution, its norm if it has one, and the activation."""

    def __init__(self, config: WavLMConfig, number: int, inputs: int, everywhere: bool) -> None:
        super().__init__()
        outputs = config.conv_dim[number]
        self.conv = nn.Conv1d(
            inputs,
            outputs,
            config.conv_kernel[number],
            stride=config.conv_stride[number],
            bias=config.conv_bias,
        )
        self.activation = _ACTIVATIONS[config.feat_extract_activation]
        if everywhere:
            self.layer_norm: nn.Module = nn.LayerNorm(outputs)
        elif number == 0:
            self.layer_norm = nn.GroupNorm(outputs, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, S] -> [B, C', S // stride]."""
        hidden = self.conv(hidden)
        norm = getattr(self, "layer_norm", None)
        if isinstance(norm, nn.LayerNorm):
            hidden = norm(hidden.transpose(1, 2)).transpose(1, 2)
        elif norm is not None:
            hidden = norm(hidden)
        return self.activation(hidden)


class Projection(nn.Module):
    """From the convolutions' channels to the transformer's."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """`features` [B, T, C'] -> [B, T, C]."""
        projected: Tensor = self.projection(self.layer_norm(features))
        return projected


class NormedWeight(nn.Module):
    """A weight as its magnitudes `original0` [1, 1, K] and directions `original1` [C, C / G, K].

    Weight norm (Salimans and Kingma, https://arxiv.org/abs/1602.07868) without torch's machinery
    for it, which imports its compiler when a network is built without memory.
    """

    def __init__(self, channels: int, inputs: int, kernel: int) -> None:
        super().__init__()
        self.original0 = nn.Parameter(torch.empty(1, 1, kernel))
        self.original1 = nn.Parameter(torch.empty(channels, inputs, kernel))

    def forward(self) -> Tensor:
        """The weight itself [C, C / G, K]."""
        return self.original1 * (self.original0 / _norm(self.original1))


class NormedConvolution(nn.Module):
    """The parameters of a weight-normed convolution, under the names that torch gives them."""

    def __init__(self, channels: int, groups: int, kernel: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        weight = NormedWeight(channels, channels // groups, kernel)
        self.parametrizations = nn.ModuleDict({"weight": weight})

    def weight(self) -> Tensor:
        """The weight [C, C / G, K]."""
        weight: Tensor = self.parametrizations["weight"]()
        return weight


class PositionalConvolution(nn.Module):
    """A wide grouped convolution whose output tells frames where they are."""

    frozen: Tensor | None

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.kernel = config.num_conv_pos_embeddings
        self.groups = config.num_conv_pos_embedding_groups
        self.conv = NormedConvolution(config.hidden_size, self.groups, self.kernel)
        self.register_buffer("frozen", None, persistent=False)
        self.activation = _ACTIVATIONS[config.feat_extract_activation]

    def freeze(self) -> None:
        """Compute the weight that weight norm stands for, once and for all."""
        self.frozen = self.conv.weight().detach()

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> [B, T, C]."""
        weight = self.conv.weight() if self.frozen is None else self.frozen
        made = functional.conv1d(
            hidden.transpose(1, 2),
            weight,
            self.conv.bias,
            padding=self.kernel // 2,
            groups=self.groups,
        )
        if self.kernel % 2 == 0:
            made = made[..., :-1]
        return self.activation(made).transpose(1, 2)


class Transformer(nn.Module):
    """All layers, with the relative position bias that they share."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.stable = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConvolution(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            Layer(config, first=number == 0) for number in range(config.num_hidden_layers)
        )
        self.apply(_initialise)

    def freeze(self) -> None:
        """Prepare for inference alone; weights must not change afterwards."""
        self.pos_conv_embed.freeze()

    def forward(self, hidden: Tensor, layers: Iterable[int]) -> list[Tensor]:
        """`hidden` [B, T, C] -> the output of each of `layers` [B, T, C], in their order.

        0 is the input of the first layer, n what layer n returns, without the final layer norm of
        pre-norm models; −1 is the last one's with it. Layers that none of these needs do not run.
        """
        wanted = tuple(layers)
        depth = len(self.layers) if -1 in wanted else max(wanted)
        hidden = hidden.float()  # the shortcuts add up in single precision
        hidden = hidden + self.pos_conv_embed(hidden)
        if not self.stable:
            hidden = self.layer_norm(hidden)
        taken = {0: hidden}
        first: Any = self.layers[0]
        bias = first.attention.position_bias(hidden.shape[1])
        for number, layer in enumerate(self.layers[:depth], start=1):
            taken[number] = hidden = layer(hidden, bias)
        if -1 in wanted:
            taken[-1] = self.layer_norm(hidden) if self.stable else hidden
        return [taken[number] for number in wanted]


class Layer(nn.Module):
    """Attention and feed-forward around shortcuts."""

    def __init__(self, config: WavLMConfig, first: bool) -> None:
        super().__init__()
        self.stable = config.do_stable_layer_norm
        self.attention = Attention(config, first)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> the same shape; `bias` as of `Attention.position_bias`."""
        if self.stable:
            hidden = hidden + self.attention(self.layer_norm(hidden), bias)
            hidden = hidden + self.feed_forward(self.final_layer_norm(hidden))
        else:
            hidden = self.layer_norm(hidden + self.attention(hidden, bias))
            hidden = self.final_layer_norm(hidden + self.feed_forward(hidden))
        return hidden


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = _ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> the same shape."""
        made: Tensor = self.output_dense(self.activation(self.intermediate_dense(hidden)))
        return made


class Attention(nn.Module):
    """Self-attention with a gated relative position bias (equations 3 to 6 of the paper)."""

    def __init__(self, config: WavLMConfig, first: bool) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.buckets, self.distance = config.num_buckets, config.max_bucket_distance
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.q_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        self.gru_rel_pos_linear = nn.Linear(size // self.heads, 8)
        if first:
            table = torch.empty(self.buckets, self.heads)
            self.rel_attn_embed = nn.Embedding(self.buckets, self.heads, _weight=table)

    def position_bias(self, frames: int) -> Tensor:
        """What attention adds for every offset between key and query: [H, 2T − 1].

        Column T − 1 is offset 0. The bias depends on the offset alone, so this says all of the
        [H, T, T] matrix. Only the first layer has the table for it.
        """
        offsets = torch.arange(1 - frames, frames, device=self.rel_attn_embed.weight.device)
        half = self.buckets // 2
        exact = half // 2
        away = offsets.abs()
        # Near offsets have a bucket each, far ones share buckets on a logarithmic scale.
        scale = (half - exact) / math.log(self.distance / exact)
        far = exact + (torch.log(away.clamp(min=1).float() / exact) * scale).long()
        bucket = torch.where(away < exact, away, far.clamp(max=half - 1))
        table: Tensor = self.rel_attn_embed(bucket + half * (offsets > 0))
        return table.T.contiguous()

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> the same shape; `bias` [H, 2T − 1] of `position_bias`."""
        batch, frames, size = hidden.shape
        split = (batch, frames, self.heads, size // self.heads)
        query = self.q_proj(hidden).view(split).transpose(1, 2)  # [B, H, T, C / H]
        key = self.k_proj(hidden).view(split).transpose(1, 2)
        value = self.v_proj(hidden).view(split).transpose(1, 2)
        gate = self._gate(hidden.view(split).transpose(1, 2)).float()  # [B, H, T, 1]
        if torch.compiler.is_compiling():  # for export: no loop whose length depends on T
            mixed = _attend(query, key, value, gate * _matrix(bias))
        elif hidden.device.type == "cpu" and torch.is_inference_mode_enabled():
            mixed = _attend_on_cpu(query, key, value, gate, bias)
        else:
            mixed = _attend_in_blocks(query, key, value, gate, bias)
        made: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, frames, size))
        return made

    def _gate(self, hidden: Tensor) -> Tensor:
        """How much the position counts: `hidden` [B, H, T, C / H] -> [B, H, T, 1]."""
        sums = self.gru_rel_pos_linear(hidden).unflatten(-1, (2, 4)).sum(-1)
        update, reset = torch.sigmoid(sums).chunk(2, dim=-1)
        gate: Tensor = update * (reset * self.gru_rel_pos_const - 1.0) + 2.0
        return gate


# Attention: query, key and value are [B, H, T, C / H], the gate is [B, H, T, 1], the bias
# [H, 2T − 1]; the result is as the query. Of these, three ways of computing the same.


def _matrix(bias: Tensor) -> Tensor:
    """The bias of every query for every key, [H, T, T]."""
    frames = (bias.shape[1] + 1) // 2
    at = torch.arange(frames, device=bias.device)
    return bias[:, at[None, :] - at[:, None] + (frames - 1)]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2) + mask
    return torch.softmax(scores, dim=-1) @ value


def _attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor, bias: Tensor
) -> Tensor:
    """By torch's own attention, a block of queries at a time, so that memory grows with T."""
    frames = query.shape[2]
    # Row i of the matrix is bias[T − 1 − i : 2T − 1 − i]: a view, with its rows upside down.
    matrix = bias.unfold(1, frames, 1)
    pieces = []
    for start in range(0, frames, QUERIES):
        stop = min(frames, start + QUERIES)
        mask = gate[:, :, start:stop] * matrix[:, frames - stop : frames - start].flip(1)
        pieces.append(
            functional.scaled_dot_product_attention(
                query[:, :, start:stop], key, value, mask.to(query.dtype)
            )
        )
    return torch.cat(pieces, dim=2)


def _attend_on_cpu(query: Tensor, key: Tensor, value: Tensor, gate: Tensor, bias: Tensor) -> Tensor:
    """In pieces, so that all there is of one stays in the processor's cache.

    torch's attention wants the gated bias as a matrix of its own, and spends most of its time on
    that memory: this takes 40 % of its time at T = 1700 (benchmarks/against_reference.py). Where
    they are small enough all heads are one piece, which saves calls.
    """
    batch, heads, frames, width = query.shape
    # Upside down, so that the rows of the matrix are in order.
    query = (query * width**-0.5).flip(2).contiguous()
    gate, key = gate.flip(2).contiguous(), key.contiguous()
    matrix = bias.float().unfold(1, frames, 1)
    if batch * heads * frames * frames <= TOGETHER:
        scores = (query @ key.transpose(2, 3)).float().addcmul_(gate, matrix)
        return (torch.softmax(scores, dim=-1).to(value.dtype) @ value).flip(2)
    made = torch.empty_like(query)
    value = value.transpose(2, 3).contiguous()
    for one in range(batch):
        for head in range(heads):
            for start in range(0, frames, QUERIES):
                rows = slice(start, start + QUERIES)
                scores = kernels.linear(query[one, head, rows], key[one, head]).float()
                scores.addcmul_(gate[one, head, rows], matrix[head, rows])
                weights = torch.softmax(scores, dim=-1).to(value.dtype)
                made[one, head, rows] = kernels.linear(weights, value[one, head])
    return made.flip(2)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Random weights to train from, as small as transformers draws them."""
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # built without memory, for weights that are there already
    if isinstance(module, NormedWeight):
        _, inputs, kernel = module.original1.shape
        bound = 1 / math.sqrt(inputs * kernel)
        nn.init.uniform_(module.original1, -bound, bound)
        module.original0.copy_(_norm(module.original1))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def _norm(weight: Tensor) -> Tensor:
    """Euclidean norms of `weight` [C, I, K] for each of the K taps: [1, 1, K]."""
    return weight.square().sum((0, 1), keepdim=True).sqrt()
