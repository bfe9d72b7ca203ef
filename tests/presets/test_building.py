"""Presets of any encoder and vocoder: they load, and give what their files gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import knnvc
from knnvc import VoiceConverter
from knnvc.encoders.base import frames_a_second
from knnvc.errors import KnnvcError, UsageError
from knnvc.presets.building import import_any, new_preset


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random HuBERT with layer norms in front, as transformers saves it."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=True, feat_extract_norm="layer",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "hubert"
    HubertModel(config).eval().save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layer", [2, -1])
def test_a_preset_of_hubert_gives_the_features_of_its_model(
    hubert: Path, tmp_path: Path, layer: int
) -> None:
    made = new_preset(hubert, layer, tmp_path / "preset")
    assert made.vocoder is None
    assert made.encoder.type == "hubert"
    given: dict[str, Any] = {"sample_rate": 16_000, "device": "cpu"}
    expected = knnvc.features(noise(8000), layer, encoder=hubert, **given)
    found = knnvc.features(noise(8000), encoder=tmp_path / "preset", **given)
    assert torch.allclose(found, expected, atol=1e-5)
    other = knnvc.features(noise(8000), layer, encoder=hubert, config={"normalize": False}, **given)
    assert not torch.allclose(found, other, atol=1e-2)


def test_a_preset_of_wav2vec_runs_at_its_own_rate(parity: Path, tmp_path: Path) -> None:
    weights = parity / "wav2vec" / "wav2vec_tiny.pt"
    new_preset("wav2vec", None, tmp_path / "preset", weights=weights)
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    assert frames_a_second(converter.encoder) == 100
    features = converter.encode(noise(16_000), sample_rate=16_000)
    expected = knnvc.features(
        noise(16_000), encoder="wav2vec", weights=weights, sample_rate=16_000, device="cpu"
    )
    assert torch.allclose(features, expected, atol=1e-6)


def test_a_mel_vocoder_brings_its_own_encoder(parity: Path, tmp_path: Path) -> None:
    made = new_preset(None, None, tmp_path / "preset", vocoder=parity / "bigvgan")
    assert (made.encoder.type, made.sample_rate) == ("log-mel", 16_000)
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    wave, rate = converter.convert(noise(8000), noise(16_000, 1), sample_rate=16_000)
    assert (len(wave), rate) == (8000, 16_000)
    assert np.isfinite(wave).all()


def test_import_by_family_and_as_published(parity: Path, tmp_path: Path, hubert: Path) -> None:
    vocoder, config = str(parity / "hifigan_tiny.pt"), str(parity / "hifigan_tiny.json")
    wavlm = str(parity / "wavlm_tiny.pt")
    published = import_any(wavlm, 6, vocoder, config, tmp_path / "one")
    own = new_preset(wavlm, 6, tmp_path / "two", vocoder=vocoder, vocoder_config=Path(config))
    waves = []
    for one in (published, own):
        converter = VoiceConverter.from_preset(one.folder, device="cpu")
        waves.append(converter.convert(noise(8000), noise(16_000, 1), sample_rate=16_000)[0])
    assert torch.allclose(waves[0], waves[1], atol=1e-6)
    with pytest.raises(KnnvcError, match="use parts that belong together"):
        import_any(str(hubert), 2, vocoder, config, tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_what_cannot_be_made_is_one_sentence(tmp_path: Path, hubert: Path) -> None:
    with pytest.raises(UsageError, match="name the --encoder"):
        new_preset(None, None, tmp_path / "preset")
    with pytest.raises(UsageError, match="reads waveforms"):
        new_preset(hubert, 2, tmp_path / "preset", vocoder="world")
    with pytest.raises(KnnvcError, match="layer"):
        new_preset(hubert, 9, tmp_path / "preset")
    assert not (tmp_path / "preset").exists()
