"""All layers of an encoder, through its protocol: names and frames [T, D] for a waveform.

An encoder that was opened with all layers gives them all; so does one whose network shows its
transformer layers (`stack`). The columns that a network names (`named_columns`) join them. Any
other encoder gives the features themselves.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from knnvc.encoders.base import Encoder
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.encoders.ssl import listen
from knnvc.encoding import layers_of

FEATURES = "features"
_LAYER = re.compile(r"layer (\d+)")


class Hearing:
    """A frozen encoder that shows its layers.

    Args:
        encoder: any encoder.
        name: what tables call it.
    """

    def __init__(self, encoder: Encoder, name: str) -> None:
        self.encoder = encoder
        self.name = name
        self.sample_rate = encoder.sample_rate
        self.hop = encoder.hop

    @property
    def frame(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop / self.sample_rate

    @torch.inference_mode()
    def layers(self, wave: Tensor) -> dict[str, Tensor]:
        """Frames [T, D] float32 of `wave` [S] at `sample_rate`, by layer."""
        found = every_layer(self.encoder, wave)
        if len(found) > 1:
            found.pop(FEATURES)
        return {name: _finite(values) for name, values in found.items()}

    def times(self, frames: int) -> Tensor:
        """The middles [T] of so many frames, in seconds."""
        return (torch.arange(frames) + 0.5) * self.frame


def every_layer(encoder: Encoder, wave: Tensor) -> dict[str, Tensor]:
    """Outputs [T, D] of all layers for `wave` [S], by name, and "features", what `encode` returns.

    Layer 0 is the input of the first transformer layer. Long audio is heard in the encoder's own
    overlapping pieces, whose frames are put together as those of the features are.
    """
    network: Any = getattr(encoder, "network", None)
    stack, count = getattr(network, "stack", None), layers_of(encoder)
    if count > 1:  # they stand side by side
        features = encoder.encode(wave)
        widths = getattr(network, "widths", None) or (features.shape[1] // count,) * count
        parts = torch.split(features, list(widths), dim=1)
        return {f"layer {n}": part for n, part in enumerate(parts)} | {FEATURES: features}
    if stack is None or not isinstance(encoder, ChunkedEncoder):
        features = encoder.encode(wave)
        return _named(network, features) | {FEATURES: features}
    heard: list[dict[int, Tensor]] = []
    taken: dict[int, Tensor] = {}

    def keep(*_: object) -> None:
        heard.append({number: taken[number][0].float().cpu() for number in sorted(taken)})

    hook = network.register_forward_hook(keep)
    try:
        with listen(stack, tuple(range(len(stack) + 1)), taken):
            features = encoder.encode(wave)
    finally:
        hook.remove()
    found = {
        f"layer {number}": torch.cat(
            [
                piece[number][start - first : stop - first]
                for piece, (start, stop, first) in zip(
                    heard, pieces(encoder, len(features)), strict=True
                )
            ]
        )
        for number in heard[0]
    }
    return found | _named(network, features) | {FEATURES: features}


def pieces(encoder: ChunkedEncoder, frames: int) -> list[tuple[int, int, int]]:
    """Where `encode` cuts: frames from `start` to `stop` come of a piece that begins at `first`."""
    whole = frames <= encoder.chunk + 2 * encoder.context
    step = frames if whole else encoder.chunk
    return [
        (start, min(frames, start + step), max(0, start - encoder.context))
        for start in range(0, frames, step)
    ]


def _named(network: Any, features: Tensor) -> dict[str, Tensor]:
    named = getattr(network, "named_columns", None) or {}
    return {name: features[:, columns] for name, columns in named.items()}


def is_layer(name: str) -> bool:
    """Whether it is a numbered layer, which mixtures are made of."""
    return _LAYER.fullmatch(name) is not None


def short(name: str) -> str:
    """The number of a layer, or the whole name, for axes."""
    return name.removeprefix("layer ")


def _finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values.float(), nan=0.0, posinf=0.0, neginf=0.0)
