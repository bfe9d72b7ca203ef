"""Tensors, safetensors files and PyTorch checkpoints with something wrong in them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from random import Random
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fuzz.raw import broken
from fuzz.values import as_json, mutated
from knnvc.tensors import checksum

_VALUES = (0.0, -1.0, 1e-45, 1e-7, 6e4, 1e20, 3e38, -3e38, float("nan"), float("inf"))
_TYPES = (
    torch.float16, torch.bfloat16, torch.float64, torch.float32, torch.int64, torch.int8,
    torch.int32, torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip


def tensor(rng: Random, value: Any) -> Any:
    """A tensor like `value` that is not as it should be; any leaf but a tensor is not for us."""
    if not isinstance(value, Tensor):
        return NotImplemented
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return value  # changed before
    value = value if value.ndim else value[None]
    how = rng.randrange(13)
    if how < 2:
        kind = rng.choice(_TYPES)
        return (
            value.nan_to_num(0).clamp(-100, 100).to(kind)
            if value.is_floating_point()
            else (value.to(kind))
        )
    if how == 2:
        return rng.choice((value.flatten(), value[None], value[..., None], value.new_zeros(())))
    if how == 3:
        return rng.choice((value[:0], value[:1], value[1:], value[..., :0], value[..., :1]))
    if how == 4:
        return rng.choice((value.T.contiguous() if value.ndim == 2 else value, value[..., :-1]))
    if how == 5:
        return torch.cat([value, value]) if value.ndim else value
    if how == 6 and value.numel() < 100_000:
        return torch.cat([value, value], -1) if value.ndim else value
    changed = value.contiguous().clone(memory_format=torch.contiguous_format)
    if not changed.numel():
        return changed
    number = rng.choice(_VALUES)
    if not changed.is_floating_point():
        number = rng.choice((0, 1, -1, 100, 2**31, 2**62))
    number = torch.tensor(number).to(changed.dtype)  # what does not fit becomes infinite
    if how < 9:
        changed.view(-1)[rng.randrange(changed.numel())] = number
    elif how == 9:
        changed.fill_(number)
    elif how == 10 and changed.ndim > 1:
        changed[rng.randrange(len(changed))] = number
    elif how == 11 and changed.ndim > 1:
        changed[..., rng.randrange(changed.shape[-1])] = number
    else:
        changed = changed * rng.choice((0, -1, 2, 100))
    return changed


def odd_tensor(rng: Random, value: Any) -> Any:
    """As `tensor`, with what only a pickle can hold."""
    if not isinstance(value, Tensor) or rng.random() < 0.6:
        return tensor(rng, value)
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return value
    whole = value.float() if value.is_floating_point() else value
    how = rng.randrange(9)
    if how == 0:
        return whole.to_sparse() if whole.numel() < 1e6 else whole
    if how == 1:
        return torch.empty(whole.shape, device="meta")
    if how == 2:
        return torch.zeros(1).expand(rng.choice((2**20, 2**31, 2**40)))
    if how == 3:
        return torch.zeros(1).expand(whole.shape)
    if how == 4:
        return torch.quantize_per_tensor(whole.float(), 0.1, 0, torch.qint8)
    if how == 5:
        return torch.nn.Parameter(whole) if whole.is_floating_point() else whole
    if how == 6:
        return whole.flatten().tolist()[:1000]
    if how == 7 and whole.ndim == 2:
        return whole.to_sparse_csr()
    return torch.as_strided(whole.contiguous(), whole.shape, (0,) * whole.ndim)


def checkpoint(rng: Random, content: dict[str, Any], data: bytes) -> bytes:
    """A PyTorch checkpoint from a good one.

    Args:
        rng: what is changed.
        content: of the good one.
        data: the good one's bytes.
    """
    chance = rng.random()
    if chance < 0.15:
        return broken(rng, data)
    if chance < 0.22:
        return _archive(rng, data)
    if chance < 0.26:
        return _pickle(rng, content)
    made = dict(content)
    for name in content:  # of 200 tensors and 30 settings, both get their share
        if rng.random() < 0.6 and isinstance(content[name], dict):
            made[name] = mutated(rng, content[name], odd_tensor)
    made = _without_marks(made if rng.random() < 0.9 else mutated(rng, content, odd_tensor, 1))
    file = io.BytesIO()
    try:
        torch.save(made, file, _use_new_zipfile_serialization=rng.random() < 0.8)
    except Exception:
        return broken(rng, data)
    return broken(rng, file.getvalue(), 1) if rng.random() < 0.1 else file.getvalue()


def _without_marks(value: Any) -> Any:
    """Texts that only JSON writes as they are, shortened."""
    if isinstance(value, dict):
        return {key: _without_marks(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_marks(one) for one in value]
    return value[:50] if isinstance(value, str) and value.startswith("@@raw:") else value


class _Code:
    def __reduce__(self) -> Any:
        return print, ("the code of a checkpoint ran",)


def _pickle(rng: Random, content: dict[str, Any]) -> bytes:
    other: Any = rng.choice(
        (_Code(), {"generator": _Code()}, {**content, "x": _Code()}, [1], 3, {}, {"cfg": 1}, None)
    )
    if rng.random() < 0.3:
        return pickle.dumps({} if isinstance(other, dict) else other, rng.choice((0, 2, 5)))
    file = io.BytesIO()
    torch.save(other, file)
    return file.getvalue()


def _archive(rng: Random, data: bytes) -> bytes:
    """The same archive with entries packed, lost, doubled, renamed or cut."""
    file = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", packing) as new:
        entries = old.namelist()
        chosen = rng.choice(entries)
        for name in entries:
            content, target = old.read(name), name
            if name == chosen or name.endswith(rng.choice(("data.pkl", "byteorder", "version"))):
                how = rng.randrange(4)
                content = broken(rng, content, 1) if how < 2 else content
                target = rng.choice((name + "x", "../" + name, "data.pkl")) if how == 2 else name
                if how == 3 and rng.random() < 0.5:
                    continue
            new.writestr(target, content)
    return file.getvalue()


def tensors(rng: Random, content: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file whose tensors, or header, are wrong."""
    if rng.random() < 0.3:
        return _header(rng, save(content, metadata or None))
    return _saved(mutated(rng, content, tensor), metadata)


def _saved(content: Any, metadata: dict[str, str]) -> bytes:
    given = content if isinstance(content, dict) else {}
    plain = {
        str(name).encode("utf-8", "replace").decode(): one.contiguous().clone()
        for name, one in given.items()
        if isinstance(one, Tensor)
    }
    return save(plain, metadata or None)


def _header(rng: Random, data: bytes) -> bytes:
    """Another header before the same bytes, or other bytes."""
    (size,) = struct.unpack("<Q", data[:8])
    if rng.random() < 0.4:
        return broken(rng, data)
    header = mutated(rng, json.loads(data[8 : 8 + size]))
    text = as_json(rng, header).encode("utf-8", "replace")
    length = len(text) if rng.random() < 0.8 else rng.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", length) + text + data[8 + size :]


def matching_set(
    rng: Random, content: dict[str, Tensor], entry: dict[str, Any], keys: tuple[str, str]
) -> bytes:
    """A saved matching set: mostly sealed anew after the change, so that more than the seal counts.

    Args:
        rng: what is changed.
        content: the tensors of a good one.
        entry: its metadata.
        keys: names of the metadata and of the checksum.
    """
    chance = rng.random()
    changed = mutated(rng, content, tensor) if chance < 0.65 else content
    changed = changed if isinstance(changed, dict) else content
    plain = {
        str(name).encode("utf-8", "replace").decode(): one.contiguous().clone()
        for name, one in changed.items()
        if isinstance(one, Tensor)
    }
    about = mutated(rng, entry) if chance > 0.5 else entry
    text = as_json(rng, about).encode("utf-8", "replace").decode()
    seal = checksum(plain, text) if rng.random() < 0.95 else "0" * 64
    data = save(plain, {keys[0]: text, keys[1]: seal})
    return _header(rng, data) if rng.random() < 0.1 else data
