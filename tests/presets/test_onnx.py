"""ONNX Runtime computes what torch computes, for audio of any length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from knnvc import UsageError, VoiceConverter
from knnvc.audio import SAMPLE_RATE
from knnvc.cli.main import cli

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-4  # of features and log magnitudes; relative to their size where that is above 1


def noise(seconds: float) -> Tensor:
    return 0.1 * torch.randn(
        round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(0)
    )


def close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) < TOLERANCE * max(1.0, float(other.abs().max()))


@pytest.fixture(scope="module", params=["mini", "tiny"])
def pair(
    request: pytest.FixtureRequest,
    preset: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[VoiceConverter, VoiceConverter]:
    """The same preset on torch and on ONNX Runtime, with an empty cache of graphs."""
    name = preset if request.param == "tiny" else "mini"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNNVC_CACHE", str(tmp_path_factory.mktemp("cache")))
        onnx = VoiceConverter.from_preset(name, backend="onnx")
        again = VoiceConverter.from_preset(name, backend="onnx")  # from the cache this time
    assert torch.equal(onnx.encode(noise(0.5)), again.encode(noise(0.5)))
    return VoiceConverter.from_preset(name, device="cpu"), onnx


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.7])
def test_features_and_waveform(pair: tuple[VoiceConverter, VoiceConverter], seconds: float) -> None:
    by_torch, by_onnx = pair
    features = by_torch.encode(noise(seconds))
    assert close(by_onnx.encode(noise(seconds)), features)
    synth = features[:, by_torch.encoder.columns.synth]
    made, expected = by_onnx.vocode(synth), by_torch.vocode(synth)
    assert made.shape == expected.shape
    assert close(made, expected)


def test_the_sets_of_both_are_the_same_encoders(
    pair: tuple[VoiceConverter, VoiceConverter],
) -> None:
    by_torch, by_onnx = pair
    assert by_onnx.fingerprint == by_torch.fingerprint
    voice = by_torch.matching_set((noise(2.0), SAMPLE_RATE), trim=False)
    made, _ = by_onnx.convert((noise(0.5), SAMPLE_RATE), voice)
    assert len(made) == 24 * 320


def test_export_by_the_command(preset: Path, tmp_path: Path) -> None:
    """The exported files alone give the features and the waveform, for another length."""
    import onnxruntime

    command = CliRunner().invoke(cli, ["preset", "export-onnx", str(preset), str(tmp_path)])
    assert command.exit_code == 0, command.output
    paths = [tmp_path / "encoder.onnx", tmp_path / "vocoder.onnx"]
    assert command.output.splitlines() == [str(path) for path in paths]
    again = CliRunner().invoke(cli, ["preset", "export-onnx", str(preset), str(tmp_path)])
    assert again.exit_code != 0
    encoder, vocoder = (onnxruntime.InferenceSession(path) for path in map(str, paths))
    converter = VoiceConverter.from_preset(preset, device="cpu")
    waveform = noise(1.3)
    features = torch.from_numpy(encoder.run(None, {"input": waveform[None].numpy()})[0])
    assert close(features[0], converter.encode(waveform))
    made = torch.from_numpy(vocoder.run(None, {"input": features.numpy()})[0])
    assert close(made[0, 0], converter.vocode(features[0]))


def test_only_on_the_cpu_in_single_precision() -> None:
    with pytest.raises(UsageError, match="onnx runs on the CPU in float32"):
        VoiceConverter.from_preset("mini", backend="onnx", precision="bfloat16")
    with pytest.raises(UsageError, match="backend 'tflite' is unknown: choose one of torch, onnx"):
        VoiceConverter.from_preset("mini", backend="tflite")
