"""`knnvc batch`: many files in one go, which goes on where it was stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.batch.plan import BatchOptions
from knnvc.cli.common import PRESET, complain, say, say_path
from knnvc.cli.derive import collect, options
from knnvc.errors import UsageError, sentence, shown
from knnvc.files import AUDIO_OUTPUT
from knnvc.options import MatchOptions, settings

if TYPE_CHECKING:
    from knnvc.batch.engine import Stage
    from knnvc.batch.plan import Planned, Task
    from knnvc.batch.run import Report, Row

CACHE = click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep encoded references for the next time; see `knnvc cache`.",
)
_MOST_BARS = 16  # of workers
# Looks like `knnvc.cli.common.BAR`, and says no bytes, by which the whole is measured.
_ALL_BAR = "{desc} [{bar:20}] {percentage:3.0f}%  {remaining}"
_FILE_BAR = "  {desc} [{bar:20}] {percentage:3.0f}%"


@click.command()
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@click.option(
    "--ref",
    "refs",
    multiple=True,
    metavar="PATH[:WEIGHT]",
    help="Recordings of the target speaker, as for `knnvc convert`; for all files for which a "
    "manifest names no others.",
)
@PRESET
@options(BatchOptions, *settings(MatchOptions), "device", "threads", "precision", "chunk")
@click.option(
    "--format",
    "format_",
    type=click.Choice([suffix.removeprefix(".") for suffix in AUDIO_OUTPUT]),
    default="wav",
    show_default=True,
    help="Format of outputs that a manifest does not name.",
)
@options(BatchOptions, "workers", "resume")
@click.option(
    "--force", is_flag=True, help="Overwrite files made by other settings, or by something else."
)
@click.option(
    "--keep-going/--fail-fast",
    default=True,
    show_default=True,
    help="What to do after a file has failed.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--report", metavar="FILE.csv", help="Write what became of every file.")
@CACHE
@options(BatchOptions, "engine", "ray_address")
def batch(
    source: str,
    output: str,
    refs: tuple[str, ...],
    dry_run: bool,
    report: str | None,
    format_: str,
    **given: Any,
) -> None:
    """Convert many files: IN is a folder, a glob, or a manifest; OUT mirrors it.

    A manifest is a CSV file or JSON lines with the columns source, ref, output, lam and k. Only
    source is required. Started again, a batch goes on where it was stopped.

    \b
    knnvc batch takes/ converted/ --ref anna/ --workers 2
    knnvc batch "takes/**/*.flac" converted/ --ref anna/ --report report.csv
    knnvc batch list.csv converted/ --engine ray --ray-address auto --workers 16
    """
    chosen = collect(BatchOptions, {**given, "suffix": f".{format_}"})
    if report is not None:
        _check_report(report)
    from knnvc.batch import convert_batch

    with Bars() as bars:
        result = convert_batch(source, output, refs, chosen, watcher=bars, dry_run=dry_run)
    if report is not None and not dry_run:
        result.write(Path(report))
    if dry_run:
        _say_plan(result)
        return
    words = f"{result.summary} in {bars.seconds:.1f} s"
    if bars.speech:
        words += f" ({bars.speech:.1f} s of speech, {bars.speech / bars.seconds:.1f} x real time)"
    say(words, error=True)
    if result.interrupted:
        code = complain(
            "interrupted; nothing half-written was left behind, and the same command goes on from "
            "here",
            128 + result.signal,
        )
        sys.exit(code)
    if not result.ok:
        where = f"; {report} has them all" if report else ""
        sys.exit(complain(f"{_failed(result)}{where}; the same command tries them again", 1))


def _failed(result: Report) -> str:
    failed, left = result.count("failed"), result.count("not started")
    words = f"{failed} of {len(result.rows)} files failed"
    return f"{words} and {left} were not started" if left else words


def _check_report(report: str) -> None:
    path = Path(report)
    if not report or path.is_dir():
        raise UsageError(f"the report {report or repr(report)} is no file name; name a CSV file")
    if path.exists() and not path.read_bytes()[:7] == b"source,":
        raise UsageError(f"{report} is something else than a report; name another file")


def _say_plan(result: Report) -> None:
    verbs = {"not started": "convert", "up to date": "keep", "failed": "cannot", "skipped": "skip"}
    for row in result.rows:
        why = row.error or row.warning
        text = f"{verbs[row.status]:<8} {row.source} -> {row.output}"
        say(shown(text + f" ({why})" * bool(why), lines=False))
    say(f"{result.summary}; nothing was changed", error=True)
    if result.count("failed"):
        sys.exit(1)


class Bars:  # a knnvc.batch.run.Watcher, which `knnvc --help` need not import
    """Progress on stderr (a bar for all, and one for each worker's file), results on stdout.

    Rate and time left go by the bytes of the recordings, which are known beforehand. Without a
    terminal there are no bars.
    """

    def __init__(self) -> None:
        self._began = self._ended = time.monotonic()
        self._all: Any = None
        self._files: dict[int, tuple[int, Any]] = {}  # of each worker: its task and its bar
        self._bars: list[Any] = []
        self._warned: set[str] = set()
        self.speech = 0.0
        self._count = self._done = self._failed = 0

    @property
    def seconds(self) -> float:
        """How long the work took or takes."""
        return max(1e-3, self._ended - self._began)

    def __enter__(self) -> Bars:
        """Nothing is shown before there is something to show."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bars away."""
        self._ended = time.monotonic()
        for bar in [*self._bars, self._all]:
            if bar is not None:
                bar.close()
        self._all, self._bars, self._files = None, [], {}

    def planned(self, plan: Sequence[Planned]) -> None:
        """Draw the bar of the whole."""
        self._began = time.monotonic()
        left = [line for line in plan if not line.up_to_date and not line.skipped]
        self._count = len(left)
        kept = sum(line.up_to_date for line in plan)
        if kept:
            self._say(f"{kept} of {len(plan)} files are up to date", error=True)
        size = sum(line.task.size for line in left if line.task)
        if sys.stderr.isatty() and size:
            self._all = _bar(size, 0, bar_format=_ALL_BAR, smoothing=0.05)
            self._label()

    def stage(self, stage: Stage) -> None:
        """Move the bar of a worker's file."""
        if self._all is None or stage.worker >= _MOST_BARS:
            return
        number, bar = self._files.get(stage.worker, (-1, None))
        if bar is None:
            bar = _bar(100, len(self._bars) + 1, bar_format=_FILE_BAR)
            self._bars.append(bar)
        if number != stage.task.number:
            bar.reset(100)
            self._files[stage.worker] = (stage.task.number, bar)
        bar.set_description_str(f"{_short(stage.task.name)}  {stage.stage:<11}", refresh=False)
        bar.n = 100 * stage.done // max(1, stage.total)
        bar.refresh()

    def finished(self, row: Row, task: Task | None) -> None:
        """Say what became of a file."""
        if row.status == "done":
            self._done += 1
            self.speech += row.seconds
            self._say(shown(row.output, lines=False))
        elif row.status != "skipped":
            self._failed += 1
            self._say("Error: " + sentence(f"{row.source}: {row.error}"), error=True)
            if row.traceback:
                self._say(row.traceback, error=True)
        if row.warning and row.warning not in self._warned:
            self._warned.add(row.warning)
            self._say(f"Warning: {row.warning}", error=True)
        if self._all is not None:
            self._all.update(task.size if task else 0)
            self._label()

    def stopping(self) -> None:
        """Say what Ctrl-C does."""
        self._say("finishing the files in hand; Ctrl-C again drops them", error=True)

    def _label(self) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        minutes = (time.monotonic() - self._began) / 60
        rate = f", {self._done / minutes:.0f} a minute" if self._done else ""
        speech = f", {self.speech:.0f} s of speech" if self._done else ""
        words = f"{self._done} of {self._count} files{failed}{speech}{rate}"
        self._all.set_description_str(words)

    def _say(self, text: str, error: bool = False) -> None:
        if self._all is None:
            say(text, error=error)
            return
        from tqdm import tqdm

        tqdm.write(shown(text), file=sys.stderr if error else sys.stdout)


def _bar(total: int, position: int, **options: Any) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total,
        position=position,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        ascii=" #",
        **options,
    )


def _short(name: str) -> str:
    name = shown(name, lines=False)
    return name if len(name) <= 40 else "..." + name[-37:]


@click.group()
def cache() -> None:
    """Encoded references and indices, kept so that the next command need not make them again."""


@cache.command("info")
def cache_info() -> None:
    """Tell where they lie and how much room they take."""
    from knnvc.cli.common import table
    from knnvc.kept import kept_indices
    from knnvc.voices.cache import LIMIT_VARIABLE, SetCache

    kept, indices = SetCache(), kept_indices()
    sets, files = kept.sets(), indices.files()
    say_path(kept.folder)
    rows = [
        ("sets", str(len(sets))),
        ("size", f"{sum(entry.size for entry in sets) / 1e6:.1f} MB"),
        ("limit", f"{kept.limit / 1e6:.0f} MB ({LIMIT_VARIABLE} changes it)"),
    ]
    if sets:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(sets[-1].used))
        rows.append(("last used", moment))
    table(rows)
    say_path(indices.folder)
    rows = [
        ("indices", str(len(files))),
        ("size", f"{sum(entry.size for entry in files) / 1e6:.1f} MB"),
        ("limit", f"{indices.limit / 1e6:.0f} MB"),
    ]
    table(rows)


@cache.command("clear")
def cache_clear() -> None:
    """Remove them; they are made again when they are needed."""
    from knnvc.kept import kept_indices
    from knnvc.voices.cache import SetCache

    sets, indices = SetCache().clear(), kept_indices().clear()
    words = f"{sets} matching {'set' if sets == 1 else 'sets'}"
    say(f"removed {words} and {indices} {'index' if indices == 1 else 'indices'}")
