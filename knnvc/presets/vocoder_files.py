"""Published vocoder files, told apart by content: settings, weights, the spectra they read.

| file | vocoder | what it reads |
|---|---|---|
| `{'generator'}` and config.json, with activations | BigVGAN | its mel spectra |
| `{'generator'}` and config.json with `hubert_dim` | HiFi-GAN of kNN-VC | an encoder's features |
| `{'generator'}` and config.json without | HiFi-GAN | its mel spectra |
| Lightning's `{'state_dict'}` | HiFi-GAN of ssl-vocoders | an encoder's features |
| a state dict with `backbone.` and config.yaml | Vocos | its mel spectra |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.presets.pickled import plain, read_checkpoint
from knnvc.registry import PartSpec
from knnvc.tensors import as_float32, fold_weight_norm, read_json

if TYPE_CHECKING:
    from torch import Tensor

_LIGHTNING = "generator."
_RATE = 22_050  # Hz, of ssl-vocoders
_LARGEST_YAML = 100_000  # characters


@dataclass(frozen=True)
class ReadVocoder:
    """A published vocoder.

    Attributes:
        spec: as a preset would describe it.
        state: its weights, without weight norm.
        mel: the encoder of the spectra that it reads; None if it reads another encoder's features.
        features: what the file calls these features; empty if it says nothing.
    """

    spec: PartSpec
    state: dict[str, Tensor]
    mel: PartSpec | None = None
    features: str = ""


def read_vocoder(path: Path, config: Path | Mapping[str, Any] | None = None) -> ReadVocoder:
    """Read a published vocoder.

    Args:
        path: its checkpoint, or the folder with it and its configuration.
        config: config.json or config.yaml, or its content; by default the one beside the
            checkpoint. Lightning checkpoints carry theirs.

    Raises:
        UsageError: a file is missing.
        KnnvcError: it is damaged, or holds no vocoder that is known here.
    """
    path = _checkpoint_in(path)
    content = read_checkpoint(path)
    if isinstance(content.get("generator"), Mapping):
        return _read_generator(path, content["generator"], _settings(path, config, "config.json"))
    state = content.get("state_dict")
    if isinstance(state, Mapping) and any(str(name).startswith(_LIGHTNING) for name in state):
        return _read_lightning(path, content, state, config)
    state = state if isinstance(state, Mapping) else content
    if "backbone.embed.weight" in state:
        return _read_vocos(path, state, _settings(path, config, "config.yaml"))
    raise KnnvcError(
        f"{path} holds no vocoder that is known here: give a published checkpoint of HiFi-GAN, "
        "BigVGAN, ssl-vocoders or Vocos"
    )


def _checkpoint_in(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise UsageError(f"there is no file {path}: check the path")
        return path
    patterns = ("bigvgan_generator*.pt", "pytorch_model.bin", "g_*", "generator*", "*.ckpt", "*.pt")
    names = (one for pattern in patterns for one in sorted(path.glob(pattern), reverse=True))
    found = [one for one in names if one.is_file() and one.suffix not in (".json", ".tmp")]
    if not found:
        raise UsageError(f"the folder {path} holds no checkpoint of a vocoder: name the file")
    return found[0]


def _settings(path: Path, config: Path | Mapping[str, Any] | None, usual: str) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    chosen = path.with_name(usual) if config is None else Path(config)
    if not chosen.is_file():
        raise UsageError(
            f"{path.name} needs its {usual}: put it beside the checkpoint, or name it with "
            "--vocoder-config"
        )
    return read_json(chosen) if chosen.suffix == ".json" else _read_yaml(chosen)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) if len(text) <= _LARGEST_YAML else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise KnnvcError(f"{path} is no valid YAML: mend or replace it") from error
    if not isinstance(values, dict):
        raise KnnvcError(f"{path} must hold one mapping: mend or replace it")
    return values


def _weights(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    return fold_weight_norm(as_float32(state, path))


def _read_generator(path: Path, state: Mapping[str, Any], values: dict[str, Any]) -> ReadVocoder:
    from knnvc.vocoders.bigvgan import BigVganConfig
    from knnvc.vocoders.hifigan import HifiGanConfig

    weights = _weights(state, path)
    if any(name.startswith("activation_post.") for name in weights):
        config = BigVganConfig.from_dict(values).to_dict()
        spec = PartSpec("vocoder", "bigvgan", config)
        return ReadVocoder(spec, weights, _mel(path, values) if "n_fft" in values else None)
    hifigan = HifiGanConfig.from_dict(values)
    spec = PartSpec("vocoder", "hifigan", hifigan.to_dict())
    mel = _mel(path, values) if hifigan.hifi_dim is None and "num_mels" in values else None
    return ReadVocoder(spec, weights, mel)


def _mel(path: Path, values: Mapping[str, Any], **more: Any) -> PartSpec:
    """The spectra of HiFi-GAN and BigVGAN, which their config.json describes."""
    from knnvc.encoders.mel import MelConfig

    names = ("sampling_rate", "n_fft", "win_size", "hop_size", "num_mels", "fmin", "fmax")
    given = {name: values[name] for name in names if values.get(name) is not None}
    missing = [name for name in names[:5] if name not in given]
    if missing:
        raise KnnvcError(f"the configuration of {path} does not say {missing[0]}: add it")
    return PartSpec("encoder", "log-mel", MelConfig.from_dict({**given, **more}).to_dict())


def _read_lightning(
    path: Path,
    content: Mapping[str, Any],
    state: Mapping[str, Any],
    config: Path | Mapping[str, Any] | None,
) -> ReadVocoder:
    from knnvc.vocoders.hifigan import HifiGanConfig

    own = {
        str(name).removeprefix(_LIGHTNING): tensor
        for name, tensor in state.items()
        if str(name).startswith(_LIGHTNING)
    }
    weights = _weights(own, path)
    settings = plain(content.get("hyper_parameters")) or {}
    settings = settings.get("cfg", settings) if isinstance(settings, Mapping) else {}
    told = _at(settings, "model", "generator")
    if config is not None:
        told = _settings(path, config, "config.json")
    values = dict(told) if isinstance(told, Mapping) and told else _guessed(path, weights)
    rate = _at(settings, "sample_rate") or values.get("sampling_rate") or _RATE
    known = {one.name for one in fields_of(HifiGanConfig)} | {"num_input_channels", "num_mels"}
    values = {name: one for name, one in values.items() if name in known}
    made = HifiGanConfig.from_dict(values | {"sampling_rate": rate})
    spec = PartSpec("vocoder", "hifigan", made.to_dict())
    features = str(_at(settings, "data", "target_feature", "key") or "").removesuffix(".pth")
    stft, bands = (
        _at(settings, "preprocess", "stft") or {},
        _at(settings, "preprocess", "mel") or {},
    )
    mel = None
    if features == "mel" or (not features and made.hubert_dim == bands.get("n_mels", 80)):
        mel = _lightning_mel(path, made, stft, bands)
    return ReadVocoder(spec, weights, mel, features)


def _lightning_mel(
    path: Path, made: Any, stft: Mapping[str, Any], bands: Mapping[str, Any]
) -> PartSpec:
    """The spectra of ssl-vocoders: torchaudio's, centred, with Slaney's bands."""
    values = {
        "sampling_rate": made.sampling_rate,
        "n_fft": stft.get("n_fft", 1024),
        "win_size": stft.get("win_length", 1024),
        "hop_size": stft.get("hop_length", made.hop),
        "num_mels": made.hubert_dim,
        "fmin": bands.get("f_min", 0),
        "fmax": bands.get("f_max", 8000),
    }
    return _mel(path, values, center=True, under_root=0.0)


def _at(values: Any, *names: str) -> Any:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _guessed(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of a generator whose checkpoint says nothing of them, from its shapes.

    An upsampling kernel is twice its rate, or one more. Dilations leave no trace in shapes: they
    are HiFi-GAN's 1, 3, 5 for the three convolutions of a block, which is all that is published.
    """
    ups = [weights[f"ups.{n}.weight"] for n in range(99) if f"ups.{n}.weight" in weights]
    plain_blocks = any(".convs." in name for name in weights)
    first = "convs" if plain_blocks else "convs1"
    blocks = [
        weights[f"resblocks.{n}.{first}.0.weight"].shape[2]
        for n in range(999)
        if f"resblocks.{n}.{first}.0.weight" in weights
    ]
    if not ups or not blocks or "conv_pre.weight" not in weights:
        raise KnnvcError(f"{path} holds no generator of HiFi-GAN: give another checkpoint")
    kernels = [one.shape[2] for one in ups]
    count = len(blocks) // len(ups)
    found = (re.fullmatch(rf"resblocks\.0\.{first}\.(\d+)\.weight", name) for name in weights)
    dilations = [2 * number + 1 for number in range(sum(match is not None for match in found))]
    return {
        "num_input_channels": weights["conv_pre.weight"].shape[1],
        "upsample_initial_channel": weights["conv_pre.weight"].shape[0],
        "upsample_kernel_sizes": kernels,
        "upsample_rates": [kernel // 2 for kernel in kernels],
        "resblock": "2" if plain_blocks else "1",
        "resblock_kernel_sizes": blocks[:count],
        "resblock_dilation_sizes": [dilations] * count,
    }


def _read_vocos(path: Path, state: Mapping[str, Any], values: dict[str, Any]) -> ReadVocoder:
    from knnvc.encoders.mel import MelConfig
    from knnvc.vocoders.vocos import VocosConfig

    values = _at(values, "model", "init_args") or values  # of its training script
    parts = {}
    for name, kind in (
        ("feature_extractor", "MelSpectrogramFeatures"),
        ("backbone", "VocosBackbone"),
        ("head", "ISTFTHead"),
    ):
        found = str(_at(values, name, "class_path") or "nothing").rsplit(".", 1)[-1]
        if found != kind:
            raise KnnvcError(f"the {name} of {path} is {found[:40]}: only {kind} can be used")
        parts[name] = dict(_at(values, name, "init_args") or {})
    mel, backbone, head = parts.values()
    for ignored in ("layer_scale_init_value", "adanorm_num_embeddings"):
        if backbone.pop(ignored, None) is not None and ignored.startswith("ada"):
            raise KnnvcError(f"{path} wants a bandwidth of EnCodec: give a Vocos on mel spectra")
    head.pop("dim", None)
    rate = mel.get("sample_rate", 24_000)
    padding = mel.pop("padding", "center")
    config = VocosConfig.from_dict({"padding": "same", **backbone, **head, "sample_rate": rate})
    spectra = MelConfig(
        sampling_rate=rate,
        n_fft=mel.get("n_fft", 1024),
        win_size=mel.get("n_fft", 1024),
        hop_size=mel.get("hop_length", 256),
        num_mels=mel.get("n_mels", 100),
        center=padding == "center",
        scale="htk",
        norm=False,
        under_root=0.0,
        floor=1e-7,
    )
    used = {
        name: tensor
        for name, tensor in state.items()
        if not str(name).startswith("feature_extractor.")
    }
    weights = _weights(used, path)
    return ReadVocoder(
        PartSpec("vocoder", "vocos", config.to_dict()),
        weights,
        PartSpec("encoder", "log-mel", spectra.to_dict()),
    )
