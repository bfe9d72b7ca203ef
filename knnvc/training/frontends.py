"""What trainings of text front ends share: utterances held out, features kept, what is written."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from knnvc.audio import load_audio
from knnvc.encoders.base import Encoder
from knnvc.files import atomic_path, sha256_file
from knnvc.mini.text_frontend import TextFrontend, TextFrontendConfig
from knnvc.presets.importing import add_text_front_end
from knnvc.presets.schema import Preset
from knnvc.tensors import check_shapes, pack, read_json, read_tensors
from knnvc.text.glow import GlowConfig, GlowTts

SETTINGS = "text_frontend.json"
HELD_OUT_EVERY = 20  # one utterance in 20 is never trained on
LICENCE = "Apache-2.0"  # of the weights that `vocoder/` trains


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


def add_trained_frontend(preset: Preset, weights: Path) -> Preset:
    """Give a preset folder the text front end that a training wrote.

    Raises:
        UsageError: a file is missing.
        KnnvcError: the weights are damaged, or predict other columns than the preset's encoder.
    """
    settings = read_json(weights.with_suffix(".json"))
    state, metadata = read_tensors(weights)
    network: GlowTts | TextFrontend
    if settings.get("type") == "glow-tts":
        network = GlowTts(GlowConfig.from_dict(settings.get("config", {})))
        columns, licence, corpus = network.config.out_channels, "unknown", "the user's"
    else:
        network = TextFrontend(TextFrontendConfig.from_dict(settings.get("config", {})))
        columns, licence, corpus = network.config.width + 2, LICENCE, "one voice of Kokoro-82M"
    check_shapes(weights, network.state_dict(), state)
    if isinstance(network, TextFrontend):
        state = pack(state)
    origin = {"corpus": corpus, **metadata, "sha256": sha256_file(weights)}
    return add_text_front_end(preset, settings, columns, state, licence, origin)
