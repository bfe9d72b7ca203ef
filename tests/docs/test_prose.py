"""Documents, help texts, docstrings' first lines and messages are plain English."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import knnvc

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import prose  # noqa: E402


def test_nothing_is_hard_to_read() -> None:
    found = list(prose.all_problems(Path(knnvc.__file__).parent))
    assert not found, "\n".join(found[:20])


def test_documents_are_looked_at() -> None:
    names = {path.name for path in prose.documents()}
    assert {"README.md", "CHANGELOG.md", "speak.md", "RELEASE.md", "formats.md"} <= names
    assert len(list(prose.help_texts())) > 150
    assert len(list(prose.first_lines(Path(knnvc.__file__).parent))) > 1000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("The rate is that of the source.", "'that of'"),
        ("Words, two of which are lost.", "'of which'"),
        ("It fails for want of room.", "'for want of'"),
        ("Use it in order to convert.", "'in order to'"),
        (" ".join(["word"] * 27) + ".", "27 words"),
    ],
)
def test_what_is_hard_to_read_is_found(text: str, problem: str) -> None:
    assert any(problem in one for one in prose.problems(text))


@pytest.mark.parametrize(
    "text",
    [
        "It says that of all things `that of` is code.",
        " ".join(["word"] * 20) + ". " + " ".join(["word"] * 20) + ".",
        "At 3:30 p.m. on Nov. 24 by " + " ".join(["word"] * 12) + ".",
        "[" + " ".join(["word"] * 20) + "](" + "/".join(["folder"] * 20) + ")",
    ],
)
def test_plain_text_is_not(text: str) -> None:
    assert not [one for one in prose.problems(text) if "words" in one]


def test_places_in_a_document_are_named() -> None:
    text = "# Title\n\n```sh\nthat of\n```\n\nGood.\n\n- one\n- that of two\n\n| a | of which |\n"
    assert list(prose.document_problems(text)) == [
        (10, "'that of': repeat the noun, or use 's"),
        (12, "'of which': begin a new sentence"),
    ]
    assert next(iter(prose.document_problems("word\n" * 30)))[1].startswith("30 words")
    assert list(prose.document_problems("x" * 161 + "\n")) == [(1, "161 columns")]
