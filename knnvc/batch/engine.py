"""What an engine is: something that has tasks done and tells what happens."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from knnvc.batch.journal import Stamp
from knnvc.batch.plan import Task


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of a batch is set up with.

    Attributes:
        preset: name, or absolute path of the folder.
        device: "auto", "cpu", "cuda" or "mps".
        threads: of torch.
        precision: see `knnvc.options.LoadOptions`, as for `chunk`.
        chunk: seconds of the pieces that long audio is encoded in.
        loudness: of results, see `knnvc.options.MatchOptions`, as for `trim` and `index`.
        trim: cut silence off the references' ends.
        index: how neighbours are searched.
        cache_folder: for encoded references.
        cache_limit: of that folder, in bytes.
        version: of knnvc, which has to be the same everywhere.
    """

    preset: str
    device: str
    threads: int
    precision: str
    chunk: float | None
    loudness: float | str | bool
    trim: bool
    index: str
    cache_folder: Path
    cache_limit: int
    version: str


@dataclass(frozen=True)
class Result:
    """What became of a task.

    Attributes:
        number: of the task.
        error: why it failed, one sentence; None if it was done.
        seconds: duration of the result.
        compute_seconds: that it took.
        source: the recording as it was read.
        output: the file as it was written.
        warnings: what the person should know, though it was done.
        traceback: of a bug.
    """

    number: int
    error: str | None = None
    seconds: float = 0.0
    compute_seconds: float = 0.0
    source: Stamp | None = None
    output: Stamp | None = None
    warnings: tuple[str, ...] = field(default=())
    traceback: str | None = None


@dataclass(frozen=True)
class Stage:
    """A worker is at `done` of `total` of a stage of its task."""

    worker: int
    task: Task
    stage: str
    done: int
    total: int


Event = Result | Stage


class Engine(Protocol):
    """Does the tasks of one batch."""

    def run(self, tasks: Sequence[Task], settings: WorkerSettings) -> Generator[Event, None, None]:
        """Do `tasks`, in this order as far as possible, and yield one `Result` for each.

        When the generator is closed, nobody works for it any more.

        Raises:
            KnnvcError: no worker can be started.
        """

    def stop(self) -> bool:
        """Begin no further task; whether those in hand will be finished by `run`."""
