"""Markdown as prose: headings, lists and links are read, blocks of code are not.

The package `markdown-it-py` parses it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from knnvc.errors import KnnvcWarning
from knnvc.text.passages import Passage

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(
    r"\A\ufeff?(?:---\n.*?\n(?:---|\.\.\.)|\+\+\+\n.*?\n\+\+\+)[ \t]*(?:\n|\Z)", re.DOTALL
)
_NOTE = re.compile(r"\[\^[^\]\s]+\]:?")


def read_markdown(text: str) -> list[Passage]:
    """The prose of a Markdown document.

    Headings and items are paragraphs, numbered items keep their number, a table is read row by row,
    a link is its text, a picture its description. Front matter and footnote marks go.

    Warns (`KnnvcWarning`) of blocks of code by their count, as they are left out.
    """
    from markdown_it import MarkdownIt

    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _FRONT_MATTER.sub("", text, count=1)
    text = _NOTE.sub("", text)  # "[^1]: x" would define a link for the parser
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    paragraphs, blocks = _paragraphs(parser.parse(text))
    if blocks:
        warnings.warn(
            f"{blocks} block{'s' if blocks > 1 else ''} of code in the Markdown will not be spoken",
            KnnvcWarning,
            stacklevel=3,
        )
    return [Passage("\n\n".join(paragraphs))] if paragraphs else []


def _paragraphs(tokens: Sequence[Token]) -> tuple[list[str], int]:
    """The paragraphs in one line each, and how many blocks of code were left out."""
    made: list[str] = []
    cells: list[str] | None = None
    label, blocks = "", 0
    for token in tokens:
        if token.type in ("fence", "code_block"):
            blocks += 1
        elif token.type == "list_item_open":
            label = f"{token.info}. " if token.info else ""
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close" and cells is not None:
            made += [", ".join(cells) + "."] if cells else []
            cells = None
        elif token.type in ("inline", "html_block"):
            inline = _inline(token.children or []) if token.type == "inline" else token.content
            said = " ".join(inline.split())
            said = re.sub(r"^\[[ xX]\] ", "", said)
            if cells is not None:
                cells += [said] if said else []
            elif said:
                made.append(label + said)
                label = ""
    return made, blocks


def _inline(children: Sequence[Token]) -> str:
    """The words of one paragraph."""
    said = []
    for child in children:
        if child.type in ("text", "code_inline"):
            said.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            said.append(" ")
        elif child.type == "image":
            said.append(_inline(child.children or []))
        elif child.type == "html_inline" and child.content.lower().startswith("<br"):
            said.append(" ")
    return "".join(said)
