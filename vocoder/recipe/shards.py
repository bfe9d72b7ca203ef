"""Weights in files of limited size, with their checksums, and back in one."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, sha256_file
from knnvc.tensors import read_tensors, write_tensors

LARGEST = 16_000_000  # bytes of a file
ROOM = 100_000  # of these, for names and shapes
SUMS = "SHA256SUMS"


def split_weights(weights: Path, folder: Path, largest: int = LARGEST) -> list[Path]:
    """Write `weights` to `folder` in half precision, in files `NAME-1-of-3.safetensors`.

    One file is enough where it is small enough; it keeps its name. `folder/SHA256SUMS` lists the
    files, as `sha256sum --check` reads it.

    Raises:
        KnnvcError: one tensor alone is larger than a file may be.
    """
    state, metadata = read_tensors(weights)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        half = tensor.half().contiguous()
        wanted = half.numel() * half.element_size()
        if wanted > largest - ROOM:
            raise KnnvcError(f"{name} in {weights} alone takes more than {largest / 1e6:g} MB")
        if size + wanted > largest - ROOM:
            shards.append({})
            size = 0
        shards[-1][name] = half
        size += wanted
    folder.mkdir(parents=True, exist_ok=True)
    count = len(shards)
    names = [f"{weights.stem}-{n}-of-{count}.safetensors" for n in range(1, count + 1)]
    if count == 1:
        names = [f"{weights.stem}.safetensors"]
    written = [folder / name for name in names]
    for path, shard in zip(written, shards, strict=True):
        write_tensors(path, shard, metadata)
    lines = [f"{sha256_file(path)}  {path.name}\n" for path in written]
    with atomic_path(folder / SUMS) as temporary:
        temporary.write_text("".join(lines))
    return written


def join_weights(folder: Path, out: Path) -> Path:
    """Write what `split_weights` left in `folder` to the one file `out`; returns it.

    Raises:
        UsageError: there is nothing of the kind.
        KnnvcError: a file is missing or damaged.
    """
    if not (folder / SUMS).is_file():
        raise UsageError(f"{folder} holds no {SUMS}: name the folder that `split` wrote")
    state: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64}) [ *]([\w.-]+)", line)
        if found is None:
            raise KnnvcError(f"{folder / SUMS} is damaged: copy it again")
        digest, name = found.groups()
        if not (folder / name).is_file():
            raise KnnvcError(f"{folder / name} is missing: copy all files that {SUMS} names")
        if sha256_file(folder / name) != digest:
            raise KnnvcError(f"{folder / name} is damaged: copy it again")
        shard, metadata = read_tensors(folder / name)
        state |= shard
    write_tensors(out, state, metadata)
    return out
