"""SSML: what of the Speech Synthesis Markup Language is honoured; the rest is refused by name.

Read are `speak`, `p`, `s`, `break` (time and strength), `prosody` (rate), `sub` (alias) and
`phoneme` (IPA), of https://www.w3.org/TR/speech-synthesis11/.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from knnvc.errors import KnnvcError
from knnvc.text.lexicon import FIRST, MOST, Lexicon
from knnvc.text.passages import Passage
from knnvc.text.sentences import CLAUSE_PAUSE, PARAGRAPH_PAUSE, SENTENCE_PAUSE

# The standard names these and leaves the seconds to the reader; they follow our own pauses.
_STRENGTHS = {
    "none": 0.0, "x-weak": 0.05, "weak": CLAUSE_PAUSE, "medium": SENTENCE_PAUSE,
    "strong": PARAGRAPH_PAUSE, "x-strong": 1.5,
}  # fmt: skip
# Likewise; "medium" and "default" are the usual speed.
_RATES = {
    "x-slow": 0.5, "slow": 0.8, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.6,
}  # fmt: skip
_SLOWEST, _FASTEST = 0.25, 4.0  # times the usual speed, as for --speed
_LONGEST_BREAK = 60.0  # seconds
_DEEPEST = 100  # elements inside one another
# Element: the attributes that are read.
_READ = {
    "speak": {"version", "lang", "schemaLocation", "base", "onlangfailure"},
    "p": {"id"},
    "s": {"id"},
    "break": {"time", "strength"},
    "prosody": {"rate"},
    "sub": {"alias"},
    "phoneme": {"ph", "alphabet"},
}
_LISTED = "speak, p, s, break, prosody (rate), sub and phoneme"


def read_ssml(text: str, language: str, lexicon: Lexicon) -> list[Passage]:
    """The passages of an SSML document.

    Args:
        text: one `speak` element.
        language: that it is spoken in; the document's own must not be another one.
        lexicon: gets a sign for each `phoneme`.

    Raises:
        KnnvcError: it is no XML, or has elements or attributes that are not read.
    """
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text):
        raise KnnvcError("the SSML has a document type, which is not read: leave out <!DOCTYPE>")
    text = "".join(sign for sign in text if not FIRST <= ord(sign) < FIRST + MOST)
    reader = _Reader(language, lexicon)
    parser = ElementTree.XMLParser(target=reader)
    try:
        parser.feed(text.strip().lstrip("\ufeff"))
        parser.close()
    except (ElementTree.ParseError, ValueError) as error:
        raise KnnvcError(
            f"the SSML is no XML ({error}): close every element, and write &amp; for an ampersand"
        ) from error
    return reader.passages


class _Reader:
    """What `ElementTree.XMLParser` tells of a document, made into passages."""

    def __init__(self, language: str, lexicon: Lexicon) -> None:
        self.passages: list[Passage] = []
        self._language, self._lexicon = language, lexicon
        self._elements: list[str] = []
        self._rates = [1.0]
        self._text = ""
        self._before = 0.0
        self._explicit = False  # whether the pause after the last passage is a break's
        self._hidden = 0  # how deep inside an element whose words are replaced

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = tag.rpartition("}")[2]
        given = {key.rpartition("}")[2]: value.strip() for key, value in attributes.items()}
        self._check(name, given)
        self._elements.append(name)
        if self._hidden:
            self._hidden += 1
        elif name == "speak":
            self._check_language(given.get("lang"))
        elif name in ("p", "s"):
            self._flush(PARAGRAPH_PAUSE if name == "p" else SENTENCE_PAUSE)
        elif name == "break":
            self._break(_seconds(given))
        elif name == "prosody":
            self._flush()
            self._rates.append(self._rates[-1] * _rate(given["rate"]))
            if not _SLOWEST <= self._rates[-1] <= _FASTEST:
                raise KnnvcError(
                    f"the SSML asks for {self._rates[-1]:g} times the speed: "
                    f"give rates from {_SLOWEST:g} to {_FASTEST:g}"
                )
        elif name == "sub":
            self._text += given["alias"]
            self._hidden = 1
        elif name == "phoneme":
            self._text += self._lexicon.issue(given["ph"])
            self._hidden = 1

    def end(self, tag: str) -> None:
        """An element ends."""
        name = self._elements.pop()
        if self._hidden:
            self._hidden -= 1
        elif name in ("p", "s", "speak"):
            self._flush(PARAGRAPH_PAUSE if name == "p" else SENTENCE_PAUSE)
        elif name == "prosody":
            self._flush()
            self._rates.pop()

    def data(self, data: str) -> None:
        """Words."""
        if not self._hidden:
            self._text += data

    def close(self) -> None:
        """The document ends."""
        self._flush(SENTENCE_PAUSE)

    def _check(self, name: str, given: dict[str, str]) -> None:
        if name not in _READ:
            raise KnnvcError(
                f"the SSML element <{name[:30]}> is not read: leave it out (read are {_LISTED})"
            )
        if not self._elements and name != "speak":
            raise KnnvcError("the SSML does not begin with <speak>: put all of it into one")
        if len(self._elements) >= _DEEPEST:
            raise KnnvcError(f"the SSML has more than {_DEEPEST} elements inside one another")
        for attribute in given:
            if attribute not in _READ[name]:
                raise KnnvcError(
                    f"the attribute {attribute[:30]} of <{name}> is not read: leave it out "
                    f"(read are {_LISTED})"
                )
        needed = {"sub": "alias", "phoneme": "ph", "prosody": "rate"}.get(name)
        if needed and not given.get(needed):
            raise KnnvcError(f"an SSML element <{name}> has no {needed}: give it one")
        if name == "phoneme" and given.get("alphabet", "ipa").lower() != "ipa":
            raise KnnvcError(
                f"the phoneme alphabet {given['alphabet'][:30]!r} is not read: write them in ipa"
            )

    def _check_language(self, given: str | None) -> None:
        if given and given.split("-")[0].lower() != self._language.split("-")[0].lower():
            raise KnnvcError(
                f"the SSML is in {given[:20]!r}, but {self._language!r} is spoken: "
                f"give --language {given[:20].lower()}, or leave out xml:lang"
            )

    def _flush(self, pause: float | None = None) -> None:
        """End the passage at hand; `pause` belongs to a boundary, None inside a sentence."""
        text, self._text = self._text, ""
        ended = bool(re.search(r"[.!?…:]['\"”’)]*\s*$", text))
        if any(sign.isalnum() or FIRST <= ord(sign) < FIRST + MOST for sign in text):
            inside = pause is None and not ended
            self.passages.append(
                Passage(
                    text,
                    speed=self._rates[-1],
                    pause=pause if pause is not None else SENTENCE_PAUSE if ended else 0.0,
                    open=inside,
                    before=self._before,
                )
            )
            self._before, self._explicit = 0.0, False
        elif self.passages and pause is not None and not self._explicit:
            last = self.passages[-1]
            self._replace(max(last.pause or 0.0, pause), last.open and pause < PARAGRAPH_PAUSE)

    def _break(self, seconds: float) -> None:
        self._flush()
        if not self.passages:
            self._before += seconds
            return
        before = (self.passages[-1].pause or 0.0) if self._explicit else 0.0
        self._replace(before + seconds, self.passages[-1].open)
        self._explicit = True

    def _replace(self, pause: float, goes_on: bool) -> None:
        last = self.passages[-1]
        self.passages[-1] = Passage(
            last.text, last.speed, pause, last.start, last.end, goes_on, last.before
        )


def _seconds(given: dict[str, str]) -> float:
    """How long a break is."""
    time, strength = given.get("time"), given.get("strength", "medium")
    if time:
        found = re.fullmatch(r"\+?(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})\s*(ms|s)", time)
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else -1.0
        if not 0 <= seconds <= _LONGEST_BREAK:
            raise KnnvcError(
                f"the SSML break {time[:20]!r} is no time up to {_LONGEST_BREAK:g} s: "
                "write it like 500ms or 1.5s"
            )
        return seconds
    if strength not in _STRENGTHS:
        raise KnnvcError(
            f"the SSML break strength {strength[:20]!r} is unknown: give {', '.join(_STRENGTHS)}"
        )
    return _STRENGTHS[strength]


def _rate(rate: str) -> float:
    """ "fast", "120%", "+20%" or "1.2" as a factor."""
    if rate in _RATES:
        return _RATES[rate]
    found = re.fullmatch(r"([+-]?)(\d{1,4}(?:\.\d{1,6})?|\.\d{1,6})(%?)", rate)
    if found and found[3]:
        value = float(found[2]) / 100
        return {"+": 1 + value, "-": 1 - value, "": value}[found[1]]
    if found and not found[1]:
        return float(found[2])
    raise KnnvcError(
        f"the SSML rate {rate[:20]!r} is unknown: give {', '.join(_RATES)}, or one like 120%"
    )
