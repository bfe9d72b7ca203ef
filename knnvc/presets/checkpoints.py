"""Published encoder files, told apart by their content: settings and weights of a registered part.

| file | encoder |
|---|---|
| fairseq's `{'args', 'model'}` or `{'cfg', 'model'}` with an aggregator | wav2vec |
| the same with transformer layers | HuBERT, wav2vec 2.0 |
| Microsoft's `{'cfg', 'model'}` | WavLM |
| a state dict with `features.` and `fc.`, whatever stands before it | BYOL-A |
| a folder with `config.json` and weights of transformers | WavLM, HuBERT, wav2vec 2.0, data2vec |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.presets.pickled import plain, read_checkpoint
from knnvc.presets.published import (
    fairseq_config,
    parse_conv_layers,
    read_published_wavlm,
    rename_fairseq,
)
from knnvc.registry import PartSpec
from knnvc.tensors import as_float32, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

Read = tuple[PartSpec, "dict[str, Tensor] | None"]
_BYOL = re.compile(r"(?:^|\.)((?:features|fc)\..+)$")
_WAV2VEC_FLAGS = (
    *("skip_connections_feat", "skip_connections_agg", "log_compression"),
    *("agg_zero_pad", "no_conv_bias", "non_affine_group_norm"),
)
_WAV2VEC_UNUSED = ("wav2vec_predictions.", "project_features.", "dropout_", "vector_quantizer.")
_SSL_UNUSED = (
    *("mask_emb", "final_proj.", "label_embs_concat", "quantizer.", "project_q.", "proj."),
    *("layer_norm_for_extract", "target_glu.", "input_quantizer.", "project_inp."),
)


def read_encoder(path: Path, config: Mapping[str, Any] | None = None) -> Read:
    """What a published file or folder holds: the encoder, without layers, and its weights.

    Args:
        path: the file or the folder.
        config: what a user chooses besides, such as the `mean` and `std` of BYOL-A.

    Returns:
        The encoder as a preset would describe it, and its weights; None for a folder, whose
        weights transformers reads.

    Raises:
        UsageError: there is no such file, or `config` has what this encoder does not take.
        KnnvcError: it is damaged, or holds no encoder that is known here.
    """
    chosen = dict(config or {})
    if path.is_dir():
        from knnvc.encoders.ssl import normalizes

        _only(chosen, ("normalize",), "an encoder of transformers")
        normalize = bool(chosen.get("normalize", normalizes(path)))
        values = {"name": str(path), "normalize": normalize}
        return PartSpec("encoder", "huggingface", values), None
    content = _content(path)
    model = content.get("model")
    if isinstance(model, Mapping):
        return _read_fairseq(path, content, model, chosen)
    byol = _byol(path, content)
    if byol:
        from knnvc.encoders.byol import ByolConfig

        made = ByolConfig.from_state(byol, **chosen).to_dict()
        return PartSpec("encoder", "byol-a", made), byol
    raise KnnvcError(
        f"{path} holds no encoder that is known here: give a published checkpoint of wav2vec, "
        "HuBERT, wav2vec 2.0, WavLM or BYOL-A, or a folder with a model of transformers"
    )


def is_wavlm(path: Path) -> bool:
    """Whether a file is Microsoft's WavLM, or at least no other encoder that is known here.

    Raises:
        KnnvcError: it is damaged.
    """
    if path.suffix == ".safetensors":
        return False
    content = read_checkpoint(path)
    model, settings = content.get("model"), plain(content.get("cfg")) or {}
    if isinstance(model, Mapping):
        own = settings.get("model", settings) if isinstance(settings, Mapping) else {}
        other = any(str(name).startswith(("feature_aggregator.", "encoder.")) for name in model)
        return not other or (isinstance(own, Mapping) and "relative_position_embedding" in own)
    return not _byol(path, content)


def _content(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return dict(read_tensors(path)[0])
    return read_checkpoint(path)


def _byol(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of BYOL-A in a state dict, under the names of the network alone."""
    state = content.get("state_dict", content.get("model_state_dict", content))
    if not isinstance(state, Mapping):
        return {}
    found = {name: _BYOL.search(str(name)) for name in state}
    named = {match[1]: state[name] for name, match in found.items() if match}
    if not {"features.0.weight", "fc.0.weight", "fc.3.weight"} <= named.keys():
        return {}
    counts = {name: one for name, one in named.items() if not name.endswith("batches_tracked")}
    return as_float32(counts, path)


def _read_fairseq(
    path: Path, content: Mapping[str, Any], model: Mapping[str, Any], chosen: dict[str, Any]
) -> Read:
    settings = plain(content.get("cfg")) or plain(content.get("args"))
    if not isinstance(settings, Mapping):
        raise KnnvcError(f"{path} says nothing of its network (no 'args' or 'cfg'): get it again")
    task = settings.get("task")
    own = settings.get("model", settings)
    own = own if isinstance(own, Mapping) else settings
    if any(str(name).startswith("feature_aggregator.") for name in model):
        _only(chosen, (), "wav2vec")
        values = _wav2vec_config(path, own)
        state = {n: t for n, t in model.items() if not str(n).startswith(_WAV2VEC_UNUSED)}
        return PartSpec("encoder", "wav2vec", values), as_float32(state, path)
    if "relative_position_embedding" in own:
        _only(chosen, ("normalize",), "WavLM")
        config, weights = read_published_wavlm(path)
        return PartSpec("encoder", "wavlm", config | chosen), weights
    if not any(str(name).startswith("encoder.layers.") for name in model):
        raise KnnvcError(f"{path} is fairseq's, but no speech encoder that is known here")
    _only(chosen, ("normalize",), "HuBERT and wav2vec 2.0")
    hubert = any(str(name).startswith(("label_embs_concat", "final_proj")) for name in model)
    kind = "hubert" if hubert and "quantizer.vars" not in model else "wav2vec2"
    state = {n: t for n, t in model.items() if not str(n).startswith(_SSL_UNUSED)}
    try:
        config = fairseq_config(own)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, kind, error) from error
    told = task if isinstance(task, Mapping) else own
    config["normalize"] = bool(chosen.get("normalize", told.get("normalize", False)))
    return PartSpec("encoder", kind, config), rename_fairseq(state, path, kind)


def _wav2vec_config(path: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    try:
        for name, wanted in (("vq_type", ("none", None)), ("aggregator", ("cnn",))):
            if own.get(name, wanted[0]) not in wanted:
                raise ValueError(f"{name} {own[name]!r}")
        layers = ("conv_feature_layers", "conv_aggregator_layers")
        values: dict[str, Any] = {name: parse_conv_layers(own[name]) for name in layers}
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "wav2vec", error) from error
    # What an older file does not say is off, as fairseq of its time had it.
    values |= {name: bool(own.get(name, False)) for name in _WAV2VEC_FLAGS}
    values["residual_scale"] = float(own.get("residual_scale", 0.5))
    values["activation"] = str(own.get("activation", "relu"))
    return values


def _damaged(path: Path, kind: str, error: Exception) -> KnnvcError:
    detail = f"no {error}" if isinstance(error, KeyError) else str(error)
    return KnnvcError(
        f"{path} has settings of {kind} that cannot be used ({detail}): give a published checkpoint"
    )


def _only(chosen: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    if unknown := sorted(set(chosen) - set(known)):
        takes = f"takes {', '.join(known)}" if known else "takes no settings"
        raise UsageError(f"{what} does not know {unknown[0]}: it {takes}")
