"""Roman numerals of monarchs, popes, chapters and wars."""

from __future__ import annotations

import re

from knnvc.text.english.numbers import Match, Numbers, Rule, after

_MONARCHS = (
    "Henry Edward Elizabeth Charles James George William Richard Louis Philip Francis Frederick "
    "Napoleon Nicholas Alexander Catherine Peter Ivan Leopold Ferdinand Alfonso Carlos Juan Felipe "
    "Gustav Gustaf Christian Haakon Harald Olav Margrethe Beatrix Wilhelm Rudolf Otto Ramses "
    "Ramesses Ptolemy Darius Xerxes Cyrus Mehmed Selim Murad Pius Leo Benedict Gregory Innocent "
    "Clement Urban Paul John Mary Anne Victoria Umberto Vittorio Emmanuel Emanuel Albert Baudouin "
    "Abdullah Mohammed Hassan Rama Constantine Theodosius Justinian Clovis Stephen Boniface "
    "Celestine Sixtus Alexios Basil Amenhotep Thutmose Mithridates Antiochus Ludwig Maximilian "
    "Pedro Afonso Sancho Robert David Kenneth Donald Simeon Boris Carol Zog Faisal Farouk".split()
)
_RANKS = (
    r"King|Queen|Pope|Emperor|Empress|Tsar|Tsarina|Czar|Kaiser|Sultan|Prince|Princess|Shah|Saint|"
    r"Duke|Archduke|Patriarch|Pharaoh"
)
# "King Charles I think" is not about a king.
_I_VERBS = frozenset(
    "think know believe guess suppose mean am have will would can could should do did say said saw "
    "met love like want hope need remember told tell".split()
)
_PARTS = (
    r"[Cc]hapter|[Pp]art|[Vv]olume|[Bb]ook|[Aa]ct|[Ss]cene|[Aa]rticle|[Ss]ection|[Pp]hase|"
    r"[Tt]ype|[Cc]lass|[Ss]tage|[Tt]itle|[Aa]ppendix|[Ff]igure|[Tt]able|[Ll]evel|[Mm]ark|number|"
    r"World War|Super Bowl|Vatican|Rocky|Episode|Apollo|Gemini|Saturn|Final Fantasy|Olympiad"
)
_ROMAN = r"(?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"


def rules(numbers: Numbers) -> list[Rule]:
    """The rules for Roman numerals."""

    def part(m: Match) -> str:
        # "This part I like", "chapter I wrote"
        pronoun = m["roman"] == "I" and re.match(r"\s+[a-z]|['’]", after(m))
        if pronoun and m["part"][0].islower():
            return m[0]
        return m["part"] + numbers.cardinal(str(_roman(m["roman"].upper())))

    return [
        Rule(
            r"\b(?=[MDCLXVI]{4})M{1,2}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b",
            lambda m: numbers.year(str(_roman(m[0]))),
        ),
        Rule(rf"(?P<part>\b(?:{_PARTS})s? )(?P<roman>{_ROMAN})\b(?!['’]\w)", part),
        Rule(
            r"(?P<part>\b(?:[Cc]hapter|[Pp]art|[Aa]ct|[Ss]cene|[Bb]ook|[Pp]age) )"
            r"(?P<roman>(?:x{0,3})(?:ix|iv|v?i{0,3}))(?<! )\b",
            part,
        ),
        Rule(
            rf"(?P<name>\b(?:(?P<rank>{_RANKS}) )?(?:[A-Z][a-z]+ )?(?P<last>[A-Z][a-zé]+) )"
            rf"(?P<roman>{_ROMAN})\b(?P<after>(?:['’]s\b|[.,;:!?)]|$|\s+[\w'’]+)?)",
            lambda m: _monarch(m, numbers),
        ),
    ]


def _monarch(m: Match, numbers: Numbers) -> str:
    value, after = _roman(m["roman"]), m["after"] or ""
    known = m["last"] in _MONARCHS or bool(m["rank"])
    if m["roman"] in ("I", "V", "X", "C", "L"):
        owned = bool(re.match(r"['’]s|[.,;:!?)]|$", after)) or after.strip() in (
            "of was had died reigned became ruled and who in to".split()
        )
        if not known or not (m["rank"] or owned):
            return m[0]
        if m["roman"] == "I" and (
            after.strip() in _I_VERBS or (not m["rank"] and after.strip() in ("had", "was", "and"))
        ):
            return m[0]
    if not 1 <= value <= 30:
        return m[0]
    said = f"the {numbers.ordinal(str(value))}" if known else numbers.cardinal(str(value))
    return f"{m['name']}{said}{after}"


def _roman(numeral: str) -> int:
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    digits = [values[letter] for letter in numeral]
    return sum(-digit if digit < max(digits[at:]) else digit for at, digit in enumerate(digits))
