"""Encoders by name: of a preset, the catalogue, a published file, a model of transformers."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from knnvc.encoders.base import ALL, Encoder
from knnvc.errors import KnnvcWarning, UsageError
from knnvc.presets.catalogue import ENCODERS, Known, Progress, find_known
from knnvc.presets.checkpoints import Read, read_encoder
from knnvc.presets.loading import choose_device
from knnvc.presets.schema import FILE_NAME
from knnvc.presets.search import PUBLISHED, bundled_folder, find_preset, presets_folder
from knnvc.registry import Context, PartSpec, find


def open_encoder(
    name: str | Path,
    layer: int | str | None = None,
    device: str = "auto",
    *,
    weights: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    chunk: float | None = None,
    progress: Progress | None = None,
) -> Encoder:
    """Load an encoder.

    Args:
        name: of a preset or its folder; of `knnvc.presets.catalogue.ENCODERS`; a published file; a
            folder saved by `save_pretrained`, or a hub name.
        layer: 0 to the number of layers, −1 for the last one with the final layer norm, or "all",
            side by side; None is the encoder's own.
        device: "auto", "cpu", "cuda" or "mps".
        weights: the published file, where a user brings it.
        config: settings, such as BYOL-A's `mean` and `std`.
        chunk: seconds of the pieces that long audio is encoded in.
        progress: of downloads, see `Known.fetch`.

    Raises:
        UsageError: there is no such encoder, or it has no layers to choose.
        KnnvcError: its files are missing or damaged, or the layer does not exist.
    """
    where = choose_device(device)
    spec, state = encoder_files(name, weights=weights, config=config, progress=progress)
    context = Context(str(name), where, chunk=chunk)
    known = find_known(ENCODERS, str(name))
    if layer is None and known is not None and known.layer is not None:
        layer = known.layer
    chosen = with_layer(spec, layer, str(name))
    made: Encoder = find("encoder", spec.type).make(chosen, context, state)
    return made


def with_layer(spec: PartSpec, layer: int | str | None, name: str) -> PartSpec:
    """The encoder with another layer.

    Raises:
        UsageError: it has none to choose, or `layer` is neither a whole number nor "all".
    """
    if "match_layer" not in find("encoder", spec.type).settings:
        if layer in (None, ALL):
            return spec
        raise UsageError(f"the encoder of {name!r} has no layers to choose: leave layer out")
    if layer is None:
        if "match_layer" in spec.settings:
            return spec
        layer = -1
    if layer == ALL:
        return replace(spec, settings={**spec.settings, "layers": ALL})
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise UsageError(f"layer is {str(layer)[:20]!r}: give a whole number, or all")
    layers = {"match_layer": layer, "synth_layer": layer}
    return replace(spec, settings={**spec.settings, **layers})


def encoder_files(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Read:
    """An encoder as a preset would describe it, and its weights where they were read already.

    Raises:
        UsageError: there is no such encoder.
        KnnvcError: its files are missing or damaged.
    """
    text = str(name)
    known = find_known(ENCODERS, text)
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.exists():
            raise UsageError(f"there is no file {path}: check the path")
        return _expected(known, read_encoder(path, config), path)
    if is_preset(text) and not (config and known is not None):
        if config:
            raise UsageError(f"the encoder of preset {text!r} takes no settings")
        return find_preset(text).encoder, None
    if known is not None:
        return _read_known(known, config, progress)
    path = Path(name).expanduser()
    if path.exists():
        return read_encoder(path, config)
    if text in PUBLISHED:
        find_preset(text)  # says how to get it
    if "/" in text and not text.startswith((".", "/", "~")):
        normalize = bool((config or {}).get("normalize", False))
        return PartSpec("encoder", "huggingface", {"name": text, "normalize": normalize}), None
    close = difflib.get_close_matches(text.lower(), list(ENCODERS), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"there is no encoder {text[:40]!r}{hint}: give a name of `knnvc encoders`, a preset, a "
        "published file, or a folder or hub name of transformers"
    )


def is_preset(text: str) -> bool:
    """Whether a preset of this name or in this folder is there."""
    plain = text not in ("", "..") and Path(text).name == text
    homes = (bundled_folder(), presets_folder())
    if plain and any((home / text / FILE_NAME).is_file() for home in homes):
        return True
    folder = Path(text).expanduser()
    return folder.is_file() if folder.name == FILE_NAME else (folder / FILE_NAME).is_file()


def _read_known(known: Known, config: Mapping[str, Any] | None, progress: Progress | None) -> Read:
    values = {**known.config, **(config or {})}
    if not known.files:
        return PartSpec("encoder", known.type, values), None
    folder = known.fetch(progress)
    verify(known)
    path = folder if known.type == "huggingface" else folder / known.files[0][0]
    return _expected(known, read_encoder(path, values), path)


def _expected(known: Known | None, read: Read, path: Path) -> Read:
    """What was read, if it is of the family that was asked for."""
    if known is None or read[0].type in (known.type, known.name.split("-")[0]):
        return read
    raise UsageError(f"{path} holds {read[0].type}, not {known.name}: name another file")


def verify(known: Known) -> None:
    """Compare the weights of a catalogue entry with their checksums.

    Where there is none to compare with, a warning says so.

    Raises:
        KnnvcError: weights are others than those that were published.
    """
    if names := known.verify():
        warnings.warn(
            f"{known.name} is UNVERIFIED: no checksum of {', '.join(names)} is known, so nobody "
            f"can tell whether this is the file of {known.page}",
            KnnvcWarning,
            stacklevel=2,
        )
