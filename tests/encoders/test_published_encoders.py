"""Encoders by name and from published files: the originals' numbers, reproduced."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import knnvc
from knnvc.cli.main import cli
from knnvc.encoders.mel import Mel, MelConfig
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import sha256_file
from knnvc.presets.catalogue import ENCODERS, VOCODERS
from knnvc.presets.checksums import Sum
from knnvc.presets.named import open_encoder
from knnvc.presets.pickled import plain, read_checkpoint
from knnvc.registry import find, names

RATE = {"sample_rate": 16_000, "device": "cpu"}


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def encoded(wave: Tensor, **given: Any) -> Tensor:
    made: Tensor = knnvc.features(wave, **RATE, **given)
    return made


# wav2vec ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wav2vec(parity: Path) -> Path:
    return parity / "wav2vec" / "wav2vec_tiny.pt"


@pytest.mark.parametrize(("layer", "name"), [(0, "z"), (5, "c"), (-1, "c"), (None, "c")])
def test_wav2vec_is_fairseqs(wav2vec: Path, layer: int | None, name: str) -> None:
    expected = load_file(wav2vec.with_name("expected.safetensors"))
    made = encoded(expected["waveform"], layer=layer, encoder="wav2vec", weights=wav2vec)
    assert made.shape == expected[name].shape
    assert (made - expected[name]).abs().max() < 1e-4
    assert open_encoder(wav2vec, device="cpu").hop == 160


def test_all_layers_of_wav2vec_stand_in_order(wav2vec: Path) -> None:
    wave = noise(8000)
    made = encoded(wave, layer="all", encoder=wav2vec)
    assert made.shape == (6, (8000 - 465) // 160 + 1, 32)
    for layer in range(6):
        assert torch.allclose(made[layer], encoded(wave, layer=layer, encoder=wav2vec), atol=1e-6)


def changed(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = read_checkpoint(path)
    change(content)
    torch.save(content, target)
    return target


def test_wav2vec_with_other_settings(wav2vec: Path, tmp_path: Path) -> None:
    """Shortcuts, zeros before the beginning, GELU, no logarithm, and fairseq's later `cfg`."""

    def change(content: dict[str, Any]) -> None:
        settings = vars(content.pop("args"))
        settings |= {"log_compression": False, "agg_zero_pad": True, "activation": "gelu"}
        settings |= {"skip_connections_feat": True, "residual_scale": 0.25}
        settings["conv_feature_layers"] = "[(32,10,5)] + [(32,8,4)] + [(32,4,2)] * 3 + [(32,1,1)]*2"
        content["cfg"] = {"model": settings, "task": {"normalize": False}}

    path = changed(wav2vec, tmp_path / "other.pt", change)
    state, wave = read_checkpoint(path)["model"], noise(4000)
    hidden = wave[None, None]
    for number, stride in enumerate((5, 4, 2, 2, 2, 1, 1)):
        name = f"feature_extractor.conv_layers.{number}"
        made = functional.conv1d(hidden, state[f"{name}.0.weight"], stride=stride)
        norm = [state[f"{name}.2.{part}"] for part in ("weight", "bias")]
        made = functional.gelu(functional.group_norm(made, 1, *norm))
        if number:
            short = hidden[..., :: hidden.shape[2] // made.shape[2]][..., : made.shape[2]]
            made = (made + short) * 0.5
        hidden = made
    assert torch.allclose(encoded(wave, layer=0, encoder=path), hidden[0].T, atol=1e-4)
    for number in range(5):
        name = f"feature_aggregator.conv_layers.{number}"
        weights = [state[f"{name}.1.{part}"] for part in ("weight", "bias")]
        made = functional.conv1d(functional.pad(hidden, (number + 1, 0)), *weights)
        norm = [state[f"{name}.3.{part}"] for part in ("weight", "bias")]
        hidden = (functional.gelu(functional.group_norm(made, 1, *norm)) + hidden) * 0.5
    assert torch.allclose(encoded(wave, encoder=path), hidden[0].T, atol=1e-4)


def test_what_is_no_wav2vec_of_this_kind_is_one_sentence(wav2vec: Path, tmp_path: Path) -> None:
    def quantised(content: dict[str, Any]) -> None:
        content["args"].vq_type = "gumbel"

    def evaluated(content: dict[str, Any]) -> None:
        content["args"].conv_feature_layers = "__import__('os').mkdir('here')"

    for change in (quantised, evaluated):
        path = changed(wav2vec, tmp_path / "bad.pt", change)
        with pytest.raises(KnnvcError, match="settings of wav2vec"):
            encoded(noise(4000), encoder=path)
    with pytest.raises(UsageError, match="holds wav2vec, not hubert-base"):
        encoded(noise(4000), encoder="hubert-base", weights=wav2vec)


def test_settings_are_read_and_code_is_not(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"args": argparse.Namespace(one=1, two=[2, "3"])}, tmp_path / "good.pt")
    assert plain(read_checkpoint(tmp_path / "good.pt")["args"]) == {"one": 1, "two": [2, "3"]}
    torch.save({"args": argparse.Namespace(one=Bomb())}, tmp_path / "bad.pt")
    with pytest.raises(KnnvcError, match="carries code"):
        read_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "exploded").exists()


# BYOL-A -------------------------------------------------------------------------------------------


def byol_state(blocks: int, hidden: int, out: int) -> dict[str, Tensor]:
    """Random weights of BYOL-A, under the authors' names."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for number in range(blocks):
        layers += [nn.Conv2d(8 if number else 1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ReLU()]
    wide = 8 * 64 // 2**blocks
    fc = nn.Sequential(
        nn.Linear(wide, hidden), nn.ReLU(), nn.ReLU(), nn.Linear(hidden, out), nn.ReLU()
    )
    network = nn.ModuleDict({"features": nn.Sequential(*layers), "fc": fc})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(8)
            module.running_var = torch.rand(8) + 0.5
    return network.state_dict()


def byol_by_hand(state: dict[str, Tensor], spectra: Tensor, blocks: int) -> Tensor:
    """BYOL-A's embeddings [T, D] of normalised log-mel spectra [64, M], as the paper has them."""
    hidden = spectra[None, None]
    for number in range(blocks):
        one, two = f"features.{4 * number}", f"features.{4 * number + 1}"
        hidden = functional.conv2d(hidden, state[f"{one}.weight"], state[f"{one}.bias"], padding=1)
        norm = [
            state[f"{two}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        hidden = functional.max_pool2d(functional.batch_norm(hidden, *norm).relu(), 2)
    rows = hidden[0].permute(2, 1, 0).flatten(1)  # bands outside, channels inside
    made = functional.linear(rows, state["fc.0.weight"], state["fc.0.bias"]).relu()
    made = functional.linear(made, state["fc.3.weight"], state["fc.3.bias"]).relu()
    return torch.cat([rows, made], 1) if blocks == 2 else made


def log_mel_64(wave: Tensor, scale: str, norm: str | None) -> Tensor:
    """64 bands [64, M] of 64 ms every 10 ms, by librosa."""
    spectra = (
        np.abs(librosa.stft(wave.numpy(), n_fft=1024, hop_length=160, pad_mode="reflect")) ** 2
    )
    bands = librosa.filters.mel(
        sr=16_000, n_fft=1024, n_mels=64, fmin=60, fmax=7800, htk=scale == "htk", norm=norm
    )
    return torch.from_numpy(np.log(bands @ spectra + np.finfo(np.float32).eps)).float()


@pytest.mark.parametrize(
    ("name", "blocks", "prefix"),
    [("byol-a", 3, ""), ("byol-a-512", 3, "online_encoder.net."), ("byol-a-v2", 2, "model.")],
)
def test_byol_is_the_papers(tmp_path: Path, name: str, blocks: int, prefix: str) -> None:
    state = byol_state(blocks, 24, 16)
    path = tmp_path / "byol.pth"
    torch.save({prefix + key: tensor for key, tensor in state.items()}, path)
    wave = noise(16_000)
    spectra = log_mel_64(wave, *(("htk", None) if blocks == 3 else ("slaney", "slaney")))
    expected = byol_by_hand(state, (spectra + 5) / 4, blocks)
    given: dict[str, Any] = {"encoder": name, "weights": path, "config": {"mean": -5.0, "std": 4.0}}
    made = encoded(wave, **given)
    assert made.shape == expected.shape == (101 // 2**blocks, 16 + (128 if blocks == 2 else 0))
    assert torch.allclose(made, expected, atol=1e-3)
    clip = encoded(wave, pool="mean+max", **given)
    assert torch.allclose(clip, expected.amax(0) + expected.mean(0), atol=1e-3)


def test_byol_in_pieces_is_the_same(tmp_path: Path) -> None:
    torch.save(byol_state(3, 24, 16), tmp_path / "byol.pth")
    wave = noise(200_000)
    whole = open_encoder("byol-a", weights=tmp_path / "byol.pth", device="cpu")
    parts = open_encoder("byol-a", weights=tmp_path / "byol.pth", device="cpu", chunk=2.0)
    assert torch.allclose(parts.encode(wave), whole.encode(wave), atol=1e-4)


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    torch.save(byol_state(3, 24, 16), tmp_path / "byol.pth")
    with pytest.raises(KnnvcError, match="mean and std, not hop"):
        encoded(noise(8000), encoder=tmp_path / "byol.pth", config={"hop": 3})


# Transformers -------------------------------------------------------------------------------------


def transformer(family: str, stable: bool) -> Any:
    """A tiny random model of transformers."""
    import transformers

    name = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "data2vec-audio": "Data2VecAudio"}[family]
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "conv_dim": (16,) * 7}
    if family == "data2vec-audio":
        sizes |= {"conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2}
    else:
        sizes |= {"num_conv_pos_embeddings": 16, "do_stable_layer_norm": stable}
        sizes["feat_extract_norm"] = "layer" if stable else "group"
    sizes["num_conv_pos_embedding_groups"] = 4
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    return getattr(transformers, f"{name}Model")(config).eval()


@pytest.mark.parametrize(
    ("name", "family", "stable", "normalize"),
    [
        ("hubert-base", "hubert", False, True),
        ("hubert-large", "hubert", True, True),
        ("wav2vec2-base", "wav2vec2", False, False),
        ("wav2vec2-large", "wav2vec2", True, True),
        ("data2vec-audio-base", "data2vec-audio", False, True),
    ],
)
def test_every_layer_is_that_of_transformers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    family: str,
    stable: bool,
    normalize: bool,
) -> None:
    """By name, out of the folder of downloads, with the input that the published model wants."""
    from transformers import Wav2Vec2FeatureExtractor

    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path))
    folder = tmp_path / "downloads" / name
    model, extractor = transformer(family, stable), Wav2Vec2FeatureExtractor(do_normalize=normalize)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    wave = noise(8000) + 0.05
    given = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        told = model(given, output_hidden_states=True)
    with pytest.warns(KnnvcWarning, match="UNVERIFIED"):
        made = encoded(wave, layer="all", encoder=name)
    hidden = torch.cat(told.hidden_states)
    assert made.shape == hidden.shape
    assert torch.allclose(made[:-1], hidden[:-1], atol=1e-4)
    with pytest.warns(KnnvcWarning, match="model.safetensors"):
        last = encoded(wave, layer=-1, encoder=name)
    assert torch.allclose(last, told.last_hidden_state[0], atol=1e-4)
    assert torch.allclose(made[-1], last, atol=1e-4) is not stable


def test_other_weights_than_the_published_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the pickle a checksum is known; of safetensors beside it nobody knows one."""
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path))
    folder = tmp_path / "downloads" / "hubert-base"
    transformer("hubert", stable=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    known = ENCODERS["hubert-base"]
    assert known.verify() == ["model.safetensors"]
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(KnnvcError, match=r"is not what .*hubert-base-ls960 publishes \(its sha256"):
        encoded(noise(8000), encoder="hubert-base")
    right = sha256_file(folder / "pytorch_model.bin")
    assert replace(known, sums={"pytorch_model.bin": Sum(right)}).verify() == []


def test_what_is_downloaded_is_the_revision_that_the_checksum_is_of() -> None:
    for known in (*ENCODERS.values(), *VOCODERS.values()):
        for name, url in known.files:
            one = known.sums.get(name)
            assert one is None or len(bytes.fromhex(one.sha256)) == 32
            assert one is None or not url or f"/resolve/{one.revision}/" in url


def test_an_adapter_is_left_out(tmp_path: Path) -> None:
    """It stands after the last layer of some that were fine-tuned, and halves the frames."""
    import transformers

    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16}
    sizes |= {"num_conv_pos_embedding_groups": 4, "add_adapter": True, "num_adapter_layers": 1}
    torch.manual_seed(0)
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**sizes)).eval()
    model.save_pretrained(tmp_path)
    wave = noise(8000)
    model.adapter = None
    with torch.inference_mode():
        expected = model(wave[None]).last_hidden_state[0]
    assert torch.allclose(encoded(wave, layer=-1, encoder=tmp_path), expected, atol=1e-4)


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_fairseqs_own_files_are_read_too(tmp_path: Path, family: str) -> None:
    """`hubert_base_ls960.pt` and `wav2vec_small.pt`: other names, a Namespace or a `cfg`."""
    model = transformer(family, stable=False)
    state = {}
    for name, tensor in model.state_dict().items():
        for new, old in (
            ("feature_projection.layer_norm", "layer_norm"),
            ("feature_projection.projection", "post_extract_proj"),
            (".conv.parametrizations.weight.original0", ".0.weight_g"),
            (".conv.parametrizations.weight.original1", ".0.weight_v"),
            ("pos_conv_embed.conv.bias", "pos_conv.0.bias"),
            ("pos_conv_embed", "pos_conv"),
            ("feed_forward.intermediate_dense", "fc1"),
            ("feed_forward.output_dense", "fc2"),
        ):
            name = name.replace(new, old)
        if name.startswith("feature_extractor"):
            name = name.replace(".conv.", ".0.").replace(".layer_norm.", ".2.")
        if ".layers." in name:
            name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
            name = name.replace("final_layer_norm", "final_layer_norm").replace(
                "attention.", "self_attn."
            )
        state[name.replace("masked_spec_embed", "mask_emb")] = tensor
    own = {
        "extractor_mode": "default", "activation_fn": "gelu", "layer_norm_first": False,
        "encoder_embed_dim": 32, "encoder_layers": 2, "encoder_attention_heads": 2,
        "encoder_ffn_embed_dim": 64, "conv_bias": False, "conv_pos": 16, "conv_pos_groups": 4,
        "conv_feature_layers": "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2",
    }  # fmt: skip
    if family == "hubert":
        state["label_embs_concat"] = torch.zeros(4, 4)
        content = {"cfg": {"model": own, "task": {"normalize": False}}, "model": state}
    else:
        state["quantizer.vars"] = torch.zeros(1, 4, 4)
        content = {"args": argparse.Namespace(**own, normalize=False), "model": state}
    torch.save(content, tmp_path / "fairseq.pt")
    with torch.inference_mode():
        told = model(noise(8000)[None], output_hidden_states=True).hidden_states
    made = encoded(noise(8000), layer="all", encoder=tmp_path / "fairseq.pt")
    assert torch.allclose(made, torch.cat(told), atol=1e-4)


# Plain baselines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "fmax"), [(16_000, None), (22_050, 8000.0)])
def test_log_mel_is_hifigans(rate: int, fmax: float | None) -> None:
    """The formula of HiFi-GAN's meldataset.py, with librosa's bands."""
    wave = noise(20_000)
    config = MelConfig(sampling_rate=rate, hop_size=256, fmax=fmax)
    padded = functional.pad(wave[None, None], (384, 384), mode="reflect")[0, 0]
    spectra = torch.stft(
        padded, 1024, 256, 1024, torch.hann_window(1024), center=False, return_complex=True
    )
    bands = librosa.filters.mel(sr=rate, n_fft=1024, n_mels=80, fmin=0, fmax=fmax)
    magnitudes = torch.sqrt(torch.view_as_real(spectra).pow(2).sum(-1) + 1e-9)
    expected = torch.log(torch.clamp(torch.from_numpy(bands) @ magnitudes, min=1e-5)).T
    made = Mel(config)(wave[None])[0]
    assert made.shape == expected.shape == (20_000 // 256, 80)
    assert torch.allclose(made, expected, atol=1e-4)


def mfcc_by_hand(wave: np.ndarray) -> np.ndarray:
    """Kaldi's 13 MFCC [T, 13]: 25 ms every 10 ms, 23 bands from 20 Hz to half the rate."""
    frames = np.lib.stride_tricks.sliding_window_view(wave * 32768.0, 400)[::160]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85  # Povey's
    energy = np.abs(np.fft.rfft((frames - 0.97 * before) * window, 512)) ** 2
    edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700), 25)
    bins = 1127 * np.log(1 + np.arange(257) * 16_000 / 512 / 700)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.clip(np.minimum(rising, falling), 0, None)
    bands[:, 256] = 0  # Kaldi leaves the last bin out
    logs = np.log(energy @ bands.T)
    turns = np.cos(np.pi / 23 * (np.arange(23) + 0.5) * np.arange(13)[:, None])
    turns *= np.sqrt(np.where(np.arange(13) == 0, 1, 2) / 23)[:, None]
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    return np.asarray((logs @ turns.T) * lifter)


def test_mfcc_are_kaldis_with_their_slopes() -> None:
    wave = noise(8000).numpy()
    made = knnvc.features(wave, encoder="mfcc", **RATE)
    assert made.shape == ((8000 - 400) // 160 + 1, 39)
    expected = mfcc_by_hand(wave.astype(np.float64))
    assert np.allclose(made[:, :13], expected, atol=2e-2)
    inner = slice(6, -6)
    slope = sum(n * (np.roll(expected, -n, 0) - np.roll(expected, n, 0)) for n in (1, 2)) / 10
    assert np.allclose(made[inner, 13:26], slope[inner], atol=2e-2)
    twice = sum(n * (np.roll(slope, -n, 0) - np.roll(slope, n, 0)) for n in (1, 2)) / 10
    assert np.allclose(made[inner, 26:], twice[inner], atol=2e-2)


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_plain_encoders_take_the_shortest(samples: int) -> None:
    for name in ("log-mel", "mfcc"):
        made = encoded(noise(samples), encoder=name)
        assert len(made) >= 1
        assert bool(torch.isfinite(made).all())


def test_log_mel_in_pieces_is_the_same() -> None:
    wave = noise(100_000)
    whole = open_encoder("log-mel", device="cpu", config={"center": True})
    parts = open_encoder("log-mel", device="cpu", config={"center": True}, chunk=1.0)
    assert torch.allclose(parts.encode(wave), whole.encode(wave), atol=1e-5)


# By name ------------------------------------------------------------------------------------------


def test_without_a_network_one_sentence_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    for name, files in (
        ("hubert-base", "config.json, preprocessor_config.json and pytorch_model.bin from hug"),
        ("byol-a", "AudioNTT2020-BYOLA-64x96d2048.pth from github.com/nttcslab/byol-a"),
    ):
        with pytest.raises(KnnvcError) as one:
            encoded(noise(8000), encoder=name)
        assert f"{name} is not here" in one.value.full
        assert f"put {files}" in one.value.full
        assert one.value.full.endswith(f"into {tmp_path / 'downloads' / name}")
    with pytest.raises(UsageError, match=r"did you mean hubert-base\?"):
        encoded(noise(8000), encoder="hubert-bass")
    with pytest.raises(UsageError, match="no layers to choose"):
        encoded(noise(8000), encoder="mfcc", layer=3)


def test_features_on_the_command_line(tmp_path: Path, wav2vec: Path, ben: Path, anna: Path) -> None:
    out = tmp_path / "ben.safetensors"
    given = ["features", str(ben), "--encoder", "wav2vec", "--weights", str(wav2vec)]
    cli([*given, "--layer", "all", "-o", str(out)], standalone_mode=False)
    with safe_open(out, "pt") as file:
        made, about = file.get_tensor("features"), file.metadata()
    assert torch.equal(made, knnvc.features(ben, "all", encoder="wav2vec", weights=wav2vec))
    assert (about["sample_rate"], about["hop"], about["frames_a_second"]) == ("16000", "160", "100")
    assert (about["encoder"], about["layer"]) == ("wav2vec", "all")
    with pytest.raises(UsageError, match="exists"):
        cli([*given, "-o", str(out)], standalone_mode=False)
    cli(
        ["features", str(anna), "--encoder", "mfcc", "-o", str(tmp_path / "anna")],
        standalone_mode=False,
    )
    found = sorted(
        p.relative_to(tmp_path / "anna") for p in (tmp_path / "anna").rglob("*.safetensors")
    )
    assert found == [Path("a/a.safetensors"), Path("b.safetensors")]
    with pytest.raises(UsageError, match="whole number, or all"):
        cli(["features", str(ben), "--layer", "six"], standalone_mode=False)


def test_the_catalogue_names_parts_that_there_are() -> None:
    from knnvc.presets.catalogue import ALIASES, ENCODERS

    for known in ENCODERS.values():
        assert known.type in names("encoder")
        assert not known.files or known.page.startswith("https://")
        assert known.depth == 0 or "match_layer" in find("encoder", known.type).settings
    assert set(ALIASES.values()) <= ENCODERS.keys()
