"""Markdown as prose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.errors import KnnvcError, KnnvcWarning
from knnvc.text.documents import read_document
from knnvc.text.markdown import read_markdown


def said(text: str) -> list[str]:
    return [line.text for line in read_document(text, "markdown")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Title\n\nA *very* **bold** word.", ["Title.", "A very bold word."]),
        ("Title\n=====\n\n## Next ##", ["Title.", "Next."]),
        ("- one\n- two\n  - three", ["one.", "two.", "three."]),
        ("3. one\n4. two", ["three, one.", "four, two."]),
        ("See [the docs](https://a.org/x?y=1 'title').", ["See the docs."]),
        ("![a red cat](cat.png) sleeps", ["a red cat sleeps."]),
        ("Use `x` here  \nand there", ["Use x here and there."]),
        ("> quoted\n> words", ["quoted words."]),
        ("| a | b |\n|---|---|\n| one | two |", ["a, b.", "one, two."]),
        ("---\ntitle: x\n---\n\nText.", ["Text."]),
        ("One.\n\n---\n\nTwo.", ["One.", "Two."]),
        ("A claim.[^1] More.\n\n[link]: https://a.org", ["A claim.", "More."]),
        ("- [x] done\n- [ ] open", ["done.", "open."]),
        ("<!-- hidden -->\n\nShown <b>bold</b><br>text.", ["Shown bold text."]),
        ("~~old~~ 2 \\* 3", ["old two times three."]),
    ],
)
def test_prose(text: str, expected: list[str]) -> None:
    assert said(text) == expected
    assert said(text.replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so $x^2$ is", "so x squared is."),
        ("Let $n$ be", "Let n be."),
        ("from $a_1$ on", "from a one on."),
        ("$$\nE = m\n$$", "E equals m."),
        (r"so $\frac{a}{b} \le \pi$", "so a over b at most pi."),
        ("The price is $5 and $6.", "The price is five dollars and six dollars."),
        ("It cost $5-$10 then", "It cost five to ten dollars then."),
        ("costs \\$5, not \\$6", "costs five dollars, not six dollars."),
        ("$5 to US$ here", None),
    ],
)
def test_formulas_are_no_prices(text: str, expected: str | None) -> None:
    if expected is None:
        assert "dollars" in said(text)[0]
    else:
        assert said(text) == [expected]


@pytest.mark.parametrize("note", ["note", "a longer note"])
def test_marks_of_footnotes_go(note: str) -> None:
    assert said(f"Foot[^1] here.\n\n[^1]: {note}\n") == ["Foot here.", f"{note}."]


def test_code_is_left_out_with_a_warning() -> None:
    text = "Run this:\n\n```sh\nrm -rf /\n```\n\nand\n\n    indented()\n\nthen stop."
    with pytest.warns(KnnvcWarning, match="2 blocks of code"):
        assert said(text) == ["Run this.", "and.", "then stop."]


def test_nothing_but_code() -> None:
    with (
        pytest.warns(KnnvcWarning, match="1 block of code"),
        pytest.raises(KnnvcError, match="can be spoken"),
    ):
        said("```\nx = 1\n```")


@given(st.text("#*_-`[]()!<>|~ \n1.ab\\:", max_size=60))
@pytest.mark.filterwarnings("ignore::knnvc.errors.KnnvcWarning")
def test_any_text(text: str) -> None:
    for passage in read_markdown(text):
        assert passage.text.strip()


@pytest.mark.parametrize("piece", ["> ", "- ", "[", "*a ", "![", "<b>"])
def test_deep_nesting(piece: str) -> None:
    read_markdown(piece * 5000 + "x")
