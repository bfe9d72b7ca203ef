"""Presets from published files: import of checkpoints, and download of the known ones."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, os_reason, sha256_file
from knnvc.presets.download import REGISTRY, Progress, download
from knnvc.presets.published import read_published_hifigan, read_published_wavlm
from knnvc.presets.schema import (
    FILE_NAME,
    FORMAT_VERSION,
    Preset,
    load_preset,
    parse,
    save_json,
)
from knnvc.presets.search import (
    PUBLISHED,
    PublishedPreset,
    bundled_folder,
    downloads_folder,
    find_preset,
    presets_folder,
)
from knnvc.registry import find
from knnvc.tensors import check_shapes, read_json, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from knnvc.vocoders.hifigan import HifiGanConfig

SAMPLE_RATE = 16_000  # Hz: every published SSL encoder hears 16 kHz


def import_published(
    encoder: Path,
    layer: int,
    vocoder: Path,
    vocoder_config: Path | Mapping[str, Any],
    out: Path,
    *,
    force: bool = False,
    name: str | None = None,
    description: str | None = None,
    licence: str = "unknown",
    licences: Mapping[str, str] | None = None,
) -> Preset:
    """Turn published kNN-VC files into the preset folder `out`, completely or not at all.

    Only the transformer layers up to `layer` are kept: the others never run.

    Args:
        encoder: WavLM checkpoint `{'cfg', 'model'}`.
        layer: Transformer layer whose output is matched and vocoded; 1 is the first.
        vocoder: HiFi-GAN checkpoint `{'generator'}`.
        vocoder_config: Its config.json, or the content of it.
        out: Folder to make.
        force: Replace `out` if it is a preset; any other folder with content is never replaced.
        name: Of the preset; the name of the folder by default.
        description: One sentence; made of the file names by default.
        licence: Of the weights.
        licences: Of the parts, by name.

    Raises:
        UsageError: A file is missing, the layer does not exist, or `out` is in the way.
        KnnvcError: A file is damaged or the two do not fit each other, or writing failed.
    """
    from knnvc.encoders.ssl import first_layers

    encoder, vocoder, out = Path(encoder), Path(vocoder), Path(out)
    check_out(out, force)
    if name is not None and not name.strip():
        raise UsageError("the name of a preset must not be empty: give another --name")

    wavlm, encoder_state = read_published_wavlm(encoder)
    depth = wavlm["num_hidden_layers"]
    if type(layer) is not int or not 1 <= layer <= depth:
        raise UsageError(f"{encoder} has the layers 1 to {depth}: choose one of them, not {layer}")
    wavlm["num_hidden_layers"] = layer
    encoder_state = first_layers(encoder_state, layer)
    _check_encoder(encoder, wavlm, encoder_state)

    values, vocoder_state = read_published_hifigan(vocoder, vocoder_config)
    hifigan = _check_vocoder(vocoder, values, vocoder_state)
    _check_fit(wavlm, hifigan)

    files = {
        "encoder": {"file": encoder.name, "sha256": sha256_file(encoder), "layers": depth},
        "vocoder": {"file": vocoder.name, "sha256": sha256_file(vocoder)},
    }
    content = _knn_vc(wavlm, layer, hifigan) | {
        "name": name or out.resolve().name,
        "description": description
        or f"Imported from {encoder.name} (layer {layer}) and {vocoder.name}.",
        "licence": licence,
        "licences": dict(licences or {}),
        "provenance": files,
    }
    with replace_folder(out) as folder:
        folder.mkdir()
        write_tensors(folder / "encoder.safetensors", encoder_state)
        write_tensors(folder / "vocoder.safetensors", vocoder_state)
        save_json(folder, content)
        load_preset(folder)  # what is handed over can be read
    return load_preset(out)


def _knn_vc(wavlm: Mapping[str, Any], layer: int, hifigan: HifiGanConfig) -> dict[str, Any]:
    """What preset.json says of the parts of published kNN-VC."""
    return {
        "format_version": FORMAT_VERSION,
        "sample_rate": hifigan.sampling_rate,
        "encoder": {
            "type": "wavlm",
            "weights": "encoder.safetensors",
            "config": dict(wavlm),
            "match_layer": layer,
            "synth_layer": layer,
        },
        "converter": {"type": "knn", "config": {"k": 4, "weighting": "mean", "lam": 1.0}},
        "vocoder": {
            "type": "hifigan",
            "weights": "vocoder.safetensors",
            "config": hifigan.to_dict(),
        },
        "text_front_end": None,
    }


def pull(
    name: str,
    *,
    force: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Preset:
    """Download a published preset into the cache, convert it, and return it.

    Files that lie in `downloads_folder()` already are checked and used; one that is there and
    whole is not fetched again. A preset that is on the machine is returned as it is, but for a
    text front end that is missing: it is tried again. Without it the preset converts speech.

    Args:
        name: One of PUBLISHED.
        force: Convert again and replace the pulled preset.
        progress: Called with (file name, bytes there, bytes in all or None).
        warn: Called with a sentence if the text front end could not be had.

    Raises:
        UsageError: Unknown name.
        KnnvcError: The download or the conversion failed; says what to do.
    """
    known = PUBLISHED.get(name)
    if known is None:
        if (bundled_folder() / name / FILE_NAME).is_file():
            return find_preset(name)
        raise UsageError(f"there is no preset {name!r} to pull: choose from {', '.join(PUBLISHED)}")
    target = presets_folder() / known.name
    if force or not (target / FILE_NAME).is_file():
        made = _pull_conversion(known, target, progress)
    else:
        made = load_preset(target)
    if known.text_front_end is None or made.text_front_end is not None:
        return made
    try:
        weights, config = _download(known.text_front_end, progress)
        return add_published_front_end(made, weights, config, known.text_front_end_licence)
    except KnnvcError as error:
        if warn is not None:
            warn(f"{known.name} converts speech but cannot speak text yet: {error}")
        return made


def _pull_conversion(
    known: PublishedPreset,
    target: Path,
    progress: Callable[[str, int, int | None], None] | None,
) -> Preset:
    encoder, vocoder = _download((known.encoder, known.vocoder), progress)
    return import_published(
        encoder,
        known.layer,
        vocoder,
        known.vocoder_config,
        target,
        force=True,
        name=known.name,
        description=known.description,
        licence=known.licence,
        licences=known.licences,
    )


def _download(
    names: tuple[str, str], progress: Callable[[str, int, int | None], None] | None
) -> tuple[Path, Path]:
    first, second = (
        download(
            REGISTRY[name],
            downloads_folder(),
            progress=None if progress is None else _named(progress, name),
        )
        for name in names
    )
    return first, second


def add_published_front_end(
    preset: Preset, weights: Path, config: Path, licence: str = "unknown"
) -> Preset:
    """Give a preset the Glow-TTS of a published checkpoint `{'model': state}`.

    Raises:
        UsageError: A file is missing.
        KnnvcError: A file is damaged, or its features are not those of the preset's encoder.
    """
    from knnvc.text.glow import GlowConfig, published_language, read_published_glow

    values = read_json(config)
    dimensions = GlowConfig.from_published(values)
    front_end = {
        "type": "glow-tts",
        "config": dimensions.to_dict(),
        "language": published_language(values),
    }
    origin = {"file": Path(weights).name, "sha256": sha256_file(Path(weights))}
    state = read_published_glow(weights, dimensions)
    columns = dimensions.out_channels
    return add_text_front_end(preset, front_end, columns, state, licence, origin)


def add_text_front_end(
    preset: Preset,
    front_end: Mapping[str, Any],
    columns: int,
    state: Mapping[str, Tensor],
    licence: str,
    provenance: Mapping[str, Any],
) -> Preset:
    """Write a text front end into a preset's folder; one that is there is replaced.

    Args:
        preset: it must lie where it can be written.
        front_end: type, config and language.
        columns: what it predicts for each frame.
        state: its weights.
        licence: its licence.
        provenance: where it comes from.

    Raises:
        KnnvcError: writing failed, the settings are no text front end's, or it predicts other
            columns than the preset's encoder gives.
    """
    encoder = preset.encoder
    config = find("encoder", encoder.type).check(encoder.config)
    # Of SSL encoders it is the width of the transformer.
    given = getattr(config, "columns", None) or encoder.config.get("hidden_size")
    if columns != given:
        raise KnnvcError(
            f"the text front end predicts features of {columns} columns and the encoder of "
            f"{preset.name} gives {given}: use a front end that was trained on this encoder"
        )
    content = read_json(preset.folder / FILE_NAME)
    content["text_front_end"] = {**front_end, "weights": "text_front_end.safetensors"}
    content["licences"]["text front end"] = licence
    content["provenance"]["text_front_end"] = dict(provenance)
    try:
        parse(content, preset.folder)
    except ValueError as error:
        raise KnnvcError(f"this text front end cannot be added ({error})") from error
    # The weights first: a preset.json never names a file that is not there.
    write_tensors(preset.folder / "text_front_end.safetensors", state)
    save_json(preset.folder, content)
    return load_preset(preset.folder)


def _named(progress: Callable[[str, int, int | None], None], name: str) -> Progress:
    return lambda done, total: progress(name, done, total)


def check_out(out: Path, force: bool) -> None:
    """Raise UsageError if a preset cannot be made in the folder `out`."""
    if out.is_dir():
        content = [path.name for path in out.iterdir()]
        if content and FILE_NAME not in content:
            raise UsageError(f"the folder {out} holds other files: name a new folder")
        if content and not force:
            raise UsageError(f"{out} already exists: pass --force to replace it")
    elif out.exists() or out.is_symlink():
        raise UsageError(f"{out} is a file: name a folder")


@contextlib.contextmanager
def replace_folder(out: Path) -> Iterator[Path]:
    """Yield the name of a folder to make; it becomes `out` when the block succeeds."""
    if not out.exists():
        with atomic_path(out) as folder:
            yield folder
        return
    try:
        with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=".") as staging:
            # A folder cannot be replaced by one that has content: the old one steps aside first.
            new, old = Path(staging, "new"), Path(staging, "old")
            yield new
            out.rename(old)
            try:
                new.rename(out)
            except BaseException:
                old.rename(out)
                raise
    except OSError as error:
        raise KnnvcError(f"cannot write {out}: {os_reason(error)}") from error


def _check_encoder(path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Raise KnnvcError unless the network has exactly these tensors."""
    import torch

    from knnvc.encoders.wavlm import WavLM, WavLMConfig

    try:
        with torch.device("meta"):  # shapes only: nothing is allocated or initialised
            expected = WavLM(WavLMConfig.from_dict(config)).state_dict()
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise KnnvcError(
            f"{path} has a WavLM configuration that cannot be used ({error}): "
            "give a published WavLM checkpoint such as WavLM-Large.pt"
        ) from error
    check_shapes(path, expected, state)


def _check_vocoder(
    path: Path, values: Mapping[str, Any], state: Mapping[str, Tensor]
) -> HifiGanConfig:
    """Return the configuration; raise KnnvcError unless the network has exactly these tensors."""
    import torch

    from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

    config = HifiGanConfig.from_dict(values)
    with torch.device("meta"):
        expected = HifiGan(config).state_dict()
    check_shapes(path, expected, state)
    return config


def _check_fit(wavlm: Mapping[str, Any], hifigan: HifiGanConfig) -> None:
    if hifigan.hubert_dim != wavlm["hidden_size"]:
        raise KnnvcError(
            f"the vocoder reads features of {hifigan.hubert_dim} columns and the encoder gives "
            f"{wavlm['hidden_size']}: use a vocoder that was trained on this encoder"
        )
    stride = math.prod(wavlm["conv_stride"])
    if hifigan.hop * SAMPLE_RATE != stride * hifigan.sampling_rate:
        raise KnnvcError(
            f"the vocoder makes {hifigan.hop} samples of a frame at {hifigan.sampling_rate} Hz, "
            f"but the encoder's frames are {stride / SAMPLE_RATE * 1000:g} ms long: "
            "use a vocoder that was trained on this encoder"
        )
