"""Ask encoders every task; each result is written at once, and a stopped run goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knnvc import __version__
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.probing.base import (
    MIXTURE,
    OWN,
    Example,
    LayerScore,
    Places,
    Result,
    Task,
    check_examples,
    count_parts,
    digest,
)
from knnvc.evaluation.probing.custom import SUFFIXES, read_task
from knnvc.evaluation.probing.encoded import Encoded, Tell
from knnvc.evaluation.probing.kinds import KINDS, Deal, Findings, new_encoded
from knnvc.evaluation.probing.layers import Hearing
from knnvc.evaluation.probing.sound_tasks import SOUND_TASKS
from knnvc.evaluation.probing.speech_tasks import SPEECH_TASKS
from knnvc.files import atomic_path

TASKS: dict[str, Task] = {one.name: one for one in (*SPEECH_TASKS, *SOUND_TASKS)}
GROUPS = {
    "superb": [one.name for one in SPEECH_TASKS if one.benchmark.startswith("SUPERB")],
    "hear": [one.name for one in TASKS.values() if one.benchmark.startswith("HEAR")],
    "all": list(TASKS),
}


@dataclass(frozen=True)
class Options:
    """How to probe.

    Attributes:
        seeds: how often parts are dealt and heads learn.
        seed: the first of these, and of the bootstrap.
        force: throw away what was measured in another way.
    """

    seeds: int = 3
    seed: int = 0
    force: bool = False


def choose_tasks(names: Sequence[str]) -> list[Task]:
    """Tasks by name, by group ("superb", "hear", "all"), or from files of one's own.

    Raises:
        UsageError: there is no such task.
    """
    found: dict[str, Task] = {}
    for name in names or ["all"]:
        if name in GROUPS:
            found.update({one: TASKS[one] for one in GROUPS[name]})
        elif name in TASKS:
            found[name] = TASKS[name]
        elif Path(name).suffix in SUFFIXES:
            task = read_task(Path(name))
            if task.name in TASKS:
                raise UsageError(f"{name}: a task called {task.name} is there already; rename it")
            found[task.name] = task
        else:
            raise UsageError(
                f"there is no task {name!r}: choose among {', '.join([*GROUPS, *TASKS])}, or name "
                "a .csv or .py file of your own"
            )
    return list(found.values())


def probe_task(
    task: Task,
    hearing: Hearing,
    places: Places,
    options: Options,
    tell: Tell | None = None,
    deals: list[list[Example]] | None = None,
    encoded: Encoded | None = None,
) -> Result:
    """Ask one encoder one task.

    Args:
        task: what to ask.
        hearing: the encoder.
        places: where data lie.
        options: how.
        tell: is told the stage, what is done of it, and how much there is.
        deals: the examples of every seed, if they are there already.
        encoded: what was encoded for a task before.

    Raises:
        KnnvcError: the data do not suffice; `UsageError` if they are not there.
    """
    deals = deals or dealt_examples(task, places, options)
    kind = KINDS[task.kind]
    encoded = encoded or new_encoded(task.kind, hearing)
    encoded.take([one for examples in deals for one in examples], tell)
    found = Findings()
    for number, examples in enumerate(deals):
        step = _telling(tell, number, len(deals))
        kind.run(Deal(task, examples, encoded, options.seed + number, step), found)
    shares = {
        layer: float(np.mean([one[layer] for one in found.shares]))
        for layer in (found.shares[0] if found.shares else {})
    }
    names = [*found.dims]
    if shares:
        names.append(MIXTURE)
    dims = {**found.dims, MIXTURE: max(found.dims.values())}
    scores = [
        LayerScore(name, dims[name], found.estimate(name, options.seed), shares.get(name))
        for name in names
    ]
    return Result(
        task.name,
        task.benchmark,
        kind.metric,
        kind.better,
        found.chance,
        hearing.name,
        count_parts(deals[0]),
        scores,
    )


def dealt_examples(task: Task, places: Places, options: Options) -> list[list[Example]]:
    """The examples of every seed.

    Raises:
        KnnvcError: they do not suffice; `UsageError` if they are not there.
    """
    deals = [task.examples(places, options.seed + number) for number in range(options.seeds)]
    for examples in deals:
        check_examples(task, examples)
    return deals


def probe_all(
    tasks: Sequence[Task],
    hearings: Sequence[tuple[str, Callable[[], Hearing]]],
    places: Places,
    folder: Path,
    options: Options,
    tell: Callable[[str, int, int], None],
    skipped: Callable[[str], None],
) -> list[Result]:
    """Ask all encoders all tasks; what `folder` holds already is not asked again.

    Args:
        tasks: what to ask. A task of SUPERB or HEAR whose data are not there is skipped.
        hearings: names of encoders, and what loads them.
        places: where data lie.
        folder: of the results, a file for each encoder and task.
        options: how.
        tell: is told the stage, what is done of it, and how much there is.
        skipped: is told, in a sentence, which task is left out.

    Raises:
        UsageError: a result was measured in another way, or no task is left.
        KnnvcError: a recording cannot be used.
    """
    results: list[Result] = []
    ready: dict[str, list[list[Example]]] = {}
    for task in tasks:
        try:
            ready[task.name] = dealt_examples(task, places, options)
        except KnnvcError as error:
            if task.benchmark == OWN or len(tasks) == 1:
                raise
            skipped(f"the task {task.name} is left out: {error}")
    if not ready:
        raise UsageError("there are no data for any of the tasks: see docs/probing.md")
    for name, load in hearings:
        hearing = load()
        kept: dict[object, Encoded] = {}
        for task in tasks:
            if task.name not in ready:
                continue
            path = result_path(folder, name, task.name)
            settings = _settings(hearing, ready[task.name], options)
            found = _known(path, settings, options.force)
            if found is None:
                stage = _named(tell, f"{name}, {task.name}")
                keep = KINDS[task.kind].keep
                encoded = kept.setdefault(keep, Encoded(hearing, keep))
                deals = ready[task.name]
                found = probe_task(task, hearing, places, options, stage, deals, encoded)
                with atomic_path(path) as temporary:
                    written = {"settings": settings, **found.to_dict()}
                    text = json.dumps(written, indent=1, ensure_ascii=False)
                    temporary.write_text(text + "\n", encoding="utf-8")
            results.append(found)
    return results


def _named(tell: Tell, about: str) -> Tell:
    return lambda stage, done, total: tell(f"{about}: {stage}", done, total)


def _telling(tell: Tell | None, number: int, count: int) -> Callable[[int, int], None] | None:
    """Steps of the deal `number` of `count`."""
    if tell is None:
        return None
    return lambda done, total: tell("learning", number * total + done, count * total)


def result_path(folder: Path, encoder: str, task: str) -> Path:
    """Where the result of an encoder and a task lies."""
    return folder / "results" / re.sub(r"[^\w.@+-]+", "-", encoder) / f"{task}.json"


def read_results(folder: Path) -> list[Result]:
    """All results of a folder, by encoder and then in the order of `TASKS`.

    Raises:
        UsageError: there is none.
        KnnvcError: one is damaged.
    """
    found = []
    for path in sorted(folder.glob("results/*/*.json")):
        found.append(_read(path)[1])
    if not found:
        raise UsageError(f"{folder} holds no results of probing: make some with `knnvc probe run`")
    places = {name: number for number, name in enumerate(TASKS)}
    return sorted(found, key=lambda one: (one.encoder, places.get(one.task, 99), one.task))


def _read(path: Path) -> tuple[dict[str, Any], Result]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings = values.pop("settings")
        return settings, Result.from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KnnvcError(f"{path} is damaged: remove it, and probe again") from error


def _settings(hearing: Hearing, deals: list[list[Example]], options: Options) -> dict[str, Any]:
    told = asdict(options)
    told.pop("force")
    return {
        "knnvc": __version__,
        "encoder": hearing.encoder.fingerprint,
        **told,
        "data": [digest(examples) for examples in deals],
    }


def _known(path: Path, settings: dict[str, Any], force: bool) -> Result | None:
    """The result in `path`, if it was measured in this way."""
    if force or not path.is_file():
        return None
    before, found = _read(path)
    changed = [key for key in settings if before.get(key) != settings[key]]
    if changed:
        raise UsageError(
            f"{path.parent.name}/{path.name} was measured with another {changed[0]}: choose "
            "another folder, or measure again with --force"
        )
    return found
