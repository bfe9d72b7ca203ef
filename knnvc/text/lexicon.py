"""A user's own pronunciations: words spelled otherwise, or given as phonemes.

A text file has one entry a line: `WORD<TAB>phonemes`, or `WORD = other spelling`; empty lines and
those that begin with # are skipped. A .json file is one object, whose values are spellings, or
phonemes between slashes. An entry in small letters stands for the word in any case; one with a
capital letter only for exactly that. An entry may have several words, digits and signs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from knnvc.errors import KnnvcError, UsageError

FIRST = 0xF0000  # of the private-use signs that stand for phonemes inside a text
MOST = 65_000


class Lexicon:
    """Words and how to say them.

    Args:
        spellings: other spellings, by word.
        phonemes: IPA, by word.

    Raises:
        UsageError: an entry is empty, or there are more than 65,000.
    """

    def __init__(
        self,
        spellings: Mapping[str, str] | None = None,
        phonemes: Mapping[str, str] | None = None,
    ) -> None:
        self._spellings = {_plain(word): _plain(said) for word, said in (spellings or {}).items()}
        given = {_plain(word): _plain(said) for word, said in (phonemes or {}).items()}
        for word, said in (*self._spellings.items(), *given.items()):
            if not word or not said:
                raise UsageError(f"the lexicon's entry {word or said!r} is empty on one side")
        if len(given) > MOST:
            raise UsageError(f"the lexicon has {len(given)} phoneme entries: leave at most {MOST}")
        self._phonemes = list(given.values())
        self._signs = {word: chr(FIRST + number) for number, word in enumerate(given)}
        self._issued: set[str] = set()

    @classmethod
    def load(cls, path: Path | str) -> Lexicon:
        """Read a lexicon file.

        Raises:
            UsageError: there is no such file.
            KnnvcError: it is damaged; the message names the line.
        """
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"the lexicon {path} does not exist or is no file; check the path")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise KnnvcError(f"the lexicon {path} is no UTF-8 text: save it as UTF-8") from error
        if path.suffix.lower() == ".json":
            return cls(*_from_json(path, text))
        spellings, phonemes = {}, {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            word, tab, said = line.partition("\t")
            if tab:
                phonemes[word] = said.strip().strip("/")
                continue
            word, equals, said = line.partition("=")
            if not equals or not word.strip() or not said.strip():
                raise KnnvcError(
                    f"line {number} of the lexicon {path} is no entry: write WORD, a tab and its "
                    "phonemes, or WORD = other spelling"
                )
            spellings[word] = said
        return cls(spellings, phonemes)

    def __len__(self) -> int:
        return len(self._spellings) + len(self._signs)

    def mark(self, text: str) -> str:
        """`text` with words spelled otherwise, and a private-use sign in place of phonemes."""
        text = "".join(
            sign for sign in text if not FIRST <= ord(sign) < FIRST + MOST or sign in self._issued
        )
        return self._pattern.sub(self._replace, text) if len(self) else text

    def copy(self) -> Lexicon:
        """The same entries, for a document that adds phonemes of its own."""
        other = Lexicon()
        other._spellings, other._signs = dict(self._spellings), dict(self._signs)
        other._phonemes, other._issued = list(self._phonemes), set(self._issued)
        return other

    def issue(self, phonemes: str) -> str:
        """A new private-use sign that stands for `phonemes` in a text, and that `mark` keeps.

        Raises:
            KnnvcError: there are 65,000 already.
        """
        if len(self._phonemes) >= MOST:
            raise KnnvcError(f"the text has more than {MOST:,} phoneme entries: split it")
        self._phonemes.append(_plain(phonemes))
        sign = chr(FIRST + len(self._phonemes) - 1)
        self._issued.add(sign)
        return sign

    def phonemes(self, sign: str) -> str:
        """The phonemes that a sign of `mark` stands for."""
        return self._phonemes[ord(sign) - FIRST]

    def _replace(self, found: re.Match[str]) -> str:
        word = found[0]
        for key in (word, word.lower()):
            if key in self._signs:
                return self._signs[key]
            if key in self._spellings:
                return self._spellings[key]
        return word

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = sorted({*self._spellings, *self._signs}, key=len, reverse=True)
        # A word's end is where letters and digits stop, whatever signs are part of the entry.
        return re.compile(
            r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE
        )


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _from_json(path: Path, text: str) -> tuple[dict[str, str], dict[str, str]]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested beyond all reason
        raise KnnvcError(f"the lexicon {path} is no JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(said, str) for said in values.values()):
        raise KnnvcError(
            f"the lexicon {path} is no JSON object of words and strings: write "
            '{"word": "other spelling", "other": "/phonemes/"}'
        )
    phonemes = {
        word: said.strip("/") for word, said in values.items() if re.fullmatch("/.*/", said)
    }
    return {word: said for word, said in values.items() if word not in phonemes}, phonemes
