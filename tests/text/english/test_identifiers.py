"""Numbers that count nothing are read digit by digit, in their groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.text.sentences import normalize

NAMES = "zero one two three four five six seven eight nine".split()


def spoken(digits: str) -> str:
    return " ".join(NAMES[int(digit)] for digit in digits)


def digits(count: int, first: str = "0123456789") -> st.SearchStrategy[str]:
    rest = st.text("0123456789", min_size=count - 1, max_size=count - 1)
    return st.tuples(st.sampled_from(first), rest).map("".join)


@given(st.tuples(digits(4, "3456"), digits(4), digits(4), digits(4)), st.sampled_from(" -"))
def test_cards(groups: tuple[str, ...], by: str) -> None:
    said = normalize(f"card {by.join(groups)} please")
    assert said == f"card {', '.join(map(spoken, groups))} please"


@given(st.tuples(digits(3, "0123456"), digits(2), digits(4)))
def test_social_security(groups: tuple[str, ...]) -> None:
    assert normalize(f"it is {'-'.join(groups)} indeed") == (
        f"it is {', '.join(map(spoken, groups))} indeed"
    )


@given(st.tuples(digits(3, "23456789"), digits(3), digits(4)))
def test_ten_digits(groups: tuple[str, ...]) -> None:
    said = ", ".join(map(spoken, groups))
    assert normalize(f"call {''.join(groups)} now") == f"call {said} now"
    assert normalize(f"call {'-'.join(groups)} now") == f"call {said} now"


@given(digits(5))
def test_post_codes(code: str) -> None:
    assert normalize(f"in Boston, MA {code}") == f"in Boston, Massachusetts {spoken(code)}"
    assert normalize(f"ZIP code {code}").endswith(spoken(code))


@pytest.mark.parametrize(
    "printed", ["ISBN 978-0-306-40615-7", "ISBN-13: 9780306406157", "ISBN 978 0 306 40615 7"]
)
def test_books(printed: str) -> None:
    said = normalize(printed).replace(",", "")
    assert said == f"I-S-B-N {spoken('9780306406157')}"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("account number 12345678", "account number " + spoken("12345678")),
        (
            "378282246310005",
            "three seven eight two, eight two two four six three, one zero zero zero five",
        ),
        ("my PIN is 0421", "my PIN is zero four two one"),
        ("routing number 021000021", "routing number " + spoken("021000021")),
        ("order #10293 came", "order one zero two nine three came"),
        (
            "1234567 cats",
            "one million two hundred thirty-four thousand five hundred sixty-seven cats",
        ),
        ("GB29 NWBK 6016 1331", "G-B two nine, N-W-B-K, six zero one six, one three three one"),
    ],
)
def test_called(printed: str, said: str) -> None:
    assert normalize(printed) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1-800-FLOWERS", "one, eight zero zero, Flowers"),
        ("800-GO-FEDEX", "eight zero zero, Go Fedex"),
        ("Anna <anna@b.com>", "Anna, anna at B dot com"),
    ],
)
def test_letters_of_telephones_and_addresses_in_brackets(text: str, said: str) -> None:
    assert said in normalize(text)
