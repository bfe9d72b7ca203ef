"""Messages: one sentence that a terminal can show, whatever it is about."""

from __future__ import annotations

import pickle
import time

import pytest

from knnvc.errors import LONGEST, KnnvcError, KnnvcWarning, UsageError, explain, sentence, shown

HARMFUL = "\x1b[31m\x07\x9b0m\r\u202e\u2066\udcff\x00\x7f\u2028"


@pytest.mark.parametrize("kind", [KnnvcError, UsageError])
def test_a_message_is_one_printable_line(kind: type[KnnvcError]) -> None:
    error = kind(f"cannot read a{HARMFUL}b\n\nc.wav: check it")
    assert str(error).isprintable()
    assert str(error).startswith("cannot read a")
    assert str(error).endswith(" c.wav: check it")
    assert HARMFUL in error.full
    assert explain(error) == str(error)
    assert pickle.loads(pickle.dumps(error)).full == error.full


def test_a_long_path_loses_its_middle_and_the_advice_stays() -> None:
    path = "/home/somebody/" + "x" * 400 + "/voice.wav"
    text = str(KnnvcError(f"cannot write {path}: the disk is full; free some space"))
    assert len(text) <= LONGEST
    assert text.startswith("cannot write /home/somebody/")
    assert text.endswith("/voice.wav: the disk is full; free some space")


def test_two_long_paths_are_both_told() -> None:
    text = sentence(f"/a/{'x' * 200}/one.wav and /b/{'y' * 150}/two.wav would both become that")
    assert len(text) <= LONGEST
    assert "/one.wav and /b/" in text
    assert "/two.wav would both become that" in text


@pytest.mark.parametrize(
    "text", ["ab " * 100_000, "x" * 10**7, " ".join("c" * 30 + str(i) for i in range(20_000))]
)
def test_any_text_is_shortened_at_once(text: str) -> None:
    began = time.process_time()
    assert 100 < len(sentence(text)) <= LONGEST
    assert time.process_time() - began < 2


def test_short_ones_stay_as_they_are() -> None:
    text = "there is no preset 'é \U0001f600': give one of mini, or a preset's folder"
    assert str(UsageError(text)) == text
    assert shown("two\nlines\tand more") == "two\nlines\tand more"
    assert shown("two\nlines", lines=False) == "two lines"


def test_warnings_are_printable_too() -> None:
    assert str(KnnvcWarning(f"skipped {HARMFUL}.wav")).isprintable()
