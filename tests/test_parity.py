"""Published kNN-VC, reproduced: what the reference code computes from files in its own formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from knnvc.audio import normalize_loudness
from knnvc.converters.matching_set import MatchingSet, SetInfo
from knnvc.converters.search import search
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.encoders.ssl import load_network
from knnvc.pipeline import VoiceConverter, stretch
from knnvc.presets.published import read_published_wavlm


@pytest.fixture(scope="module")
def expected(parity: Path) -> dict[str, Tensor]:
    return load_file(parity / "expected.safetensors")


@pytest.fixture(scope="module")
def converter(preset: Path) -> VoiceConverter:
    return VoiceConverter.from_preset(preset, device="cpu")


def make_set(frames: Tensor, fingerprint: str) -> MatchingSet:
    """A matching set whose `match` and `synth` are `frames` [N, D]."""
    info = SetInfo(
        preset="tiny",
        encoder=fingerprint,
        hop=320,
        sample_rate=16_000,
        files=("reference.wav",),
        seconds=(len(frames) * 0.02,),
    )
    return MatchingSet(frames, frames, torch.tensor([0]), info)


def test_features_of_the_preset(converter: VoiceConverter, expected: dict[str, Tensor]) -> None:
    features = converter.encode(expected["waveform"], sample_rate=16_000)
    assert features.shape == expected["query"].shape
    assert (features - expected["query"]).abs().max() < 1e-4


@pytest.mark.parametrize("layer", [1, 6, 8])
def test_features_of_every_layer(parity: Path, expected: dict[str, Tensor], layer: int) -> None:
    config, state = read_published_wavlm(parity / "wavlm_tiny.pt")
    encoder = ChunkedEncoder(load_network("wavlm", config, state, layer, layer))
    features = encoder.encode(expected["waveform"])
    assert (features - expected[f"layer_{layer}"]).abs().max() < 1e-4


def test_separate_layers_stand_side_by_side(parity: Path, expected: dict[str, Tensor]) -> None:
    config, state = read_published_wavlm(parity / "wavlm_tiny.pt")
    encoder = ChunkedEncoder(load_network("wavlm", config, state, match_layer=8, synth_layer=1))
    features = encoder.encode(expected["waveform"])
    columns = encoder.columns
    assert (features[:, columns.synth] - expected["layer_1"]).abs().max() < 1e-4
    assert (features[:, columns.match] - expected["layer_8"]).abs().max() < 1e-4


def test_neighbours(expected: dict[str, Tensor]) -> None:
    distances, indices = search(expected["query"], expected["matching_set"], 4)
    assert torch.equal(indices, expected["knn_indices"])
    assert (distances - expected["knn_cosine_distance"]).abs().max() < 1e-5


def test_converted_features(converter: VoiceConverter, expected: dict[str, Tensor]) -> None:
    target = make_set(expected["matching_set"], converter.encoder.fingerprint)
    converted = converter.match(expected["query"], target, k=4, lam=1.0)
    assert (converted.values - expected["converted_features"]).abs().max() < 1e-5


def test_waveforms(converter: VoiceConverter, expected: dict[str, Tensor]) -> None:
    made = converter.vocode(expected["converted_features"])
    assert made.shape == expected["waveform_out"].shape
    assert (made - expected["waveform_out"]).abs().max() < 1e-3
    loud = normalize_loudness(made, converter.sample_rate, -16.0)
    assert (loud - expected["waveform_out_minus16LUFS"]).abs().max() < 1e-3


def test_target_duration(converter: VoiceConverter, expected: dict[str, Tensor]) -> None:
    target = make_set(expected["matching_set"], converter.encoder.fingerprint)
    converted = converter.match(
        stretch(expected["query"], 1.5, converter.encoder), target, k=4, lam=1.0
    )
    made = converter.vocode(converted)
    wanted = expected["waveform_out_duration_1.5s"]
    assert made.shape == wanted.shape
    assert (made - wanted).abs().max() < 1e-3
