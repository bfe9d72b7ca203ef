"""Text to lines: sentences, and the phonemes of each.

Nothing here needs torch, so that a text with nothing to say in it is refused
before any weights are loaded.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from knnvc.errors import KnnvcError, KnnvcWarning
from knnvc.text.espeak import PUNCTUATION, find_language, phonemize
from knnvc.text.lexicon import FIRST, MOST, Lexicon
from knnvc.text.scripts import foreign_words, latin
from knnvc.text.sentences import sentences

LONGEST = 380  # signs spoken in one go; Kokoro and most front ends have not learnt longer ones

# What stands in for a sign that a front end does not know: the nearest sounds of English.
_NEAREST = {
    ":": ";", ";": ",", "…": ".", "—": ",", "¡": "", "¿": "", "«": "", "»": "", "“": "", "”": "",
    '"': "", "(": "", ")": "", "[": "", "]": "", "{": "", "}": "",
    "g": "ɡ", "ɲ": "nj", "ʎ": "lj", "r": "ɹ", "ɾ": "d", "ɽ": "ɾ", "ʁ": "ɹ", "ʀ": "ɹ", "ɻ": "ɹ",
    "x": "h", "χ": "h", "ħ": "h", "ç": "h", "ɣ": "ɡ", "q": "k", "c": "k", "ɟ": "dj", "β": "v",
    "ɸ": "f", "ʋ": "v", "ɥ": "w", "ɰ": "w", "ɬ": "l", "ɭ": "l", "ɫ": "l", "ʂ": "ʃ", "ɕ": "ʃ",
    "ʐ": "ʒ", "ʑ": "ʒ", "ʝ": "j", "ɖ": "d", "ʈ": "t", "ɳ": "n", "ɱ": "m", "ɴ": "ŋ", "ʕ": "ʔ",
    "ɦ": "h", "y": "i", "ʏ": "ɪ", "ø": "ɜ", "œ": "ɜ", "ɵ": "ʊ", "ɘ": "ə", "ɤ": "ʌ", "ɯ": "u",
    "ɨ": "ɪ", "ʉ": "u", "ɒ": "ɑ", "a": "ɑ", "ɑ": "a", "e": "ɛ", "o": "ɔ", "ɐ": "ə", "ɜ": "ɛ",
    "ɚ": "əɹ", "ɝ": "ɜɹ", "ᵻ": "ɪ", "ᵿ": "ʊ", "ɔ": "ɑ", "ʌ": "ə", "ʔ": "", "ʍ": "w", "ʤ": "dʒ",
    "ʧ": "tʃ", "ʦ": "ts", "ʣ": "dz", "ʨ": "tʃ", "ʥ": "dʒ", "ɓ": "b", "ɗ": "d", "ɠ": "ɡ", "ɪ": "i",
    "ˑ": "ː", "̃": "n",
}  # fmt: skip
_SILENT = frozenset("ʰʲʷˠˤˀʼ͡‿|‖˞")  # changes of a sound that can go without a word about it


@dataclass(frozen=True)
class Line:
    """What is spoken in one go.

    Attributes:
        text: the words, for messages.
        phonemes: IPA with stress and punctuation.
        pause: seconds of silence after it.
        speed: how much faster than usual it is spoken; the pause is not part of it.
        start: where its cue begins, in seconds from the beginning of the recording; None for text
            that has no times, and for the further lines of a cue.
        end: where its cue ends; None for text that has no times.
        before: seconds of silence before it, of a break at the beginning of a document.
    """

    text: str
    phonemes: str
    pause: float
    speed: float = 1.0
    start: float | None = None
    end: float | None = None
    before: float = 0.0


def read(text: str, language: str, lexicon: Lexicon | None = None) -> Iterator[Line]:
    """The lines of a text, one at a time.

    Args:
        text: anything; see `knnvc.text.sentences`.
        language: a language of espeak-ng, in any spelling.
        lexicon: pronunciations of the user's own.

    Warns (`KnnvcWarning`) of scripts that the language has not, by their names.

    Raises:
        UsageError: espeak-ng does not speak the language.
        KnnvcError: the text is empty, or nothing in it is spoken.
    """
    language = find_language(language)
    warn_of_scripts(text, language)
    any_line = False
    for line in lines_of(text, language, lexicon):
        any_line = True
        yield line
    if not any_line:
        raise nothing_to_say(text, language)


def lines_of(text: str, language: str, lexicon: Lexicon | None = None) -> Iterator[Line]:
    """As `read`, of a language in espeak-ng's own spelling; none if nothing is spoken."""
    for sentence in sentences(text, language, lexicon):
        phonemes = _phonemes(sentence.text, language, lexicon)
        if not says_something(phonemes):
            continue
        pieces = list(_cut(phonemes))
        for number, piece in enumerate(pieces):
            yield Line(sentence.text, piece, sentence.pause if number == len(pieces) - 1 else 0.0)


def nothing_to_say(text: str, language: str) -> KnnvcError:
    """The error of a text without words."""
    if not text.strip():
        return KnnvcError("the text is empty: give one with words in it")
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())[:40]
    return KnnvcError(
        f"nothing in the text {shown!r} can be spoken in {language}: give one with words in it"
    )


def warn_of_scripts(text: str, language: str) -> None:
    """Say which scripts of a text are only approximated by Latin letters."""
    found = foreign_words(text, language)
    if not found:
        return
    names = list(found)
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
    word, code = found[names[0]]
    hint = f": for text in it give --language {code}" if code and len(names) == 1 else ""
    warnings.warn(
        f"{language} has no sounds for {listed} script, whose words are read as if their letters "
        f"were Latin ({word[:20]} as {latin(word[:20])!r}){hint}",
        KnnvcWarning,
        stacklevel=3,
    )


def says_something(phonemes: str) -> bool:
    """Whether there is a sound in `phonemes`, and not just punctuation and stress."""
    return any(unicodedata.category(sign) in ("Ll", "Lo", "Lu") for sign in phonemes)


def fit(phonemes: str, symbols: frozenset[str]) -> tuple[str, set[str]]:
    """`phonemes` in nothing but `symbols`, and the signs that had to be left out.

    A sign that is not known is replaced by the nearest sounds of English that are, so that other
    languages are spoken with an English accent.
    """
    lost: set[str] = set()

    def known(sign: str, seen: str = "") -> str:
        if sign in symbols:
            return sign
        if sign in _NEAREST and sign not in seen:
            return "".join(known(other, seen + sign) for other in _NEAREST[sign])
        if sign not in _SILENT and sign not in PUNCTUATION and not unicodedata.combining(sign):
            lost.add(sign)
        return ""

    fitted = "".join(known(sign) for sign in unicodedata.normalize("NFC", phonemes))
    return " ".join(fitted.split()).strip(" ,;"), lost


def _phonemes(text: str, language: str, lexicon: Lexicon | None) -> str:
    """Phonemes of a normalised sentence, in which a lexicon's signs stand for themselves."""
    if lexicon is None or not any(FIRST <= ord(sign) < FIRST + MOST for sign in text):
        return phonemize(text, language)
    said, waiting = [], ""
    for sign in text:
        if FIRST <= ord(sign) < FIRST + MOST:
            said += [_around(waiting, language), lexicon.phonemes(sign)]
            waiting = ""
        else:
            waiting += sign
    said.append(_around(waiting, language))
    return " ".join("".join(said).split())


def _around(text: str, language: str) -> str:
    """Phonemes of `text`, with the spaces that it begins and ends with."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() else ""
    return f"{before}{phonemize(text, language)}{after}"


def _cut(phonemes: str) -> Iterator[str]:
    """`phonemes` in pieces of no more than LONGEST signs, cut between words where there are any."""
    while len(phonemes) > LONGEST:
        at = max(phonemes.rfind(" ", LONGEST // 2, LONGEST), 0) or LONGEST
        yield phonemes[:at].strip()
        phonemes = phonemes[at:].strip()
    if phonemes:
        yield phonemes
