"""A preset's parts, loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from knnvc.converters.base import Converter
from knnvc.encoders.base import Encoder, frames_a_second
from knnvc.errors import KnnvcError, UsageError
from knnvc.options import DEVICES
from knnvc.presets.schema import Preset
from knnvc.registry import Context, PartSpec, find
from knnvc.text.base import TextFrontEnd
from knnvc.vocoders.base import Vocoder


@dataclass
class Parts:
    """What a preset, or a user, puts together.

    Attributes:
        encoder: speech to features.
        converter: features to frames of the target.
        vocoder: frames to a waveform, or None.
        name: of the preset, for messages and matching sets.
        make_front_end: makes the text front end, which is loaded when it is needed; or None.
        make_speech_converter: makes the converter that serves for text, if that is another.
        preset: that they come from, or None.
    """

    encoder: Encoder
    converter: Converter
    vocoder: Vocoder | None = None
    name: str = "custom"
    make_front_end: Callable[[], TextFrontEnd] | None = None
    make_speech_converter: Callable[[], Converter] | None = None
    preset: Preset | None = None

    def __post_init__(self) -> None:
        """Check that the vocoder reads what the encoder gives.

        Raises:
            KnnvcError: columns or frame rate differ.
        """
        if self.vocoder is None:
            return
        given, wanted = self.encoder.columns.width, self.vocoder.dim
        rates = frames_a_second(self.encoder), frames_a_second(self.vocoder)
        if given != wanted or rates[0] != rates[1]:
            raise KnnvcError(
                f"the encoder of preset {self.name!r} gives {given} columns every "
                f"{1000 / float(rates[0]):g} ms, but its vocoder reads {wanted} every "
                f"{1000 / float(rates[1]):g} ms: use parts that belong together"
            )

    @cached_property
    def front_end(self) -> TextFrontEnd:
        """The text front end, loaded when first asked for.

        Raises:
            UsageError: there is none.
        """
        if self.make_front_end is None:
            raise UsageError(
                f"preset {self.name!r} has no text front end, so it cannot speak: choose another "
                "preset (`knnvc preset list`)"
            )
        return self.make_front_end()

    @cached_property
    def speech_converter(self) -> Converter:
        """The converter that serves for text."""
        return self.make_speech_converter() if self.make_speech_converter else self.converter


def load_parts(
    preset: Preset,
    device: str = "auto",
    precision: str = "float32",
    chunk: float | None = None,
    *,
    fast: bool = True,
) -> Parts:
    """Load a preset.

    Args:
        preset: see `knnvc.presets.search.find_preset`.
        device: see `choose_device`.
        precision: see `knnvc.options.LoadOptions`.
        chunk: seconds of the pieces that long audio is encoded in; None is the preset's own.
        fast: swap layers for ones that compute faster on this device, which cannot be exported.

    Raises:
        UsageError: there is no such device, or the chunk is shorter than a frame.
        KnnvcError: the preset is damaged, or its parts do not fit.
    """
    context = Context(preset.name, choose_device(device), precision, chunk, fast)
    context.encoder = _make(preset.encoder, context)
    context.vocoder = None if preset.vocoder is None else _make(preset.vocoder, context)
    converter = _make(preset.converter, context)
    front_end, speech = preset.text_front_end, preset.speech_converter
    parts = Parts(context.encoder, converter, context.vocoder, preset.name, preset=preset)
    if front_end is not None:
        spec = front_end
        parts.make_front_end = lambda: _make(spec, context)
        context.front_end = lambda: parts.front_end
    if speech is not None:
        other = speech
        parts.make_speech_converter = lambda: _make(other, context)
    return parts


def _make(spec: PartSpec, context: Context) -> Any:
    return find(spec.kind, spec.type).make(spec, context)


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" (or "cuda:1") or "mps" into a device that is there.

    Raises:
        UsageError: it is unknown or not available.
    """
    kind, _, number = device.partition(":")
    if kind not in DEVICES or (":" in device and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
    mps = torch.backends.mps.is_available()
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (kind == "cuda" and int(number or 0) >= cuda) or (kind == "mps" and not mps):
        raise UsageError(f"device {device!r} is not available here: use --device auto")
    return torch.device(device)
