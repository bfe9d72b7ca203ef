"""What is hard to read: long sentences, long lines and phrases that have a plainer form.

usage: python docs/tools/prose.py    (names the places, in documents, help, docstrings and messages)
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_WORDS = 26  # of a sentence
MOST_COLUMNS = 160  # of a line of a document that is no table
# A phrase, and what to write instead.
BANNED = {
    r"\b(that|those) of\b": "repeat the noun, or use 's",
    r"\bof which\b": "begin a new sentence",
    r"\bfor want of\b": "without",
    r"\bin order to\b": "to",
    r"\b(whereby|whereof|thereof|therein|hitherto|heretofore)\b": "say it plainly",
    r"\b(utili[sz]e|leverage)[sd]?\b": "use",
    r"\bto the life\b": "exactly",
    r"\bwho wants\b": "if you want",
    r"\b(very|quite) (unique|essential)\b": "drop the first word",
    r"\bit should be noted\b": "drop it",
    r"\bin terms of\b": "say which",
}
ROOTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FOLDERS = ("docs", "packaging", "benchmarks", "matching_sets", "vocoder")
# History keeps its words.
HISTORY = ("docs/experiments/",)
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|et al|p\.m|a\.m|Nov|vs|No|etc|cf|[A-Z])\.(?=\s)")
END = re.compile(r"(?<=[.!?:;])[\"”)*]*\s+")


def documents() -> list[Path]:
    """README, cards and documents that tell how things are, not how they came about."""
    found = [ROOT / one for one in ROOTS]
    found += [path for one in FOLDERS for path in sorted((ROOT / one).rglob("*.md"))]
    return [one for one in found if not _path(one).startswith(HISTORY)]


def problems(text: str) -> Iterator[str]:
    """What is wrong with a piece of prose."""
    for pattern, advice in BANNED.items():
        if found := re.search(pattern, _plain(text), re.IGNORECASE):
            yield f"{found[0]!r}: {advice}"
    for sentence in sentences(text):
        count = len(re.findall(r"\S*\w\S*", sentence))
        if count > MOST_WORDS:
            yield f"{count} words: {sentence[:70]}"


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph; a colon and a semicolon end one, too."""
    plain = ABBREVIATION.sub(r"\1", " ".join(_plain(text).split()))
    return [one for one in END.split(plain) if one]


def document_problems(text: str) -> Iterator[tuple[int, str]]:
    """Line and what is wrong there, of a text in Markdown."""
    text = re.sub(r"<!--.*?-->", _blank, text, flags=re.DOTALL)
    text = FENCE.sub(_blank, text)
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MOST_COLUMNS and not line.lstrip().startswith(("|", "![")):
            yield number, f"{len(line)} columns"
    for start, paragraph in _paragraphs(text):
        yield from ((start, problem) for problem in problems(paragraph))


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items, headings and table cells, with their lines."""
    begun, lines = 0, []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        stripped = line.strip()
        cells = re.split(r"(?<!\\)\|", stripped)[1:-1] if stripped.startswith("|") else []
        new = not stripped or cells or re.match(r"([-*#>:]|\d+\.|\[ \])\s", stripped)
        if new and lines:
            yield begun, " ".join(lines)
            lines = []
        yield from ((number, cell.strip()) for cell in cells)
        if stripped and not cells:
            begun = begun if lines else number
            lines.append(re.sub(r"^([-*#>:]+|\d+\.)\s+(\[.\] )?", "", stripped))


def help_texts() -> Iterator[tuple[str, str]]:
    """Where and what of every help text of the command line."""
    import click

    from knnvc.cli.main import cli

    def walk(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
        text = (command.help or "").split("\b")[0]
        yield from ((f"{name} --help", part) for part in text.split("\n\n"))
        for option in command.params:
            yield f"{name} {option.name}", getattr(option, "help", "") or ""
        for child in getattr(command, "commands", {}).values():
            yield from walk(child, f"{name} {child.name}")

    yield from walk(cli, "knnvc")


def first_lines(package: Path) -> Iterator[tuple[str, str]]:
    """Where and what of the first paragraph of every docstring."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                where = f"{path.relative_to(package.parent)}:{getattr(node, 'lineno', 1)}"
                yield where, text.split("\n\n")[0]


def all_problems(package: Path) -> Iterator[str]:
    """Every problem of the repository, with its place."""
    import messages

    for path in [*documents(), package / "presets/mini/MODEL_CARD.md"]:
        found = document_problems(path.read_text(encoding="utf-8"))
        yield from (f"{_path(path)}:{line}: {problem}" for line, problem in found)
    spoken = [(f"{one.file}:{one.line}", one.text) for one in messages.messages(package)]
    for where, text in [*help_texts(), *first_lines(package), *spoken]:
        yield from (f"{where}: {problem}" for problem in problems(text))


def _plain(text: str) -> str:
    """Prose without code, links' targets and emphasis."""
    text = re.sub(r"(`+).+?\1", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}", "", text)


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _path(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    told = list(all_problems(ROOT / "knnvc"))
    print("\n".join(told))
    sys.exit(1 if told else 0)
