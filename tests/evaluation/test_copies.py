"""Copy-synthesis by name, and the table that compares vocoders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc.audio import load_audio
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.copies import (
    RECORDING,
    log_spectral_distance,
    markdown,
    measure_copies,
    rows,
    text,
    write_report,
)
from knnvc.evaluation.instruments import Heard, Wave
from knnvc.presets.copying import Copier, here, open_copier


def hum(seconds: float, pitch: float) -> Wave:
    times = np.arange(round(seconds * 16_000)) / 16_000
    return sum(0.2 / n * np.sin(2 * np.pi * pitch * n * times) for n in range(1, 20)).astype("f4")


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Two recordings, of which the first has a transcript."""
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path, pitch in zip(paths, (110.0, 190.0), strict=True):
        sf.write(path, hum(0.5, pitch), 16_000, subtype="FLOAT")
    paths[0].with_suffix(".txt").write_text("One two, three!")
    return paths


class Ears:
    """Hears "one two" everywhere; what is louder than the last seems more natural."""

    def names(self) -> dict[str, str]:
        return {"words": "a stub"}

    def listen(self, wave: Wave, words: bool = True) -> Heard:
        assert wave.dtype == np.float32
        return Heard({"stub": "one two"}, {}, float(np.abs(wave).max()) + 1, 2.0)


def half(waveform: torch.Tensor, rate: int) -> torch.Tensor:
    return waveform / 2


def test_the_distance_of_log_spectra_is_that_of_their_levels() -> None:
    wave = hum(0.5, 120)
    assert log_spectral_distance(wave, wave) == 0
    noise = np.random.default_rng(0).normal(size=8000).astype("f4")
    assert log_spectral_distance(noise, noise / 10) == pytest.approx(20, abs=0.5)
    assert log_spectral_distance(noise, noise[:4000]) == 0


def test_the_table_counts_what_was_heard(recordings: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "copies"
    measured = measure_copies(recordings, [Copier("half", None, half)], Ears(), out)
    real, made = rows(measured)
    assert (real.vocoder, made.vocoder) == (RECORDING, "half")
    # Of a, three words are said and two heard; b has no transcript and is not its own judge.
    assert real.wer is not None
    assert real.wer.value == pytest.approx(1 / 3)
    assert made.wer is not None
    assert made.wer.value == pytest.approx(1 / 5)
    assert (real.distance, real.speed) == (None, None)
    assert made.distance is not None
    assert made.distance.value < 0.1  # brought back to the recording's loudness
    assert made.speed is not None
    assert {p.name for p in (out / "half").iterdir()} == {"a.flac", "b.flac"}
    written = write_report(out, measured, Ears().names(), ["hifigan-v1"])
    assert [path.name for path in written] == ["copies.json", "copies.csv", "copies.md"]
    content = json.loads(written[0].read_text())
    assert content["not on this machine"] == ["hifigan-v1"]
    assert len(content["recordings"]) == 4
    assert written[2].read_text() == markdown([real, made])
    assert text([real, made]).splitlines()[2].startswith("half")


@pytest.mark.parametrize("name", ["griffin-lim-mfcc", "mini"])
def test_a_copy_is_as_long_and_its_spectrum_is_near(
    recordings: list[Path], tmp_path: Path, name: str
) -> None:
    copier = open_copier(name, "cpu")
    wave = load_audio(recordings[0], copier.given_rate)
    made = copier.copy(wave)
    assert len(made) == round(len(wave) * copier.sample_rate / copier.given_rate)
    quiet = np.random.default_rng(0).normal(scale=1e-3, size=len(wave)).astype("f4")
    near = log_spectral_distance(wave.numpy(), made.numpy())
    assert near < log_spectral_distance(wave.numpy(), quiet)


def test_bigvgan_out_of_a_file_reads_its_own_spectra(parity: Path, recordings: list[Path]) -> None:
    copier = open_copier(parity / "bigvgan", "cpu")
    made = copier.copy(load_audio(recordings[0]))
    assert (len(made), copier.sample_rate) == (8000, 16_000)


def test_a_vocoder_on_features_wants_to_know_whose(parity: Path, tmp_path: Path) -> None:
    weights, config = parity / "hifigan_tiny.pt", parity / "hifigan_tiny.json"
    with pytest.raises(UsageError, match="name --encoder and --layer"):
        open_copier(weights, "cpu", config=config)
    encoder = str(parity / "wavlm_tiny.pt")
    copier = open_copier(weights, "cpu", config=config, encoder=encoder, layer=6)
    assert len(copier.copy(torch.randn(8000) / 10)) == 8000
    with pytest.raises(KnnvcError, match="use files that belong together"):
        open_copier(weights, "cpu", config=config, encoder="mfcc")


def test_names_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"did you mean griffin-lim\?"):
        open_copier("grifin-lim")
    with pytest.raises(KnnvcError, match=r"hifigan-v1 is not here.*g_02500000"):
        open_copier("hifigan-v1")
    present, absent = here()
    assert present == ["mini", "world", "griffin-lim", "griffin-lim-mfcc"]
    assert {"wavlm-large", "vocos", "bigvgan-v2-22khz", "ssl-hubert-base"} <= set(absent)
