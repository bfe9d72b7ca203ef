"""The registry: what every part's configuration refuses, in time and in memory."""

from __future__ import annotations

import dataclasses
import math
import time
import tracemalloc
from typing import Any

import pytest

from knnvc.errors import KnnvcError
from knnvc.options import settings
from knnvc.registry import KINDS, Entry, entries, find, names, register

CHECKED = [one for kind in KINDS for one in entries(kind) if one.config is not None]


def config_of(entry: Entry) -> Any:
    from importlib import import_module

    module, _, name = str(entry.config).partition(":")
    return getattr(import_module(module), name)


def base(entry: Entry) -> dict[str, Any]:
    """A configuration that is allowed."""
    return {"mini-tts": {"symbols": "ab"}, "glow-tts": {"vocabulary": ["a", "b"]}}.get(
        entry.name, {}
    )


def wrong(entry: Entry) -> list[tuple[str, Any]]:
    """A value of the wrong type, or far out of range, for every setting."""
    found: list[tuple[str, Any]] = [("colour", 1)]
    known = settings(config_of(entry))
    for field in dataclasses.fields(config_of(entry)):
        if field.name not in known and isinstance(field.default, int | float):
            bad_ones = (math.nan, math.inf, "4", [], {}, 2**63, -(2**31), 1e30, [1] * 10**6)
            found += [(field.name, bad) for bad in bad_ones]
    for name, one in known.items():
        if one.kind in ("number", "whole"):
            found += [(name, bad) for bad in (math.nan, math.inf, -math.inf, True, "4", [], {})]
            found += [(name, bad) for bad in (2**63, -(2**31), 1e30)]
        elif one.kind == "numbers":
            found += [(name, bad) for bad in (3, "3", [True], [2**63], [math.nan], [1] * 10**6)]
        elif one.kind == "choice":
            found += [(name, bad) for bad in ("no such", 1, ["mean"], None)]
        elif one.kind == "flag":
            found += [(name, bad) for bad in (1, "yes", None)]
        elif one.kind == "text":
            found += [(name, bad) for bad in (1, ["a"])]
    return found


@pytest.mark.parametrize("entry", CHECKED, ids=lambda one: f"{one.kind} {one.name}")
def test_a_bad_configuration_is_one_sentence_at_once(entry: Entry) -> None:
    entry.check(base(entry))
    values = wrong(entry)
    tracemalloc.start()
    try:
        for name, value in values:
            before = time.process_time()
            with pytest.raises(KnnvcError) as caught:
                entry.check(base(entry) | {name: value})
            assert time.process_time() - before < 1.0, (name, str(value)[:40])
            message = str(caught.value)
            assert message
            assert "\n" not in message
            assert len(message) < 400
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("entry", CHECKED, ids=lambda one: f"{one.kind} {one.name}")
@pytest.mark.parametrize(
    "name", ["mels", "layers", "flow_blocks", "hubert_dim", "k", "upsample_rates"]
)
def test_numbers_that_would_fill_the_memory_are_refused(entry: Entry, name: str) -> None:
    if name not in {one.name for one in dataclasses.fields(config_of(entry))}:
        pytest.skip(f"it has no {name}")
    for bad in (2**31, 10**9, 1e9):
        with pytest.raises(KnnvcError):
            entry.check(base(entry) | {name: [bad] if name == "upsample_rates" else bad})


def test_names_are_checked() -> None:
    with pytest.raises(KnnvcError, match="unknown vocoder type 'hifigann' \\(did you mean hifigan"):
        find("vocoder", "hifigann")
    for odd in (None, 3, [], {}, "x" * 10**6):
        with pytest.raises(KnnvcError, match="unknown encoder type") as caught:
            find("encoder", odd)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 400
    with pytest.raises(KnnvcError, match="there is no kind of part 'mixer'"):
        register(Entry("mixer", "x", "m:f"))
    assert names("converter")[:2] == ["knn", "mini"]
    for kind in KINDS:
        for one in entries(kind):
            assert one.summary
            assert find(kind, one.name) is one
