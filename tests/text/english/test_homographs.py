""" "read" of the past sounds like "red"; where nothing decides, it stays."""

from __future__ import annotations

import pytest

from knnvc.text.sentences import normalize


@pytest.mark.parametrize(
    "text",
    [
        "I read the book yesterday.", "She read the letter.", "They have read it.",
        "It was read aloud.", "We read it last week.", "Anna read it twice.", "I've read it.",
        "He never read it.", "They read it two years ago.", "It has been widely read.",
        "The students read it yesterday.",
        "My mother read to me.", "Had you read it?", "I read about it in 1990.",
    ],
)  # fmt: skip
def test_past(text: str) -> None:
    assert " red" in normalize(text)


@pytest.mark.parametrize(
    "text",
    [
        "I read every day.", "Did she read it?", "We will read it.", "Please read this.",
        "Read the book.", "I like to read.", "Can Anna read it?", "Let him read.",
        "They read every day.", "You should read it.", "He did not read it yesterday.",
        "What did they read last week?", "She can read and write.", "read-only",
        "The people read a lot.", "Can the boy read?",
    ],
)  # fmt: skip
def test_present(text: str) -> None:
    assert " red" not in f" {normalize(text).lower()}"
    assert "read" in normalize(text).lower()
