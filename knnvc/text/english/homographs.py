"""Words that are spelled alike: "read" of the present and of the past.

The past is written as "red". Where the words around do not decide, "read" stays.
"""

from __future__ import annotations

import re

from knnvc.text.english.numbers import STARTERS, Match, Rule

# "She can read", "let him read", "did they read": the verb in its plain form.
_PLAIN = re.compile(
    r"(?i)\b(?:do|does|did|don't|doesn't|didn't|will|won't|'ll|would|wouldn't|'d|can|can't|cannot|"
    r"could|couldn't|should|shouldn't|may|might|must|mustn't|shall|to|let|lets|let's|make|makes|"
    r"made|help|helps|helped|watch|watched|hear|heard|saw|see|please|and|or|need)\b"
    r"(?: (?:not|never|always|often|also|just|even|you|he|she|it|we|they|i|him|her|them|me|us|"
    r"[A-Z][a-z]+|(?:the|my|your|his|their|our|a) \w+))*\s+$"
)
_DONE = re.compile(
    r"(?i)(?:\b(?:have|has|had|having|been|being|be|is|are|was|were|haven't|hasn't|hadn't|get|got|"
    r"gets|widely|well)|'ve)"
    r"(?: (?:not|never|always|often|also|just|already|ever|even|only|recently|all|both|once|now|"
    r"you|he|she|it|we|they|i|been|aloud|widely|\w+ly))*\s+$"
)
_THIRD = re.compile(
    r"(?:\b(?:[Hh]e|[Ss]he|[Ii]t|[Ww]ho)|(?<![.!?] )(?<!^)\b[A-Z][a-z]+|^[A-Z][a-z]+)"
    r"(?: (?:never|also|just|once|then|only|already|even|quickly|slowly|\w+ly))?\s+$"
)
# "My mother read": of the present it would be "reads".
_NOUN = re.compile(
    r"(?i)\b(?:my|his|her|our|their|your|the|a|an|this|that|every|each) (?:\w+ )?"
    r"(?!people |children |men |women |you |they |we )\w*[^\Ws]\s+$"
)
_FIRST_WORD = re.compile(r"[A-Z][a-z]+(?= )")
_SUBJECT = re.compile(
    r"(?i)\b(?:I|you|we|they)"
    r"(?: (?:never|also|just|once|then|only|already|even|both|all|\w+ly))?\s+$"
)
_PAST = re.compile(
    r"(?i)\b(?:yesterday|ago|last (?:night|week|month|year|summer|winter|spring|fall|autumn|time|"
    r"\w+day)|once|earlier|previously|in (?:1\d{3}|20[0-2]\d|nineteen|twenty \w+|two thousand)|"
    r"when (?:I|he|she|we|they|you) (?:was|were|had)|back then|at the time|this morning|"
    r"the other day|that day|that night|as a child|before (?:he|she|I|we|they) \w+ed)\b"
)
_PRESENT = re.compile(
    r"(?i)\b(?:every|always|usually|often|sometimes|each|daily|never|now|today)\b"
)


def rules() -> list[Rule]:
    """The rules for homographs, on words alone."""
    return [Rule(r"\b(?P<word>[Rr]ead)\b(?![-/])", _read)]


def _read(m: Match) -> str:
    start = max(m.string.rfind(mark, 0, m.start()) for mark in '.!?;:,"') + 1
    before = m.string[start : m.start()].lstrip()
    ends = [at for mark in ".!?" if (at := m.string.find(mark, m.end())) >= 0]
    whole = max(m.string.rfind(mark, 0, m.start()) for mark in ".!?") + 1
    sentence = m.string[whole : min([*ends, len(m.string)])]
    past = "Red" if m["word"][0] == "R" else "red"
    if _DONE.search(before):
        return past
    if not before or _PLAIN.search(before):
        coordinated = re.search(r"\b(?:and|or) $", before) and re.search(r"\w+ed\b", before)
        return past if coordinated and _PAST.search(sentence) else m[0]
    if _NOUN.search(before) and not _question(before):
        return past
    first = _FIRST_WORD.match(before)
    third = _THIRD.search(before)
    if third and third.start() == 0 and first and first[0] not in ("He", "She", "It", "Who"):
        third = (
            None
            if first[0] in STARTERS or first[0].endswith("s") or first[0].endswith("ly")
            else third
        )
    if third and not _question(before):
        return past
    if _SUBJECT.search(before) and _PAST.search(sentence):
        return past
    if _PAST.search(sentence) and not _PRESENT.search(sentence) and re.search(r"s\s+$", before):
        return past  # "the students read it yesterday"
    return m[0]


def _question(before: str) -> bool:
    return bool(re.match(r"(?i)(?:do|does|did|will|can|could|should|would|may|let)\b", before))
