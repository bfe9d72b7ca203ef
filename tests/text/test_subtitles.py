"""Subtitles to passages, and when each cue is spoken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knnvc.errors import KnnvcError, KnnvcWarning
from knnvc.text.documents import read_document
from knnvc.text.lines import Line
from knnvc.text.subtitles import FASTEST, LATE, place, read_srt, read_vtt

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there.

2
00:01:00,250 --> 00:01:03,000
{\\an8}We went
to the beach
"""
VTT = """WEBVTT - a talk

NOTE this --> is no cue

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start
<v Anna>Hello <c.loud>there</c>.

00:01:00.250 --> 00:01:03.000
We went
to the beach
"""


@pytest.mark.parametrize(("read", "text"), [(read_srt, SRT), (read_vtt, VTT)])
def test_cues(read, text: str) -> None:  # type: ignore[no-untyped-def]
    for version in (text, text.replace("\n", "\r\n")):
        first, second = read(version)
        assert (first.text, first.start, first.end) == ("Hello there.", 1.0, 2.5)
        assert (second.text, second.start, second.end) == ("We went to the beach", 60.25, 63.0)
        assert not first.open  # the voice falls
        assert second.open  # and goes on


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_lines_have_the_times_of_their_cue(kind: str) -> None:
    lines = read_document({"srt": SRT, "vtt": VTT}[kind], kind)
    assert [line.start for line in lines] == [1.0, 60.25]
    assert [line.end for line in lines] == [2.5, 63.0]
    assert lines[1].phonemes.endswith(",")
    assert all("one" not in line.text for line in lines)  # no index, no time is read out
    two = read_document("1\n00:00:05,000 --> 00:00:09,000\nOne. Two.\n", "srt")
    assert [(line.text, line.start, line.end) for line in two] == [
        ("One.", 5.0, 9.0),
        ("Two.", None, 9.0),
    ]


def cue(content: str, start: int = 1, end: int = 2) -> str:
    return f"1\n00:00:{start:02},000 --> 00:00:{end:02},000\n{content}\n\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- Hi\n- Hello", "Hi. Hello"),
        ("[door slams] Who is it?", "Who is it?"),
        ("(SIGHS) Fine.", "Fine."),
        ("(maybe) Fine.", "(maybe) Fine."),
        ("♪ la la ♪", "la la"),
        ('<font color="#ff0000">Red</font>', "Red"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
    ],
)
def test_marks_and_sounds_are_not_read(content: str, said: str) -> None:
    (only,) = read_srt(cue(content))
    assert only.text == said


def test_cues_without_words_are_told() -> None:
    with pytest.warns(KnnvcWarning, match="2 of 3 cues hold no words"):
        assert len(read_srt(cue("[MUSIC]") + cue("♪♪", 3, 4) + cue("Words.", 5, 6))) == 1


def test_cues_come_in_the_order_of_their_times() -> None:
    assert [one.text for one in read_srt(cue("B.", 5, 6) + cue("A.", 1, 2))] == ["A.", "B."]


@pytest.mark.parametrize(
    "text",
    [
        "", "no cue", "1\n00:00:01,000 --> what\nA", "rubbish\n\n" + cue("B", 3, 4),
        "1\n99:00:00,000 --> 99:00:01,000\nA", "1\n999999999999:00:00,000 --> 0:0:1,0\nA",
        "1\n00:00:01,000 --> 00:00:02,000\n\n",
    ],
)  # fmt: skip
def test_damaged_srt(text: str) -> None:
    with pytest.raises(KnnvcError) as caught:
        read_srt(text)
    assert len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "no header", "WEBVTT", "WEBVTT\n\nno cue\n"])
def test_damaged_vtt(text: str) -> None:
    with pytest.raises(KnnvcError) as caught:
        read_vtt(text)
    assert len(str(caught.value)) <= 200


def test_damaged_cues_are_counted() -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\nA.\n\n00:xx.000 --> 00:04.000\nB.\n"
    with pytest.warns(KnnvcWarning, match="1 damaged cue"):
        assert [one.text for one in read_vtt(text)] == ["A."]


@given(st.text(max_size=200))
@pytest.mark.filterwarnings("ignore::knnvc.errors.KnnvcWarning")
def test_no_text_raises_anything_else(text: str) -> None:
    for read, header in ((read_srt, ""), (read_vtt, "WEBVTT\n\n")):
        message = ""
        try:
            read(header + text)
        except KnnvcError as error:
            message = str(error)
        assert len(message) <= 200
        assert "\n" not in message


# When each line is spoken -------------------------------------------------------------------------


def timed(*times: tuple[float, float]) -> list[Line]:
    return [Line("a", "a", 0.0, start=start, end=end) for start, end in times]


def test_a_cue_that_fits_keeps_its_time_and_speed() -> None:
    schedule = place(timed((1, 3), (4, 6)), [2.5, 1.0])
    assert [(slot.at, slot.speed) for slot in schedule.slots] == [(1, 1), (4, 1)]
    assert schedule.warning is None


def test_a_cue_that_is_too_long_is_hurried() -> None:
    schedule = place(timed((0, 2), (2, 6)), [2.6, 1.0])
    assert 1.3 < schedule.slots[0].speed < FASTEST
    assert schedule.slots[1].at == 2
    assert (schedule.hurried, schedule.late) == (1, 0)


def test_the_next_cue_waits_when_that_is_not_enough() -> None:
    schedule = place(timed((0, 1), (1, 2), (9, 10)), [3.0, 0.5, 0.5])
    assert schedule.slots[0].speed == FASTEST
    assert schedule.slots[1].at == pytest.approx(3.0 / FASTEST)
    assert schedule.slots[2].at == 9
    assert schedule.late == 1
    assert schedule.latest == pytest.approx(1.0)
    assert schedule.warning is not None
    assert "1 of 3 cues" in schedule.warning
    assert len(schedule.warning) <= 200


def test_lines_of_one_cue_follow_one_another() -> None:
    lines = [
        Line("a", "a", 0.5, start=1.0, end=9.0),
        Line("b", "b", 0.0, end=9.0),
        Line("c", "c", 0.0, start=20.0, end=21.0),
    ]
    schedule = place(lines, [2.0, 1.0, 1.0])
    assert [slot.at for slot in schedule.slots] == [1.0, 3.5, 20.0]


def test_lines_without_times_keep_their_pauses() -> None:
    lines = [Line("a", "a", 0.5, before=1.0), Line("b", "b", 0.3), Line("c", "c", 0.0)]
    schedule = place(lines, [1.0, 2.0, 1.0])
    assert [slot.at for slot in schedule.slots] == pytest.approx([1.0, 2.5, 4.8])
    assert schedule.cues == 0


TIMES = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 10), st.floats(0.1, 20)), min_size=1, max_size=20
)


@given(TIMES)
def test_two_cues_are_never_spoken_at_once(made: list[tuple[float, float, float]]) -> None:
    made.sort()
    lines = timed(*((start, start + length) for start, length, _ in made))
    durations = [duration for *_, duration in made]
    schedule = place(lines, durations)
    now, late = 0.0, 0
    for line, duration, slot in zip(lines, durations, schedule.slots, strict=True):
        assert slot.at >= now - 1e-9
        assert line.start is not None
        assert slot.at >= line.start
        assert 1 <= slot.speed <= FASTEST
        late += slot.at - line.start > LATE
        now = slot.at + duration / slot.speed
    assert late == schedule.late
    assert (schedule.warning is None) == (late == 0)


@pytest.mark.parametrize(
    "change",
    [
        ("\n", "\r"),
        ("\n", "\r\n"),
        ("00:00:01,000 --> 00:00:02,500", "00:01,000 --> 00:02,500"),
        ("00:00:01,000 --> 00:00:02,500", "0:00:01.0 --> 0:00:02.5"),
        ("00:00:01,000 --> 00:00:02,500", "00: 00: 01, 000 --> 00: 00: 02, 500"),
        (" --> ", "\t-->\t"),
        (" --> ", " -> "),
        (" --> ", " → "),
    ],
)
def test_times_in_the_forms_of_other_writers(change: tuple[str, str]) -> None:
    """Minutes and seconds alone were taken for hours and minutes."""
    assert read_srt(SRT.replace(*change)) == read_srt(SRT)


def test_webvtt_with_commas() -> None:
    assert read_vtt(VTT.replace(".000", ",000").replace(".500", ",500")) == read_vtt(VTT)


ROLLING = """WEBVTT

00:00.000 --> 00:02.000 align:start position:0%
_
we<00:00:00.400><c> went</c><00:00:00.900><c> on</c>

00:02.000 --> 00:02.010 align:start position:0%
we went on
_

00:02.010 --> 00:04.000 align:start position:0%
we went on
and<00:00:02.400><c> on</c>

00:04.000 --> 00:04.010 align:start position:0%
and on
_

00:04.010 --> 00:05.000 align:start position:0%
and on
to the beach
""".replace("_", " ")


def test_rolling_captions_are_spoken_once() -> None:
    """Players of films show the last line again above the next; a machine's captions do."""
    found = [(one.text, one.start) for one in read_vtt(ROLLING)]
    assert found == [("we went on", 0.0), ("and on", 2.01), ("to the beach", 4.01)]


def test_what_is_said_twice_is_spoken_twice() -> None:
    text = "WEBVTT\n\n00:00.000 --> 00:01.000\nNo.\n\n00:01.000 --> 00:02.000\nNo.\n"
    assert [one.text for one in read_vtt(text)] == ["No.", "No."]


def test_a_word_that_was_divided_at_the_end_of_a_line() -> None:
    found = read_srt(SRT.replace("We went\nto", "A well-\nknown way\nto"))
    assert found[1].text == "A well-known way to the beach"
