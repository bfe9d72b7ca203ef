"""The results as one web page: table, plots, and players for everything that was made.

The page needs no network and no script; the recordings lie beside it in `audio/`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from knnvc.evaluation.figures import FAINT, INK, MARKERS, PALETTE, figure, style, svg
from knnvc.evaluation.measure import CONVERTED, SOURCE, Record, TargetFacts
from knnvc.evaluation.plan import SWEEPS
from knnvc.evaluation.summary import COLUMNS, Measure, Row

PLOTTED = ("wer_added", "eer", "like_gain", "distillmos")
AXES = {"lam": "λ", "k": "neighbours k", "seconds": "reference speech (s)"}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap }
th { border-bottom: 2px solid #222; vertical-align: bottom }
td:first-child, th:first-child { text-align: left }
tr.group td { font-weight: 600; padding-top: 1rem; border-bottom: 1px solid #bbb }
tr:hover td { background: #f2f6fa }
small { color: #666; display: block }
.said { white-space: normal; max-width: 26rem; text-align: left; font-size: .8rem }
audio { height: 2rem; width: 15rem; vertical-align: middle }
svg { max-width: 100%; height: auto }
dt { font-weight: 600; float: left; clear: left; width: 9rem }
dd { margin: 0 0 .2rem 9.5rem }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
"""


def build(
    rows: Sequence[Row],
    records: Sequence[Record],
    targets: Sequence[TargetFacts],
    facts: Mapping[str, str],
) -> str:
    """The page as HTML; `facts` are shown in a list at its end."""
    about = "".join(
        f"<dt>{_text(measure.title)}</dt><dd>{_text(measure.about)}</dd>" for measure in COLUMNS
    )
    stated = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in facts.items())
    overlap = [target.name for target in targets if target.overlap]
    warning = (
        f"<p>For want of speech, some references of {_text(', '.join(overlap))} are compared with, "
        "too: their similarities and equal error rates are too good.</p>"
        if overlap
        else ""
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>knnvc evaluate</title><style>{STYLE}</style></head><body>\n"
        "<h1>Converted speech, measured</h1>\n"
        f"{_table(rows)}\n<p>Below each value: 95 % confidence interval, bootstrap over source "
        f"utterances.</p>{warning}\n{_plots(rows)}\n"
        f"<h2>Listen</h2>\n{_players(records, targets)}\n"
        f"<h2>What the columns say</h2><dl>{about}</dl>\n"
        f"<h2>How it was measured</h2><dl>{stated}</dl>\n</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(rows: Sequence[Row]) -> str:
    head = "".join(
        f'<th title="{_text(measure.about)}">{_text(measure.title)}</th>' for measure in COLUMNS
    )
    lines = [f"<tr><th>system</th><th>n</th>{head}</tr>"]
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(
                f'<tr class="group"><td colspan="{len(COLUMNS) + 2}">{_text(group)}</td></tr>'
            )
        cells = "".join(f"<td>{_cell(row, measure)}</td>" for measure in COLUMNS)
        lines.append(f"<tr><td>{_text(_name(row))}</td><td>{row.count}</td>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def _name(row: Row) -> str:
    return f"{row.system}, {row.condition}" if row.condition else row.system


def _cell(row: Row, measure: Measure) -> str:
    estimate = row.values[measure.key]
    if estimate is None:
        return "–"
    value, low, high = (
        f"{number:.{measure.digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    if measure.key == "eer" and row.eer_deviation is not None and len(row.eer_of_targets) > 1:
        value += f" (sd {row.eer_deviation:.1f})"
    return f"{value}<small>{low} … {high}</small>" if low != high else value


# Plots --------------------------------------------------------------------------------------------


def _plots(rows: Sequence[Row]) -> str:
    converted = [row for row in rows if row.system == CONVERTED]
    swept = [name for name in SWEEPS if len({row.settings.get(name) for row in converted}) > 1]
    figures = [("Systems", _systems(rows))] if not swept else []
    figures += [(f"By {AXES[name]}", _sweep(converted, name, rows)) for name in swept]
    return "".join(f"<h2>{_text(title)}</h2>\n{drawn}\n" for title, drawn in figures)


def _sweep(converted: Sequence[Row], name: str, rows: Sequence[Row]) -> str:
    """A panel for each measure, a line for each group and each choice of the other settings."""
    lines: dict[str, list[Row]] = {}
    swept = {key for key in SWEEPS if len({row.settings.get(key) for row in converted}) > 1}
    for row in converted:
        others = [f"{AXES[key]} {row.settings[key]:g}" for key in SWEEPS if key in swept - {name}]
        lines.setdefault(", ".join(filter(None, [row.group, *others])), []).append(row)
    with style():
        made = figure(11, 3.4)
        panels = made.subplots(1, len(PLOTTED))
        for panel, measure in zip(panels, _plotted(), strict=True):
            for number, (label, own) in enumerate(lines.items()):
                own = sorted(own, key=lambda row: row.settings[name])
                points = [(row.settings[name], row.values[measure.key]) for row in own]
                found = [(at, estimate) for at, estimate in points if estimate is not None]
                values = [estimate.value for _, estimate in found]
                panel.errorbar(
                    [at for at, _ in found],
                    values,
                    yerr=[
                        [max(0.0, e.value - e.low) for _, e in found],
                        [max(0.0, e.high - e.value) for _, e in found],
                    ],
                    color=PALETTE[number % len(PALETTE)],
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=5,
                    elinewidth=1,
                    capsize=2,
                    label=label or CONVERTED,
                )
            if name != "lam":
                ticks = sorted({row.settings[name] for row in converted})
                panel.set_xscale("log")
                panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                panel.minorticks_off()
            panel.set(title=f"{measure.title} {_arrow(measure)}", xlabel=AXES[name])
        if len(lines) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            made.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return svg(made)


def _systems(rows: Sequence[Row]) -> str:
    """A panel for each measure, with a dot and a confidence interval for each system."""
    groups = list(dict.fromkeys(row.group for row in rows))
    names = list(dict.fromkeys(_name(row) for row in rows))
    with style():
        made = figure(11, 1.3 + 0.3 * len(names) + 0.12 * len(rows))
        panels = made.subplots(1, len(PLOTTED), sharey=True)
        for panel, measure in zip(panels, _plotted(), strict=True):
            for row in rows:
                estimate, group = row.values[measure.key], groups.index(row.group)
                if estimate is None:
                    continue
                y = names.index(_name(row)) + 0.6 * ((group + 0.5) / len(groups) - 0.5)
                colour = PALETTE[group % len(PALETTE)]
                panel.plot([estimate.low, estimate.high], [y, y], color=colour, lw=1.5)
                marker = MARKERS[group % len(MARKERS)]
                (dot,) = panel.plot(estimate.value, y, color=colour, marker=marker, ls="")
                if panel is panels[0] and row.group:
                    dot.set_label(row.group)
            panel.set(title=f"{measure.title} {_arrow(measure)}")
            panel.axvline(0, color=FAINT, lw=0.8, zorder=0)
        panels[0].set_yticks(range(len(names)), names, color=INK)
        panels[0].invert_yaxis()
        handles, labels = panels[0].get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        if shown:
            made.legend(
                shown.values(), shown.keys(), loc="outside lower center", ncols=4, frameon=False
            )
        return svg(made)


def _plotted() -> Iterable[Measure]:
    return [next(one for one in COLUMNS if one.key == key) for key in PLOTTED]


def _arrow(measure: Measure) -> str:
    return {1: "(more is better)", -1: "(less is better)", 0: ""}[measure.better]


# Players ------------------------------------------------------------------------------------------


def _players(records: Sequence[Record], targets: Sequence[TargetFacts]) -> str:
    """A fold for each target, with the target's own voice, and a table of what was made for it."""
    parts = []
    for number, target in enumerate(targets):
        own = [record for record in records if record.target == target.name]
        lines = [
            "<tr><th>source</th><th>system</th><th>listen</th><th>WER %</th><th>like target</th>"
            "<th>DistillMOS</th><th>heard</th></tr>"
        ]
        for source in dict.fromkeys(record.source for record in own):
            lines.append(f'<tr class="group"><td colspan="7">{_text(source)}</td></tr>')
            lines += [_line(record) for record in own if record.source == source]
        opened = " open" if number == 0 else ""
        parts.append(
            f"<details{opened}><summary>to {_text(target.name)}</summary>"
            f"<p>{_text(target.name)}, a real recording: {_player(target.audio)}</p>"
            f"<table>{''.join(lines)}</table></details>"
        )
    return "\n".join(parts)


def _line(record: Record) -> str:
    name = f"{record.system}, {record.condition}" if record.condition else record.system
    wer = f"{100 * record.word_errors / record.words:.1f}" if record.words else "–"
    title = "the source" if record.system == SOURCE else name
    return (
        f"<tr><td></td><td>{_text(title)}</td><td>{_player(record.audio)}</td><td>{wer}</td>"
        f"<td>{record.like_target:.3f}</td><td>{record.distillmos:.2f}</td>"
        f'<td class="said">{_text(record.heard)}</td></tr>'
    )


def _player(audio: str) -> str:
    return f'<audio controls preload="none" src="{_text(quote(audio))}"></audio>'
