"""A task of one's own: one CSV file whose columns say what kind it is, or one Python file.

| columns | kind |
|---|---|
| file, label | a label for each recording |
| file, value | a number for each recording |
| file, speaker | verification |
| file, text | phones of English text |
| file, units | units, separated by spaces |
| file, label, start, end | events |

`part` (train, valid, test) and `group` (what the bootstrap draws, and what is never split) are
optional everywhere. A Python file defines `TASK`, a `knnvc.evaluation.probing.base.Task`.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knnvc.errors import UsageError
from knnvc.evaluation.probing.base import (
    CLASSIFY,
    EVENTS,
    OWN,
    PARTS,
    RECOGNISE,
    REGRESS,
    TEST,
    TRAIN,
    VERIFY,
    Event,
    Example,
    Places,
    Task,
    dealt,
)
from knnvc.evaluation.probing.speech_tasks import phones_of

SUFFIXES = (".csv", ".py")
OPTIONAL = {"part", "group"}
COLUMNS: dict[frozenset[str], str] = {
    frozenset({"file", "label", "start", "end"}): EVENTS,
    frozenset({"file", "label"}): CLASSIFY,
    frozenset({"file", "value"}): REGRESS,
    frozenset({"file", "speaker"}): VERIFY,
    frozenset({"file", "text"}): RECOGNISE,
    frozenset({"file", "units"}): RECOGNISE,
}


def read_task(path: Path) -> Task:
    """The task that a file describes.

    Raises:
        UsageError: it does not exist, or is no task; the message says what is missing.
    """
    if not path.is_file():
        raise UsageError(f"the task {path} does not exist; check the path")
    return _python(path) if path.suffix == ".py" else _table(path)


def _python(path: Path) -> Task:
    spec = importlib.util.spec_from_file_location(f"knnvc_task_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} cannot be run ({type(error).__name__}: {error})") from error
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise UsageError(f"{path} defines no TASK: make it a knnvc.evaluation.probing.base.Task")
    return task


def _table(path: Path) -> Task:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path} is no CSV: {error}") from error
    if not rows:
        raise UsageError(f"{path} has no rows: give it a header and a row for each recording")
    columns = {str(name) for name in rows[0]}
    kind = COLUMNS.get(frozenset(columns - OPTIONAL))
    if kind is None:
        raise UsageError(
            f"{path.name} has the columns {', '.join(sorted(columns))[:60]}: a task needs file and "
            "label, value, speaker, text or units; or file, label, start and end"
        )
    examples = _examples(path, rows, kind)

    def deal(_: Places, seed: int) -> list[Example]:
        return _dealt(examples, kind, seed)

    return Task(path.stem, OWN, kind, f"a task of your own: {path.name}", str(path), "", deal)


def _examples(path: Path, rows: list[dict[str, Any]], kind: str) -> list[Example]:
    found: dict[str, Example] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        name = row.get("file") or ""
        recording = path.parent / name
        if not name or not recording.is_file():
            raise UsageError(f"{where}: {name!r} does not exist; check the path")
        part, group = row.get("part") or "", row.get("group") or ""
        if part and part not in PARTS:
            raise UsageError(f"{where}: the part is {part!r}; give {', '.join(PARTS)}")
        target = _target(where, row, kind)
        if kind == EVENTS and name in found:
            target = (*found[name].target, *target)
        elif name in found:
            raise UsageError(f"{where}: {name!r} is there twice")
        found[name] = Example(name, recording, target, part, group)
    parted = sum(bool(one.part) for one in found.values())
    if parted not in (0, len(found)):
        raise UsageError(f"{path}: give every row a part, or none")
    return list(found.values())


def _target(where: str, row: Mapping[str, Any], kind: str) -> Any:
    """What is to be said of a recording."""
    try:
        if kind == REGRESS:
            return np.array([float(row["value"])], np.float32)
        if kind == EVENTS:
            if not row["label"]:
                return ()
            event = Event(float(row["start"]), float(row["end"]), row["label"])
            if not 0 <= event.start < event.end:
                raise ValueError("an event ends after it starts")
            return (event,)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: a number is missing or wrong ({error})") from error
    if kind == RECOGNISE:
        units = tuple((row.get("units") or "").split()) or phones_of(row.get("text") or "")
        if not units:
            raise UsageError(f"{where}: there is nothing said")
        return units
    label = (row.get("label") or row.get("speaker") or "").strip()
    if not label:
        raise UsageError(f"{where}: the label is missing")
    return label


def _dealt(examples: list[Example], kind: str, seed: int) -> list[Example]:
    """Parts as they are written, or drawn: by label, and never through a group."""
    if examples[0].part:
        return [replace(one, part=one.part) for one in examples]
    by_label: dict[str, list[str]] = {}
    for one in examples:
        label = one.target if kind == CLASSIFY else ""
        group = one.target if kind == VERIFY else one.group or one.name
        own = by_label.setdefault(label, [])
        if group not in own:
            own.append(group)
    parts: dict[str, str] = {}
    for groups in by_label.values():
        for group, part in zip(groups, dealt(groups, seed), strict=True):
            parts.setdefault(group, part)
    made = []
    for one in examples:
        group = one.target if kind == VERIFY else one.group or one.name
        part = parts[group]
        if kind == VERIFY:
            part = TEST if part == TEST else TRAIN
        made.append(replace(one, part=part))
    return made
