"""Build the ready voices: Kokoro speaks a minute of sentences in each, kept as Opus with a card.

    pip install -r vocoder/requirements.txt
    python matching_sets/build.py

The sentences and what was measured are kept in --audio, so that a run which was stopped goes on
where it was. Four voices go into the package (knnvc/voices), the others beside this script.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from knnvc.audio import load_audio, normalize_loudness
from knnvc.audio.joining import silence, trim_edges
from knnvc.audio.pitch import f0_track
from knnvc.evaluation.instruments import Instruments, errors, plain, spelt
from knnvc.files import atomic_path
from knnvc.voices.ready import Card, folder_cards, write_cards

# Recipes are no part of knnvc.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vocoder"))
from recipe import kokoro

REPOSITORY = Path(__file__).resolve().parents[1]
LICENCE = "Apache-2.0 (speech of Kokoro-82M)"
SEED = 11
RATE = kokoro.KOKORO_SAMPLE_RATE  # Hz: all that Kokoro speaks is kept
PAUSE = 0.1  # seconds between sentences, besides what `trim_edges` leaves
LOUDNESS = -23.0  # LUFS (EBU R 128)
PIECE, PIECES = 8, 3  # seconds whose naturalness is predicted, and how often in a voice
KILOBITS = 40  # a second, of which 46 are made: docs/experiments/2026-11-29-ready-voices.md


@dataclass(frozen=True)
class Member:
    """A voice of Kokoro's and how it sounds when it speaks English."""

    source: str
    sex: str
    accent: str


# None of them is in `knnvc.training.aligned.HELD_OUT`, which is kept for measuring.
CAST = {
    "heart": Member("af_heart", "woman", "American"),
    "bella": Member("af_bella", "woman", "American"),
    "kore": Member("af_kore", "woman", "American"),
    "michael": Member("am_michael", "man", "American"),
    "onyx": Member("am_onyx", "man", "American"),
    "eric": Member("am_eric", "man", "American"),
    "emma": Member("bf_emma", "woman", "British"),
    "isabella": Member("bf_isabella", "woman", "British"),
    "george": Member("bm_george", "man", "British"),
    "fable": Member("bm_fable", "man", "British"),
    "daniel": Member("bm_daniel", "man", "British"),
    "siwis": Member("ff_siwis", "woman", "French voice"),
    "sara": Member("if_sara", "woman", "Italian voice"),
    "alpha": Member("hf_alpha", "woman", "Hindi voice"),
    "omega": Member("hm_omega", "man", "Hindi voice"),
    "alex": Member("em_alex", "man", "Spanish voice"),
}
BUNDLED = ("heart", "michael", "emma", "george")


def synthesize(
    parts: Path, audio: Path, seconds: float, names: Collection[str]
) -> dict[str, list[Path]]:
    """Let each of these voices speak `seconds` of sentences into `audio/NAME`.

    Returns the recordings by name. Silence around sentences does not count. Those that are there
    already are taken as they are.
    """
    ingredients = kokoro.fetch(parts)
    narrator = kokoro.Narrator(ingredients)
    texts = kokoro.sentences(ingredients.texts, SEED)
    recordings: dict[str, list[Path]] = {}
    for number, (name, member) in enumerate(CAST.items()):
        if name not in names:
            continue
        speaker = kokoro.Speaker(name, ((member.source, 1.0),))
        (audio / name).mkdir(parents=True, exist_ok=True)
        spoken, recordings[name] = 0.0, []
        for take, text in enumerate(texts):
            if spoken >= seconds:
                break
            path = audio / name / f"{name}_{take:03d}.flac"
            if not path.exists():
                rng = random.Random(SEED * 1_000_003 + 1000 * number + take)
                speech = narrator.speak(text, speaker, rng, RATE)
                if speech is None:
                    continue
                path.with_suffix(".txt").write_text(text + "\n")
                with atomic_path(path) as temporary:
                    sf.write(temporary, speech.wave, RATE, subtype="PCM_24")
            recordings[name].append(path)
            spoken += len(sentence(path)) / RATE
        print(f"{name}: {spoken:.0f} s", flush=True)
    return recordings


def sentence(path: Path) -> Tensor:
    """What was spoken, [S], without the silence around it."""
    return trim_edges(load_audio(path, RATE), RATE)


def joined(recordings: list[Path]) -> Tensor:
    """The sentences of a voice as one signal [S] of even loudness."""
    parts = []
    for path in recordings:
        parts += [sentence(path), silence(PAUSE, RATE)]
    return normalize_loudness(torch.cat(parts[:-1]), RATE, LOUDNESS)


def write_opus(path: Path, waveform: Tensor, kilobits: float = KILOBITS) -> None:
    """Write `waveform` [S] as Opus of about so many kilobits a second."""
    import av

    samples = (waveform.clamp(-1, 1) * 32767).round().short().numpy()[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate = RATE
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = round(1000 * kilobits)
        # This one codes every band by transform. The others predict the treble at such rates,
        # which conversions are heard to suffer from.
        stream.codec_context.options = {"application": "lowdelay", "vbr": "on"}
        stream.codec_context.format = "s16"
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)


def card(name: str, path: Path, recordings: list[Path], kept: Path) -> Card:
    """What is known of a voice whose audio is at `path`; what was measured is in `kept`, later."""
    if not kept.exists():
        said = " ".join(one.with_suffix(".txt").read_text() for one in recordings)
        measured = listen(load_audio(path).numpy(), said)
        with atomic_path(kept) as temporary:
            temporary.write_text(json.dumps(measured) + "\n")
    member = CAST[name]
    return Card(
        source=f"Kokoro-82M {member.source}",
        licence=LICENCE,
        seconds=round(sf.info(str(path)).duration, 1),
        sex=member.sex,
        accent=member.accent,
        sentences=len(recordings),
        **json.loads(kept.read_text()),
    )


@cache
def judges() -> Instruments:
    """The instruments, loaded once."""
    return Instruments(numerals=True)


def listen(wave: np.ndarray, said: str) -> dict[str, float]:
    """Median pitch in Hz, DistillMOS and word errors in per cent of a voice [S] at 16 kHz."""
    instruments = judges()
    f0 = f0_track(wave, len(wave) // 320)
    starts = np.linspace(0, len(wave) - 16_000 * PIECE, PIECES).astype(int)
    pieces = [wave[start : start + 16_000 * PIECE] for start in starts]
    natural = [instruments.listen(piece, words=False).distillmos for piece in pieces]
    counts = errors(plain(spelt(said)), instruments.words(wave))
    return {
        "pitch": round(float(np.median(f0[f0 > 0])), 1),
        "distillmos": round(float(np.mean(natural)), 2),
        "wer": round(100 * counts.word_errors / counts.words, 1),
    }


def table(cards: dict[str, Card]) -> str:
    """The voices as a Markdown table."""
    rows = [
        f"| {name} | {one.source} | {one.sex} | {one.accent} | {one.pitch:.0f} Hz "
        f"| {one.seconds:.0f} s, {one.sentences} | {one.distillmos} | {one.wer} % "
        f"| {'package' if name in BUNDLED else 'here'} |"
        for name, one in sorted(cards.items())
    ]
    head = (
        "| voice | spoken by | sounds like | accent | pitch | speech, sentences | DistillMOS | WER "
        "| where |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    return (
        "# Ready voices\n\n`build.py` writes this table. It measures the recordings, not "
        f"conversions; WER is by Whisper tiny.en. Licence of all: {LICENCE}.\n\n"
        + head
        + "\n".join(rows)
        + "\n"
    )


def main() -> None:
    """Read the command line, speak, encode, write the cards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=Path, default=Path("corpus/parts"), help="downloads")
    parser.add_argument("--audio", type=Path, default=Path("runs/voices"), help="the sentences")
    parser.add_argument("--seconds", type=float, default=60.5, help="of each voice")
    parser.add_argument("--kilobits", type=float, default=KILOBITS, help="a second of Opus")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "matching_sets")
    parser.add_argument("--bundled", type=Path, default=REPOSITORY / "knnvc/voices")
    parser.add_argument("--voices", nargs="+", choices=CAST, default=list(CAST), metavar="NAME")
    options = parser.parse_args()
    spoken = synthesize(options.parts, options.audio, options.seconds, options.voices)
    cards = folder_cards(options.bundled) | folder_cards(options.out)
    paths = {
        name: (options.bundled if name in BUNDLED else options.out) / f"{name}.opus"
        for name in spoken
    }
    for name, path in paths.items():
        if not path.exists():
            write_opus(path, joined(spoken[name]), options.kilobits)
    for name, path in paths.items():
        cards[name] = card(name, path, spoken[name], options.audio / f"{name}.json")
        inside = {n: one for n, one in cards.items() if (n in BUNDLED) is (name in BUNDLED)}
        write_cards(path.parent, inside)
        print(f"{name}: {cards[name]}", flush=True)
    (options.out / "VOICES.md").write_text(table(cards), encoding="utf-8")


if __name__ == "__main__":
    main()
