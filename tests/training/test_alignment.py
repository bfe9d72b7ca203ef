"""Monotonic alignment search against all paths, and Glow-TTS's training, which rests on it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvc.encoders.base import Columns
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.errors import KnnvcError, UsageError
from knnvc.tensors import read_tensors
from knnvc.text.glow import GlowConfig, GlowTts
from knnvc.training.alignment import monotonic_alignment
from knnvc.training.glow import Batch, evaluate, load_transcribed, losses_of, starts, train_glow
from knnvc.training.options import GlowTtsOptions


def all_durations(tokens: int, frames: int) -> list[tuple[int, ...]]:
    """Every way to write `frames` as a sum of `tokens` whole numbers above 0."""
    cuts = itertools.combinations(range(1, frames), tokens - 1)
    return [tuple(np.diff([0, *cut, frames])) for cut in cuts]


def score(scores: np.ndarray, durations: tuple[int, ...]) -> float:
    owners = np.repeat(np.arange(len(durations)), durations)
    return float(scores[owners, np.arange(len(owners))].sum())


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_no_other_path_is_better(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = np.array(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    frames = np.array([n + data.draw(st.integers(0, 4)) for n in tokens])
    scores = rng.normal(size=(len(tokens), tokens.max(), frames.max())).astype(np.float32)
    found = monotonic_alignment(scores, tokens, frames)
    for row, (count, length) in enumerate(zip(tokens, frames, strict=True)):
        inner = scores[row, :count, :length]
        best = max(all_durations(count, length), key=lambda path: score(inner, path))
        assert found[row, count:].sum() == 0
        assert found[row, :count].min() >= 1
        assert found[row].sum() == length
        assert score(inner, tuple(found[row, :count])) == pytest.approx(
            score(inner, best), abs=1e-4
        )


def test_clear_blocks_are_found() -> None:
    scores = np.full((1, 3, 9), -5.0, np.float32)
    scores[0, 0, :2] = scores[0, 1, 2:7] = scores[0, 2, 7:] = 0.0
    assert monotonic_alignment(scores, np.array([3]), np.array([9])).tolist() == [[2, 5, 2]]


@pytest.mark.parametrize(("tokens", "frames"), [(3, 2), (0, 2)])
def test_more_tokens_than_frames_is_an_error(tokens: int, frames: int) -> None:
    with pytest.raises(KnnvcError, match="fewer frames than tokens"):
        monotonic_alignment(np.zeros((1, 3, 4), np.float32), np.array([tokens]), np.array([frames]))


# Training ---------------------------------------------------------------------------------------


class Levels(torch.nn.Module):
    """Stands in for an encoder: eight columns that say how loud a frame is."""

    columns = Columns(synth=slice(0, 8), match=slice(0, 8))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        whole = waveform[:, : ((waveform.shape[1] - 400) // 320 + 1) * 320]
        level = whole.reshape(1, -1, 320).square().mean(2).sqrt()[..., None]
        return 4 * level * torch.linspace(-1, 1, 8) + level


LEVEL = {"a": 0.9, "b": 0.3, "c": 0.6}


def speak(folder: Path, count: int) -> list[dict[str, Any]]:
    """Recordings in which every letter has its level, 2 to 14 units of 25 ms long."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        phones = [*rng.permutation(["a", "b", "c"]), *rng.permutation(["a", "b", "c"])]
        durations = [4, *rng.integers(2, 15, 6).tolist(), 4]
        levels = [0.0, *(LEVEL[p] for p in phones), 0.0]
        wave = np.repeat(levels, np.array(durations) * 400).astype(np.float32)
        name = f"utterance_{number:03d}.flac"
        sf.write(folder / name, wave, 16_000)
        records.append({"file": name, "speaker": "ann", "text": "".join(phones)})
        records[-1] |= {"phones": phones, "durations": durations, "seconds": len(wave) / 16_000}
    return records


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [json.dumps(record) for record in speak(tmp_path, 21)]
    (tmp_path / "alignments-0.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def options(**more: Any) -> GlowTtsOptions:
    values: dict[str, Any] = {"steps": 1, "batch": 10, "width": 16, "layers": 1, "blocks": 2}
    return GlowTtsOptions(**values | {"report_every": 50} | more)


def test_one_step_resumes_and_makes_a_front_end(corpus: Path, tmp_path: Path) -> None:
    encoder, run = ChunkedEncoder(Levels()), tmp_path / "run"
    weights = train_glow(corpus, encoder, "0123456789", run, options(report_every=1))
    row = json.loads((run / "log.jsonl").read_text())
    assert {"likelihood", "duration", "held_out", "boundary", "near", "even"} <= row.keys()
    assert all(math.isfinite(value) for value in row.values())
    train_glow(corpus, encoder, "0123456789", run, options(steps=2, report_every=1))
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    config = GlowConfig.from_dict(json.loads((run / "text_frontend.json").read_text())["config"])
    network = GlowTts(config)
    network.load_state_dict(read_tensors(weights)[0])
    assert network.symbols == frozenset("abc")
    assert network.eval().features("abc").shape[1] == 8


def test_it_finds_the_durations(corpus: Path, tmp_path: Path) -> None:
    encoder, run = ChunkedEncoder(Levels()), tmp_path / "run"
    weights = train_glow(
        corpus, encoder, "0123456789", run, options(steps=100, rate=2e-2, blocks=1)
    )
    network = GlowTts(
        GlowConfig.from_dict(json.loads((run / "text_frontend.json").read_text())["config"])
    )
    network.load_state_dict(read_tensors(weights)[0])
    found = evaluate(network.eval(), load_transcribed(corpus, encoder, "0123456789"))
    assert found["near"] > 0.9
    assert found["even"] < 0.4
    assert found["boundary"] < 30


def test_the_likelihood_is_that_of_the_density() -> None:
    torch.manual_seed(0)
    config = GlowConfig(
        vocabulary=("<PAD>", "a"),
        out_channels=4,
        encoder_channels=8,
        encoder_layers=1,
        feed_forward=8,
        duration_channels=8,
        decoder_channels=8,
        flow_blocks=1,
        block_layers=1,
        mean_only=False,
    )
    network = GlowTts(config).eval()
    for parameter in network.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    features = torch.randn(1, 4, 6)
    batch = Batch(torch.tensor([[1]]), features, torch.ones(1, 1, 1), torch.ones(1, 1, 6))
    with torch.inference_mode():
        losses, found = losses_of(network, batch)
        mean, scale, _ = network.encoder(batch.tokens, batch.token_mask)
        latent, volume = network.decoder(features, batch.frame_mask)
        density = torch.distributions.Normal(mean, scale.exp()).log_prob(latent).sum() + volume
    assert found.tolist() == [[6]]
    assert float(losses["likelihood"]) == pytest.approx(-float(density) / 24, rel=1e-4)


def test_nothing_held_out_nothing_measured() -> None:
    assert evaluate(GlowTts(GlowConfig(vocabulary=("a",), out_channels=4)), []) == {}
    assert starts(np.array([2, 3, 1])).tolist() == [0, 2, 5]


def test_features_of_another_width_need_another_folder(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = GlowConfig(vocabulary=("a",), out_channels=4)
    (run / "text_frontend.json").write_text(json.dumps({"config": config.to_dict()}))
    with pytest.raises(KnnvcError, match="name a new folder"):
        train_glow(corpus, ChunkedEncoder(Levels()), "0123456789", run, options())


class TestTranscripts:
    """A metadata.csv in LJSpeech's manner."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "wavs").mkdir()
        for name in ("one", "two"):
            sf.write(tmp_path / "wavs" / f"{name}.wav", np.zeros(32_000, np.float32), 16_000)
        return tmp_path

    def test_are_read_and_pronounced(self, folder: Path) -> None:
        pytest.importorskip("espeakng_loader")
        (folder / "metadata.csv").write_text("one|Dr. No|Doctor No.\ntwo|Hello, world!\n\n")
        first, second = load_transcribed(folder, ChunkedEncoder(Levels()), "0123456789")
        assert first.phonemes == "dˈɑːktɚ nˈoʊ."
        assert second.phonemes.startswith("həlˈoʊ,")
        assert first.durations is None
        assert first.file == "wavs/one.wav"
        assert np.load(second.features).shape == (99, 8)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("one|Yes.\ntwo\n", "line 2 of .* is not `file|text`"),
            ("three|Yes.\n", "line 1 of .* names three"),
            (None, "no metadata.csv and no alignments"),
        ],
    )
    def test_that_cannot_be_used_are_one_sentence(
        self, folder: Path, text: str | None, words: str
    ) -> None:
        if text is not None:
            (folder / "metadata.csv").write_text(text)
        with pytest.raises(UsageError, match=words.replace("|", r"\|")) as caught:
            load_transcribed(folder, ChunkedEncoder(Levels()), "0123456789")
        assert "\n" not in str(caught.value)
