"""`benchmarks/lost_phones.py`: frames of aligned speech beside what an encoder hears in them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from knnvc.audio import load_audio, write_audio
from knnvc.evaluation.probing.kinds import edits
from knnvc.text.phones import IGNORED, PHONES, STATES

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
SAID = "and mister john dashwood had then leisure to consider how much"


@pytest.fixture
def lost(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("lost_phones")


def state(phone: str) -> int:
    return 2 + 3 * PHONES.index(phone) if phone else 0


def test_every_phone_has_a_class(lost: ModuleType) -> None:
    assert {lost.class_of(phone) for phone in (*PHONES, "")} == set(lost.CLASSES)
    assert set("".join(lost.MANNERS.values())) <= set(PHONES)
    vowels = "".join(phone for phone in PHONES if lost.class_of(phone) == "vowels")
    assert vowels == "aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ"


def test_frames_are_counted_by_class(lost: ModuleType) -> None:
    said = ["", "a", "a", "s", "s", "s", "m", "m"]
    heard = ["", "a", "ɪ", "s", "z", "t", "", "m", "b"]
    states = np.array([state(phone) for phone in said] + [IGNORED], np.int16)
    posteriors = np.zeros((9, STATES))
    posteriors[np.arange(9), [state(phone) for phone in heard]] = 1
    # Another third of the same phone is right, too.
    posteriors[1] = np.roll(posteriors[1], 1)
    found = lost.pairs(states, posteriors)
    assert found[("a", "a")] == 1
    assert sum(found.values()) == 8  # one frame has no label
    columns = dict(zip(("right", *lost.CLASSES), lost.shares(found, "fricatives"), strict=True))
    assert columns["right"] == pytest.approx(100 / 3)
    assert columns["fricatives"] == columns["plosives"] == pytest.approx(100 / 3)
    assert lost.shares(found, "approximants") == []
    assert lost.speech(found) == ["7", "42.9"]
    rows = [line[:3] for line in lost.class_table({"source": found}).lines]
    assert ["source", "2", "50.0"] in rows
    (first, *_) = lost.pair_table("source", Counter({("s", "z"): 3, ("s", "s"): 1})).lines
    assert first == ["s → z", "3", "75"]


def test_the_phone_error_rate_needs_no_alignment(lost: ModuleType) -> None:
    heard = ["", "m", "m", "a", "a", "a", "ɪ", "z", "z", "", "", "t", "t"]
    posteriors = np.zeros((len(heard), STATES))
    posteriors[np.arange(len(heard)), [state(phone) for phone in heard]] = 1
    assert lost.heard_phones(posteriors) == ["m", "a", "z", "t"]  # one frame is too short
    assert edits("mas", ["m", "a", "z", "t"]) == 2
    assert edits("mas", ["m", "a", "s"]) == 0
    assert edits("mas", []) == 3
    assert edits("", ["a"]) == 1


def test_it_hears_aligns_and_tables(
    lost: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = tmp_path / "bench"
    clip = load_audio(EXAMPLES / "source.wav")
    for name in ("ann", "bob"):
        write_audio(bench / f"{name}.flac", clip[: 16_000 * 5], 16_000)
    lines = ["speaker,file,text", f"ann,ann.flac,{SAID}", f"bob,bob.flac,{SAID}"]
    (bench / "manifest.csv").write_text("\n".join(lines))

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["lost_phones.py", *map(str, arguments)])
        lost.main()
        return capsys.readouterr().out

    run("hear", "--bench", bench, "--out", tmp_path / "mini", "--seconds", 3)
    found = sorted(path.relative_to(tmp_path / "mini") for path in tmp_path.rglob("*.npy"))
    assert [path.parts for path in found] == [
        (kind, f"{name}_{name}.npy") for kind in ("converted", "source") for name in ("ann", "bob")
    ]
    printed = run("table", "--bench", bench, tmp_path / "mini")
    assert "| source, mini |" in printed
    assert "Phone error rate" in printed
    assert "| bob, converted, mini |" in printed
    with pytest.raises(SystemExit):
        run("table", "--bench", bench, tmp_path / "nothing")
