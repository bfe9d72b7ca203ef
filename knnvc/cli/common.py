"""What the commands share: options, progress, checks before work, and errors in one sentence.

Heavy modules are imported inside functions: `knnvc --help` must be instant.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.derive import collect, options
from knnvc.cli.start import INTERRUPTED, exit_code
from knnvc.cores import usable
from knnvc.errors import KnnvcError, UsageError, explain, sentence, shown
from knnvc.files import AUDIO_OUTPUT, list_folder, told_apart
from knnvc.options import ConvertOptions, LoadOptions
from knnvc.voices.ready import existing as existing
from knnvc.voices.ready import parse_references as parse_references
from knnvc.voices.ready import reference as reference
from knnvc.voices.ready import reference_paths

if TYPE_CHECKING:
    from knnvc.pipeline import VoiceConverter

QUIET_SECONDS = 1.0  # no progress bar before this
# click 8.1 does not have it and shows the help by itself.
NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
FORCE = click.option("--force", is_flag=True, help="Overwrite existing output.")
PRESET = options(LoadOptions, "preset")
DEVICE = options(LoadOptions, "device")
COMPUTING = options(LoadOptions, "device", "threads", "precision", "chunk")
TRIM = options(ConvertOptions, "trim")
INDEX = options(ConvertOptions, "index")


def set_threads(threads: int | None) -> None:
    """Let torch, and faiss with it, use so many threads.

    None leaves what `OMP_NUM_THREADS` says, else what the container's quota allows: torch counts
    the computer's processors, and threads that wait for their share of one are slow.
    """
    import torch

    if threads is None and not os.environ.get("OMP_NUM_THREADS"):
        allowed = usable()
        threads = allowed if allowed < torch.get_num_threads() else None
    if threads is not None:
        torch.set_num_threads(threads)
        import faiss

        faiss.omp_set_num_threads(threads)


class OneSentence(click.Group):
    """A command group whose errors are one sentence on stderr: exit code 2 for usage, else 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and turn every expected failure into a sentence and an exit code."""
        run: Callable[..., Any] = super().main
        if not kwargs.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **kwargs)
        try:
            code = run(*args, standalone_mode=False, **kwargs)
        except NO_ARGUMENTS as error:
            click.echo(error.format_message())
            code = 2
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            code = complain(*reason)
        except KeyboardInterrupt as error:
            code = complain(INTERRUPTED, exit_code(error))
        sys.exit(code if isinstance(code, int) else 0)


def reason_of(error: Exception) -> tuple[str, int] | None:
    """What to say about a failure and the exit code; None for a bug, which keeps its traceback."""
    if isinstance(error, KnnvcError):
        return str(error), error.exit_code
    if isinstance(error, click.Abort):
        return INTERRUPTED, exit_code(error)
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    sentence = explain(error)
    return None if sentence is None else (sentence, 1)


def complain(message: str, code: int) -> int:
    """Say one sentence on stderr and hand the exit code back."""
    say("Error: " + sentence(message), error=True)
    return code


def say(text: str, *, error: bool = False) -> None:
    """Print lines on stdout or stderr, without anything that a terminal would obey."""
    click.echo(shown(text), err=error)


def say_path(path: Path | str) -> None:
    """Print a path as one line, whatever bytes its name holds."""
    click.echo(shown(str(path).replace("\n", "\x00").replace("\t", "\x00")))


BAR: dict[str, Any] = {  # how every bar looks; see also `knnvc.cli.batch`
    "bar_template": "%(label)s [%(bar)s] %(info)s",
    "width": 20,
    "fill_char": "#",
    "empty_char": " ",
}


_COUNTED = {  # stages of whole things: what they are, and how many units of progress each is
    "references": ("files", 100),
    "anonymising": ("files", 1),
    "speaking": ("sentences", 1),
    "evaluating": ("recordings", 1),
    "copying": ("recordings", 1),
    "probing": ("utterances", 1),
}
_SPEECH = ("encoding", "matching", "vocoding")  # stages whose units are frames


class Progress:
    """What is said on stderr during work: a bar for each stage, and warnings, one line each.

    Bars are for people (stderr is a terminal), appear once the command has run for a second, and
    go when their stage is done. Of warnings, only this package's own are for the person.

    Attributes:
        frame: seconds of speech in a frame, once they are known.
        files: of several files, the number of the present one and of all.
    """

    def __init__(self) -> None:
        self.frame = 0.0
        self.files = ""
        self._began = time.monotonic()
        self._stage: tuple[str, int | None] | None = None
        self._bar: Any = None
        self._done = 0
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> Progress:
        """From now on, say warnings in the manner of the command line."""
        self._warnings.__enter__()
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"knnvc\.", category=UserWarning)
        others = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any
        ) -> None:
            if category.__module__.startswith("knnvc."):
                self.close()
                say("Warning: " + " ".join(str(message).split()), error=True)
            else:
                others(message, category, filename, lineno, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away, whatever happened."""
        self.close()
        self._warnings.__exit__(None, None, None)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report `done` of `total` units of a stage."""
        if not sys.stderr.isatty() or time.monotonic() - self._began < QUIET_SECONDS:
            return
        if not total:  # a download of unknown size: a bar would say nothing
            return
        if (stage, total) != self._stage or done < self._done:
            self.close()
            self._stage, self._done = (stage, total), 0
            name = shown(stage, lines=False)
            self._bar = click.progressbar(
                length=total,
                label=f"{name:<11}",
                file=sys.stderr,
                item_show_func=lambda text: text,
                **BAR,
            )
            self._bar.current_item = self._amount(stage, 0, total)
            self._bar.__enter__()
        self._bar.update(done - self._done, self._amount(stage, done, total))
        self._done = done

    def _amount(self, stage: str, done: int, total: int) -> str:
        """How far it is in what a person counts: files, sentences or seconds of speech."""
        if stage in _COUNTED:
            what, units = _COUNTED[stage]
            return f"{done // units} of {total // units} {what}" if total > units else ""
        if stage in _SPEECH and self.frame:
            seconds = f"{done * self.frame:.0f} of {total * self.frame:.0f} s of speech"
            return f"{seconds}, {self.files}" if self.files else seconds
        return self.files if stage in _SPEECH else ""

    def close(self) -> None:
        """Take away the current bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)  # shows the cursor again and ends the line
            self._bar, self._stage = None, None
            if sys.platform != "win32" and os.environ.get("TERM") != "dumb":
                click.echo("\033[1A\033[2K", nl=False, err=True)  # up, and clear that line


def check_numbers(lam: float | None, k: int | None, seconds: float | None) -> None:
    """Raise UsageError if one of these is out of range; imports no torch."""
    collect(ConvertOptions, {"lam": lam, "k": k, "seconds": seconds})


def load(chosen: LoadOptions, progress: Progress | None = None) -> VoiceConverter:
    """The converter of a preset, as chosen; `progress` then knows how long its frames are."""
    from knnvc.pipeline import VoiceConverter

    set_threads(chosen.threads)
    converter = VoiceConverter.from_preset(
        chosen.preset, chosen.device, chunk_seconds=chosen.chunk, precision=chosen.precision
    )
    if progress is not None:
        progress.frame = converter.encoder.hop / converter.encoder.sample_rate
    return converter


def label(wanted: list[Any]) -> str:
    """What default names call the references: the voices of a blend, else the first one."""
    names = [path.name if path.is_dir() else path.stem for path in reference_paths(wanted)]
    return "+".join(names) if isinstance(wanted[0], tuple) else names[0]


def plan_outputs(
    sources: tuple[str, ...], output: str | None, force: bool, suffix: str
) -> list[tuple[Path, Path]]:
    """Pairs of source and output; everything cheap is checked before a model is loaded."""
    found: list[tuple[Path, Path]] = []  # and its path below the source folder
    for source in sources:
        path = existing(source, "source")
        if path.is_dir():
            listing = list_folder(path)
            found += [(one, one.relative_to(path)) for one in listing.audio]
            if (sentence := listing.warning()) is not None:
                click.echo(f"Warning: {sentence}.", err=True)
        else:
            found.append((path, Path(path.name)))
    several = len(found) > 1 or Path(sources[0]).is_dir()
    if output is None:
        pairs = apart([(path, Path(f"{path.stem}{suffix}.wav")) for path, _ in found])
    elif not output:
        raise UsageError("the output has an empty name; name a file or a folder")
    elif several or output.endswith(("/", os.sep)) or Path(output).is_dir():
        if Path(output).exists() and not Path(output).is_dir():
            raise UsageError(f"{output} is a file; name a folder for the output of several sources")
        if several and not Path(output).is_dir() and is_audio(Path(output)):
            raise UsageError(f"there are {len(found)} sources; name a folder instead of {output}")
        pairs = apart([(path, Path(output) / below.with_suffix(".wav")) for path, below in found])
    else:
        if not is_audio(Path(output)):
            raise UsageError(
                f"cannot write {output}: end it in {', '.join(AUDIO_OUTPUT)}, or in / for a folder"
            )
        pairs = [(found[0][0], Path(output))]
    check_pairs(pairs, force)
    return pairs


def apart(pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Pairs of source and output whose outputs differ where the sources' suffixes do."""
    return [(source, output) for (source, _), output in zip(pairs, told_apart(pairs), strict=True)]


def check_pairs(pairs: list[tuple[Path, Path]], force: bool) -> None:
    """No two outputs are one file, none is a source, and each can be written."""
    targets: dict[Path, Path] = {}
    inputs = {os.path.realpath(source) for source, _ in pairs}
    for source, target in pairs:
        if target in targets:
            raise UsageError(
                f"{targets[target]} and {source} would both become {target}; "
                "convert them into different folders"
            )
        targets[target] = source
        if target.exists() and os.path.realpath(target) in inputs:
            raise UsageError(f"{target} is itself a source; choose another output")
        check_free(target, force)


def check_free(target: Path, force: bool) -> None:
    """`target` can be written, and is not there yet or may be overwritten."""
    if target.exists() and not force:
        raise UsageError(f"{target} exists; choose another output or overwrite it with --force")
    folder = next((p for p in target.absolute().parents if p.exists()), Path("/"))
    if not folder.is_dir():
        raise UsageError(f"cannot write {target}: {folder} is a file; choose another folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {target}: permission denied; choose another folder")


def check_references_kept(plan: list[tuple[Path, Path]], wanted: list[Any]) -> None:
    """--force is not meant for the recordings of the target speaker."""
    references = reference_paths(wanted)
    for _, target in plan:
        if target.exists() and any(
            path == target.resolve() or path in target.resolve().parents for path in references
        ):
            raise UsageError(f"{target} is one of the references; choose another output")


def is_audio(path: Path) -> bool:
    """Whether the name ends as an audio file that can be written."""
    return path.suffix.lower() in AUDIO_OUTPUT


def each(
    plan: list[tuple[Path, Path]], work: Callable[[Path, Path], Any], progress: Progress
) -> None:
    """Do every file; a failure is reported and the rest goes on, but the exit code tells."""
    failed = False
    for number, (source, target) in enumerate(plan, 1):
        progress.files = f"file {number} of {len(plan)}" if len(plan) > 1 else ""
        try:
            work(source, target)
            progress.close()
            say_path(target)
        except Exception as error:
            progress.close()
            reason = reason_of(error)
            if reason is None or len(plan) == 1:
                raise
            complain(*reason)
            failed = True
    if failed:
        sys.exit(1)


def table(rows: list[tuple[str, str]]) -> None:
    """Print rows of name and value, aligned."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"  {shown(name, lines=False):<{width}}  {shown(value, lines=False)}")
