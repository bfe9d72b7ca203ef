"""How well text is spoken: words, speaker, naturalness and speed, and a sweep of λ.

    pip install -r vocoder/requirements.txt
    python benchmarks/speak_quality.py --corpus corpus/ --parts parts/ --out speak/ \
        --ref en=asterisk/en --ref it=asterisk/it --ref emma=voice:emma --ref puck=kokoro/am_puck

The sentences are those of Debian's fortunes that lie last in the order in which the corpus takes
them, and none that the corpus holds. Rows of the table:

- Kokoro itself: the corpus' speaker reads the sentences; its WER is what the instrument reads as
  its floor.
- own voice: the front end and the vocoder, without matching (λ = 0).
- each --ref: a folder (or a list of its recordings) of one speaker. Up to --seconds of speech make
  the matching set; similarity and EER are measured on other recordings, as far as there are any.
  A ready voice (voice:NAME) has no recordings: words, naturalness and speed only.

Then the sweep: similarity, WER and DistillMOS over λ from 0 to 2, a table and a plot, on the first
--sweep-sentences. Measured by `knnvc.evaluation.instruments`; speed is process time without
loading, on the threads that OMP_NUM_THREADS allows. Everything is added to OUT/rows.jsonl as it
comes, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knnvc import SpeakOptions, VoiceConverter
from knnvc.audio import SAMPLE_RATE, find_audio, load_audio, write_audio
from knnvc.errors import KnnvcError
from knnvc.evaluation.instruments import Instruments, errors, plain, spelt
from knnvc.evaluation.statistics import equal_error_rate
from knnvc.voices.ready import PREFIX

# Recipes are no part of knnvc.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vocoder"))
from recipe import kokoro

LAMS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
STEP = 7919  # the corpus takes sentence (number · STEP) modulo their count
MOST_TRIALS = 30  # recordings of a speaker that similarity is measured on
COLUMNS = ("WER", "CER", "similarity", "own", "EER", "DistillMOS", "DNSMOS", "x real time")


@dataclass
class Voice:
    """A matching set, and embeddings [256] of recordings that are not in it."""

    name: str
    matching_set: Any
    trials: list[Any]

    def rates(self, embeddings: list[Any]) -> dict[str, float]:
        """Cosine similarity and EER of `embeddings` of converted speech."""
        if len(self.trials) < 2:
            return {}
        real = np.stack(self.trials)
        centre = real.mean(0) / np.linalg.norm(real.mean(0))
        pairs = (real @ real.T)[np.triu_indices(len(real), 1)]
        made = np.stack(embeddings)
        # "own": how near the speaker's own recordings are to their centre, without themselves.
        others = (real.sum(0) - real) / (len(real) - 1)
        own = (real * others / np.linalg.norm(others, axis=1, keepdims=True)).sum(1)
        return {
            "similarity": float((made @ centre).mean()),
            "own": float(own.mean()),
            "EER": 100 * equal_error_rate(list(pairs), list((made @ real.T).ravel())),
        }


def held_out(texts: Path, corpus: Path | None, count: int, seed: int) -> list[str]:
    """The last `count` sentences in the corpus' order that it does not hold."""
    ordered = kokoro.sentences(texts, seed)
    taken: set[str] = set()
    for table in sorted(corpus.glob("alignments-*.jsonl")) if corpus else ():
        lines = table.read_text(encoding="utf-8").splitlines()
        taken |= {json.loads(line)["text"] for line in lines}
    backwards = (ordered[number * STEP % len(ordered)] for number in range(len(ordered) - 1, 0, -1))
    found = [text for text in backwards if text not in taken][:count]
    print(f"{len(found)} sentences, none of the {len(taken)} that the corpus holds", flush=True)
    return found


def load_voice(
    name: str, where: str, converter: VoiceConverter, ears: Instruments, seconds: float
) -> Voice:
    """The voice of a folder, or a ready one."""
    if where.startswith(PREFIX) or where.endswith(".safetensors"):
        return Voice(name, converter.matching_set(where), [])
    clips: list[Any] = []
    trials: list[Any] = []
    filled = 0.0
    for path in find_audio(where):
        wave = load_audio(path)
        if len(wave) < 2 * SAMPLE_RATE:
            continue
        if filled < seconds:
            clips.append((wave, SAMPLE_RATE))
            filled += len(wave) / SAMPLE_RATE
        elif len(trials) < MOST_TRIALS:
            trials.append(ears.embedding(wave.numpy()))
    if len(trials) < 2:
        print(f"{name}: too few recordings; similarity is measured on those of the matching set")
        trials = [ears.embedding(clip.numpy()) for clip, _ in clips[:MOST_TRIALS]]
    print(f"{name}: {filled:.0f} s of reference, {len(trials)} other recordings", flush=True)
    return Voice(name, converter.matching_set(clips), trials)


class Results:
    """What was measured, one line a sentence, in a file that a second call goes on with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "rows.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows = [json.loads(line) for line in lines]
        self.rows = {(row["system"], row["text"]): row for row in rows}

    def measure(
        self, system: str, texts: list[str], say: Callable[[str], Any], ears: Instruments
    ) -> list[dict[str, Any]]:
        """Say every text that is not measured yet, and listen."""
        for number, text in enumerate(texts):
            if (system, text) in self.rows:
                continue
            began = time.process_time()
            wave = say(text)
            spent = time.process_time() - began
            heard = ears.listen(wave)
            row = {
                "system": system,
                "text": text,
                "heard": heard.words,
                "seconds": len(wave) / SAMPLE_RATE,
                "spent": spent,
                "DistillMOS": heard.distillmos,
                "DNSMOS": heard.dnsmos,
                "embedding": [round(float(value), 5) for value in heard.embedding],
            }
            self.rows[system, text] = row
            with self.path.open("a") as table:
                table.write(json.dumps(row, ensure_ascii=False) + "\n")
            if number < 5:
                import torch

                name = system.replace(" ", "_").replace("λ", "lam")
                path = self.folder / "audio" / f"{name}_{number}.wav"
                write_audio(path, torch.from_numpy(wave), SAMPLE_RATE)
        return [self.rows[system, text] for text in texts]


def summary(system: str, rows: list[dict[str, Any]], voice: Voice | None) -> dict[str, Any]:
    """One row of the table."""
    made = [errors(plain(spelt(row["text"])), row["heard"]) for row in rows]
    values: dict[str, Any] = {
        "system": system,
        "WER": 100 * sum(one.word_errors for one in made) / sum(one.words for one in made),
        "CER": 100 * sum(one.character_errors for one in made) / sum(o.characters for o in made),
        "DistillMOS": np.mean([row["DistillMOS"] for row in rows]),
        "DNSMOS": np.mean([row["DNSMOS"] for row in rows]),
        "x real time": sum(r["seconds"] for r in rows) / max(1e-9, sum(r["spent"] for r in rows)),
    }
    if voice is not None:
        values |= voice.rates([np.array(row["embedding"], np.float32) for row in rows])
    return {key: value if isinstance(value, str) else float(value) for key, value in values.items()}


def markdown(first: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table for a README."""
    digits = {"similarity": 3, "own": 3, "DistillMOS": 2, "DNSMOS": 2, "λ": 2}
    yield f"| {first} | " + " | ".join(columns) + " |"
    yield "|" + "---|" * (len(columns) + 1)
    for row in rows:
        cells = []
        for name in (first, *columns):
            value = row.get(name, "")
            cells.append(value if isinstance(value, str) else f"{value:.{digits.get(name, 1)}f}")
        yield "| " + " | ".join(cells) + " |"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Similarity, WER and DistillMOS over λ, a line for each voice."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["voice"] for row in rows))
    measures = [m for m in ("similarity", "WER", "DistillMOS") if any(m in row for row in rows)]
    made, panels = plt.subplots(1, len(measures), figsize=(4 * len(measures), 3.2), squeeze=False)
    for panel, measure in zip(panels[0], measures, strict=True):
        for name in names:
            points = [(r["λ"], r[measure]) for r in rows if r["voice"] == name and measure in r]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set(xlabel="λ", title={"WER": "WER (%)"}.get(measure, measure))
        panel.grid(alpha=0.3)
    panels[0][0].legend()
    made.tight_layout()
    made.savefig(path, dpi=120)


def main() -> None:
    """Measure, and print two tables."""
    # long: a script, read from top to bottom
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--ref", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--parts", type=Path, required=True, help="of `vocoder/mini.py corpus`")
    parser.add_argument("--corpus", type=Path, help="that the front end was trained on")
    parser.add_argument("--speaker", default="af_heart", help="of the corpus")
    parser.add_argument("--seed", type=int, default=11, help="of the corpus")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--sweep-sentences", type=int, default=20, help="0 does without")
    parser.add_argument("--seconds", type=float, default=300.0, help="of reference speech")
    parser.add_argument("--out", type=Path, default=Path("speak-quality"))
    arguments = parser.parse_args()
    ears = Instruments(numerals=True)
    converter = VoiceConverter.from_preset(arguments.preset, "cpu")
    ingredients = kokoro.fetch(arguments.parts)
    texts = held_out(ingredients.texts, arguments.corpus, arguments.sentences, arguments.seed)
    results = Results(arguments.out)
    table = []

    narrator = kokoro.Narrator(ingredients)
    reader = kokoro.Speaker(arguments.speaker, ((arguments.speaker, 1.0),))

    def kokoro_says(text: str) -> Any:
        spoken = narrator.speak(text, reader, random.Random(text))
        if spoken is None:
            raise KnnvcError(f"Kokoro cannot say {text!r}: leave it out")
        return spoken.wave.astype(np.float32)

    rows = results.measure("Kokoro itself", texts, kokoro_says, ears)
    table.append(summary("Kokoro itself", rows, None))

    def front_end_says(text: str) -> Any:
        return converter.speak(text, None, SpeakOptions(lam=0.0))[0]

    converter.speak("This loads what is loaded late.", None, SpeakOptions(lam=0.0))
    own_rows = results.measure("own voice", texts, front_end_says, ears)
    table.append(summary("own voice", own_rows, None))
    print(*markdown("system", COLUMNS, table), sep="\n", flush=True)

    sweep = []
    for item in arguments.ref:
        name, _, where = item.partition("=")
        voice = load_voice(name, where, converter, ears, arguments.seconds)
        some = texts[: arguments.sweep_sentences]
        for lam in LAMS if some else (1.0,):
            options = SpeakOptions(lam=lam)
            system = f"{name} λ {lam:g}"
            rows = results.measure(
                system,
                texts if lam == 1 else some,
                lambda text, voice=voice, options=options: converter.speak(
                    text, voice.matching_set, options
                )[0],
                ears,
            )
            if lam == 1:
                table.append(summary(name, rows, voice))
            if some:
                sweep.append({"voice": name, "λ": lam, **summary(system, rows[: len(some)], voice)})
        print(*markdown("system", COLUMNS, table[-1:]), sep="\n", flush=True)
    lines = markdown("system", COLUMNS, table)
    if sweep:
        columns = ("λ", "WER", "CER", "similarity", "EER", "DistillMOS")
        lines += ["", *markdown("voice", columns, sweep)]
        plot(sweep, arguments.out / "lam.png")
    (arguments.out / "tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
