"""Glow-TTS: phonemes -> SSL features, through an invertible decoder (Kim et al. 2020).

https://arxiv.org/abs/2005.11129. A transformer gives a mean for every token, durations stretch the
means over the frames, noise is added, and a normalising flow turns the result into features. The
published kNN-TTS (https://arxiv.org/abs/2408.10771) predicts WavLM features with it; its checkpoint
and configuration have the format of the toolkit that it was trained with, and the modules here
bear that format's parameter names.

B batch, N tokens, T frames, C channels; inside, tensors are [B, C, N] or [B, C, T].
"""

# long: one published network with its configuration and its file format
from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.errors import KnnvcError
from knnvc.options import to_dict
from knnvc.registry import Context, PartSpec
from knnvc.tensors import (
    as_float32,
    as_single,
    check_shapes,
    fold_weight_norm,
    read_json,
    read_pickle,
    read_tensors,
)
from knnvc.text.base import numbers_of

LARGEST = 100_000  # of any whole number in a configuration: no file makes the machine swap
DEEPEST = 100  # layers of a kind
MOST_LAYERS = 500  # of the decoder; 48 are published
WIDEST = 64  # channels that an invertible convolution mixes; 4 are published
LONGEST_TOKEN = 500  # frames (10 s) that a token may last, whatever the weights say
_SPECIAL = ("pad", "eos", "bos", "blank")


@dataclass(frozen=True)
class GlowConfig:
    """Dimensions of a `GlowTts`; the defaults are the paper's, for WavLM-Large's features.

    Attributes:
        vocabulary: One entry for each token, in order; entries of more than one sign (<PAD>) are
            never met in phonemes.
        blank: Token between any two others, if there is one.
        ends: Tokens put before and after the text, if there are any.
        out_channels: Columns D of the features.
        window: Half-width of the relative positions that attention knows; None: no positions.
        sigmoid_scale: Whether the scales of the coupling layers are bounded.
        mean_only: Whether the prior has unit variance instead of a predicted one.
        length_scale: Factor on all durations.
    """

    vocabulary: tuple[str, ...]
    blank: int | None = None
    ends: tuple[int, int] | None = None
    out_channels: int = 1024
    prenet: bool = True
    encoder_channels: int = 192
    encoder_layers: int = 6
    encoder_heads: int = 2
    encoder_kernel: int = 3
    feed_forward: int = 768
    window: int | None = None
    duration_channels: int = 256
    mean_only: bool = True
    decoder_channels: int = 192
    flow_blocks: int = 12
    decoder_kernel: int = 5
    dilation_rate: int = 1
    block_layers: int = 4
    splits: int = 4
    squeeze: int = 2
    sigmoid_scale: bool = False
    length_scale: float = 1.0
    encoder_dropout: float = 0.1
    decoder_dropout: float = 0.05
    duration_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check what the network could not be built with.

        Raises:
            KnnvcError: a value is of the wrong type or size, or two do not fit each other.
        """
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if kind is int:
                most = DEEPEST if name in _DEPTHS else LARGEST
                good = type(value) is int and 0 < value <= most
            elif kind is bool:
                good = type(value) is bool
            elif kind is float:
                most = 1 if name.endswith("dropout") else 100
                good = type(value) in (int, float) and 0 <= value <= most
            else:
                continue
            _check(good, f"{name} cannot be {reprlib.repr(value)}")
        _check(0 < len(self.vocabulary) <= LARGEST, "the vocabulary is empty or too large")
        tokens = [self.blank, *(self.ends or ())]
        good = all(t is None or (type(t) is int and 0 <= t < len(self.vocabulary)) for t in tokens)
        _check(good, "a special token is not in the vocabulary")
        _check(
            self.window is None or (type(self.window) is int and 0 < self.window <= LARGEST),
            f"window cannot be {reprlib.repr(self.window)}",
        )
        _check(self.length_scale > 0, "length_scale must be above 0")
        _check(
            self.encoder_channels % self.encoder_heads == 0,
            f"{self.encoder_heads} heads do not divide {self.encoder_channels} channels",
        )
        _check(
            self.splits % 2 == 0 and self.out_channels * self.squeeze % self.splits == 0,
            f"{self.splits} splits do not divide {self.out_channels} channels of output",
        )
        _check(self.decoder_kernel % 2 == 1, "kernel_size_dec must be odd")
        # Of an even number of channels, each coupling layer changes one half by the other.
        _check(self.out_channels * self.squeeze % 2 == 0, "its channels cannot be halved")
        _check(self.splits <= WIDEST, f"{self.splits} splits are too many")
        reach = self.dilation_rate ** (self.block_layers - 1) * self.decoder_kernel
        _check(reach <= LARGEST, "dilation_rate and num_block_layers reach too far")
        layers = self.flow_blocks * self.block_layers
        _check(layers <= MOST_LAYERS, f"{layers} layers in the decoder are too many")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GlowConfig:
        """Build from a preset's JSON; unknown keys are errors.

        Raises:
            KnnvcError: a key is unknown or a value impossible.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise KnnvcError(f"unknown Glow-TTS settings: {', '.join(sorted(unknown))}")
        vocabulary = values.get("vocabulary")
        good = isinstance(vocabulary, (list, tuple)) and all(isinstance(v, str) for v in vocabulary)
        _check(good, "the vocabulary must be a list of texts")
        ends = values.get("ends")
        _check(ends is None or (isinstance(ends, (list, tuple)) and len(ends) == 2), "ends")
        chosen = {**values, "vocabulary": tuple(vocabulary or ())}
        chosen["ends"] = None if ends is None else tuple(ends)
        return cls(**chosen)

    @classmethod
    def from_published(cls, values: Mapping[str, Any]) -> GlowConfig:
        """Read the config.json that lies beside a published checkpoint.

        Raises:
            KnnvcError: it is of another model, of a variant with several speakers, or damaged.
        """
        _check(
            values.get("model") in ("glow_tts", "glow_tts_ssl"),
            f"its model is {values.get('model')!r}",
        )
        encoder = values.get("encoder_type")
        _check(encoder == "rel_pos_transformer", f"encoder_type {encoder!r} is not supported")
        for key in ("use_speaker_embedding", "use_d_vector_file", "c_in_channels"):
            _check(not values.get(key), f"{key} is set, and several speakers are not supported")
        inner = _part(values, "encoder_params")
        vocabulary, numbers = _vocabulary(_part(values, "characters"))
        count = values.get("num_chars")
        _check(
            count == len(vocabulary),
            f"num_chars is {count!r}, but its characters make {len(vocabulary)} tokens",
        )
        # Names as published, and what they are called here.
        names = {
            "use_encoder_prenet": "prenet",
            "hidden_channels_enc": "encoder_channels",
            "hidden_channels_dec": "decoder_channels",
            "hidden_channels_dp": "duration_channels",
            "dropout_p_dp": "duration_dropout",
            "dropout_p_dec": "decoder_dropout",
            "mean_only": "mean_only",
            "out_channels": "out_channels",
            "num_flow_blocks_dec": "flow_blocks",
            "kernel_size_dec": "decoder_kernel",
            "dilation_rate": "dilation_rate",
            "num_block_layers": "block_layers",
            "num_splits": "splits",
            "num_squeeze": "squeeze",
            "sigmoid_scale": "sigmoid_scale",
            "length_scale": "length_scale",
        }
        inner_names = {
            "kernel_size": "encoder_kernel",
            "dropout_p": "encoder_dropout",
            "num_layers": "encoder_layers",
            "num_heads": "encoder_heads",
            "hidden_channels_ffn": "feed_forward",
            "rel_attn_window_size": "window",
        }
        chosen: dict[str, Any] = {}
        for source, known in ((values, names), (inner, inner_names)):
            chosen |= {known[key]: value for key, value in source.items() if key in known}
        blank = numbers["blank"] if values.get("add_blank") else None
        _check(not values.get("add_blank") or blank is not None, "it has no blank to add")
        ends = None
        if values.get("enable_eos_bos_chars"):
            bos, eos = numbers["bos"], numbers["eos"]
            if bos is None or eos is None:
                raise _damaged("it has no signs for the ends of a text")
            ends = (bos, eos)
        return cls(vocabulary=vocabulary, blank=blank, ends=ends, **chosen)

    @property
    def columns(self) -> int:
        """Columns that it predicts."""
        return self.out_channels

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return to_dict(self)


_DEPTHS = frozenset({"encoder_layers", "flow_blocks", "block_layers"})


def _part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = values.get(key)
    if not isinstance(part, Mapping):
        raise _damaged(f"it has no {key}")
    return part


def _vocabulary(characters: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, int | None]]:
    """Tokens in order, and the numbers of the special ones; None where there are none.

    The order of the published class: padding, end, begin, blank, characters, punctuation.
    """
    texts = {k: characters.get(k) or "" for k in (*_SPECIAL, "characters", "punctuations")}
    _check(all(isinstance(text, str) for text in texts.values()), "its characters are no text")
    signs = list(texts["characters"])
    if characters.get("is_unique"):
        signs = sorted(set(signs))
    if characters.get("is_sorted", True):
        signs = sorted(signs)
    special = [texts[key] for key in _SPECIAL if texts[key]]
    tokens = (*special, *signs, *texts["punctuations"])
    return tokens, {key: special.index(texts[key]) if texts[key] else None for key in _SPECIAL}


def _damaged(problem: str) -> KnnvcError:
    return KnnvcError(
        f"the Glow-TTS configuration cannot be used ({problem}): give the config.json that was "
        "published with the checkpoint"
    )


def _check(good: object, problem: str) -> None:
    if not good:
        raise _damaged(problem)


# The network ------------------------------------------------------------------------------------


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [B, C, N]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, C, N] -> the same shape, with zero mean and unit variance over C."""
        variance, mean = torch.var_mean(hidden, dim=1, keepdim=True, correction=0)
        return (hidden - mean) * torch.rsqrt(variance + 1e-4) * self.gamma + self.beta


class Prenet(nn.Module):
    """Three convolutions with a residual connection, before the transformer."""

    def __init__(self, channels: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(channels, channels, 5, padding=2) for _ in range(3)
        )
        self.norm_layers = nn.ModuleList(ChannelNorm(channels) for _ in range(3))
        self.proj = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`hidden` [B, C, N], `mask` [B, 1, N] -> [B, C, N]."""
        inner = hidden
        for conv, norm in zip(self.conv_layers, self.norm_layers, strict=True):
            inner = self.dropout(functional.relu(norm(conv(inner * mask) * mask)))
        added: Tensor = (hidden + self.proj(inner)) * mask
        return added


class RelativeAttention(nn.Module):
    """Self-attention; with `window`, the distance of near tokens counts (Shaw et al. 2018)."""

    def __init__(self, channels: int, heads: int, window: int | None, dropout: float) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        if window is not None:
            width = channels // heads
            for name in ("emb_rel_k", "emb_rel_v"):
                table = torch.randn(1, 2 * window + 1, width) * width**-0.5
                self.register_parameter(name, nn.Parameter(table))

    emb_rel_k: Tensor
    emb_rel_v: Tensor

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`hidden` [B, C, N], `mask` [B, 1, N] -> [B, C, N]."""
        batch, channels, tokens = hidden.shape
        width = channels // self.heads
        query, key, value = (
            conv(hidden).view(batch, self.heads, width, tokens).transpose(2, 3)
            for conv in (self.conv_q, self.conv_k, self.conv_v)
        )
        query = query / math.sqrt(width)
        scores = query @ key.transpose(2, 3)
        if self.window is not None:
            scores = scores + self._distances(query @ self.emb_rel_k.transpose(1, 2))
        scores = scores.masked_fill((mask[:, :, :, None] * mask[:, :, None]) == 0, -1e4)
        weights = self.dropout(torch.softmax(scores, dim=-1))
        mixed = weights @ value
        if self.window is not None:
            mixed = mixed + self._nearby(weights) @ self.emb_rel_v
        joined: Tensor = self.conv_o(mixed.transpose(2, 3).reshape(batch, channels, tokens))
        return joined

    def _distances(self, scores: Tensor) -> Tensor:
        """[B, H, N, 2 · window + 1] by distance -> [B, H, N, N] by token, 0 where it is farther."""
        assert self.window is not None
        at = torch.arange(scores.shape[2], device=scores.device)
        index = at[None] - at[:, None] + self.window
        inside = (index >= 0) & (index < scores.shape[3])
        index = index.clamp(0, scores.shape[3] - 1).expand(*scores.shape[:3], -1)
        return torch.where(inside, scores.gather(3, index), 0.0)

    def _nearby(self, weights: Tensor) -> Tensor:
        """[B, H, N, N] by token -> [B, H, N, 2 · window + 1] by distance."""
        assert self.window is not None
        at = torch.arange(weights.shape[2], device=weights.device)
        offsets = torch.arange(-self.window, self.window + 1, device=weights.device)
        index = at[:, None] + offsets
        inside = (index >= 0) & (index < len(at))
        index = index.clamp(0, len(at) - 1).expand(*weights.shape[:2], -1, -1)
        return torch.where(inside, weights.gather(3, index), 0.0)


class FeedForward(nn.Module):
    """Two convolutions that keep the length."""

    def __init__(self, channels: int, inner: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, inner, kernel)
        self.conv_2 = nn.Conv1d(inner, channels, kernel)
        self.padding = ((kernel - 1) // 2, kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`hidden` [B, C, N], `mask` [B, 1, N] -> [B, C, N]."""
        inner = functional.relu(self.conv_1(functional.pad(hidden * mask, self.padding)))
        inner = self.conv_2(functional.pad(self.dropout(inner) * mask, self.padding))
        masked: Tensor = inner * mask
        return masked


class Transformer(nn.Module):
    """Attention and feed-forward layers with normalisation after each residual connection."""

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        channels, dropout = config.encoder_channels, config.encoder_dropout
        layers = range(config.encoder_layers)
        self.attn_layers = nn.ModuleList(
            RelativeAttention(channels, config.encoder_heads, config.window, dropout)
            for _ in layers
        )
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        self.ffn_layers = nn.ModuleList(
            FeedForward(channels, config.feed_forward, config.encoder_kernel, dropout)
            for _ in layers
        )
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`hidden` [B, C, N], `mask` [B, 1, N] -> [B, C, N]."""
        layers = zip(
            self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True
        )
        for attention, norm_1, feed_forward, norm_2 in layers:
            hidden = hidden * mask
            hidden = norm_1(hidden + self.dropout(attention(hidden, mask)))
            hidden = norm_2(hidden + self.dropout(feed_forward(hidden, mask)))
        return hidden * mask


class DurationPredictor(nn.Module):
    """Two convolutions -> log(1 + frames) of each token."""

    def __init__(self, channels: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, inner, 3, padding=1)
        self.norm_1 = ChannelNorm(inner)
        self.conv_2 = nn.Conv1d(inner, inner, 3, padding=1)
        self.norm_2 = ChannelNorm(inner)
        self.proj = nn.Conv1d(inner, 1, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`hidden` [B, C, N], `mask` [B, 1, N] -> [B, 1, N]."""
        hidden = self.dropout(self.norm_1(functional.relu(self.conv_1(hidden * mask))))
        hidden = self.dropout(self.norm_2(functional.relu(self.conv_2(hidden * mask))))
        durations: Tensor = self.proj(hidden * mask) * mask
        return durations


class TextEncoder(nn.Module):
    """Tokens -> mean (and log scale) of the prior, and durations."""

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        channels = config.encoder_channels
        self.emb = nn.Embedding(len(config.vocabulary), channels)
        nn.init.normal_(self.emb.weight, 0.0, channels**-0.5)
        self.prenet = Prenet(channels) if config.prenet else None
        self.encoder = Transformer(config)
        self.proj_m = nn.Conv1d(channels, config.out_channels, 1)
        self.proj_s = None if config.mean_only else nn.Conv1d(channels, config.out_channels, 1)
        self.duration_predictor = DurationPredictor(
            channels, config.duration_channels, config.duration_dropout
        )

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`tokens` [B, N], `mask` [B, 1, N] -> mean, log scale [B, D, N]; log(1 + d) [B, 1, N]."""
        hidden = (self.emb(tokens) * math.sqrt(self.emb.embedding_dim)).transpose(1, 2)
        if self.prenet is not None:
            hidden = self.prenet(hidden, mask)
        hidden = self.encoder(hidden, mask)
        mean = self.proj_m(hidden) * mask
        scale = torch.zeros_like(mean) if self.proj_s is None else self.proj_s(hidden) * mask
        # Durations do not train the encoder: the paper stops the gradient here.
        return mean, scale, self.duration_predictor(hidden.detach(), mask)


class ActNorm(nn.Module):
    """A scale and a shift for each channel (Kingma and Dhariwal 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logs = nn.Parameter(torch.zeros(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, columns: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the prior: `columns` [B, C, T] -> the same shape, and log determinants [B]."""
        moved = (self.bias + torch.exp(self.logs) * columns) * mask
        return moved, self.logs.sum() * mask.sum((1, 2))

    def reverse(self, columns: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `forward`."""
        return (columns - self.bias) * torch.exp(-self.logs) * mask

    @torch.no_grad()
    def initialise(self, columns: Tensor, mask: Tensor) -> None:
        """Make the channels of `columns` [B, C, T] leave with zero mean and unit variance."""
        count = mask.sum()
        mean = (columns * mask).sum((0, 2)) / count
        variance = (columns.square() * mask).sum((0, 2)) / count - mean.square()
        logs = -0.5 * variance.clamp(min=1e-6).log()
        self.logs.copy_(logs.view_as(self.logs))
        self.bias.copy_((-mean * logs.exp()).view_as(self.bias))


class InvertibleConv(nn.Module):
    """One invertible matrix [S, S] that mixes the channels within groups of S."""

    def __init__(self, splits: int) -> None:
        super().__init__()
        self.splits = splits
        weight = torch.linalg.qr(torch.randn(splits, splits))[0]
        turned = torch.linalg.det(weight).sign()  # a rotation, without a reflection
        self.weight = nn.Parameter(torch.cat([weight[:, :1] * turned, weight[:, 1:]], dim=1))

    def forward(self, columns: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the prior: `columns` [B, C, T] -> the same shape, and log determinants [B]."""
        groups = columns.shape[1] // self.splits
        volume = torch.linalg.slogdet(self.weight)[1] * groups
        return self._mix(columns, self.weight) * mask, volume * mask.sum((1, 2))

    def reverse(self, columns: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `forward`."""
        return self._mix(columns, torch.linalg.inv(self.weight)) * mask

    def _mix(self, columns: Tensor, weight: Tensor) -> Tensor:
        # A group takes half of its channels from the first half of all, which the next coupling
        # layer leaves alone, and half from the second.
        batch, channels, frames = columns.shape
        half, groups = self.splits // 2, channels // self.splits
        grouped = columns.view(batch, 2, groups, half, frames).transpose(2, 3)
        grouped = grouped.reshape(batch, self.splits, groups * frames)
        mixed = (weight @ grouped).view(batch, 2, half, groups, frames)
        return mixed.transpose(2, 3).reshape(batch, channels, frames)


class GatedConvs(nn.Module):
    """WaveNet's gated dilated convolutions with skip connections (van den Oord et al. 2016)."""

    def __init__(self, channels: int, config: GlowConfig) -> None:
        super().__init__()
        kernel, last = config.decoder_kernel, config.block_layers - 1
        dilations = [config.dilation_rate**i for i in range(config.block_layers)]
        self.in_layers = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, kernel, padding=d * (kernel // 2), dilation=d)
            for d in dilations
        )
        self.res_skip_layers = nn.ModuleList(
            nn.Conv1d(channels, channels if i == last else 2 * channels, 1)
            for i in range(config.block_layers)
        )
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`hidden` [B, C, T], `mask` [B, 1, T] -> [B, C, T]."""
        channels = hidden.shape[1]
        total = torch.zeros_like(hidden)
        for read, pass_on in zip(self.in_layers, self.res_skip_layers, strict=True):
            wave, gate = self.dropout(read(hidden)).chunk(2, dim=1)
            out = pass_on(torch.tanh(wave) * torch.sigmoid(gate))
            if out.shape[1] > channels:
                hidden = (hidden + out[:, :channels]) * mask
            total = total + out[:, -channels:]
        return total * mask


class Coupling(nn.Module):
    """An affine map of one half of the channels, by what the other half says."""

    def __init__(self, channels: int, config: GlowConfig) -> None:
        super().__init__()
        self.sigmoid_scale = config.sigmoid_scale
        self.start = nn.Conv1d(channels // 2, config.decoder_channels, 1)
        self.wn = GatedConvs(config.decoder_channels, config)
        self.end = nn.Conv1d(config.decoder_channels, channels, 1)
        nn.init.zeros_(self.end.weight)  # starts as the identity
        nn.init.zeros_(self.end.bias)  # type: ignore[arg-type]

    def forward(self, columns: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the prior: `columns` [B, C, T] -> the same shape, and log determinants [B]."""
        kept, changed = columns.chunk(2, dim=1)
        shift, logs = self._read(kept, mask)
        changed = (shift + torch.exp(logs) * changed) * mask
        return torch.cat([kept, changed], dim=1), (logs * mask).sum((1, 2))

    def reverse(self, columns: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `forward`."""
        kept, changed = columns.chunk(2, dim=1)
        shift, logs = self._read(kept, mask)
        return torch.cat([kept, (changed - shift) * torch.exp(-logs) * mask], dim=1)

    def _read(self, kept: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.wn(self.start(kept) * mask, mask)
        shift, logs = self.end(hidden).chunk(2, dim=1)
        if self.sigmoid_scale:
            logs = torch.log(1e-6 + torch.sigmoid(logs + 2))
        return shift, logs


class Flow(nn.Module):
    """The invertible decoder: features <-> the space of the prior."""

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.squeeze = config.squeeze
        channels = config.out_channels * config.squeeze
        self.flows = nn.ModuleList()
        for _ in range(config.flow_blocks):
            self.flows.append(ActNorm(channels))
            self.flows.append(InvertibleConv(config.splits))
            self.flows.append(Coupling(channels, config))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`features` [B, D, T] -> [B, D, T] in the prior's space, and log determinants [B]."""
        columns, mask = self._pack(features, mask)
        total = columns.new_zeros(len(columns))
        for flow in self.flows:
            columns, volume = flow(columns, mask)
            total = total + volume
        return self._unpack(columns), total

    def reverse(self, columns: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `forward`; frames that do not fill a last group are dropped."""
        columns, mask = self._pack(columns, mask)
        for flow in reversed(self.flows):
            columns = flow.reverse(columns, mask)  # type: ignore[operator]
        return self._unpack(columns)

    @torch.no_grad()
    def initialise(self, features: Tensor, mask: Tensor) -> None:
        """Set every ActNorm so that these `features` [B, D, T] leave it normalised."""
        columns, mask = self._pack(features, mask)
        for flow in self.flows:
            if isinstance(flow, ActNorm):
                flow.initialise(columns, mask)
            columns, _ = flow(columns, mask)

    def _pack(self, columns: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, frames = columns.shape
        group = self.squeeze
        frames -= frames % group
        packed = columns[..., :frames].reshape(batch, channels, frames // group, group)
        packed = packed.permute(0, 3, 1, 2).reshape(batch, group * channels, frames // group)
        thin = mask[..., group - 1 : frames : group]
        return packed * thin, thin

    def _unpack(self, packed: Tensor) -> Tensor:
        batch, channels, groups = packed.shape
        columns = packed.view(batch, self.squeeze, channels // self.squeeze, groups)
        return columns.permute(0, 2, 3, 1).reshape(batch, -1, groups * self.squeeze)


class GlowTts(nn.Module):
    """A text front end (`knnvc.text.base`): phonemes -> features [T, D] by Glow-TTS."""

    def __init__(self, config: GlowConfig, language: str = "en-us") -> None:
        super().__init__()
        self.config = config
        self.language = language
        self.encoder = TextEncoder(config)
        self.decoder = Flow(config)
        # The last one counts where a sign stands twice, as in the published class.
        self._numbers = {sign: i for i, sign in enumerate(config.vocabulary) if len(sign) == 1}

    @classmethod
    def from_checkpoint(cls, config: Path | Mapping[str, Any], weights: Path) -> GlowTts:
        """Load a published checkpoint `{'model': state}` with the config.json beside it.

        Raises:
            UsageError: a file is missing.
            KnnvcError: a file is damaged, carries code, or the two do not fit each other.
        """
        values = dict(config) if isinstance(config, Mapping) else read_json(Path(config))
        dimensions = GlowConfig.from_published(values)
        state = read_published_glow(weights, dimensions)  # before memory is taken by what they say
        network = cls(dimensions, published_language(values))
        network.load_state_dict(state)
        return network.eval()

    @property
    def symbols(self) -> frozenset[str]:
        """The signs that have a token."""
        return frozenset(self._numbers)

    def tokens(self, phonemes: str) -> Tensor:
        """Token numbers [N] of `phonemes`.

        Raises:
            KnnvcError: there is nothing to speak, or a sign that has no token.
        """
        numbers = numbers_of(phonemes, self._numbers)
        if self.config.ends is not None:
            numbers = [self.config.ends[0], *numbers, self.config.ends[1]]
        if self.config.blank is not None:
            blanks = [self.config.blank] * (2 * len(numbers) + 1)
            blanks[1::2] = numbers
            numbers = blanks
        return torch.tensor(numbers)

    @torch.inference_mode()
    def features(
        self,
        phonemes: str,
        *,
        speed: float = 1.0,
        noise: float = 0.667,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Features [T, D] float32 on the CPU.

        Args:
            phonemes: One sentence in the signs of `symbols`.
            speed: 2 speaks twice as fast.
            noise: Factor on the prior's standard deviation; 0 always gives the same.
            generator: Where the noise comes from.

        Raises:
            KnnvcError: there are no phonemes, a sign is unknown, or the weights make no sense.
        """
        device = self.encoder.emb.weight.device
        tokens = self.tokens(phonemes).to(device)[None]
        mean, scale, log_durations = self.encoder(tokens, tokens.new_ones(1, 1, tokens.shape[1]))
        wanted = (torch.exp(log_durations[0, 0]) - 1) * self.config.length_scale / speed
        counts = wanted.nan_to_num(1).ceil().clamp(1, LONGEST_TOKEN).long()
        mean, scale = (part.repeat_interleave(counts, dim=2) for part in (mean, scale))
        drawn = torch.randn(mean.shape, generator=generator).to(device)
        state = mean + torch.exp(scale) * drawn * noise
        try:
            features = self.decoder.reverse(state, state.new_ones(1, 1, state.shape[2]))
            good = bool(torch.isfinite(features).all())
        except RuntimeError:  # LinAlgError is one: a matrix that cannot be inverted
            good = False
        if not good:
            raise KnnvcError("the text front end's weights give no finite features: get it again")
        return features[0].T.float().cpu().contiguous()


def load(spec: PartSpec, context: Context) -> GlowTts:
    """The front end that a preset describes.

    Raises:
        KnnvcError: it predicts other features than the preset's encoder gives.
    """
    assert spec.weights is not None
    assert context.encoder is not None
    config = GlowConfig.from_dict(spec.config)
    columns = context.encoder.columns
    if not columns.together or config.out_channels != columns.width:
        raise KnnvcError(
            f"the text front end of preset {context.preset!r} predicts {config.out_channels} "
            f"columns, but its encoder gives {columns.width}: use a front end that was trained on "
            "this encoder"
        )
    network = GlowTts(config, spec.settings["language"])
    network.load_state_dict(as_single(read_tensors(spec.weights)[0]))
    return network.eval().to(context.device)


def published_language(values: Mapping[str, Any]) -> str:
    """The espeak-ng voice that a published config.json names."""
    language = values.get("phoneme_language")
    return language if isinstance(language, str) and language else "en-us"


def read_published_glow(path: Path, config: GlowConfig) -> dict[str, Tensor]:
    """The state of a `GlowTts` out of a checkpoint `{'model': state}`, checked, in float32.

    Raises:
        UsageError: there is no such file.
        KnnvcError: it is damaged, carries code, or is not what `config` describes.
    """
    state = read_pickle(path).get("model")
    if not isinstance(state, dict) or not state:
        raise KnnvcError(f"{path} holds no 'model': give a published Glow-TTS checkpoint")
    folded = fold_weight_norm(as_float32(state, path))
    with torch.device("meta"):  # shapes only: nothing is allocated or initialised
        expected = GlowTts(config).state_dict()
    check_shapes(path, expected, folded)
    return folded
