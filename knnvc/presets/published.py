"""The published file formats: WavLM and HiFi-GAN checkpoints, read as tensors and settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError
from knnvc.tensors import as_float32, fold_weight_norm, read_json, read_pickle

if TYPE_CHECKING:
    from torch import Tensor


def read_published_hifigan(
    path: Path, config: Path | Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a published generator `{'generator': state}` and its JSON configuration.

    Args:
        path: The checkpoint, for instance prematch_g_02500000.pt.
        config: The config.json beside it, or its content.

    Returns:
        The configuration as published (`HifiGanConfig.from_dict` reads it), and the state dict in
        float32 with weight norm folded in.

    Raises:
        UsageError: A file is missing.
        KnnvcError: A file is damaged or of another kind.
    """
    content = read_pickle(path)
    state = content.get("generator")
    if not isinstance(state, dict) or not state:
        raise KnnvcError(
            f"{path} holds no 'generator': give a published HiFi-GAN generator checkpoint"
        )
    values = dict(config) if isinstance(config, Mapping) else read_json(config)
    return values, fold_weight_norm(as_float32(state, path))


# fairseq's names in WavLM checkpoints, and what transformers.WavLMModel calls the same tensors.
_WAVLM_NAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(feature_extractor\.conv_layers\.\d+)\.0\.(weight|bias)", r"\1.conv.\2"),
        (r"(feature_extractor\.conv_layers\.\d+)\.2(?:\.1)?\.(weight|bias)", r"\1.layer_norm.\2"),
        (r"layer_norm\.(weight|bias)", r"feature_projection.layer_norm.\1"),
        (r"post_extract_proj\.(weight|bias)", r"feature_projection.projection.\1"),
        (r"encoder\.pos_conv\.0\.bias", "encoder.pos_conv_embed.conv.bias"),
        (
            r"encoder\.pos_conv\.0\.weight_g",
            "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        ),
        (
            r"encoder\.pos_conv\.0\.weight_v",
            "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        ),
        (r"(encoder\.layer_norm\.(?:weight|bias))", r"\1"),
        (r"(encoder\.layers\.\d+)\.self_attn\.grep_a", r"\1.attention.gru_rel_pos_const"),
        (
            r"(encoder\.layers\.\d+)\.self_attn\.grep_linear\.(weight|bias)",
            r"\1.attention.gru_rel_pos_linear.\2",
        ),
        (
            r"(encoder\.layers\.0)\.self_attn\.relative_attention_bias\.weight",
            r"\1.attention.rel_attn_embed.weight",
        ),
        (
            r"(encoder\.layers\.\d+)\.self_attn\.((?:k|v|q|out)_proj\.(?:weight|bias))",
            r"\1.attention.\2",
        ),
        (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.(weight|bias)", r"\1.layer_norm.\2"),
        (r"(encoder\.layers\.\d+\.final_layer_norm\.(?:weight|bias))", r"\1"),
        (
            r"(encoder\.layers\.\d+)\.fc1\.(weight|bias)",
            r"\1.feed_forward.intermediate_dense.\2",
        ),
        (r"(encoder\.layers\.\d+)\.fc2\.(weight|bias)", r"\1.feed_forward.output_dense.\2"),
    )
)
# Parts that only pre-training uses.
_WAVLM_UNUSED = ("mask_emb", "final_proj.", "label_embs_concat", "quantizer.", "project_q.")


def read_published_wavlm(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a published WavLM checkpoint `{'cfg', 'model'}`, such as WavLM-Large.pt.

    Returns:
        Keyword arguments for `transformers.WavLMConfig`, and a float32 state dict that
        `transformers.WavLMModel` loads with `strict=True`. The weight norm of the positional
        convolution is kept as the pair which that model expects (parametrizations.weight.original0
        of shape [1, 1, K] and original1). Dropout and masking, which only training uses, are off.

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is damaged, of another kind, or a variant that transformers cannot express.
    """
    content = read_pickle(path)
    cfg, model = content.get("cfg"), content.get("model")
    if not isinstance(cfg, dict) or not isinstance(model, dict):
        raise KnnvcError(
            f"{path} holds no 'cfg' and 'model': give a published WavLM checkpoint such as "
            "WavLM-Large.pt"
        )
    try:
        for needed in ("relative_position_embedding", "gru_rel_pos"):
            if not cfg[needed]:
                raise ValueError(f"{needed} is off")
        config = fairseq_config(cfg) | {
            "num_buckets": _size(cfg, "num_buckets"),
            "max_bucket_distance": _size(cfg, "max_distance"),
        }
    except (KeyError, TypeError, ValueError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise KnnvcError(
            f"{path} has a WavLM configuration that cannot be used ({detail}): "
            "give a published WavLM checkpoint such as WavLM-Large.pt"
        ) from error
    used = {name: one for name, one in model.items() if not str(name).startswith(_WAVLM_UNUSED)}
    return config, rename_fairseq(used, path, "WavLM", " such as WavLM-Large.pt")


def rename_fairseq(
    state: Mapping[Any, Any], path: Path, what: str, such_as: str = ""
) -> dict[str, Tensor]:
    """fairseq's tensors of a transformer encoder in float32, under the names of transformers.

    Raises:
        KnnvcError: one belongs to no such encoder.
    """
    renamed = {}
    for name, tensor in as_float32(state, path).items():
        for pattern, replacement in _WAVLM_NAMES:
            match = pattern.fullmatch(name)
            if match:
                renamed[match.expand(replacement)] = tensor
                break
        else:
            raise KnnvcError(
                f"{path} holds a tensor that {what} does not have ({name}): "
                f"give a published {what} checkpoint{such_as}"
            )
    return renamed


def fairseq_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """fairseq's settings of a transformer encoder as transformers names them.

    Dropout and masking, which only training uses, are off.

    Raises:
        KeyError: a setting is missing.
        ValueError: one says what transformers cannot express.
    """
    norms = {"layer_norm": "layer", "default": "group"}
    if cfg["extractor_mode"] not in norms:
        raise ValueError(f"extractor_mode {cfg['extractor_mode']!r}")
    if cfg["activation_fn"] not in ("gelu", "relu"):
        raise ValueError(f"activation_fn {cfg['activation_fn']!r}")
    layers = parse_conv_layers(cfg["conv_feature_layers"])
    return {
        "hidden_size": _size(cfg, "encoder_embed_dim"),
        "num_hidden_layers": _size(cfg, "encoder_layers", 200),
        "num_attention_heads": _size(cfg, "encoder_attention_heads"),
        "intermediate_size": _size(cfg, "encoder_ffn_embed_dim"),
        "hidden_act": cfg["activation_fn"],
        "feat_extract_norm": norms[cfg["extractor_mode"]],
        "do_stable_layer_norm": bool(cfg["layer_norm_first"]),
        "conv_dim": [dim for dim, _, _ in layers],
        "conv_kernel": [kernel for _, kernel, _ in layers],
        "conv_stride": [stride for _, _, stride in layers],
        "conv_bias": bool(cfg["conv_bias"]),
        "num_conv_pos_embeddings": _size(cfg, "conv_pos"),
        "num_conv_pos_embedding_groups": _size(cfg, "conv_pos_groups"),
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }


LARGEST = 1 << 16  # of any size in a configuration: no file makes the machine swap


def _size(cfg: Mapping[str, Any], name: str, most: int = LARGEST) -> int:
    """A whole number of the settings, from 1 to `most`."""
    value = cfg[name]
    if type(value) is not int or not 0 < value <= most:
        raise ValueError(f"{name} {str(value)[:20]!r}")
    return value


_LONGEST_EXPRESSION = 5000
_MOST_CONV_LAYERS = 64  # more than any encoder has; stops "[...] * 10**9" in a hostile file


def parse_conv_layers(expression: str) -> list[tuple[int, int, int]]:
    """Read fairseq's `conv_feature_layers` without running it: [(channels, kernel, stride), ...].

    The string is a Python expression such as "[(512,10,5)] + [(512,3,2)] * 4". Only lists of
    triples of positive integers, `+` and `* number` are understood.

    Raises:
        ValueError: Anything else.
    """
    try:
        if len(expression) > _LONGEST_EXPRESSION:
            raise ValueError("conv_feature_layers is too long")
        layers = _conv_layers(ast.parse(expression, mode="eval").body)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"conv_feature_layers {str(expression)[:60]!r}") from error
    if not layers:
        raise ValueError("conv_feature_layers is empty")
    return layers


def _conv_layers(node: ast.expr) -> list[tuple[int, int, int]]:
    layers: list[tuple[int, int, int]] | None = None
    if isinstance(node, ast.List):
        layers = [_triple(item) for item in node.elts]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        layers = _conv_layers(node.left) + _conv_layers(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = _positive(node.right)  # at most `LARGEST`, as everything else
        layers = _conv_layers(node.left) * min(times, _MOST_CONV_LAYERS + 1)
    if layers is None or len(layers) > _MOST_CONV_LAYERS:
        raise ValueError(f"conv_feature_layers has {ast.unparse(node)[:60]!r}")
    return layers


def _triple(node: ast.expr) -> tuple[int, int, int]:
    if not isinstance(node, (ast.Tuple, ast.List)) or len(node.elts) != 3:
        raise ValueError(f"conv_feature_layers has {ast.unparse(node)[:60]!r}")
    channels, kernel, stride = (_positive(item) for item in node.elts)
    return channels, kernel, stride


def _positive(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int and 0 < node.value <= LARGEST:
        return node.value
    raise ValueError(f"conv_feature_layers has {ast.unparse(node)[:60]!r}")
