"""Numbers in words, and what all rules share: their form, and how a sentence's end is told.

Numbers become words with `num2words`. American English leaves the "and" of "105" out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

Match = re.Match[str]

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
RANGE = r"\s?[-–—]\s?"
SCALES = {
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion",
    "trillion": "trillion", "k": "thousand", "K": "thousand", "m": "million", "mn": "million",
    "mln": "million", "M": "million", "bn": "billion", "B": "billion", "b": "billion",
    "tn": "trillion", "trn": "trillion", "T": "trillion",
}  # fmt: skip
SCALE = r"(?:\s?-?(?P<scale>hundred|thousand|million|billion|trillion|mln|trn|bn|tn|mn|[kKmMbBT]))"


BEGINNING = "\U0010fffd"
"""Stands before a number that begins a sentence, until its first word gets a capital letter."""


class Rule(NamedTuple):
    """What one regular expression finds, and what is said for it.

    No later rule sees what a `final` rule says.
    """

    pattern: str
    say: Callable[[Match], str]
    final: bool = False


class Numbers:
    """Numbers in the words of American English, or of another one."""

    def __init__(self, american: bool) -> None:
        self.american = american

    def digits(self, digits: str) -> str:
        """ "07" is "zero seven"; what is no digit does not count."""
        return " ".join(number_in_words(digit, "cardinal") for digit in digits if digit.isdigit())

    def groups(self, text: str) -> str:
        """ "12-34 X" is "one two, three four, X": digit by digit, a pause between groups."""
        return ", ".join(self.token(group) for group in re.findall(r"[A-Za-z\d]+", text))

    def token(self, token: str) -> str:
        """ "1aF" is "one, A-F": letter by letter and digit by digit."""
        parts = re.findall(r"\d+|[A-Za-z]+", token)
        return " ".join(self.digits(part) if part.isdigit() else spell(part) for part in parts)

    def cardinal(self, digits: str) -> str:
        """A whole number; digit by digit if it begins with 0 or has more than 15."""
        digits = re.sub(r"\D", "", digits)
        if len(digits) > 15 or (len(digits) > 1 and digits[0] == "0"):
            return self.digits(digits)
        return self._and(number_in_words(digits, "cardinal")) if digits else ""

    def ordinal(self, digits: str) -> str:
        """ "2" is "second"."""
        digits = re.sub(r"\D", "", digits)
        if len(digits) > 15:
            return self.digits(digits)
        return self._and(number_in_words(str(int(digits)), "ordinal"))

    def number(self, number: str) -> str:
        """A whole or decimal number, with or without commas."""
        whole, point, decimals = number.partition(".")
        said = self.cardinal(whole) if whole else "zero"
        return f"{said} point {self.digits(decimals)}" if point and decimals else said

    def year(self, digits: str) -> str:
        """ "1905" is "nineteen oh-five"."""
        year = int(digits)
        if 1100 <= year <= 2099 and not 2000 <= year <= 2009:
            return number_in_words(str(year), "year")
        return self.cardinal(digits)

    def two_digits(self, digits: str) -> str:
        """The last two of a year: '05 is "oh five"."""
        return f"oh {self.cardinal(digits[1])}" if digits[0] == "0" else self.cardinal(digits)

    def _and(self, words: str) -> str:
        return words.replace(" and ", " ") if self.american else words


@lru_cache(maxsize=4096)
def number_in_words(number: str, kind: str) -> str:
    """What num2words says of `number`; `kind` is one of its kinds, "cardinal" for one."""
    from num2words import num2words

    value: Any = float(number) if "." in number else int(number)
    return str(num2words(value, to=kind)).replace(",", "")


def spell(letters: str) -> str:
    """Letter by letter, so that espeak-ng reads letters: it takes an A that does not come first
    for the article."""
    named = [
        "eigh" if letter == "A" and at else letter for at, letter in enumerate(letters.upper())
    ]
    return "eigh" if letters.upper() == "A" else "-".join(named)


def plural(words: str) -> str:
    """ "nineteen ninety" -> "nineteen nineties"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def words(several: str) -> str:
    """A regular expression for one of several words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(several.split(), key=len, reverse=True))


# Where an abbreviation's full stop ends its sentence as well --------------------------------------

# Words that a sentence often begins with, and names hardly ever do.
STARTERS = frozenset(
    "The A An In On At It He She They We You I This That These Those There But And Or So If When "
    "While After Before Its His Her Their Our My As For From By With Now Then Not No Yes What Who "
    "Why How Where Some Many Most More Last Next Once Also However Meanwhile Still Yet Since "
    "Although Though Because Until During Under Both Each Every One Two Three Everyone Everybody "
    "Nobody Nothing Someone Somebody People Your Is Are Was Were Do Does Did Can Could Will Would "
    "Should Have Has Had Let Please Thank Thanks Maybe Perhaps Here Even Only Just Today Yesterday "
    "Tomorrow Later Soon Suddenly Finally".split()
)
# Some of these are surnames, too: "Dr. No".
SURNAMES = frozenset(
    "A An In On So No Who At Now By For One Two Three Or As If Yet More Last Under Can Let Did Has "
    "Will Long May Do".split()
)
_CALENDAR = (
    "January February March April May June July August September October November December "
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
).split()


_LOOK = 160  # signs that rules look back and ahead, so that long paragraphs take no square of time


def before(m: Match) -> str:
    """What stands right before a match."""
    return m.string[max(0, m.start() - _LOOK) : m.start()]


def after(m: Match) -> str:
    """What stands right after a match."""
    return m.string[m.end() : m.end() + _LOOK]


def next_word(m: Match) -> str:
    """The word after a match, if one follows after white space; "" otherwise."""
    found = re.match(r"\s+[\"'“‘(]*([A-Za-z]+(?:'[a-z]+)?)", after(m))
    return found[1] if found else ""


def at_the_end(m: Match) -> bool:
    """Whether nothing follows a match but closing signs."""
    return not after(m).lstrip(" \"'”’)")


def stop_before_capital(m: Match) -> str:
    """The stop of an abbreviation that ends a sentence wherever a capital letter follows.

    Names of months and days, and words in capitals, do not count.
    """
    if at_the_end(m):
        return "."
    word = next_word(m)
    if not word or not word[0].isupper():
        return ""
    named = word.startswith((*_CALENDAR, "Jan", "Feb", "Sept", "Oct", "Nov", "Dec"))
    return "" if named or (len(word) > 1 and word.isupper()) else "."


def stop_before_starter(m: Match) -> str:
    """The stop of an abbreviation that stands before names, too."""
    return "." if at_the_end(m) or next_word(m).split("'")[0] in STARTERS else ""


def stop_before_clause(m: Match) -> str:
    """As `stop_before_starter`, and before one capital that small letters follow: "Sales rose"."""
    clause = re.match(r"\s+[A-Z][a-z]+ (?!and\b|or\b|of\b|de\b|von\b|van\b|&)[a-z]", after(m))
    return "." if clause else stop_before_starter(m)
