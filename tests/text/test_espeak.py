"""Phonemes: the strings that front ends were trained on, in every language, whatever the text."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.errors import UsageError
from knnvc.text import espeak

# Sentences of the training corpus with the phonemes that `phonemizer` gave when it was made.
CORPUS = Path(__file__).parents[1] / "assets" / "phonemes.json"


def test_the_phonemes_of_the_training_corpus() -> None:
    lines = json.loads(CORPUS.read_text(encoding="utf-8"))
    assert len(lines) == 60
    for line in lines:
        # Kokoro has no sign for syllabic consonants; the corpus leaves that mark out.
        spoken = espeak.phonemize(line["text"], "en-us").replace("\u0329", "")
        assert spoken == line["phones"]


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello, world.", "həlˈoʊ, wˈɜːld."),
        ("Wait... what?! No - really.", "wˈeɪt... wˌʌt?! nˈoʊ ɹˈiəli."),
        ("the (quick) “brown” fox", "ðə (kwˈɪk) “bɹˈaʊn” fˈɑːks"),
        ("déjà vu", "dˌeɪʒɑː vˈuː"),
        (".", "."),
        ("-", ""),
        ("", ""),
    ],
)
def test_punctuation_stays(text: str, phonemes: str) -> None:
    assert espeak.phonemize(text) == phonemes


def test_languages() -> None:
    known = espeak.languages()
    assert len(known) > 100
    assert known["de"] == "German"
    assert espeak.phonemize("Guten Morgen", "de") != espeak.phonemize("Guten Morgen", "en-us")
    assert espeak.phonemize("Привет", "ru") == "prʲivʲˈet"
    # A word of another language inside: no flag like (en) in the phonemes.
    assert "(" not in espeak.phonemize("I'd love to go out my way", "it")


@pytest.mark.parametrize("code", sorted(espeak.languages()))
def test_every_language_speaks(code: str) -> None:
    assert espeak.phonemize("1 a", code).strip()


@pytest.mark.parametrize(
    ("given_", "code"),
    [("en_US", "en-us"), ("EN-GB", "en-gb"), ("German", "de"), ("fr", "fr-fr"), ("en", "en-us")],
)
def test_spellings_of_a_language(given_: str, code: str) -> None:
    assert espeak.find_language(given_) == code


@pytest.mark.parametrize(
    ("given_", "close"), [("deutsch", "de (German)"), ("English", "en-gb"), ("zz", "en-us")]
)
def test_unknown_language(given_: str, close: str) -> None:
    with pytest.raises(UsageError, match=r"espeak-ng does not speak .*close matches are") as error:
        espeak.phonemize("hello", given_)
    assert close in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    assert "_" not in espeak.phonemize(text)


def test_long_words_and_control_characters() -> None:
    # espeak-ng skips most of such a word; knnvc.text.sentences cuts words long before.
    assert len(espeak.phonemize("ba" * 10_000)) > 1_000
    assert espeak.phonemize("a\x00b\ud800 c").endswith("sˈiː")


def test_threads_do_not_mix_languages() -> None:
    wanted = {code: espeak.phonemize("animal", code) for code in ("en-us", "de", "it", "fr-fr")}
    wrong: list[str] = []

    def work(code: str) -> None:
        wrong.extend(code for _ in range(50) if espeak.phonemize("animal", code) != wanted[code])

    threads = [threading.Thread(target=work, args=(code,)) for code in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
