"""Features of any encoder, without a vocoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import knnvc
from knnvc.encoders.ssl import load_huggingface
from knnvc.errors import KnnvcError, UsageError


def noise(rows: int) -> torch.Tensor:
    return 0.05 * torch.randn(rows, 8000, generator=torch.Generator().manual_seed(0))


def test_the_layer_of_a_preset_is_what_the_converter_encodes(preset: Path) -> None:
    batch = noise(2)
    converter = knnvc.VoiceConverter.from_preset(preset, "cpu")
    expected = converter.encode(batch, sample_rate=16_000)
    made = knnvc.features(batch, 6, encoder=preset, sample_rate=16_000, device="cpu")
    assert torch.equal(made, expected)
    first = knnvc.features(batch[0].numpy(), 1, encoder=preset, sample_rate=16_000, device="cpu")
    assert isinstance(first, np.ndarray)
    assert first.shape == tuple(expected[0].shape)
    assert not np.allclose(first, expected[0].numpy(), atol=1e-2)


def test_a_model_of_transformers_needs_no_preset(tmp_path: Path) -> None:
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    HubertModel(config).eval().save_pretrained(tmp_path / "hubert")
    made = knnvc.features((noise(1)[0], 16_000), 1, encoder=tmp_path / "hubert", device="cpu")
    with torch.inference_mode():
        expected = load_huggingface(tmp_path / "hubert", 1, 1).eval()(noise(1))[0]
    assert torch.allclose(made, expected, atol=1e-4)


def test_what_is_not_there_is_one_sentence(preset: Path) -> None:
    given = {"sample_rate": 16_000, "device": "cpu"}
    with pytest.raises(KnnvcError, match="layer 40"):
        knnvc.features(noise(1)[0], 40, encoder=preset, **given)
    with pytest.raises(UsageError, match="no layers to choose"):
        knnvc.features(noise(1)[0], 3, encoder="mini", **given)
    with pytest.raises(UsageError, match="sampling rate"):
        knnvc.features(noise(1)[0], encoder=preset)
