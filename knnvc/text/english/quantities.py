"""Numbers that count: European ones, ranges, scores, fractions, powers, ordinals, and the rest."""

from __future__ import annotations

import re

from knnvc.text.english.money import COIN
from knnvc.text.english.numbers import NUMBER, SCALES, Match, Numbers, Rule, plural, spell
from knnvc.text.english.units import UNIT, UNITS


def european_rules() -> list[Rule]:
    """Numbers of other countries in the way of English: 1.234,56 and 1'234.56 as 1,234.56."""

    def plain(m: Match) -> str:
        whole = re.sub(r"\D", "", m["n"])
        decimals = m.groupdict().get("decimals")
        return f"{whole}.{decimals}" if decimals else whole

    before = r"(?<![\w.,'’/])"
    return [
        Rule(
            before + r"(?P<n>\d{1,3}(?:[. ]\d{3})+),(?P<decimals>\d{1,2})(?!\d|[.,]\d)",
            plain,
        ),
        Rule(before + r"(?P<n>\d{1,3}(?:['’]\d{3})+)(?:\.(?P<decimals>\d+))?(?![\w'’])", plain),
        Rule(before + r"(?P<n>\d{1,3}(?:\.\d{3}){2,})(?!\d|[.,]\d)", plain),
        Rule(before + r"(?P<n>\d{1,2}(?:,\d\d)+,\d{3})(?:\.(?P<decimals>\d+))?(?!\d|,\d)", plain),
        Rule(before + rf"(?P<n>\d{{1,3}}(?:\.\d{{3}}))(?=\s?(?:{COIN}|EUR\b))(?!\s?\$)", plain),
        Rule(
            before + rf"(?P<n>\d+),(?P<decimals>\d{{1,2}}|\d{{4,}})(?=\s?(?:%|{COIN}|EUR\b|"
            rf"(?:{UNIT})(?![\w])))",
            plain,
        ),
        Rule(rf"(?<={COIN})(?P<n>\d+),(?P<decimals>\d\d)(?!\d|[.,]\d)", plain),
    ]


_RAISED = r"\s?[({]?(?P<sign>[-−+]?)(?P<power>\d+(?:\.\d+)?|[A-Za-z])[)}]?(?!\w)"


def power_rules(numbers: Numbers) -> list[Rule]:
    """ "10^6", "x^2", "2**8": before minus signs are read."""
    quantities = _Quantities(numbers)
    return [
        # "5-3=2" is no score; "2x+1" is no product with a missing factor.
        Rule(
            r"(?<=\d)\s?[-−–]\s?(?=\.?\d[\d.,]*\s?(?:[-+*/−]\s?\d[\d.,]*\s?)*(?:=|≠|≈|<|>))",
            lambda m: " minus ",
        ),
        Rule(
            r"(?<=[=(<>])\s?(?P<a>\d+(?:\.\d+)?)\s?[-−]\s?(?=\d+(?:\.\d+)?(?![\d-]))",
            lambda m: f" {m['a']} minus ",
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d+(?:\.\d+)?)(?P<x>[abcijnpqrxyz])"
            r"(?:(?=\s?[+=<>≤≥^²³])|(?P<minus>\s?[-−]\s?)(?=\d+(?:\.\d+)?(?![\w-])|[a-z]\b))",
            lambda m: f"{numbers.number(m['n'])} {m['x']}{' minus ' if m['minus'] else ''}",
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d)e(?P<power>\d{1,2})(?![\w.])",
            lambda m: (
                f"{numbers.number(m['n'])} times ten to the power of {numbers.cardinal(m['power'])}"
            ),
        ),
        Rule(
            r"(?:(?<=[\d)])|(?<=\b[A-Za-z])(?<!\d\s\w)(?<!\d\w)(?<![/·⋅]\w))"
            r"\s?(?:\^|\*\*(?=[\d(]))" + _RAISED,
            quantities.power,
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d+(?:\.\d+)?)[eE](?P<sign>[-−+]?)(?P<power>\d{1,3})(?!\w)",
            lambda m: (
                (
                    f"{numbers.number(m['n'])} times ten to the power of "
                    f"{'minus ' if m['sign'] in ('-', '−') else ''}{numbers.cardinal(m['power'])}"
                )
                if m["sign"] or "." in m["n"]
                else m[0]
            ),
        ),
    ]


def range_rules(numbers: Numbers) -> list[Rule]:
    """Ranges, scores, signs before numbers, fractions; what follows is for later rules."""
    quantities = _Quantities(numbers)
    return [
        Rule(
            r"(?<![\w.,$£€])(?P<n>\d+\.\d+)(?P<scale>[MB])(?!\w)|"
            r"(?<![\w.,$£€])(?P<whole>\d+)(?P<large>[MBK])(?=\+?\s(?:[a-z]+s|people|men|women)\b)",
            lambda m: f"{numbers.number(m['n'] or m['whole'])} {SCALES[m['scale'] or m['large']]}",
        ),
        Rule(
            rf"(?<![\w.,/–-])(?P<a>{NUMBER})(?P<unit>%|°|{UNIT}|bn|tn|k)?"
            rf"\s?(?P<dash>[-–—−])\s?(?P<b>{NUMBER})(?![\d/]|[-–]\d)",
            quantities.range,
        ),
        Rule(
            r"(?<![\w.])(?P<d>\d{1,3})°\s?(?P<m>\d{1,2})['’′](?:\s?(?P<s>\d{1,2}(?:\.\d+)?)"
            r"(?:[\"”″]|''))?\s?(?P<way>[NSEW]\b)?",
            quantities.degrees,
        ),
        Rule(r"(?<![\w)\d.%°^])(?:[-−])(?=\.?\d)", lambda m: "minus "),
        Rule(r"(?<!\w)[+](?=\.?\d)", lambda m: "plus "),
        Rule(r"\+/[-−]\s?|±\s?", lambda m: " plus or minus "),
        Rule(r"[≈~]\s?(?=\d)", lambda m: "about "),
        Rule(
            r"(?<![\w.,/])(?:(?P<whole>\d+)[\s-])?(?P<n>\d{1,3})/(?P<d>\d{1,4})(?P<th>ths?|rds?)?"
            r"(?![\w/]|[.,]\d)",
            quantities.fraction,
        ),
    ]


def mixed_rules(numbers: Numbers) -> list[Rule]:
    """Ordinals, versions, dimensions, letters with digits."""
    quantities = _Quantities(numbers)
    return [
        Rule(
            r"(?<![\w.])(?P<n>\d+(?:,\d{3})*)(?:st|nd|rd|th)\b",
            lambda m: numbers.ordinal(m["n"]),
        ),
        Rule(r"(?<=\d)\s?[×x]\s?(?=10\s?to the power)", lambda m: " times "),
        Rule(r"(?<=\d)\s?[×x]\s?(?=\d)", lambda m: " by "),
        Rule(r"(?<=feet|inch|ches|eter|ters)\s?[×x]\s?(?=\w)", lambda m: " by "),
        Rule(r"(?<=[A-Za-z)])\s?\^" + _RAISED, quantities.power),
        Rule(r"\bCO2\b", lambda m: "C-O-two"),
        Rule(
            r"(?<![\w.,/])(?P<n>\d+(?:\.\d+)?)[x×](?!\w)",
            lambda m: numbers.number(m["n"]) + " times",
        ),
        Rule(
            r"(?<![\w.])[Vv](?:er|ersion)?\.?\s?(?P<n>\d+(?:\.\d+)+)(?!\.?\d)",
            lambda m: f"version {quantities.dotted(m['n'])} ",
        ),
        Rule(
            r"(?<=[A-Za-z])(?P<n>\d+(?:\.\d+)+)(?!\.?\d)",
            lambda m: f" {quantities.dotted(m['n'])} ",
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d+(?:\.\d+)+)(?=[A-Za-z])",
            lambda m: f"{quantities.dotted(m['n'])} ",
        ),
        Rule(
            r"\b(?P<a>[A-Z]{1,5})-(?P<n>\d{1,4})(?P<tail>[A-Z]?)\b(?![.,]\d)",
            lambda m: quantities.mixed(m["a"] + m["n"] + m["tail"]),
        ),
        Rule(
            r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z\d]+\b",
            lambda m: quantities.mixed(m[0]),
        ),
    ]


def leftover_rules(numbers: Numbers) -> list[Rule]:
    """All digits that no other rule took; none of them touches a letter afterwards."""
    quantities = _Quantities(numbers)
    return [
        Rule(r"(?:(?<!\w)|(?<=[a-z]))#\s?(?=\d)|№\s?(?=\d)", lambda m: " number "),
        Rule(r"\d+(?:\.\d+){2,}", lambda m: quantities.dotted(m[0])),
        Rule(
            r"(?<![\d.,])(?P<year>1[1-9]\d\d|20\d\d)(?![\d]|[.,]\d)",
            lambda m: numbers.year(m["year"]),
        ),
        Rule(r"(?<=\d)[-/](?=\d)", lambda m: " "),
        Rule(NUMBER, lambda m: numbers.number(m[0])),
    ]


class _Quantities:
    """How quantities are said."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def dotted(self, number: str) -> str:
        """ "2.0.1"."""
        parts = number.split(".")
        if len(parts) == 2:
            return self.numbers.number(number)
        return " point ".join(self.numbers.number(part) for part in parts)

    def power(self, m: Match) -> str:
        """What follows the base of a power."""
        raised = m["power"]
        if not m["sign"] and raised in ("2", "3"):
            return " squared" if raised == "2" else " cubed"
        minus = "minus " if m["sign"] in ("-", "−") else ""
        said = self.numbers.number(raised) if raised[0].isdigit() else raised
        return f" to the power of {minus}{said}"

    def degrees(self, m: Match) -> str:
        """ "40°26′46″ N"."""
        said = f"{self.numbers.number(m['d'])} degrees {self.numbers.number(m['m'])} minutes"
        if m["s"]:
            said += f" {self.numbers.number(m['s'])} seconds"
        ways = {"N": "north", "S": "south", "E": "east", "W": "west"}
        return f"{said} {ways[m['way']]}" if m["way"] else said

    def range(self, m: Match) -> str:
        """ "5–10%" rises, "3-1" is a score."""
        first = self.numbers.number(m["a"])
        if m["unit"] in ("bn", "tn", "k"):
            first += f" {SCALES[m['unit']]}"
        elif m["unit"] and m["unit"] in UNITS:
            first += f" {UNITS[m['unit']][1]}"
        elif m["unit"] == "%":
            first += " percent"
        rising = float(m["b"].replace(",", "")) > float(m["a"].replace(",", ""))
        if (m["a"], m["b"]) == ("9", "5"):
            rising = True
        if m["dash"] == "−":  # the sign for minus, not a dash
            return f"{first} minus {m['b']}"
        if m["dash"] == "-" and not rising and not m["unit"]:  # a score
            return f"{first} {m['b']}"
        return f"{first} to {m['b']}"

    def fraction(self, m: Match) -> str:
        """ "2 1/2", "24/7"."""
        above, below = int(m["n"]), int(m["d"])
        cardinal = self.numbers.cardinal
        if (above, below) in ((9, 11), (24, 7), (50, 50), (7, 7)):
            return f"{cardinal(m['n'])} {cardinal(m['d'])}"
        before = f"{cardinal(m['whole'])} and " if m["whole"] else ""
        usual = below in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100, 1000)
        if not (1 <= above < below and usual):
            over = f"{cardinal(m['n'])} over {cardinal(m['d'])}"
            return f"{cardinal(m['whole'])} {over}" if m["whole"] else over
        names = {2: ("half", "halves"), 4: ("quarter", "quarters")}
        ordinal = self.numbers.ordinal(m["d"])
        one, many = names.get(below) or (ordinal, plural(ordinal))
        count = cardinal(m["n"])
        if above == 1 and before:
            count = "an" if one[0] in "aeiou" else "a"
        return f"{before}{count} {one if above == 1 else many}"

    def mixed(self, token: str) -> str:
        """ "MH370", "4th", "A380s": letters with digits."""
        said: list[str] = []
        for part in re.findall(r"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]", token):
            if part == "s" and said:
                said[-1] = plural(said[-1])
            elif not part.isdigit():
                known = (len(part) > 3 and part.isupper()) or not part.isupper()
                said.append(part if known and len(part) > 1 else spell(part))
            elif len(part) <= 2 or (len(part) <= 4 and part.endswith("00")):
                said.append(self.numbers.cardinal(part))
            elif len(part) == 3 and part[1] != "0" and part[0] != "0":
                said.append(f"{self.numbers.cardinal(part[0])} {self.numbers.cardinal(part[1:])}")
            elif len(part) == 4 and part[0] != "0" and part[2] != "0":
                first, second = part[:2], part[2:]
                said.append(f"{self.numbers.cardinal(first)} {self.numbers.cardinal(second)}")
            else:
                said.append(self.numbers.digits(part))
        return " ".join(said)
