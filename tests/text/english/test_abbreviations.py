"""Abbreviations, and sentences that end with one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.text.sentences import normalize, sentences

NEXT = st.sampled_from(
    ["She is ten.", "He was kind.", "They left.", "The rest is free.", "I did too.", "It rained."]
)


def count(text: str) -> int:
    return len(list(sentences(text)))


@given(
    st.sampled_from(
        [
            "We met in Jan.", "It ends by Sept.", "They come on Tues.", "Come on Fri.",
            "I saw the Dr.", "Ask the Prof.", "My Capt.", "He works at Acme Inc.",
            "He owns Smith & Co.", "We bought pens, ink, etc.", "He is in the U.S.",
            "It is 5 p.m.", "It weighs 5 kg.", "It took 10 min.", "She lives on Elm St.",
            "He walked 5 mi.", "She holds a Ph.D.", "This is Sam Hill Jr.", "We took plan B.",
            "She got an A.", "He plays in C.", "He said no.", "I love art.", "It costs $5.",
        ]
    ),
    NEXT,
)  # fmt: skip
def test_the_sentence_ends(first: str, second: str) -> None:
    assert count(f"{first} {second}") == 2


@given(
    st.sampled_from(
        [
            "Dr. {} is here.", "We met Prof. {} there.", "By J. {} of Leeds.", "George W. {} won.",
            "See Gen. {} now.", "The U.S. Senate and {} agreed.", "Approx. {} is large.",
            "It is Mt. {} there.", "Smith vs. {} ended.",
        ]
    ),
    st.sampled_from(["Brown", "Miller", "Garcia", "Sarah", "London"]),
)  # fmt: skip
def test_the_sentence_goes_on(pattern: str, name: str) -> None:
    assert count(pattern.format(name)) == 1


@pytest.mark.parametrize("said", ["no", "No"])
@pytest.mark.parametrize("rest", ["I left.", "I'm sure.", "I don't.", "I'd rather not.", "V left."])
def test_no_is_an_answer(said: str, rest: str) -> None:
    (first, *_) = sentences(f"She said {said}. {rest}")
    assert "number" not in first.text


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("No. 5", "number five."),
        ("no. 12B", "number twelve B."),
        ("No. II", "number two."),
        ("Nos. 3 and 4", "numbers three and four."),
        ("Vol. I, Fig. 2", "Volume one, figure two."),
        ("pp. 3-5", "pages three to five."),
    ],
)
def test_numbered(printed: str, said: str) -> None:
    (only,) = sentences(printed)
    assert only.text.lower() == said.lower()


def test_numbers_begin_sentences() -> None:
    made = [sentence.text for sentence in sentences("Tom left. 10 men came. 2024 was good.")]
    assert made == ["Tom left.", "Ten men came.", "Twenty twenty-four was good."]


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("St. John's St. and St. Mary's Rd.", "Saint John's Street and Saint Mary's Road."),
        ("12 Oak St. in St. Paul", "twelve Oak Street in Saint Paul."),
        ("w/o a lid, w/ a lid", "without a lid, with a lid."),
    ],
)
def test_streets_and_saints(printed: str, said: str) -> None:
    (only,) = sentences(printed)
    assert only.text == said


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("He met Mx. Lee.", ["He met Mix Lee."]),
        ("Ask John Smith, Esq. He knows.", ["Ask John Smith, Esquire.", "He knows."]),
        ("Ask the prof. He knows.", ["Ask the professor.", "He knows."]),
        ("Ask the capt. She knows.", ["Ask the captain.", "She knows."]),
        ("He left. Fig. 3 shows it.", ["He left.", "Figure three shows it."]),
        ("Is it? No. 1 is.", ["Is it?", "Number one is."]),
        ("Our acct. is closed.", ["Our account is closed."]),
        ("Mgmt. said no.", ["Management said no."]),
        ("By Wm. Shakespeare and Chas. Dickens.", ["By William Shakespeare and Charles Dickens."]),
        ("It is at 12 W. 3rd Ave. in town.", ["It is at twelve West third Avenue in town."]),
        ("123 N Main St. is big.", ["one hundred twenty-three North Main Street is big."]),
        ("Apt. 4B, Rm. 12, Ste. 200.", ["apartment four B, room twelve, suite two hundred."]),
        ("Rte. 66 and Hwy. 101.", ["route sixty-six and highway one hundred one."]),
        ("See chap. 3, pt. 2, 2nd ed.", ["See chapter three, part two, second edition."]),
        ("Pt. Reyes is far.", ["Point Reyes is far."]),
        ("It costs Rs. 500 or Fr. 20.", ["It costs five hundred rupees or twenty francs."]),
    ],
)
def test_more_abbreviations(printed: str, said: list[str]) -> None:
    made = [sentence.text for sentence in sentences(printed)]
    assert [one.lower() for one in made] == [one.lower() for one in said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("See Fig. A. It shows.", "See figure A. It shows."),
        ("Fig. A and Fig. B", "figure A and figure B"),
        ("NO. 5 IS HERE.", "NUMBER five IS HERE"),
        ("HE SAID NO. 5 PEOPLE LEFT.", "HE SAID NO. Five PEOPLE LEFT"),
    ],
)
def test_letters_and_capitals(text: str, said: str) -> None:
    assert said in normalize(text)
