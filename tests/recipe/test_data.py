"""A corpus becomes training data, and the encoder learns from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import PhoneEncoder
from knnvc.tensors import read_tensors
from knnvc.text.phones import PHONES
from recipe.augmentation import roughen
from recipe.data import load_corpus
from recipe.encoder import draw_batch, train_encoder
from recipe.options import EncoderOptions
from tiny import ENCODER, RATE, SPEAKERS, load_encoder


def test_load_corpus_caches_what_it_computes(corpus: Path) -> None:
    network = PhoneEncoder(ENCODER)
    utterances = load_corpus(corpus, network)
    assert [u.speaker for u in utterances] == ["af_nova", *["high"] * 3, *["low"] * 3]
    for utterance in utterances:
        frames = len(utterance.f0)
        assert utterance.mel.shape == (2 * frames, ENCODER.mels)
        assert utterance.states.shape == (frames,)
        voiced = utterance.f0[utterance.f0 > 0]
        assert np.median(voiced) == pytest.approx(SPEAKERS[utterance.speaker], rel=0.02)
        assert utterance.states[frames // 2] // 3 == (1 + 3 * PHONES.index("o")) // 3
        assert (corpus / utterance.file).with_suffix(".npz").exists()
    again = load_corpus(corpus, network)
    assert all(np.array_equal(a.mel, b.mel) for a, b in zip(utterances, again, strict=True))


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="no aligned speech"):
        train_encoder(tmp_path, tmp_path / "run", EncoderOptions(steps=1), ENCODER)


def test_training_the_encoder_writes_a_log_and_weights(trained_encoder: Path) -> None:
    rows = [json.loads(x) for x in (trained_encoder.parent / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["phone"]) and 0 <= row["held_out_phone"] <= 1 for row in rows)
    _, metadata = read_tensors(trained_encoder)
    assert metadata["steps"] == "2"
    features = load_encoder(trained_encoder).encode(torch.zeros(RATE))
    assert features.shape == (49, 2 * ENCODER.mels + 2 + ENCODER.states + ENCODER.content)


def test_labels_follow_what_a_crop_goes_through(corpus: Path) -> None:
    utterances = [u for u in load_corpus(corpus, PhoneEncoder(ENCODER)) if u.speaker == "low"]
    mel, states, f0 = draw_batch(utterances, 16, 40, np.random.default_rng(0))
    assert mel.shape == (16, 40, 2 * ENCODER.mels)
    assert bool(torch.isfinite(mel).all())
    assert f0.shape == (16, 40)
    # What is known is certain, and outside a recording there is silence.
    assert states.shape == (16, 40, ENCODER.states)
    sums = states.sum(-1)
    assert bool(((sums == 0) | (sums == 1)).all())
    assert float(sums.mean()) > 0.9
    assert bool((states[..., 0] == 1).any())
    heard = f0[f0 > 0]
    # Pitch moves with the spectrum: by up to 32 % with the tempo, and 12 % besides.
    assert 110 / 1.32 / 1.2 < float(heard.min()) < 105
    assert 115 < float(heard.max()) < 110 * 1.32 * 1.2


def test_undamaged_crops_are_as_they_were_spoken(corpus: Path) -> None:
    utterances = load_corpus(corpus, PhoneEncoder(ENCODER))
    quietest = float(min(u.mel.min() for u in utterances))
    clean, damaged = (
        draw_batch(utterances, 8, 40, np.random.default_rng(0), damaged=damaged)[0]
        for damaged in (False, True)
    )
    assert clean.shape == damaged.shape
    assert float(clean.min()) >= quietest - 0.2  # nothing is added, nothing taken away
    assert not torch.allclose(clean, damaged, atol=0.1)


def test_frozen_layers_stay_as_they_began(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copyfile(trained_encoder, start)
    before = read_tensors(start)[0]
    options = EncoderOptions(
        steps=2,
        batch=2,
        frames=40,
        frozen_layers=1,
        average=0.0,
        rate=0.1,
        trunk_rate=1.0,
        warmup=1,
    )
    after = read_tensors(train_encoder(corpus, tmp_path / "run", options, ENCODER, start))[0]
    for name, tensor in before.items():
        still = name.startswith(("conv", "gain", "offset", "mask", "layers.0."))
        if name == "content.weight":  # is learnt with the refiner
            continue
        assert torch.equal(tensor, after[name]) == still, name


def test_roughening_keeps_the_level_and_can_be_repeated() -> None:
    mel = torch.randn(12, 50, 80, generator=torch.Generator().manual_seed(0)) + 3
    torch.manual_seed(1)
    one = roughen(mel.clone(), np.random.default_rng(2))
    torch.manual_seed(1)
    assert torch.equal(one, roughen(mel.clone(), np.random.default_rng(2)))
    assert not torch.equal(one, mel)
    assert float((one.mean((1, 2)) - mel.mean((1, 2))).abs().max()) < 0.1


def test_training_resumes_from_the_checkpoint(corpus: Path, tmp_path: Path) -> None:
    def train(steps: int, seed: int = 0) -> dict[str, Tensor]:
        options = EncoderOptions(steps=steps, batch=2, frames=40, report_every=1, seed=seed)
        return read_tensors(train_encoder(corpus, tmp_path, options, ENCODER))[0]

    first = train(2)
    # Nothing left to do, and another seed does not matter: the weights are those of the checkpoint.
    unchanged = train(2, seed=1)
    assert all(torch.equal(first[name], unchanged[name]) for name in first)
    third = train(3)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    rows = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3]
