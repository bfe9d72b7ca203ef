"""Ready voices: recordings by name, inside the package and in folders beside it.

A voice `NAME` is a file NAME.opus or NAME.flac; the file cards.json beside it describes all voices
of a folder. Wherever references are taken, `voice:NAME` stands for that file. Its matching set is
made by the preset in use, when it is first needed, and cached like that of any recording. This
module imports no torch; `knnvc.voices.library` adds and removes voices.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import atomic_path, data_dir, os_reason

PREFIX = "voice:"
DEFAULT = "voice:heart"  # who speaks a text if nobody else is named
CARDS = "cards.json"
FOLDER_VARIABLE = "KNNVC_VOICES"
SUFFIXES = (".opus", ".flac")
MOST_LETTERS = 64  # of a name
MOST_BYTES = 1_000_000  # of a table of cards

# No separator, no colon (it precedes a weight), no dot at either end, no space at the end.
_NAME = re.compile(r"\w(?:[\w .+-]*[\w+-])?")


@dataclass(frozen=True)
class Card:
    """What is known about a voice.

    Attributes:
        source: who spoke, or which recordings it was made of.
        licence: on what terms it may be used.
        seconds: of audio.
        sex: how the voice sounds, "woman" or "man"; "" if nobody said.
        accent: of its English; "" if nobody said.
        pitch: median, in Hz; None if not measured.
        sentences: how many were spoken; None if not counted.
        distillmos: predicted mean opinion score (1 to 5) of the recordings; None if not measured.
        wer: word errors in per cent that Whisper tiny.en makes on them; None if not measured.
    """

    source: str
    licence: str
    seconds: float
    sex: str = ""
    accent: str = ""
    pitch: float | None = None
    sentences: int | None = None
    distillmos: float | None = None
    wer: float | None = None

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.name in ("source", "licence", "sex", "accent"):
                fits = isinstance(value, str)
            else:
                fits = type(value) in (int, float) and 0 <= value < 1e12
                fits = fits or (value is None and one.name != "seconds")
            if not fits:
                raise TypeError(f"{one.name} cannot be {str(value)[:20]!r}")


@dataclass(frozen=True)
class Voice:
    """A ready voice: its name, its audio, its card, and whether the user added it."""

    name: str
    path: Path
    card: Card
    own: bool


def own_folder() -> Path:
    """Where the user's own voices go: $KNNVC_VOICES, or `voices` in the data folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else data_dir() / "voices"


def folders() -> list[Path]:
    """Where ready voices are looked for; the first match counts.

    The user's own folders, the package, and, in a checkout of the repository, its matching_sets/.
    """
    inside = Path(str(files("knnvc"))) / "voices"
    found = [*_own_folders(), inside]
    if (inside / "more").is_dir():  # of an installed package
        found.append(inside / "more")
    checkout = inside.parents[1]
    if (checkout / "pyproject.toml").is_file():
        found.append(checkout / "matching_sets")
    return found


def _own_folders() -> list[Path]:
    return list(dict.fromkeys((own_folder(), data_dir() / "voices")))


def list_voices() -> dict[str, Voice]:
    """Every ready voice by name, sorted.

    A name that is no name, "../emma" say, is skipped with a `KnnvcWarning`.

    Raises:
        KnnvcError: a table of cards is damaged.
    """
    found: dict[str, Voice] = {}
    own = _own_folders()
    for folder in folders():
        for voice in _read_folder(folder, folder in own):
            found.setdefault(voice.name, voice)
    return dict(sorted(found.items()))


def find(name: str) -> Voice:
    """The voice of this name; case counts only where two names differ in nothing else.

    Raises:
        UsageError: there is no such voice; the message names one that is spelled alike.
        KnnvcError: a table of cards is damaged.
    """
    voices = list_voices()
    alike = [one for one in voices if one.casefold() == name.casefold()]
    if name in voices or len(alike) == 1:
        return voices[name if name in voices else alike[0]]
    close = difflib.get_close_matches(name, voices, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise UsageError(
        f"there is no ready voice {name!r}{hint} `knnvc voices` lists them, `knnvc voices add` "
        f"adds one, and {FOLDER_VARIABLE} names a folder of others"
    )


def resolve(reference: str | Path) -> Path:
    """The file that `voice:NAME` stands for; any other path as it is.

    Raises:
        UsageError: there is no such voice; the message names one that is spelled alike.
        KnnvcError: a table of cards is damaged.
    """
    text = str(reference)
    if not text.startswith(PREFIX) or Path(text).exists():
        return Path(reference)
    return find(text.removeprefix(PREFIX)).path


def licence_of(path: Path) -> str:
    """The licence on the card of the ready voice whose audio `path` is; "" for any other file."""
    if path.suffix not in SUFFIXES or path.parent not in folders():
        return ""
    with contextlib.suppress(KnnvcError):
        for voice in list_voices().values():
            if voice.path == path:
                return voice.card.licence
    return ""


def check_missing(text: str) -> None:
    """Raise UsageError if no path is called `text` but a ready voice is, or nearly so."""
    if not is_name(text) or Path(text).exists():
        return
    names: list[str] = []
    with contextlib.suppress(KnnvcError):  # a damaged table is another matter
        names = list(list_voices())
    meant = [name for name in names if name.casefold() == text.casefold()]
    meant += difflib.get_close_matches(text, names, n=1, cutoff=0.75)
    if meant:
        raise UsageError(f"{text} does not exist; did you mean {PREFIX}{meant[0]}?")


def existing(path: str, what: str) -> Path:
    """`path`, or a usage error that names `what` is missing."""
    # Path("") is the current folder, which nobody means by an unset shell variable.
    if not path or not Path(path).exists():
        raise UsageError(f"the {what} {path or repr(path)} does not exist; check the path")
    return Path(path)


def reference(ref: str) -> Path:
    """The path of a reference that exists; `voice:NAME` is a ready voice's."""
    check_missing(ref)
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


# Cards --------------------------------------------------------------------------------------------


def is_name(text: str) -> bool:
    """Whether a voice may have this name, which becomes a file's."""
    return len(text) <= MOST_LETTERS and _NAME.fullmatch(text) is not None


def read_cards(text: str, where: Path) -> dict[str, Card]:
    """The cards of a table by name; those whose name is no name are skipped with a warning.

    Entries that this version does not know are left out, so that tables of others can be read.

    Raises:
        KnnvcError: it is damaged; the message names `where`.
    """
    known = {one.name for one in dataclasses.fields(Card)}
    cards = {}
    try:
        for name, values in json.loads(text).items():
            if not is_name(name):
                warnings.warn(
                    f"{where} names a voice {name[:40]!r}, which is no file name; it is left out",
                    KnnvcWarning,
                    stacklevel=2,
                )
                continue
            cards[name] = Card(**{key: value for key, value in values.items() if key in known})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise KnnvcError(f"{where} is damaged ({error}); add the voices again") from error
    return cards


def write_cards(folder: Path, cards: Mapping[str, Card]) -> None:
    """Write the table of a folder's voices."""
    with atomic_path(folder / CARDS) as temporary:
        temporary.write_text(cards_text(cards), encoding="utf-8")


def cards_text(cards: Mapping[str, Card]) -> str:
    """The table as JSON; what is not known is left out."""
    values = {
        name: {key: value for key, value in dataclasses.asdict(card).items() if value is not None}
        for name, card in sorted(cards.items())
    }
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def folder_cards(folder: Path) -> dict[str, Card]:
    """The cards of a folder; none if it has no table."""
    table = folder / CARDS
    try:
        if not table.is_file():
            return {}
        if table.stat().st_size > MOST_BYTES:
            raise KnnvcError(f"{table} is too long; add the voices again")
        return read_cards(table.read_text(encoding="utf-8"), table)
    except UnicodeDecodeError as error:
        raise KnnvcError(f"{table} is damaged: it is no text; add the voices again") from error
    except OSError as error:
        raise KnnvcError(f"cannot read {table}: {os_reason(error)}") from error


def audio_of(folder: Path, name: str) -> Path | None:
    """The audio of a voice in a folder, if it is there."""
    paths = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _read_folder(folder: Path, own: bool) -> Iterator[Voice]:
    for name, card in folder_cards(folder).items():
        path = audio_of(folder, name)
        if path is not None:
            yield Voice(name, path, card, own)
