"""Encoders by name, with all their layers."""

from __future__ import annotations

from knnvc.encoders.base import ALL, Encoder
from knnvc.evaluation.probing.layers import Hearing
from knnvc.presets.named import open_encoder


def hearing_of(name: str, device: str = "auto") -> Hearing:
    """The encoder called `name`, see `knnvc.presets.named.open_encoder`, with all its layers.

    Raises:
        UsageError: there is no such encoder or device.
        KnnvcError: its files are missing or damaged.
    """
    return Hearing(encoder_of(name, device), name)


def encoder_of(name: str, device: str = "auto") -> Encoder:
    """See `hearing_of`."""
    return open_encoder(name, ALL, device)
