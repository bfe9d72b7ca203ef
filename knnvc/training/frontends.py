"""What trainings of text front ends share: utterances held out, features kept, what is written."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from knnvc.audio import load_audio
from knnvc.encoders.base import Encoder
from knnvc.files import atomic_path, sha256_file
from knnvc.presets.importing import add_text_front_end
from knnvc.presets.loading import load_parts
from knnvc.presets.schema import Preset
from knnvc.registry import Context, PartSpec, find
from knnvc.tensors import pack, read_json, read_tensors

SETTINGS = "text_frontend.json"
HELD_OUT_EVERY = 20  # one utterance in 20 is never trained on


def is_held_out(file: str) -> bool:
    """Whether an utterance is for validation: by its number, so that it stays so for good."""
    stem = Path(file).stem
    number = re.search(r"(\d+)$", stem)
    value = int(number[1]) if number else zlib.crc32(stem.encode())
    return value % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


def cached_features(audio: Path, encoder: Encoder, fingerprint: str) -> Path:
    """The synthesis columns [T, D] float16 of a recording, as a .npy file beside it.

    `fingerprint` is part of its name, so that features of another encoder are not taken for these.
    """
    cache = audio.with_suffix(f".{fingerprint[:8]}.npy")
    if not cache.exists():
        features = encoder.encode(load_audio(audio))[:, encoder.columns.synth]
        with atomic_path(cache) as temporary:
            np.save(temporary, features.half().numpy())
    return cache


def write_settings(folder: Path, kind: str, config: dict[str, Any], language: str) -> None:
    """Say in text_frontend.json, as in a preset.json, what the weights beside it belong to."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"type": kind, "config": config, "language": language}
    with atomic_path(folder / SETTINGS) as temporary:
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def add_trained_frontend(
    preset: Preset,
    weights: Path,
    *,
    licence: str = "unknown",
    corpus: str = "the user's",
    eight_bits: bool = False,
) -> Preset:
    """Give a preset folder the text front end that a training wrote.

    Args:
        preset: it must lie where it can be written.
        weights: with the settings beside them that `write_settings` wrote.
        licence: of the weights.
        corpus: what they were trained on.
        eight_bits: whether matrices are stored in 8 bits.

    Raises:
        UsageError: a file is missing.
        KnnvcError: the weights are damaged, or predict other columns than the preset's encoder.
    """
    settings = read_json(weights.with_suffix(".json"))
    state, metadata = read_tensors(weights)
    entry = find("text_front_end", settings.get("type", ""))
    config = settings.get("config", {})
    columns = entry.check(config).columns
    language = {"language": settings.get("language", "en-us")}
    spec = PartSpec("text_front_end", entry.name, config, weights, settings=language)
    # Loading it shows whether the weights fit the settings and the preset's encoder.
    encoder = load_parts(preset, "cpu").encoder
    entry.make(spec, Context(preset.name, torch.device("cpu"), encoder=encoder))
    origin = {"corpus": corpus, **metadata, "sha256": sha256_file(weights)}
    stored = pack(state) if eight_bits else state
    return add_text_front_end(preset, settings, columns, stored, licence, origin)
