"""The Listen page: what is shown is a rule, and everything on it has a place and a licence."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import listen  # noqa: E402

TERMS = [("a & b, reader", "LibriSpeech", "CC BY 4.0")]


def line(
    errors: int, like: float, system: str = "converted", source: str = "a/1"
) -> dict[str, Any]:
    heard = {"heard": "<b>", "words": 20, "word_errors": errors, "source_word_errors": 1}
    return {
        "system": system,
        "condition": "60 s",
        "settings": {"seconds": 60.0},
        "source": source,
        "speaker": "a",
        "target": "b",
        "said": "five & five",
        "recognised": {"whisper": heard},
        "likeness": {"resemblyzer": {"target": like}},
        "distillmos": 3.5,
    }


def test_conversions_are_taken_at_even_steps_from_best_to_worst() -> None:
    lines = [line(n % 7, n / 100) for n in range(84)] + [line(0, 1.0, "copy-synthesis")]
    chosen = listen.choose(lines)
    assert [rank for rank, _, _ in chosen] == [1, 10, 19, 29, 38, 47, 56, 66, 75, 84]
    assert {among for _, among, _ in chosen} == {84}
    lost = [listen.words_lost(one) for _, _, one in chosen]
    assert lost == sorted(lost)
    best, worst = chosen[0][2], chosen[-1][2]
    assert listen.words_lost(best) == -0.05
    assert listen.likeness(best) == max(n / 100 for n in range(84) if n % 7 == 0)
    assert listen.likeness(worst) == min(n / 100 for n in range(84) if n % 7 == 6)


def test_of_several_conditions_one_is_shown() -> None:
    lines = [line(n, 0.5) for n in range(3)]
    lines[0] |= {"condition": "5 s", "settings": {"seconds": 5.0}}
    assert [one for _, _, one in listen.choose(lines)] == lines[1:]


def test_few_conversions_are_all_shown_once() -> None:
    assert [rank for rank, _, _ in listen.choose([line(n, 0.5) for n in range(4)])] == [1, 2, 3, 4]
    assert [rank for rank, _, _ in listen.choose([line(1, 0.5)])] == [1]


def test_the_page_shows_what_was_measured_and_escapes_it() -> None:
    shown = listen.Shown(1, 84, line(5, 0.8), "audio/s.opus", "audio/t.opus", "audio/c.opus")
    others = [
        {"origin": "a/b&c", "system": "X", "pairs": 4, "wer": None, "similarity": 0.8, "mos": 4.0}
    ]
    spoken, voices = [("emma", "Hi <there>.", "audio/e.opus")], [("emma", "audio/v.opus")]
    text = listen.page([shown], spoken, voices, others, {"knnvc": "0", "preset": "mini"}, TERMS)
    assert "25 % (source 5 %)" in text
    assert "number 1 of 84, the best" in text
    assert "five &amp; five" in text
    assert "&lt;b&gt;" in text
    assert "Hi &lt;there&gt;." in text
    assert text.count("<audio") == 5
    assert "<td>–</td>" in text
    assert "<td>a &amp; b, reader</td><td>LibriSpeech</td><td>CC BY 4.0</td>" in text
    assert '<a href="https://creativecommons.org/licenses/by/4.0/">' in text
    assert "| a & b, reader | LibriSpeech | CC BY 4.0 |" in listen.markdown(TERMS)
    assert 'href="https://github.com/a/b&amp;c"' in text


def test_published_figures_are_means_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "page,system,origin,published_wer,published_similarity,published_distillmos\n"
        "one/u2u,X,me/one,0.1,0.8,4.0\none/s2s,X,me/one,,0.6,3.0\ntwo,X,me/two,0,0.5,2.0\n"
    )
    one, two = listen.published(tmp_path)
    assert (one["origin"], one["system"], one["pairs"], one["wer"]) == ("me/one", "X", 2, 10.0)
    assert one["similarity"] == pytest.approx(0.7)
    assert one["mos"] == pytest.approx(3.5)
    assert (two["origin"], two["pairs"], two["wer"]) == ("me/two", 1, 0.0)


def test_the_page_of_today_is_whole_and_small() -> None:
    folder = ROOT / "docs" / "listen"
    text = (folder / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'<audio [^>]*src="([^"]+)"', text)
    assert named
    assert all((folder / one).is_file() for one in named)
    size = sum(path.stat().st_size for path in (folder / "audio").rglob("*") if path.is_file())
    assert size <= listen.MOST_BYTES
    assert (folder / "LICENCES.md").is_file()
