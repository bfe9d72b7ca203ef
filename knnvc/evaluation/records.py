"""What a run writes: one record for each waveform, one line each in `records.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path

RECORDS = "records.jsonl"
SETTINGS = "settings.json"
SOURCE, COPY, CONVERTED = "source", "copy-synthesis", "converted"
WORLD, GRIFFIN_LIM = "copy-synthesis by WORLD", "copy-synthesis by Griffin-Lim"
YARDSTICKS = (SOURCE, COPY, WORLD, GRIFFIN_LIM)


@dataclass(frozen=True)
class Recognised:
    """What a recogniser heard, against what is said.

    Attributes:
        heard: words.
        words, word_errors, characters, character_errors: all 0 where words are not counted.
        source_word_errors, source_character_errors: of the source itself.
    """

    heard: str
    words: int
    word_errors: int
    characters: int
    character_errors: int
    source_word_errors: int
    source_character_errors: int


@dataclass(frozen=True)
class Likeness:
    """Cosine similarities by a verifier.

    Attributes:
        target: to the centroid of the target's trials.
        source: to the source.
        source_to_target: of the source itself to the target.
        scores: to each of the target's trials.
    """

    target: float
    source: float
    source_to_target: float
    scores: list[float]


@dataclass(frozen=True)
class Record:
    """What was measured on one waveform that should sound like `target`.

    Of the systems (`YARDSTICKS` and `CONVERTED`), `source` is the recording itself, and
    `copy-synthesis` encodes and vocodes it without matching, or lets a classical vocoder analyse
    and rebuild it; these are compared with the target all the same.

    Attributes:
        system: one of `YARDSTICKS`, or `CONVERTED`.
        condition: label of the condition; empty for the yardsticks.
        settings: lam, k and seconds of the condition, as far as set; empty for the yardsticks.
        source: name of the source.
        speaker: who speaks in the source.
        target: name of the target.
        group: the groups of source and target, for tables.
        audio: file of the waveform, relative to the results' folder.
        said: the transcript as `plain` writes it; empty if there is none. Then the words are
            compared with those that the same recogniser hears in the source.
        recognised: by recogniser, the first one first.
        likeness: by verifier, the first one first.
        distillmos, dnsmos: 1 to 5.
        pitch: correlation of log f0 with the source; None where hardly anything is voiced.
        seconds: of the waveform.
        reference_seconds: of references that were really used; None for the yardsticks.
        compute_seconds: to encode, match and vocode, the matching set being there.
    """

    system: str
    condition: str
    settings: dict[str, float]
    source: str
    speaker: str
    target: str
    group: str
    audio: str
    said: str
    recognised: dict[str, Recognised]
    likeness: dict[str, Likeness]
    distillmos: float
    dnsmos: float
    pitch: float | None
    seconds: float
    reference_seconds: float | None
    compute_seconds: float | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies it within a run."""
        return self.system, self.condition, self.source, self.target

    @property
    def words(self) -> Recognised:
        """By the first recogniser."""
        return next(iter(self.recognised.values()))

    @property
    def voice(self) -> Likeness:
        """By the first verifier."""
        return next(iter(self.likeness.values()))

    @property
    def self_compared(self) -> bool:
        """Whether its words were compared with themselves: a source without a transcript."""
        return self.system == SOURCE and not self.said

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """What `asdict` made plain.

        Raises:
            TypeError, AttributeError: these are not the values of a record.
        """
        recognised = {name: Recognised(**one) for name, one in values.pop("recognised").items()}
        likeness = {name: Likeness(**one) for name, one in values.pop("likeness").items()}
        return cls(**values, recognised=recognised, likeness=likeness)


@dataclass(frozen=True)
class TargetFacts:
    """A target as it was used.

    `real_scores` are, by verifier, the cosines of all pairs of its trials; `audio` is one of these,
    relative to the results' folder.
    """

    name: str
    audio: str
    group: str
    references: list[str]
    trials: list[str]
    overlap: bool
    real_scores: dict[str, list[float]]


def line_of(record: Record) -> str:
    """A record as a line of `records.jsonl`."""
    return json.dumps(asdict(record), ensure_ascii=False) + "\n"


def read_records(path: Path) -> list[Record]:
    """The records of a run, also of one that was stopped while it wrote a line.

    Raises:
        KnnvcError: a line in between is damaged.
    """
    if not path.exists():
        return []
    *whole, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:  # mend it, or the next record would be written behind the torn one
        path.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    try:
        return [Record.from_dict(json.loads(line)) for line in whole]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KnnvcError(f"{path} is damaged; evaluate again with --force") from error


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new run; a run that goes on must have the same.

    Raises:
        UsageError: they are not, so its records could not be compared with new ones.
    """
    path, text = folder / SETTINGS, json.dumps(dict(settings), indent=1, ensure_ascii=False) + "\n"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else dict(settings)
    if changed := sorted(
        key for key in {*before, *settings} if before.get(key) != settings.get(key)
    ):
        raise UsageError(
            f"{folder} holds results with another {changed[0]} ({before.get(changed[0])!r}): "
            "choose another folder, or start over with --force"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
