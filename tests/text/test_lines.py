"""Text to lines of phonemes, in the signs that a front end knows."""

from __future__ import annotations

import pytest

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.text.lines import LONGEST, fit, read, says_something

ENGLISH = frozenset(" !,.;?abdefhijklmnopstuvwzæðŋɐɑɔəɚɛɜɡɪɹɾʃʊʌʒʔˈˌːθᵻ")  # of mini's corpus


def test_lines_carry_their_text_and_pauses() -> None:
    lines = list(read("It costs $5. Really?\n\nYes!", "en-us"))
    assert [line.text for line in lines] == ["It costs five dollars.", "Really?", "Yes!"]
    assert [line.phonemes for line in lines] == ["ɪt kˈɔsts fˈaɪv dˈɑːlɚz.", "ɹˈiəli?", "jˈɛs!"]
    assert 0 < lines[0].pause < lines[1].pause
    assert lines[2].pause == 0


@pytest.mark.parametrize("text", ["", "  \n\t ", "\ufeff"])
def test_empty(text: str) -> None:
    with pytest.raises(KnnvcError, match=r"the text is empty|can be spoken"):
        list(read(text, "en-us"))


@pytest.mark.parametrize("text", ["?!...", "--- ***", "😀", "\x00\x01", "()", "'\"'"])
def test_nothing_to_say(text: str) -> None:
    with pytest.raises(KnnvcError, match="can be spoken in en-us: give one with words in it") as e:
        list(read(text, "en-us"))
    assert str(e.value).isprintable()


def test_unknown_language() -> None:
    with pytest.raises(UsageError, match="does not speak 'tlh'"):
        list(read("hello", "tlh"))


def test_mixed_scripts() -> None:
    with pytest.warns(KnnvcWarning, match="Cyrillic, Chinese and Devanagari"):
        (line,) = read("Hello Москва and 北京 and नमस्ते", "en-us")
    phonemes, lost = fit(line.phonemes, ENGLISH)
    assert lost == set()
    assert phonemes.startswith("həlˈoʊ mˈɑːskvə ænd")


def test_long_lines_are_cut_between_words() -> None:
    lines = list(read("1234567 " * 300, "en-us"))
    assert all(0 < len(line.phonemes) <= LONGEST for line in lines)
    assert all(line.phonemes == line.phonemes.strip() for line in lines)
    whole = " ".join(line.phonemes for line in lines)
    assert whole.count("mˈɪliən") == 300


def test_signs_that_a_front_end_knows_stay() -> None:
    phonemes = "həlˈoʊ, wˈɜːld!"
    assert fit(phonemes, ENGLISH) == (phonemes, set())


@pytest.mark.parametrize(
    ("phonemes", "fitted"),
    [
        ("wˌʌn: tˈuː", "wˌʌn; tˈuː"),
        ("“jˈɛs” (nˈoʊ)…", "jˈɛs nˈoʊ."),
        ("kˈaɲo fˈiʎːo", "kˈanjo fˈiljːo"),  # Italian
        ("ʃˈøːn ɪç bˈuːx", "ʃˈɜːn ɪh bˈuːh"),  # German
        ("ʁˈyː", "ɹˈiː"),  # French
        ("prʲivʲˈet", "pɹivˈet"),  # Russian
    ],
)
def test_nearest_sounds(phonemes: str, fitted: str) -> None:
    assert fit(phonemes, ENGLISH) == (fitted, set())


def test_signs_without_a_neighbour_are_told() -> None:
    assert fit("aǃb", ENGLISH) == ("ab", {"ǃ"})
    assert fit("ɹ", frozenset("a")) == ("", {"ɹ"})  # and stand-ins do not go in circles
    assert fit("ɑaɾɽ", frozenset("ɪ"))[0] == ""


def test_says_something() -> None:
    assert says_something("a")
    assert not says_something("ˈˌ ,.ː"[:-1])
    assert not says_something("")
