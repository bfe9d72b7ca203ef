"""Weights on disk: the registry of published files, their download, and reading their formats.

Nothing here runs code from a file: pickles are read with `weights_only=True`, everything this
package writes is safetensors. torch is imported inside the functions so that the registry can be
listed quickly.
"""

from __future__ import annotations

import ast
import http.client
import json
import os
import pickle
import re
import shutil
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, os_reason, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int | None], None]  # (bytes there, bytes in all or None)

SCALE = ":scale"  # ends the names of the scales of packed tensors
LEAST_PACKED = 4096  # values; smaller tensors gain nothing

_BLOCK_BYTES = 1 << 18
_RELEASE = "https://github.com/bshall/knn-vc/releases/download/v0.1/"
_KNN_TTS = "https://huggingface.co/idiap/kNN-TTS/resolve/main/"


@dataclass(frozen=True)
class RemoteFile:
    """A published file: where it is, what it must be, and on which terms.

    `size` is in bytes; `size` and `sha256` are None where nobody has published them.
    """

    name: str
    url: str
    size: int | None
    sha256: str | None
    licence: str
    note: str = ""


REGISTRY: dict[str, RemoteFile] = {
    remote.name: remote
    for remote in (
        RemoteFile(
            name="WavLM-Large.pt",
            url=_RELEASE + "WavLM-Large.pt",
            size=1_261_965_425,
            sha256="6fb4b3c3e6aa567f0a997b30855859cb81528ee8078802af439f7b2da0bf100f",
            licence="MIT",
            note="WavLM-Large of Microsoft's unilm, as mirrored by the kNN-VC release v0.1.",
        ),
        RemoteFile(
            name="prematch_g_02500000.pt",
            url=_RELEASE + "prematch_g_02500000.pt",
            size=None,
            sha256="f924c7632c6eaf99004386d62293e124419e33582573552a6ae976eb88ed2dd5",
            licence="MIT",
            note="HiFi-GAN of the kNN-VC release v0.1, trained on prematched features. "
            "Its sha256 comes from one third-party source only; its size is not published.",
        ),
        RemoteFile(
            name="best_model_646135.pth",
            url=_KNN_TTS + "best_model_646135.pth",
            size=None,
            sha256=None,
            licence="MIT",
            note="Glow-TTS of kNN-TTS, trained on LJSpeech (public domain). Neither size nor "
            "sha256 is published; it is opened as tensors only and checked against its config.",
        ),
        RemoteFile(
            name="knn-tts-config.json",
            url=_KNN_TTS + "config.json",
            size=None,
            sha256=None,
            licence="MIT",
            note="config.json of kNN-TTS, under another name because it shares a folder here.",
        ),
    )
}


def cache_dir() -> Path:
    """Return the folder for downloads and pulled presets: $KNNVC_CACHE or the platform's cache."""
    chosen = os.environ.get("KNNVC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "knnvc"


# Download ---------------------------------------------------------------------------------------


def download(
    remote: RemoteFile,
    folder: Path,
    *,
    progress: Progress | None = None,
    url: str | None = None,
    timeout: float = 30.0,
) -> Path:
    """Fetch a published file into `folder` unless it is there already, and return its path.

    The file grows as NAME.part and takes its name only once size and sha256 are right. After a cut
    connection or a full disk the part stays, and the next call goes on from where it ended.

    Args:
        remote: What to fetch.
        folder: Where to; created if missing.
        progress: Called with (bytes there, bytes in all or None) after each block.
        url: Another address of the same file, for instance a mirror.
        timeout: Seconds without any answer after which the server counts as unreachable.

    Raises:
        KnnvcError: No network, a cut connection, a full disk, or another file than the published
            one. The message says what to do, and which file to put where by hand.
    """
    folder = Path(folder)
    target = folder / remote.name
    part = folder / f"{remote.name}.part"
    if target.exists():
        problem = _difference(target, remote)
        if problem:
            raise KnnvcError(
                f"{target} is not the published file ({problem}): delete it and run this again"
            )
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(remote, url or remote.url, part, target, progress, timeout)
        problem = _difference(part, remote)
        if problem:
            part.unlink()
            raise KnnvcError(
                f"what arrived is not the published {remote.name} ({problem}) and was removed: "
                f"run this again, {_by_hand(remote, target)}"
            )
        os.replace(part, target)
    except OSError as error:
        raise KnnvcError(
            f"cannot write {part}: {os_reason(error)}; "
            "the part that has arrived is kept, and running this again goes on from there"
        ) from error
    return target


def _fetch(
    remote: RemoteFile,
    url: str,
    part: Path,
    target: Path,
    progress: Progress | None,
    timeout: float,
) -> None:
    """Bring `part` to its full length. OSErrors that leave here are about the disk."""
    done = part.stat().st_size if part.exists() else 0
    if remote.size is not None and done == remote.size:
        return
    if remote.size is not None and done > remote.size:
        part.unlink()
        done = 0
    response, done = _open(remote, url, done, target, timeout)
    with response:
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        if remote.size is not None and total is not None and total != remote.size:
            # A login page of the network, for instance: not worth fetching to the end.
            raise KnnvcError(
                f"{url} offers {total} bytes and not the {remote.size} of the published "
                f"{remote.name}: check the network, {_by_hand(remote, target)}"
            )
        total = total if total is not None else remote.size
        needed = (total or 0) - done
        free = shutil.disk_usage(part.parent).free
        if needed > free:
            raise KnnvcError(
                f"the disk is too full for {remote.name}: free {_megabytes(needed - free)} more "
                f"for {part.parent}, or set KNNVC_CACHE to a folder on another disk"
            )
        # "ab" keeps what is there; a server that ignores the range starts over.
        with part.open("ab" if done else "wb") as file:
            while True:
                try:
                    block = response.read(_BLOCK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _cut(remote, target, done, total) from error
                if not block:
                    break
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    # http.client reports a connection that ends early as an ordinary end of file.
    if total is not None and done < total:
        raise _cut(remote, target, done, total)


def _open(
    remote: RemoteFile, url: str, done: int, target: Path, timeout: float
) -> tuple[http.client.HTTPResponse, int]:
    """Ask for the bytes from `done` on; return the answer and where it really begins."""
    headers = {"User-Agent": "knnvc"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if done and error.code == 416:  # the part is longer than the file: begin again
            return _open(remote, url, 0, target, timeout)
        reason = f"the server answered {error.code} {error.reason}"
        raise _unreachable(remote, url, target, reason) from error
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", None) or str(error) or "no answer")
        raise _unreachable(remote, url, target, reason) from error
    asked = f"bytes {done}-"
    if response.status == 206 and response.headers.get("Content-Range", "").startswith(asked):
        return response, done
    if response.status == 206:  # some other range than the one asked for
        response.close()
        return _open(remote, url, 0, target, timeout)
    return response, 0


def _difference(path: Path, remote: RemoteFile) -> str | None:
    """Say how a file differs from the published one, or None if it does not."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes instead of {remote.size}"
    if remote.sha256 is not None:
        digest = sha256_file(path)
        if digest != remote.sha256:
            return f"sha256 {digest[:12]}... instead of {remote.sha256[:12]}..."
    return None


def _unreachable(remote: RemoteFile, url: str, target: Path, reason: str) -> KnnvcError:
    return KnnvcError(
        f"cannot download {url} ({reason}): check the network and run this again, "
        f"{_by_hand(remote, target)}"
    )


def _cut(remote: RemoteFile, target: Path, done: int, total: int | None) -> KnnvcError:
    of = f" of {total}" if total is not None else ""
    return KnnvcError(
        f"the connection was cut after {done}{of} bytes of {remote.name}: "
        f"run this again to go on from there, {_by_hand(remote, target)}"
    )


def _by_hand(remote: RemoteFile, target: Path) -> str:
    return f"or fetch {remote.url} on another machine and put it there as {target}"


def _megabytes(count: int) -> str:
    return f"{-(-count // 1_000_000)} MB"


# Reading and writing tensors --------------------------------------------------------------------


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a PyTorch checkpoint that holds a dict of tensors and plain values, on the CPU.

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is damaged, not a dict, or carries code, which is never run.
    """
    import torch

    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what counts is the outcome
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise KnnvcError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # broken pickles fail in every way: KeyError, IndexError, ...
        # torch names what a pickle wants imported or called; any other refusal is mere damage.
        refused = re.search(r"\bGLOBAL\b|call reduce|Can only (build|create)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise KnnvcError(
                f"{path} carries code besides tensors and was not opened: "
                "get a checkpoint that holds tensors and plain values only"
            ) from error
        raise _damaged(path, "a PyTorch checkpoint") from error
    if not isinstance(content, dict):
        raise KnnvcError(f"{path} holds no dict of weights: give a published checkpoint")
    return content


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors, on the CPU, and its metadata.

    What `pack` made smaller is as it was, but for the rounding.

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is damaged or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _unpack(tensors), metadata
    except (SafetensorError, ValueError, OverflowError) as error:
        raise _damaged(path, "a safetensors file") from error
    except OSError as error:
        raise KnnvcError(f"cannot read {path}: {error.strerror or error}") from error


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    force: bool = True,
) -> None:
    """Write tensors and metadata as safetensors, all or nothing.

    Raises:
        UsageError: `path` is a folder, or exists and `force` is False.
        KnnvcError: The operating system refuses (permissions, full disk, ...).
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        where = plain.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory; others are not copied: sets can be large.
        own[name] = plain.clone() if where in memory else plain
        memory.add(where)
    with atomic_path(Path(path), force=force) as temporary:
        temporary.touch()
        usual = temporary.stat().st_mode  # save_file makes files that only their owner can read
        try:
            save_file(own, temporary, metadata=dict(metadata or {}))
            temporary.chmod(usual)
        except SafetensorError as error:
            raise KnnvcError(
                f"cannot write {path}: {error}; check that the disk is not full"
            ) from error


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for storage: matrices in 8 bits with a scale for each row, the rest in 16.

    `read_tensors` gives them back. A row's values move by at most 1/254 of its largest.
    """
    import torch

    packed = {}
    for name, tensor in tensors.items():
        if tensor.ndim > 1 and tensor.numel() >= LEAST_PACKED:
            rows = tensor.detach().float()
            largest = rows.flatten(1).abs().amax(1).clamp(min=1e-12)
            scale = (largest / 127).reshape(-1, *[1] * (rows.ndim - 1))
            packed[name] = (rows / scale).round().to(torch.int8).contiguous()
            packed[name + SCALE] = scale
        else:
            packed[name] = tensor.detach().half().contiguous()
    return packed


def _unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(SCALE)}
    for name, scale in scales.items():
        whole = name.removesuffix(SCALE)
        if whole not in tensors:
            raise ValueError(f"{name} belongs to nothing")
        tensors[whole] = tensors[whole].float() * scale
    return tensors


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the file in it")
    if not path.exists():
        raise UsageError(f"there is no file {path}: check the path")


def _damaged(path: Path, what: str) -> KnnvcError:
    return KnnvcError(f"{path} is damaged or not {what}: fetch or build it again")


# Published formats ------------------------------------------------------------------------------

_WEIGHT_NORM = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each weight-normed pair by the weight it stands for: g * v / |v|.

    Reads the names of torch's old weight_norm (weight_g, weight_v) and of the parametrization that
    followed it. The norm runs over the dimensions in which g has size 1, so `dim` need not be
    known. Source: Salimans and Kingma, https://arxiv.org/abs/1602.07868.

    Raises:
        KnnvcError: One tensor of a pair is missing, or their shapes disagree.
    """
    import torch

    folded: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for g_end, v_end in _WEIGHT_NORM:
            if name.endswith(v_end) and name.removesuffix(v_end) + g_end not in state:
                raise KnnvcError(f"the checkpoint is damaged: {name} has lost its magnitude")
            if not name.endswith(g_end):
                continue
            stem = name.removesuffix(g_end)
            direction = state.get(stem + v_end)
            if direction is None:
                raise KnnvcError(f"the checkpoint is damaged: {name} has lost its direction")
            if tensor.ndim not in (0, direction.ndim):
                raise KnnvcError(f"the checkpoint is damaged: {name} does not fit its direction")
            over = [axis for axis, size in enumerate(tensor.shape) if size == 1]
            norm = torch.linalg.vector_norm(
                direction, dim=over if tensor.ndim else None, keepdim=tensor.ndim > 0
            )
            if tensor.shape != norm.shape:
                raise KnnvcError(f"the checkpoint is damaged: {name} does not fit its direction")
            folded[stem + ".weight"] = direction * (tensor / norm)
        if not name.endswith(tuple(end for pair in _WEIGHT_NORM for end in pair)):
            folded[name] = tensor
    return folded


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is not JSON, or holds something else than an object.
    """
    path = Path(path)
    _check_file(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise KnnvcError(f"{path} is not valid JSON ({error}): mend or replace it") from error
    except OSError as error:
        raise KnnvcError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(values, dict):
        raise KnnvcError(f"{path} must hold one JSON object: mend or replace it")
    return values


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
        config = _wavlm_config(cfg)
    except (KeyError, TypeError, ValueError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise KnnvcError(
            f"{path} has a WavLM configuration that cannot be used ({detail}): "
            "give a published WavLM checkpoint such as WavLM-Large.pt"
        ) from error
    state = {}
    for name, tensor in as_float32(model, path).items():
        if name.startswith(_WAVLM_UNUSED):
            continue
        for pattern, replacement in _WAVLM_NAMES:
            match = pattern.fullmatch(name)
            if match:
                state[match.expand(replacement)] = tensor
                break
        else:
            raise KnnvcError(
                f"{path} holds a tensor that WavLM does not have ({name}): "
                "give a published WavLM checkpoint such as WavLM-Large.pt"
            )
    return config, state


def _wavlm_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Translate fairseq's settings; raises KeyError or ValueError for what cannot be."""
    norms = {"layer_norm": "layer", "default": "group"}
    if cfg["extractor_mode"] not in norms:
        raise ValueError(f"extractor_mode {cfg['extractor_mode']!r}")
    if cfg["activation_fn"] not in ("gelu", "relu"):
        raise ValueError(f"activation_fn {cfg['activation_fn']!r}")
    for needed in ("relative_position_embedding", "gru_rel_pos"):
        if not cfg[needed]:
            raise ValueError(f"{needed} is off")
    layers = parse_conv_layers(cfg["conv_feature_layers"])
    return {
        "hidden_size": int(cfg["encoder_embed_dim"]),
        "num_hidden_layers": int(cfg["encoder_layers"]),
        "num_attention_heads": int(cfg["encoder_attention_heads"]),
        "intermediate_size": int(cfg["encoder_ffn_embed_dim"]),
        "hidden_act": cfg["activation_fn"],
        "feat_extract_norm": norms[cfg["extractor_mode"]],
        "do_stable_layer_norm": bool(cfg["layer_norm_first"]),
        "conv_dim": [dim for dim, _, _ in layers],
        "conv_kernel": [kernel for _, kernel, _ in layers],
        "conv_stride": [stride for _, _, stride in layers],
        "conv_bias": bool(cfg["conv_bias"]),
        "num_conv_pos_embeddings": int(cfg["conv_pos"]),
        "num_conv_pos_embedding_groups": int(cfg["conv_pos_groups"]),
        "num_buckets": int(cfg["num_buckets"]),
        "max_bucket_distance": int(cfg["max_distance"]),
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }


_MOST_CONV_LAYERS = 64  # more than any encoder has; stops "[...] * 10**9" in a hostile file


def parse_conv_layers(expression: str) -> list[tuple[int, int, int]]:
    """Read fairseq's `conv_feature_layers` without running it: [(channels, kernel, stride), ...].

    The string is a Python expression such as "[(512,10,5)] + [(512,3,2)] * 4". Only lists of
    triples of positive integers, `+` and `* number` are understood.

    Raises:
        ValueError: Anything else.
    """
    try:
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
        times = _positive(node.right)
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
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value > 0:
        return node.value
    raise ValueError(f"conv_feature_layers has {ast.unparse(node)[:60]!r}")


def as_float32(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict that was read from `path`, in single precision.

    Raises:
        KnnvcError: It holds something else than tensors.
    """
    import torch

    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise KnnvcError(f"{path} holds something else than tensors ({name!r}): get it again")
    return {name: tensor.detach().float() for name, tensor in state.items()}


def check_shapes(path: Path, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Check that `state`, read from `path`, has exactly the tensors of `expected`.

    Raises:
        KnnvcError: A tensor is missing, has another shape, or does not belong there.
    """
    for name in sorted(set(expected) | set(state)):
        problem = None
        if name not in state:
            problem = f"{name} is missing"
        elif name not in expected:
            problem = f"{name} is not part of it"
        elif state[name].shape != expected[name].shape:
            wanted, found = list(expected[name].shape), list(state[name].shape)
            problem = f"{name} is {found} instead of {wanted}"
        if problem:
            raise KnnvcError(
                f"{path} does not fit its configuration ({problem}): "
                "use the files that were published together"
            )
