"""Glow-TTS against what the published kNN-TTS computes, and the formulas it is made of."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from knnvc.errors import KnnvcError, UsageError
from knnvc.text.glow import Flow, GlowConfig, GlowTts, InvertibleConv, RelativeAttention

FOLDER = Path(__file__).parents[1] / "assets" / "parity" / "glow"
CONFIG, WEIGHTS = FOLDER / "config.json", FOLDER / "glow_tts_ssl_tiny.pth"
SMALL = GlowConfig(
    vocabulary=("<PAD>", *"abc "),
    out_channels=8,
    encoder_channels=8,
    encoder_layers=1,
    feed_forward=8,
    duration_channels=8,
    decoder_channels=8,
    flow_blocks=2,
    block_layers=2,
    dilation_rate=2,
)


@pytest.fixture(scope="module")
def glow() -> GlowTts:
    return GlowTts.from_checkpoint(CONFIG, WEIGHTS)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def phonemes() -> str:
    text: str = json.loads((FOLDER / "text.json").read_text(encoding="utf-8"))["phonemes"]
    return text


def published() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
    return values


def busy(config: GlowConfig) -> GlowTts:
    """One whose coupling layers are not the identity any more."""
    torch.manual_seed(0)
    network = GlowTts(config).eval()
    for name, parameter in network.decoder.named_parameters():
        if name.endswith(("end.weight", "logs", "bias")):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


# Parity -----------------------------------------------------------------------------------------


def test_token_ids(glow: GlowTts, expected: dict[str, Tensor], phonemes: str) -> None:
    assert torch.equal(glow.tokens(phonemes), expected["token_ids"])


def test_log_durations(glow: GlowTts, expected: dict[str, Tensor]) -> None:
    tokens = expected["token_ids"][None]
    with torch.inference_mode():
        _, _, durations = glow.encoder(tokens, torch.ones(1, 1, tokens.shape[1]))
    assert torch.allclose(durations[0].T, expected["durations_log"], atol=1e-4)


def test_features(glow: GlowTts, expected: dict[str, Tensor], phonemes: str) -> None:
    features = glow.features(phonemes, noise=0.0)
    assert features.shape == expected["features"].shape
    assert torch.allclose(features, expected["features"], atol=1e-3)


# Speaking ---------------------------------------------------------------------------------------


def test_speed_and_noise(glow: GlowTts, phonemes: str) -> None:
    plain = glow.features(phonemes, noise=0.0)
    slow = glow.features(phonemes, noise=0.0, speed=0.25)
    assert len(slow) > 1.5 * len(plain)
    first, second, other = (
        glow.features(phonemes, noise=0.5, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.isfinite(other).all()


@pytest.mark.parametrize(
    ("phonemes", "words"),
    [("", "no phonemes"), (" \n", "no phonemes"), ("a5b", "does not know 5"), ("a\tb", r"'\t'")],
)
def test_what_cannot_be_spoken_is_one_sentence(glow: GlowTts, phonemes: str, words: str) -> None:
    with pytest.raises(KnnvcError) as caught:
        glow.features(phonemes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_symbols_are_signs_and_not_the_names_of_special_tokens(glow: GlowTts) -> None:
    assert {"ə", "ˈ", "ː", ".", " "} <= glow.symbols
    assert all(len(sign) == 1 for sign in glow.symbols)


def test_blanks_and_ends() -> None:
    network = GlowTts(
        GlowConfig.from_dict(SMALL.to_dict() | {"blank": 0, "ends": [3, 4]}), language="xx"
    )
    assert network.tokens("ab").tolist() == [0, 3, 0, 1, 0, 2, 0, 4, 0]
    assert network.language == "xx"


# The formulas -----------------------------------------------------------------------------------


@settings(max_examples=15)
@given(frames=st.integers(2, 12), squeeze=st.sampled_from([1, 2]), sigmoid=st.booleans())
def test_the_flow_inverts(frames: int, squeeze: int, sigmoid: bool) -> None:
    values = SMALL.to_dict() | {"squeeze": squeeze, "sigmoid_scale": sigmoid}
    flow = busy(GlowConfig.from_dict(values)).decoder
    features = torch.randn(1, 8, frames)
    mask = torch.ones(1, 1, frames)
    with torch.inference_mode():
        there, _ = flow(features, mask)
        back = flow.reverse(there, torch.ones(1, 1, there.shape[2]))
    assert there.shape[2] == frames - frames % squeeze
    assert torch.allclose(back, features[..., : there.shape[2]], atol=1e-4)


def test_log_determinant_is_that_of_the_jacobian() -> None:
    flow = busy(SMALL).decoder.double()
    features, mask = torch.randn(1, 8, 4, dtype=torch.float64), torch.ones(1, 1, 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, mask.double())[0], features)
    _, volume = flow(features, mask.double())
    wanted = torch.linalg.slogdet(jacobian.reshape(32, 32))[1]
    assert torch.allclose(volume[0], wanted)


def test_padding_changes_nothing() -> None:
    network = busy(SMALL)
    tokens = torch.tensor([[1, 2, 3]])
    padded = torch.tensor([[1, 2, 3, 0, 0]])
    features, mask = torch.randn(1, 8, 6), torch.tensor([[[1.0] * 4 + [0.0] * 2]])
    with torch.inference_mode():
        short = network.encoder(tokens, torch.ones(1, 1, 3))
        long = network.encoder(padded, (padded != 0).float()[:, None])
        z_short, v_short = network.decoder(features[..., :4], mask[..., :4])
        z_long, v_long = network.decoder(features, mask)
    for a, b in zip(short, long, strict=True):
        assert torch.allclose(a, b[..., :3], atol=1e-5)
    assert torch.allclose(z_short, z_long[..., :4], atol=1e-5)
    assert torch.allclose(v_short, v_long, atol=1e-4)


def test_the_first_batch_leaves_the_flow_normalised() -> None:
    torch.manual_seed(0)
    flow = Flow(SMALL)
    features, mask = 5 + 3 * torch.randn(4, 8, 50), torch.ones(4, 1, 50)
    flow.initialise(features, mask)
    with torch.inference_mode():
        z, _ = flow(features, mask)
    assert abs(float(z.mean())) < 0.05
    assert abs(float(z.std()) - 1) < 0.05


def test_invertible_convolution_starts_as_a_rotation() -> None:
    weight = InvertibleConv(4).weight.detach()
    assert torch.allclose(weight @ weight.T, torch.eye(4), atol=1e-5)
    assert float(torch.linalg.det(weight)) == pytest.approx(1.0, abs=1e-5)


def test_relative_attention_against_a_loop() -> None:
    torch.manual_seed(0)
    layer = RelativeAttention(4, 2, window=1, dropout=0.0).eval()
    hidden = torch.randn(1, 4, 5)
    with torch.inference_mode():
        query, key, value = (
            conv(hidden)[0].reshape(2, 2, 5) for conv in (layer.conv_q, layer.conv_k, layer.conv_v)
        )
        mixed = torch.zeros(2, 2, 5)
        for head in range(2):
            for i in range(5):
                near = {j: layer.emb_rel_k[0, j - i + 1] for j in range(5) if abs(i - j) <= 1}
                scores = torch.stack(
                    [
                        query[head, :, i] @ (key[head, :, j] + near.get(j, torch.zeros(2)))
                        for j in range(5)
                    ]
                )
                weights = torch.softmax(scores / 2**0.5, 0)
                for j in range(5):
                    extra = layer.emb_rel_v[0, j - i + 1] if j in near else torch.zeros(2)
                    mixed[head, :, i] += weights[j] * (value[head, :, j] + extra)
        wanted = layer.conv_o(mixed.reshape(1, 4, 5))
        assert torch.allclose(layer(hidden, torch.ones(1, 1, 5)), wanted, atol=1e-5)


# Bad files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "vits"}, "'vits'"),
        ({"encoder_type": "gated_conv"}, "gated_conv"),
        ({"use_speaker_embedding": True}, "several speakers"),
        ({"characters": None}, "no characters"),
        ({"encoder_params": []}, "no encoder_params"),
        ({"num_chars": 10}, "make 132 tokens"),
        ({"num_flow_blocks_dec": 10**9}, "flow_blocks cannot be 1000000000"),
        ({"hidden_channels_enc": -1}, "encoder_channels cannot be -1"),
        ({"hidden_channels_enc": 49}, "do not divide"),
        ({"num_splits": 3}, "3 splits"),
        ({"mean_only": "yes"}, "mean_only cannot be 'yes'"),
        ({"length_scale": 0}, "length_scale"),
        ({"kernel_size_dec": 4}, "must be odd"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(KnnvcError) as caught:
        GlowTts.from_checkpoint(published() | change, WEIGHTS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"out_channels": 100},
        {"hidden_channels_enc": 96},
        {"hidden_channels_dec": 24},
        {"hidden_channels_dp": 24},
        {"num_flow_blocks_dec": 3},
        {"num_block_layers": 5},
        {"kernel_size_dec": 3},
        {"mean_only": False},
        {"use_encoder_prenet": False},
        {"num_splits": 8},
        {"num_squeeze": 1},
    ],
)
def test_weights_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(KnnvcError, match="does not fit its configuration"):
        GlowTts.from_checkpoint(published() | change, WEIGHTS)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        GlowTts.from_checkpoint(CONFIG, tmp_path / "nothing.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(KnnvcError, match=r"damaged|cannot read"):
        GlowTts.from_checkpoint(CONFIG, broken)
    torch.save({"generator": {}}, broken)
    with pytest.raises(KnnvcError, match="holds no 'model'"):
        GlowTts.from_checkpoint(CONFIG, broken)
    torch.save({"model": {"encoder.emb.weight": 3}}, broken)
    with pytest.raises(KnnvcError, match="something else than tensors"):
        GlowTts.from_checkpoint(CONFIG, broken)


def test_settings_survive_json() -> None:
    config = GlowConfig.from_published(published())
    assert GlowConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(KnnvcError, match="colour"):
        GlowConfig.from_dict(config.to_dict() | {"colour": 1})


def test_old_names_of_weight_norm_are_read(glow: GlowTts, tmp_path: Path, phonemes: str) -> None:
    content = torch.load(WEIGHTS, weights_only=True)
    old = copy.deepcopy(content)
    old["model"] = {
        name.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): tensor
        for name, tensor in content["model"].items()
    }
    torch.save(old, tmp_path / "old.pth")
    other = GlowTts.from_checkpoint(CONFIG, tmp_path / "old.pth")
    assert torch.equal(other.features(phonemes, noise=0), glow.features(phonemes, noise=0))
