"""Signs between letters and digits: whatever they are, nothing is glued."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.text.sentences import normalize

SIGNS = [
    *"^<>=*/\\|~#@&%+_$€£§†•→≠≤≥±×÷√∞♥★™®©°¬¦¶\"“”[]{}()!?;:,",
    ">=", "<=", "!=", "==", "->", "=>", "&&", "||", "::", "**", "+=", "😀", "❤️", " ^ ",
]  # fmt: skip
DIGITS = "zero one two three four five six seven eight nine ten".split()
WORDS = ["anna", "Users", "beta", "walk", "tree", "Paris"]


@given(st.sampled_from(WORDS), st.sampled_from(SIGNS), st.sampled_from(WORDS))
def test_words_stay_apart(first: str, sign: str, second: str) -> None:
    said = normalize(f"see {first}{sign}{second} now").lower()
    assert re.search(rf"\b{first.lower()}\b", said)
    assert re.search(rf"\b{second.lower()}\b", said)


@given(st.sampled_from(WORDS), st.sampled_from(SIGNS), st.integers(2, 9), st.booleans())
def test_words_and_digits_stay_apart(word: str, sign: str, digit: int, swapped: bool) -> None:
    pair = (str(digit), word) if swapped else (word, str(digit))
    said = normalize(f"see {pair[0]}{sign}{pair[1]} now").lower()
    assert re.search(rf"\b{word.lower()}\b", said)
    names = {DIGITS[digit], "squared", "cubed", DIGITS[digit] + "th"}
    assert any(re.search(rf"\b{name}\b", said) for name in names)


@given(st.integers(2, 9), st.sampled_from(SIGNS), st.integers(2, 9))
def test_digits_stay_apart(first: int, sign: str, second: int) -> None:
    said = normalize(f"see {first}{sign}{second} now")
    known = {*DIGITS, "squared", "cubed"}
    glued = {a + b for a, b in itertools.product(known, known)}
    assert not glued & set(re.findall(r"[a-z]+", said)) - {"sixteen"}
    assert re.search(rf"\b{DIGITS[first]}\b", said)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=4), st.sampled_from(["v", "V", "", "py"]))
def test_versions(numbers: list[int], prefix: str) -> None:
    said = normalize(f"since {prefix}{'.'.join(map(str, numbers))} came")
    assert said.count(" point ") == len(numbers) - 1 or "dot" in said or len(numbers) == 3
    assert not re.search(
        r"(?:one|two|three|four|five|six|seven|eight|nine|zero)(?:point|zero)", said
    )


@pytest.mark.parametrize(
    "printed",
    [
        "C:\\Users\\anna\\notes", "D:\\anna", "\\\\server\\share\\anna", "/home/anna/notes",
        "~/anna/notes", "./anna/notes.txt", "../anna/notes.py", "anna@notes.org",
        "https://anna.org/notes?x=1#top", "ftp://anna.net/notes", "www.anna.de/notes?i=5",
        "anna.notes", "anna::notes", "anna->notes", "anna/notes", "s3://anna/notes",
    ],
)  # fmt: skip
def test_paths_and_addresses(printed: str) -> None:
    said = normalize(f"see {printed} now").lower()
    assert re.search(r"\banna\b", said)
    assert re.search(r"\bten\b", said) is None  # x is no Roman numeral there
    assert re.search(r"[a-z]", said)
    if "notes" in printed:
        assert re.search(r"\bnotes\b", said)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("2^10", "two to the power of ten"),
        ("10^-3", "ten to the power of minus three"),
        ("10⁻³", "ten to the power of minus three"),
        ("x^3", "x cubed"),
        ("mc^2", "mc squared"),
        ("$US5, US $5", "five U-S dollars, five U-S dollars"),
        ("a<=b", "a at most b"),
        ("a ≥ b", "a at least b"),
        ("x<5 and y>6", "x less than five and y more than six"),
        ("MX$20, R$ 5", "twenty Mexican pesos, five Brazilian reais"),
        ("$5 USD", "five U-S dollars"),
        ("127.0.0.1", "one two seven dot zero dot zero dot one"),
        ("0x1F", "zero x one F"),
        ("?x=1", "x equals one"),
        ("1e-3", "one times ten to the power of minus three"),
        ("5%off", "five percent off"),
        ("a <b and c> d", "a less than b and c more than d"),
        ("<b>bold</b> and <a href='x'>link</a>", "bold and link"),
    ],
)
def test_signs_with_a_name(printed: str, said: str) -> None:
    assert normalize(printed).lstrip("? ") == said


@pytest.mark.parametrize("language", ["de", "fr", "ru"])
@given(sign=st.sampled_from(list("^*|~\\♥★→©")))
def test_other_languages(language: str, sign: str) -> None:
    assert "annabela" not in normalize(f"anna{sign}bela", language)
