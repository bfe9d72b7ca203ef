"""Which kind a document is, and that every kind makes lines."""

from __future__ import annotations

import pytest

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.text.documents import KINDS, kind_of, read_document
from knnvc.text.lines import read


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("talk.srt", "", "srt"),
        ("TALK.VTT", "", "vtt"),
        ("README.md", "# a", "markdown"),
        ("a.ssml", "", "ssml"),
        ("a.txt", "Hello", "text"),
        ("", "# a", "text"),
        ("", "<speak>Hi</speak>", "ssml"),
        ("a.xml", '<?xml version="1.0"?>\n<speak version="1.1">Hi</speak>', "ssml"),
        ("", "<speaker> said", "text"),
        ("", "WEBVTT\n\n00:01.000 --> 00:02.000\nHi", "vtt"),
        ("", "\ufeff1\n00:00:01,000 --> 00:00:02,000\nHi", "srt"),
        ("", "1\nis a number", "text"),
    ],
)
def test_kinds(name: str, text: str, kind: str) -> None:
    assert kind_of(name, text) == kind


def test_plain_text_is_what_it_was() -> None:
    text = "One. Two.\n\nIt costs $5."
    assert read_document(text) == list(read(text, "en-us"))


@pytest.mark.parametrize("kind", KINDS)
def test_empty(kind: str) -> None:
    with pytest.raises(KnnvcError, match="empty"):
        read_document(" \n", kind)


def test_unknown_kind_and_language() -> None:
    with pytest.raises(UsageError, match="the kind of text 'pdf'"):
        read_document("a", "pdf")
    with pytest.raises(UsageError, match="does not speak"):
        read_document("a", "text", "tlh")


def test_other_scripts_are_told_once() -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nשלום\n\n2\n00:00:03,000 --> 00:00:04,000\nשלום\n"
    with pytest.warns(KnnvcWarning, match="Hebrew") as caught:
        read_document(text, "srt")
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("talk.ass", "Hi", "ass is a kind of subtitles that is not read: convert it to .srt"),
        ("talk.SBV", "Hi", "sbv is a kind of subtitles"),
        ("a.docx", "PK", "docx is a kind of documents that is not read: convert it to .txt"),
        ("", "[Script Info]\nTitle: x\n", "ass is"),
        ("", "[ar: Anna]\n[00:12.00]Line one\n", "lrc is"),
        ("", "0:00:01.000,0:00:02.000\nHi\n", "sbv is"),
        ("", '<?xml version="1.0"?><tt xml:lang="en"><body/></tt>', "ttml is"),
        ("", "{0}{25}Hi\n{26}{50}You\n", "sub is"),
        ("", "{\\rtf1 Hi}", "rtf is"),
        ("", "%PDF-1.7", "pdf is"),
    ],
)
def test_kinds_that_would_be_read_with_their_marks(name: str, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kind_of(name, text)


@pytest.mark.parametrize("text", ["[12:30] Anna: hi", "{0} hi", "<tta>", "[ar: x]"])
def test_what_only_looks_alike_is_text(text: str) -> None:
    assert kind_of("", text) == "text"
