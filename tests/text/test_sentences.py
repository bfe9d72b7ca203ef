"""Newspaper text to words: a table of printed lines, and text that nobody would print."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.errors import UsageError
from knnvc.text.lexicon import Lexicon
from knnvc.text.sentences import LONGEST, normalize, paragraphs, sentences

SPEAKABLE = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f]|[ ,.!?;:'-])*")

PRINTED = json.loads(Path(__file__).with_name("printed.json").read_text(encoding="utf-8"))
AMERICAN = {printed: said for lines in PRINTED.values() for printed, said in lines.items()}


@pytest.mark.parametrize("printed", AMERICAN, ids=str)
def test_american(printed: str) -> None:
    assert normalize(printed) == AMERICAN[printed]


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("105 people", "one hundred and five people"),
        ("07/04/2026", "the seventh of April, twenty twenty-six"),
        ("10 km", "ten kilometres"),
    ],
)
def test_british(printed: str, said: str) -> None:
    assert normalize(printed, "en-gb") == said


def texts(text: str, language: str = "en-us") -> list[str]:
    return [sentence.text for sentence in sentences(text, language)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Mr. Smith left at 5 p.m. Then it rained in the U.S. The end.",
            ["Mister Smith left at five P-M.", "Then it rained in the U-S.", "The end."],
        ),
        ("“Stop!” she cried. “Why?” he asked.", ["Stop! she cried.", "Why? he asked."]),
        ("So did I. Then we left.", ["So did I.", "Then we left."]),
        ("Wait... what? OK… Fine.", ["Wait, what?", "O-K.", "Fine."]),
        ("A HEADLINE\n\nAnd a line\nthat goes on", ["A HEADLINE.", "And a line that goes on."]),
        ("* one\n* two\n1. three\n2. four", ["one.", "two.", "one, three.", "two, four."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_pauses() -> None:
    made = list(sentences("One. Two.\n\nThree."))
    within, between, last = (sentence.pause for sentence in made)
    assert 0 < within < between
    assert last == 0


def test_other_languages_keep_what_espeak_reads() -> None:
    german = "Der Kurs fiel um 3,5 % auf 1.234,50 € am 24. November. Herr Dr. Müller: „Nein!“"
    assert texts(german, "de") == [
        "Der Kurs fiel um 3,5 % auf 1.234,50 € am 24. November.",
        "Herr Dr. Müller: Nein!",
    ]
    assert texts("我们去北京。你好！", "cmn") == ["我们去北京.", "你好!"]
    assert texts("नमस्ते दुनिया। ठीक", "hi") == ["नमस्ते दुनिया.", "ठीक."]
    assert texts("مرحبا، كيف؟", "ar") == ["مرحبا, كيف?"]


def test_nothing_to_say() -> None:
    for text in ("", " \n ", "?!... --- ***", "😀 👍", "\x00\x07", "()[]{}"):
        assert texts(text) == []


@given(st.text(max_size=80))
def test_only_what_can_be_spoken_is_left(text: str) -> None:
    for sentence in sentences(text):
        assert SPEAKABLE.fullmatch(sentence.text)
        assert any(sign.isalpha() for sign in sentence.text)
        assert len(sentence.text) <= LONGEST + 1  # and the mark at its end


PIECES = (
    "$ 5 1,000 3.5 - – / % p.m. Mr. VIII £ € bn th °C km ' \" ( ) Jan 2026 12:30 @ # www. a.com é "
    "Я 北 😀 ½ ² U.S. A & + = < … x the Henry I ... ?! 0 00 ft in 1/2 9/11 _ * ~ | \\ ٣ Ⅷ ́ ا"
).split()


@given(st.lists(st.sampled_from([*PIECES, " ", "\n\n"]), max_size=15))
def test_only_what_can_be_spoken_is_left_of_what_rules_look_for(pieces: list[str]) -> None:
    for sentence in sentences("".join(pieces)):
        assert SPEAKABLE.fullmatch(sentence.text)


@given(st.text(max_size=60), st.sampled_from(["de", "ru", "cmn", "hi", "ar", "en-gb"]))
def test_no_language_raises(text: str, language: str) -> None:
    for sentence in sentences(text, language):
        assert not re.search(r"[\x00-\x1f\x7f]", sentence.text)


@pytest.mark.parametrize("piece", ["x", "1", "$1 "])
def test_a_line_of_100_000_characters(piece: str) -> None:
    """One long line is neither refused nor takes for ever, and comes in short pieces."""
    began = time.process_time()
    line = (piece * 100_000)[:100_000]
    assert all(len(sentence.text) <= LONGEST + 1 for sentence in sentences(line))
    # Some rules would take the square of it: 400 s once.
    assert time.process_time() - began < 60


def test_a_long_sentence_is_cut_where_it_pauses() -> None:
    clause = "the quick brown fox jumps over the lazy dog"
    made = list(sentences(", ".join([clause] * 12) + "."))
    assert len(made) > 1
    assert all(sentence.text.endswith(",") for sentence in made[:-1])
    assert all(sentence.pause > 0 for sentence in made[:-1])
    assert " ".join(sentence.text for sentence in made) == ", ".join([clause] * 12) + "."


def test_lists_and_quotations_are_no_words() -> None:
    assert list(paragraphs("> quoted\n\n# Title #1\n\n- item")) == ["quoted", "Title #1", "item"]


def test_lexicon_before_the_rules() -> None:
    lexicon = Lexicon({"SQL": "sequel", "gpt-4": "gee pee tee four"}, {"km": "kɪm"})
    said = normalize("SQL and GPT-4 and sql, 5 km", "en-us", lexicon)
    assert said.startswith("sequel and gee pee tee four and sql, five ")
    assert lexicon.phonemes(said[-1]) == "kɪm"


def test_empty_lexicon_entries() -> None:
    with pytest.raises(UsageError, match="empty on one side"):
        Lexicon({"word": " "})
