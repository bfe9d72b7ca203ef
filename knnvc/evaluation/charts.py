"""The plots of the page: each measure a small chart of its own, so that they wrap."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from knnvc.evaluation.figures import (
    FAINT,
    INK,
    MARKERS,
    PALETTE,
    figure,
    literal,
    style,
    svg,
)
from knnvc.evaluation.plan import SWEEPS
from knnvc.evaluation.records import CONVERTED
from knnvc.evaluation.summary import Measure, Row

PLOTTED = {
    "wer_added": "word errors added (points)",
    "eer": "equal error rate (%)",
    "like_gain": "similarity gained",
    "distillmos": "DistillMOS (1 to 5)",
}
AXES = {"lam": "λ", "k": "neighbours k", "seconds": "reference speech (s)"}
WIDTH = 4.6  # inches, of a chart


def charts(rows: Sequence[Row], measures: Sequence[Measure]) -> str:
    """HTML of all charts: by swept setting, or by system if nothing was swept."""
    converted = [row for row in rows if row.system == CONVERTED]
    swept = [name for name in SWEEPS if len({row.settings.get(name) for row in converted}) > 1]
    plotted = [one for one in measures if one.key in PLOTTED]
    if not swept:
        return _section("Systems", plotted, partial(_systems, rows))
    return "\n".join(
        _section(f"By {AXES[name]}", plotted, partial(_sweep, converted, name)) for name in swept
    )


def _section(title: str, measures: Sequence[Measure], draw: Callable[[Measure], str]) -> str:
    made = "".join(
        f"<figure><figcaption>{html.escape(PLOTTED[one.key])}; {_arrow(one)}</figcaption>"
        f"{draw(one)}</figure>"
        for one in measures
    )
    return f'<h2>{html.escape(title)}</h2>\n<div class="charts">{made}</div>'


def _sweep(converted: Sequence[Row], name: str, measure: Measure) -> str:
    """A line for each group and each choice of the other settings."""
    lines: dict[str, list[Row]] = {}
    swept = {key for key in SWEEPS if len({row.settings.get(key) for row in converted}) > 1}
    for row in converted:
        others = [f"{AXES[key]} {row.settings[key]:g}" for key in SWEEPS if key in swept - {name}]
        lines.setdefault(", ".join(filter(None, [row.group, *others])), []).append(row)
    with style():
        made = figure(WIDTH, 3.0 + 0.25 * (len(lines) if len(lines) > 1 else 0))
        panel = made.subplots()
        for number, (label, own) in enumerate(lines.items()):
            _draw_line(panel, number, label, sorted(own, key=lambda row: _at(row, name)), name,
                       measure)  # fmt: skip
        if name != "lam":
            ticks = sorted({_at(row, name) for row in converted})
            panel.set_xscale("log")
            panel.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
            panel.minorticks_off()
        panel.set_xlabel(AXES[name])
        if len(lines) > 1:
            made.legend(loc="outside lower center", ncols=1, frameon=False)
        return svg(made)


def _at(row: Row, name: str) -> float:
    """Where a row stands on the axis; seconds are the mean of those really used."""
    if name == "seconds" and row.reference_seconds is not None:
        return round(sum(row.reference_seconds) / 2, 1)
    return row.settings[name]


def _draw_line(
    panel: Any, number: int, label: str, rows: Sequence[Row], name: str, measure: Measure
) -> None:
    points = [(_at(row, name), row.values[measure.key]) for row in rows]
    found = [(at, estimate) for at, estimate in points if estimate is not None]
    panel.errorbar(
        [at for at, _ in found],
        [estimate.value for _, estimate in found],
        yerr=[
            [max(0.0, e.value - e.low) for _, e in found],
            [max(0.0, e.high - e.value) for _, e in found],
        ],
        color=PALETTE[number % len(PALETTE)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        elinewidth=1,
        capsize=2,
        label=literal(label or CONVERTED),
    )


def _systems(rows: Sequence[Row], measure: Measure) -> str:
    """A dot and a confidence interval for each system."""
    groups = list(dict.fromkeys(row.group for row in rows))
    names = list(dict.fromkeys(row.name for row in rows))
    with style():
        legend = 0.25 * len(groups) if any(groups) else 0.0
        made = figure(WIDTH, 0.9 + 0.3 * len(names) + 0.12 * len(rows) + legend)
        panel = made.subplots()
        labelled = set()
        for row in rows:
            estimate, group = row.values[measure.key], groups.index(row.group)
            if estimate is None:
                continue
            y = names.index(row.name) + 0.6 * ((group + 0.5) / len(groups) - 0.5)
            look = {"color": PALETTE[group % len(PALETTE)]}
            panel.plot([estimate.low, estimate.high], [y, y], lw=1.5, **look)
            marker = MARKERS[group % len(MARKERS)]
            (dot,) = panel.plot(estimate.value, y, marker=marker, ls="", **look)
            if row.group and row.group not in labelled:
                dot.set_label(literal(row.group))
                labelled.add(row.group)
        if measure.key == "distillmos":
            panel.set_xlim(1, 5)
        else:
            panel.axvline(0, color=FAINT, lw=0.8, zorder=0)
        panel.set_yticks(range(len(names)), [literal(name) for name in names], color=INK)
        panel.set_ylim(len(names) - 0.5, -0.5)
        if labelled:
            made.legend(loc="outside lower center", ncols=1, frameon=False)
        return svg(made)


def _arrow(measure: Measure) -> str:
    return {1: "more is better", -1: "less is better", 0: ""}[measure.better]
