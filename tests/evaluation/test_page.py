"""The page: numbers, players and plots; and that nothing is cut on a phone or a wide screen."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from knnvc.evaluation import page
from knnvc.evaluation.measure import Evaluation
from knnvc.evaluation.records import CONVERTED, COPY, RECORDS, SOURCE, Record, read_records
from knnvc.evaluation.run import Results, write
from knnvc.evaluation.summary import by_speaker, columns, summarise

Make = Callable[..., Record]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FACTS = {
    "preset": "<mini>",
    "preset_bytes": 1_000_000,
    "weights": {"encoder.safetensors": "0" * 64},
    "instruments": {"words, whisper": "a stand-in"},
    "seed": 0,
    "threads": 1,
    "knnvc": "0",
}


def results(records: list[Record], evaluation: Evaluation) -> Results:
    rows = summarise(records, evaluation.targets, seed=0)
    speakers = by_speaker(records, rows, 0)
    return Results(records, evaluation.targets, rows, speakers, [], FACTS)


def players(text: str) -> list[str]:
    return [unquote(html.unescape(one)) for one in re.findall(r'<audio [^>]*src="([^"]+)"', text)]


def test_the_page_has_numbers_players_and_plots(measured: Evaluation) -> None:
    records = read_records(measured.folder / RECORDS)
    made = results(records, measured)
    text = page.build(made, columns(records))
    heard = players(text)
    assert len(heard) == len(records) + len(measured.targets)
    assert all((measured.folder / one).is_file() for one in heard)
    # λ is swept, so there is a plot for each of four measures, and they are inside the page.
    assert text.count("<svg") == 4
    assert "By λ" in text
    for row in made.rows:
        found = row.values["like_target"]
        assert found is not None
        assert f'<td data-label="like target">{found.value:.3f}' in text
    assert "one-only" in " ".join(heard)
    assert "talks/one &amp; only" in text
    assert "&lt;mini&gt;" in text
    assert "The references of ben are also what" in text  # who has two recordings
    without = r'xmlns(:\w+)?="[^"]+"|<!DOCTYPE[^>]+>|<rdf.*?</rdf:RDF>'
    assert "http" not in re.sub(without, "", text, flags=re.DOTALL)


def test_the_page_of_one_condition_compares_systems(measured: Evaluation, record: Make) -> None:
    records = [record(SOURCE, "a", "anna"), record(CONVERTED, "a", "anna")]
    text = page.build(results(records, measured), columns(records))
    assert "<h2>Systems</h2>" in text
    assert "&lt;b&gt;five five&lt;/b&gt;" in text
    assert "<b>" not in text


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("name", ["$x^$", "_hidden", r"\frac{", "$", "<&>", "a$b_c$"])
def test_names_are_drawn_as_they_stand(
    measured: Evaluation, record: Make, name: str, swept: bool
) -> None:
    """A formula that is none ended everything after all measuring."""
    records = [
        replace(record(CONVERTED, "a", "anna", asked=asked), group=group)
        for group in (name, "other")
        for asked in ((5.0, 60.0) if swept else (60.0,))
    ]
    text = page.build(results(records, measured), columns(records))
    drawn = [" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", one)) for one in text.split("<svg")]
    assert sum(html.escape(name, quote=False) in one for one in drawn) == 4


def test_what_cannot_be_measured_is_a_dash(measured: Evaluation, record: Make) -> None:
    records = [replace(record(SOURCE, "a", "anna"), said="")]
    text = page.build(results(records, measured), columns(records))
    assert '<td data-label="WER %">–<' in text
    assert '<td data-label="added">–<' in text
    assert '<td data-label="WER %">0.0<' not in text


# In a browser -------------------------------------------------------------------------------------

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--hide-scrollbars"]
# What a reader would call broken: sideways scrolling, text outside of its cell, labels away from
# their values, and empty stretches as high as a screen.
PROBE = """
<script>addEventListener("load", () => {
  const seen = [...document.querySelectorAll("td, th, dt, dd, h1, h2, h3, p, figure, audio, small")]
    .map(one => one.getBoundingClientRect()).filter(box => box.width);
  const right = Math.max(...seen.map(box => box.right));
  const inner = [...document.querySelectorAll(".wide")].map(w => w.scrollWidth - w.clientWidth);
  const edges = seen.map(box => [box.top, box.bottom]).sort((a, b) => a[0] - b[0]);
  let below = 0, gap = 0;
  for (const [top, bottom] of edges) { gap = Math.max(gap, top - below);
    below = Math.max(below, bottom) }
  const pairs = [...document.querySelectorAll("dt")].map(dt => {
    const a = dt.getBoundingClientRect(), b = dt.nextElementSibling.getBoundingClientRect();
    return b.top - (b.left >= a.right - 1 ? a.top : a.bottom) });
  const tall = [...document.querySelectorAll("td:not(:first-child):not(.said)")]
    .map(one => one.getBoundingClientRect().height);
  const apart = [...document.querySelectorAll("table")].filter(t => !t.querySelector(".said"))
    .flatMap(t => [...t.querySelectorAll("th")]).map(one => {
      const range = document.createRange(); range.selectNodeContents(one);
      return one.getBoundingClientRect().width - range.getBoundingClientRect().width });
  parent.document.body.textContent = JSON.stringify({ width: innerWidth, right, gap,
    inner: Math.max(...inner), tall: Math.max(...tall), apart: Math.max(...apart),
    pairs: Math.max(...pairs.map(Math.abs)),
    scroll: document.documentElement.scrollWidth });
})</script>
"""


def in_browser(path: Path, width: int, *options: str) -> str:
    """What Chromium prints of a page in a window of `width`; it is framed, as windows are wide."""
    frame = path.with_name(f"frame-{width}.html")
    frame.write_text(
        f'<body style="margin:0"><iframe src="{path.name}" style="border:0;width:{width}px;'
        'height:4000px"></iframe></body>'
    )
    call = [str(CHROMIUM), *FLAGS, f"--user-data-dir={path.parent / 'profile'}", *options]
    size = f"--window-size={max(width, 500)},4000"
    done = subprocess.run(
        [*call, size, f"file://{frame}"], capture_output=True, text=True, timeout=240, check=True
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_nothing_is_cut_on_any_screen(measured: Evaluation, record: Make, tmp_path: Path) -> None:
    """At the widths of a phone, a laptop and a desktop."""
    records = [
        record(system, source, target, speaker=source.split("/")[0], asked=asked, errors=errors + n)
        for target in ("anna", "ben")
        for n, source in enumerate(
            (
                "ls1688/1688-142285-0000",
                "ls1688/1688-142285-0001",
                "p225/p225_003_with_a_long_name_of_a_file",
                "p225/p225_005",
            )
        )
        for system, asked, errors in (
            (SOURCE, 60.0, 0),
            (COPY, 60.0, 1),
            (CONVERTED, 5.0, 4),
            (CONVERTED, 60.0, 3),
        )
    ]
    (tmp_path / "page").mkdir()
    write(results(records, measured), tmp_path / "page")
    made = tmp_path / "page/index.html"
    text = made.read_text()
    for width in (360, 1300, 1920):
        picture = tmp_path / f"{width}.png"
        in_browser(made, width, f"--screenshot={picture}")
        assert picture.stat().st_size > 20_000  # it shows something
    made.write_text(text.replace("</body>", f"{PROBE}</body>"))
    for width in (360, 1300, 1920):
        printed = in_browser(made, width, "--dump-dom", "--allow-file-access-from-files")
        found = dict(re.findall(r'"(\w+)":(-?[\d.]+)', html.unescape(printed)))
        numbers = {name: float(value) for name, value in found.items()}
        assert numbers["width"] == width
        assert numbers["scroll"] <= width  # nothing sideways,
        assert numbers["right"] <= width
        assert numbers["inner"] <= 0, width  # nor within a table,
        assert numbers["pairs"] <= 4  # every label beside or right above its value,
        assert numbers["tall"] < 80, width  # no value is squeezed into a column of digits,
        assert numbers["apart"] < 120, width  # columns stand as close as their titles allow,
        assert numbers["gap"] < 400  # and no hole but where a plot is
