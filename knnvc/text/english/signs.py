"""Signs between words: every one becomes a word, a pause or a space, and nothing is glued."""

from __future__ import annotations

import re

from knnvc.text.english.numbers import Match, Rule

# Mathematics and logic.
_NAMED = {
    "≠": "not equal to", "∞": "infinity", "√": "the square root of", "∑": "the sum of",
    "∏": "the product of", "∫": "the integral of", "∂": "partial", "∆": "delta", "∇": "nabla",
    "∈": "in", "∉": "not in", "∪": "union", "∩": "intersection", "⊂": "subset of",
    "⊆": "subset of", "∀": "for all", "∃": "there is", "¬": "not", "∧": "and", "∨": "or",
    "≡": "identical to", "∝": "proportional to", "∼": "about", "≈": "about", "≅": "about",
    "÷": "divided by", "×": "times", "≤": "at most", "≥": "at least", "⋅": "times", "∙": "times",
    "±": "plus or minus", "−": "minus", "≪": "much less than", "≫": "much more than",
    "⇒": "so", "⇔": "if and only if", "∥": "parallel to", "⊥": "perpendicular to",
}  # fmt: skip
MATHEMATICS = frozenset(_NAMED) | {"·"}
"""Signs that `knnvc.text.sentences` must leave for these rules."""

_IN_WORD = r"[^\W_]"


def early_rules() -> list[Rule]:
    """Operators of several signs, before their parts are taken for other things."""
    return [
        Rule(r"(?<=[A-Za-z]{2})<(?P<inner>[A-Za-z][\w:, ]*)>", lambda m: f" of {m['inner']} "),
        Rule(r"\s?(?:>=|=>(?=\s?\d))\s?", lambda m: " at least "),
        Rule(r"\s?(?:<=)\s?(?![=>])", lambda m: " at most "),
        Rule(r"\s?(?:!==?|≠|=/=)\s?", lambda m: " not equal to "),
        Rule(r"(?<=[\w\d)])\s?<>\s?(?=[\w(])", lambda m: " not equal to "),
        Rule(r"\s?={2,3}\s?(?=[\w(\"'-])", lambda m: " equals "),
        Rule(r"\s?:=\s?", lambda m: " is set to "),
        Rule(r"\s?(?P<op>[+*/-])=\s?(?=\w)", _assigned),
        Rule(r"(?<=\w)\s?&&\s?(?=[\w(!])", lambda m: " and "),
        Rule(r"(?<=\w)\s?\|\|\s?(?=[\w(!])", lambda m: " or "),
        Rule(r"\s?(?:<?[-=]{1,2}>|<-{1,2}(?=\s))\s?", lambda m: ", "),
        Rule(r"(?<=\w)\s?<<\s?(?=\w)", lambda m: " much less than "),
        Rule(r"(?<=\w)\s?>>\s?(?=\w)", lambda m: " much more than "),
        # Marks and blood
        Rule(
            r"(?<![\w-])(?P<a>(?<=\b[Aa] )[B-DF]|(?<=\b[Aa]n )A|(?:A|B|AB|O)(?=[-−] blood))[-−]"
            r"(?=[\s,.;!?)]|$)",
            lambda m: f"{m['a']} minus",
        ),
        # Products: of numbers, and of single letters
        Rule(
            r"(?:(?<=[\d)])|(?<=\b[A-Za-z]))(?:\*|\s\*\s)(?=[\d(]|[A-Za-z]\b)",
            lambda m: " times ",
        ),
        Rule(r"(?<=\d)\s?[·⋅∙]\s?(?=[\d(])", lambda m: " times "),
        Rule(r"_+", lambda m: " "),
    ]


def _assigned(m: Match) -> str:
    names = {"+": "plus", "-": "minus", "*": "times", "/": "slash"}
    return f" {names[m['op']]} equals "


def rules() -> list[Rule]:
    """What is left of signs, when words and digits are done."""
    return [
        Rule(r"\b(?P<a>[Aa]nd)/(?P<b>or)\b", lambda m: f"{m['a']} {m['b']}"),
        Rule(r"(?<=[a-z])/(?=[a-z])", lambda m: " or "),
        Rule(r"(?<=[A-Z])/(?=[A-Z])", lambda m: " "),
        Rule(r"(?<=\w)/(?=\w)", lambda m: " slash "),
        Rule(r"\s?&\s?", lambda m: " and "),
        Rule(r"\b(?P<name>[A-G])#(?!\w)", lambda m: m["name"] + " sharp"),
        Rule(r"(?<=\w)#(?=\w)", lambda m: " number "),
        Rule(r"\bC\+\+", lambda m: "C plus plus"),
        Rule(r"(?<=\w)\s?\+\s?(?=\w)", lambda m: " plus "),
        Rule(r"(?<=\w)\+", lambda m: " plus"),
        Rule(r"\s=\s|(?<=[\w)])\s?=\s?(?=[\w(])", lambda m: " equals "),
        Rule(r"(?<=\w)\s?\^\s?(?=\w)", lambda m: " to the power of "),
        Rule(rf"\s?(?P<sign>[{''.join(_NAMED)}])\s?", lambda m: f" {_NAMED[m['sign']]} "),
        Rule(r"\s<\s?|(?<=[\w)])<(?=\s?[\w(])|(?<![^\s,;(])<(?=\w)", lambda m: " less than "),
        Rule(r"\s>\s?|(?<=[\w)])>(?=\s?[\w(])|(?<![^\s,;(])>(?=\w)", lambda m: " more than "),
        Rule(r"§\s?", lambda m: " section "),
        Rule(r"%", lambda m: " percent "),
        Rule(r"\s@\s|(?<=\w)@(?=\w)", lambda m: " at "),
        Rule(r"(?<=\w)\\(?=\w)", lambda m: " backslash "),
        # Dots inside: "os.path", ".NET", "left.Then"
        Rule(r"(?<=[a-z])\.(?=[A-Z][a-z]*(?:\s|['’]))", lambda m: ". "),
        Rule(rf"(?<={_IN_WORD})\.(?={_IN_WORD})", _dot),
        Rule(r"(?<![\w.])\.(?=[A-Z]{2}|(?:env|git\w*|\w+rc)\b)", lambda m: "dot "),
        # Whatever is left between letters keeps them apart; apostrophes and hyphens join.
        Rule(r"(?<=\w)[^\w\s.,;:!?'’\u0300-\u036f-](?=\w)", _apart),
    ]


def _dot(m: Match) -> str:
    """ "Node.js" has a dot, "end.Begin" an end."""
    return " dot "


def _apart(m: Match) -> str:
    return m[0] if re.match(r"[\U000f0000-\U0010ffff]", m[0]) else f" {m[0]} "
