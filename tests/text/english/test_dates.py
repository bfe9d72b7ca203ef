"""Dates in every order and with every separator, and ranges of times."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from knnvc.text.sentences import normalize

DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31))
ORDERS = [
    "%Y/%m/%d",
    "%Y-%m-%d",
    "%Y.%m.%d",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%Y-%m-%dT08:30Z",
]


@given(DAYS, st.sampled_from(ORDERS))
def test_every_order_is_one_date(day: datetime.date, order: str) -> None:
    said = normalize(f"on {day.strftime(order)} it was")
    assert day.strftime("%B") in said
    assert num2words(day.day, to="ordinal") in said
    assert num2words(day.year, to="year").split()[-1].split("-")[-1] in said
    assert "slash" not in said
    assert " or " not in said


@given(DAYS.filter(lambda day: day.day > 12), st.sampled_from("/.-"))
def test_only_one_order_is_possible(day: datetime.date, by: str) -> None:
    american = normalize(f"on {day.month}{by}{day.day}{by}{day.year} it was")
    european = normalize(f"on {day.day:02}{by}{day.month:02}{by}{day.year} it was")
    assert american == european
    assert day.strftime("%B") in american


@given(st.integers(1, 23), st.integers(1, 59), st.sampled_from(["-", "–", " - "]))
def test_ranges_of_times(hour: int, minute: int, dash: str) -> None:
    said = normalize(f"open {hour}:00{dash}{hour}:{minute:02} daily")
    assert " to " in said
    assert said.count(num2words(hour)) >= 2
    assert said.endswith("daily")


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("due 03/2025", "due March twenty twenty-five"),
        ("2008/09 season", "two thousand eight to oh nine season"),
        ("Mon-Fri, Jan.–Mar. only", "Monday to Friday, January to March only"),
        ("Mar-2020", "March twenty twenty"),
        ("on 5 Nov. He left", "on the fifth of November. He left"),
    ],
)
def test_months(printed: str, said: str) -> None:
    assert normalize(printed) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at 12:30:45.678", "twelve thirty and forty-five point six seven eight seconds"),
        ("open 9–10:30", "nine to ten thirty"),
        ("noon-3pm", "noon to three P-M"),
        ("Mon 15 Jan", "Monday the fifteenth of January"),
        ("Sat, Jan 5", "Saturday, January fifth"),
        ("since 2024-01", "since January twenty twenty-four"),
        ("in 2008-09", "in two thousand eight to oh nine"),
        ("est. 1999", "established nineteen ninety-nine"),
        ("est. cost", "estimated cost"),
        ("© MCMXCIX and MMXXIV", "nineteen ninety-nine and twenty twenty-four"),
    ],
)
def test_other_ways_to_write_times(text: str, said: str) -> None:
    assert said in normalize(text)
