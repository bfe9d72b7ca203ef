"""What a `preset.json` may say, and reading one. Imports no torch until a part is checked.

A preset folder has a `preset.json` and the weights as safetensors, and needs nothing outside
itself. It names one part of each kind; `knnvc.registry` knows which there are and what they take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path
from knnvc.registry import Entry, PartSpec, find
from knnvc.tensors import read_json

FORMAT_VERSION = 2
FILE_NAME = "preset.json"
LARGEST_RATE = 768_000  # Hz
MOST_LAYERS = 1000

_PARTS = {  # key in preset.json: (kind of part, whether it must be there)
    "encoder": ("encoder", True),
    "converter": ("converter", True),
    "vocoder": ("vocoder", False),
    "text_front_end": ("text_front_end", False),
    "speech_converter": ("converter", False),
}
_TEXTS = ("name", "description", "licence")
_OBJECTS = ("licences", "provenance")
_PART_KEYS = frozenset({"type", "config"})


@dataclass(frozen=True)
class Preset:
    """What a `preset.json` says, checked; the weights themselves are not loaded.

    Attributes:
        folder: where it lies.
        name: its name, which matching sets remember.
        description: one sentence for `knnvc preset list`.
        sample_rate: of the converted audio, in Hz.
        encoder: speech to features.
        converter: features to frames of the target; its config holds the defaults of k, λ and
            weighting.
        vocoder: frames to a waveform; None for a preset that only encodes and matches.
        text_front_end: text to features, or None.
        speech_converter: that serves for text instead of `converter`, or None.
        licence: of the preset as a whole.
        licences: of its parts, by name.
        provenance: where the weights come from.
    """

    folder: Path
    name: str
    description: str
    sample_rate: int
    encoder: PartSpec
    converter: PartSpec
    vocoder: PartSpec | None
    text_front_end: PartSpec | None
    speech_converter: PartSpec | None
    licence: str
    licences: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """What the converter does where the options say nothing: k, λ, weighting."""
        config = find("converter", self.converter.type).check(self.converter.config)
        return {name: getattr(config, name, None) for name in ("k", "lam", "weighting")}

    @property
    def files(self) -> list[Path]:
        """The weights and assets of all parts."""
        parts = [getattr(self, key) for key in _PARTS]
        found = [part.weights for part in parts if part is not None and part.weights is not None]
        return [*found, *(path for part in parts if part for path in part.assets.values())]


def load_preset(folder: Path, *, configs: bool = True) -> Preset:
    """Read and check the `preset.json` of a folder.

    Args:
        folder: of the preset.
        configs: whether the parts' configurations are checked, too, which imports their modules.

    Raises:
        UsageError: the folder has no preset.json.
        KnnvcError: the preset is damaged: unknown or missing keys, bad values, missing weights.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise UsageError(f"the folder {folder} is no preset: it has no {FILE_NAME}")
    try:
        preset = parse(read_json(folder / FILE_NAME), folder, configs=configs)
    except ValueError as error:
        raise KnnvcError(
            f"the preset {folder} is damaged ({error}): mend its {FILE_NAME}, or get it again"
        ) from error
    for path in preset.files:
        if not path.is_file():
            raise KnnvcError(
                f"the preset {folder} is damaged ({path.name} is missing): get it again"
            )
    return preset


def save_json(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the content of a `preset.json` into a folder, all or nothing."""
    with atomic_path(folder / FILE_NAME) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        # A file name that is not UTF-8 reaches us with surrogates, which no JSON reader likes.
        temporary.write_bytes(text.encode("utf-8", "replace"))


def parse(values: Mapping[str, Any], folder: Path, *, configs: bool = True) -> Preset:
    """The preset that the content of a preset.json describes.

    Raises:
        ValueError: something about it is wrong; the message says what.
    """
    version = values.get("format_version")
    if version == 1:
        raise ValueError("it has format 1 of an older knnvc: import, pull or train it again")
    _check_that(version == FORMAT_VERSION, f"format_version is {str(version)[:40]}")
    required = {key for key, (_, needed) in _PARTS.items() if needed}
    required |= {"format_version", "sample_rate", *_TEXTS, *_OBJECTS}
    _check_keys("preset", values, required, _PARTS.keys())
    for key in _TEXTS:
        _check_that(isinstance(values[key], str) and values[key], f"{key} must be text")
    rate = values["sample_rate"]
    _check_that(_is_whole(rate, 1, LARGEST_RATE), "sample_rate must be a whole number of Hz")
    for key in _OBJECTS:
        _check_that(isinstance(values[key], dict), f"{key} must be an object")
    parts: dict[str, Any] = dict.fromkeys(_PARTS)
    for key, (kind, needed) in _PARTS.items():
        if needed or values.get(key) is not None:
            parts[key] = _part(key, kind, values[key], folder, configs)
    texts: dict[str, Any] = {key: values[key] for key in (*_TEXTS, *_OBJECTS)}
    return Preset(folder=folder, sample_rate=rate, **texts, **parts)


def _part(key: str, kind: str, values: Any, folder: Path, configs: bool) -> PartSpec:
    """One part of a preset, checked against the registry."""
    _check_that(isinstance(values, dict), f"{key} must be an object")
    _check_that("type" in values, f"missing keys in {key}: type")
    try:
        entry = find(kind, values["type"])
    except KnnvcError as error:
        raise ValueError(str(error)) from error
    weights = {"weights"} if entry.weights else set()
    optional = {"assets", *(one for one in entry.settings if one.endswith("_seconds"))}
    required = _PART_KEYS | weights | {one for one in entry.settings if one not in optional}
    _check_keys(key, values, required, optional)
    _check_that(isinstance(values["config"], dict), f"{key} config must be an object")
    assets = values.get("assets", {})
    _check_that(isinstance(assets, dict), f"{key} assets must be an object")
    for name in (*weights, *assets):
        file = values["weights"] if name == "weights" else assets[name]
        # A preset is self-contained: its files lie beside its preset.json.
        plain = isinstance(file, str) and file == Path(file).name and file not in ("", ".", "..")
        _check_that(plain, f"{key} {name} must be a file name without a folder")
    _check_settings(key, entry, values)
    try:
        if configs:
            entry.check(values["config"])
    except KnnvcError as error:
        raise ValueError(str(error)) from error
    return PartSpec(
        kind=kind,
        type=entry.name,
        config=values["config"],
        weights=folder / values["weights"] if entry.weights else None,
        assets={name: folder / file for name, file in assets.items()},
        folder=folder,
        settings={name: values[name] for name in entry.settings if name in values},
    )


def _check_settings(key: str, entry: Entry, values: Mapping[str, Any]) -> None:
    """The further keys of a part: layers, seconds, a language, a name."""
    for name in entry.settings:
        if name not in values:
            continue
        value = values[name]
        if name.endswith("_seconds"):
            _check_that(_is_number(value, 3600.0), f"{name} must be a number of seconds")
        elif name.endswith("_layer"):
            right = _is_whole(value, -1, MOST_LAYERS)
            _check_that(right, f"{name} must be a whole number from 0, or -1 for the last")
        else:
            _check_that(isinstance(value, str) and value, f"{key} {name} must be text")
    if entry.name == "huggingface":
        name = values["config"].get("name")
        _check_that(isinstance(name, str), f"{key} config must have the name of a model")


def _check_keys(
    where: str,
    values: Mapping[str, Any],
    keys: AbstractSet[str],
    optional: AbstractSet[str] = frozenset(),
) -> None:
    unknown = sorted(set(values) - keys - optional)
    _check_that(not unknown, f"unknown keys in {where}: {', '.join(map(str, unknown))[:80]}")
    missing = sorted(keys - set(values))
    _check_that(not missing, f"missing keys in {where}: {', '.join(missing)}")


def _check_that(good: object, problem: str) -> None:
    if not good:
        raise ValueError(problem)


def _is_number(value: object, most: float) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and 0 <= value <= most and math.isfinite(value)  # type: ignore[operator, arg-type]


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
