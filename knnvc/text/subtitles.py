"""Subtitles: the cues of SubRip (.srt) and WebVTT (.vtt) files, and when each is spoken.

The files are read by the packages `srt` and `webvtt-py`. Marks of style and position go, and so do
descriptions of sounds in brackets. `place` gives every line its time.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from knnvc.errors import KnnvcError, KnnvcWarning
from knnvc.text.lines import Line
from knnvc.text.passages import Passage

FASTEST = 1.5  # times the usual speed; a choice, no measurement
GAP = 0.05  # seconds between a cue that fills its room and the next one; a choice
LATE = 0.1  # seconds that nobody notices; half the shortest time a subtitle's edge is placed to
LONGEST = (
    24 * 3600.0
)  # seconds: a cue after that is a mistake, and would fill the disk with silence

_STYLE = re.compile(
    r"\{\\[^{}]*\}|<rt>[^<>]{0,200}</rt>|</?(?:v|c|i|b|u|s|font|ruby|rt|lang)(?:[.\s][^<>]*)?>|<\d[\d:.]*>",
    re.DOTALL | re.IGNORECASE,
)
_SOUND = re.compile(r"\[[^\[\]]*\]|\((?=[^()]*[A-Z])[^()a-z]*\)|[♪♫#]+(?=\s|$)|(?:^|(?<=\s))[♪♫#]+")
_STAMP = r"(?:\d{1,3} ?: ?)?\d{1,2} ?: ?\d{1,2}(?: ?[,.] ?\d{1,3})?"
_TIMES = re.compile(
    rf"^[^\S\n]*(?P<start>{_STAMP})[^\S\n]*(?:-{{1,2}}>|→)[^\S\n]*(?P<end>{_STAMP})(?![\d:])",
    re.MULTILINE,
)
_WORD_TIME = re.compile(r"<\d[\d:.]*>")
_FLASH = 0.02  # seconds: no cue for people is as short, but those that a roller leaves standing are


def read_srt(text: str) -> list[Passage]:
    """The cues of a SubRip file, in the order of their times.

    Warns (`KnnvcWarning`) of cues without words.

    Raises:
        KnnvcError: it is damaged, or holds no cue.
    """
    import srt

    # The package's regular expression takes the cube of long runs.
    text = re.sub(r"(\d{40})(?=\d)", r"\1 ", _in_one_form(text, ","))
    text = re.sub(r"(?:[^\S\n]{8,}\n?)+", lambda run: "\n" if "\n" in run[0] else " ", text)
    text = re.sub(r"\n{9,}", "\n\n", text)
    try:
        cues = [
            (cue.start.total_seconds(), cue.end.total_seconds(), cue.content)
            for cue in srt.parse(text)
        ]
    except (srt.SRTParseError, ValueError, OverflowError) as error:
        shown = getattr(error, "unmatched_content", "") or str(error)
        near = " ".join(shown.split())[:40]
        raise KnnvcError(f"the subtitles are damaged near {near!r}: mend them there") from error
    return _passages(cues)


def read_vtt(text: str) -> list[Passage]:
    """The cues of a WebVTT file, in the order of their times.

    Warns (`KnnvcWarning`) of cues without words, and of damaged ones by their count.

    Raises:
        KnnvcError: it is no WebVTT, or holds no cue.
    """
    import webvtt

    text = _in_one_form(text, ".")
    try:
        found = webvtt.from_string(text)
        cues = [(_seconds(cue.start), _seconds(cue.end), cue.raw_text) for cue in found.captions]
        count = len(cues)
        cues = _unrolled(cues)
    except (webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError) as error:
        reason = " ".join(str(error).split())[:60]
        raise KnnvcError(
            f"the subtitles are no WebVTT ({reason or 'no header'}): begin them with WEBVTT"
        ) from error
    damaged = sum("-->" in line for line in _outside_notes(text)) - count
    if damaged > 0:
        warnings.warn(
            f"{damaged} damaged cue{'s' if damaged > 1 else ''} of the subtitles "
            "cannot be read and will be left out",
            KnnvcWarning,
            stacklevel=3,
        )
    return _passages(cues)


def _in_one_form(text: str, point: str) -> str:
    """`text` with line ends, arrows and times as the format has them, whoever wrote it.

    Without hours, SubRip's reader takes minutes for them.
    """

    def stamp(given: str) -> str:
        whole, _, part = re.sub(r"\s", "", given).replace(",", ".").partition(".")
        whole = whole if whole.count(":") == 2 else f"00:{whole}"
        return f"{whole}{point}{part:0<3}"

    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return _TIMES.sub(lambda m: f"{stamp(m['start'])} --> {stamp(m['end'])}", text)


def _unrolled(cues: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """`cues` without the lines that stand there since an earlier one.

    Captions that a machine made while it listened roll: each shows the last line again, with the
    next one below it, word by word, and then for a moment as it stands.
    """
    rolling = sum(end - start <= _FLASH or bool(_WORD_TIME.search(c)) for start, end, c in cues)
    if 4 * rolling < len(cues):
        return cues
    made: list[tuple[float, float, str]] = []
    standing: list[str] = []
    for start, end, content in cues:
        lines = [one for one in map(_words, content.splitlines()) if one]
        new = lines
        for count in range(min(len(standing), len(lines)), 0, -1):
            if standing[-count:] == lines[:count]:
                new = lines[count:]
                break
        standing = lines or standing
        if new:
            made.append((start, end, "\n".join(new)))
        elif made and start <= made[-1][1] + _FLASH:
            made[-1] = (made[-1][0], max(end, made[-1][1]), made[-1][2])
    return made


def _outside_notes(text: str) -> Iterator[str]:
    """The lines of a WebVTT file that stand in no comment."""
    for block in re.split(r"\r?\n(?:[ \t]*\r?\n)+", text):
        if not block.lstrip().startswith("NOTE"):
            yield from block.splitlines()


def _seconds(stamp: str) -> float:
    """ "01:02:03.500" in seconds."""
    total = 0.0
    for part in str(stamp).replace(",", ".").split(":"):
        total = total * 60 + float(part)
    return total


def _passages(cues: list[tuple[float, float, str]]) -> list[Passage]:
    made, silent = [], 0
    for start, end, content in sorted(cues, key=lambda cue: cue[0]):
        if not 0 <= start <= LONGEST:
            raise KnnvcError(
                f"a cue of the subtitles begins at {start:.0f} s: give times from 0 to 24 hours"
            )
        words = _words(content)
        if not any(sign.isalnum() for sign in words):
            silent += 1
            continue
        ended = bool(re.search(r"[.!?…:。！？][\"'”’)\]]*$", words))
        made.append(Passage(words, start=start, end=max(start, end), open=not ended))
    if not made:
        raise KnnvcError("there is no cue with words in the subtitles: check the file")
    if silent:
        warnings.warn(
            f"{silent} of {len(cues)} cues hold no words and stay silent",
            KnnvcWarning,
            stacklevel=4,
        )
    return made


def _words(content: str) -> str:
    """A cue's words in one line; a dash begins another speaker's sentence."""
    said = ""
    for line in _STYLE.sub("", content).splitlines():
        spoken = " ".join(_SOUND.sub(" ", line).split())
        another = re.match(r"[-–—]\s*(?=\w|[\"'“¿¡])", spoken)
        if another:
            spoken = spoken[another.end() :]
            if said and said[-1] not in ".!?…,;:—-":
                said += "."
        divided = re.search(r"[^\W\d_]-$", said) and spoken[:1].islower()  # well-/known
        said = f"{said}{'' if divided else ' '}{spoken}".strip() if spoken else said
    return said


# When each line is spoken -------------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """When a line begins, in seconds, and how much faster it is spoken than without a limit."""

    at: float
    speed: float


@dataclass(frozen=True)
class Schedule:
    """When all lines are spoken.

    Attributes:
        slots: one a line.
        cues: how many cues there are.
        hurried: how many of them are spoken faster to fit.
        late: how many begin later than they should, by more than `LATE`.
        latest: how late the latest is, in seconds.
        fastest: the highest speed that was allowed.
    """

    slots: tuple[Slot, ...]
    cues: int = 0
    hurried: int = 0
    late: int = 0
    latest: float = 0.0
    fastest: float = FASTEST

    @property
    def warning(self) -> str | None:
        """What the user should know: cues that could not keep their time."""
        if not self.late:
            return None
        return (
            f"{self.late} of {self.cues} cues are spoken late, by {self.latest:.1f} s at most: "
            f"those before them overlap or do not fit even at {self.fastest:g} times the speed "
            f"({self.hurried} are spoken faster)"
        )


def place(lines: Sequence[Line], durations: Sequence[float], fastest: float = FASTEST) -> Schedule:
    """When each line is spoken, so that every cue begins at its own time.

    A cue may last until the next one begins. Where it does not fit, it is spoken faster, up to
    `fastest`; where that is not enough, the next one waits, as two voices at once are understood by
    nobody. Lines without times follow one another with their pauses.

    Args:
        lines: of one document, in order.
        durations: how long each takes at the speed that it would have without a limit, in seconds.
        fastest: the highest factor by which a cue is hurried, 1 or more.
    """
    cues = list(_cues(lines))
    starts = [lines[cue[0]].start for cue in cues]
    slots: list[Slot] = []
    now, timed, hurried, late, latest = 0.0, 0, 0, 0, 0.0
    for number, cue in enumerate(cues):
        first, start = lines[cue[0]], starts[number]
        pauses = [lines[at].pause for at in cue[:-1]] + [0.0]
        usual = sum(durations[at] for at in cue) + sum(pauses)
        speed, at_time = 1.0, now + first.before
        if start is not None:
            timed += 1
            at_time = max(now, start)
            after = starts[number + 1] if number + 1 < len(cues) else None
            limit = after - GAP if after is not None and after > start else first.end or start
            room = limit - at_time
            speed = min(max(usual / room, 1.0), fastest) if room > 0 else fastest
            hurried += speed > 1.0
            if at_time - start > LATE:
                late, latest = late + 1, max(latest, at_time - start)
        for each, pause in zip(cue, pauses, strict=True):
            slots.append(Slot(at_time, speed))
            at_time += (durations[each] + pause) / speed
        now = at_time + (lines[cue[-1]].pause if start is None else 0.0)
    return Schedule(tuple(slots), timed, hurried, late, latest, fastest)


def _cues(lines: Iterable[Line]) -> Iterator[list[int]]:
    """The numbers of the lines of each cue; a line without times is one of its own."""
    cue: list[int] = []
    for number, line in enumerate(lines):
        if cue and (line.start is not None or line.end is None):
            yield cue
            cue = []
        cue.append(number)
    if cue:
        yield cue
