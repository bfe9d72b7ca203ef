"""Faster layers: the same results in float32, near ones in bfloat16; devices; WavLM of our own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from knnvc import UsageError, VoiceConverter
from knnvc.audio import SAMPLE_RATE
from knnvc.encoders.wavlm import QUERIES, WavLM, WavLMConfig
from knnvc.kernels import PRECISIONS, accelerate, linear
from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

COMMON: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
FORMS: dict[str, dict[str, Any]] = {
    "base": {"num_conv_pos_embeddings": 15},
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "num_buckets": 32},
}
GAN = HifiGanConfig(
    hubert_dim=24,
    hifi_dim=16,
    upsample_rates=(10, 8, 4),
    upsample_kernel_sizes=(20, 16, 8),
    upsample_initial_channel=16,
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3), (1, 2)),
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("form", list(FORMS))
def test_wavlm_equals_transformers(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways to compute attention, over more than one block of queries."""
    values = COMMON | FORMS[form]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = transformers.WavLMModel(
            transformers.WavLMConfig(**values, mask_time_prob=0.0, layerdrop=0.0)
        ).eval()
    ours = WavLM(WavLMConfig.from_dict(values)).eval()
    ours.load_state_dict(theirs.state_dict())
    waveform = noise(2, 320 * (QUERIES + 40))
    with torch.no_grad():
        expected = theirs(waveform).last_hidden_state
        (in_blocks,) = ours(waveform, (-1,))
    assert (in_blocks - expected).abs().max() < 1e-5
    for together in (0, 1 << 30):  # head by head, all heads at once
        monkeypatch.setattr("knnvc.encoders.wavlm.TOGETHER", together)
        with torch.inference_mode():
            (on_cpu,) = ours(waveform, (-1,))
        assert (on_cpu - expected).abs().max() < 1e-5


def test_weights_to_train_from_are_as_small_as_those_of_transformers() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = WavLM(WavLMConfig.from_dict(COMMON)).encoder
        theirs = transformers.WavLMModel(
            transformers.WavLMConfig(**COMMON, mask_time_prob=0.0)
        ).encoder
    expected = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert tensor.shape == expected[name].shape
        if tensor.numel() > 500:
            assert float(tensor.std() / expected[name].std()) == pytest.approx(1, rel=0.2), name


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (0, 7)])
def test_linear_is_torchs(shape: tuple[int, ...]) -> None:
    rows, weight, bias = noise(*shape), noise(4, 7, seed=1), noise(4, seed=2)
    expected = nn.functional.linear(rows, weight, bias)
    with torch.inference_mode():
        made = linear(rows, weight, bias)
    assert made.shape == expected.shape
    assert torch.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_an_accelerated_vocoder_sounds_the_same(precision: str, tolerance: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = HifiGan(GAN).eval()
    features = noise(1, 30, 24)
    with torch.inference_mode():
        expected = network(features)
        accelerate(network, precision, keep=("conv_post",))
        made = network(features)
    assert made.dtype == torch.float32
    assert relative(made, expected) < tolerance


def test_bfloat16_is_near_and_its_sets_can_be_mixed(mini: VoiceConverter) -> None:
    half = VoiceConverter.from_preset("mini", device="cpu", precision="bfloat16")
    waveform = 0.1 * noise(2 * SAMPLE_RATE)
    features, expected = (one.encode((waveform, SAMPLE_RATE)) for one in (half, mini))
    assert 0 < relative(features, expected) < 0.05
    columns = mini.encoder.columns
    assert relative(half.vocode(expected[:, columns.synth]), mini.vocode(expected)) < 0.05
    assert half.encoder.fingerprint == mini.encoder.fingerprint
    made, _ = half.convert((waveform, SAMPLE_RATE), mini.matching_set((waveform, SAMPLE_RATE)))
    assert len(made)


def test_precision_is_checked() -> None:
    with pytest.raises(UsageError, match=f"precision is 'half': choose one of {PRECISIONS[0]}"):
        VoiceConverter.from_preset("mini", precision="half")


@pytest.mark.parametrize("part", ["wavlm", "hifigan"])
def test_no_part_makes_tensors_on_the_wrong_device(part: str) -> None:
    """On the meta device an operation that mixes in a tensor of the CPU raises."""
    if part == "wavlm":
        network: nn.Module = WavLM(WavLMConfig.from_dict(COMMON | FORMS["large"]))
        arguments: tuple[Any, ...] = (torch.empty(1, 320 * (QUERIES + 9)), (1, 3))
    else:
        network, arguments = HifiGan(GAN), (torch.empty(1, 20, 24),)
    network = network.eval().to("meta")
    with torch.no_grad():
        made = network(arguments[0].to("meta"), *arguments[1:])
    made = made[0] if isinstance(made, list) else made
    assert made.device.type == "meta"


def test_minis_networks_are_placed_as_a_whole() -> None:
    converter = VoiceConverter.from_preset("mini", device="cpu")
    for network in (converter.encoder.network, converter.vocoder.network):
        moved = network.to("meta")
        tensors = [*moved.parameters(), *moved.buffers()]
        assert tensors
        assert {tensor.device.type for tensor in tensors} == {"meta"}
