"""Values, trees of values and JSON with something wrong in them."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = (
    0, -1, 1, 2, 3, 255, 65_535, 65_537, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63,
    2**64, 10**9, -(2**31), -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e-30, 1e30,
    1e308, -1e308, math.nan, math.inf, -math.inf,
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "nan", "1e999", "true", "..", "../x", "/", "/dev/zero", "C:\\x", "a" * 300,
    "word " * 3000, "\n", "a\nb\r\nc", "\x00", "\x1b[31mred\x1b[0m", "\u202eabc", "\u2028", "é",
    "e\u0301", "\U0001f600", "\ud800", "%s%n", "{0}", "$x^$", "=1+1", "mini", "wavlm", "ſ", "İ",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": None}, [None], [1, "a"])
RAW = "@@raw:"  # begins a text that is written into JSON as it is


def absurd(rng: Random) -> Any:
    """A value that few places expect."""
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, NUMBERS, TEXTS, OTHERS))))


def near(rng: Random, value: Any) -> Any:
    """A value of nearly the same kind."""
    if isinstance(value, bool):
        return rng.choice((not value, int(value), str(value).lower()))
    if isinstance(value, int | float):
        if isinstance(value, int) and abs(value) > 10**300:
            return [value]
        changed = (value + 1, value - 1, -value, value * 2, value * 1000, float(value), str(value))
        return rng.choice((*changed, bool(value), [value], value / 2))
    if isinstance(value, str):
        cut = rng.randint(0, len(value))
        other = rng.choice(TEXTS)
        return rng.choice((value[:cut], value.upper(), value + value, value[:cut] + other, other))
    if isinstance(value, list | tuple):
        items = list(value)
        longer = items * rng.choice((2, 3, 100))
        return rng.choice((items[:-1], longer[:5000], items[::-1], [items], {"0": items}))
    return absurd(rng)


def mutated(
    rng: Random, tree: Any, leaf: Callable[[Random, Any], Any] | None = None, most: int = 3
) -> Any:
    """A copy of a tree of dicts and lists with one to `most` places changed.

    Args:
        rng: what is changed, and how.
        tree: left as it is.
        leaf: changes the leaves that it knows; it returns NotImplemented for others.
        most: changes.
    """
    holder = {"": copy.deepcopy(tree)}
    for _ in range(rng.randint(1, most)):
        places = [place for place in _places(holder) if place[0] is not holder] or [(holder, "")]
        _change(rng, *rng.choice(places), places, leaf)
    return holder.get("", type(tree)())  # a tree that was emptied first may be dropped, too


def _places(container: Any) -> list[tuple[Any, Any]]:
    found = []
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in list(items):
        found.append((container, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def _change(
    rng: Random, container: Any, key: Any, places: list[Any], leaf: Callable[..., Any] | None
) -> None:
    value = container[key]
    if leaf is not None and rng.random() < 0.7:
        changed = leaf(rng, value)
        if changed is not NotImplemented:
            container[key] = changed
            return
    how = rng.choice(("absurd", "absurd", "near", "near", "near", "drop", "add", "nest", "swap"))
    if how == "absurd":
        container[key] = absurd(rng)
    elif how == "near":
        container[key] = near(rng, value)
    elif how == "drop":
        del container[key]
    elif how == "add" and isinstance(container, dict):
        container[rng.choice((*TEXTS, "unknown", str(key) + "x"))] = copy.deepcopy(value)
    elif how == "add":
        container.insert(key, copy.deepcopy(value))
    elif how == "nest":
        container[key] = rng.choice(([value], {"x": value}, _deep(rng)))
    else:
        other, name = rng.choice(places)
        if isinstance(other, dict) and name in other:
            container[key] = copy.deepcopy(other[name])


def _deep(rng: Random) -> str:
    depth = rng.choice((50, 990, 5000, 200_000))
    return RAW + rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth))


def as_json(rng: Random, value: Any, indent: int | None = None) -> str:
    """JSON of any value, sometimes with what only a text can have wrong."""
    try:
        text = json.dumps(_plain(value), indent=indent, ensure_ascii=rng.random() < 0.5)
    except (TypeError, ValueError, RecursionError):
        text = "{}"
    text = re.sub(rf'"{RAW}((?:[^"\\]|\\.)*)"', lambda raw: raw[1].replace('\\"', '"'), text)
    if rng.random() < 0.05:
        text = text.replace("1", rng.choice(("1" * 5000, "1e999", "-NaN", "0x1", "01", "1_0")), 1)
    if rng.random() < 0.03:  # a key that stands twice
        text = re.sub(r'("\w+": ?[^,{}\[\]]+,)', r"\1\1", text, count=1)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**300:
        return RAW + "9" * 5000  # more digits than Python reads
    return value
