"""Numbers of other countries, and money in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.text.sentences import normalize


@given(st.integers(1000, 999_999_999), st.integers(1, 99), st.sampled_from(["€", "EUR"]))
def test_european_money_is_read_as_the_english(whole: int, cents: int, coin: str) -> None:
    english = f"{whole:,}.{cents:02}"
    european = english.replace(",", "_").replace(".", ",").replace("_", ".")
    assert normalize(f"pay {european} {coin} now") == normalize(f"pay {english} {coin} now")
    assert normalize(f"pay {coin} {european} now") == normalize(f"pay {coin} {english} now")


@given(st.integers(0, 99), st.integers(1, 9), st.sampled_from(["km", "%", "kg", "°C", "l"]))
def test_decimal_commas_before_units(whole: int, tenths: int, unit: str) -> None:
    assert normalize(f"{whole},{tenths} {unit}") == normalize(f"{whole}.{tenths} {unit}")


@given(st.integers(1_000_000, 999_999_999))
def test_groups(number: int) -> None:
    english = normalize(f"{number:,} of it")
    for sign in ".'’":
        assert normalize(f"{number:,} of it".replace(",", sign)) == english


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("1,2,3 and 4", "one, two, three and four"),
        ("12,34,567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
        ("$5/month, €3/kg", "five dollars per month, three euros per kilogram"),
        ("3×10⁸", "three times ten to the power of eight"),
        ("40°26′46″ N", "forty degrees twenty-six minutes forty-six seconds north"),
    ],
)
def test_quantities(printed: str, said: str) -> None:
    assert normalize(printed) == said


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("5-3=2", "five minus three equals two"),
        ("x=5-3", "x equals five minus three"),
        ("5−3", "five minus three"),
        ("they won 3-2", "they won three two"),
        ("2x+1", "two x plus one"),
        ("3x²+2x-1=0", "three x squared plus two x minus one equals zero"),
        ("E=mc²", "E equals m c squared"),
        ("4πr³", "four pi r cubed"),
        ("sin²x", "sin squared x"),
        ("Δx and ΔT", "delta x and delta T"),
        ("1e6", "one times ten to the power of six"),
        ("3.5M users", "three point five million users"),
        ("2B people", "two billion people"),
        ("$-5", "minus five dollars"),
        ("50 kr", "fifty kroner"),
        ("$HOME", "dollar HOME"),
        ("an A- and a B-.", "an A minus and a B minus."),
        ("0930 hours", "oh nine thirty hours"),
        ("at 17h30", "at seventeen thirty"),
        ("call 911 now", "call nine one one now"),
        ("Jan '24", "January twenty-four"),
    ],
)
def test_signs_of_numbers(printed: str, said: str) -> None:
    assert normalize(printed) == said
