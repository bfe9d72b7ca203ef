"""The account of a batch: what was begun and finished, as JSON lines in the output folder.

Lines are only ever appended, one `write` each, and the last one of an output counts. A line that a
killed process left torn is passed over. Events:

- `settings`: what a `key` stands for, once per key;
- `begin`: this output is about to be made with the settings `key`; from here on a file of that name
  is this batch's;
- `done`: it was made, from a source with this size, time and sha256, and is this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from knnvc.errors import KnnvcError
from knnvc.files import atomic_path, os_reason, sha256_file

_COMPACT_LINES = 10_000  # more superfluous lines than this are dropped when a batch starts


@dataclass(frozen=True)
class Stamp:
    """What a file was: bytes, time of its last change in ns, sha256."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Stamp a file as it is now.

        Raises:
            OSError: it cannot be read.
            KnnvcError: likewise.
        """
        state = path.stat()
        return cls(state.st_size, state.st_mtime_ns, sha256_file(path))

    def matches(self, path: Path) -> bool:
        """Whether the file still has this content; it is read only if its time has changed."""
        try:
            state = path.stat()
            if state.st_size != self.size:
                return False
            return state.st_mtime_ns == self.mtime_ns or sha256_file(path) == self.sha256
        except (OSError, KnnvcError):
            return False


@dataclass(frozen=True)
class Done:
    """A finished output: the key of its settings, its source and itself."""

    key: str
    source: Stamp
    output: Stamp


@dataclass
class History:
    """What a journal tells: of each output its `Done`, or None while it was only begun."""

    outputs: dict[str, Done | None] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: int = 0


def read_history(path: Path) -> History:
    """Read a journal; a missing one is empty, lines that make no sense are passed over.

    Raises:
        KnnvcError: it cannot be read.
    """
    history = History()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return history
    except OSError as error:
        raise KnnvcError(f"cannot read {path}: {error.strerror}; check the path") from error
    for line in content.splitlines():
        history.lines += 1
        try:
            entry = json.loads(line)
            event = entry["event"]
            if event == "settings":
                history.settings[entry["key"]] = dict(entry["settings"])
            elif event == "begin":
                history.outputs[str(entry["output"])] = None
            elif event == "done":
                history.outputs[str(entry["output"])] = Done(
                    str(entry["key"]), Stamp(**entry["source"]), Stamp(**entry["file"])
                )
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return history


class Journal:
    """Appends to a journal; use as a context manager.

    Args:
        path: of the journal; its folder is made.
        history: what it holds, as just read.
    """

    def __init__(self, path: Path, history: History) -> None:
        self._path = path
        self._history = history
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        """Open the journal, and mend its end if it is torn.

        Raises:
            KnnvcError: it cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._history.lines > len(self._history.outputs) + _COMPACT_LINES:
                self._compact()
            self._handle = self._path.open("ab", buffering=0)
            if self._path.stat().st_size and not self._path.read_bytes().endswith(b"\n"):
                self._handle.write(b"\n")
        except OSError as error:
            raise KnnvcError(f"cannot write {self._path}: {os_reason(error)}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._handle is not None:
            self._handle.close()

    def begin(self, tasks: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        """Note that these outputs are about to be made; (output, key, settings) each."""
        lines = []
        for output, key, settings in tasks:
            if key not in self._history.settings:
                self._history.settings[key] = settings
                lines.append(_settings_line(key, settings))
            lines.append(_line({"event": "begin", "output": output, "key": key}))
        self._write(b"".join(lines))

    def done(self, output: str, done: Done) -> None:
        """Note that an output was made."""
        self._write(_done_line(output, done))

    def _write(self, content: bytes) -> None:
        assert self._handle is not None
        try:
            # One unbuffered write a line, so that a kill tears at most the last one.
            view = memoryview(content)
            while view:
                view = view[self._handle.write(view) :]
        except OSError as error:
            raise KnnvcError(f"cannot write {self._path}: {os_reason(error)}") from error

    def _compact(self) -> None:
        used = {done.key for done in self._history.outputs.values() if done}
        with atomic_path(self._path) as temporary, temporary.open("wb") as handle:
            for key in sorted(used & self._history.settings.keys()):
                handle.write(_settings_line(key, self._history.settings[key]))
            for output, done in self._history.outputs.items():
                begun = _line({"event": "begin", "output": output, "key": ""})
                handle.write(_done_line(output, done) if done else begun)


def _settings_line(key: str, settings: dict[str, Any]) -> bytes:
    return _line({"event": "settings", "key": key, "settings": settings})


def _done_line(output: str, done: Done) -> bytes:
    entry = {
        "event": "done",
        "output": output,
        "key": done.key,
        "source": vars(done.source),
        "file": vars(done.output),
    }
    return _line(entry)


def _line(entry: dict[str, Any]) -> bytes:
    # ASCII: a name may hold bytes that are no UTF-8, which arrive here as lone surrogates.
    return json.dumps(entry, ensure_ascii=True).encode() + b"\n"
