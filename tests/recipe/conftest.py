"""The recipe is no part of the package: its tests import it from the repository's vocoder/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

sys.path += [str(Path(__file__).parents[2] / "vocoder"), str(Path(__file__).parent)]

from recipe.encoder import train_encoder
from recipe.options import EncoderOptions
from tiny import ENCODER, RATE, SPEAKERS, alignment, sing


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    records = []
    for speaker, f0 in SPEAKERS.items():
        (folder / speaker).mkdir()
        for number in range(3 if speaker != "af_nova" else 1):
            name, seconds = f"{speaker}/{speaker}_{number:03d}.flac", 1.6 + 0.2 * number
            sf.write(folder / name, sing(f0, seconds, rng), RATE)
            records.append(alignment(name, speaker, seconds))
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "alignments-0.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    return folder


@pytest.fixture(scope="session")
def trained_encoder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    options = EncoderOptions(steps=2, batch=2, frames=40, report_every=1)
    return train_encoder(corpus, folder, options, ENCODER)
