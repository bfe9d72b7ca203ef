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
