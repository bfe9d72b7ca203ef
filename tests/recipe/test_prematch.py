"""Prematching of an aligned corpus, and the vocoder that reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor, nn

from knnvc.encoders.base import Columns
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.errors import KnnvcError
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.pipeline import VoiceConverter
from knnvc.training.prematch import from_others
from recipe.options import VocoderOptions
from recipe.package import package_mini
from recipe.prematch import prematch, read_prematched
from recipe.vocoder import train_vocoder
from tiny import ENCODER, RATE, VOCODER, alignment, load_encoder


class Loudness(nn.Module):
    """Every frame's feature is its mean amplitude, and all frames are equally near."""

    columns = Columns(synth=slice(0, 1), match=slice(1, 3))

    def forward(self, waveform: Tensor) -> Tensor:
        frames = waveform[:, :-80].reshape(1, -1, 320).mean(2)[..., None]
        return torch.cat([frames, torch.ones(*frames.shape[:2], 2)], dim=2)


def test_prematching_leaves_the_utterance_out(tmp_path: Path) -> None:
    amplitude = {"a/0.flac": 0.1, "a/1.flac": 0.3, "b/0.flac": 0.5, "b/1.flac": 0.7}
    amplitude["c/0.flac"] = 0.9  # alone: there is nothing to match it with
    lines = []
    for name, level in amplitude.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / name, np.full(3280, level), RATE)
        lines.append(json.dumps(alignment(name, name[0], 0.2)))
    (tmp_path / "alignments-0.jsonl").write_text("\n".join(lines))
    prematch(tmp_path, ChunkedEncoder(Loudness()), tmp_path / "matched.safetensors", k=2)
    matched = read_prematched(tmp_path / "matched.safetensors")
    # Every frame comes from the other utterance of the same speaker.
    other = {"a/0.flac": 0.3, "a/1.flac": 0.1, "b/0.flac": 0.7, "b/1.flac": 0.5}
    assert matched.keys() == other.keys()
    for name, level in other.items():
        assert matched[name].shape == (10, 1)
        assert matched[name] == pytest.approx(level, abs=1e-3)


def test_prematching_goes_on_where_it_stopped(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, out = load_encoder(trained_encoder), tmp_path / "matched.safetensors"
    asked: list[int] = []

    def counting(vectors: list[Tensor], synth: list[Tensor], index: int, k: int) -> Tensor | None:
        asked.append(index)
        if len(asked) == 5:  # in the second speaker
            raise KeyboardInterrupt
        return from_others(vectors, synth, index, k)

    monkeypatch.setattr("recipe.prematch.from_others", counting)
    with pytest.raises(KeyboardInterrupt):
        prematch(corpus, encoder, out)
    assert not out.exists()
    prematch(corpus, encoder, out)
    assert len(asked) == 5 + 3  # the first speaker's three utterances are not asked for again
    assert len(read_prematched(out)) == 6
    assert list(tmp_path.iterdir()) == [out]


def test_the_recipe_from_prematching_to_a_converted_voice(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    matched = tmp_path / "matched.safetensors"
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    prematch(corpus, encoder, matched, space=space)
    found = read_prematched(matched)
    assert sorted(found) == [f"{who}/{who}_00{n}.flac" for who in ("high", "low") for n in range(3)]
    own = encoder.encode(torch.from_numpy(sf.read(corpus / "low/low_000.flac")[0]).float())
    pitch = encoder.columns.pitch
    assert pitch is not None
    kept = torch.from_numpy(found["low/low_000.flac"]).float()[:, pitch : pitch + 2]
    assert torch.allclose(kept, own[:, pitch : pitch + 2], atol=0.01)  # stored in half precision

    options = VocoderOptions(
        steps=2,
        adversarial_from=1,
        batch=2,
        frames=36,
        prematched_share=1.0,
        channels=2,
        report_every=1,
    )
    vocoder = train_vocoder(corpus, tmp_path / "vocoder", options, matched, VOCODER)
    rows = [json.loads(x) for x in (tmp_path / "vocoder/log.jsonl").read_text().splitlines()]
    assert rows[0].keys() < rows[1].keys()
    assert {"critics", "adversarial", "matching"} <= rows[1].keys()  # from the second step on
    assert all(np.isfinite(value) for row in rows for value in row.values())

    preset = package_mini(trained_encoder, vocoder, tmp_path / "preset", "tiny", ENCODER, VOCODER)
    assert preset.provenance["encoder_steps"] == preset.provenance["vocoder_steps"] == "2"
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    waveform, rate = converter.convert(corpus / "low/low_002.flac", corpus / "high")
    assert rate == RATE
    assert abs(len(waveform) - 2 * RATE) <= 2 * 320
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() > 0.01


def test_too_short_utterances_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="no utterance is longer"):
        train_vocoder(corpus, tmp_path, VocoderOptions(steps=1, frames=500), config=VOCODER)


def test_tensorboard_gets_losses_sound_and_spectrograms(corpus: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = VocoderOptions(steps=1, batch=1, report_every=1, adversarial_from=9)
    train_vocoder(corpus, tmp_path, options, config=VOCODER)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    tags = events.Reload().Tags()
    assert {"spectral", "held_out_spectral"} <= set(tags["scalars"])
    assert set(tags["audio"]) == {"made", "real"}
    assert set(tags["images"]) == {"made spectrogram", "real spectrogram"}
