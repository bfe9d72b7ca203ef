"""Documents of every kind to lines: plain text, Markdown, SSML, SubRip and WebVTT subtitles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from knnvc.errors import UsageError
from knnvc.options import TEXT_KINDS
from knnvc.text.espeak import find_language
from knnvc.text.lexicon import Lexicon
from knnvc.text.lines import Line, lines_of, nothing_to_say, warn_of_scripts
from knnvc.text.passages import Passage

KINDS = TEXT_KINDS
_SUFFIXES = {
    ".md": "markdown", ".markdown": "markdown", ".srt": "srt", ".vtt": "vtt", ".ssml": "ssml",
}  # fmt: skip


# Other kinds of subtitles and of documents would be read out with all their marks.
_OTHERS = {
    ".ass": "subtitles", ".ssa": "subtitles", ".sub": "subtitles", ".sbv": "subtitles",
    ".ttml": "subtitles", ".dfxp": "subtitles", ".lrc": "subtitles", ".smi": "subtitles",
    ".sami": "subtitles", ".stl": "subtitles", ".scc": "subtitles",
    ".rtf": "documents", ".docx": "documents", ".doc": "documents", ".odt": "documents",
    ".pdf": "documents", ".epub": "documents", ".tex": "documents",
}  # fmt: skip
_OTHER_BEGINNINGS = {
    ".ass": r"\[Script Info\]",
    ".sbv": r"\d+:\d\d:\d\d\.\d+,\d+:\d\d:\d\d\.\d+\s",
    ".ttml": r"(?:<\?xml[^>]*\?>\s*)?<tt[\s>]",
    ".lrc": r"(?:\[[a-z]{2,6}:[^\]\n]*\]\s*)*\[\d{1,3}:\d\d\.\d{1,3}\]",
    ".sub": r"\{\d+\}\{\d+\}",
    ".smi": r"<SAMI>",
    ".rtf": r"\{\\rtf\d",
    ".pdf": r"%PDF-",
}  # fmt: skip


def kind_of(name: str, text: str) -> str:
    """One of `KINDS`, from a file's name, or else from how its text begins.

    Args:
        name: of the file, "" for text that has none.
        text: what it holds. `<speak`, `WEBVTT` and a cue's times tell what it is; Markdown is told
            by a name alone.

    Raises:
        UsageError: it is of a kind that would be read out with all its marks.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    begin = text[:2000].lstrip("\ufeff \t\r\n")
    told = (one for one, form in _OTHER_BEGINNINGS.items() if re.match(form, begin))
    other = suffix if suffix in _OTHERS else next(told, None)
    if other:
        instead = ".srt or .vtt" if _OTHERS[other] == "subtitles" else ".txt or .md"
        raise UsageError(
            f"{other[1:]} is a kind of {_OTHERS[other]} that is not read: convert it to {instead}"
        )
    if re.match(r"(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<speak[\s>]", begin, re.DOTALL):
        return "ssml"
    if re.match(r"WEBVTT(?:\s|$)", begin):
        return "vtt"
    if re.match(r"(?:\d+\s*\n)?\d+:\d\d:\d\d[,.]\d+\s*-->\s*\d+:\d\d:\d\d[,.]\d+", begin):
        return "srt"
    return "text"


def read_document(
    text: str, kind: str = "text", language: str = "en-us", lexicon: Lexicon | None = None
) -> list[Line]:
    """The lines of a document.

    Lines of subtitles carry times, see `Line.start` and `knnvc.text.subtitles.place`; lines of SSML
    carry speeds and their own pauses.

    Args:
        text: what the file holds.
        kind: one of `KINDS`, see `kind_of`.
        language: a language of espeak-ng, in any spelling.
        lexicon: pronunciations of the user's own.

    Warns (`KnnvcWarning`) of what is left out, and of scripts that the language has not.

    Raises:
        UsageError: espeak-ng does not speak the language, or there is no such kind.
        KnnvcError: the document is damaged or empty, or nothing in it is spoken.
    """
    if kind not in KINDS:
        raise UsageError(f"the kind of text {kind!r} is unknown: give one of {', '.join(KINDS)}")
    language = find_language(language)
    own = lexicon.copy() if lexicon else Lexicon()
    passages = _passages(text, kind, language, own) if text.strip() else []
    warn_of_scripts("\n".join(passage.text for passage in passages), language)
    lines = [line for passage in passages for line in _lines(passage, language, own)]
    if not lines:
        raise nothing_to_say(text, language)
    return [*lines[:-1], replace(lines[-1], pause=0.0)] if lines[-1].end is None else lines


def _passages(text: str, kind: str, language: str, lexicon: Lexicon) -> list[Passage]:
    if kind == "markdown":
        from knnvc.text.markdown import read_markdown

        return read_markdown(text)
    if kind == "srt":
        from knnvc.text.subtitles import read_srt

        return read_srt(text)
    if kind == "vtt":
        from knnvc.text.subtitles import read_vtt

        return read_vtt(text)
    if kind == "ssml":
        from knnvc.text.ssml import read_ssml

        return read_ssml(text, language, lexicon)
    return [Passage(text)]


def _lines(passage: Passage, language: str, lexicon: Lexicon) -> Iterator[Line]:
    made = list(lines_of(passage.text, language, lexicon))
    for number, line in enumerate(made):
        first, last = number == 0, number == len(made) - 1
        text, phonemes, pause = line.text, line.phonemes, line.pause
        if last and passage.open and phonemes.endswith("."):
            text, phonemes = text.rstrip(".") + ",", phonemes.rstrip(".") + ","
        if last and passage.pause is not None:
            pause = passage.pause
        yield Line(
            text,
            phonemes,
            pause,
            speed=passage.speed,
            start=passage.start if first else None,
            end=passage.end,
            before=passage.before if first else 0.0,
        )
