"""Matching sets that were encoded before, on disk, found again by what they were encoded from.

A set is kept under the sha256 of everything that decides its bytes: the content of the recordings,
whether they were trimmed, the encoder, and the arithmetic (see `arithmetic`). Tensors are kept in
float32, so a set that comes from the cache is the one that was encoded, bit for bit.

Safe with any number of processes: entries appear whole or not at all, a lock lets one process
encode while the others wait for its result, and an evicted entry, or one whose checksum does not
fit its bytes, is made again. Sets that were not used for longest go when the folder exceeds its
limit.

torch is imported where tensors are read or written, so that asking what is in the cache is quick.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import cache_dir
from knnvc.kept import SET_SUFFIX, KeptFile, KeptFiles
from knnvc.tensors import checksum, read_tensors, write_tensors

if TYPE_CHECKING:
    import torch

    from knnvc.converters.matching_set import MatchingSet

LIMIT_VARIABLE = "KNNVC_CACHE_LIMIT"
DEFAULT_LIMIT = 2 * 10**9  # bytes

_FORMAT = "6"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

Made = tuple["MatchingSet", list[tuple[int, str]]]
"""A set, and the recordings that could not be used: their number and what is wrong with them."""


class SetCache:
    """A folder of encoded matching sets.

    Args:
        folder: where they lie; by default `matching_sets` in `knnvc.files.cache_dir()`.
        limit: in bytes; by default $KNNVC_CACHE_LIMIT ("500 MB", "8GB"), else 2 GB. The set that
            was stored last stays, whatever its size.

    Raises:
        UsageError: $KNNVC_CACHE_LIMIT is no size.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = cache_dir() / "matching_sets" if folder is None else folder
        self.limit = limit_from_environment() if limit is None else limit
        self.kept = KeptFiles(self.folder, SET_SUFFIX, self.limit)

    def fetch(self, key: str, make: Callable[[], Made]) -> Made:
        """The set of `key`, from the folder if it is there, else made and stored.

        A folder that cannot be written to is no error: the set is then made every time.
        """
        path = self.folder / f"{key}{SET_SUFFIX}"
        found = _read(path)
        if found is not None:
            return found
        with self._lock(key):
            found = _read(path)  # another process may have made it while this one waited
            if found is not None:
                return found
            made = make()
            with contextlib.suppress(KnnvcError):
                _write(path, *made)
                self.kept.evict(path)
            return made

    def sets(self) -> list[KeptFile]:
        """What is there, the longest unused first."""
        return self.kept.files()

    def clear(self) -> int:
        """Remove everything; how many sets that were.

        Raises:
            KnnvcError: the folder refuses.
        """
        return self.kept.clear()

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Held by one process at a time; the system frees it when that process is killed."""
        from filelock import FileLock

        lock = FileLock(self.folder / f"{key}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError):  # not writable, or a file system without locks
            yield
            return
        try:
            yield
        finally:
            lock.release()


def set_key(
    settings: Sequence[str],
    trim: bool,
    files: Sequence[tuple[str, str, bool]],
    device: torch.device,
) -> str:
    """What a set of these recordings is stored under.

    Args:
        settings: fingerprints of the networks, what they are computed with, and all else that
            decides features.
        trim: whether silence is cut off the ends.
        files: name, sha256, and whether it may be skipped, of each recording in order.
        device: where it is encoded.
    """
    recordings = [list(file) for file in files]
    content = [_FORMAT, list(settings), trim, recordings, arithmetic(device)]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "backslashreplace")).hexdigest()


def arithmetic(device: torch.device) -> list[str]:
    """What decides the last bits of a sum: the same recordings give the same bytes only with it.

    Sums are split among threads, so even their number changes the last bit of a feature, and where
    two frames are equally near that changes which of them is chosen.
    """
    import torch

    if device.type == "cpu":
        kind = [torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())]
    else:
        kind = [torch.cuda.get_device_name(device) if device.type == "cuda" else device.type]
    return [torch.__version__, *kind]


def limit_from_environment() -> int:
    """$KNNVC_CACHE_LIMIT in bytes, or the default.

    Raises:
        UsageError: it is no size.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.upper())
    if match is None:
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}: give a size such as 500MB or 8GB")
    return round(float(match[1]) * _UNITS[match[2]])


def _write(path: Path, made: MatchingSet, notes: list[tuple[int, str]]) -> None:
    tensors = {"synth": made.synth, "frame_start": made.frame_start}
    if made.match is not made.synth:
        tensors["match"] = made.match
    # ASCII: names and messages may hold bytes that are no UTF-8.
    entry = {"info": dataclasses.asdict(made.info), "notes": notes}
    info = json.dumps(entry)
    metadata = {"cached_set": info, "sha256": checksum(tensors, info)}
    write_tensors(path, tensors, metadata, force=True)


def _read(path: Path) -> Made | None:
    """An entry, marked as used; None if there is none, or none that is whole."""
    if not path.is_file():
        return None
    from knnvc.converters.matching_set import MatchingSet, SetInfo

    try:
        tensors, metadata = read_tensors(path)
        if metadata["sha256"] != checksum(tensors, metadata["cached_set"]):
            return None
        entry = json.loads(metadata["cached_set"])
        stored = entry["info"].items()
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored}
        synth = tensors["synth"]
        found = MatchingSet(
            match=tensors.get("match", synth),
            synth=synth,
            frame_start=tensors["frame_start"],
            info=SetInfo(**values),
        )
        notes = [(int(number), str(note)) for number, note in entry["notes"]]
    except (KnnvcError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return found, notes
