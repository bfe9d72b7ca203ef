"""What a batch has to do: which recording becomes which file, by which settings, and what is done.

Nothing here imports torch or loads a model, so that a wrong call, a dry run, or a batch with
nothing left to do is over in a second.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from knnvc.batch.journal import History
from knnvc.batch.manifest import Item, find_items
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import AUDIO_OUTPUT, find_audio, sha256_file
from knnvc.options import LoadOptions, MatchOptions, setting
from knnvc.presets.schema import Preset
from knnvc.presets.search import find_preset
from knnvc.voices.ready import parse_references

ENGINES = ("local", "ray")
STATE_FOLDER = ".knnvc-batch"  # in the output folder: journal, lock
PART_FOLDER = ".knnvc-part"  # beside outputs, while they are written


@dataclass(frozen=True)
class BatchOptions(LoadOptions, MatchOptions):
    """How to convert many files; None means what the preset recommends.

    Attributes:
        lam: see `MatchOptions`, as for `k`, `weighting`, `index`, `trim` and `loudness`.
        preset: see `LoadOptions`, as for `device`, `precision` and `chunk`. Several GPUs are dealt
            out to the workers.
        threads: of torch in each worker. The last bits of a result depend on it, but not on the
            number of workers.
        suffix: of outputs that a manifest does not name: ".wav", ".flac", ".ogg" or ".mp3".
        workers: processes (engine "local") or actors ("ray"); None is 1, or one per GPU on Ray.
        resume: leave alone what an earlier run has made of the same source by the same settings.
        force: overwrite files that exist and were made by other settings or not by a batch.
        keep_going: go on after a file has failed.
        cache: keep encoded references for later runs (`knnvc.voices.cache`).
        engine: "local" or "ray".
        ray_address: of a running Ray cluster; None starts one on this machine.

    Raises:
        UsageError: a value is out of range.
    """

    threads: int = setting(1, "Threads of each worker, on the CPU.", "whole", least=1, most=4096)
    suffix: str = setting(
        ".wav", "Format of outputs that a manifest does not name.", "choice", choices=AUDIO_OUTPUT
    )
    workers: int | None = setting(
        None,
        "Processes, or actors on Ray.",
        "whole",
        least=1,
        most=4096,
        otherwise="1; on Ray one per GPU, if there are any",
    )
    resume: bool = setting(
        True,
        "Leave alone what an earlier run has made of the same recordings by the same settings.",
        "flag",
    )
    force: bool = False
    keep_going: bool = True
    cache: bool = True
    engine: str = setting(
        "local", "Where the workers are: here, or on a Ray cluster.", "choice", choices=ENGINES
    )
    ray_address: str | None = setting(
        None,
        "Of a running cluster, such as auto or 10.0.0.1:6379.",
        "text",
        otherwise="start one here",
    )

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("a Ray address is of use only to the engine ray: choose it, too")


@dataclass(frozen=True)
class Voice:
    """References of one or several files: absolute paths, with weights if they are blended.

    Attributes:
        refs: in order.
        digest: sha256 of the content of all recordings, of their names, and of the weights.
    """

    refs: tuple[tuple[str, float | None], ...]
    digest: str


@dataclass(frozen=True)
class Task:
    """One file to make; all that a worker has to know about it.

    Attributes:
        number: in the plan.
        name: the output relative to the output folder, with forward slashes: its name in the
            journal.
        source: absolute path.
        output: absolute path.
        voice: whose voice it gets.
        lam: λ.
        k: neighbours.
        weighting: "mean" or "distance".
        key: identifies the settings and the references.
        settings: what `key` was computed from.
        size: bytes of the source.
        replaces: whether a file may be in the output's place.
    """

    number: int
    name: str
    source: str
    output: str
    voice: Voice
    lam: float
    k: int | None
    weighting: str
    key: str
    settings: dict[str, Any]
    size: int
    replaces: bool = False


@dataclass(frozen=True)
class Planned:
    """One line of a plan: a task, or why there is none.

    Attributes:
        source: as the caller wrote it.
        output: likewise.
        task: what is to do, if `problem` is None.
        up_to_date: an earlier run has done it.
        problem: why it cannot be done.
    """

    source: Path
    output: Path
    task: Task | None = None
    up_to_date: bool = False
    problem: str | None = None


def make_plan(
    source: str | Path,
    output: str | Path,
    refs: Sequence[Any],
    options: BatchOptions,
    history: Callable[[], History],
) -> list[Planned]:
    """Find everything that is to do.

    Args:
        source: see `knnvc.batch.manifest.find_items`.
        output: folder for the results.
        refs: references of all files that have none of their own: as they are typed ("anna/:0.7"),
            paths, or (path, weight) pairs.
        options: how to convert.
        history: reads what earlier runs have done; called once the call itself was found correct.

    Raises:
        UsageError: the call or the manifest is wrong, two sources would become one file, or files
            are in the way and `options.force` is False.
        KnnvcError: something cannot be read.
    """
    out = Path(output)
    if not str(output):
        raise UsageError("the output has an empty name; name a folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the results")
    folder = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write into {folder}; choose another output folder")
    items = find_items(str(source), out, options.suffix)
    preset = find_preset(options.preset)
    common = _parse(refs)
    if not common and not all(item.refs for item in items):
        raise UsageError("there are no references; name the target speaker's recordings (--ref)")
    _check_outputs(items, out)
    references = _References(out)
    shared = references.voice(common) if common else None
    fingerprint = preset_fingerprint(preset)
    planned = [
        _plan_item(number, item, out, shared, references, preset, fingerprint, options)
        for number, item in enumerate(items)
    ]
    return _compare(planned, out, options, history())


def in_order(tasks: Sequence[Task]) -> list[Task]:
    """The order of work: voice by voice, of each the long recordings first.

    So a worker needs few matching sets at a time, and the last files, which leave some workers
    idle, are short ones. Files are never put into one padded batch: attention sees the padding, so
    that the result of a file would depend on its neighbours.
    """
    work: defaultdict[str, int] = defaultdict(int)
    for task in tasks:
        work[task.voice.digest] += task.size
    return sorted(
        tasks, key=lambda task: (-work[task.voice.digest], task.voice.digest, -task.size, task.name)
    )


def preset_fingerprint(preset: Preset) -> str:
    """The sha256 of a preset's settings and weights, 64 hexadecimal digits.

    Raises:
        KnnvcError: a file cannot be read.
    """
    digest = hashlib.sha256((preset.folder / "preset.json").read_bytes())
    for path in preset.files:
        digest.update(sha256_file(path).encode())
    return digest.hexdigest()


def voice_digest(
    refs: Sequence[tuple[str, float | None]], hash_file: Callable[[Path], str] = sha256_file
) -> str:
    """What `Voice.digest` is, from the files as they are now.

    Raises:
        UsageError: a reference is missing, or a folder holds no recordings.
        KnnvcError: a recording cannot be read.
    """
    content = [
        [weight, [[file.name, hash_file(file)] for file in find_audio(path)]]
        for path, weight in refs
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _parse(refs: Sequence[Any]) -> list[Any]:
    if isinstance(refs, str | Path):
        refs = [refs]
    if all(isinstance(ref, str) for ref in refs):
        return parse_references(refs)
    parsed = []
    for ref in refs:
        path, weight = ref if isinstance(ref, tuple) else (ref, None)
        parsed.append(f"{path}" if weight is None else f"{path}:{float(weight)!r}")
    return parse_references(parsed)


class _References:
    """Hashes references, each file once."""

    def __init__(self, out: Path) -> None:
        self._out = out.resolve()
        self._hashes: dict[Path, str] = {}
        self._voices: dict[tuple[tuple[str, float | None], ...], Voice] = {}
        self._failures: dict[tuple[str, ...], KnnvcError] = {}

    def voice(self, parsed: list[Any]) -> Voice:
        pairs = [ref if isinstance(ref, tuple) else (ref, None) for ref in parsed]
        refs = tuple((str(Path(path).absolute()), weight) for path, weight in pairs)
        if refs not in self._voices:
            for path, _ in refs:
                # What the batch makes would become a reference of its next run.
                if Path(path).is_dir() and Path(path).resolve() in (self._out, *self._out.parents):
                    raise UsageError(
                        f"{self._out} lies inside the reference {path}; choose another output "
                        "folder"
                    )
            self._voices[refs] = Voice(refs, voice_digest(refs, self._hash))
        return self._voices[refs]

    def typed(self, refs: tuple[str, ...]) -> Voice:
        """The voice of a manifest's row; what is wrong with it is found out once."""
        if refs not in self._failures:
            try:
                return self.voice(parse_references(refs))
            except KnnvcError as error:
                self._failures[refs] = error
        raise self._failures[refs]

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256_file(path)
        return self._hashes[path]


def _check_outputs(items: list[Item], out: Path) -> None:
    """No two outputs are one file, and none is a source or inside our own folders."""
    targets: dict[Path, Path] = {}
    sources = {item.source.resolve() for item in items}
    for item in items:
        if item.output in targets:
            raise UsageError(
                f"{targets[item.output]} and {item.source} would both become "
                f"{out / item.output}; give them outputs of their own in a manifest"
            )
        targets[item.output] = item.source
        if {STATE_FOLDER, PART_FOLDER} & set(item.output.parts):
            raise UsageError(f"the output {item.output} has a name that knnvc uses itself")
        if (out / item.output).resolve() in sources:
            raise UsageError(f"{out / item.output} is itself a source; choose another output")


def _plan_item(
    number: int,
    item: Item,
    out: Path,
    shared: Voice | None,
    references: _References,
    preset: Preset,
    fingerprint: str,
    options: BatchOptions,
) -> Planned:
    target = out / item.output
    planned = Planned(item.source, target)
    try:
        voice = references.typed(item.refs) if item.refs else shared
        size = item.source.stat().st_size
    except KnnvcError as error:
        return replace(planned, problem=str(error))
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        return replace(planned, problem=f"the source {item.source} {reason}; check the path")
    assert voice is not None
    given: dict[str, tuple[Any, ...]] = {
        "lam": (item.lam, options.lam),
        "k": (item.k, options.k),
        "weighting": (options.weighting,),
    }
    defaults = preset.defaults
    chosen = {
        name: next((x for x in values if x is not None), defaults[name])
        for name, values in given.items()
    }
    settings: dict[str, Any] = {
        "preset": f"{preset.name} {fingerprint[:16]}",
        "references": voice.digest[:16],
        **chosen,
        "loudness": options.target_loudness,
        "trim": options.trim,
        "index": options.index,
        "precision": options.precision,
        "chunk": options.chunk,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    task = Task(
        number=number,
        name=item.output.as_posix(),
        source=str(item.source.absolute()),
        output=str(target.absolute()),
        voice=voice,
        lam=settings["lam"],
        k=settings["k"],
        weighting=settings["weighting"],
        key=key,
        settings=settings,
        size=size,
    )
    return replace(planned, task=task)


def _compare(
    planned: list[Planned], out: Path, options: BatchOptions, history: History
) -> list[Planned]:
    """Mark what is up to date; refuse to overwrite what this batch did not begin."""
    checked: list[Planned] = []
    in_the_way: list[tuple[Path, str]] = []
    for line in planned:
        task = line.task
        if task is None or not os.path.lexists(line.output):
            checked.append(line)
            continue
        if line.output.is_dir():
            raise UsageError(f"{line.output} is a folder; choose another output folder")
        began, reason = task.name in history.outputs, "was not made by a batch"
        if began:
            done = history.outputs[task.name]
            reason = ""
            if done is not None:  # else it was begun and never finished: ours to make again
                if not done.output.matches(line.output):
                    reason = "was changed after it was made"
                elif done.key != task.key:
                    reason = "was made by other settings" + _difference(
                        history.settings.get(done.key), task.settings
                    )
                elif not done.source.matches(line.source):
                    reason = "was made before its source changed"
                elif options.resume:
                    checked.append(replace(line, up_to_date=True))
                    continue
                else:
                    reason = "exists"
        if reason and not options.force:
            in_the_way.append((line.output, reason))
        checked.append(replace(line, task=replace(task, replaces=True)))
    if in_the_way:
        path, reason = in_the_way[0]
        others = len(in_the_way) - 1
        more = f", and {others} more {'are' if others > 1 else 'is'} in the way" if others else ""
        raise UsageError(
            f"{path} {reason}{more}; make them again with --force, or choose another output folder"
        )
    return checked


def _difference(then: dict[str, Any] | None, now: dict[str, Any]) -> str:
    changed = [name for name in now if then is not None and then.get(name) != now[name]]
    if then is None or not changed:
        return ""
    said = [
        "other references" if name == "references" else f"{name} {then.get(name)}, now {now[name]}"
        for name in changed
    ]
    return f" ({'; '.join(said)})"
