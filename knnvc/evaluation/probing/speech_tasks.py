"""SUPERB-style tasks on a folder of speech: `train/` and `eval/`, each with a manifest.csv.

SUPERB: Yang et al. 2021, https://arxiv.org/abs/2105.01051; SUPERB-prosody: Lin et al. 2022,
https://arxiv.org/abs/2210.07185. Every deviation is a task's `deviations`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from knnvc.errors import UsageError
from knnvc.evaluation.probing.base import (
    CLASSIFY,
    HEAR,
    QUERY,
    RECOGNISE,
    REGRESS,
    SUPERB,
    TEST,
    TRAIN,
    VALID,
    VERIFY,
    Example,
    Floats,
    Places,
    Task,
    dealt,
)
from knnvc.evaluation.probing.encoded import wave_16k
from knnvc.text.espeak import phonemize
from knnvc.text.phones import LENGTHENING, PUNCTUATION, STRESS

WORD_SECONDS = 4.0  # recordings of single words are no longer
LEAST_WORDS = 40  # recordings of a word that is a class of its own; rarer ones are "other"
MOST_WORDS = 60  # of one class
OTHER = "other"
LEAST_TRANSCRIBED = 20  # utterances of a reader who serves for phone recognition
MOST_SECONDS = 12.0  # of an utterance to recognise
UTTERANCES = 120  # of phone recognition, for training
PIECE = 2.5  # seconds of a reader's utterance that are one example
PIECES = 4
READERS = 60  # of whom pitch and level are read
READ_SECONDS = 5.0
QUERIES = 4  # of each word
LEAST_QUERIED = 12  # recordings that hold a word which is asked for


@dataclass(frozen=True)
class Line:
    """A line of a manifest."""

    speaker: str
    path: Path
    seconds: float
    text: str


def read_manifest(folder: Path) -> list[Line]:
    """The lines of `folder`/manifest.csv whose recordings are there.

    Raises:
        UsageError: there is no such file, or it lacks a column.
    """
    path = folder / "manifest.csv"
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist: name a folder of speech with --speech (docs/probing.md says "
            "what is in it)"
        )
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        lines = [
            Line(
                row["speaker"],
                folder / row["file"],
                float(row.get("seconds") or 0),
                (row.get("text") or "").strip(),
            )
            for row in rows
        ]
    except (KeyError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} is no manifest ({error}): it needs columns speaker, file, seconds and text"
        ) from error
    return sorted((one for one in lines if one.path.is_file()), key=lambda one: str(one.path))


def phones_of(text: str, language: str = "en-us") -> tuple[str, ...]:
    """The phones of a text by espeak-ng, without stress; length marks stay with their phone."""
    found: list[str] = []
    for sign in phonemize(text.lower(), language):
        if sign in LENGTHENING and found:
            found[-1] += sign
        elif not (sign.isspace() or sign in STRESS or sign in PUNCTUATION or sign in LENGTHENING):
            found.append(sign)
    return tuple(found)


# Content ------------------------------------------------------------------------------------------


def phone_examples(places: Places, seed: int) -> list[Example]:
    """Utterances of readers with many transcripts; the speakers of `eval/` are the test."""
    lines = [one for one in read_manifest(places.speech / "train") if one.text]
    counts = Counter(one.speaker for one in lines if one.seconds > WORD_SECONDS)
    own = [
        one
        for one in lines
        if counts[one.speaker] >= LEAST_TRANSCRIBED and 1.0 < one.seconds <= MOST_SECONDS
    ]
    rng = np.random.default_rng(seed)
    drawn = [own[i] for i in rng.permutation(len(own))[: UTTERANCES + UTTERANCES // 6]]
    parts = [VALID] * (len(drawn) // 7) + [TRAIN] * (len(drawn) - len(drawn) // 7)
    test = [one for one in read_manifest(places.speech / "eval") if one.text]
    made = [_said(one, part) for one, part in zip(drawn, parts, strict=True)]
    return _few([*made, *(_said(one, TEST) for one in test)], places, seed)


def _said(line: Line, part: str) -> Example:
    return Example(_name(line), line.path, phones_of(line.text), part)


def words(places: Places) -> list[tuple[Line, str]]:
    """Recordings of single words or phrases with their words, in lower case."""
    lines = read_manifest(places.speech / "train")
    return [
        (one, re.sub(r"\s+", " ", one.text.lower()))
        for one in lines
        if one.text and one.seconds <= WORD_SECONDS and len(one.text.split()) <= 3
    ]


def keyword_examples(places: Places, seed: int) -> list[Example]:
    """Each frequent word is a class; all rarer ones are "other"."""
    found = words(places)
    counts = Counter(word for _, word in found)
    rng = np.random.default_rng(seed)
    by_class: dict[str, list[Line]] = {}
    for line, word in found:
        by_class.setdefault(word if counts[word] >= LEAST_WORDS else OTHER, []).append(line)
    made = []
    for label, lines in sorted(by_class.items()):
        drawn = [lines[i] for i in rng.permutation(len(lines))[:MOST_WORDS]]
        parts = dealt([one.path.name for one in drawn], seed)
        made += [
            Example(_name(one), one.path, label, part)
            for one, part in zip(drawn, parts, strict=True)
        ]
    return _few(made, places, seed)


def query_examples(places: Places, seed: int) -> list[Example]:
    """Queries of each word that several recordings hold, also inside a phrase."""
    found = words(places)
    rng = np.random.default_rng(seed)
    drawn: list[tuple[Line, str]] = []
    for word in sorted({word for _, word in found}):
        own = [one for one in found if one[1] == word]
        drawn += [own[i] for i in rng.permutation(len(own))[: MOST_WORDS // 3]]
    texts = [word for _, word in drawn]
    asked = [
        word
        for word in sorted({one for text in texts for one in text.split()})
        if sum(word in text.split() for text in texts) >= LEAST_QUERIED and word in texts
    ]
    made = []
    for line, text in drawn:
        held = tuple(sorted(set(text.split())))
        made.append(Example(_name(line), line.path, text, TEST, contains=held))
    queries = []
    for word in asked:
        heard = [one for one in made if one.target == word][:QUERIES]
        queries += [replace(one, part=TRAIN, group=f"{word} {one.name}") for one in heard]
    return [*made, *queries]


# Speaker ------------------------------------------------------------------------------------------


def speaker_examples(places: Places, seed: int) -> list[Example]:
    """Pieces of readers' single utterances: some to learn from, one to choose by, the last."""
    made = []
    for line in _readers(places):
        pieces = _pieces(line, PIECES)
        parts = [TRAIN] * (PIECES - 2) + [VALID, TEST]
        made += [replace(one, part=part) for one, part in zip(pieces, parts, strict=True)]
    labels = sorted({one.target for one in made})
    if places.most:
        rng = np.random.default_rng(seed)
        kept = {labels[i] for i in rng.permutation(len(labels))[: max(2, places.most // PIECES)]}
        made = [one for one in made if one.target in kept]
    return made


def verification_examples(places: Places, seed: int) -> list[Example]:
    """Pieces of readers to learn from; all utterances of the speakers of `eval/` are compared."""
    made = [one for line in _readers(places) for one in _pieces(line, PIECES)]
    test = [
        Example(_name(one), one.path, one.speaker, TEST)
        for one in read_manifest(places.speech / "eval")
    ]
    if places.most:
        names = sorted({one.target for one in made})[: max(2, places.most // PIECES)]
        made = [one for one in made if one.target in names]
        test = test[:: max(1, len(test) // places.most)]
    return [*made, *test]


def _readers(places: Places) -> list[Line]:
    """One long enough utterance of every reader who has a name of their own."""
    found: dict[str, Line] = {}
    for line in read_manifest(places.speech / "train"):
        if line.seconds >= PIECE * PIECES and ":" not in line.speaker:
            found.setdefault(line.speaker, line)
    return [found[name] for name in sorted(found)]


def _pieces(line: Line, count: int) -> list[Example]:
    return [
        Example(
            f"{_name(line)}#{number}", line.path, line.speaker, TRAIN, line.speaker,
            number * PIECE, PIECE,
        )
        for number in range(count)
    ]  # fmt: skip


# Prosody ------------------------------------------------------------------------------------------


def log_pitch(one: Example) -> Floats:
    """log2 of f0 in Hz every 20 ms [T], NaN where unvoiced."""
    from knnvc.audio.pitch import f0_track

    wave = wave_16k(one)
    f0 = f0_track(wave, max(1, len(wave) // 320)).astype(np.float32)
    with np.errstate(divide="ignore"):
        found: Floats = np.where(f0 > 0, np.log2(f0), np.nan).astype(np.float32)
    return found


def level(one: Example) -> Floats:
    """Level in dB every 20 ms [T]."""
    wave = wave_16k(one)
    count = max(1, len(wave) // 320)
    blocks = np.pad(wave, (0, 320))[: count * 320].reshape(count, 320)
    found: Floats = (10 * np.log10(np.square(blocks).mean(1) + 1e-8)).astype(np.float32)
    return found


def pitch_examples(places: Places, seed: int) -> list[Example]:
    """log2 f0 of readers; the test has other readers."""
    return _prosody(places, seed, log_pitch)


def level_examples(places: Places, seed: int) -> list[Example]:
    """Level in dB of readers; the test has other readers."""
    return _prosody(places, seed, level)


def _prosody(places: Places, seed: int, target: object) -> list[Example]:
    lines = _readers(places)
    rng = np.random.default_rng(seed)
    drawn = [lines[i] for i in sorted(rng.permutation(len(lines))[:READERS])]
    parts = dealt([one.speaker for one in drawn], seed)
    made = [
        Example(_name(one), one.path, target, part, one.speaker, 0.0, READ_SECONDS)
        for one, part in zip(drawn, parts, strict=True)
    ]
    return _few(made, places, seed)


# --------------------------------------------------------------------------------------------------


def _name(line: Line) -> str:
    return "/".join(line.path.parts[-3:])


def _few(examples: Sequence[Example], places: Places, seed: int) -> list[Example]:
    """At most `places.most` examples, with shares of parts and labels as they are."""
    if not places.most or len(examples) <= places.most:
        return list(examples)
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[Example]] = {}
    for one in examples:
        label = one.target if isinstance(one.target, str) else ""
        groups.setdefault((one.part, label), []).append(one)
    share = places.most / len(examples)
    kept = []
    for own in groups.values():
        count = max(2, round(share * len(own)))
        kept += [own[i] for i in sorted(rng.permutation(len(own))[:count])]
    return kept


SPEECH_TASKS = (
    Task(
        "phones", SUPERB, RECOGNISE,
        "phone recognition (PR): which phones are said",
        f"{UTTERANCES} transcribed utterances of few readers; seven other readers to test",
        "two readers to learn from instead of 251 (LibriSpeech train-clean-100); phones by "
        "espeak-ng; 300 steps",
        phone_examples,
    ),
    Task(
        "keywords", SUPERB, CLASSIFY,
        "keyword spotting (KS): which of a few words is said",
        "recordings of single words by volunteers; rare words are the class \"other\"",
        "six words instead of Speech Commands' ten, no silence; speakers are not known, so one may "
        "be in two parts, and words come from different collections",
        keyword_examples,
    ),
    Task(
        "commands", HEAR, CLASSIFY,
        "commands (HEAR's Speech Commands): as `keywords`, with HEAR's head",
        "as `keywords`",
        "as `keywords`; one hidden layer of 256 instead of a search over sizes and rates",
        keyword_examples,
        hidden=256,
    ),
    Task(
        "queries", SUPERB, QUERY,
        "query by example (QbE): which recordings hold a spoken word",
        "the same single words and short phrases, English and Spanish",
        "these recordings instead of QUESST 2014; the threshold is chosen on the test, as MTWV "
        "is; silence is not cut",
        query_examples,
    ),
    Task(
        "speakers", SUPERB, CLASSIFY,
        "speaker identification (SID): who of those heard before",
        f"{PIECES} pieces of {PIECE:g} s of one utterance of each of some 240 readers",
        "all pieces of a reader come of one recording, so the room helps; VoxCeleb1 has 1,251 "
        "people in many",
        speaker_examples,
    ),
    Task(
        "verification", SUPERB, VERIFY,
        "speaker verification (ASV): whether two recordings are of one person",
        "learns from the pieces of `speakers`; all pairs of 70 utterances of seven other readers",
        "mean and spread of frames into a bottleneck of 128 with cross-entropy, instead of an "
        "x-vector with an additive margin",
        verification_examples,
    ),
    Task(
        "pitch", SUPERB, REGRESS,
        "pitch (SUPERB-prosody): log2 f0 of voiced frames",
        f"{READ_SECONDS:g} s of {READERS} readers, others to test",
        "R² instead of the mean squared error; DIO and StoneMask say the truth",
        pitch_examples,
    ),
    Task(
        "level", SUPERB, REGRESS,
        "energy (SUPERB-prosody): level of frames in dB",
        f"{READ_SECONDS:g} s of {READERS} readers, others to test",
        "R² instead of the mean squared error",
        level_examples,
    ),
)  # fmt: skip
