"""The results as one web page: tables, plots, and players for everything that was made.

The page needs no network and no script; the recordings lie beside it in `audio/`. On a narrow
screen every line of a table becomes a card, so that nothing is cut and nothing scrolls sideways.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from knnvc.evaluation.charts import charts
from knnvc.evaluation.records import SOURCE, Record, TargetFacts
from knnvc.evaluation.summary import MAIN, MORE, OTHERS, Measure, Row
from knnvc.evaluation.tables import DASH, Table, demo_table, speaker_table, target_table

if TYPE_CHECKING:
    from knnvc.evaluation.run import Results

STYLE = """
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 84rem;
  padding: 1.5rem 1rem 3rem; color: #222; background: #fff }
h1 { margin: 0 0 .3rem; line-height: 1.2 }
h2 { margin: 2.2rem 0 .6rem } h3 { margin: 1.4rem 0 .4rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
table:has(.said) { width: 100% }
th, td { padding: .3rem .9rem; text-align: right; vertical-align: top }
th { border-bottom: 2px solid #222; vertical-align: bottom; line-height: 1.25 }
td { font-variant-numeric: tabular-nums }
td:first-child, th:first-child { text-align: left }
tr.group td { font-weight: 600; padding-top: 1rem; border-bottom: 1px solid #bbb; text-align: left }
tbody tr:not(.group):hover td { background: #f2f6fa }
small { color: #666; display: block; white-space: nowrap }
.said { text-align: left; font-size: .85rem; width: 34% } th.said { font-size: inherit }
audio { height: 2rem; width: 15rem; max-width: 100%; vertical-align: middle }
.charts { display: grid; gap: 1.5rem; align-items: end;
  grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)) }
.charts figure { margin: 0 } .charts figcaption { font-weight: 600; font-size: .9rem }
svg { display: block; width: 100%; max-width: 34rem; height: auto }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1.2rem }
dt { font-weight: 600 } dd { margin: 0; overflow-wrap: anywhere }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
@media (max-width: 44rem) {
  table, tbody, tr, td { display: block; width: auto }
  thead { display: none } td { overflow-wrap: anywhere }
  tr { border-bottom: 1px solid #ddd; padding: .5rem 0 }
  td, td:first-child, .said { display: flex; justify-content: flex-end; align-items: center;
    gap: .5rem; padding: .1rem 0; text-align: right; width: auto; white-space: nowrap }
  td:first-child { display: block; font-weight: 600; text-align: left; white-space: normal }
  td::before { content: attr(data-label); color: #666; flex: 1 1 0; text-align: left;
    white-space: normal }
  td:first-child::before { content: none }
  .said, .said[data-label] { display: block; text-align: left; white-space: normal }
  .said::before { margin-right: .6rem }
  small { display: inline; min-width: 7.5rem }
  audio { width: 12rem; flex: 0 1 12rem; min-width: 0 }
  dl { display: block } dd { margin: 0 0 .7rem }
}
"""
CAPTIONS = {
    MAIN: "",
    MORE: "Characters, quality, pitch, speed",
    OTHERS: "Other recognisers and verifiers",
}


def build(results: Results, measures: Sequence[Measure]) -> str:
    """The page as HTML."""
    rows, records, targets = results.rows, results.records, results.targets
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>knnvc evaluate</title><style>{STYLE}</style></head><body>",
        "<h1>Converted speech, measured</h1>",
        f"<p>{_counts(records)}. Below each value: its 95 % confidence interval, by bootstrap over "
        "source utterances. A dash: nothing to measure, or only itself to compare with.</p>",
        _html(demo_table(results.demos)) if results.demos else "",
        *(_results(rows, measures, part) for part in (MAIN, OTHERS, MORE)),
        _overlap(targets),
    ]
    if not results.demos and len(results.speakers) > 1:
        parts += [_html(speaker_table(results.speakers, "ends")), _html(target_table(rows))]
    parts += [
        charts(rows, measures),
        f"<h2>Listen</h2>\n{_players(records, targets)}",
        f"<h2>What the columns say</h2>{_list((one.title, one.about) for one in measures)}",
        f"<h2>How it was measured</h2>{_list(_facts(results).items())}",
        "</body></html>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


def _text(value: object) -> str:
    return html.escape(str(value))


def _counts(records: Sequence[Record]) -> str:
    counted = {
        "source recording": len({one.source for one in records}),
        "source speaker": len({one.speaker for one in records}),
        "target": len({one.target for one in records}),
    }
    return ", ".join(f"{n} {what}{'s' if n != 1 else ''}" for what, n in counted.items())


def _list(pairs: Iterable[tuple[str, str]]) -> str:
    inner = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in pairs)
    return f"<dl>{inner}</dl>"


def _facts(results: Results) -> dict[str, str]:
    facts = results.facts
    return {
        "preset": f"{facts['preset']}, {facts['preset_bytes'] / 1e6:.1f} MB",
        **{f"weights, {name}": f"sha256 {digest}" for name, digest in facts["weights"].items()},
        **facts["instruments"],
        "seed": str(facts["seed"]),
        "threads": str(facts["threads"]),
        "knnvc": str(facts["knnvc"]),
    }


def _overlap(targets: Sequence[TargetFacts]) -> str:
    shared = [target.name for target in targets if target.overlap]
    if not shared:
        return ""
    whose = "all targets" if len(shared) == len(targets) else ", ".join(shared)
    return (
        f"<p>The references of {_text(whose)} are also what conversions are compared with. Their "
        "similarities and equal error rates are a little too good.</p>"
    )


# Tables -------------------------------------------------------------------------------------------


def _results(rows: Sequence[Row], measures: Sequence[Measure], part: str) -> str:
    own = [measure for measure in measures if measure.part == part]
    if not own:
        return ""
    head = ["system", "n", *(measure.title for measure in own)]
    lines = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(_heading(group, len(head)))
        cells = [
            _text(row.name),
            f"{row.count}<small></small>",
            *(_cell(row, measure) for measure in own),
        ]
        lines.append(_line(head, cells))
    title = f"<h3>{CAPTIONS[part]}</h3>" if CAPTIONS[part] else ""
    return title + _table(head, lines)


def _cell(row: Row, measure: Measure) -> str:
    estimate = row.values[measure.key]
    if estimate is None:
        return f"{DASH}<small></small>"
    value, low, high = (
        f"{number:.{measure.digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    spread = row.deviation(measure.verifier) if measure.verifier else None
    beside = f"{low} to {high}" if low != high else ""
    beside += f", sd {spread:.1f}" if spread is not None and beside else ""
    return f"{value}<small>{beside}</small>"


def _html(table: Table) -> str:
    """A table of text; "value [low, high]" becomes a value with its interval below."""
    lines = []
    for cells in table.lines:
        if len(cells) == 1:
            lines.append(_heading(cells[0], len(table.head)))
            continue
        filled = [_text(cells[0])]
        for one in cells[1:]:
            value, _, interval = one.partition(" [")
            ends = interval.rstrip("]").replace(", ", " to ")
            filled.append(_text(value) + (f"<small>{_text(ends)}</small>" if ends else ""))
        lines.append(_line(table.head, filled))
    return f"<h2>{_text(table.title)}</h2>\n{_table(table.head, lines)}"


def _table(head: Sequence[str], lines: Sequence[str], last: str = "") -> str:
    """`last` is the class of the last column."""
    titles = "".join(f"<th>{_text(title)}</th>" for title in head[:-1])
    titles += f'<th class="{last}">{_text(head[-1])}</th>'
    inner = "\n".join(lines)
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead>\n'
        f"<tbody>{inner}</tbody></table></div>"
    )


def _line(head: Sequence[str], cells: Sequence[str], last: str = "") -> str:
    """A line of cells, each with its column's title for narrow screens; `last` is a class."""
    made = [
        f'<td data-label="{_text(title)}">{inner}</td>'
        for title, inner in zip(head, cells, strict=True)
    ]
    if last:
        made[-1] = made[-1].replace("<td", f'<td class="{last}"', 1)
    return f"<tr>{''.join(made)}</tr>"


def _heading(title: str, columns: int) -> str:
    return f'<tr class="group"><td colspan="{columns}">{_text(title)}</td></tr>'


# Players ------------------------------------------------------------------------------------------

HEARD = ["system", "listen", "WER %", "like target", "DistillMOS", "heard"]


def _players(records: Sequence[Record], targets: Sequence[TargetFacts]) -> str:
    """A fold for each target, with the target's own voice, and a table of what was made for it."""
    parts = []
    for number, target in enumerate(targets):
        own = [record for record in records if record.target == target.name]
        lines = []
        for source in dict.fromkeys(record.source for record in own):
            lines.append(_heading(source, len(HEARD)))
            lines += [_player_line(record) for record in own if record.source == source]
        opened = " open" if number == 0 else ""
        parts.append(
            f"<details{opened}><summary>to {_text(target.name)}</summary>"
            f"<p>{_text(target.name)}, a real recording: {_player(target.audio)}</p>"
            f"{_table(HEARD, lines, 'said')}</details>"
        )
    return "\n".join(parts)


def _player_line(record: Record) -> str:
    name = record.system
    if record.condition:
        _, *rest = record.condition.split(", ")
        name = ", ".join([name, f"{record.reference_seconds or 0:.0f} s", *rest])
    words = record.words
    counted = words.words and not record.self_compared
    wer = f"{100 * words.word_errors / words.words:.1f}" if counted else DASH
    title = "the source" if record.system == SOURCE else name
    cells = [_text(title), _player(record.audio), wer, f"{record.voice.target:.3f}"]
    return _line(HEARD, [*cells, f"{record.distillmos:.2f}", _text(words.heard)], "said")


def _player(audio: str) -> str:
    return f'<audio controls preload="none" src="{_text(quote(audio))}"></audio>'
