#!/usr/bin/env python3
"""Refuses files above 300 kB outside the allow-list, and reports long modules, classes, functions.

A module, class or function may be longer than 500, 300 or 60 lines if a comment with the word
"long:" says why: in the module's first 40 lines, or within the class or function.
usage: .ci/check_sizes.py [FILE...]   (by default all files that git knows)
"""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 300_000
ALLOWED = (
    "knnvc/presets/mini/*.safetensors",  # the released weights
    "knnvc/voices/*.opus",  # four ready voices
    "matching_sets/*.opus",  # the others
    "tests/assets/parity/*",  # tiny checkpoints in the published formats
)
MOST_LINES = {"module": 500, "class": 300, "function": 60}
CODE = ("knnvc", "vocoder", "matching_sets", "benchmarks", "docs")


def files() -> list[Path]:
    """All files that git knows and that are there."""
    told = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)
    return [Path(name) for name in told.stdout.split("\0") if name and Path(name).is_file()]


def too_large(path: Path) -> bool:
    """Whether the file is above the limit and not on the list."""
    allowed = any(fnmatch.fnmatch(path.as_posix(), pattern) for pattern in ALLOWED)
    return path.stat().st_size > MOST_BYTES and not allowed


def long_parts(path: Path) -> Iterator[str]:
    """What in a Python file is longer than it should be, without a comment that says why."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if len(lines) > MOST_LINES["module"] and not _excused(lines[:40]):
        yield f"{path}: {len(lines)} lines, more than {MOST_LINES['module']}"
    for node in ast.walk(ast.parse(text)):
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = lines[node.lineno - 1 : node.end_lineno]
        length = len(body) - (_documented(node) if kind == "function" else 0)
        if length > MOST_LINES[kind] and not _excused(body):
            yield f"{path}:{node.lineno}: {kind} {node.name} has {length} lines"


def _documented(node: ast.AST) -> int:
    """Lines of a function's docstring, which do not count."""
    first = node.body[0] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def _excused(lines: list[str]) -> bool:
    return any("# long:" in line for line in lines)


def main() -> int:
    """Check the files named, or all."""
    chosen = [Path(name) for name in sys.argv[1:]] or files()
    large = [path for path in chosen if path.is_file() and too_large(path)]
    for path in large:
        print(f"error: {path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    code = [path for path in chosen if path.suffix == ".py" and path.parts[0] in CODE]
    long = [problem for path in code for problem in long_parts(path)]
    for problem in long:
        print(f"too long: {problem}")
    return 1 if large or long else 0


if __name__ == "__main__":
    sys.exit(main())
