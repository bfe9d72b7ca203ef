"""Published vocoders, reproduced: from files in their own formats, through the public reader."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from knnvc.errors import KnnvcError, UsageError
from knnvc.frames import Frames
from knnvc.presets.vocoder_files import ReadVocoder, read_vocoder
from knnvc.registry import Context, PartSpec, find
from knnvc.vocoders.bigvgan import BigVganConfig
from knnvc.vocoders.chunked import ChunkedVocoder


def opened(read: ReadVocoder) -> ChunkedVocoder:
    context = Context("test", torch.device("cpu"))
    made: ChunkedVocoder = find("vocoder", read.spec.type).make(read.spec, context, read.state)
    return made


def vocoded(read: ReadVocoder, frames: Tensor, chunk: int | None = None) -> Tensor:
    vocoder = opened(read)
    vocoder.chunk_frames = chunk or vocoder.chunk_frames
    return vocoder(Frames(frames))


def random(shape: dict[str, tuple[int, ...]], scale: float = 0.2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: scale * torch.randn(size, generator=generator) for name, size in shape.items()}


# BigVGAN ------------------------------------------------------------------------------------------


def test_bigvgan_is_the_packages(parity: Path) -> None:
    read = read_vocoder(parity / "bigvgan")
    expected = load_file(parity / "bigvgan" / "expected.safetensors")
    made = vocoded(read, expected["mel"].T)
    assert made.shape == expected["waveform"].shape
    assert (made - expected["waveform"]).abs().max() < 1e-4
    assert (vocoded(read, expected["mel"].T, chunk=7) - made).abs().max() < 1e-6
    assert read.mel is not None
    assert read.mel.config["hop_size"] == 64


@pytest.mark.parametrize("activation", ["snake", "snakebeta"])
def test_bigvgan_of_other_settings_goes_there_and_back(activation: str) -> None:
    values = {
        "num_mels": 8, "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4],
        "upsample_initial_channel": 8, "resblock": "2", "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]], "sampling_rate": 16_000, "activation": activation,
        "snake_logscale": False, "use_cuda_kernel": False, "cqtd_filters": 128,
    }  # fmt: skip
    config = BigVganConfig.from_dict(values)
    assert BigVganConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.use_tanh_at_final
    with pytest.raises(KnnvcError, match="BigVGAN configuration has unknown keys"):
        BigVganConfig.from_dict(values | {"flavour": 1})


# HiFi-GAN -----------------------------------------------------------------------------------------

SMALL = {
    "resblock": "1", "upsample_rates": [7, 3], "upsample_kernel_sizes": [15, 7],
    "upsample_initial_channel": 16, "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
}  # fmt: skip


class Reference(nn.Module):
    """HiFi-GAN's generator as the paper draws it, with weight norm of either kind."""

    def __init__(self, values: dict[str, Any], columns: int, normed: Any) -> None:
        super().__init__()
        self.values, width = values, values["upsample_initial_channel"]
        self.conv_pre = normed(nn.Conv1d(columns, width, 7, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(
            values["upsample_rates"], values["upsample_kernel_sizes"], strict=True
        ):
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, (kernel - rate) // 2)
            self.ups.append(normed(up))
            width //= 2
            for size, rows in zip(
                values["resblock_kernel_sizes"], values["resblock_dilation_sizes"], strict=True
            ):
                block = nn.Module()
                lists = {"convs": rows}
                if values["resblock"] == "1":
                    lists = {"convs1": rows, "convs2": [1] * len(rows)}
                for name, dilations in lists.items():
                    layers = [
                        normed(
                            nn.Conv1d(width, width, size, dilation=d, padding=d * (size - 1) // 2)
                        )
                        for d in dilations
                    ]
                    setattr(block, name, nn.ModuleList(layers))
                self.resblocks.append(block)
        self.conv_post = normed(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, frames: Tensor) -> Tensor:
        x = self.conv_pre(frames.T[None])
        count = len(self.values["resblock_kernel_sizes"])
        for stage, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            total = 0
            for block in self.resblocks[stage * count : (stage + 1) * count]:
                y = x
                lists = [
                    getattr(block, n) for n in ("convs", "convs1", "convs2") if hasattr(block, n)
                ]
                for convs in zip(*lists, strict=True):
                    z = y
                    for conv in convs:
                        z = conv(functional.leaky_relu(z, 0.1))
                    y = y + z
                total = total + y
            x = total / count
        return torch.tanh(self.conv_post(functional.leaky_relu(x, 0.01)))[0, 0]


@pytest.mark.parametrize("normed", [nn.utils.weight_norm, parametrizations.weight_norm])
@pytest.mark.parametrize("resblock", ["1", "2"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_hifigan_on_mel_is_the_papers(tmp_path: Path, normed: Any, resblock: str) -> None:
    torch.manual_seed(0)
    values = SMALL | {"resblock": resblock}
    if resblock == "2":
        values["resblock_dilation_sizes"] = [[1, 2], [2, 6]]
    network = Reference(values, 12, normed)
    torch.save({"generator": network.state_dict()}, tmp_path / "g_02500000")
    mel = {"num_mels": 12, "n_fft": 64, "hop_size": 21, "win_size": 64, "fmin": 0, "fmax": 8000}
    config = values | mel | {"sampling_rate": 22_050, "fmax_for_loss": None, "num_freq": 33}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_vocoder(tmp_path)
    frames = torch.randn(30, 12)
    made = vocoded(read, frames)
    assert torch.allclose(made, network(frames), atol=1e-5)
    assert torch.allclose(vocoded(read, frames, chunk=7), made, atol=1e-5)
    assert read.mel is not None
    assert read.mel.config["fmax"] == 8000
    assert opened(read).hop == read.mel.config["hop_size"] == 21


class _Node:
    """OmegaConf's objects as they lie in a pickle: what they hold, and their metadata."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__


@pytest.fixture
def omega() -> Iterator[Any]:
    """A maker of trees that are pickled as OmegaConf's, without that package."""
    kinds = {}
    names = ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode", "base.Metadata")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        for name in names:
            module, kind = name.split(".")
            made = type(kind, (_Node,), {"__module__": f"omegaconf.{module}"})
            own = types.ModuleType(f"omegaconf.{module}")
            setattr(own, kind, made)
            patch.setitem(sys.modules, f"omegaconf.{module}", own)
            kinds[kind] = made

        def tree(value: Any) -> Any:
            metadata = kinds["Metadata"]()
            metadata.__dict__ |= {"ref_type": Any, "object_type": dict, "optional": True}
            if isinstance(value, dict):
                made, content = kinds["DictConfig"](), {k: tree(v) for k, v in value.items()}
            elif isinstance(value, list):
                made, content = kinds["ListConfig"](), [tree(one) for one in value]
            else:
                made, content = kinds["AnyNode"](), None
                made.__dict__ |= {"_metadata": metadata, "_parent": None, "_val": value}
                return made
            made.__dict__ |= {"_metadata": metadata, "_parent": None, "_content": content}
            return made

        yield tree


@pytest.mark.parametrize("told", ["omegaconf", "plain", "nothing"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_ssl_vocoders_are_read_out_of_lightning(tmp_path: Path, omega: Any, told: str) -> None:
    torch.manual_seed(0)
    network = Reference(SMALL, 24, nn.utils.weight_norm)
    state = {f"generator.{name}": tensor for name, tensor in network.state_dict().items()}
    state["multi_scale_discriminator.conv.weight"] = torch.zeros(3)
    cfg: dict[str, Any] = {
        "sample_rate": 22_050,
        "model": {"generator": {"num_input_channels": 24, **SMALL}, "optim": {"lr": 2e-4}},
        "data": {"target_feature": {"key": "wavlm-large-6.pth", "bias": 0.0025}},
    }
    content: dict[str, Any] = {"state_dict": state, "epoch": 3, "loops": {}, "callbacks": {}}
    if told != "nothing":
        cfg = omega(cfg) if told == "omegaconf" else cfg
        content |= {"hyper_parameters": {"cfg": cfg}, "hparams_name": "kwargs"}
    torch.save(content, tmp_path / "wavlm.ckpt")
    read = read_vocoder(tmp_path / "wavlm.ckpt")
    frames = torch.randn(20, 24)
    assert torch.allclose(vocoded(read, frames), network(frames), atol=1e-5)
    vocoder = opened(read)
    assert (vocoder.sample_rate, vocoder.hop, vocoder.dim) == (22_050, 21, 24)
    assert read.features == ("" if told == "nothing" else "wavlm-large-6")
    assert read.mel is None


# Vocos --------------------------------------------------------------------------------------------


def vocos_folder(folder: Path, padding: str, head: str = "ISTFTHead") -> dict[str, Tensor]:
    """A tiny Vocos in the published format: pytorch_model.bin and config.yaml."""
    shapes: dict[str, tuple[int, ...]] = {
        "feature_extractor.mel_spec.spectrogram.window": (64,),
        "backbone.embed.weight": (16, 20, 7), "backbone.embed.bias": (16,),
        "head.out.weight": (66, 16), "head.out.bias": (66,),
    }  # fmt: skip
    for name in ("norm", "final_layer_norm"):
        shapes |= {f"backbone.{name}.weight": (16,), f"backbone.{name}.bias": (16,)}
    for number in range(2):
        block = f"backbone.convnext.{number}"
        shapes |= {f"{block}.dwconv.weight": (16, 1, 7), f"{block}.dwconv.bias": (16,)}
        shapes |= {f"{block}.norm.weight": (16,), f"{block}.norm.bias": (16,)}
        shapes |= {f"{block}.pwconv1.weight": (40, 16), f"{block}.pwconv1.bias": (40,)}
        shapes |= {f"{block}.pwconv2.weight": (16, 40), f"{block}.pwconv2.bias": (16,)}
        shapes |= {f"{block}.gamma": (16,)}
    state = random(shapes) | {"head.istft.window": torch.hann_window(64)}
    torch.save(state, folder / "pytorch_model.bin")
    parts = {
        "feature_extractor": (
            "vocos.feature_extractors.MelSpectrogramFeatures",
            {"sample_rate": 8000, "n_fft": 64, "hop_length": 16, "n_mels": 20, "padding": padding},
        ),
        "backbone": (
            "vocos.models.VocosBackbone",
            {"input_channels": 20, "dim": 16, "intermediate_dim": 40, "num_layers": 2},
        ),
        "head": (
            f"vocos.heads.{head}",
            {"dim": 16, "n_fft": 64, "hop_length": 16, "padding": padding},
        ),
    }
    text = {name: {"class_path": kind, "init_args": args} for name, (kind, args) in parts.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump(text))
    return state


def vocos_spectra(state: dict[str, Tensor], frames: Tensor) -> Tensor:
    """Vocos' spectra [33, T] of frames [T, 20], as the paper has them."""

    def of(name: str) -> list[Tensor]:
        return [state[f"{name}.weight"], state[f"{name}.bias"]]

    def normed(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x.T, (16,), *of(name), eps=1e-6).T

    x = functional.conv1d(frames.T[None], *of("backbone.embed"), padding=3)[0]
    x = normed(x, "backbone.norm")
    for number in range(2):
        name = f"backbone.convnext.{number}"
        y = functional.conv1d(x[None], *of(f"{name}.dwconv"), padding=3, groups=16)[0]
        y = functional.linear(normed(y, f"{name}.norm").T, *of(f"{name}.pwconv1"))
        y = functional.linear(functional.gelu(y), *of(f"{name}.pwconv2")) * state[f"{name}.gamma"]
        x = x + y.T
    made = functional.linear(normed(x, "backbone.final_layer_norm").T, *of("head.out")).T
    logs, phases = made.chunk(2)
    return torch.polar(logs.exp().clamp(max=100), phases)


@pytest.mark.parametrize("padding", ["center", "same"])
def test_vocos_is_the_papers(tmp_path: Path, padding: str) -> None:
    state = vocos_folder(tmp_path, padding)
    read = read_vocoder(tmp_path)
    frames = torch.randn(30, 20)
    made = vocoded(read, frames)
    assert made.shape == (30 * 16,)
    whole = torch.istft(vocos_spectra(state, frames), 64, 16, 64, torch.hann_window(64))
    # torch centres the frames; "same" begins half a window minus half a hop, 24, before the middle.
    offset = 0 if padding == "center" else 8
    inner = slice(64, 29 * 16 - 64)
    expected = (
        whole[inner.start - offset : inner.stop - offset]
        if offset == 0
        else whole[inner.start - 8 : inner.stop - 8]
    )
    assert torch.allclose(made[inner], expected, atol=1e-5)
    assert torch.allclose(vocoded(read, frames, chunk=9), made, atol=1e-5)
    assert read.mel is not None
    mel = read.mel.config
    assert (mel["scale"], mel["norm"], mel["floor"]) == ("htk", False, 1e-7)
    assert mel["center"] == (padding == "center")


def test_a_vocos_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    vocos_folder(tmp_path, "center", head="IMDCTCosHead")
    with pytest.raises(KnnvcError, match="only ISTFTHead can be used"):
        read_vocoder(tmp_path)


# Bad input ----------------------------------------------------------------------------------------


def test_what_is_no_vocoder_is_one_sentence(tmp_path: Path, parity: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint of a vocoder"):
        read_vocoder(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        read_vocoder(tmp_path / "nothing.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(KnnvcError, match="no vocoder that is known"):
        read_vocoder(tmp_path / "other.pt")
    shutil_copy = (parity / "bigvgan" / "bigvgan_generator.pt").read_bytes()
    (tmp_path / "alone.pt").write_bytes(shutil_copy)
    with pytest.raises(UsageError, match=r"needs its config\.json"):
        read_vocoder(tmp_path / "alone.pt")

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"state_dict": {"generator.x": Bomb()}}, tmp_path / "bad.ckpt")
    with pytest.raises(KnnvcError, match="carries code"):
        read_vocoder(tmp_path / "bad.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_the_catalogue_of_vocoders_fits_the_registry() -> None:
    from knnvc.presets.catalogue import ENCODERS, VOCODERS
    from knnvc.registry import names

    for known in VOCODERS.values():
        assert not known.files or known.type in names("vocoder")
        if known.encoder:
            encoder = ENCODERS[known.encoder[0]]
            assert encoder.width == known.width
            assert encoder.rate == pytest.approx(known.rate)


def test_settings_for_a_part_need_a_builder() -> None:
    spec = PartSpec("vocoder", "source-filter", {})
    with pytest.raises(KnnvcError):
        find("vocoder", "source-filter").make(spec, Context("x", torch.device("cpu")), {})
