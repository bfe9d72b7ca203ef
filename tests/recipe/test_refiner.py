"""The refiner learns from disguised speech, twins and recordings."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc.errors import KnnvcError
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.converter import MiniConverter
from knnvc.mini.encoder import PhoneEncoder
from knnvc.mini.refiner import Refiner
from knnvc.pipeline import VoiceConverter
from knnvc.tensors import read_tensors, write_tensors
from knnvc.text.phones import IGNORED
from recipe import refiner as refiner_module
from recipe.data import load_corpus, load_twins, split
from recipe.encoder import train_encoder
from recipe.learner import (
    CONTENT,
    LAYER,
    average_contents,
    earlier_learner,
    earlier_refiner,
)
from recipe.losses import heard_apart
from recipe.options import EncoderOptions, RefinerOptions, VocoderOptions
from recipe.package import package_mini
from recipe.pieces import Pieces
from recipe.prematch import prematch_refined, read_prematched
from recipe.refiner import average_refiners, train_refiner, with_a_voice
from recipe.spectrograms import SpectrogramTraining
from recipe.vocoder import train_vocoder
from tiny import ENCODER, REFINER, VOCODER, alignment, load_encoder


def test_what_the_encoder_hears_otherwise_is_nothing_for_the_same_frames() -> None:
    torch.manual_seed(0)
    ear = PhoneEncoder(ENCODER).eval().requires_grad_(False)
    mel = torch.randn(2, 30, ENCODER.mels * ENCODER.substeps)
    other = (mel + 0.3 * torch.randn_like(mel)).requires_grad_()
    assert float(heard_apart(ear, mel, mel, bf16=False)) == pytest.approx(0, abs=1e-5)
    near, far = (
        heard_apart(ear, mel + share * (other - mel), mel, bf16=False) for share in (0.3, 1.0)
    )
    assert 0 < float(near.detach()) < float(far.detach())
    far.backward()
    assert other.grad is not None
    assert float(other.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in ear.parameters())


def test_recordings_of_known_speakers_become_pieces(corpus: Path) -> None:
    network = PhoneEncoder(ENCODER)
    spoken = load_corpus(corpus, network)
    unknown = [dataclasses.replace(u, speaker="", states=0 * u.states + IGNORED) for u in spoken]
    real = [dataclasses.replace(u, speaker="actor") for u in unknown]
    kept = with_a_voice([*unknown, *real])
    assert [u.speaker for u in kept] == ["actor"] * len(real)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    pieces = Pieces(spoken, network, space, False, None, kept)
    rng = np.random.default_rng(0)
    options = RefinerOptions(batch=8, frames=40, recorded_share=1.0)
    assert all(task.source.speaker == "actor" for task, _ in pieces._choose(options, rng))
    few = dataclasses.replace(options, recorded_share=0.0)
    assert all(task.source.speaker != "actor" for task, _ in pieces._choose(few, rng))
    made = pieces.batch(options, rng)
    assert all(bool(torch.isfinite(column).all()) for column in made)


def test_recordings_are_converted_and_are_to_be_brought_back(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that begins with an earlier refiner, which knew fewer views."""
    encoder = load_encoder(trained_encoder)
    assert isinstance(encoder.network, PhoneEncoder)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    spoken = load_corpus(corpus, encoder.network)
    real = [dataclasses.replace(u, speaker="actor") for u in spoken if u.speaker == "low"]
    torch.manual_seed(0)
    earlier = Refiner(REFINER)
    torch.nn.init.normal_(earlier.write.weight, std=0.1)
    weights = tmp_path / "earlier.safetensors"
    write_tensors(weights, dict(earlier.state_dict()), {})

    config = dataclasses.replace(REFINER, views=(1, 3))
    pieces = Pieces(spoken, encoder.network, space, False, None, real, config.views)
    learner = earlier_learner(config, ENCODER.content_inputs, weights).eval()
    pieces.convert_recordings(learner, np.random.default_rng(1))
    assert 0 < len(pieces.converted_tasks) <= len(real)  # not into its own voice
    for task in pieces.converted_tasks:
        assert task.source.speaker in {"high", "low"}
        assert task.voice.utterances[0].speaker == "actor"
        (recording,) = (u for u in real if u.file == task.source.file)
        assert task.source.mel.shape == recording.mel.shape
        assert not np.allclose(task.source.mel, recording.mel, atol=0.1)
        width = ENCODER.mels * ENCODER.substeps
        truth = torch.from_numpy(recording.mel.astype(np.float32)).reshape(-1, width)
        assert torch.equal(task.truth[:, :width], truth)

    monkeypatch.setattr(refiner_module, "load_recordings", lambda *_: real)
    options = RefinerOptions(steps=1, batch=2, frames=40, channels=2, converted_share=1.0)
    folder = tmp_path / "refiner"
    trained = train_refiner(corpus, encoder, space, folder, options, config, weights)
    read = read_tensors(trained)[0]["read.weight"]
    assert read.shape[1] == earlier.read.in_channels + 2 * config.width

    with pytest.raises(KnnvcError, match="does not fit its configuration"):
        earlier_refiner(dataclasses.replace(config, channels=8), weights)
    deeper = earlier_refiner(dataclasses.replace(REFINER, layers=REFINER.layers + 2), weights)
    shown = torch.randn(1, 30, REFINER.width + 2), torch.rand(1, 30, REFINER.content)
    spectrum, vector = torch.ones(1, 2, REFINER.mels), torch.zeros(1, REFINER.statistics)
    with torch.no_grad():  # further layers change nothing at first
        assert torch.equal(
            deeper(*shown, spectrum, vector), earlier.eval()(*shown, spectrum, vector)
        )
    with pytest.raises(KnnvcError, match="is missing"):
        earlier_refiner(config, trained_encoder)

    twice = earlier_learner(config, ENCODER.content_inputs, trained).bottleneck.project.weight
    write_tensors(weights.parent / CONTENT, {LAYER: torch.zeros_like(twice)}, {})
    (content,) = average_contents([weights, trained]).values()
    assert torch.allclose(content, twice / 2)
    mean, noted = average_refiners([weights, trained], config)
    half = (earlier.write.weight + read_tensors(trained)[0]["write.weight"]) / 2
    assert torch.allclose(mean["write.weight"].float(), half, atol=1e-3)
    assert mean["read.weight"].shape == read.shape
    assert noted["steps"] == "?, 1"


def test_encoder_and_refiner_learn_from_twins(
    corpus: Path, trained_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One utterance of either voice is the other's twin, as they all say the same."""
    both = tmp_path / "corpus"
    shutil.copytree(corpus, both)
    names = ("high/high_000.flac", "low/low_000.flac")
    lines = [
        json.dumps(alignment(there, there.split("/")[0], 1.6) | {"original": here})
        for here, there in (names, names[::-1])
    ]
    (both / "twins-0.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    encoder = load_encoder(trained_encoder)
    assert isinstance(encoder.network, PhoneEncoder)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    training, _ = split(load_corpus(both, encoder.network))
    pieces = Pieces(training, encoder.network, space, False, load_twins(both, encoder.network))
    found = {(task.source.file, task.without) for task in pieces.twin_tasks}
    # Either way: to a twin (nothing of its voice is the truth), and back to the original.
    assert found == {(names[0], None), (names[1], None), (names[1], 0), (names[0], 0)}
    for task in pieces.twin_tasks:
        assert task.source.speaker != task.voice.utterances[0].speaker
        assert len(task.truth) == len(task.source.f0)

    learning = EncoderOptions(steps=1, batch=4, frames=40, report_every=1)
    train_encoder(both, tmp_path / "encoder", learning, ENCODER)
    # Both twins stand for recordings that the corpus has already: they do not count twice.
    assert f"{len(training)} utterances" in capsys.readouterr().out

    options = RefinerOptions(steps=1, batch=2, frames=40, channels=2, bf16=True)
    weights = train_refiner(both, encoder, space, tmp_path / "refiner", options, REFINER)
    assert read_tensors(weights)[1]["steps"] == "1"


def test_the_refiner_learns_from_disguised_speech_and_the_preset_uses_it(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    options = RefinerOptions(
        steps=2,
        adversarial_from=1,
        batch=2,
        frames=40,
        channels=2,
        report_every=1,
    )
    weights = train_refiner(corpus, encoder, space, tmp_path / "refiner", options, REFINER)
    rows = [json.loads(x) for x in (tmp_path / "refiner/log.jsonl").read_text().splitlines()]
    assert {"critics", "adversarial", "matching"} <= rows[1].keys() - rows[0].keys()
    assert all(np.isfinite(row["spectral"]) for row in rows)

    learner = earlier_learner(REFINER, ENCODER.content_inputs, weights).eval()
    matched = tmp_path / "refined.safetensors"
    prematch_refined(corpus, encoder, space, learner, matched)
    found = read_prematched(matched)
    assert sorted(found) == [f"{who}/{who}_00{n}.flac" for who in ("high", "low") for n in range(3)]
    wave, _ = sf.read(corpus / "low/low_000.flac")
    assert found["low/low_000.flac"].shape == (len(wave) // 320, 2 * ENCODER.mels + 2)

    vocoder = train_vocoder(
        corpus, tmp_path / "vocoder", VocoderOptions(steps=1, batch=2), matched, VOCODER
    )
    preset = package_mini(
        trained_encoder, vocoder, tmp_path / "preset", "tiny", ENCODER, VOCODER, [weights], REFINER
    )
    assert preset.speech_converter is not None
    assert preset.speech_converter.weights == preset.converter.weights
    assert preset.defaults["k"] == 4
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    assert isinstance(converter.converter, MiniConverter)
    assert converter.converter.refiner is not None
    waveform, _ = converter.convert(corpus / "low/low_002.flac", corpus / "high")
    assert np.isfinite(waveform).all()
    # Pure source frames pass it by.
    source = converter.encode(corpus / "low/low_002.flac")
    same = converter.match(source, converter.matching_set(corpus / "high"), lam=0.0)
    assert torch.equal(same.values, source[:, converter.encoder.columns.synth])


def test_critic_and_content_columns_learn_before_the_refiner_does(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    torch.manual_seed(0)
    begun = earlier_learner(REFINER, ENCODER.content_inputs, None)
    start = tmp_path / "start/refiner.safetensors"
    start.parent.mkdir()
    write_tensors(start, begun.refiner.state_dict(), {})
    write_tensors(start.parent / CONTENT, {LAYER: begun.bottleneck.project.weight.detach()}, {})
    options = RefinerOptions(
        steps=2, adversarial_from=0, critic_warmup=2, batch=2, frames=40, channels=2, report_every=1
    )
    weights = train_refiner(corpus, encoder, space, tmp_path / "new", options, REFINER, start)
    after = earlier_learner(REFINER, ENCODER.content_inputs, weights)
    for name, value in begun.refiner.state_dict().items():
        assert after.refiner.state_dict()[name] == pytest.approx(value, abs=1e-3), name
    assert not torch.equal(after.bottleneck.project.weight, begun.bottleneck.project.weight)
    rows = [json.loads(x) for x in (tmp_path / "new/log.jsonl").read_text().splitlines()]
    assert all(row["critics"] > 0 for row in rows)


def test_content_columns_of_another_width_are_refused(tmp_path: Path) -> None:
    start = tmp_path / "refiner.safetensors"
    write_tensors(start, Refiner(REFINER).state_dict(), {})
    narrow = torch.zeros(REFINER.encoded, ENCODER.hidden)
    write_tensors(tmp_path / CONTENT, {LAYER: narrow}, {})
    with pytest.raises(KnnvcError, match=CONTENT):
        earlier_learner(REFINER, ENCODER.content_inputs, start)


def test_all_of_a_network_may_wait(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    options = RefinerOptions(steps=100, threads=1)
    training = SpectrogramTraining(network, tmp_path, options, 4, {}, late=(network, 50))
    training.run.resume()
    assert training.begin_step()
    assert [group["lr"] for group in training.makers.param_groups] == [0.0]
    assert training.judges.param_groups[0]["lr"] > 0
