"""Units: every prefix with every unit that takes it, products, powers and ratios."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.text.sentences import normalize

PREFIXES = {"k": "kilo", "M": "mega", "m": "milli", "µ": "micro", "μ": "micro", "n": "nano"}
# Written independently of the table in the package, from the brochure of the SI.
BASES = {
    "g": ("gram", "kmµμn"), "m": ("meter", "kmµμn"), "s": ("second", "mµμn"),
    "A": ("amp", "kmµμn"), "V": ("volt", "kMmµμ"), "W": ("watt", "kMmµμn"),
    "Hz": ("hertz", "kM"), "Pa": ("pascal", "kM"), "J": ("joule", "kM"), "F": ("farad", "mµμn"),
    "mol": ("mole", "mµμn"), "L": ("liter", "mµμn"), "Sv": ("sievert", "mµμ"),
    "T": ("tesla", "mµμn"), "eV": ("electronvolt", "kM"), "cal": ("calorie", "k"),
}  # fmt: skip
SYMBOLS = [
    (prefix + base, PREFIXES[prefix] + name)
    for base, (name, prefixes) in BASES.items()
    for prefix in prefixes
]


@given(st.sampled_from(SYMBOLS), st.integers(2, 19), st.sampled_from(["", " ", "\u00a0"]))
def test_a_prefix_is_never_another_one(unit: tuple[str, str], count: int, gap: str) -> None:
    symbol, name = unit
    said = normalize(f"about {count}{gap}{symbol} of it")
    assert name in said
    others = {"kilo", "mega", "milli", "micro", "nano"} - {
        prefix for prefix in PREFIXES.values() if name.startswith(prefix)
    }
    assert not any(other in said for other in others)


@given(st.sampled_from(SYMBOLS), st.sampled_from(SYMBOLS), st.booleans())
def test_ratios(above: tuple[str, str], below: tuple[str, str], counted: bool) -> None:
    said = normalize(f"{'7 ' if counted else 'given in '}{above[0]}/{below[0]} of it")
    assert re.search(rf"{above[1]}(?:es|s)? per {below[1]}\b", said)


@pytest.mark.parametrize("space", ["", " "])
@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("m2", "square meters"),
        ("m²", "square meters"),
        ("cm^3", "cubic centimeters"),
        ("km³", "cubic kilometers"),
        ("m/s²", "meters per second squared"),
        ("W/(m²·K)", "watts per square meter kelvin"),
        ("mg/kg/day", "milligrams per kilogram per day"),
        ("kN·m", "kilonewton meters"),
        ("g/100 mL", "grams per one hundred milliliters"),
        ("µg/m³", "micrograms per cubic meter"),
        ("mmol/mol", "millimoles per mole"),
    ],
)
def test_powers_products_ratios(unit: str, said: str, space: str) -> None:
    assert normalize(f"5{space}{unit}, they say") == f"five {said}, they say"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("Flat 5A is empty", "Flat five eigh is empty"),
        ("his/her and a/b", "his or her and a or b"),
        ("give 5 us a go", "give five us a go"),
        ("the 30s", "the thirties"),
        ("5 PM", "five P-M"),
        ("min/max values", "min or max values"),
    ],
)
def test_no_units(printed: str, said: str) -> None:
    assert normalize(printed) == said


def test_other_languages_keep_micro_apart() -> None:
    assert "mg" not in normalize("5 µg", "de")
    assert normalize("5 μg", "de") == normalize("5 µg", "de")
    assert normalize("μία", "el") == "μία"  # a word of Greek


@pytest.mark.parametrize("unit", ["kg", "km", "mL", "ft", "hr", "kHz"])
def test_a_unit_ends_a_sentence(unit: str) -> None:
    assert ". Tom" in normalize(f"It has 5 {unit}. Tom left.")
    assert ". Tom" not in normalize(f"It has 5 {unit} Tom said.")


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("-3 dBFS", "minus three decibels full scale"),
        ("4 ly away", "four light years away"),
        ("1 AU", "one astronomical unit"),
        ("3 mos old", "three months old"),
        ("1,200 sq. ft. of it", "one thousand two hundred square feet of it"),
        ("3 sq. mi. of land", "three square miles of land"),
        ("12 fl. oz. of it", "twelve fluid ounces of it"),
        ("60 ft-lb", "sixty foot pounds"),
        (
            "55 MPH at 3000 RPM",
            "fifty-five miles per hour at three thousand revolutions per minute",
        ),
        ("30 inHg", "thirty inches of mercury"),
        ("5%/yr", "five percent per year"),
        ("6' tall", "six feet tall"),
        ("5' x 3' and 8\" long", "five feet by three feet and eight inches long"),
        ('a 27" screen', "a twenty-seven inch screen"),
        ("5″ of it", "five inches of it"),
        ("a fever of 101 F", "a fever of one hundred one degrees Fahrenheit"),
        ("98.6F", "ninety-eight point six degrees Fahrenheit"),
        ("300 µF and 300 F", "three hundred microfarads and three hundred F"),
    ],
)
def test_units_in_other_spellings(printed: str, said: str) -> None:
    assert normalize(printed) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The pump does 5 L/min. It is new.", "five liters per minute. It"),
        ("4 drops per min. Then 3.", "four drops per minute. Then"),
        ("in 3.2s", "three point two seconds"),
        ("2h30m or 1h 5m", "two hours thirty minutes or one hour five minutes"),
        (
            "1h 2m 3s and 5m30s",
            "one hour two minutes three seconds and five minutes thirty seconds",
        ),
        ("3d 4h", "three days four hours"),
        ("2 in³ and 1 in²", "two cubic inches and one square inch"),
        ("5 ft. tall and 6 in. wide", "five feet tall and six inches wide"),
        ("It is 6 in. It fits.", "six inches. It fits"),
        ("a µg of it", "a microgram of it"),
        ("3 A·h", "three amp hours"),
        ("6'2\" tall", "six foot two tall"),
        ("5′10″ tall", "five foot ten tall"),
        ("10'6\" boat", "ten foot six boat"),
        ("It costs 5 bn. We left.", "five billion. We left"),
        ("1⅛ cups", "one and an eighth cups"),
        ("1_000_000 rows", "one million rows"),
        ("①②③", "one two three"),
        ("numpy>=1.24,<2", "at least one point two four, less than two"),
    ],
)
def test_kinds_that_were_read_wrongly(text: str, said: str) -> None:
    assert said.lower() in normalize(text).lower()


@pytest.mark.parametrize(
    "text", ["5 of 10 came in. We left.", "1 in 10 people", "min/max", "in 5s"]
)
def test_what_only_looks_like_them(text: str) -> None:
    said = normalize(text)
    assert not {"inches", "inch", "minute", "seconds"} & set(said.replace(".", "").split())
