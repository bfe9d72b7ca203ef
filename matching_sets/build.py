"""Build the ready voices: Kokoro speaks some sentences, a preset encodes them.

    pip install -r vocoder/requirements.txt
    python matching_sets/build.py

The speech and what was measured on it are kept in --audio, so that for a newly trained encoder only
the sets are made again. A few voices go into the package (knnvc/voices), the others beside this
script.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from knnvc import VoiceConverter
from knnvc.audio import HOP, SAMPLE_RATE, load_audio
from knnvc.audio.pitch import f0_track
from knnvc.evaluation.instruments import Instruments, errors, plain, spelt
from knnvc.files import atomic_path
from knnvc.voices.ready import Card, write_cards

# Recipes are no part of knnvc.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vocoder"))
from recipe import kokoro

REPOSITORY = Path(__file__).resolve().parents[1]
LICENCE = "Apache-2.0 (speech of Kokoro-82M)"
SEED = 11


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


def synthesize(parts: Path, audio: Path, seconds: float) -> dict[str, list[Path]]:
    """Let every voice speak `seconds` of sentences into `audio/NAME`; returns the recordings.

    Those that are there already are taken as they are.
    """
    ingredients = kokoro.fetch(parts)
    narrator = kokoro.Narrator(ingredients)
    texts = kokoro.sentences(ingredients.texts, SEED)
    recordings: dict[str, list[Path]] = {}
    for number, (name, member) in enumerate(CAST.items()):
        speaker = kokoro.Speaker(name, ((member.source, 1.0),))
        (audio / name).mkdir(parents=True, exist_ok=True)
        spoken, recordings[name] = 0.0, []
        for take, text in enumerate(texts):
            if spoken >= seconds:
                break
            path = audio / name / f"{name}_{take:03d}.flac"
            if not path.exists():
                rng = random.Random(SEED * 1_000_003 + 1000 * number + take)
                speech = narrator.speak(text, speaker, rng)
                if speech is None:
                    continue
                path.with_suffix(".txt").write_text(text + "\n")
                with atomic_path(path) as temporary:
                    sf.write(temporary, speech.wave, SAMPLE_RATE)
            recordings[name].append(path)
            spoken += sf.info(path).duration
        print(f"{name}: {spoken:.0f} s", flush=True)
    return recordings


def build(preset: str, spoken: dict[str, list[Path]], out: Path, bundled: Path) -> None:
    """Encode every voice's recordings with `preset`; write sets, cards and the table of voices."""
    converter = VoiceConverter.from_preset(preset)
    instruments = Instruments(numerals=True)
    cards: dict[str, Card] = {}
    for name, recordings in spoken.items():
        member = CAST[name]
        voice = converter.matching_set(recordings, speaker=name, licence=LICENCE)
        folder, other = (bundled, out) if name in BUNDLED else (out, bundled)
        voice.save(folder / f"{name}.safetensors", force=True)
        (other / f"{name}.safetensors").unlink(missing_ok=True)  # an older build's
        distillmos, wer = listen(instruments, recordings)
        cards[name] = Card(
            source=f"Kokoro-82M {member.source}",
            sex=member.sex,
            accent=member.accent,
            licence=LICENCE,
            preset=voice.info.preset,
            seconds=round(voice.seconds, 1),
            sentences=len(recordings),
            pitch=median_pitch(recordings),
            distillmos=distillmos,
            wer=wer,
        )
        print(f"{name}: {voice.seconds:.0f} s, DistillMOS {distillmos}, WER {wer} %", flush=True)
    for folder, inside in ((bundled, True), (out, False)):
        write_cards(folder, {n: card for n, card in cards.items() if (n in BUNDLED) is inside})
    (out / "VOICES.md").write_text(table(cards), encoding="utf-8")


def median_pitch(recordings: list[Path]) -> float:
    """Of all voiced frames, in Hz."""
    waves = [load_audio(path).numpy() for path in recordings]
    f0 = np.concatenate([f0_track(wave, len(wave) // HOP) for wave in waves])
    return round(float(np.median(f0[f0 > 0])), 1)


def listen(instruments: Instruments, recordings: list[Path]) -> tuple[float, float]:
    """DistillMOS, and word errors in per cent against what was spoken; measured once, then kept."""
    found = []
    for path in recordings:
        kept = path.with_suffix(".json")
        if not kept.exists():
            heard = instruments.listen(load_audio(path).numpy())
            counts = errors(plain(spelt(path.with_suffix(".txt").read_text())), heard.words)
            measured = {
                "distillmos": heard.distillmos,
                "words": counts.words,
                "word_errors": counts.word_errors,
            }
            with atomic_path(kept) as temporary:
                temporary.write_text(json.dumps(measured) + "\n")
        found.append(json.loads(kept.read_text()))
    wrong, words = (sum(one[key] for one in found) for key in ("word_errors", "words"))
    distillmos = float(np.mean([one["distillmos"] for one in found]))
    return round(distillmos, 2), round(100 * wrong / words, 1)


def table(cards: dict[str, Card]) -> str:
    """The voices as a Markdown table."""
    rows = [
        f"| {name} | {card.source} | {card.sex} | {card.accent} | {card.pitch:.0f} Hz "
        f"| {card.seconds:.0f} s, {card.sentences} | {card.distillmos} | {card.wer} % "
        f"| {'package' if name in BUNDLED else 'here'} |"
        for name, card in sorted(cards.items())
    ]
    head = (
        "| voice | spoken by | sounds like | accent | pitch | speech, sentences | DistillMOS | WER "
        "| lies in |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    return (
        "# Ready voices\n\nWritten by `build.py`. DistillMOS and WER (Whisper tiny.en) are those "
        f"of the recordings, not of conversions. Licence of all: {LICENCE}.\n\n"
        + head
        + "\n".join(rows)
        + "\n"
    )


def main() -> None:
    """Read the command line, speak, encode, write the cards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="mini", help="whose encoder the sets shall fit")
    parser.add_argument("--parts", type=Path, default=Path("corpus/parts"), help="downloads")
    parser.add_argument("--audio", type=Path, default=Path("runs/voices"), help="the speech")
    parser.add_argument("--seconds", type=float, default=75.0, help="of each voice")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "matching_sets")
    parser.add_argument("--bundled", type=Path, default=REPOSITORY / "knnvc/voices")
    options = parser.parse_args()
    spoken = synthesize(options.parts, options.audio, options.seconds)
    build(options.preset, spoken, options.out, options.bundled)


if __name__ == "__main__":
    main()
