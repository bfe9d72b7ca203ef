"""Dates, years and times of day.

American English reads 3/4/2026 as March 4, British as 3 April.
"""

from __future__ import annotations

import re

from knnvc.text.english.numbers import (
    RANGE,
    Match,
    Numbers,
    Rule,
    after,
    plural,
    stop_before_capital,
)

_MONTHS = (
    "January February March April May June July August September October November December".split()
)
_MONTH_NAME = (
    r"(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
_MONTH = _MONTH_NAME + r"\b\.?"
_WEEKDAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_YEAR = r"(?P<year>1\d{3}|20\d\d)"
_HOUR = r"(?:[01]?\d|2[0-4])"


def clock_rules(numbers: Numbers) -> list[Rule]:
    """Times that carry a.m. or p.m., before abbreviations take these."""
    dates = _Dates(numbers)
    return [
        Rule(r"(?i)(?:(?<=\bnoon)|(?<=\bmidnight))[-–—](?=\d)", lambda m: " to "),
        Rule(
            r"(?<![\w.,:])(?:(?P<d>\d{1,3})d\s?)?(?P<h>\d{1,3})h\s?(?:(?P<m>[0-5]?\d)m(?:in)?\b"
            r"(?:\s?(?P<s>[0-5]?\d)s(?:ec)?\b)?)|"
            r"(?<![\w.,:])(?P<days>\d{1,3})d\s?(?P<hours>\d{1,2})h\b|"
            r"(?<![\w.,:])(?P<minutes>\d{1,3})m(?:in)?\s?(?P<seconds>[0-5]?\d)s(?:ec)?\b",
            _lasting,
        ),
        Rule(
            r"(?<![\w.,:])(?P<hour>[01]?\d|2[0-3])[hH](?P<minute>[0-5]\d)(?!\w)",
            lambda m: f"{m['hour']}:{m['minute']}",
        ),
        Rule(
            r"(?<![\w.,:])(?P<hour>[01]\d|2[0-3])(?P<minute>[0-5]\d)(?= (?:hours|hrs)\b)",
            dates.of_soldiers,
        ),
        Rule(
            rf"\b(?P<hour>\d{{1,2}})(?:[:.](?P<minute>[0-5]\d))?{RANGE}"
            r"(?=\d{1,2}(?:[:.]\d\d)?\s?[ap]\.?m\b)",
            lambda m: dates.clock(m["hour"], m["minute"] or "") + " to ",
        ),
        Rule(
            r"\b(?P<hour>\d{1,2})(?:[:.](?P<minute>[0-5]\d))?\s?(?P<half>[AaPp])"
            r"(?:\.\s?[Mm]\b(?P<stop>\.?)|[Mm]\b)",
            dates.half_day,
        ),
        Rule(r"(?<=[AP]-M)\s?[-–—]\s?(?=[a-z])", lambda m: " to "),
    ]


def _lasting(m: Match) -> str:
    """ "2h30m" is "2 hours 30 minutes"; units read the numbers."""
    names = {
        "d": "day", "days": "day", "h": "hour", "hours": "hour", "m": "minute",
        "minutes": "minute", "s": "second", "seconds": "second",
    }  # fmt: skip
    found = [(m[group], name) for group, name in names.items() if m[group]]
    return " ".join(f"{n} {name}{'' if int(n) == 1 else 's'}" for n, name in found)


def rules(numbers: Numbers) -> list[Rule]:
    """Dates, years, times of 24 hours, ratios."""
    dates = _Dates(numbers)
    other_month = _MONTH_NAME.replace("<month>", "<also>")
    return [
        Rule(
            rf"\b(?P<day>{'|'.join(_WEEKDAYS)})(?=,? (?:[0-3]?\d(?:st|nd|rd|th)? {_MONTH_NAME}|"
            rf"{other_month}\.? [0-3]?\d)\b)",
            lambda m: _WEEKDAYS[m["day"]],
        ),
        *_numeric(dates),
        Rule(
            r"\b" + _MONTH + r" (?P<day>[0-2]?\d|3[01])(?:st|nd|rd|th)?"
            rf"(?:{RANGE}(?P<last>[0-2]?\d|3[01])(?:st|nd|rd|th)?)?"
            rf"(?![\d:%]|[.,]\d)(?:(?P<comma>,?) {_YEAR}\b(?!\.\d))?",
            dates.month_day,
        ),
        Rule(
            r"\b(?P<the>[Tt]he )?(?P<day>[0-2]?\d|3[01])(?:st|nd|rd|th)?"
            rf"(?:{RANGE}(?P<last>[0-2]?\d|3[01])(?:st|nd|rd|th)?)?(?: of)? "
            rf"{_MONTH_NAME}\b(?P<stop>\.?)(?:,? {_YEAR}\b)?",
            dates.day_month,
        ),
        Rule(
            rf"\b{_MONTH}(?=,? (?:1\d{{3}}|20\d\d|['’]\d\d)\b)",
            lambda m: _month(m["month"]),
        ),
        *_named(),
        Rule(
            r"\b(?P<from>1[1-9]\d\d|20\d\d)\s?[-–—/]\s?(?P<to>(?:1[1-9]|20)?\d\d)\b"
            r"(?![\d%]|[.,:]\d)",
            dates.years,
        ),
        Rule(
            r"(?P<tens>(?<![\d.,])\d{3}0)['’]?s\b",
            lambda m: plural(numbers.year(m["tens"])),
        ),
        Rule(
            r"(?:(?<!\w)['’]|(?<![\w.,:]))(?P<ten>[1-9]0)['’]?s\b",
            lambda m: plural(numbers.cardinal(m["ten"])),
        ),
        Rule(r"(?<!\w)['’](?P<year>\d\d)\b", lambda m: numbers.two_digits(m["year"])),
        *_clocks(numbers, dates),
    ]


def _named() -> list[Rule]:
    """Names of days and months that stand alone, and ranges of them."""
    return [
        Rule(
            r"\b(?P<a>"
            + "|".join(_WEEKDAYS)
            + r")\.?\s?[-–—]\s?(?P<b>"
            + "|".join(_WEEKDAYS)
            + r")\b",
            lambda m: f"{_WEEKDAYS[m['a']]} to {_WEEKDAYS[m['b']]}",
        ),
        Rule(
            rf"\b{_MONTH_NAME.replace('month', 'a')}\.?\s?[-–—]\s?{_MONTH_NAME}\b\.?",
            lambda m: (
                f"{_month(m['a'])} to {_month(m['month'])}"
                + (_stop_of_name(m) if m[0].endswith(".") else "")
            ),
        ),
        Rule(
            r"\b(?P<month>Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.(?!\w)",
            lambda m: _month(m["month"]) + _stop_of_name(m),
        ),
        Rule(
            r"\b(?P<day>" + "|".join(_WEEKDAYS) + r")\.(?!\w)",
            lambda m: _WEEKDAYS[m["day"]] + _stop_of_name(m),
        ),
    ]


def _numeric(dates: _Dates) -> list[Rule]:
    """Dates in digits, in every order that a separator allows."""
    time = r"(?:T(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::\d\d(?:\.\d+)?)?(?P<zone>Z)?\b)?"
    return [
        Rule(
            r"(?<![\w.,/-])" + _YEAR + r"(?P<by>[-/.])(?P<m>0?[1-9]|1[0-2])(?P=by)"
            rf"(?P<d>0?[1-9]|[12]\d|3[01])(?:{time}|\b)(?![\w/-]|\.\d)",
            dates.year_first,
        ),
        Rule(
            r"(?<![\w/.-])(?P<a>\d{1,2})(?P<by>[/.-])(?P<b>\d{1,2})(?P=by)"
            r"(?P<year>(?:1\d|20)\d\d|(?<=[/.])\d\d)(?![\w/-]|\.\d)",
            dates.year_last,
        ),
        Rule(
            r"(?<![\w.,/-])(?P<day>0?[1-9]|[12]\d|3[01])[-/. ]"
            + _MONTH_NAME
            + r"[-/.]"
            + _YEAR
            + r"\b",
            lambda m: dates.date(int(m["day"]), _MONTHS.index(_month(m["month"])) + 1, m["year"]),
        ),
        Rule(
            r"(?<![\w.,/-])"
            + _YEAR
            + r"[-/ ]"
            + _MONTH_NAME
            + r"\.?[-/ ](?P<day>0?[1-9]|[12]\d|3[01])\b",
            lambda m: dates.date(int(m["day"]), _MONTHS.index(_month(m["month"])) + 1, m["year"]),
        ),
        Rule(
            rf"\b{_MONTH_NAME}[-/]{_YEAR}\b",
            lambda m: f"{_month(m['month'])} {dates.numbers.year(m['year'])}",
        ),
        Rule(
            r"(?<![\w.,/-])(?P<m>0[1-9]|1[0-2]|[1-9])/(?P<year>(?:19|20)\d\d)(?![\w/-]|[.,]\d)",
            lambda m: f"{_MONTHS[int(m['m']) - 1]} {dates.numbers.year(m['year'])}",
        ),
        Rule(
            r"(?<![\w.,/-])(?P<year>(?:19|20)\d\d)[/-](?P<m>0[1-9])(?![\w/-]|[.,]\d)(?= ?[^s]|$)"
            r"(?! (?:season|school|academic|fiscal|tax|campaign))",
            lambda m: dates.month_or_years(m),
        ),
    ]


def _clocks(numbers: Numbers, dates: _Dates) -> list[Rule]:
    def clock(m: Match) -> str:
        said = dates.clock(m["hour"], m["minute"], exact=not m["second"])
        second = (m["second"] or "") + (f".{m['part']}" if m["part"] else "")
        return said + (f" and {numbers.number(second)} seconds" if second else "")

    return [
        Rule(
            rf"(?<![\w:.,-])(?P<hour>1?\d)\s?[-–—]\s?(?={_HOUR}:[0-5]\d(?![\d:]))",
            lambda m: numbers.cardinal(m["hour"]) + " to ",
        ),
        Rule(
            rf"(?<![\w:.,])(?P<hour>{_HOUR}):(?P<minute>[0-5]\d)\s?[-–—−]\s?"
            rf"(?={_HOUR}:[0-5]\d(?![\d:]))",
            lambda m: dates.clock(m["hour"], m["minute"], exact=True) + " to ",
        ),
        Rule(
            rf"(?<![\w:.,])(?P<hour>{_HOUR}):(?P<minute>[0-5]\d)"
            r"(?::(?P<second>[0-5]\d)(?:[.,](?P<part>\d{1,6})\b)?)?(?![\d:])(?:\s?h(?:rs?)?\b)?",
            clock,
        ),
        Rule(
            r"(?<![\w:.,])(?P<a>\d{1,3}):(?P<b>\d{1,3})(?![\w:])",
            lambda m: f"{numbers.number(m['a'])} to {numbers.number(m['b'])}",
        ),
    ]


class _Dates:
    """How dates and times are said."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def clock(self, hour: str, minute: str, exact: bool = False) -> str:
        """ "7", "05" is "seven oh five"; an exact full hour is "seven o'clock"."""
        said = self.numbers.cardinal(str(int(hour)))
        if not minute:
            return said
        if minute == "00":
            whole = 1 <= int(hour) <= 12
            if not exact:
                return said
            return f"{said} o'clock" if whole else f"{said} hundred hours"
        return f"{said} {self.numbers.two_digits(minute)}"

    def of_soldiers(self, m: Match) -> str:
        """ "0930 hours"."""
        hour = self.numbers.two_digits(m["hour"]) if m["hour"] != "00" else "zero"
        return (
            f"{hour} {'hundred' if m['minute'] == '00' else self.numbers.two_digits(m['minute'])}"
        )

    def half_day(self, m: Match) -> str:
        """ "3:30 p.m."."""
        stop = stop_before_capital(m) if m["stop"] else ""
        return f"{self.clock(m['hour'], m['minute'] or '')} {m['half'].upper()}-M{stop}"

    def date(self, day: int, month: int, year: str) -> str:
        """A date, or "" where there is no such day."""
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return ""
        if len(year) == 2:
            year = ("20" if int(year) < 70 else "19") + year
        name, which = _MONTHS[month - 1], self.numbers.ordinal(str(day))
        said = f"{name} {which}" if self.numbers.american else f"the {which} of {name}"
        return f"{said}, {self.numbers.year(year)}"

    def year_first(self, m: Match) -> str:
        """ "2024/01/15", "2024-01-15T09:30Z"."""
        said = self.date(int(m["d"]), int(m["m"]), m["year"])
        if m["hour"]:
            said += f", {self.clock(m['hour'], m['minute'], exact=True)}"
        return said + (" U-T-C" if m["zone"] else "")

    def year_last(self, m: Match) -> str:
        """ "3/4/2026", in the order of the country unless only one is possible."""
        first, second = int(m["a"]), int(m["b"])
        month_first = m["by"] in "/-" and self.numbers.american
        if (first > 12) is not (second > 12):  # only one order is possible
            month_first = second > 12
        day, month = (second, first) if month_first else (first, second)
        said = self.date(day, month, m["year"])
        return said or " ".join(self.numbers.number(m[part]) for part in ("a", "b", "year"))

    def month_day(self, m: Match) -> str:
        """ "Nov. 24, 2026"."""
        said = f"{_month(m['month'])} {self.numbers.ordinal(m['day'])}"
        if m["last"]:
            said += f" to {self.numbers.ordinal(m['last'])}"
        return f"{said}, {self.numbers.year(m['year'])}" if m["year"] else said

    def day_month(self, m: Match) -> str:
        """ "24 November 2026"."""
        said = ("The " if m["the"] == "The " else "the ") + self.numbers.ordinal(m["day"])
        if m["last"]:
            said += f" to {self.numbers.ordinal(m['last'])}"
        said += f" of {_month(m['month'])}"
        if m["year"]:
            return f"{said}, {self.numbers.year(m['year'])}"
        return said + (_stop_of_name(m) if m["stop"] else "")

    def years(self, m: Match) -> str:
        """ "1939–45"."""
        first, last = m["from"], m["to"]
        if len(last) == 2 and int(last) <= int(first[2:]):
            return f"{self.numbers.year(first)} {self.numbers.two_digits(last)}"
        said = self.numbers.year(last) if len(last) == 4 else self.numbers.two_digits(last)
        return f"{self.numbers.year(first)} to {said}"

    def month_or_years(self, m: Match) -> str:
        """ "2024/01" is a month, "2008/09" two years."""
        if int(m["m"]) == int(m["year"][2:]) + 1:
            return m[0]
        return f"{_MONTHS[int(m['m']) - 1]} {self.numbers.year(m['year'])}"


def _month(name: str) -> str:
    return next(month for month in _MONTHS if month.startswith(name[:3]))


def _stop_of_name(m: Match) -> str:
    """The stop of a month or a day: no number follows, and a capital begins a sentence."""
    if re.match(r"\s*[,;:!?)]|\s*\d", after(m)):
        return ""
    return stop_before_capital(m)
