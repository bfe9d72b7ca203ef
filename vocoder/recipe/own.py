"""Speech that a preset's own text front end speaks, for the corpus: its alignment is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import soundfile as sf
import torch

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path
from knnvc.frames import Frames
from knnvc.mini.text_frontend import LEAST_UNITS, MiniFrontEnd
from knnvc.pipeline import VoiceConverter
from knnvc.text.lines import fit, read
from knnvc.training.aligned import DURATION_UNIT
from recipe.people import PEOPLE

FOLDER, TABLE = "own", "alignments-own.jsonl"
SPEAKER = "own"
LEAST_WORDS = 6


def read_texts(corpus: Path, texts: Path | None = None) -> list[str]:
    """The lines of the file `texts`, or what the readers of the corpus say (`recipe.people`).

    Raises:
        UsageError: there is neither.
    """
    if texts is not None:
        lines = texts.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()]
    table = corpus / PEOPLE
    if not table.exists():
        raise UsageError(f"{table} is missing: run `vocoder/mini.py people` first, or give --texts")
    records = map(json.loads, table.read_text(encoding="utf-8").splitlines())
    found = dict.fromkeys(record["text"] for record in records)
    return [text for text in found if len(text.split()) >= LEAST_WORDS]


@torch.inference_mode()
def speak_own(corpus: Path, texts: list[str], preset: str) -> Path:
    """Speak `texts` with `preset`; writes `own/*.flac` and `alignments-own.jsonl`, its path.

    Raises:
        UsageError: the preset has no text front end of `mini`'s kind.
    """
    converter = VoiceConverter.from_preset(preset, "cpu")
    front_end: Any = converter.speaker.parts.front_end
    if not isinstance(front_end, MiniFrontEnd):
        raise UsageError(f"preset {preset!r} has no text front end of mini's kind")
    network, records = front_end.network, []
    ratio = network.config.unit / DURATION_UNIT
    for number, text in enumerate(texts):
        for part, line in enumerate(read(text, network.language)):
            phonemes, _ = fit(line.phonemes, network.symbols)
            try:
                synth, _ = network.utter(phonemes)
            except KnnvcError:
                continue
            wave = converter.vocoder(Frames(synth)).flatten()
            tokens = network.tokens(phonemes)[None]
            pace = torch.zeros(1)
            units = network.durations(network.encode(tokens, pace), tokens, pace).exp()
            durations = [round(float(u) * ratio, 3) for u in units[0].clamp(min=LEAST_UNITS)]
            file = f"{FOLDER}/{number:05d}-{part}.flac"
            with atomic_path(corpus / file) as temporary:
                sf.write(temporary, wave.clamp(-1, 1).numpy(), SAMPLE_RATE, format="FLAC")
            records.append(
                {"file": file, "speaker": SPEAKER, "text": line.text, "phones": phonemes}
                | {"durations": durations}
            )
        if number % 50 == 0:
            print(f"spoke {number} of {len(texts)} texts", flush=True)
    with atomic_path(corpus / TABLE) as temporary:
        temporary.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return corpus / TABLE
