"""Weights and settings on disk: safetensors, PyTorch checkpoints and JSON, read and written.

Nothing here runs code from a file: pickles are read with `weights_only=True`, everything this
package writes is safetensors. torch is imported inside the functions, so that importing this is
quick.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path
from knnvc.processes import computing

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ":scale"  # ends the names of the scales of packed tensors
LEAST_PACKED = 4096  # values; smaller tensors gain nothing


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


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the file in it")
    if not path.exists():
        raise UsageError(f"there is no file {path}: check the path")


def _damaged(path: Path, what: str) -> KnnvcError:
    return KnnvcError(f"{path} is damaged or not {what}: fetch or build it again")
