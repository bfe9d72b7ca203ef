"""Encoders by name, with all their layers."""

from __future__ import annotations

from pathlib import Path

from knnvc.encoders.base import ALL, Encoder
from knnvc.errors import UsageError
from knnvc.evaluation.probing.layers import Hearing
from knnvc.presets.catalogue import ENCODERS, find_known
from knnvc.presets.named import open_encoder
from knnvc.presets.search import find_preset


def hearing_of(name: str, device: str = "auto") -> Hearing:
    """The encoder called `name`, see `knnvc.presets.named.open_encoder`, with all its layers.

    Raises:
        UsageError: there is no such encoder or device.
        KnnvcError: its files are missing or damaged.
    """
    return Hearing(encoder_of(name, device), name)


def check_name(name: str) -> None:
    """Find out at once that there is no encoder `name`, before others are probed for hours.

    Raises:
        UsageError: there is none.
    """
    if Path(name).exists() or "/" in name or find_known(ENCODERS, name) is not None:
        return
    try:
        find_preset(name)
    except UsageError:
        encoder_of(name, "cpu")  # which says what there is


def encoder_of(name: str, device: str = "auto") -> Encoder:
    """See `hearing_of`."""
    return open_encoder(name, ALL, device)
