"""The exported graphs compute what torch computes, for audio of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from knnvc import VoiceConverter
from knnvc.audio import SAMPLE_RATE
from knnvc.cli.main import cli
from knnvc.mini.encoder import PhoneEncoder
from knnvc.vocoders.source_filter import SourceFilterVocoder

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-4  # of features and log magnitudes; relative to their size where that is above 1


def noise(seconds: float) -> Tensor:
    return 0.1 * torch.randn(
        round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(0)
    )


def close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) < TOLERANCE * max(1.0, float(other.abs().max()))


def run(path: Path, values: Tensor) -> tuple[Tensor, ...]:
    made: list[Any] = onnxruntime.InferenceSession(str(path)).run(None, {"input": values.numpy()})
    return tuple(map(torch.from_numpy, made))


def export(preset: str | Path, folder: Path) -> tuple[Path, Path]:
    command = CliRunner().invoke(cli, ["preset", "export-onnx", str(preset), str(folder)])
    assert command.exit_code == 0, command.output
    paths = (folder / "encoder.onnx", folder / "vocoder.onnx")
    assert command.output.splitlines() == [str(path) for path in paths]
    return paths


def test_a_published_preset_needs_nothing_but_its_graphs(preset: Path, tmp_path: Path) -> None:
    encoder, vocoder = export(preset, tmp_path)
    converter = VoiceConverter.from_preset(preset, device="cpu")
    for seconds in (0.3, 1.3, 2.7):
        waveform = noise(seconds)
        (features,) = run(encoder, waveform[None])
        assert close(features[0], converter.encode((waveform, SAMPLE_RATE)))
        (made,) = run(vocoder, features)
        assert close(made[0, 0], converter.vocode(features[0]))
    again = CliRunner().invoke(cli, ["preset", "export-onnx", str(preset), str(tmp_path)])
    assert again.exit_code == 2
    assert "exists; choose another output" in again.stderr


@torch.inference_mode()
def test_the_networks_of_mini_are_in_its_graphs(mini: VoiceConverter, tmp_path: Path) -> None:
    """All but spectra and sources, which stay outside."""
    encoder, vocoder = export("mini", tmp_path)
    network, filters = mini.encoder.network, mini.vocoder.network
    assert isinstance(network, PhoneEncoder)
    assert isinstance(filters, SourceFilterVocoder)
    for seconds in (0.3, 2.7):
        mel = network.log_mel(noise(seconds)[None])
        for made, wanted in zip(run(encoder, mel), network.predict(mel), strict=True):
            assert close(made, wanted)
        frames = mini.encode((noise(seconds), SAMPLE_RATE))[:, mini.encoder.columns.synth]
        shapes = filters.shape(frames[None])
        for made, wanted in zip(run(vocoder, frames[None]), shapes, strict=True):
            assert close(made, wanted)
