"""Real readers for the corpus: speech with or without texts, its phones aligned by force.

Where a recording has no text, Whisper base writes it down. espeak-ng says which phones the words
have, in American and in British English. The phone posteriors of a preset's encoder then say which
frames are which phone: the likeliest path through the phones in their order (Viterbi), each third
of a phone a state, with silence where it is heard between words. The accent of the two whose path
is likelier is kept.

T frames of 20 ms, S states of an utterance.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from knnvc.audio import SAMPLE_RATE
from knnvc.audio.pitch import VOICED
from knnvc.encoders.base import Columns
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path
from knnvc.mini.encoder import MiniEncoder
from knnvc.text.lines import read
from knnvc.text.phones import FRAME, PHONES, STATES
from knnvc.training.aligned import DURATION_UNIT
from recipe.recordings import prepare

FOLDER = "people"
TABLE = "alignments-people.jsonl"
PEOPLE = "people.jsonl"  # recordings and texts, before they are aligned
ACCENTS = ("en-us", "en-gb")
FLOOR = 1e-4  # probability of a state that the encoder rules out
LEAST_LIKELY = -2.0  # mean natural logarithm of a path's states: below it, text and speech differ
SHORTEST = 1.0  # seconds
MOST_ALIKE = 10  # recordings of one text: single words are said hundreds of times
HELD_OUT_EVERY = 13  # of the readers with one recording each, to be judged by
SIGN_OF_SILENCE = ","

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """One recording of a list: where it lies, who speaks, and the words, if they are known."""

    path: Path
    speaker: str
    text: str


def listed(folder: Path) -> list[Recording]:
    """What `folder/manifest.csv` lists (columns `file`, `speaker`, `text`); else LibriSpeech.

    LibriSpeech is told by its layout, `SPEAKER/CHAPTER/*.flac` with `*.trans.txt` beside them.

    Raises:
        UsageError: the folder holds neither.
    """
    table = folder / "manifest.csv"
    if table.exists():
        with table.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return [Recording(folder / r["file"], r["speaker"], r.get("text") or "") for r in rows]
    found = []
    for texts in sorted(folder.rglob("*.trans.txt")):
        for line in texts.read_text(encoding="utf-8").splitlines():
            name, _, words = line.partition(" ")
            path = texts.parent / f"{name}.flac"
            found.append(Recording(path, texts.parent.parent.name, words.lower()))
    if not found:
        raise UsageError(f"{folder} holds neither manifest.csv nor LibriSpeech's *.trans.txt")
    return found


def path_through(likely: Floats, states: Indices, skippable: npt.NDArray[np.bool_]) -> Indices:
    """The likeliest way [T] through `states` [S] in their order, as indices into them.

    Args:
        likely: [T, STATES] natural logarithms of probabilities.
        states: [S] that are met in this order, each for one frame or more.
        skippable: [S], True for those that may be left out.

    Raises:
        KnnvcError: there are fewer frames than states that must be met.
    """
    count, length = len(likely), len(states)
    score = np.full(length, -np.inf, np.float32)
    first = 1 + int(skippable[0])
    score[:first] = likely[0, states[:first]]
    came = np.zeros((count, length), np.int8)
    leap = np.zeros(length, bool)
    leap[2:] = skippable[1:-1]
    for frame in range(1, count):
        options = np.full((3, length), -np.inf, np.float32)
        options[0] = score
        options[1, 1:] = score[:-1]
        options[2, 2:] = np.where(leap[2:], score[:-2], -np.inf)
        best = options.argmax(0)
        score = np.take_along_axis(options, best[None], 0)[0] + likely[frame, states]
        came[frame] = best
    at = length - 1
    if skippable[-1] and length > 1 and score[-2] > score[-1]:
        at = length - 2
    if not np.isfinite(score[at]):
        raise KnnvcError("the recording is shorter than its words")
    path = np.empty(count, np.int64)
    for frame in range(count - 1, -1, -1):
        path[frame] = at
        at -= int(came[frame, at])
    return path


def align(posteriors: Floats, words: list[str]) -> tuple[list[str], list[float], float]:
    """Phones and silences in order, their lengths in frames, and how likely the path is.

    The likelihood is the mean natural logarithm of the probabilities of the phones on the way.

    Args:
        posteriors: [T, STATES] probabilities.
        words: the phones of each word, signs of `PHONES`.
    """
    number = {phone: index for index, phone in enumerate(PHONES)}
    signs, states, skippable, unit = [SIGN_OF_SILENCE], [0], [True], [0]
    for word in words:
        for phone in word:
            signs.append(phone)
            states += [1 + 3 * number[phone] + third for third in range(3)]
            skippable += [False, True, False]
            unit += [len(signs) - 1] * 3
        signs.append(SIGN_OF_SILENCE)
        states.append(0)
        skippable.append(True)
        unit.append(len(signs) - 1)
    likely = np.log(np.maximum(posteriors, FLOOR)).astype(np.float32)
    path = path_through(likely, np.array(states), np.array(skippable))
    taken = np.array(states)[path]
    spoken = np.flatnonzero(taken)  # pauses say nothing of the words
    mean = float(likely[spoken, taken[spoken]].mean()) if len(spoken) else 0.0
    lengths = np.bincount(np.array(unit)[path], minlength=len(signs))
    kept = [i for i, sign in enumerate(signs) if sign != SIGN_OF_SILENCE or lengths[i]]
    return [signs[i] for i in kept], [float(lengths[i]) for i in kept], mean


def words_of(text: str, language: str) -> list[str]:
    """The phones of each word of `text`, signs of `PHONES`; words without any are left out."""
    found = []
    for line in read(text, language):
        for word in line.phonemes.split():
            phones = "".join(sign for sign in word if sign in PHONES)
            if phones:
                found.append(phones)
    return found


def record_of(posteriors: Floats, text: str) -> dict[str, Any] | None:
    """Phones and durations as an aligned corpus has them; None if the words are not heard."""
    best: tuple[list[str], list[float], float] | None = None
    for language in ACCENTS:
        try:
            found = align(posteriors, words_of(text, language))
        except KnnvcError:
            continue
        if best is None or found[2] > best[2]:
            best = found
    if best is None or best[2] < LEAST_LIKELY:
        return None
    signs, lengths, likelihood = best
    units = [0.0, *(length * FRAME / DURATION_UNIT for length in lengths), 0.0]
    return {
        "phones": "".join(signs),
        "durations": [round(unit, 3) for unit in units],
        "likelihood": round(likelihood, 3),
    }


def collect(folder: Path, corpus: Path, whisper: Path, threads: int = 1) -> list[dict[str, Any]]:
    """Copy the recordings of `folder` to the corpus at 16 kHz, with their texts; the records.

    Texts that are missing are written down by the Whisper model in the folder `whisper`. What is
    there is kept.
    """
    table = corpus / PEOPLE
    if table.exists():
        return [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    from faster_whisper import WhisperModel

    model = WhisperModel(str(whisper), device="cpu", compute_type="int8", cpu_threads=threads)
    records = []
    for number, one in enumerate(listed(folder)):
        wave, rate = sf.read(one.path, dtype="float32")
        ready = prepare(wave, rate)
        if ready is None or len(ready) < SHORTEST * SAMPLE_RATE:
            continue
        text = one.text
        if not text:
            pieces, _ = model.transcribe(
                ready, language="en", beam_size=1, condition_on_previous_text=False
            )
            text = " ".join(piece.text.strip() for piece in pieces)
        file = f"{FOLDER}/{number:06d}.flac"
        with atomic_path(corpus / file) as temporary:
            sf.write(temporary, ready, SAMPLE_RATE, format="FLAC")
        speaker = "" if "unknown" in one.speaker else one.speaker
        records.append({"file": file, "speaker": speaker, "text": text})
        if number % 200 == 0:
            print(f"collected {number} recordings of people", flush=True)
    with atomic_path(table) as temporary:
        temporary.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return records


def align_people(corpus: Path, records: list[dict[str, Any]], encoder: MiniEncoder) -> Path:
    """Write `alignments-people.jsonl`, aligned by `encoder`; its path.

    Every `HELD_OUT_EVERY`th of the readers with one recording each is marked `held_out`.
    """
    held_out = held_out_of(records)
    alike: dict[str, int] = {}
    out, refused = [], 0
    for number, record in enumerate(records, 1):
        alike[record["text"]] = alike.get(record["text"], 0) + 1
        if alike[record["text"]] > MOST_ALIKE:
            continue
        wave, _ = sf.read(corpus / record["file"], dtype="float32")
        features = encoder.encode(torch.from_numpy(wave))
        said = features[:, encoder.columns.match][:, 2 : 2 + STATES].square().numpy()
        found = record_of(said, record["text"])
        if found is None:
            refused += 1
        else:
            out.append(record | found | {"held_out": record["speaker"] in held_out})
            keep_spectra(corpus / record["file"], features, encoder.columns)
        if number % 200 == 0:
            print(f"aligned {number} of {len(records)}, {refused} refused", flush=True)
    with atomic_path(corpus / TABLE) as temporary:
        temporary.write_text("".join(json.dumps(r) + "\n" for r in out), encoding="utf-8")
    return corpus / TABLE


def keep_spectra(audio: Path, features: torch.Tensor, columns: Columns) -> None:
    """Cache spectra and pitch beside the audio, as `recipe.data` reads them.

    The encoder's pitch serves: in noise it is right more often than DIO's. What is there is kept.
    """
    if audio.with_suffix(".npz").exists():
        return
    assert columns.pitch is not None
    mel, pitch = features[:, : columns.pitch], features[:, columns.pitch : columns.pitch + 2]
    f0 = torch.where(pitch[:, 1] > VOICED, pitch[:, 0].exp2(), torch.zeros(len(pitch)))
    rows = mel.reshape(2 * len(mel), -1).half().numpy()
    with atomic_path(audio.with_suffix(".npz")) as temporary:
        np.savez(temporary, mel=rows, f0=f0.numpy())


def held_out_of(records: list[dict[str, Any]]) -> set[str]:
    """Speakers to be judged by, of those with one recording each."""
    counted: dict[str, int] = {}
    for record in records:
        counted[record["speaker"]] = counted.get(record["speaker"], 0) + 1
    single = sorted(speaker for speaker, count in counted.items() if count == 1)
    return set(single[::HELD_OUT_EVERY])
