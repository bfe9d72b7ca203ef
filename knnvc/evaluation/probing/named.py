"""Encoders by name, with all their layers: presets, and checkpoints of transformers."""

from __future__ import annotations

from knnvc.encoders.base import Encoder
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.encoders.ssl import load_every_layer
from knnvc.errors import UsageError
from knnvc.evaluation.probing.layers import Hearing
from knnvc.presets.loading import choose_device, load_parts
from knnvc.presets.search import find_preset


def hearing_of(name: str, device: str = "auto") -> Hearing:
    """The encoder of a preset, or a checkpoint of transformers with all layers.

    Raises:
        UsageError: there is no such preset or device.
        KnnvcError: the encoder cannot be read.
    """
    return Hearing(encoder_of(name, device), name)


def encoder_of(name: str, device: str = "auto") -> Encoder:
    """See `hearing_of`."""
    try:
        preset = find_preset(name)
    except UsageError as error:
        try:
            return ChunkedEncoder(load_every_layer(name), choose_device(device))
        except Exception:
            raise error from None
    return load_parts(preset, device).encoder
