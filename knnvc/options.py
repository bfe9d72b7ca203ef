"""Every option of the package, defined once: default, range and help. Imports no torch.

Command line, batch manifests, server and Python read these definitions. A field that `setting`
makes knows what is allowed; `Checked` refuses the rest when an object is made. Configurations of
parts (`knnvc.registry`) are `PartConfig`s of the same fields, so a preset's JSON is checked the
same way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from knnvc import sound_options
from knnvc.errors import KnnvcError, UsageError
from knnvc.sound_options import DEFAULT_LOUDNESS

if TYPE_CHECKING:
    from knnvc.text.lexicon import Lexicon

MOST_LISTED = 1000  # numbers in a list
LAM_MOST = 2.0
K_MOST = 10_000  # neighbours: more than any voice is worth averaging
WEIGHTINGS = ("mean", "distance")
INDEX_KINDS = ("flat", "hnsw", "ivf", "auto")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("float32", "bfloat16")
LOUDNESS = DEFAULT_LOUDNESS
DEFAULT_PRESET = "mini"
TEXT_KINDS = ("text", "markdown", "srt", "vtt", "ssml")

Config = TypeVar("Config", bound="PartConfig")


@dataclass(frozen=True)
class Setting:
    """What is allowed for a field, and what a person is told about it.

    Attributes:
        help: one sentence for `--help`.
        kind: "number", "whole", "flag", "text", "choice", "numbers" (a list of whole numbers) or
            "any".
        least: smallest number, inclusive.
        most: largest number, inclusive.
        choices: of a "choice".
        optional: whether None is allowed.
        hint: what the message says to give instead; by default made of the range.
        otherwise: what holds where the value is None, for `--help`.
    """

    help: str
    kind: str
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False
    hint: str = ""
    otherwise: str = ""

    def problem(self, value: object) -> str | None:
        """What to give instead of `value`; None if it is allowed."""
        if value is None and self.optional:
            return None
        return None if self._allows(value) else self.hint or self._range()

    def _allows(self, value: Any) -> bool:
        if self.kind in ("number", "whole"):
            right = _is_number(value) if self.kind == "number" else _is_whole(value)
            return bool(right and self.least <= value <= self.most)
        if self.kind == "numbers":
            listed = isinstance(value, tuple) and len(value) <= MOST_LISTED
            return listed and all(_is_whole(x) and self.least <= x <= self.most for x in value)
        if self.kind == "choice":
            return isinstance(value, str) and value in self.choices
        return self.kind == "any" or isinstance(value, bool if self.kind == "flag" else str)

    def _range(self) -> str:
        if self.kind == "choice":
            return f"choose one of {', '.join(self.choices)}"
        if self.kind == "flag":
            return "give true or false"
        if self.kind == "text":
            return "give text"
        what = {"whole": "a whole number", "numbers": "whole numbers"}.get(self.kind, "a number")
        if self.most == math.inf:
            return f"give {what}, {self.least:g} or more"
        return f"give {what} from {self.least:g} to {self.most:g}"


def setting(default: Any, help: str, kind: str, **limits: Any) -> Any:  # noqa: A002
    """A dataclass field with a `Setting`; `default` None makes it optional."""
    limits.setdefault("optional", default is None)
    return field(default=default, metadata={"setting": Setting(help, kind, **limits)})


class Checked:
    """A dataclass whose `setting` fields are checked when an object is made.

    Raises:
        UsageError: a value is not allowed; the message says what to give.
    """

    def __post_init__(self) -> None:
        """Check every field."""
        for name, allowed in settings(type(self)).items():
            value = getattr(self, name)
            problem = allowed.problem(value)
            if problem:
                # Not all of a list that would take seconds to print.
                shown = repr(value[:MOST_LISTED] if isinstance(value, (str, tuple)) else value)
                shown = shown if len(shown) <= 40 else f"{shown[:36]} ..."
                raise UsageError(f"{name} is {shown}: {problem}")


def settings(kind: type) -> dict[str, Setting]:
    """The settings of a dataclass by field name, in order."""
    found = ((one.name, one.metadata.get("setting")) for one in fields(kind))
    return {name: one for name, one in found if one is not None}


class PartConfig(Checked):
    """The configuration of a part, as a preset's JSON has it.

    `class MelConfig(PartConfig, what="log-mel")`: `what` is what messages call the part.
    """

    _what: ClassVar[str]

    def __init_subclass__(cls, what: str = "part", **more: Any) -> None:
        """Note what messages call the part."""
        super().__init_subclass__(**more)
        cls._what = what

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
        """Build from a preset's JSON; lists become tuples.

        Raises:
            KnnvcError: a key is unknown or missing, or a value not allowed.
        """
        names = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - names):
            raise KnnvcError(f"unknown {cls._what} settings: {', '.join(map(str, unknown))[:80]}")
        try:
            return cls(**{name: as_tuple(value) for name, value in values.items()})
        except UsageError as error:
            raise KnnvcError(f"the {cls._what} settings are damaged: {error}") from error
        except (TypeError, ValueError) as error:
            raise KnnvcError(f"the {cls._what} settings are damaged: {str(error)[:80]}") from error

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return to_dict(self)


def to_dict(config: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain JSON values."""
    return {name: _as_list(value) for name, value in dataclasses.asdict(config).items()}


def check_known(kind: type, options: Mapping[str, Any]) -> None:
    """Raise UsageError if `options` has a key that is no field of the dataclass `kind`."""
    names = [one.name for one in fields(kind)]
    if unknown := sorted(options.keys() - set(names)):
        raise UsageError(f"unknown option {unknown[0]!r}: choose from {', '.join(names)}")


def as_tuple(value: Any) -> Any:
    """`value` with its lists as tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, (list, tuple)) else value


def _as_list(value: Any) -> Any:
    return list(map(_as_list, value)) if isinstance(value, tuple) else value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


# What a user may choose --------------------------------------------------------------------------


@dataclass(frozen=True)
class MatchOptions(Checked):
    """How frames are matched; None means what the preset recommends.

    Attributes:
        lam: λ in [0, 2] of `out = λ·selected + (1−λ)·source`. 1 is pure kNN-VC. Below 1, source
            frames are mixed back in: closer to the source's voice and wording, further from the
            target; 0 is copy-synthesis of the source. Above 1 goes past the target.
        k: neighbours averaged for each frame.
        weighting: "mean", or "distance" to weigh near neighbours more.
        index: how neighbours are searched: "flat" (exactly), "hnsw" or "ivf" (approximately, in a
            part of a very large matching set), or "auto" by the set's size; see
            `knnvc.converters.approximate`.
        trim: cut silence off both ends of every reference.
        loudness: of the result in LUFS, −16 by default; "source" for the source's own, "none" to
            leave it. True and False mean −16 and "none".

    Raises:
        UsageError: a value is out of range.
    """

    lam: float | None = setting(
        None,
        "0 to 2: 1 is pure kNN-VC. Less mixes the source's own frames in, 0 is the source alone, "
        "more goes past the target.",
        "number",
        least=0,
        most=LAM_MOST,
        hint="give a number from 0 (source) to 2",
        otherwise="the preset's, 1 for mini",
    )
    k: int | None = setting(
        None,
        "Neighbours averaged for each frame.",
        "whole",
        least=1,
        most=K_MOST,
        hint="give a whole number of neighbours, 1 or more",
        otherwise="the preset's, 4 for mini",
    )
    weighting: str | None = setting(
        None,
        "How neighbours are averaged.",
        "choice",
        choices=WEIGHTINGS,
        otherwise="the preset's, mean for mini",
    )
    index: str = setting(
        "auto",
        "How neighbours are searched. flat compares with all frames. hnsw and ivf compare with "
        "likely ones and are for very large matching sets. auto chooses by size.",
        "choice",
        choices=INDEX_KINDS,
    )
    trim: bool = setting(True, "Cut silence off both ends of each reference.", "flag")
    loudness: float | str | bool = setting(
        LOUDNESS,
        "Loudness of the result in LUFS; source keeps the source's, none leaves it as it comes.",
        "any",
    )

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        parse_loudness(self.loudness)

    @property
    def target_loudness(self) -> float | Literal["source"] | None:
        """LUFS, "source", or None to leave the level alone."""
        return parse_loudness(self.loudness)


@dataclass(frozen=True)
class ConvertOptions(MatchOptions):
    """How to convert; None means what the preset recommends.

    Attributes:
        lam: see `MatchOptions`, as for `k`, `weighting`, `index`, `trim` and `loudness`.
        seconds: duration of the result; the source's frames are interpolated linearly. None keeps
            the source's duration.

    Raises:
        UsageError: a value is out of range.
    """

    seconds: float | None = setting(
        None,
        "Stretch the result to this duration.",
        "number",
        least=0.02,
        most=86_400,
        hint="give a duration from 0.02 to 86400 seconds",
    )


@dataclass(frozen=True)
class SpeakOptions(MatchOptions):
    """How to speak; None means what the preset recommends.

    Attributes:
        lam: as in `MatchOptions`, the source being the front end's own voice: 0 is that voice, and
            needs no references.
        speed: 2 speaks twice as fast, pauses included; 0.25 to 4.
        noise: how freely the front end varies its speech, 0 (always the same) to 2.
        seed: where the variation comes from; the same seed says it the same way again.
        language: any that espeak-ng speaks, like "de"; by default the front end's. The front end
            has learnt the sounds of its own language only, so others get an accent.
        lexicon: pronunciations of your own: a `knnvc.text.lexicon.Lexicon`, or the path of a file.
        kind: of the text: "text", "markdown", "srt", "vtt" or "ssml"; None tells it by how the text
            begins. Cues of subtitles are spoken at their own times.

    Raises:
        UsageError: a value is out of range.
    """

    speed: float = setting(1.0, "2 is twice as fast.", "number", least=0.25, most=4)
    noise: float = setting(0.667, "How freely the speech varies.", "number", least=0, most=2)
    seed: int = setting(
        0,
        "Another number, another reading.",
        "whole",
        least=0,
        most=2**63 - 1,
        hint="give a whole number from 0",
    )
    language: str | None = setting(
        None,
        "Language of the text, any that espeak-ng speaks.",
        "text",
        otherwise="the front end's",
    )
    lexicon: Lexicon | Path | str | None = setting(
        None,
        "Your own pronunciations: lines of WORD, a tab and IPA, or WORD = spelling; or JSON.",
        "any",
    )
    kind: str | None = setting(
        None,
        "What the text is. Cues of subtitles are spoken at their own times.",
        "choice",
        choices=TEXT_KINDS,
        otherwise="by the file's name, or how it begins",
    )


@dataclass(frozen=True)
class LoadOptions(Checked):
    """How a preset is loaded.

    Attributes:
        preset: name or folder, see `knnvc preset list`.
        device: "auto" (a GPU if there is one), "cpu", "cuda" (or "cuda:1") or "mps".
        precision: "float32", or "bfloat16" for products in half precision, which is faster on
            processors that have instructions for it. Matching sets of either can be mixed.
        threads: to compute with; None leaves what the environment says.
        chunk: longer audio is encoded in pieces of so many seconds; None is the preset's own.
    """

    preset: str | Path = setting(
        DEFAULT_PRESET, "Preset name or folder; see `knnvc preset list`.", "any"
    )
    device: str = setting(
        "auto",
        "Where to compute: auto, cpu, cuda or mps. auto takes a GPU if there is one.",
        "text",
    )
    precision: str = setting(
        "float32",
        "bfloat16 is faster on processors with instructions for it, and a little less exact.",
        "choice",
        choices=PRECISIONS,
    )
    threads: int | None = setting(
        None,
        "Threads to compute with.",
        "whole",
        least=1,
        most=4096,
        otherwise="one for each core",
    )
    chunk: float | None = setting(
        None,
        "Encode longer recordings in pieces of this length.",
        "number",
        least=0.02,
        most=86_400,
        hint="give 0.02 seconds or more",
        otherwise="the preset's, 4 for mini, else 30",
    )


def parse_loudness(value: float | str | bool) -> float | Literal["source"] | None:
    """What a loudness means: LUFS, "source", or None to leave the level alone.

    Raises:
        UsageError: it is no loudness.
    """
    if isinstance(value, bool):
        return DEFAULT_LOUDNESS if value else None
    return sound_options.parse_loudness(str(value))
