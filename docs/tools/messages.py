"""Every message that the package can print, found in its source, and which of them
docs/troubleshooting.md explains.

usage: python docs/tools/messages.py          prints the rows that are missing or out of date
       python docs/tools/messages.py --mend   adds and removes them; a remedy may be empty
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
HOLE = "…"  # what a message fills in
# What is called with a message: errors, warnings, and functions that build either.
Names: TypeAlias = dict[str, list[ast.expr]]
RAISERS = frozenset(
    "KnnvcError UsageError KnnvcWarning DecodeError NoSoundError warn BadParameter "
    "_unlike _unreachable _cut _damaged".split()
)
# Sentences that are only a part of another message carry no advice of their own.
PARTS = frozenset({"DecodeError", "NoSoundError", "_unlike", "_unreachable", "_cut", "_damaged"})
OTHERS = frozenset(
    "AssertionError AttributeError OSError RuntimeError SystemExit TypeError ValueError".split()
)
SAYERS = frozenset({"say", "echo", "write", "_say"})
PREFIX = re.compile(r"^(Error|Warning): ")
# Heading of the page: beginnings of the files whose messages stand below it; the last is for all.
SECTIONS = {
    "Recordings": ("knnvc/audio/", "knnvc/files.py"),
    "Voices and matching sets": ("knnvc/voices/", "knnvc/converters/", "knnvc/kept.py"),
    "Text": ("knnvc/text/", "knnvc/speech.py"),
    "Many files": ("knnvc/batch/",),
    "Downloads": ("knnvc/presets/download.py", "knnvc/presets/web.py"),
    "Presets and weights": (
        *(
            "knnvc/presets/",
            "knnvc/encoders/",
            "knnvc/vocoders/",
            "knnvc/mini/",
            "knnvc/tensors.py",
        ),
        *("knnvc/registry.py", "knnvc/pipeline.py", "knnvc/steps.py", "knnvc/encoding.py"),
    ),
    "Measuring and looking": ("knnvc/evaluation/",),
    "Training": ("knnvc/training/",),
    "The call": ("knnvc/",),
}
ROW = re.compile(r"^\| (`+)(.+?)\1 \| (.*?) \|$", re.MULTILINE)
LETTERS = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Message:
    """A message with `HOLE` where values stand, and where it is raised."""

    text: str
    file: str
    line: int


def messages(package: Path) -> list[Message]:
    """All messages of a package with words of their own, by file; each text once."""
    found: dict[str, Message] = {}
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = _assigned(tree.body) | _returned(tree)
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            names = constants | _assigned(list(ast.walk(function)))
            for node, text in _said(function, names):
                if LETTERS.search(text.replace(HOLE, "")):
                    where = path.relative_to(package.parent).as_posix()
                    found.setdefault(text, Message(text, where, node.lineno))
    return list(found.values())


def _said(function: ast.AST, names: Names) -> Iterator[tuple[ast.expr, str]]:
    """What a function says: errors that it makes or raises, warnings, lines that begin so."""
    raised = {id(one.exc) for one in ast.walk(function) if isinstance(one, ast.Raise)}
    for node in ast.walk(function):
        explains = isinstance(node, ast.Return) and getattr(function, "name", "") == "explain"
        if explains and node.value is not None:
            yield from ((node.value, clean(text)) for text in _texts(node.value, names))
        if isinstance(node, ast.JoinedStr):  # a warning that is kept, to be said later
            yield from ((node, one) for one in _texts(node, names) if one.startswith("skipped "))
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = _name(node.func)
        error = name in RAISERS or (id(node) in raised and name not in OTHERS)
        if error and name not in PARTS:
            yield from ((node, clean(text)) for text in _texts(node.args[0], names))
        elif name in SAYERS:
            texts = [text for text in _texts(node.args[0], names) if PREFIX.match(text)]
            yield from ((node, clean(PREFIX.sub("", text))) for text in texts)


def explained(page: str) -> dict[str, str]:
    """Message and remedy of every row of the page's tables."""
    return {text.replace("\\|", "|"): remedy for _, text, remedy in ROW.findall(page)}


def clean(text: str) -> str:
    """A message as the page writes it: one line, holes that touch made one, no full stop."""
    text = " ".join(text.split())
    return re.sub(f"{HOLE}{HOLE}+", HOLE, text).removesuffix(".")


def row(text: str, remedy: str = "") -> str:
    """A line of the page's tables."""
    marks = "``" if "`" in text else "`"
    escaped = text.replace("|", "\\|")
    return f"| {marks}{escaped}{marks} | {remedy} |"


def advice(text: str) -> str:
    """What a message itself says to do, as a sentence; empty if it says nothing that is whole."""
    for mark in ("; ", ": "):
        _, found, tail = text.rpartition(mark)
        if (
            found
            and re.match(r"[a-z]+ ", tail + " ")
            and len(tail.split()) > 2
            and HOLE not in tail
        ):
            return f"{tail[0].upper()}{tail[1:]}."
    return ""


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _assigned(body: list[ast.stmt] | list[ast.AST]) -> Names:
    """The expressions that names are given by plain assignments."""
    found: Names = {}
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _returned(tree: ast.Module) -> Names:
    """What the functions of a module return."""
    found: Names = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            values = (one.value for one in ast.walk(function) if isinstance(one, ast.Return))
            found.setdefault(function.name, []).extend(filter(None, values))
    return found


def _texts(node: ast.expr, names: Names, depth: int = 0) -> Iterator[str]:
    """What an expression may read like: both sides of a condition, all values of a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(_part(one, names) for one in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in _texts(node.left, names, depth):
            for right in _texts(node.right, names, depth):
                yield left + right
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, names, depth)
        yield from _texts(node.orelse, names, depth)
    elif isinstance(node, ast.Name) and node.id in names and depth < 2:
        for value in names[node.id]:
            yield from _texts(value, names, depth + 1)
    elif isinstance(node, ast.Call) and _name(node.func) in names and depth < 2:
        for value in names[_name(node.func)]:
            yield from _texts(value, names, depth + 1)
    else:
        yield HOLE


def _part(node: ast.expr, names: Names) -> str:
    """A part of an f-string: text, a constant's text, or a hole."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    inner = getattr(node, "value", None)
    values = names.get(inner.id, []) if isinstance(inner, ast.Name) else []
    value = getattr(values[0], "value", None) if len(values) == 1 else None
    return value if isinstance(value, str) and len(value) < 60 else HOLE


def section(file: str) -> str:
    """The heading below which the messages of a file stand."""
    return next(name for name, files in SECTIONS.items() if file.startswith(files))


def mended(page: str, found: list[Message]) -> str:
    """The page with a row for each message, and without rows that nobody says any more."""
    known = explained(page)
    texts = {message.text for message in found}
    lines = [
        line
        for line in page.splitlines()
        if not ((hit := ROW.match(line)) and hit[2].replace("\\|", "|") not in texts)
    ]
    for message in found:
        if message.text not in known:
            start = lines.index(f"## {section(message.file)}")
            ends = (n for n, line in enumerate(lines[start:], start) if line.startswith("| "))
            last = max(n for n in ends if not any("## " in one for one in lines[start + 1 : n]))
            lines.insert(last + 1, row(message.text, advice(message.text)))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print a row for each message that the page lacks, and name the rows that are out of date."""
    page = PAGE.read_text(encoding="utf-8")
    known, found = explained(page), messages(ROOT / "knnvc")
    if "--mend" in sys.argv:
        PAGE.write_text(mended(page, found), encoding="utf-8")
        return
    for message in found:
        if not known.get(message.text):
            print(f"{row(message.text, advice(message.text))}  <- {message.file}:{message.line}")
    for text in sorted(known.keys() - {message.text for message in found}):
        print(f"out of date: {text}")


if __name__ == "__main__":
    main()
