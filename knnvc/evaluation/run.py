"""A whole evaluation: measure every job, and write records, results.json, a table and a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from knnvc import VoiceConverter, __version__
from knnvc.evaluation import page
from knnvc.evaluation.demos import Compared, Published, compare
from knnvc.evaluation.instruments import Listener
from knnvc.evaluation.measure import VOCODERS, Evaluation, Progress
from knnvc.evaluation.plan import Job
from knnvc.evaluation.records import (
    RECORDS,
    SETTINGS,
    YARDSTICKS,
    Record,
    TargetFacts,
    check_settings,
)
from knnvc.evaluation.summary import Row, SpeakerRow, by_speaker, columns, summarise
from knnvc.evaluation.tables import FORMATS, rendered
from knnvc.files import atomic_path, sha256_file

RESULTS, PAGE, TABLE = "results.json", "index.html", "table"


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        seed: of the choice of recordings, and of the bootstrap.
        classical: measure copy-synthesis by WORLD and Griffin-Lim, too.
        published: what the jobs are compared with, if they are demos.
    """

    seed: int = 0
    classical: bool = True
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Results:
    """All that was measured and what follows from it."""

    records: list[Record]
    targets: list[TargetFacts]
    rows: list[Row]
    speakers: list[SpeakerRow]
    demos: list[Compared]
    facts: dict[str, Any]


def clear(folder: Path) -> None:
    """Remove the records of an earlier run, and its audio."""
    for name in (RECORDS, SETTINGS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "audio", ignore_errors=True)


def evaluate(
    jobs: Sequence[Job],
    converter: VoiceConverter,
    listener: Listener,
    folder: Path,
    options: Options,
    progress: Progress,
) -> Results:
    """Measure all jobs; what `folder` holds already is not measured again.

    Args:
        jobs: what to convert.
        converter: what is measured.
        listener: the instruments.
        folder: of the results.
        options: how.
        progress: told what is done.

    Raises:
        KnnvcError: a recording cannot be used, or `folder` holds other results.
    """
    # Parts that were put together by hand have no files to name.
    found = sorted(converter.preset.folder.iterdir()) if converter.preset else []
    weights = [path for path in found if path.suffix == ".safetensors"]
    settings: dict[str, Any] = {
        "knnvc": __version__,
        "preset": converter.name,
        "weights": {path.name: sha256_file(path) for path in weights},
        "seed": options.seed,
        "reference_seconds": max(job.condition.seconds for job in jobs),
        "instruments": listener.names(),
    }
    check_settings(folder, settings)
    systems = [name for name in YARDSTICKS if options.classical or name not in VOCODERS]
    evaluation = Evaluation(converter, listener, folder, options.seed, systems)
    records = evaluation.run(jobs, progress)
    rows = summarise(records, evaluation.targets, options.seed)
    facts = {
        **settings,
        "preset_bytes": sum(path.stat().st_size for path in found),
        "threads": torch.get_num_threads(),
        "confidence": "95 %, percentile bootstrap over source utterances",
    }
    speakers = by_speaker(records, rows, options.seed)
    demos = compare(records, options.published) if options.published else []
    return Results(records, evaluation.targets, rows, speakers, demos, facts)


def write(results: Results, folder: Path, style: str = "text") -> str:
    """Write results.json, the page and the table into `folder`; the table as text.

    `style` is one of `FORMATS`; "text" leaves no file.
    """
    measures = columns(results.records)
    values = {
        **results.facts,
        "measures": {measure.key: measure.about for measure in measures},
        "targets": [
            {"name": one.name, "trials": len(one.trials), "trials_are_references": one.overlap}
            for one in results.targets
        ],
        "rows": [row.to_dict() for row in results.rows],
        "source_speakers": [row.to_dict() for row in results.speakers],
        "demos": [row.to_dict() for row in results.demos],
        "lines": [
            {**vars(one), "recognised": _plain(one.recognised), "likeness": _plain(one.likeness)}
            for one in results.records
        ],
    }
    _save(folder / RESULTS, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    made = rendered(style, results.rows, measures, results.speakers, results.demos)
    if suffix := FORMATS[style][0]:
        _save(folder / f"{TABLE}{suffix}", made)
    _save(folder / PAGE, page.build(results, measures))
    return made


def _plain(named: dict[str, Any]) -> dict[str, Any]:
    return {name: vars(one) for name, one in named.items()}


def _save(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
