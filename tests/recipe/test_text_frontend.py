"""Training `mini`'s text front end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc.encoders.base import Columns
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.errors import KnnvcError
from knnvc.mini.text_frontend import FRAME, TextFrontend, TextFrontendConfig
from knnvc.tensors import read_tensors
from recipe.options import TextFrontendOptions
from recipe.text_frontend import (
    MINI_TEXT_FRONTEND,
    SYMBOLS,
    collate,
    evaluate,
    load_spoken,
    losses_of,
    train_text_frontend,
    usual_durations,
)

SMALL: dict[str, Any] = {
    "mels": 2,
    "channels": 16,
    "heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "flow_channels": 8,
    "flow_layers": 2,
    "flow_steps": 2,
}
CONFIG = TextFrontendConfig(symbols="ab .", **SMALL)
WIDTH = CONFIG.width + 2


class Levels(torch.nn.Module):
    """Stands in for an encoder: the level of a frame in four bands, a pitch, and voicing."""

    columns = Columns(synth=slice(0, WIDTH), match=slice(0, WIDTH), pitch=WIDTH - 2)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        whole = waveform[:, : ((waveform.shape[1] - 400) // 320 + 1) * 320]
        level = whole.reshape(1, -1, 320).square().mean(2).sqrt()[..., None]
        return torch.cat([level.expand(-1, -1, 4), 7.5 + level, (level > 0.05).float()], 2)


def corpus_of(folder: Path, count: int = 21) -> Path:
    """Utterances in which `a` is loud and takes 3 units, `b` quiet and takes 2."""
    (folder / "ann").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        phones = [*rng.choice(["a", "b"], size=8), "."]
        durations = [2, *({"a": 3, "b": 2, ".": 4}[p] for p in phones), 1]
        levels = [0.0, *({"a": 0.5, "b": 0.2, ".": 0.0}[p] for p in phones), 0.0]
        wave = np.repeat(levels, np.array(durations) * 400).astype(np.float32)
        name = f"ann/ann_{number:03d}.flac"
        sf.write(folder / name, wave, 16_000)
        record = {"file": name, "speaker": "ann", "text": "x", "phones": phones}
        record |= {"durations": durations, "seconds": len(wave) / 16_000}
        lines.append(json.dumps(record))
    (folder / "alignments-0.jsonl").write_text("\n".join(lines) + "\n")
    return folder


TRAINED = TextFrontendConfig(symbols=SYMBOLS, **SMALL)


def options(**more: Any) -> TextFrontendOptions:
    values: dict[str, Any] = {"steps": 1, "adversarial_from": 0, "batch": 4, "frames": 20}
    return TextFrontendOptions(**values | {"channels": 2, "report_every": 1} | more)


def test_one_step_and_resuming(tmp_path: Path) -> None:
    corpus, run = corpus_of(tmp_path / "corpus"), tmp_path / "run"
    encoder = ChunkedEncoder(Levels())
    weights = train_text_frontend(corpus, encoder, "abcdefgh12", run, options(), TRAINED)
    state, metadata = read_tensors(weights)
    assert metadata["steps"] == "1"
    row = json.loads((run / "log.jsonl").read_text())
    assert {"duration", "pitch", "flow", "spectral", "adversarial", "held_out"} <= row.keys()
    assert all(math.isfinite(value) for value in row.values())
    assert "option batch | 4" in (run / "MODEL_CARD.md").read_text()
    train_text_frontend(corpus, encoder, "abcdefgh12", run, options(steps=2), TRAINED)
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    network = TextFrontend(TRAINED)
    network.load_state_dict(state)
    assert network.symbols == frozenset("ab.")
    assert network.utter("ab.")[0].shape[1] == WIDTH


def test_it_learns_levels_and_durations(tmp_path: Path) -> None:
    everything = load_spoken(corpus_of(tmp_path), ChunkedEncoder(Levels()), "abcdefgh12")
    assert sum(u.durations.sum() for u in everything) * 0.025 == pytest.approx(
        sum(len(u.features) for u in everything) * FRAME, rel=0.02
    )
    torch.manual_seed(0)
    network = TextFrontend(TRAINED)
    usual = usual_durations(everything, TRAINED.tokens)
    network.usual.copy_(usual)
    before = evaluate(network.eval(), everything)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(60):
        batch = collate(everything, [0] * len(everything), 40, usual.numpy())
        losses, _ = losses_of(network.train(), batch)
        optimiser.zero_grad()
        torch.autograd.backward(20 * losses["spectral"] + losses["duration"] + losses["pitch"])
        optimiser.step()
    after = evaluate(network.eval(), everything)
    assert after["held_out"] < 0.25 * before["held_out"]
    assert after["length"] == pytest.approx(1, abs=0.05)
    loud, quiet = network.utter("aaaaaaaa.")[0], network.utter("bbbbbbbb.")[0]
    assert len(loud) > 1.25 * len(quiet)
    assert loud[5:-8, :4].mean() > 1.5 * quiet[5:-8, :4].mean()


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match=r"vocoder/mini\.py corpus"):
        load_spoken(tmp_path, ChunkedEncoder(Levels()), "abcdefgh12")


def test_the_bundled_size_is_small() -> None:
    size = sum(p.numel() for p in TextFrontend(MINI_TEXT_FRONTEND).parameters())
    assert 4e6 < size < 6e6
