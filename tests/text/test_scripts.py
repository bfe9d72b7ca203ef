"""Scripts that a language has not: read in Latin letters, and told by name."""

from __future__ import annotations

import warnings

import pytest

from knnvc.errors import KnnvcWarning
from knnvc.text.lines import read
from knnvc.text.scripts import foreign_words, latin


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("مرحبا", "Arabic"),
        ("שלום", "Hebrew"),
        ("สวัสดี", "Thai"),
        ("Привет", "Cyrillic"),
        ("你好", "Chinese"),
        ("こんにちは", "Japanese"),
        ("안녕하세요", "Korean"),
        ("नमस्ते", "Devanagari"),
        ("Γειά", "Greek"),
        ("გამარჯობა", "Georgian"),
    ],
)
def test_a_foreign_word_is_told_by_name(word: str, name: str) -> None:
    with pytest.warns(KnnvcWarning, match=name) as caught:
        lines = list(read(f"He said {word} to me.\n\nThen {word} again.", "en-us"))
    assert lines
    assert len(caught) == 1  # once a text
    assert word[:5] in str(caught[0].message)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("naïve Dvořák, 5 µg, 3 kΩ, π and α, ﬁne ＨＥＬＬＯ 𝗕𝗼𝗹𝗱", "en-us"),
        ("Привет", "ru"),
        ("你好", "cmn"),
        ("Ça va, größer, señor, İstanbul", "fr"),
    ],
)
def test_no_warning(text: str, language: str) -> None:
    assert foreign_words(text, language) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(read(text, language))


def test_units_keep_their_letters() -> None:
    assert latin("5 μg and 5 µg") == "5 µg and 5 µg"
    assert latin("3 kΩ, 5 Ω") == "3 kΩ, 5 Ω"
    assert latin("π μ Ω") == " pi   mu   omega "
