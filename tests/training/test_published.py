"""The published recipe, with tiny networks: prematching, HiFi-GAN v1, learning rates."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch.nn import functional

from knnvc.errors import KnnvcError
from knnvc.pipeline import ConvertOptions, VoiceConverter
from knnvc.presets.importing import import_published
from knnvc.tensors import read_tensors
from knnvc.training.discriminators import PublishedDiscriminators
from knnvc.training.options import HifiGanOptions
from knnvc.training.prematch import prematch_folder
from knnvc.training.published import find_examples, train_hifigan
from knnvc.training.runs import cosine_rate
from knnvc.vocoders.hifigan import HifiGanConfig

RATE = 16_000


def sing(f0: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Harmonics with a moving spectrum, between two stretches of near silence."""
    at = np.arange(int(seconds * RATE)) / RATE
    formant = 700 + 500 * np.sin(2 * np.pi * at * rng.uniform(1, 3))
    wave = sum(
        np.exp(-(((n * f0 - formant) / 900) ** 2)) * np.sin(2 * np.pi * n * f0 * at)
        for n in range(1, 16)
    )
    wave = wave * ((at > 0.2) & (at < seconds - 0.2)) + 1e-3 * rng.normal(size=len(at))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any corpus")
    rng = np.random.default_rng(1)
    for speaker, f0 in (("anna", 210.0), ("ben", 120.0)):
        (folder / speaker / "chapter").mkdir(parents=True)
        for number in range(2):
            wave = sing(f0, 1.0 + 0.1 * number, rng)
            sf.write(folder / speaker / "chapter" / f"{number}.flac", wave, RATE)
    sf.write(folder / "lonely.flac", np.zeros(RATE, dtype=np.float32), RATE)  # no speaker
    return folder


@pytest.fixture(scope="module")
def prematched(speakers: Path, preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("matched")
    prematch_folder(speakers, VoiceConverter.from_preset(preset, "cpu").encoder, out)
    return out


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [cosine_rate(step, 1000, 1.0, warmup=100, floor=0.1) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[99] == 1.0
    assert rates[1000] == pytest.approx(0.1)


class TestPublishedRecipe:
    """HiFi-GAN v1 as published, with tiny networks."""

    OPTIONS = HifiGanOptions(
        steps=1,
        batch_size=2,
        segment_size=3840,
        discriminator_width=1 / 64,
        num_workers=0,
        report_every=1,
    )

    def test_prematching_averages_the_speakers_other_utterances(
        self, speakers: Path, preset: Path, prematched: Path
    ) -> None:
        written = sorted(str(p.relative_to(prematched)) for p in prematched.rglob("*.safetensors"))
        assert written == [
            f"{who}/chapter/{n}.flac.safetensors" for who in ("anna", "ben") for n in range(2)
        ]
        encoder = VoiceConverter.from_preset(preset, "cpu").encoder
        query, pool = (
            encoder.encode(torch.from_numpy(sf.read(speakers / f"ben/chapter/{n}.flac")[0]).float())
            for n in range(2)
        )
        cosine = functional.normalize(query, dim=1) @ functional.normalize(pool, dim=1).T
        expected = pool[cosine.topk(4).indices].mean(1)
        found = read_tensors(prematched / "ben/chapter/0.flac.safetensors")[0]["matched"].float()
        assert torch.allclose(found, expected, atol=2e-3, rtol=2e-3)

    def test_one_step_writes_what_preset_import_reads_and_resumes(
        self, speakers: Path, prematched: Path, parity: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("accelerate")
        config = HifiGanConfig.from_dict(json.loads((parity / "hifigan_tiny.json").read_text()))
        run = tmp_path / "run"
        first = train_hifigan(speakers, prematched, run, self.OPTIONS, config)
        assert first.name == "g_00000001.pt"
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert {"mel", "critics", "adversarial", "matching", "held_out_mel"} <= rows[0].keys()
        assert all(np.isfinite(value) for value in rows[0].values())
        assert "option learning_rate | 0.0002" in (run / "MODEL_CARD.md").read_text()

        more = dataclasses.replace(self.OPTIONS, steps=3)
        second = train_hifigan(speakers, prematched, run, more, config)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2, 3]
        weights = [torch.load(p, weights_only=True)["generator"] for p in (first, second)]
        published = torch.load(parity / "hifigan_tiny.pt", weights_only=True)["generator"]
        assert weights[1].keys() == published.keys()
        assert not torch.equal(weights[0]["conv_post.weight_v"], weights[1]["conv_post.weight_v"])

        folder = tmp_path / "preset"
        import_published(parity / "wavlm_tiny.pt", 6, second, run / "config.json", folder)
        converter = VoiceConverter.from_preset(folder, device="cpu")
        waveform, _ = converter.convert(
            speakers / "anna/chapter/0.flac", speakers / "ben", ConvertOptions(loudness=False)
        )
        assert np.isfinite(waveform).all()

    def test_without_features_it_says_how_to_make_them(
        self, speakers: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(KnnvcError, match="knnvc train prematch"):
            find_examples(speakers, tmp_path)

    def test_the_discriminators_have_the_published_sizes(self) -> None:
        with torch.device("meta"):
            critics = PublishedDiscriminators()
        sizes = [sum(p.numel() for p in part.parameters()) for part in critics.parts]
        # What the published layers' shapes add up to, gains of the weight norm included.
        assert sum(sizes[:5]) == pytest.approx(41.1e6, rel=0.01)
        assert sum(sizes[5:]) == pytest.approx(29.6e6, rel=0.01)
        scores, inner = PublishedDiscriminators(1 / 64)(torch.randn(1, 4000))
        assert len(scores) == 8
        assert sum(map(len, inner)) == critics.activations
