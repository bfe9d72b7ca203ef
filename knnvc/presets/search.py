"""Where presets lie: bundled with the package, pulled into the cache, or in a folder."""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import cache_dir
from knnvc.presets.schema import FILE_NAME, Preset, load_preset


@dataclass(frozen=True)
class PresetEntry:
    """One line of `knnvc preset list`; `status` is bundled, downloaded, available or damaged."""

    name: str
    status: str
    description: str
    licence: str
    folder: Path | None


@dataclass(frozen=True)
class PublishedPreset:
    """A preset that `pull` can make of files in the registry (named by `encoder`, `vocoder`).

    `text_front_end` names a Glow-TTS checkpoint and its config.json: an extra, without which the
    preset converts speech all the same.
    """

    name: str
    description: str
    encoder: str
    vocoder: str
    vocoder_config: Mapping[str, Any]
    layer: int
    licence: str
    licences: Mapping[str, str] = field(default_factory=dict)
    text_front_end: tuple[str, str] | None = None
    text_front_end_licence: str = "unknown"


PUBLISHED: dict[str, PublishedPreset] = {
    preset.name: preset
    for preset in (
        PublishedPreset(
            name="wavlm-large",
            description="Published kNN-VC: WavLM-Large, layer 6, and HiFi-GAN trained on "
            "prematched features.",
            encoder="WavLM-Large.pt",
            vocoder="prematch_g_02500000.pt",
            # hifigan/config_v1_wavlm.json of bshall/knn-vc, without its training settings.
            vocoder_config={
                "hubert_dim": 1024,
                "hifi_dim": 512,
                "upsample_rates": [10, 8, 2, 2],
                "upsample_kernel_sizes": [20, 16, 4, 4],
                "upsample_initial_channel": 512,
                "resblock": "1",
                "resblock_kernel_sizes": [3, 7, 11],
                "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
                "sampling_rate": 16_000,
            },
            layer=6,
            licence="MIT",
            licences={
                "encoder": "MIT (Microsoft unilm, mirrored by the bshall/knn-vc release)",
                "vocoder": "MIT (bshall/knn-vc)",
            },
            text_front_end=("best_model_646135.pth", "knn-tts-config.json"),
            text_front_end_licence="MIT (idiap/kNN-TTS)",
        ),
    )
}


def find_preset(name_or_folder: str | Path, *, configs: bool = True) -> Preset:
    """Find a preset: bundled with the package, then pulled into the cache, then a folder.

    Args:
        name_or_folder: "mini", say, or the path of a folder or its preset.json.
        configs: see `load_preset`.

    Raises:
        UsageError: There is none; the message lists the valid names, or says how to get it.
        KnnvcError: It is damaged.
    """
    text = str(name_or_folder)
    for home in (bundled_folder(), presets_folder()):
        # A bare name only: ".." or "a/b" would step out of the folder of presets.
        if (
            text not in ("", "..")
            and Path(text).name == text
            and (home / text / FILE_NAME).is_file()
        ):
            return load_preset(home / text, configs=configs)
    folder = Path(name_or_folder).expanduser()
    if folder.name == FILE_NAME and folder.is_file():
        return load_preset(folder.parent, configs=configs)
    if (folder / FILE_NAME).is_file():
        return load_preset(folder, configs=configs)
    if text in PUBLISHED:
        raise UsageError(_not_pulled(PUBLISHED[text]))
    if folder.is_dir():
        raise UsageError(f"the folder {folder} is no preset: it has no {FILE_NAME}")
    names = [entry.name for entry in list_presets()]
    close = difflib.get_close_matches(text.lower(), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"there is no preset {text!r}{hint}: give one of {', '.join(names)}, or a preset's folder"
    )


def list_presets() -> list[PresetEntry]:
    """List the bundled presets, the pulled ones, then those that can be pulled.

    A damaged preset is listed with what is wrong as its description.
    """
    entries: dict[str, PresetEntry] = {}
    for status, home in (("bundled", bundled_folder()), ("downloaded", presets_folder())):
        folders = sorted(home.iterdir()) if home.is_dir() else []
        for folder in folders:
            if folder.name in entries or not (folder / FILE_NAME).is_file():
                continue
            try:
                preset = load_preset(folder, configs=False)
            except KnnvcError as error:
                entry = PresetEntry(folder.name, "damaged", str(error), "unknown", folder)
            else:
                entry = PresetEntry(folder.name, status, preset.description, preset.licence, folder)
            entries[folder.name] = entry
    for known in PUBLISHED.values():
        if known.name not in entries:
            entries[known.name] = PresetEntry(
                known.name, "available", known.description, known.licence, None
            )
    return list(entries.values())


def bundled_folder() -> Path:
    """Return the folder of the presets inside the package; it need not exist."""
    return Path(str(importlib.resources.files("knnvc"))) / "presets"


def presets_folder() -> Path:
    """Return the folder that `pull` puts presets into; it need not exist."""
    return cache_dir() / "presets"


def downloads_folder() -> Path:
    """Return the folder that `pull` downloads into and looks for files put there by hand."""
    return cache_dir() / "downloads"


def _not_pulled(known: PublishedPreset) -> str:
    return (
        f"the preset {known.name} is not on this machine yet: run `knnvc preset pull {known.name}`"
        f", without network after putting {known.encoder} and {known.vocoder} into "
        f"{downloads_folder()}"
    )
