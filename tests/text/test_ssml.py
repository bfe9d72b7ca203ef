"""SSML: what is honoured, and what is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.errors import KnnvcError
from knnvc.text.documents import read_document
from knnvc.text.lexicon import Lexicon
from knnvc.text.lines import Line
from knnvc.text.sentences import PARAGRAPH_PAUSE, SENTENCE_PAUSE


def lines(inside: str, lexicon: Lexicon | None = None) -> list[Line]:
    return read_document(f"<speak>{inside}</speak>", "ssml", "en-us", lexicon)


@pytest.mark.parametrize(
    ("mark", "seconds"),
    [
        ('time="500ms"', 0.5),
        ('time="2s"', 2.0),
        ('time="1.25s"', 1.25),
        ('time="0s"', 0.0),
        ('strength="none"', 0.0),
        ('strength="strong"', PARAGRAPH_PAUSE),
        ("", SENTENCE_PAUSE),
    ],
)
def test_breaks(mark: str, seconds: float) -> None:
    first, second = lines(f"One, <break {mark}/> two.")
    assert first.pause == seconds
    assert first.phonemes.endswith(",")  # the sentence goes on
    assert second.phonemes.endswith(".")
    assert lines(f"One.<break {mark}/> Two.")[0].pause == seconds


def test_breaks_at_both_ends() -> None:
    (only,) = lines('<break time="1s"/><break time="500ms"/>One.<break time="3s"/>')
    assert only.before == 1.5
    assert only.pause == 0.0  # nothing follows
    first, _ = lines('One.<break time="1s"/><break time="1s"/>Two.')
    assert first.pause == 2.0


@pytest.mark.parametrize(
    ("rate", "speed"),
    [
        ("fast", 1.25),
        ("slow", 0.8),
        ("medium", 1.0),
        ("150%", 1.5),
        ("+20%", 1.2),
        ("-25%", 0.75),
        ("2", 2.0),
    ],
)
def test_rates(rate: str, speed: float) -> None:
    before, within, after = lines(f'One <prosody rate="{rate}">two</prosody> three.')
    assert within.speed == pytest.approx(speed)
    assert (before.speed, after.speed) == (1.0, 1.0)
    assert before.pause == within.pause == 0.0
    assert [line.text.strip(".,") for line in (before, within, after)] == ["One", "two", "three"]


def test_rates_inside_rates_multiply() -> None:
    made = lines('<prosody rate="2">One <prosody rate="50%">two</prosody> three</prosody> four')
    assert [line.speed for line in made] == [2.0, 1.0, 2.0, 1.0]


def test_substitutes_and_phonemes() -> None:
    (only,) = lines(
        'The <sub alias="World Wide Web Consortium">W3C</sub> says '
        '<phoneme alphabet="ipa" ph="təˈmeɪtoʊ">tomato</phoneme>, Nguyen.',
        Lexicon(phonemes={"Nguyen": "nwˈɪn"}),
    )
    assert "wˈɜːld wˈaɪd wˈɛb" in only.phonemes
    assert "təˈmeɪtoʊ," in only.phonemes
    assert "nwˈɪn" in only.phonemes
    assert "dˌʌbəljˌuː" not in only.phonemes


def test_a_lexicon_is_not_changed_by_a_document() -> None:
    lexicon = Lexicon(phonemes={"a": "x"})
    lines('<phoneme ph="tˈuː">2</phoneme>', lexicon)
    assert len(lexicon) == 1
    assert "tˈuː" not in str(lines("a b", lexicon)[0].phonemes)


def test_paragraphs_and_sentences() -> None:
    made = lines("<p><s>One</s><s>Two</s></p><p>Three. Four.</p>")
    assert [line.text for line in made] == ["One.", "Two.", "Three.", "Four."]
    assert [line.pause for line in made] == [SENTENCE_PAUSE, PARAGRAPH_PAUSE, SENTENCE_PAUSE, 0.0]


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ('<voice name="x">a</voice>', "<voice>"),
        ("<emphasis>a</emphasis>", "<emphasis>"),
        ('<say-as interpret-as="date">a</say-as>', "<say-as>"),
        ('<audio src="a.wav"/>', "<audio>"),
        ('<mark name="a"/>', "<mark>"),
        ('<prosody pitch="high">a</prosody>', "pitch"),
        ('<prosody rate="fast" volume="loud">a</prosody>', "volume"),
        ("<prosody>a</prosody>", "no rate"),
        ('<prosody rate="quick">a</prosody>', "'quick'"),
        ('<prosody rate="9">a</prosody>', "9 times"),
        ('<break time="soon"/>a', "'soon'"),
        ('<break time="3600s"/>a', "'3600s'"),
        ('<break strength="huge"/>a', "'huge'"),
        ("<sub>a</sub>", "no alias"),
        ("<phoneme>a</phoneme>", "no ph"),
        ('<phoneme alphabet="x-sampa" ph="a">a</phoneme>', "'x-sampa'"),
        ("a & b", "&amp;"),
        ("<p>a", "close every element"),
    ],
)
def test_refused_by_name(inside: str, named: str) -> None:
    with pytest.raises(KnnvcError) as caught:
        lines(inside)
    assert named in str(caught.value)
    assert len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE speak [<!ENTITY a "aaaa">]><speak>&a;</speak>',
        "<p>a</p>",
        '<speak xml:lang="de">Guten Tag</speak>',
        "<speak>" + "<p>" * 5000,
        "<speak></speak>",
        "<speak/><speak/>",
    ],
)
def test_other_documents(text: str) -> None:
    with pytest.raises(KnnvcError):
        read_document(text, "ssml")


def test_a_whole_document() -> None:
    made = read_document(
        '<?xml version="1.0" encoding="UTF-8"?>\n<speak version="1.1" '
        'xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en-GB"><!-- c -->Hi.</speak>',
        "ssml",
    )
    assert [line.text for line in made] == ["Hi."]


@given(
    st.lists(
        st.sampled_from('<p> </p> <s> </s> <break/> a. b <prosody rate="2"> </prosody>'.split())
    )
)
def test_any_order_of_elements(pieces: list[str]) -> None:
    message, made = "", []
    try:
        made = lines(" ".join(pieces))
    except KnnvcError as error:
        message = str(error)
    assert len(message) <= 200
    if made:
        said = " ".join(line.text for line in made).lower()
        assert said.count("b") == pieces.count("b")
        assert made[-1].pause == 0.0
    else:
        assert message
