"""Newspaper text to words: a table of printed lines, and text that nobody would print."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.errors import UsageError
from knnvc.text.lexicon import Lexicon
from knnvc.text.sentences import LONGEST, normalize, paragraphs, sentences

SPEAKABLE = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f]|[ ,.!?;:'-])*")

AMERICAN = {
    # Numbers
    "1,234,567 cats": "one million two hundred thirty-four thousand five hundred sixty-seven cats",
    "7.9 billion": "seven point nine billion",
    "0.5 and .75": "zero point five and zero point seven five",
    "1 234 000 euros": "one million two hundred thirty-four thousand euros",
    "agent 007": "agent zero zero seven",
    "-5 degrees": "minus five degrees",
    "version 2.0.1": "version two point zero point one",
    "a 5-year-old": "a five-year-old",
    "3 + 4 = 7": "three plus four equals seven",
    "a 4x4, 5 × 6": "a four by four, five by six",
    "± 3": "plus or minus three",
    "~50 people": "about fifty people",
    "#1 and No. 10": "number one and number ten",
    "9000000000000001": "nine " + "zero " * 14 + "one",  # too long to be a number
    # Ordinals, fractions
    "21st-century": "twenty-first-century",
    "the 101st Airborne": "the one hundred first Airborne",
    "1/2 cup, 2 1/2 cups": "one half cup, two and a half cups",
    "3½ hours": "three and a half hours",
    "a 2/3rds majority": "a two thirds majority",
    "open 24/7 since 9/11": "open twenty-four seven since nine eleven",
    # Years, dates
    "in 1905, 2000 and 2026": "in nineteen oh-five, two thousand and twenty twenty-six",
    "in 2007": "in two thousand seven",
    "the 1990s and '80s": "the nineteen nineties and eighties",
    "in his mid-30s": "in his mid-thirties",
    "1939–45": "nineteen thirty-nine to forty-five",
    "the 2019/20 season": "the twenty nineteen to twenty season",
    "Nov. 24, 2026": "November twenty-fourth, twenty twenty-six",
    "on Sept. 11": "on September eleventh",
    "24 November 2026": "the twenty-fourth of November, twenty twenty-six",
    "the 4th of July": "the fourth of July",
    "May 5-7": "May fifth to seventh",
    "2026-07-04": "July fourth, twenty twenty-six",
    "07/04/2026": "July fourth, twenty twenty-six",
    "31/12/1999": "December thirty-first, nineteen ninety-nine",
    "c. 1850": "circa eighteen fifty",
    "A.D. 79": "A-D seventy-nine",
    # Times
    "at 3:30 p.m. on Monday": "at three thirty P-M on Monday",
    "9am-5pm": "nine A-M to five P-M",
    "9-10 a.m. daily": "nine to ten A-M daily",
    "at 10:05": "at ten oh five",
    "12:00": "twelve o'clock",
    "7.30pm GMT": "seven thirty P-M G-M-T",
    "a 2:1 ratio": "a two to one ratio",
    # Money
    "$1,234.56": "one thousand two hundred thirty-four dollars and fifty-six cents",
    "$0.99": "ninety-nine cents",
    "$1": "one dollar",
    "$2.9 trillion": "two point nine trillion dollars",
    "£1.2bn": "one point two billion pounds",
    "€5.50 or 5,50 €": "five euros and fifty cents or five euros and fifty cents",
    "US$100 and A$20m": "one hundred U-S dollars and twenty million Australian dollars",
    "£3m-£4m": "three to four million pounds",
    "$5-10 million": "five to ten million dollars",
    "a $10-million deal": "a ten million dollar deal",
    "¥500, CHF 20, 100 EUR": "five hundred yen, twenty Swiss francs, one hundred euros",
    "50p": "fifty pence",
    "-$5": "minus five dollars",
    # Per cent, ranges, scores
    "rose 3.2%": "rose three point two percent",
    "5–10%": "five to ten percent",
    "pages 10-20": "pages ten to twenty",
    "won 3-1": "won three one",
    "20k jobs, 5bn trees": "twenty thousand jobs, five billion trees",
    # Units
    "60 mph for 10 km": "sixty miles per hour for ten kilometers",
    "-5°C and 98.6 °F": "minus five degrees Celsius and ninety-eight point six degrees Fahrenheit",
    "10 m² and 5 km²": "ten square meters and five square kilometers",
    "a 100m race": "a one hundred meters race",
    "1.5m homes": "one point five million homes",
    "5.5 L, 1 kg, 200 sq ft": "five point five liters, one kilogram, two hundred square feet",
    "16 GB at 3.2 GHz": "sixteen gigabytes at three point two gigahertz",
    "he is 6'2\"": "he is six foot two",
    # Abbreviations, initials
    "Mr. and Mrs. Smith": "Mister and Missus Smith",
    "Dr Jones of St. Louis": "Doctor Jones of Saint Louis",
    "Gen. Milley vs. Sen. Sanders": "General Milley versus Senator Sanders",
    "221B Baker St., London": "two twenty-one B Baker Street, London",
    "Apple Inc. shares": "Apple Incorporated shares",
    "e.g. this, i.e. that, etc. and": "for example this, that is that, et cetera and",
    "J. K. Rowling and George W. Bush": "J-K Rowling and George W Bush",
    "a U.S.-based Ph.D. student": "a U-S-based P-H-D student",
    "the IMF, the UAE and NASA": "the I-M-F, the U-eigh-E and NASA",
    "MPs and the BBC's plan": "M-P's and the B-B-C's plan",
    "AT&T, Q&A": "A-T and T, Q and eigh",
    "YOU ARE NOT ALONE": "YOU ARE NOT ALONE",
    # Roman numerals
    "Henry VIII and Elizabeth II": "Henry the eighth and Elizabeth the second",
    "Louis XIV's court": "Louis the fourteenth's court",
    "Pope John Paul II": "Pope John Paul the second",
    "World War II": "World War two",
    "Chapter IV, Act V, Scene ii": "Chapter four, Act five, Scene two",
    "Super Bowl LVIII": "Super Bowl fifty-eight",
    "I told King Charles I think so": "I told King Charles I think so",
    "Malcolm X": "Malcolm X",
    # Letters and digits
    "COVID-19, F-16, G7": "COVID nineteen, F sixteen, G seven",
    "the A380 and MH370": "the eigh three eighty and M-H three seventy",
    "H₂O and CO₂": "H two O and C-O-two",
    # Addresses, telephones
    "www.bbc.co.uk/news": "B-B-C dot co dot U-K slash news",
    "j.doe@example.com": "J dot doe at example dot com",
    "#BlackLivesMatter @nytimes": "hashtag Black Lives Matter at nytimes",
    "1-800-555-0199": "one, eight zero zero, five five five, zero one nine nine",
    "+44 20 7946 0958": "plus four four, two zero, seven nine four six, zero nine five eight",
    # Signs
    "“I’m ‘fine’ — really (no)…”": "I'm fine, really, no.",
    "and/or, his/her": "and or, his or her",
    "**bold** `code` <b>tag</b>": "bold code tag",
    "Hello 😀👍🏽 🇬🇧 ❤️ ok": "Hello ok",
    "π and α": "pi and alpha",
    "Москва, Ελλάδα, 北京": "Moskva, Ellada, Bei Jing",
    "naïve café Dvořák": "naïve café Dvořák",
    "ﬁne ＨＥＬＬＯ 𝗕𝗼𝗹𝗱": "fine HELLO Bold",
    "AT&amp;T &lt;3": "A-T and T less than three",
    "C++ and C#": "C plus plus and C sharp",
    "what?!! no...": "what? no.",
    "a\x00b\x07c\u200bd\u202ee": "abcde",
    "rock 'n' roll, the dogs' bowls": "rock 'n' roll, the dogs' bowls",
}  # fmt: skip


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
