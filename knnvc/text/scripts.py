"""Words of other scripts in Latin letters, and which scripts a text has."""

from __future__ import annotations

import itertools
import re
import unicodedata
from functools import lru_cache

# Whose letters espeak-ng reads; any other language's text is transliterated to Latin letters.
_OTHER_SCRIPTS = frozenset(
    "am ar as ba be bg bn bpy chr cmn cv el en-shaw fa grc gu hak he hi hy hyw ja ka kk kn ko kok "
    "ky mk ml mr my ne nog or pa piqd ru sd shn si sr ta te th ti tt ug uk ur yue".split()
)
# First word of a letter's Unicode name: what people call it, and a language that has it.
_CALLED = {
    "CJK": ("Chinese", "cmn"), "HIRAGANA": ("Japanese", "ja"), "KATAKANA": ("Japanese", "ja"),
    "HANGUL": ("Korean", "ko"), "ARABIC": ("Arabic", "ar"), "HEBREW": ("Hebrew", "he"),
    "THAI": ("Thai", "th"), "CYRILLIC": ("Cyrillic", "ru"), "GREEK": ("Greek", "el"),
    "DEVANAGARI": ("Devanagari", "hi"), "BENGALI": ("Bengali", "bn"), "TAMIL": ("Tamil", "ta"),
    "ARMENIAN": ("Armenian", "hy"), "GEORGIAN": ("Georgian", "ka"), "ETHIOPIC": ("Ethiopic", "am"),
    "TELUGU": ("Telugu", "te"), "GUJARATI": ("Gujarati", "gu"), "MYANMAR": ("Burmese", "my"),
    "MALAYALAM": ("Malayalam", "ml"), "KANNADA": ("Kannada", "kn"), "SINHALA": ("Sinhala", "si"),
    "GURMUKHI": ("Gurmukhi", "pa"),
}  # fmt: skip
_LETTER = r"(?![\u0000-\u02ff\u1e00-\u1eff\ufb00-\ufb06\uff21-\uff5a])[^\W\d_]"
_MARK = r"[^\w\s\u0000-\u02ff\u060c\u061b\u061f\u0964\u2000-\u2bff\u3000-\u303f\ufe00-\uffff]"
_FOREIGN = re.compile(rf"{_LETTER}(?:{_LETTER}|{_MARK})*")
_UNIT = re.compile(r"[µμ][A-Za-zΩ]{1,4}|[kMGmµμ]?Ω")


def reads_only_latin(language: str) -> bool:
    """Whether espeak-ng has no letters but Latin ones in this language."""
    return language not in _OTHER_SCRIPTS and language.split("-")[0] not in _OTHER_SCRIPTS


def foreign_words(text: str, language: str) -> dict[str, tuple[str, str]]:
    """The scripts in `text` that `language` has not: name -> (the first word in it, a language).

    A Greek letter on its own is none: it is read by its name.
    """
    found: dict[str, tuple[str, str]] = {}
    if text.isascii() or not reads_only_latin(language):
        return found
    for word in _FOREIGN.finditer(text):
        for sign in word[0]:
            first = unicodedata.name(sign, "").split(" ")[0].split("-")[0]
            if first in ("LATIN", "FULLWIDTH", "MATHEMATICAL", "MICRO", "OHM", "MODIFIER", ""):
                continue
            if (first == "GREEK" and len(word[0]) == 1) or _UNIT.fullmatch(word[0]):
                continue
            if first not in _CALLED and not unicodedata.category(sign).startswith("Lo"):
                continue
            name, code = _CALLED.get(first, (first.capitalize(), ""))
            found.setdefault(name, (word[0], code))
    return found


def latin(text: str) -> str:
    """Words of other scripts in Latin letters; a Greek letter on its own by its name.

    Units keep their letters: µg stays apart from mg. The micro sign in them is U+00B5.
    """
    if text.isascii():
        return text
    runs = itertools.groupby(text, _of_a_word)
    pieces, before = [], ""
    for word, run in runs:
        piece = "".join(run)
        if word:
            ohms = piece == "Ω" and re.search(r"\d\s?$", before)
            measured = _UNIT.fullmatch(piece) and (piece != "Ω" or ohms)
            piece = piece.replace("μ", "µ") if measured else _in_latin(piece)
        pieces.append(piece)
        before = piece if word else (before + piece)[-8:]
    return "".join(pieces)


@lru_cache(maxsize=8192)
def _of_a_word(sign: str) -> bool:
    return sign.isalpha() or unicodedata.category(sign)[0] == "M"


def _in_latin(word: str) -> str:
    from anyascii import anyascii

    word = word.lstrip("".join(sign for sign in word if not sign.isalpha()))
    if all(unicodedata.name(c, "").startswith(("LATIN", "COMBINING")) for c in word):
        return word
    name = unicodedata.name(word[0], "")
    if len(word) == 1 and name.startswith("GREEK") and "LETTER" in name:
        return f" {name.split('LETTER ')[1].split()[0].lower()} "
    greek = re.fullmatch(r"([\u0391-\u03c9])([A-Za-z]{1,2})", word)
    if greek:  # "Δx", "λT"
        return f"{_in_latin(greek[1])}{greek[2]}"
    joined = anyascii(word)
    if name.startswith(("CJK", "HANGUL")):
        joined = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joined)
    return re.sub(r"[^A-Za-z' -]", "", joined)
