"""Which files a batch is to convert: a folder, a glob, a single recording or a manifest.

A manifest is a CSV file with a header, or JSON lines with one object each. Its columns are
`source` (required), `ref`, `output`, `lam` and `k`; what a row leaves out, the call decides. Paths
are relative to the manifest, outputs to the output folder.
"""

from __future__ import annotations

import csv
import glob
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import AUDIO_OUTPUT, list_folder, told_apart
from knnvc.voices.ready import PREFIX

COLUMNS = ("source", "ref", "output", "lam", "k")
SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True)
class Item:
    """One recording to convert.

    Attributes:
        source: where it is; it may be missing.
        output: where the result goes, relative to the output folder.
        refs: its own references as they are typed ("anna/:0.7"); empty means those of the call.
        lam: its own λ, or None.
        k: its own number of neighbours, or None.
        skipped: why it is passed over, if it is; "" for a recording.
    """

    source: Path
    output: Path
    refs: tuple[str, ...] = ()
    lam: float | None = None
    k: int | None = None
    skipped: str = ""


def find_items(source: str, output: Path, suffix: str) -> list[Item]:
    """Everything that `source` stands for, in sorted order (a manifest's rows in theirs).

    Recordings below the output folder are left out, as it may lie inside the source folder. What a
    folder holds besides recordings (see `knnvc.files.Listing`) is among them, with the reason why
    it is skipped; broken recordings are there as any other, and fail.

    Args:
        source: a folder, which is searched recursively; a glob (`**` reaches into folders); a
            recording; or a manifest.
        output: the output folder.
        suffix: of the outputs whose name is not given, such as ".wav".

    Raises:
        UsageError: there is no such path, nothing to convert, or the manifest is wrong.
    """
    path = Path(source)
    skipped: dict[Path, str] = {}
    # Path("") is the current folder, which nobody means by an unset shell variable.
    if not source or (not path.exists() and not glob.has_magic(source)):
        raise UsageError(f"the source {source or repr(source)} does not exist; check the path")
    if path.is_dir() and path.resolve() == output.resolve():
        raise UsageError(f"{output} is the source folder itself; choose another output folder")
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return list(_read_manifest(path, suffix))
    if path.is_dir():
        listing = list_folder(path)
        skipped = {one.path: one.reason for one in listing.skipped if not one.broken}
        broken = [one.path for one in listing.skipped if one.broken]
        found, root = sorted([*listing.audio, *skipped, *broken]), path
    elif path.exists():
        found, root = [path], path.parent
    else:
        found = sorted(Path(one) for one in glob.glob(source, recursive=True))  # noqa: PTH207
        found = [one for one in found if one.is_file() or not one.exists()]  # a link to nothing
        root = _fixed_part(source)
    if found != [path]:
        inside = output.resolve()
        found = [one for one in found if inside not in Path(os.path.realpath(one)).parents]
    if not set(found) - set(skipped):
        raise UsageError(f"{source} matches no recordings; check it, and quote a glob")
    usable = [one for one in found if one not in skipped]
    plain = [(one, one.relative_to(root).with_suffix(suffix)) for one in usable]
    outputs = dict(zip(usable, told_apart(plain), strict=True))
    return [
        Item(
            one,
            outputs.get(one) or one.relative_to(root).with_suffix(suffix),
            skipped=skipped.get(one, ""),
        )
        for one in found
    ]


def _fixed_part(pattern: str) -> Path:
    """The folders in front of the first one with a wildcard."""
    parts = Path(pattern).parts
    wild = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild])


def _read_manifest(path: Path, suffix: str) -> Iterator[Item]:
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    empty = True
    try:
        for line, row in rows:
            empty = False
            try:
                yield _item(path, row, suffix)
            except ValueError as error:
                raise UsageError(f"{path}, line {line}: {error}; correct the manifest") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no {path.suffix} file in UTF-8 ({error})") from error
    except OSError as error:
        raise KnnvcError(f"cannot read {path}: {error.strerror}; check the path") from error
    if empty:
        raise UsageError(f"{path} has no rows; list at least one source")


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # utf-8-sig: spreadsheets put a byte order mark in front.
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        _check_columns(path, reader.fieldnames or [])
        for row in reader:
            if None in row:
                raise UsageError(
                    f"{path}, line {reader.line_num}: more fields than columns; "
                    "put quotation marks around a field with a comma in it"
                )
            yield reader.line_num, dict(row)


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as handle:
        for line, text in enumerate(handle, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {line}: this is no JSON ({error})") from error
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {line}: this is no JSON object")
            _check_columns(path, list(row), f", line {line}")
            yield line, row


def _check_columns(path: Path, names: Any, where: str = "") -> None:
    unknown = sorted(set(names) - set(COLUMNS))
    if unknown:
        raise UsageError(
            f"{path}{where}: unknown column {unknown[0]!r}; the columns are {', '.join(COLUMNS)}"
        )
    if "source" not in names:
        raise UsageError(f"{path}{where}: there is no column 'source'; add it")


def _item(manifest: Path, row: dict[str, Any], suffix: str) -> Item:
    """Raise ValueError with what is wrong about a row."""
    source = _text(row, "source")
    if not source:
        raise ValueError("the source is empty")
    ref = row.get("ref")
    refs = [one.strip() for one in ref.split(";")] if isinstance(ref, str) else ref or []
    if not isinstance(refs, list) or not all(isinstance(one, str) for one in refs):
        raise ValueError("ref is neither text nor a list of texts")
    return Item(
        source=manifest.parent / source,
        output=_output(_text(row, "output"), source, suffix),
        refs=tuple(
            one if one.startswith(PREFIX) else str(manifest.parent / one) for one in refs if one
        ),
        lam=_number(row, "lam", float),
        k=_number(row, "k", int),
    )


def _output(given: str, source: str, suffix: str) -> Path:
    if not given:  # where the source stands below the manifest, else its name alone
        below = Path(os.path.normpath(source))
        inside = not below.is_absolute() and ".." not in below.parts
        return (below if inside else Path(below.name)).with_suffix(suffix)
    output = Path(os.path.normpath(given))
    if output.is_absolute() or ".." in output.parts:
        raise ValueError(f"the output {given} does not lie inside the output folder")
    if output.suffix.lower() not in AUDIO_OUTPUT:
        raise ValueError(f"the output {given} does not end in {', '.join(AUDIO_OUTPUT)}")
    return output


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return (value or "").strip()


def _number(row: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        number = kind(value)
        whole = kind is not int or float(value) == number
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, which is no number")
    good = 0 <= number <= 2 if kind is float else number >= 1
    if not good or not math.isfinite(number):
        raise ValueError(f"{name} is {value}: give {'0 to 2' if kind is float else '1 or more'}")
    return number
