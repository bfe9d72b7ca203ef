"""All rules in their order.

Each rewrites what one regular expression finds. A rule that is final hides its words from those
that follow: "question mark X" of an address is no tenth mark. A full stop that ended both an
abbreviation and its sentence is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial

from knnvc.text.english import (
    abbreviations,
    capitals,
    dates,
    homographs,
    identifiers,
    money,
    names,
    quantities,
    signs,
    units,
)
from knnvc.text.english.numbers import BEGINNING, Match, Numbers, Rule, after, before

_MOST = 60_000
_FIRST = 0x100000  # of the private-use signs that stand for what is final; a lexicon has others


class English:
    """The rules, for American English or another one."""

    def __init__(self, american: bool) -> None:
        self.rules = [
            (re.compile(rule.pattern), rule.say, rule.final) for rule in _rules(Numbers(american))
        ]

    def verbalize(self, text: str) -> str:
        """`text`, one paragraph in one line, with nothing but words and punctuation in it."""
        kept: list[str] = []
        for pattern, say, final in self.rules:
            text = pattern.sub(partial(_say, say, kept if final else None), text)
        if kept:
            text = self._restored(text, kept)
        return re.sub(rf"{BEGINNING}\s*(\w?)", lambda m: m[1].upper(), text)

    @staticmethod
    def _restored(text: str, kept: list[str]) -> str:
        return re.sub(
            rf"(?P<before>\w)?(?P<kept>[{chr(_FIRST)}-{chr(_FIRST + _MOST)}])(?P<after>\w)?",
            lambda m: (
                (m["before"] + " " if m["before"] else "")
                + kept[ord(m["kept"]) - _FIRST]
                + (" " + m["after"] if m["after"] else "")
            ),
            text,
        )


def _say(say: Callable[[Match], str], kept: list[str] | None, m: Match) -> str:
    """What a rule says, apart from the letters around; kept behind a sign if it is final."""
    said, found = say(m), m[0]
    if said == found:
        return said
    capital = found[0].isupper() or (kept is not None and not found[0].islower())
    if capital and said[:1].islower() and re.search(r"[.!?][\"')]*\s+$", before(m)):
        said = said[:1].upper() + said[1:]  # it begins a sentence
    if kept is not None and len(kept) < _MOST:
        kept.append(said)
        return chr(_FIRST + len(kept) - 1)
    left, right = before(m)[-1:], after(m)[:1]
    if left.isalpha() and said[:1].isalpha() and not found[:1].isalpha():
        said = " " + said
    if right.isalnum() and said[-1:].isalpha() and not found[-1:].isalpha():
        said += " "
    return said


def _rules(numbers: Numbers) -> list[Rule]:
    return [
        *identifiers.address_rules(numbers),
        *dates.clock_rules(numbers),
        *abbreviations.rules(),
        *identifiers.rules(numbers),
        *dates.rules(numbers),
        *signs.early_rules(),
        *quantities.european_rules(),
        *money.rules(numbers),
        *quantities.power_rules(numbers),
        *quantities.range_rules(numbers),
        *units.rules(numbers),
        *names.rules(numbers),
        *quantities.mixed_rules(numbers),
        *quantities.leftover_rules(numbers),
        *capitals.rules(),
        *homographs.rules(),
        *signs.rules(),
        *money.leftovers(),
    ]


@lru_cache(maxsize=2)
def english(american: bool) -> English:
    """The rules of one kind of English, compiled once."""
    return English(american)
