"""A user's pronunciations, as files and inside sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knnvc.errors import KnnvcError, UsageError
from knnvc.text.lexicon import Lexicon
from knnvc.text.lines import read


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    lines = ["\ufeff# names", "", "Nguyen\tnwˈɪn", "knnvc = kay en en vee see", "polish\t/pˈɑːlɪʃ/"]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def said(text: str, lexicon: Lexicon) -> str:
    return " ".join(line.phonemes for line in read(text, "en-us", lexicon))


def test_text_file(text_file: Path) -> None:
    lexicon = Lexicon.load(text_file)
    assert len(lexicon) == 3
    spoken = said("Dr. Nguyen's knnvc, Polish; NGUYEN polishes Knnvc.", lexicon)
    assert spoken.count("nwˈɪn") == 1  # capitals in an entry: exactly that word
    assert "pˈɑːlɪʃ;" in spoken  # small letters: in any case
    assert spoken.count("kˈeɪ ˈɛn ˈɛn vˈiː sˈiː") == 2
    assert "pˈɑːlɪʃᵻz" in spoken  # another word, which espeak-ng reads


def test_json_file(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"Nguyen": "/nwˈɪn/", "AT&T": "ay tee and tee"}), encoding="utf-8")
    assert said("Nguyen of AT&T", Lexicon.load(path)) == "nwˈɪn ʌv ˈaɪ tˈiː ænd tˈiː."


def test_phonemes_alone() -> None:
    assert said("Nguyen", Lexicon(phonemes={"nguyen": "nwˈɪn"})) == "nwˈɪn."


def test_private_use_signs_in_a_text_are_no_entries() -> None:
    lexicon = Lexicon(phonemes={"a": "x"})
    assert said("hello \U000f0000 there \U000f0001", lexicon) == "həlˈoʊ ðˈɛɹ."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"Nguyen nwin", "line 1 of the lexicon .* is no entry"),
        ("a.txt", b"# fine\n\nword =", "line 3"),
        ("a.txt", "Nguyen\tnwɪn".encode("utf-16"), "no UTF-8"),
        ("a.txt", b"word\t", "empty on one side"),
        ("a.json", b"{", "is no JSON"),
        ("a.json", b'{"word": 5}', "no JSON object of words and strings"),
        ("a.json", b"[]", "no JSON object"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KnnvcError, match=message) as error:
        Lexicon.load(tmp_path / name)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Lexicon.load(tmp_path / "none.txt")


def test_json_that_is_nested_beyond_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(KnnvcError, match="is no JSON"):
        Lexicon.load(path)
