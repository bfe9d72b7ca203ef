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
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(
    r"\A\ufeff?(?:---\n.*?\n(?:---|\.\.\.)|\+\+\+\n.*?\n\+\+\+)[ \t]*(?:\n|\Z)", re.DOTALL
)
# A formula as Pandoc tells it from two prices: no space inside at its ends, no digit after it.
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?![\s$])((?:\\.|[^$\\])+?)(?<!\s)\$(?![\d$])", re.DOTALL)
_FORMAL = re.compile(r"[\\^_=+*/<>{}]")  # a price has none of them
_SIGNS = {
    **dict.fromkeys(("left", "right", "text", "mathrm", "mathbf", "quad", "displaystyle"), ""),
    **dict.fromkeys(("times", "cdot"), "×"),
    **dict.fromkeys(("le", "leq"), "≤"),
    **dict.fromkeys(("ge", "geq"), "≥"),
    **dict.fromkeys(("ne", "neq"), "≠"),
    "div": "÷",
    "pm": "±",
    "approx": "≈",
    "infty": "infinity",
}
_NOTE = re.compile(r"\[\^[^\]\s]+\]:?")


def read_markdown(text: str) -> list[Passage]:
    """The prose of a Markdown document.

    Headings and items are paragraphs, numbered items keep their number, a table is read row by row,
    a link is its text, a picture its description, a formula is no price in dollars. Front matter
    and footnote marks go.

    Warns (`KnnvcWarning`) of blocks of code by their count, as they are left out.
    """
    from markdown_it import MarkdownIt

    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _FRONT_MATTER.sub("", text, count=1)
    text = _NOTE.sub("", text)  # "[^1]: x" would define a link for the parser
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.inline.ruler.before("escape", "formula", _formula)
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


def _formula(state: StateInline, silent: bool) -> bool:
    """A rule for the parser: a formula begins here."""
    match = _FORMULA.match(state.src, state.pos, state.posMax)
    before = state.src[state.pos - 1 : state.pos] if state.pos else ""
    if not match or before.isalnum():
        return False
    formula = match[1] or match[2]
    if formula[0].isdigit() and " " in formula and not _FORMAL.search(formula):
        return False
    if not silent:
        state.push("text", "", 0).content = _spoken(formula)
    state.pos = match.end()
    return True


def _spoken(formula: str) -> str:
    """A formula of LaTeX in one line, as a reader may say it."""
    said = re.sub(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1 over \2", formula)
    said = re.sub(r"\\sqrt\{([^{}]*)\}", r"the square root of \1", said)
    said = re.sub(r"\\([A-Za-z]+)", lambda one: f" {_SIGNS.get(one[1], one[1])} ", said)
    said = re.sub(r"\\.", " ", said, flags=re.DOTALL)
    return " ".join(re.sub(r"[{}]", "", said).replace("_", " ").split())


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
