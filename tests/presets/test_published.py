"""The published formats: read as the reference reads them, and refused by name otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from knnvc.errors import KnnvcError
from knnvc.presets.published import (
    fold_weight_norm,
    parse_conv_layers,
    read_published_hifigan,
    read_published_wavlm,
)
from knnvc.tensors import read_pickle

PARITY = Path(__file__).parents[1] / "assets" / "parity"


def sentence(error: BaseException) -> str:
    """Return the message, after making sure that it is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) <= 200
    return text


@pytest.mark.parametrize("dim", [0, 1, 2, None])
def test_folding_equals_torch(dim: Any) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(4, 6, 5)
    parametrized: Any = weight_norm(conv, dim=dim)
    with torch.no_grad():
        parametrized.parametrizations.weight.original0.mul_(1.7)
    state = {f"a.{name}": tensor for name, tensor in parametrized.state_dict().items()}
    folded = fold_weight_norm(state)
    assert set(folded) == {"a.weight", "a.bias"}
    torch.testing.assert_close(folded["a.weight"], parametrized.weight)
    old = {
        "a.bias": state["a.bias"],
        "a.weight_g": state["a.parametrizations.weight.original0"],
        "a.weight_v": state["a.parametrizations.weight.original1"],
    }
    assert torch.equal(fold_weight_norm(old)["a.weight"], folded["a.weight"])


@pytest.mark.parametrize(
    "state",
    [
        {"a.weight_g": torch.ones(2, 1)},
        {"a.weight_v": torch.ones(2, 3)},
        {"a.weight_g": torch.ones(5, 1), "a.weight_v": torch.ones(2, 3)},
        {"a.weight_g": torch.ones(2), "a.weight_v": torch.ones(2, 3)},
    ],
)
def test_broken_pairs_are_damage(state: dict[str, Tensor]) -> None:
    with pytest.raises(KnnvcError, match="damaged"):
        fold_weight_norm(state)


def test_wavlm_layers_equal_published() -> None:
    from transformers import WavLMConfig, WavLMModel

    config, state = read_published_wavlm(PARITY / "wavlm_tiny.pt")
    model: Any = WavLMModel(WavLMConfig(**config))
    model.load_state_dict(state, strict=True)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    model.eval()
    expected = load_file(PARITY / "expected.safetensors")
    # What a layer itself returns: transformers normalises its last hidden state once more.
    raw: dict[int, Tensor] = {}
    for layer in (1, 6, 8):

        def keep(_module: nn.Module, _args: Any, output: Any, layer: int = layer) -> None:
            raw[layer] = output[0][0]

        model.encoder.layers[layer - 1].register_forward_hook(keep)
    with torch.inference_mode():
        model(expected["waveform"][None])
    for layer, features in raw.items():
        assert features.shape == (99, 96)
        assert (features - expected[f"layer_{layer}"]).abs().max() < 1e-5
    assert set(raw) == {1, 6, 8}


def test_half_precision_and_training_heads_are_read(tmp_path: Path) -> None:
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    content["model"] = {name: tensor.half() for name, tensor in content["model"].items()}
    content["model"]["final_proj.weight"] = torch.zeros(2, 2)
    torch.save(content, tmp_path / "half.pt")
    _, state = read_published_wavlm(tmp_path / "half.pt")
    _, expected = read_published_wavlm(PARITY / "wavlm_tiny.pt")
    assert set(state) == set(expected)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extractor_mode": "other"}, "extractor_mode"),
        ({"activation_fn": "glu"}, "activation_fn"),
        ({"gru_rel_pos": False}, "gru_rel_pos is off"),
        ({"conv_feature_layers": "__import__('os').mkdir('x')"}, "conv_feature_layers"),
        ({"encoder_layers": "many"}, "many"),
        ({"num_buckets": None}, "cannot be used"),
        ({"conv_feature_layers": "[(512, 18446744073709551616, 5)]"}, "conv_feature_layers"),
        ({"conv_pos": 2**40}, "conv_pos"),
        ({"encoder_layers": 10**9}, "encoder_layers"),
        ({"encoder_embed_dim": -1}, "encoder_embed_dim"),
        ({"encoder_attention_heads": True}, "encoder_attention_heads"),
    ],
)
def test_unusable_wavlm_config_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    content["cfg"].update(change)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KnnvcError) as caught:
        read_published_wavlm(tmp_path / "x.pt")
    assert words in sentence(caught.value)


def test_other_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="no 'cfg' and 'model'"):
        read_published_wavlm(PARITY / "hifigan_tiny.pt")
    with pytest.raises(KnnvcError, match="no 'generator'"):
        read_published_hifigan(PARITY / "wavlm_tiny.pt", {})
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    del content["cfg"]["conv_pos"]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KnnvcError, match="no 'conv_pos'"):
        read_published_wavlm(tmp_path / "x.pt")
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    content["model"]["w2v_encoder.proj.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KnnvcError, match=r"does not have \(w2v_encoder"):
        read_published_wavlm(tmp_path / "x.pt")
    torch.save({"generator": {"lin_pre.weight": "text"}}, tmp_path / "x.pt")
    with pytest.raises(KnnvcError, match="something else than tensors"):
        read_published_hifigan(tmp_path / "x.pt", {})


def test_hifigan_is_read_folded_with_its_config() -> None:
    config, state = read_published_hifigan(PARITY / "hifigan_tiny.pt", PARITY / "hifigan_tiny.json")
    assert config["hubert_dim"] == 96
    assert not any("weight_g" in name or "weight_v" in name for name in state)
    assert state["conv_pre.weight"].shape == (64, 48, 7)
    assert read_published_hifigan(PARITY / "hifigan_tiny.pt", config)[0] == config


def test_conv_layers_are_parsed_not_run() -> None:
    large = parse_conv_layers("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2")
    assert large == [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    assert parse_conv_layers("[[8, 4, 2], (8, 2, 2)]") == [(8, 4, 2), (8, 2, 2)]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "[]",
        "[(1, 2)]",
        "[(1, 2, -3)]",
        "[(1, 2, 3.0)]",
        "[(1, 2, True)]",
        "[(1, 2, 3)] * 10**9",
        "[(1, 2, 3)] * 1000000000",
        "[(1, 2, 3)] - [(1, 2, 3)]",
        "[tuple(open('/etc/passwd'))]",
        "(lambda: [(1, 2, 3)])()",
        "[(1, 2, 3) for _ in ()]",
        "(" * 500,
        "[(1, 2, 18446744073709551616)]",
        "[(1, 2, 3)]" + " + [(1, 2, 3)]" * 10_000,
    ],
)
def test_anything_but_triples_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="conv_feature_layers"):
        parse_conv_layers(expression)
