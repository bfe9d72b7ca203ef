"""docs/encoders.md and docs/vocoders.md say what the catalogue says."""

from __future__ import annotations

from pathlib import Path

import pytest

from knnvc.errors import UsageError
from knnvc.presets.tables import encoder_table, vocoder_table, with_table

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "table"), [("encoders.md", encoder_table()), ("vocoders.md", vocoder_table())]
)
def test_the_documents_have_the_tables(name: str, table: str) -> None:
    """`python -m knnvc.presets.tables docs` writes them again."""
    if not DOCS.is_dir():
        pytest.skip("the wheel has no docs")
    text = (DOCS / name).read_text(encoding="utf-8")
    assert with_table(text, table) == text
    assert len(table.splitlines()) > 15


def test_a_document_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="no place for a table"):
        with_table("# Encoders\n", "| a |\n")
