"""The HiFi-GAN generator: parity with published kNN-VC, its reach, its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from knnvc.errors import KnnvcError
from knnvc.presets.published import fold_weight_norm, read_published_hifigan
from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

PARITY = Path(__file__).parents[1] / "assets" / "parity"

TINY = HifiGanConfig(
    hubert_dim=6,
    hifi_dim=5,
    upsample_rates=(4, 2),
    upsample_kernel_sizes=(8, 4),
    upsample_initial_channel=8,
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3), (1, 2)),
)


def tiny(resblock: str = "1") -> HifiGan:
    """Return a tiny random network in eval mode, double precision to see every influence."""
    torch.manual_seed(0)
    config = HifiGanConfig.from_dict({**TINY.to_dict(), "resblock": resblock})
    return HifiGan(config).double().eval()


def test_waveform_equals_published() -> None:
    config, state = read_published_hifigan(PARITY / "hifigan_tiny.pt", PARITY / "hifigan_tiny.json")
    network = HifiGan.from_state(HifiGanConfig.from_dict(config), state)
    expected = load_file(PARITY / "expected.safetensors")
    with torch.inference_mode():
        waveform = network(expected["converted_features"][None])
    assert waveform.shape == (1, 1, 99 * 320)
    error = (waveform[0, 0] - expected["waveform_out"]).abs().max().item()
    assert error < 1e-6  # so small that another slope before conv_post would show


@pytest.mark.parametrize("resblock", ["1", "2"])
def test_one_frame_reaches_exactly_context_frames(resblock: str) -> None:
    network = tiny(resblock)
    reach, middle = network.context_frames, network.context_frames + 3
    features = torch.randn(1, 2 * middle + 1, network.dim, dtype=torch.float64)
    changed = features.clone()
    changed[0, middle] += 1
    with torch.inference_mode():
        difference = (network(features) - network(changed))[0, 0].abs()
    moved = difference.reshape(-1, network.hop).amax(dim=1).nonzero().flatten() - middle
    assert moved.min() >= -reach
    assert moved.max() <= reach
    assert max(-moved.min(), moved.max()) == reach  # not a frame more than needed


def test_chunk_with_context_equals_whole() -> None:
    network = tiny()
    reach, hop = network.context_frames, network.hop
    features = torch.randn(1, 60, network.dim, dtype=torch.float64)
    with torch.inference_mode():
        whole = network(features)
        chunk = network(features[:, 20 - reach : 30 + reach])
    inner = chunk[..., reach * hop : (reach + 10) * hop]
    torch.testing.assert_close(inner, whole[..., 20 * hop : 30 * hop], rtol=0, atol=1e-12)


def test_published_config_is_the_default() -> None:
    values = json.loads((PARITY / "hifigan_tiny.json").read_text())
    values.update(hubert_dim=1024, hifi_dim=512, upsample_initial_channel=512)
    config = HifiGanConfig.from_dict(values)
    assert config == HifiGanConfig()
    assert config.hop == 320
    assert HifiGanConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"upsample_rate": [2]}, "unknown keys (upsample_rate)"),
        ({"resblock": "3"}, "resblock"),
        ({"upsample_kernel_sizes": [8]}, "equally long"),
        ({"upsample_kernel_sizes": [7, 4]}, "does not fit rate"),
        ({"upsample_rates": 4}, "not a usable"),
        ({"upsample_rates": []}, "must not be empty"),
        ({"resblock_dilation_sizes": [[1]]}, "equally long"),
        ({"resblock_dilation_sizes": [[1], []]}, "may be empty"),
        ({"resblock_kernel_sizes": [3, 4]}, "odd"),
        ({"upsample_initial_channel": 6}, "halve"),
        ({"hubert_dim": 0}, "at least 1"),
        ({"hubert_dim": "6"}, "whole number"),
    ],
)
def test_bad_config_is_one_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(KnnvcError) as caught:
        HifiGanConfig.from_dict({**TINY.to_dict(), **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_config_are_refused() -> None:
    other = HifiGanConfig.from_dict({**TINY.to_dict(), "hifi_dim": 7})
    with pytest.raises(KnnvcError, match="do not fit"):
        HifiGan.from_state(other, HifiGan(TINY).state_dict())


def test_weight_norm_changes_nothing_and_folds_back() -> None:
    network = tiny()
    features = torch.randn(2, 5, network.dim, dtype=torch.float64)
    plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.inference_mode():
        before = network(features)
    network.add_weight_norm()
    names = set(network.state_dict())
    assert "conv_pre.parametrizations.weight.original0" in names
    assert "lin_pre.weight" in names
    with torch.inference_mode():
        torch.testing.assert_close(network(features), before)
    folded = fold_weight_norm(network.state_dict())
    assert set(folded) == set(plain)
    for name, tensor in plain.items():
        torch.testing.assert_close(folded[name], tensor)


def test_prepare_is_identity_and_network_trains() -> None:
    network = HifiGan(TINY)
    network.add_weight_norm()
    features = torch.randn(3, TINY.hubert_dim)
    assert network.prepare(features) is features
    network(features[None]).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
