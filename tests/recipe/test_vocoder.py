"""The training of `mini`'s vocoder: what its discriminators and its encoder tell."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.tensors import read_tensors, write_tensors
from knnvc.vocoders.source_filter import SourceFilterVocoder
from recipe import refiner as refiner_module
from recipe.discriminators import Discriminators
from recipe.learner import Learner
from recipe.options import VocoderOptions
from recipe.prematch import prematch_refined, read_prematched
from recipe.refiner import Refiner
from recipe.vocoder import Reader, _window, train_vocoder
from tiny import ENCODER, REFINER, VOCODER, load_encoder


def test_fresh_discriminators_keep_the_scale_of_what_they_see() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        scores, inner = Discriminators(channels=16)(0.2 * torch.randn(2, 8000))
    assert len(scores) == len(inner) == 8
    for layers in inner:
        spread = [float(layer.std()) for layer in layers]
        assert 0.3 < spread[-1] / spread[0] < 3  # torch's own weights: a hundredth


def test_discriminators_are_shown_the_same_part_of_both() -> None:
    wave = torch.arange(1000.0).repeat(2, 1)
    made, real = _window(wave, wave + 0.5, 300)
    assert made.shape == (2, 300)
    assert torch.equal(made + 0.5, real)
    assert _window(wave, wave, 5000)[0].shape == wave.shape


def test_an_encoder_compares_what_it_hears_and_gives_its_pitch(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    options = VocoderOptions(
        steps=2, adversarial_from=1, batch=2, heard_pitch_share=1.0, channels=2, report_every=1
    )
    train_vocoder(corpus, tmp_path / "vocoder", options, config=VOCODER, encoder=encoder)
    rows = [json.loads(x) for x in (tmp_path / "vocoder/log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert all(row["heard"] > 0 for row in rows)

    reader = Reader(corpus, None, encoder)
    one = next(u for u in reader.training if u.file == "low/low_000.flac")
    wave, _ = sf.read(corpus / one.file, dtype="float32")
    told = encoder.encode(torch.from_numpy(wave)).numpy()
    at = encoder.columns.pitch
    assert at is not None
    width = ENCODER.mels * ENCODER.substeps
    heard, own = reader.features(one, heard=True), reader.features(one)
    assert heard[:, width:] == pytest.approx(told[:, at : at + 2], abs=1e-3)
    assert set(np.unique(own[:, width + 1])) <= {0.0, 1.0}
    assert np.array_equal(heard[:, :width], own[: len(heard), :width])


def test_discriminators_learn_before_the_vocoder_does(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    write_tensors(start, SourceFilterVocoder(VOCODER).state_dict(), {})
    options = VocoderOptions(steps=2, adversarial_from=0, critic_warmup=1, batch=2, channels=2)
    still = dataclasses.replace(options, critic_warmup=2)
    begun = read_tensors(start)[0]
    for folder, chosen, alike in (("moved", options, False), ("still", still, True)):
        weights = train_vocoder(corpus, tmp_path / folder, chosen, None, VOCODER, start)
        made = read_tensors(weights)[0]
        assert all(torch.equal(made[name], begun[name].half()) for name in begun) is alike


def test_a_reader_with_one_recording_is_refined_in_parts(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "corpus"
    alone.mkdir()
    record = json.loads((corpus / "alignments-0.jsonl").read_text().splitlines()[0])
    (alone / record["file"]).parent.mkdir(parents=True)
    (alone / record["file"]).write_bytes((corpus / record["file"]).read_bytes())
    (alone / "alignments-0.jsonl").write_text(json.dumps(record))
    monkeypatch.setattr(refiner_module, "PART", 25)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    learner = Learner(Refiner(REFINER), ENCODER.content_inputs).eval()
    out = tmp_path / "refined.safetensors"
    prematch_refined(alone, load_encoder(trained_encoder), space, learner, out)
    frames = sf.info(corpus / record["file"]).frames // 320
    assert read_prematched(out)[record["file"]].shape == (frames, 2 * ENCODER.mels + 2)
