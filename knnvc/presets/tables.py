"""The tables of docs/encoders.md and docs/vocoders.md, out of the catalogue.

`python -m knnvc.presets.tables docs` writes them again, between the comments that mark them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from knnvc.errors import UsageError
from knnvc.files import atomic_path
from knnvc.presets.catalogue import ENCODERS, VOCODERS, Known

_MARKED = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
_HEAD = ("name", "what it is", "frames a second", "columns", "licence", "file", "checked")


def encoder_table() -> str:
    """All encoders by name, in Markdown."""
    return _table(ENCODERS.values())


def vocoder_table() -> str:
    """All vocoders by name, in Markdown."""
    return _table(VOCODERS.values())


def with_table(text: str, table: str) -> str:
    """A document with the table between its marks.

    Raises:
        UsageError: it has no marks.
    """
    if not _MARKED.search(text):
        raise UsageError("the document has no place for a table: mark it with <!-- table -->")
    return _MARKED.sub(lambda found: found[1] + table + found[2], text)


def _table(known: Iterable[Known]) -> str:
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(_row(one)) + " |" for one in known)]) + "\n"


def _row(one: Known) -> tuple[str, ...]:
    what = one.summary
    if one.depth:
        what += f"; layers 0 to {one.depth}"
    if one.encoder or one.sample_rate != 16_000:
        what += f", {one.sample_rate} Hz"
    if one.note:
        what += f" ({one.note})"
    return (
        f"`{one.name}`",
        what,
        f"{one.rate:.4g}",
        str(one.width or "–"),
        one.licence,
        _file(one),
        one.checked,
    )


def _file(one: Known) -> str:
    if not one.files:
        return "none needed"
    names = ", ".join(f"`{name}`" for name, _ in one.files)
    how = "" if one.files[0][1] else " by hand"
    weights = [name for name, _ in one.files if not name.endswith((".json", ".yaml"))]
    known = all(name in one.sums for name in weights)
    return f"{names}{how} from <{one.page}>; {'sha256 known' if known else 'unverified'}"


def main(folder: Path) -> None:
    """Write both tables into the documents of a folder."""
    for name, table in (("encoders.md", encoder_table()), ("vocoders.md", vocoder_table())):
        path = folder / name
        text = with_table(path.read_text(encoding="utf-8"), table)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
