"""What a corpus' speakers have in common, from the corpus into a preset."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.converter import MiniConverter
from knnvc.mini.encoder import PhoneEncoder
from knnvc.pipeline import VoiceConverter
from knnvc.tensors import read_tensors
from knnvc.text.phones import IGNORED
from recipe import speakers
from recipe.data import load_corpus, split
from recipe.options import RefinerOptions, VocoderOptions
from recipe.package import package_mini
from recipe.refiner import train_refiner
from recipe.speakers import SPEAKERS, measured, prior_beside
from recipe.vocoder import train_vocoder
from recipe.voices import SHORT, Listener, reference
from tiny import ENCODER, REFINER, VOCODER, load_encoder


def make_space() -> AcousticSpace:
    return AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)


def test_only_speech_that_is_known_counts(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, _ = split(load_corpus(corpus, PhoneEncoder(ENCODER)))
    assert measured(make_space(), training) is None  # a few seconds of either
    monkeypatch.setattr(speakers, "LEAST_FRAMES", 100)
    prior = measured(make_space(), training)
    assert prior is not None
    said = {int(state) for one in training for state in one.states if state > 0}
    known = prior.phones.abs().sum(1) > 0
    assert set(torch.nonzero(known).flatten().tolist()) == said
    unknown = [dataclasses.replace(one, states=0 * one.states + IGNORED) for one in training]
    assert measured(make_space(), unknown) is None
    noisy = [
        dataclasses.replace(one, mel=np.where(one.states.repeat(2)[:, None] > 0, one.mel, 9.0))
        for one in training
    ]
    again = measured(make_space(), noisy)
    assert again is not None
    for name, tensor in prior.tensors().items():  # pauses do not count
        torch.testing.assert_close(again.tensors()[name], tensor)


def test_a_preset_has_the_prior_that_its_refiner_was_trained_with(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speakers, "LEAST_FRAMES", 100)
    encoder = load_encoder(trained_encoder)
    options = RefinerOptions(steps=1, batch=2, frames=40, channels=2, short_share=1.0)
    weights = train_refiner(corpus, encoder, make_space(), tmp_path / "one", options, REFINER)
    prior = prior_beside(weights)
    assert prior is not None

    # Another training that begins there keeps it, whatever its corpus says.
    monkeypatch.setattr(speakers, "measured", lambda *_: None)
    more = train_refiner(
        corpus, encoder, make_space(), tmp_path / "two", options, REFINER, start=weights
    )
    assert (more.parent / SPEAKERS).read_bytes() == (weights.parent / SPEAKERS).read_bytes()

    vocoder = train_vocoder(
        corpus, tmp_path / "vocoder", VocoderOptions(steps=1, batch=2), config=VOCODER
    )
    package_mini(
        trained_encoder, vocoder, tmp_path / "preset", "tiny", ENCODER, VOCODER, [more], REFINER
    )
    assert "speakers.phones" in read_tensors(tmp_path / "preset/refiner.safetensors")[0]
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    assert isinstance(converter.converter, MiniConverter)
    known = converter.converter.space.prior
    assert known is not None
    torch.testing.assert_close(known.shape, prior.shape, atol=1e-3, rtol=0)
    waveform, _ = converter.convert(corpus / "low/low_002.flac", corpus / "high")
    assert np.isfinite(waveform).all()


def test_a_short_reference_is_a_part_of_one_utterance(corpus: Path) -> None:
    training, _ = split(load_corpus(corpus, PhoneEncoder(ENCODER)))
    listener = Listener(PhoneEncoder(ENCODER), make_space(), False)
    voice = listener.voices(training)["low"]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        rows = reference(voice, 1, rng, short=True)
        assert torch.equal(rows, torch.arange(int(rows[0]), int(rows[-1]) + 1))
        (inside,) = (
            number
            for number, (first, last) in enumerate(pairwise(voice.starts))
            if first <= rows[0] and rows[-1] < last
        )
        seen.add(inside)
        assert len(rows) >= min(SHORT[0], voice.starts[inside + 1] - voice.starts[inside])
        assert len(rows) < SHORT[1]
    assert seen == {0, 2}  # not the one that it may not be taken from
