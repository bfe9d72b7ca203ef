"""Weights and settings on disk: safetensors, PyTorch checkpoints and JSON, read and written.

Nothing here runs code from a file: pickles are read with `weights_only=True`, everything this
package writes is safetensors. torch is imported inside the functions, so that importing this is
quick.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path
from knnvc.processes import computing

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)

SCALE = ":scale"  # ends the names of the scales of packed tensors
LEAST_PACKED = 4096  # values; smaller tensors gain nothing
LARGEST_LIST = 2_000_000  # bytes that describe a checkpoint's tensors; WavLM-Large's take 0.1 MB
MOST_TENSORS = 50_000
LARGEST_JSON = 20_000_000  # bytes of settings


def read_pickle(path: Path, known: Sequence[tuple[Any, str]] = ()) -> dict[str, Any]:
    """Read a PyTorch checkpoint that holds a dict of tensors and plain values, on the CPU.

    Args:
        path: of the checkpoint.
        known: what may stand in it besides, as pairs of the class to make and the name that the
            file has for it, such as (argparse.Namespace, "argparse.Namespace").

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is damaged, not a dict, or carries code, which is never run.
    """
    import torch

    path = Path(path)
    _check_file(path)
    try:
        _check_archive(path)
        with warnings.catch_warnings(), _without_collecting():
            warnings.simplefilter("ignore")  # about pickle protocols; what counts is the outcome
            with torch.serialization.safe_globals(list(known)):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except KnnvcError:
        raise
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


def _check_archive(path: Path) -> None:
    """Raise KnnvcError if a checkpoint would unpack to more than it takes on the disk."""
    with path.open("rb") as file:
        if not file.read(4).startswith(b"PK"):
            return  # of the format before torch 1.6, which is not packed
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise _damaged(path, "a PyTorch checkpoint") from error
    size = path.stat().st_size
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise KnnvcError(
            f"{path} would grow when it is opened and was not: get a checkpoint that torch wrote"
        )
    lists = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if any(entry.file_size > LARGEST_LIST for entry in lists) or len(entries) > MOST_TENSORS:
        raise KnnvcError(
            f"{path} holds too much besides tensors and was not opened: "
            "get a checkpoint that holds the weights of one network"
        )


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """For building many objects that stay: looking for garbage again and again takes half of it."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors, on the CPU, and its metadata.

    What `pack` made smaller is as it was, but for the rounding.

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is damaged or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    computing()
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


def checksum(tensors: Mapping[str, Tensor], about: str = "") -> str:
    """The sha256 of tensors on the CPU, names, types and shapes included, and of a text: 64 digits.

    It takes about as long as reading the bytes from a disk.
    """
    import torch

    digest = hashlib.sha256(json.dumps(about).encode())
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().contiguous()
        digest.update(json.dumps([name, str(plain.dtype), list(plain.shape)]).encode())
        if plain.numel():
            # As bytes: numpy has not all of torch's types.
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
        # One for each row, so that no product is larger than its factors.
        rows = tensors[whole].shape[:1] + (1,) * (tensors[whole].ndim - 1)
        if scale.shape != rows:
            raise ValueError(f"{name} does not fit")
        tensors[whole] = tensors[whole].float() * scale
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        UsageError: There is no such file.
        KnnvcError: It is not JSON, or holds something else than an object.
    """
    path = Path(path)
    _check_file(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise KnnvcError(f"{path} is too long for settings: mend or replace it")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise KnnvcError(f"{path} is not valid JSON ({error}): mend or replace it") from error
    except OSError as error:
        raise KnnvcError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(values, dict):
        raise KnnvcError(f"{path} must hold one JSON object: mend or replace it")
    return values


def as_float32(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict that was read from `path`, in single precision.

    Raises:
        KnnvcError: It holds something else than tensors of finite numbers.
    """
    import torch

    found: dict[str, Tensor] = {}
    room = 2 * path.stat().st_size  # weights may be tied, but the same ones not a thousand times
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise KnnvcError(f"{path} holds something else than tensors ({name!r}): get it again")
        problem = _unusual(tensor)
        if problem is None:
            room -= tensor.numel() * tensor.element_size()
            problem = "larger than its content" if room < 0 else None
        if problem is None:
            found[name] = tensor.detach().float()
            problem = None if bool(torch.isfinite(found[name]).all()) else "not finite"
        if problem is not None:
            raise KnnvcError(f"{path} holds a tensor that is {problem} ({name}): get it again")
    return found


def _unusual(tensor: Tensor) -> str | None:
    """What is wrong with a tensor that is no plain array of real numbers."""
    import torch

    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_meta or tensor.device.type != "cpu":
        return "without content"
    if tensor.is_quantized or tensor.is_complex():
        return "of an unusual type"
    # One number that pretends to be a billion would take the memory of a billion.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "larger than its content"
    return None


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


def as_single(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in single precision, in which computing is done; they may be stored in half."""
    for name, tensor in state.items():
        if tensor.is_complex():
            raise KnnvcError(f"the weights {name[:40]} are complex numbers: get the preset again")
    return {name: tensor.float() for name, tensor in state.items()}


def fit_state(network: Network, state: Mapping[str, Tensor], what: str) -> Network:
    """`network` in evaluation mode with the weights `state`.

    Raises:
        KnnvcError: they are another network's; `what` says which part it is.
    """
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise KnnvcError(
            f"the weights of the {what} do not fit its configuration: use the files that were "
            f"published together ({detail})"
        ) from error
    return network.eval()


def fingerprint(network: nn.Module) -> str:
    """The sha256 of a network's weights and, of an SSL encoder, its layers."""
    digest = hashlib.sha256()
    digest.update(repr(getattr(network, "wanted", "")).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


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


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the file in it")
    if not path.exists():
        raise UsageError(f"there is no file {path}: check the path")


def _damaged(path: Path, what: str) -> KnnvcError:
    return KnnvcError(f"{path} is damaged or not {what}: fetch or build it again")
