"""Ready voices: matching sets by name, some inside the package, more in a folder of your choice.

A voice `NAME` is a file NAME.safetensors; the file cards.json beside it describes all voices of a
folder. Wherever references are taken, `voice:NAME` stands for that file; what people type for
references is read here, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import os_reason

PREFIX = "voice:"
CARDS = "cards.json"
FOLDER_VARIABLE = "KNNVC_VOICES"


@dataclass(frozen=True)
class Card:
    """What is known about a ready voice.

    Attributes:
        source: the voice that spoke, in its own system's naming.
        sex: how the voice sounds, "woman" or "man".
        accent: of its English.
        licence: on what terms it may be used.
        preset: whose encoder the set fits.
        seconds: speech in the set.
        sentences: how many were spoken.
        pitch: median, in Hz.
        distillmos: predicted mean opinion score (1 to 5) of the recordings; None if not measured.
        wer: word errors in per cent that Whisper tiny.en makes on them; None if not measured.
    """

    source: str
    sex: str
    accent: str
    licence: str
    preset: str
    seconds: float
    sentences: int
    pitch: float
    distillmos: float | None = None
    wer: float | None = None


def folders() -> list[Path]:
    """Where ready voices are looked for, first match wins.

    $KNNVC_VOICES, the package, and, in a checkout of the repository, its matching_sets/.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    found = [Path(chosen).expanduser()] if chosen else []
    inside = _packaged()
    found.append(inside)
    checkout = inside.parents[1]
    if (checkout / "pyproject.toml").is_file():
        found.append(checkout / "matching_sets")
    return found


def list_voices() -> dict[str, tuple[Path, Card]]:
    """File and card of every ready voice by name, sorted.

    Raises:
        KnnvcError: a table of cards is damaged.
    """
    found: dict[str, tuple[Path, Card]] = {}
    for folder in folders():
        for name, path, card in _read_folder(folder):
            found.setdefault(name, (path, card))
    return dict(sorted(found.items()))


def packaged() -> list[Path]:
    """The files of the voices inside the package, sorted: the same wherever knnvc runs."""
    return sorted(_packaged().glob("*.safetensors"))


def _packaged() -> Path:
    return Path(str(files("knnvc"))) / "voices"


def resolve(reference: str | Path) -> Path:
    """The file that `voice:NAME` stands for; any other path as it is.

    Raises:
        UsageError: there is no such voice; the valid names are listed.
        KnnvcError: a table of cards is damaged.
    """
    text = str(reference)
    if not text.startswith(PREFIX) or Path(text).exists():
        return Path(reference)
    name, voices = text.removeprefix(PREFIX), list_voices()
    if name not in voices:
        names = ", ".join(voices) or "none found"
        raise UsageError(
            f"there is no ready voice {name!r}; the voices are: {names} "
            f"(more lie in matching_sets/ of the repository: name such a folder in "
            f"{FOLDER_VARIABLE})"
        )
    return voices[name][0]


def existing(path: str, what: str) -> Path:
    """`path`, or a usage error that names `what` is missing."""
    # Path("") is the current folder, which nobody means by an unset shell variable.
    if not path or not Path(path).exists():
        raise UsageError(f"the {what} {path or repr(path)} does not exist; check the path")
    return Path(path)


def reference(ref: str) -> Path:
    """The path of a reference that exists; `voice:NAME` is a ready voice's."""
    return existing(str(resolve(ref)) if ref else ref, "reference")


def parse_references(refs: Iterable[str]) -> list[Any]:
    """Paths, or (path, weight) pairs if any of `refs` carries a weight; all of them exist."""
    parsed = [(reference(path), weight) for path, weight in map(_split_weight, refs)]
    for path, weight in parsed:
        if weight is not None and not 0 < weight < float("inf"):
            raise UsageError(f"the weight {weight} of {path} must be a positive number")
    if all(weight is None for _, weight in parsed):
        return [path for path, _ in parsed]
    return [(path, 1.0 if weight is None else weight) for path, weight in parsed]


def _split_weight(ref: str) -> tuple[str, float | None]:
    """ "anna/:0.7" -> ("anna/", 0.7); a path that exists with the colon in it is left whole."""
    path, colon, weight = ref.rpartition(":")
    if not colon or Path(ref).exists():
        return ref, None
    try:
        return path, float(weight)
    except ValueError:
        return ref, None


def reference_paths(wanted: list[Any]) -> list[Path]:
    """The paths of what `parse_references` returns."""
    return [Path(ref[0] if isinstance(ref, tuple) else ref).resolve() for ref in wanted]


def write_cards(folder: Path, cards: dict[str, Card]) -> None:
    """Write the table of a folder's voices."""
    values = {name: dataclasses.asdict(card) for name, card in sorted(cards.items())}
    (folder / CARDS).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


_MOST_BYTES = 5_000_000  # of a table of cards
_OPTIONAL = ("distillmos", "wer")


def _read_folder(folder: Path) -> Iterator[tuple[str, Path, Card]]:
    table = folder / CARDS
    try:
        if not table.is_file():
            return
        if table.stat().st_size > _MOST_BYTES:
            raise KnnvcError(f"{table} is too long; get or build the voices again")
        values = json.loads(table.read_text(encoding="utf-8"))
        cards = {name: _card(card) for name, card in values.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise KnnvcError(f"{table} is damaged ({error}); get or build the voices again") from error
    except OSError as error:
        raise KnnvcError(f"cannot read {table}: {os_reason(error)}") from error
    for name, card in cards.items():
        if not _is_name(name):
            warnings.warn(
                f"{table} names a voice {name[:40]!r}, which is no file name; it is left out",
                KnnvcWarning,
                stacklevel=2,
            )
            continue
        path = folder / f"{name}.safetensors"
        with contextlib.suppress(OSError):  # a name that is too long
            if path.is_file():
                yield name, path, card


def _is_name(name: str) -> bool:
    """Whether a voice's name stays in its folder, and can be printed and typed."""
    plain = bool(name) and name == Path(name).name and "\\" not in name and ":" not in name
    return plain and not name.startswith(".") and name.isprintable()


def _card(values: Any) -> Card:
    """A card whose values have the types that its fields have.

    Raises:
        TypeError: One has another type, or is no finite number, or is missing or unknown.
    """
    card = Card(**values)
    for one in dataclasses.fields(Card):
        value = getattr(card, one.name)
        if one.type == "str":
            good = isinstance(value, str)
        else:
            number = type(value) in (int, float) and abs(value) < 1e12
            good = number or (value is None and one.name in _OPTIONAL)
        if not good:
            raise TypeError(f"{one.name} cannot be {str(value)[:20]!r}")
    return card
