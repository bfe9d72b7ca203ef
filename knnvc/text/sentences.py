"""Written text to sentences that can be spoken.

Three steps: what is no text (control characters, emoji, mark-up) goes; numbers, dates, money and
the like become words (`knnvc.text.english`; for other languages espeak-ng's own rules read
numbers); and each paragraph is cut into sentences with the pause that follows. The result has
letters, spaces, apostrophes, hyphens and the punctuation `,.!?;:` only (other languages also keep
their digits and the signs %, + and of currencies, which espeak-ng reads).
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from knnvc.text.english import english
from knnvc.text.lexicon import FIRST, MOST, Lexicon

SENTENCE_PAUSE = 0.35  # seconds of silence after a sentence
PARAGRAPH_PAUSE = 0.75
CLAUSE_PAUSE = 0.15  # where a sentence had to be cut at punctuation
LONGEST = 220  # characters: longer sentences are cut, as front ends have not learnt them
_WORD, _BLOCK = 500, 3000  # characters that are normalised at once
SHORTEST = 40  # no piece of a cut sentence is shorter, if it can be helped

# Whose letters espeak-ng reads; any other language's text is transliterated to Latin letters.
_OTHER_SCRIPTS = frozenset(
    "am ar as ba be bg bn bpy chr cmn cv el en-shaw fa grc gu hak he hi hy hyw ja ka kk kn ko kok "
    "ky mk ml mr my ne nog or pa piqd ru sd shn si sr ta te th ti tt ug uk ur yue".split()
)
_SIGNS = {
    "’": "'", "‘": "'", "‛": "'", "ʼ": "'", "′": "'", "`": "", "´": "'",
    "。": ". ", "．": ". ", "！": "! ", "？": "? ", "，": ", ", "、": ", ", "；": "; ", "：": ": ",
    "।": ". ", "॥": ". ", "؟": "? ", "،": ", ", "؛": "; ", "۔": ". ", "׃": ". ", "։": ". ",
    "‽": "?", "…": "...", "℃": "°C", "℉": "°F", "μ": "µ", "№": "№ ", "™": "", "®": "", "©": "",
    "−": "−", "‐": "-", "‑": "-", "‒": "–", "―": "—", "⁄": "/", "∕": "/", "·": " ", "•": "\n\n",
    "‣": "\n\n", "▪": "\n\n", "●": "\n\n", "\u00a0": " ", "\u2028": "\n", "\u2029": "\n\n",
    "\v": "\n", "\f": "\n\n", "\x85": "\n", "\u00ad": "", "→": ", ", "°": "°", "\t": " ",
}  # fmt: skip
_FRACTIONS = {
    sign: unicodedata.normalize("NFKC", sign).replace("⁄", "/") for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
}
_RAISED = {unicodedata.normalize("NFKC", sign): sign for sign in "⁰¹²³⁴⁵⁶⁷⁸⁹"}
_KEPT = frozenset("+<>=×÷±≈≤≥−~°№²³&@#%/§_\"'()[]{}*|\\^")
_ENDS = ".!?"


@dataclass(frozen=True)
class Sentence:
    """What is spoken in one go, and the silence after it in seconds (0 after the last)."""

    text: str
    pause: float


def sentences(
    text: str, language: str = "en-us", lexicon: Lexicon | None = None
) -> Iterator[Sentence]:
    """Cut `text` into normalised sentences, one at a time.

    Args:
        text: anything; blank lines and bullets separate paragraphs.
        language: a code of `knnvc.text.espeak.find_language`.
        lexicon: entries given as phonemes come out as signs that `Lexicon.phonemes` reads.

    Yields:
        Sentences that have at least one letter or digit, none of them longer than `LONGEST`.
    """
    waiting: Sentence | None = None
    for paragraph in paragraphs(text):
        lines = (normalize(block, language, lexicon) for block in _blocks(paragraph))
        split = (piece for line in lines for piece in _split(line, _is_english(language)))
        cut = list(_cut_all(split))
        for number, (piece, pause) in enumerate(cut):
            if waiting:
                yield waiting
            waiting = Sentence(piece, PARAGRAPH_PAUSE if number == len(cut) - 1 else pause)
    if waiting:
        yield Sentence(waiting.text, 0.0)


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of `text` in one line each, without what is no text."""
    for block in re.split(r"\n[^\S\n]*\n\s*|\n(?=[^\S\n]*(?:[-*–—]|\d{1,2}[.)])\s)", _clean(text)):
        line = re.sub(r"^\s*[-*–—>#]+\s", "", block)
        line = re.sub(r"^\s*(\d{1,2})[.)]\s", r"\1, ", line)
        line = " ".join(line.split())
        if line:
            yield line


def normalize(paragraph: str, language: str = "en-us", lexicon: Lexicon | None = None) -> str:
    """One paragraph with only what can be spoken in it; may be empty.

    Args:
        paragraph: text; line breaks in it count as spaces.
        language: a code of `knnvc.text.espeak.find_language`.
        lexicon: see `sentences`.
    """
    line = " ".join(_clean(paragraph).split())
    line = (lexicon or Lexicon()).mark(line)
    spoken_english = _is_english(language)
    if language not in _OTHER_SCRIPTS and language.split("-")[0] not in _OTHER_SCRIPTS:
        line = _latin(line)
    if spoken_english:
        line = english(language.startswith("en-us")).verbalize(line)
    return _punctuate(line, "" if spoken_english else r"\d%+\-" + _CURRENCIES)


def _is_english(language: str) -> bool:
    return language.split("-")[0] == "en" and language not in _OTHER_SCRIPTS


# Characters ---------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """Without mark-up, control characters, emoji; signs of one meaning become one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "&" in text:
        text = html.unescape(text)
    text = re.sub(r"</?[A-Za-z][^<>\n]{0,200}>", " ", text)
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))", "", text)  # 1 234 567
    text = re.sub(
        r"(?<![\d.,] )(?<![\d.,])\d{1,3}(?: \d{3}){2,}(?![\d.,]?\d)",
        lambda m: m[0].replace(" ", ""),
        text,
    )
    text = re.sub(r"([0-9#*])\ufe0f?\u20e3", r"\1", text)  # keycaps
    text = re.sub(
        rf"(\d)?([{''.join(_FRACTIONS)}])",
        lambda m: f"{m[1]} {_FRACTIONS[m[2]]}" if m[1] else _FRACTIONS[m[2]],
        text,
    )
    text = re.sub(
        r"(?<!\w)(?<!\d )([A-Za-z])([²³])",
        lambda m: f"{m[1]} {'squared' if m[2] == '²' else 'cubed'} ",
        text,
    )
    raised = "".join(_RAISED.values())
    text = re.sub(rf"(?<=\d)([{raised}]+)", lambda m: f" to the power of {_lowered(m[1])} ", text)
    text = re.sub(rf"(?<!\b[kc]m)(?<!\bm)[{raised}]+|(?<=m)[⁰¹⁴⁵⁶⁷⁸⁹]+", "", text)  # footnotes
    return "".join(map(_sign, text))


def _lowered(raised: str) -> str:
    return unicodedata.normalize("NFKC", raised)


@lru_cache(maxsize=8192)
def _sign(sign: str) -> str:
    """What one character of a text becomes."""
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign in _KEPT or sign == "\n" or FIRST <= ord(sign) < FIRST + MOST:
        return sign
    kind = unicodedata.category(sign)
    if kind == "Lm" and not unicodedata.normalize("NFKC", sign).isalpha():
        return ""
    plain = unicodedata.normalize("NFKC", sign)
    if plain != sign and (
        kind in ("Lu", "Ll", "Nd", "Nl", "No", "So", "Lm", "Lo") or "！" <= sign <= "～"
    ):
        # Fullwidth, mathematical and enclosed letters and digits, ligatures, Ⅷ, ₂.
        said = "".join(each for each in plain if each.isalnum() or each in " .,!?:;'-/()&")
        return f" {said} " if kind == "So" and said else said
    if kind == "Nd":
        return str(unicodedata.digit(sign))  # of any script
    if kind[0] == "Z":
        return " "
    if kind[0] in "LPM" or kind == "Sc" or sign == "\n":
        if sign in "“”„‟«»‹›「」『』《》〈〉":
            return '"'
        if kind == "Mn" and 0xFE00 <= ord(sign) <= 0xFE0F:
            return ""  # how an emoji is drawn
        return " " if kind == "Me" else sign
    return ""


def _latin(text: str) -> str:
    """Words of other scripts in Latin letters; a Greek letter on its own by its name."""
    if text.isascii():
        return text

    text = re.sub(r"(?<![^\W\d])µ(?=[a-zA-Z]\b)", "micro", text)
    runs = itertools.groupby(text, _of_a_word)
    return "".join(_in_latin("".join(run)) if word else "".join(run) for word, run in runs)


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
    joined = anyascii(word)
    if name.startswith(("CJK", "HANGUL")):
        joined = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joined)
    return re.sub(r"[^A-Za-z' -]", "", joined)


_CURRENCIES = "".join(re.escape(chr(c)) for c in (*range(0x20A0, 0x20C1), *map(ord, "$¢£¤¥฿")))


def _punctuate(line: str, also: str) -> str:
    """Only the punctuation that is spoken as a pause or a tone, and nothing twice."""
    line = re.sub(r"\s*[()\[\]{}|—–]+\s*|\s+-+\s+|--+|\s+[/\\~]\s+", ", ", line)
    line = re.sub(r"(?<!\w)'(?=\w)((?:[^']|(?<=\w)'(?=\w)){2,}?)'(?!\w)", r"\1", line)
    line = re.sub(r"(?<!\w)'+(?=\w)(?!'?(?:tis|twas|em|til|cause|bout|round|n)\b)", "", line)
    line = re.sub(r"(?<![\w.])'+(?!\w)|(?<=[,.!?;:])'+", "", line)
    line = line.replace("_", " ")
    marks = rf"{chr(FIRST)}-{chr(FIRST + MOST)}"
    line = re.sub(rf"(?:(?![\w {_ENDS},;:'{also}{marks}-])[^\u0300-\u036f])+", _join, line)
    if not also:
        line = re.sub(r"\d", "", line)
    line = re.sub(r"(?<![^\W_])-+|-+(?![^\W_])", " ", line) if not also else line
    line = re.sub(r"[\s,;:]*([.!?])(?:[\s.!?,;:]*[.!?])*(?!\w)", _strongest, line)
    apart = r"(?!(?<=\d.)\d)"  # 3,5 and 12:30 of other languages stay whole
    line = re.sub(rf"[\s,]*([;:]){apart}[\s,;:]*", r"\1 ", line)
    line = re.sub(rf"\s*,{apart}[\s,]*", ", ", line)
    return " ".join(line.split()).strip(" ,;:'-")


def _join(found: re.Match[str]) -> str:
    """Marks inside a word vanish ("Kp*nk"), between words they are a space."""
    string = found.string
    inside = found.start() and found.end() < len(string)
    inside = inside and string[found.start() - 1].isalnum() and string[found.end()].isalnum()
    # Combining marks of scripts that are written with them belong to the word.
    if all(unicodedata.category(sign)[0] == "M" for sign in found[0]):
        return found[0]
    return "" if inside and '"' not in found[0] else " "


def _strongest(found: re.Match[str]) -> str:
    """One mark of several; dots in the middle of a sentence are a pause."""
    after = found.string[found.end() :].lstrip()
    if "?" in found[0]:
        return "? "
    if "!" in found[0]:
        return "! "
    if found[0].count(".") > 1 and after[:1].islower():
        return ", "
    return ". "


# Sentences ----------------------------------------------------------------------------------------


def _blocks(paragraph: str) -> Iterator[str]:
    """`paragraph` in blocks of bounded length: some rules take the square of it."""
    rest = re.sub(rf"(\S{{{_WORD}}})(?=\S)", r"\1 ", paragraph)
    while len(rest) > _BLOCK:
        ends = [found.end() for found in re.finditer(r"[.!?]['\"”’)]*\s+(?=[A-Z])", rest[:_BLOCK])]
        at = ends[-1] if ends else rest.rfind(" ", 1, _BLOCK)
        yield rest[:at]
        rest = rest[at:]
    yield rest


def _split(line: str, rules: bool) -> Iterator[str]:
    """Sentences of a normalised paragraph, each with a mark at its end."""
    start = 0
    for end in re.finditer(r"(?<=[.!?])\s+", line):
        word = line[start : end.start()].rsplit(None, 1)[-1]
        if line[end.end()].islower():  # "Why?" he asked
            continue
        # Where no rules have read abbreviations and ordinals out, a dot may stand for one.
        if (
            not rules
            and word[-1] == "."
            and (
                word[:-1].isdigit()
                or (word.lower() != word.upper() and len(word) < (5 if word[0].isupper() else 4))
            )
        ):
            continue
        yield line[start : end.start()]
        start = end.end()
    rest = line[start:]
    if rest:
        yield rest if rest[-1] in _ENDS else rest + "."


def _cut_all(split: Iterator[str]) -> Iterator[tuple[str, float]]:
    """Pieces of no more than LONGEST characters, with the pause after each."""
    for sentence in split:
        rest = sentence
        while len(rest) > LONGEST:
            at, pause = _best_cut(rest)
            piece, rest = rest[:at].strip(), rest[at:].strip()
            if _spoken(piece):
                yield piece, pause
        if _spoken(rest):
            yield rest, SENTENCE_PAUSE


def _best_cut(sentence: str) -> tuple[int, float]:
    """Where a sentence that is too long is cut best, and the pause there."""
    # The last mark within reach; nearer to the middle if the rest would be a scrap.
    reach = min(LONGEST, max(SHORTEST, len(sentence) - SHORTEST))
    for marks, pause in ((";:", CLAUSE_PAUSE), (",", CLAUSE_PAUSE), (" ", 0.0)):
        at = max(sentence.rfind(mark, SHORTEST, reach) for mark in marks)
        if at > 0:
            return at + 1, pause
    return LONGEST, 0.0


def _spoken(text: str) -> bool:
    return any(sign.isalnum() or FIRST <= ord(sign) < FIRST + MOST for sign in text)
