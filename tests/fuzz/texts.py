"""Documents, lexicons, manifests and tables of voices with something wrong in them."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.raw import broken_text, encoded
from fuzz.values import absurd, as_json, mutated, near

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there.

2
00:01:00,250 --> 00:01:03,000
{\\an8}We went
- to the beach [LAUGHS]
"""
VTT = """WEBVTT - a talk

NOTE this is no cue

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start
<v Anna>Hello <c.loud>there</c>.

00:01:00.250 --> 00:01:03.000
We went
to the beach
"""
SSML = """<?xml version="1.0"?>
<speak version="1.0" xml:lang="en-US">
<p><s>Good <break time="500ms"/> morning.</s>
<s>The <sub alias="World Wide Web">WWW</sub> is <prosody rate="120%">fast</prosody>.</s></p>
<phoneme alphabet="ipa" ph="pɪˈkɑːn">pecan</phoneme> <break strength="strong"/> pie.
</speak>
"""
MARKDOWN = """---
title: A day
---
# Heading

A *line* with [a link](http://example.org "title"), `code` and ![a picture](x.png).[^1]

- one
  1. deeper
- [x] done

| a | b |
|---|---|
| 1 | 2 |

> quoted

```python
print(1)
```

[^1]: note. <br> Done&amp;dusted.
"""
LEXICON = """# names
Anna\tˈænə
GIF = jif
St. Mary = Saint Mary
C++\tsˌiː plˈʌs
"""
WORDS = {"Anna": "/ˈænə/", "GIF": "jif", "St. Mary": "Saint Mary", "3D": "three dee"}
CSV = "source,ref,output,lam,k\na.wav,anna/:0.7;ben.wav,x.wav,0.5,4\nb/c.wav,,,,\n"
ROWS = [
    {"source": "a.wav", "ref": ["anna/", "ben.wav"], "output": "x.wav", "lam": 0.5, "k": 4},
    {"source": "b/c.wav", "ref": "voice:emma;anna/", "lam": 1, "k": None},
]
CARDS = {
    name: {
        "source": "af_x", "sex": "woman", "accent": "American", "licence": "MIT",
        "seconds": 61.5, "sentences": 12, "pitch": 190.0, "distillmos": 4.5, "wer": None,
    }
    for name in ("anna", "ben")
}  # fmt: skip

LONGEST = 100_000  # characters: two hours of speech; all of it is spoken, which takes its time

_TOKENS = {
    "srt": ("-->", "\n\n", "00:00:01,000", "<i>", "{", "[", "(", "♪", "\ufeff", "1\n", " ", "<"),
    "vtt": ("-->", "\n\n", "WEBVTT", "NOTE", "STYLE", "REGION", "<v ", "<c", "::cue", "<", " "),
    "ssml": (
        "<p>", "</p>", "<s>", "<break/>", '<break time="9s"/>', '<prosody rate="110%">', "&amp;",
        "&#0;", "&#x1F600;", "&x;", "<!--", "]]>", "<![CDATA[", "<sub>", "<audio/>", "<speak>",
        '<phoneme ph="ˈ">', "xmlns:a='b'", "<a:b/>", "<", "<!DOCTYPE x>", "<?x?>",
    ),
    "markdown": (
        "#", "*", "_", "**", "`", "```", "[", "](", "![", "[^", "|", "|-", ">", "- ", "1. ", "<br>",
        "<div>", "&", "\\", "---", "+++", "~~", "    ", "\t", "<!--", "[a]: b\n", "[[", "{",
    ),
    "lexicon": ("\t", "=", "#", "/", "\n", "\ufeff", " = x\n", "\tx\n", "\U000f0000", "(", "\\"),
    "csv": (",", '"', ";", "\n", "source", "lam", "k", "..", "/", "voice:", ":", "\x00", "\t"),
}  # fmt: skip


def document(rng: Random, kind: str, seed: str) -> bytes:
    """A text of one of the kinds above."""
    return encoded(rng, broken_text(rng, seed, _TOKENS[kind])[:LONGEST])


def words(rng: Random) -> bytes:
    """A lexicon in JSON."""
    return _json(rng, mutated(rng, WORDS))


def rows(rng: Random) -> bytes:
    """A manifest in JSON lines."""
    made = mutated(rng, ROWS)
    lines = made if isinstance(made, list) else [made]
    text = "\n".join(as_json(rng, line) for line in lines[:1000])
    return encoded(rng, broken_text(rng, text, _TOKENS["csv"], 2) if rng.random() < 0.3 else text)


def table(rng: Random) -> bytes:
    """A manifest in CSV whose cells, or form, are wrong."""
    if rng.random() < 0.5:
        return document(rng, "csv", CSV)
    lines = [line.split(",") for line in CSV.splitlines()]
    for _ in range(rng.randint(1, 3)):
        line = rng.choice(lines)
        at = rng.randrange(len(line))
        value = absurd(rng) if rng.random() < 0.5 else near(rng, line[at])
        text = (
            value if isinstance(value, str) else str(value)[:9000] if _short(value) else "9" * 900
        )
        line[at] = text if rng.random() < 0.5 else '"' + text.replace('"', '""') + '"'
    return encoded(rng, "\n".join(map(",".join, lines)))


def cards(rng: Random) -> bytes:
    """A cards.json."""
    return _json(rng, mutated(rng, CARDS))


def _short(value: Any) -> bool:
    return not isinstance(value, int) or abs(value) < 10**300


def _json(rng: Random, value: Any) -> bytes:
    text = as_json(rng, value, indent=1)
    return (
        encoded(rng, broken_text(rng, text, ("{", "[", ",", '"', ":"), 2))
        if (rng.random() < 0.2)
        else encoded(rng, text)
    )
