"""Published demo pages: the same pairs converted here, beside what the published outputs measured.

The manifest has a line for each pair and system: source, references, text, and the measures of the
published output (published_wer, published_similarity, published_distillmos) and of the source.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knnvc.errors import UsageError
from knnvc.evaluation.bench import MANIFEST
from knnvc.evaluation.plan import ENGLISH, Condition, Job, Source, Target, checked
from knnvc.evaluation.records import CONVERTED, COPY, SOURCE, Record

UNKNOWN = "und"  # the language of sources whose words nobody counted
NEEDED = ("system", "source", "references", "published_similarity", "published_distillmos")


@dataclass(frozen=True)
class Published:
    """What a published system's output measured on one pair; `pair` names source and target."""

    system: str
    pair: tuple[str, str]
    wer: float | None
    similarity: float
    distillmos: float


@dataclass(frozen=True)
class Compared:
    """Means over the pairs for which a system has published outputs, beside ours on these pairs.

    The WER is in per cent, each pair counts alike, and pairs whose words nobody counted are left
    out of it.
    """

    system: str
    pairs: int
    wer: float | None
    our_wer: float | None
    similarity: float
    our_similarity: float
    distillmos: float
    our_distillmos: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read_demos(folder: Path, settings: Sequence[Condition]) -> tuple[list[Job], list[Published]]:
    """The conversions to make, and what is published of them.

    Raises:
        UsageError: the manifest is missing or damaged.
    """
    path = folder / MANIFEST if folder.is_dir() else folder
    if not path.is_file():
        raise UsageError(f"there is no {path}: name the folder of the demos")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    counted = {row.get("source") for row in rows if row.get("published_wer")}
    jobs: dict[tuple[str, str], tuple[Source, Target]] = {}
    published = []
    for number, row in enumerate(rows, 1):
        if missing := [name for name in NEEDED if not row.get(name)]:
            raise UsageError(f"{path}, entry {number}: {missing[0]} is missing")
        language = ENGLISH if row["source"] in counted else UNKNOWN
        source = Source(path.parent / row["source"], row.get("text") or None, "", language)
        files = tuple(path.parent / name.strip() for name in row["references"].split(";"))
        target = Target(files[0], recordings=files)
        if absent := [one for one in (source.path, *files) if not one.is_file()]:
            raise UsageError(f"{path}, entry {number}: {absent[0]} does not exist")
        pair = (source.name, target.name)
        jobs.setdefault(pair, (source, target))
        try:
            wer = float(row["published_wer"]) if row.get("published_wer") else None
            similarity, mos = float(row[NEEDED[3]]), float(row[NEEDED[4]])
        except ValueError as error:
            raise UsageError(f"{path}, entry {number}: {error}") from error
        published.append(Published(row["system"], pair, wer, similarity, mos))
    made = [Job(*pair, condition) for condition in settings for pair in jobs.values()]
    return checked(made), published


def compare(records: Sequence[Record], published: Sequence[Published]) -> list[Compared]:
    """A row for each published system; first the source and copy-synthesis, on all pairs."""
    ours = {(one.source, one.target): one for one in records if one.system == CONVERTED}
    rows = []
    for system in (SOURCE, COPY):
        own = {(one.source, one.target): one for one in records if one.system == system}
        theirs = [Published(system, pair, *_measures(one)) for pair, one in own.items()]
        rows += [_compared(system, theirs, ours)] if theirs else []
    for system in dict.fromkeys(one.system for one in published):
        theirs = [one for one in published if one.system == system]
        rows.append(_compared(system, theirs, ours))
    return rows


def _compared(
    system: str, theirs: Sequence[Published], ours: dict[tuple[str, str], Record]
) -> Compared:
    own = [_measures(ours[one.pair]) for one in theirs]
    worded = [
        (one.wer, wer) for one, (wer, _, _) in zip(theirs, own, strict=True) if wer is not None
    ]
    counted = [one for one, _ in worded if one is not None]
    return Compared(
        system,
        len(theirs),
        100 * float(np.mean(counted)) if counted else None,
        100 * float(np.mean([wer for _, wer in worded])) if worded else None,
        float(np.mean([one.similarity for one in theirs])),
        float(np.mean([similarity for _, similarity, _ in own])),
        float(np.mean([one.distillmos for one in theirs])),
        float(np.mean([mos for _, _, mos in own])),
    )


def _measures(record: Record) -> tuple[float | None, float, float]:
    """WER (None if there are no words), similarity and DistillMOS of a record."""
    words = record.words
    wer = words.word_errors / words.words if words.words and not record.self_compared else None
    return wer, record.voice.target, record.distillmos
