"""What a preset.json may say; anything else is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knnvc.errors import KnnvcError
from knnvc.presets.schema import load_preset
from knnvc.presets.search import (
    find_preset,
)

Minimal = Callable[..., Path]
LAYERS = {"type": "wavlm", "match_layer": 6, "synth_layer": 6}

pytestmark = pytest.mark.usefixtures("own_places")


def sentence(error: KnnvcError) -> str:
    """Return the message in full, after making sure that it is one line."""
    assert str(error)
    assert "\n" not in str(error)
    return error.full


# Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 3}, "format_version is 3"),
        ({"format_version": 1}, "format 1 of an older knnvc: import, pull or train it again"),
        ({"format_version": True}, "format 1 of an older knnvc"),
        ({"voice": "x"}, "unknown keys in preset: voice"),
        ({"licence": "remove"}, "missing keys in preset: licence"),
        ({"converter": "remove"}, "missing keys in preset: converter"),
        ({"encoder": None}, "encoder must be an object"),
        ({"converter": None}, "converter must be an object"),
        ({"name": 3}, "name must be text"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"provenance": "x"}, "provenance must be an object"),
        ({"text_front_end": "x"}, "text_front_end"),
        ({"encoder": {"layer": 6}}, "unknown keys in encoder: layer"),
        ({"encoder": {"type": "mp3"}}, "unknown encoder type 'mp3': valid types are mini, wavlm"),
        ({"encoder": {"type": "wavlmm"}}, "did you mean wavlm?"),
        ({"encoder": LAYERS | {"match_layer": -2}}, "match_layer"),
        ({"encoder": LAYERS | {"synth_layer": 1.5}}, "synth_layer"),
        ({"encoder": {"type": "wavlm"}}, "missing keys in encoder: match_layer, synth_layer"),
        ({"encoder": {"chunk_seconds": "4"}}, "chunk_seconds must be a number of seconds"),
        ({"encoder": {"weights": "../encoder.safetensors"}}, "without a folder"),
        ({"encoder": {"weights": "/etc/passwd"}}, "without a folder"),
        ({"encoder": {"assets": {"voices": "../x"}}}, "without a folder"),
        (
            {"encoder": {"assets": {"voices": "voices.safetensors"}}},
            "voices.safetensors is missing",
        ),
        ({"encoder": {"type": "huggingface"}}, "unknown keys in encoder: weights"),
        ({"encoder": []}, "encoder must be an object"),
        ({"converter": {"config": {"k": 0}}}, "k is 0: give a whole number"),
        ({"converter": {"config": {"k": True}}}, "k is True: give a whole number"),
        ({"converter": {"config": {"lam": 2.5}}}, "lam is 2.5: give a number from 0 to 2"),
        ({"converter": {"config": {"lam": float("nan")}}}, "lam is nan: give a number"),
        ({"converter": {"config": {"weighting": "median"}}}, "choose one of mean, distance"),
        ({"converter": {"config": {"space": 1}}}, "unknown knn converter settings: space"),
        ({"vocoder": {"type": []}}, "vocoder type"),
        ({"vocoder": {"config": None}}, "vocoder config"),
        ({"vocoder": {"weights": "other.safetensors"}}, "other.safetensors is missing"),
    ],
)
def test_damaged_preset_is_one_sentence(
    minimal: Minimal, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = minimal(tmp_path / "p")
    values = json.loads((folder / "preset.json").read_text())
    for key, change in changes.items():
        if isinstance(change, dict):
            values[key].update(change)
        elif change == "remove":
            del values[key]
        else:
            values[key] = change
    (folder / "preset.json").write_text(json.dumps(values))
    with pytest.raises(KnnvcError) as caught:
        find_preset(folder)
    message = sentence(caught.value)
    assert words in message
    assert str(folder) in message


def test_preset_that_is_not_json(minimal: Minimal, tmp_path: Path) -> None:
    folder = minimal(tmp_path / "p")
    (folder / "preset.json").write_text("{'name'")
    with pytest.raises(KnnvcError, match="not valid JSON") as caught:
        load_preset(folder)
    sentence(caught.value)


def test_encoder_from_hugging_face_needs_no_weights(minimal: Minimal, tmp_path: Path) -> None:
    folder = minimal(tmp_path / "p")
    values = json.loads((folder / "preset.json").read_text())
    values["encoder"] = {
        "type": "huggingface",
        "config": {"name": "microsoft/wavlm-base"},
        "match_layer": 9,
        "synth_layer": 6,
    }
    (folder / "preset.json").write_text(json.dumps(values))
    assert load_preset(folder).encoder.weights is None
    values["encoder"]["config"] = {}
    (folder / "preset.json").write_text(json.dumps(values))
    with pytest.raises(KnnvcError, match="name of a model"):
        load_preset(folder)
