"""What trained text front ends share: what is held out, and how a preset gets one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from knnvc.cli.main import cli
from knnvc.errors import KnnvcError, UsageError
from knnvc.mini.text_frontend import TextFrontend, TextFrontendConfig
from knnvc.presets.schema import load_preset
from knnvc.presets.search import find_preset
from knnvc.tensors import read_tensors, write_tensors
from knnvc.text.glow import GlowConfig, GlowTts
from knnvc.training.frontends import add_trained_frontend, is_held_out, write_settings

SMALL: dict[str, Any] = {
    "mels": 2,
    "channels": 16,
    "heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "flow_channels": 8,
    "flow_layers": 2,
    "flow_steps": 2,
}
CONFIG = TextFrontendConfig(symbols="ab .", **SMALL)
WIDTH = CONFIG.width + 2
FITTING = TextFrontendConfig(symbols="həlˈoʊ. ", **SMALL | {"mels": 80})


def test_held_out_utterances_stay_held_out() -> None:
    held_out = [n for n in range(100) if is_held_out(f"v/v_{n:03d}.flac")]
    assert held_out == [19, 39, 59, 79, 99]
    assert is_held_out("v/v_1019.flac")
    assert 2 <= sum(is_held_out(f"v/{'x' * n}.wav") for n in range(1, 100)) <= 10


def writable_mini(folder: Path) -> Path:
    """A copy of the bundled preset without a text front end."""
    bundled = find_preset("mini")
    folder.mkdir()
    values = json.loads((bundled.folder / "preset.json").read_text())
    values["text_front_end"] = None
    (folder / "preset.json").write_text(json.dumps(values))
    for part in bundled.folder.glob("*.safetensors"):
        (folder / part.name).symlink_to(part)
    return folder


def test_a_front_end_is_added_to_a_preset(tmp_path: Path) -> None:
    folder = writable_mini(tmp_path / "mine")
    network = TextFrontend(FITTING)
    network.usual.fill_(1.0)
    weights = tmp_path / "text_frontend.safetensors"
    write_settings(tmp_path, "mini-tts", FITTING.to_dict(), "en-us")
    write_tensors(weights, {k: v.half() for k, v in network.state_dict().items()}, {"steps": "7"})
    args = ["preset", "add-text-frontend", str(folder), str(weights)]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    made = load_preset(folder)
    assert made.text_front_end is not None
    assert made.text_front_end.type == "mini-tts"
    assert made.text_front_end.settings["language"] == "en-us"
    assert made.provenance["text_front_end"]["steps"] == "7"
    config = TextFrontendConfig.from_dict(made.text_front_end.config)
    assert made.text_front_end.weights is not None
    read = TextFrontend(config)
    read.load_state_dict(read_tensors(made.text_front_end.weights)[0])
    assert read.eval().utter("həlˈoʊ.")[0].shape[1] == 162


def test_a_front_end_that_does_not_fit_leaves_the_preset_alone(tmp_path: Path) -> None:
    folder = writable_mini(tmp_path / "mine")
    before = (folder / "preset.json").read_bytes()
    weights = tmp_path / "text_frontend.safetensors"
    write_tensors(weights, TextFrontend(CONFIG).state_dict())
    with pytest.raises(UsageError, match=r"no file .*text_frontend.json"):
        add_trained_frontend(load_preset(folder), weights)
    write_settings(tmp_path, "mini-tts", FITTING.to_dict(), "en-us")
    with pytest.raises(KnnvcError) as caught:
        add_trained_frontend(load_preset(folder), weights)
    assert "does not fit its configuration" in caught.value.full
    write_settings(tmp_path, "mini-tts", CONFIG.to_dict(), "en-us")
    with pytest.raises(
        KnnvcError, match="predicts 6 columns of mini's features, but its encoder gives 162"
    ):
        add_trained_frontend(load_preset(folder), weights)
    glow = GlowTts(GlowConfig(("<PAD>", "a"), out_channels=162, encoder_layers=1, flow_blocks=1))
    write_tensors(weights, glow.state_dict())
    write_settings(tmp_path, "glow-tts", glow.config.to_dict() | {"layers": 3}, "de")
    with pytest.raises(KnnvcError, match="unknown Glow-TTS settings: layers"):
        add_trained_frontend(load_preset(folder), weights)
    assert (folder / "preset.json").read_bytes() == before
    done = CliRunner().invoke(cli, ["preset", "add-text-frontend", str(folder), "none.safetensors"])
    assert done.exit_code == 2
    assert "knnvc train text-frontend" in done.stderr
    # As many columns as mini's frames have, but no phones to match by.
    write_settings(tmp_path, "glow-tts", glow.config.to_dict(), "de")
    with pytest.raises(KnnvcError, match="use a front end that was trained on this encoder"):
        add_trained_frontend(load_preset(folder), weights)
    assert (folder / "preset.json").read_bytes() == before


def test_a_glow_front_end_is_added_to_a_published_preset(preset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(preset, folder)
    width = load_preset(folder).encoder.config["hidden_size"]
    config = GlowConfig(("<PAD>", "a"), out_channels=width, encoder_layers=1, flow_blocks=1)
    weights = tmp_path / "text_frontend.safetensors"
    write_tensors(weights, GlowTts(config).state_dict())
    write_settings(tmp_path, "glow-tts", config.to_dict(), "de")
    made = add_trained_frontend(load_preset(folder), weights)
    assert made.text_front_end is not None
    assert made.text_front_end.type == "glow-tts"
    assert made.text_front_end.settings["language"] == "de"
