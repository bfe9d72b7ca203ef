"""A batch from beginning to end: plan, clean up, have it done, keep the journal, report."""

from __future__ import annotations

import contextlib
import csv
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from knnvc import __version__
from knnvc.batch.engine import Engine, Result, Stage, WorkerSettings
from knnvc.batch.journal import Done, History, Journal, read_history
from knnvc.batch.local import LocalEngine
from knnvc.batch.plan import (
    PART_FOLDER,
    STATE_FOLDER,
    BatchOptions,
    Planned,
    Task,
    in_order,
    make_plan,
)
from knnvc.errors import KnnvcError, UsageError, shown
from knnvc.files import atomic_path, csv_cell
from knnvc.voices.cache import SetCache

DONE, UP_TO_DATE, FAILED, NOT_STARTED = "done", "up to date", "failed", "not started"
COLUMNS = ("source", "output", "status", "seconds", "compute_seconds", "error", "warning")


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        source: the recording, as the caller wrote it.
        output: the file that was or would have been made.
        status: "done", "up to date" (an earlier run did it), "failed" or "not started".
        seconds: duration of the output, if this run made it.
        compute_seconds: that it took its worker, references included for the first of each.
        error: why it failed.
        warning: what else should be known.
        traceback: of a bug; not in the file.
    """

    source: Path
    output: Path
    status: str
    seconds: float = 0.0
    compute_seconds: float = 0.0
    error: str = ""
    warning: str = ""
    traceback: str | None = None


@dataclass
class Report:
    """What became of every file of a batch, in the order of the sources.

    Attributes:
        rows: one for each file.
        interrupted: whether somebody stopped it.
        signal: the number of the signal by which they did.
    """

    rows: list[Row] = field(default_factory=list)
    interrupted: bool = False
    signal: int = int(signal.SIGINT)

    def count(self, status: str) -> int:
        """How many files have this status."""
        return sum(row.status == status for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether every file is there."""
        return all(row.status in (DONE, UP_TO_DATE) for row in self.rows)

    @property
    def summary(self) -> str:
        """ "3 done, 1 failed", for people."""
        counts = Counter(row.status for row in self.rows)
        order = (DONE, UP_TO_DATE, FAILED, NOT_STARTED)
        return ", ".join(f"{counts[status]} {status}" for status in order if counts[status])

    def write(self, path: Path) -> None:
        """Save as CSV with the columns `COLUMNS`, whole or not at all; replaces an older one.

        No cell is a formula to a spreadsheet; `knnvc.files.csv_text` gives back what it stands for.

        Raises:
            KnnvcError: it cannot be written.
        """
        # surrogateescape: names with bytes that are no UTF-8 keep them.
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as handle,
        ):
            writer = csv.writer(handle)
            writer.writerow(COLUMNS)
            for row in self.rows:
                numbers = (f"{row.seconds:.3f}", f"{row.compute_seconds:.3f}")
                if row.status not in (DONE, FAILED):
                    numbers = ("", "")
                told = (shown(row.error), shown(row.warning))
                cells = [row.source, row.output, row.status, *numbers, *told]
                writer.writerow([csv_cell(str(cell)) for cell in cells])


class Watcher(Protocol):
    """Is told what happens in a batch."""

    def planned(self, plan: Sequence[Planned]) -> None:
        """The work begins."""

    def stage(self, stage: Stage) -> None:
        """A worker has come so far with a file."""

    def finished(self, row: Row, task: Task | None) -> None:
        """A file was made or has failed."""

    def stopping(self) -> None:
        """Somebody pressed Ctrl-C; the files in hand are finished."""


class _Silent:
    def planned(self, plan: Sequence[Planned]) -> None: ...

    def stage(self, stage: Stage) -> None: ...

    def finished(self, row: Row, task: Task | None) -> None: ...

    def stopping(self) -> None: ...


class _Dropped(BaseException):
    """A second Ctrl-C, or a request to terminate."""


def convert_batch(
    source: str | Path,
    output: str | Path,
    refs: Sequence[Any] = (),
    options: BatchOptions | None = None,
    *,
    watcher: Watcher | None = None,
    dry_run: bool = False,
) -> Report:
    """Convert many files into a folder; what an earlier, even a killed run has done, is kept.

    Args:
        source: a folder (searched recursively), a glob, a recording, or a CSV or JSONL manifest.
        output: folder for the results, which mirrors the tree of `source`.
        refs: the target speaker: paths as for `knnvc convert --ref` ("anna/", "voice:emma",
            "anna/:0.7"), or (path, weight) pairs; may be empty if a manifest names them all.
        options: how to convert.
        watcher: is told what happens.
        dry_run: only find out what there is to do: such files are "not started".

    Returns:
        What became of each file; files that failed raise nothing.

    Raises:
        UsageError: the call is wrong, or files are in the way; nothing has been done.
        KnnvcError: no file can be converted: the preset is damaged, a folder not writable, ...
    """
    options, watcher = options or BatchOptions(), watcher or _Silent()
    out = Path(output)
    state = out / STATE_FOLDER
    history = History()

    def read() -> History:
        nonlocal history
        history = read_history(state / "journal.jsonl")
        return history

    if dry_run:
        plan = make_plan(source, output, refs, options, read)
        return Report([_row(line) for line in plan])
    # Planned before anything is written, and once more under the lock only if there is work.
    plan = make_plan(source, output, refs, options, read)
    with _created(out), _locked(state):
        before, latest = history, read()
        if latest.outputs != before.outputs:  # another batch has ended meanwhile
            plan = make_plan(source, output, refs, options, lambda: latest)
        _clean_up(out, plan, history)
        return _run(plan, out, options, history, watcher)


def _run(
    plan: list[Planned], out: Path, options: BatchOptions, history: History, watcher: Watcher
) -> Report:
    rows = [_row(line) for line in plan]
    report = Report(rows)
    tasks = in_order([line.task for line in plan if line.task and not line.up_to_date])
    watcher.planned(plan)
    for row in rows:
        if row.status == FAILED:
            watcher.finished(row, None)
    if not tasks or (not options.keep_going and report.count(FAILED)):
        return report
    state = out / STATE_FOLDER
    engine = _engine(options)
    settings = _worker_settings(options, state)
    by_number = {task.number: task for task in tasks}
    failed = False
    with Journal(state / "journal.jsonl", history) as journal:
        journal.begin((task.name, task.key, task.settings) for task in tasks)
        try:
            with (
                _signals(engine, report, watcher),
                contextlib.closing(engine.run(tasks, settings)) as events,
            ):
                for event in events:
                    if isinstance(event, Stage):
                        watcher.stage(event)
                        continue
                    task = by_number[event.number]
                    if event.error is None and event.source and event.output:
                        journal.done(task.name, Done(task.key, event.source, event.output))
                    rows[task.number] = row = _finished(plan[task.number], event)
                    watcher.finished(row, task)
                    if row.status == FAILED and not options.keep_going and not failed:
                        failed = True
                        if not engine.stop():
                            break
        except (_Dropped, KeyboardInterrupt) as error:
            report.interrupted = True
            report.signal = getattr(error, "number", report.signal)
        finally:
            _clean_up(out, plan, history)
            shutil.rmtree(state / "sets", ignore_errors=True)
    return report


def _engine(options: BatchOptions) -> Engine:
    if options.engine == "ray":
        from knnvc.batch.ray import RayEngine

        return RayEngine(options.workers, options.threads, options.ray_address)
    return LocalEngine(options.workers or 1)


def _worker_settings(options: BatchOptions, state: Path) -> WorkerSettings:
    cache = SetCache()
    # Without the cache, workers still share what one of them has encoded: for this run.
    shared = cache.folder if options.cache else state / "sets"
    preset = options.preset
    return WorkerSettings(
        preset=str(Path(preset).absolute() if Path(preset).is_dir() else preset),
        device=options.device,
        threads=options.threads,
        precision=options.precision,
        chunk=options.chunk,
        loudness=options.loudness,
        trim=options.trim,
        index=options.index,
        cache_folder=shared.absolute(),
        cache_limit=cache.limit,
        version=__version__,
    )


def _row(line: Planned) -> Row:
    if line.problem is not None:
        return Row(line.source, line.output, FAILED, error=line.problem)
    return Row(line.source, line.output, UP_TO_DATE if line.up_to_date else NOT_STARTED)


def _finished(line: Planned, result: Result) -> Row:
    return Row(
        line.source,
        line.output,
        DONE if result.error is None else FAILED,
        result.seconds,
        result.compute_seconds,
        result.error or "",
        "; ".join(result.warnings),
        result.traceback,
    )


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One batch at a time in an output folder; the system frees the lock of a killed one."""
    from filelock import FileLock, Timeout

    try:
        state.mkdir(parents=True, exist_ok=True)
        with FileLock(state / "lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(
            f"another batch is at work in {state.parent}; wait for it, or choose another folder"
        ) from error
    except OSError as error:
        raise KnnvcError(f"cannot write into {state}: {error.strerror}; check the path") from error


@contextlib.contextmanager
def _created(out: Path) -> Iterator[None]:
    """Take the output folder away again if nothing came of it."""
    missing = [path for path in (out, *out.parents) if not path.exists()]
    try:
        yield
    finally:
        state = out / STATE_FOLDER
        if (
            missing
            and {path.name for path in _listing(out)} == {STATE_FOLDER}
            and not (state / "journal.jsonl").exists()
        ):
            shutil.rmtree(state, ignore_errors=True)
            with contextlib.suppress(OSError):
                for path in missing:
                    path.rmdir()


def _listing(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _clean_up(out: Path, plan: Sequence[Planned], history: History) -> None:
    """Remove what killed workers left, and folders that were made for files that failed."""
    names = {Path(name) for name in history.outputs}
    names |= {Path(line.task.name) for line in plan if line.task}
    folders = {out / parent for name in names for parent in name.parents}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        shutil.rmtree(folder / PART_FOLDER, ignore_errors=True)
        if folder != out:
            with contextlib.suppress(OSError):  # not there, or not empty
                folder.rmdir()
    shutil.rmtree(out / STATE_FOLDER / "sets", ignore_errors=True)


@contextlib.contextmanager
def _signals(engine: Engine, report: Report, watcher: Watcher) -> Iterator[None]:
    """Ctrl-C: finish the files in hand if the engine can; twice, or SIGTERM: drop them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: object) -> None:
        again, report.interrupted, report.signal = report.interrupted, True, number
        if again or number != signal.SIGINT or not engine.stop():
            raise _Dropped
        watcher.stopping()

    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
