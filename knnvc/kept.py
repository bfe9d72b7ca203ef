"""Files that are kept because making them again takes time: a folder with a limit.

Those that were not used for longest go when the folder exceeds it. Any number of processes may do
this at once, and any file may go at any time.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from knnvc.errors import KnnvcError
from knnvc.files import cache_dir, os_reason

SET_SUFFIX = ".safetensors"
INDEX_SUFFIX = ".faiss"
INDEX_LIMIT = 8 * 10**9  # bytes
_ABANDONED_SECONDS = 24 * 3600  # after which a hidden file is a killed writer's


@dataclass(frozen=True)
class KeptFile:
    """One entry: its file, bytes, and when it was last used (seconds since the epoch)."""

    path: Path
    size: int
    used: float


class KeptFiles:
    """A folder of files with one suffix.

    Args:
        folder: where they lie; it need not exist.
        suffix: of their names.
        limit: in bytes. The file that was stored last stays, whatever its size.
    """

    def __init__(self, folder: Path, suffix: str, limit: int) -> None:
        self.folder, self.suffix, self.limit = folder, suffix, limit

    def files(self) -> list[KeptFile]:
        """What is there, the longest unused first."""
        found = []
        for path in self._all():
            with contextlib.suppress(OSError):  # gone meanwhile
                if path.suffix == self.suffix and not path.name.startswith("."):
                    state = path.stat()
                    found.append(KeptFile(path, state.st_size, state.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.path))

    def clear(self) -> int:
        """Remove everything; how many files that were.

        Raises:
            KnnvcError: the folder refuses.
        """
        files = self.files()
        try:
            for path in self._all():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise KnnvcError(f"cannot clear {self.folder}: {os_reason(error)}") from error
        return len(files)

    def evict(self, kept: Path) -> None:
        """Remove what is too much, but not `kept`, and what killed writers left behind."""
        files = self.files()
        total = sum(entry.size for entry in files)
        for entry in files:
            if total <= self.limit:
                break
            if entry.path != kept:
                with contextlib.suppress(OSError):
                    entry.path.unlink(missing_ok=True)
                    entry.path.with_suffix(".lock").unlink(missing_ok=True)
                total -= entry.size
        for path in self._all():
            with contextlib.suppress(OSError):
                old = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
                if old and path.name.startswith("."):
                    path.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return list(self.folder.iterdir())
        return []


def kept_indices() -> KeptFiles:
    """The indices of saved matching sets; `knnvc.converters.approximate` reads and writes them."""
    return KeptFiles(cache_dir() / "indices", INDEX_SUFFIX, INDEX_LIMIT)
