"""`mini`'s encoder: its layers are Whisper's."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import PhoneEncoder, PhoneEncoderConfig

CONFIG = PhoneEncoderConfig(
    mels=20, hidden=32, layers=2, heads=4, feed_forward=48, pitch_layer=1, head=16, content=8
)
FRAMES = 24


def whisper() -> WhisperEncoder:
    torch.manual_seed(0)
    settings = WhisperConfig(
        vocab_size=60,
        num_mel_bins=CONFIG.mels,
        d_model=CONFIG.hidden,
        encoder_layers=CONFIG.layers,
        encoder_attention_heads=CONFIG.heads,
        encoder_ffn_dim=CONFIG.feed_forward,
        max_source_positions=FRAMES,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    network = WhisperEncoder(settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter is not network.embed_positions.weight:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


def with_weights_of(theirs: WhisperEncoder) -> PhoneEncoder:
    ours = PhoneEncoder(CONFIG).eval()
    state = ours.state_dict()
    found = theirs.state_dict()
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            state[f"{name}.{kind}"] = found[f"{name}.{kind}"]
    for layer in range(CONFIG.layers):
        here, there = f"layers.{layer}.", f"layers.{layer}."
        attention = there + "self_attn."
        state[here + "inwards.weight"] = torch.cat(
            [found[f"{attention}{part}_proj.weight"] for part in "qkv"]
        )
        state[here + "inwards.bias"] = torch.cat(
            [
                found[attention + "q_proj.bias"],
                torch.zeros(CONFIG.hidden),  # Whisper's keys have none
                found[attention + "v_proj.bias"],
            ]
        )
        for ours_name, theirs_name in (
            ("outwards", "self_attn.out_proj"),
            ("attention_norm", "self_attn_layer_norm"),
            ("feed_norm", "final_layer_norm"),
            ("widen", "fc1"),
            ("narrow", "fc2"),
        ):
            for kind in ("weight", "bias"):
                state[f"{here}{ours_name}.{kind}"] = found[f"{there}{theirs_name}.{kind}"]
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = found[f"layer_norm.{kind}"]
    ours.load_state_dict(state)
    return ours


@torch.inference_mode()
def test_its_layers_compute_what_whispers_compute() -> None:
    theirs = whisper()
    ours = with_weights_of(theirs)
    spectra = torch.randn(2, CONFIG.mels, 2 * FRAMES)
    wanted = theirs(spectra).last_hidden_state
    frames = spectra.transpose(1, 2).reshape(2, FRAMES, 2 * CONFIG.mels)
    made, low, told = ours.hidden(frames)
    assert torch.allclose(made, wanted, atol=1e-4)
    assert torch.equal(told, made)
    assert low.shape == made.shape
    assert not torch.allclose(low, made)


@torch.inference_mode()
def test_posteriors_and_content_stand_side_by_side() -> None:
    network = PhoneEncoder(CONFIG).eval()
    said, pitch = network.predict(torch.randn(3, FRAMES, 2 * CONFIG.mels))
    assert said.shape == (3, FRAMES, CONFIG.states + CONFIG.content)
    assert pitch.shape == (3, FRAMES, 2)
    columns = network.posteriors(said)
    posteriors = columns[..., : CONFIG.states].square()
    assert torch.allclose(posteriors.sum(-1), torch.ones(3, FRAMES), atol=1e-5)
    assert torch.equal(columns[..., CONFIG.states :], said[..., CONFIG.states :])


@torch.inference_mode()
def test_content_is_made_of_the_layers_it_names_and_the_last() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, content_layers=(1,))
    network = PhoneEncoder(config).eval()
    mel = torch.randn(1, FRAMES, 2 * CONFIG.mels)
    heard = network.hidden(mel)  # pitch is read from the first layer, as content is here
    inner, last = heard.content.split(CONFIG.hidden, dim=-1)
    assert torch.equal(last, heard.last)
    assert torch.allclose(inner, functional.layer_norm(heard.low, (CONFIG.hidden,)))
    assert isinstance(network.content, nn.Linear)
    said, _ = network.predict(mel)
    wanted = heard.content @ network.content.weight.T
    assert torch.allclose(said[..., CONFIG.states :], wanted, atol=1e-6)


def test_content_is_not_made_of_layers_that_are_missing() -> None:
    with pytest.raises(KnnvcError, match="content_layers names a layer beyond the 2 there are"):
        PhoneEncoderConfig.from_dict({"layers": 2, "content_layers": [3]})


@torch.inference_mode()
def test_hidden_frames_are_not_seen_by_the_frame_itself() -> None:
    network = PhoneEncoder(CONFIG).eval()
    mel = torch.randn(1, FRAMES, 2 * CONFIG.mels)
    other = mel.clone()
    other[0, 10] += 5.0
    masked = torch.zeros(1, FRAMES, dtype=torch.bool)
    masked[0, 8:13] = True
    one, two = (network.hidden(frames, masked).last for frames in (mel, other))
    assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("values", [{"hidden": 30, "heads": 4}, {"hidden": 33, "heads": 3}])
def test_heads_divide_the_columns(values: dict[str, int]) -> None:
    with pytest.raises(KnnvcError, match="heads do not divide"):
        PhoneEncoderConfig.from_dict(values)
