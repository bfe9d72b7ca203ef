"""Written text to sentences that can be spoken.

Three steps: what is no text (control characters, emoji, mark-up) goes; numbers, dates, money and
the like become words (`knnvc.text.english`; for other languages espeak-ng's own rules read
numbers); and each paragraph is cut into sentences with the pause that follows. The result has
letters, spaces, apostrophes, hyphens and the punctuation `,.!?;:` only (other languages also keep
their digits and the signs %, + and of currencies, which espeak-ng reads).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from knnvc.text.english import english
from knnvc.text.english.signs import MATHEMATICS
from knnvc.text.lexicon import FIRST, MOST, Lexicon
from knnvc.text.scripts import latin, reads_only_latin

SENTENCE_PAUSE = 0.35  # seconds of silence after a sentence
PARAGRAPH_PAUSE = 0.75
CLAUSE_PAUSE = 0.15  # where a sentence had to be cut at punctuation
LONGEST = 220  # characters: longer sentences are cut, as front ends have not learnt them
_WORD, _BLOCK = 500, 3000  # characters that are normalised at once
SHORTEST = 40  # no piece of a cut sentence is shorter, if it can be helped

_SIGNS = {
    "’": "'", "‘": "'", "‛": "'", "ʼ": "'", "′": "'", "`": " ", "´": "'",
    "。": ". ", "．": ". ", "！": "! ", "？": "? ", "，": ", ", "、": ", ", "；": "; ", "：": ": ",
    "।": ". ", "॥": ". ", "؟": "? ", "،": ", ", "؛": "; ", "۔": ". ", "׃": ". ", "։": ". ",
    "‽": "?", "…": "...", "℃": "°C", "℉": "°F", "µ": "μ", "№": "№ ", "™": " ", "®": " ", "©": " ",
    "−": "−", "‐": "-", "‑": "-", "‒": "–", "―": "—", "⁄": "/", "∕": "/", "•": "\n\n",
    "‣": "\n\n", "▪": "\n\n", "●": "\n\n", "\u00a0": " ", "\u2028": "\n", "\u2029": "\n\n",
    "\v": "\n", "\f": "\n\n", "\x85": "\n", "\u00ad": "", "→": ", ", "°": "°", "\t": " ",
}  # fmt: skip
_FRACTIONS = {
    sign: unicodedata.normalize("NFKC", sign).replace("⁄", "/") for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
}
_RAISED = {unicodedata.normalize("NFKC", sign): sign for sign in "⁰¹²³⁴⁵⁶⁷⁸⁹"}
_KEPT = frozenset("+<>=×÷±≈≤≥−~°№²³&@#%‰/§_\"'()[]{}*|\\^") | MATHEMATICS
# Whose raised numbers are powers; after other words they are footnotes.
_RAISED_UNITS = frozenset("m km cm mm dm nm µm μm s ms min h ft in yd mi".split())
_ENDS = ".!?"


# A bare name in angle brackets is mark-up if HTML has it; "a <b and c> d" is mathematics.
_TAG = re.compile(
    r"</[A-Za-z][\w:-]*\s*>|"
    r"<[A-Za-z][\w:-]*(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>\n]{0,200}\"|'[^'<>\n]{0,200}'|[^\s<>\"']{1,200}))+\s*/?>|"
    r"<(?:a|abbr|article|aside|b|big|blockquote|body|br|center|cite|code|dd|del|details|div|dl|dt|em|"
    r"figcaption|figure|font|footer|h[1-6]|head|header|hr|html|i|img|ins|kbd|li|main|mark|nav|ol|p|"
    r"pre|q|s|samp|section|small|span|strike|strong|sub|summary|sup|table|tbody|td|tfoot|th|thead|"
    r"title|tr|tt|u|ul|var|wbr)\s*/?>|<!--.{0,2000}?-->|<!(?i:doctype)[^<>\n]{0,200}>",
    re.DOTALL,
)


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
    if reads_only_latin(language):
        line = latin(line)
    if spoken_english:
        line = english(language.startswith("en-us")).verbalize(line)
    return _punctuate(line, "" if spoken_english else r"\d%+\-" + _CURRENCIES)


def _is_english(language: str) -> bool:
    return language.split("-")[0] == "en" and reads_only_latin(language)


# Characters ---------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """Without mark-up, control characters, emoji; signs of one meaning become one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "&" in text:
        text = html.unescape(text)
    text = _TAG.sub(" ", text)
    text = re.sub(r"(?<=[A-Za-z])`(?=[a-z]{1,2}\b)", "'", text)  # don`t
    text = unicodedata.normalize("NFC", text).replace("ⁿ", "^n")
    text = re.sub(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))", "", text)  # 1 234 567
    text = re.sub(
        r"(?<![\d.,] )(?<![\d.,])\d{1,3}(?: \d{3}){2,}(?![\d.,]?\d)",
        lambda m: m[0].replace(" ", ""),
        text,
    )
    text = re.sub(r"([0-9#*])\ufe0f?\u20e3", r"\1", text)  # keycaps
    text = re.sub(
        rf"(\d)?([{''.join(_FRACTIONS)}])",
        _fraction,
        text,
    )
    text = re.sub(
        r"(?<![\w/·])(?<!/\()(?<!\d )(?<!per )([A-Za-z])([²³])",
        lambda m: f"{m[1]} {'squared' if m[2] == '²' else 'cubed'} ",
        text,
    )
    text = re.sub(
        r"(?<![\w./-])\d{1,3}(?:_\d{3})+(?![\w/-])", lambda m: m[0].replace("_", ""), text
    )
    raised = "".join(_RAISED.values())
    text = re.sub(
        rf"(?P<unit>(?<![A-Za-zµμ])[A-Za-zµμ]{{1,30}}|(?<=\d))(?P<raised>[⁺⁻]?[{raised}]+)",
        _power,
        text,
    )
    text = re.sub(rf"[⁺⁻]?[{raised.replace('²', '').replace('³', '')}]+|(?<!\w)[²³]", "", text)
    return "".join(map(_sign, text))


def _fraction(found: re.Match[str]) -> str:
    after = found.string[found.end() : found.end() + 1]
    whole = f"{found[1]} " if found[1] else ""
    return whole + _FRACTIONS[found[2]] + (" " if after.isalpha() else "")


_FUNCTIONS = frozenset("sin cos tan log ln exp sinh cosh tanh".split())


def _power(found: re.Match[str]) -> str:
    """Raised digits after a number, after a unit, or as a footnote."""
    unit = found["unit"]
    lowered = unicodedata.normalize("NFKC", found["raised"]).replace("−", "-").replace("+", "")
    if not unit:
        return f" to the power of {lowered.replace('-', 'minus ')} "
    if unit not in _RAISED_UNITS and lowered in ("2", "3"):
        ahead = found.string[max(0, found.start() - 3) : found.start()]
        factors = unit.islower() and len(unit) <= 3 and re.search(r"[=+*/(^\d−-]\s?$", ahead)
        if len(unit) == 1 or factors:  # "E=mc²", "πr²"
            apart = " " if ahead[-1:].isdigit() else ""
            return f"{apart}{' '.join(unit)} {'squared' if lowered == '2' else 'cubed'} "
        if unit in _FUNCTIONS:
            return f"{unit} {'squared' if lowered == '2' else 'cubed'} "
    if unit not in _RAISED_UNITS and not (lowered[0] == "-" and len(unit) <= 3):
        return f"{unit} " if found.string[found.end() : found.end() + 1].isalnum() else unit
    return f"{unit}{found['raised']}" if lowered in ("2", "3") else f"{unit}^{lowered}"


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
        apart = kind == "So" or (kind == "No" and 0x2460 <= ord(sign) <= 0x2793)  # ①②
        return f" {said} " if apart and said else said
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
    return "" if kind[0] == "C" else " "  # control signs join, pictures part


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
    """A space for marks that say nothing, so that what stands around them stays apart."""
    # Combining marks of scripts that are written with them belong to the word.
    if all(unicodedata.category(sign)[0] == "M" for sign in found[0]):
        return found[0]
    return " "


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
