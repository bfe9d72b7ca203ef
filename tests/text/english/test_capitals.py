"""Shouted sentences: IT and US are pronouns there, unless they name something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.text.sentences import normalize

VERBS = ["GIVE", "SHOW", "TELL", "LEAVE", "TAKE", "BRING", "KNOW", "LOVE"]


@given(st.sampled_from(VERBS), st.sampled_from(["", " NOW", " PLEASE", "!", " TO THEM", "?"]))
def test_pronouns(verb: str, rest: str) -> None:
    assert " it" in normalize(f"{verb} IT{rest}")
    assert " us" in normalize(f"{verb} US{rest}")


@pytest.mark.parametrize(
    ("printed", "spelled"),
    [
        ("I work in IT.", "I-T"),
        ("IBM IT staff", "I-T"),
        ("THE IT DEPARTMENT CLOSES", "I-T"),
        ("US and UK", "U-S"),
        ("THE US WINS AGAIN", "U-S"),
        ("US ECONOMY GROWS", "U-S"),
        ("US GDP", "U-S"),
        ("US troops left", "U-S"),
    ],
)
def test_names(printed: str, spelled: str) -> None:
    assert spelled in normalize(printed)


def test_articles_tell() -> None:
    assert "I-T" in normalize("HE IS AN IT GUY AND WORKS HARD")
    assert "U-S" in normalize("HE SPENT A US DOLLAR THERE")
