"""What a file is by its bytes: whether a checkpoint, safetensors or JSON is whole.

It costs a look at both ends; JSON, which is small, and checkpoints from before torch 1.6 are read.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from knnvc.errors import KnnvcError
from knnvc.tensors import read_pickle

_LARGEST_JSON = 50_000_000  # bytes
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
_KINDS = {
    ".pt": "checkpoint",
    ".pth": "checkpoint",
    ".bin": "checkpoint",
    ".ckpt": "checkpoint",
    ".safetensors": "safetensors",
    ".json": "json",
}


def kind_of(name: str) -> str | None:
    """The kind that a name's end says, as `problem_of` takes it; None if it says none."""
    return _KINDS.get(Path(name).suffix.lower())


def is_page(begin: bytes) -> bool:
    """Whether a file that begins like this is a web page."""
    start = begin[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--"))


def problem_of(path: Path, kind: str | None, *, whole: bool = True) -> str | None:
    """Say what is wrong about a file of a kind, or None if nothing is.

    Args:
        path: The file.
        kind: "checkpoint" (of PyTorch), "safetensors" or "json"; None is any, which must not be
            empty or a web page.
        whole: Look at its end, too.

    Raises:
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(512)
    if not begin:
        return "it is empty"
    if is_page(begin):
        return "it is a web page"
    if kind == "checkpoint":
        return _checkpoint(path, begin, whole)
    if kind == "safetensors":
        return _safetensors(path, size, whole)
    if kind == "json":
        return _json(path, size)
    return None


def _checkpoint(path: Path, begin: bytes, whole: bool) -> str | None:
    if begin.startswith(b"PK\x03\x04"):
        # The directory of a zip file is its end.
        return "its end is missing" if whole and not zipfile.is_zipfile(path) else None
    if begin[:1] != b"\x80" or begin[1:2] not in b"\x02\x03\x04\x05":
        return "it is no PyTorch checkpoint"
    if whole:  # nothing else tells the end of the format before torch 1.6
        try:
            read_pickle(path)
        except KnnvcError:
            return "its end is missing, or it is damaged"
    return None


def _safetensors(path: Path, size: int, whole: bool) -> str | None:
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
            return "it is no safetensors file, or cut"
        try:
            header = json.loads(file.read(length))
            ends = [
                int(entry["data_offsets"][1])
                for name, entry in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return "it is no safetensors file"
    if whole and 8 + length + max(ends, default=0) != size:
        return "its end is missing"
    return None


def _json(path: Path, size: int) -> str | None:
    if size > _LARGEST_JSON:
        return "it is too long for settings"
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return "it is no JSON, or its end is missing"
    return None
