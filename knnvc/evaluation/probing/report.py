"""Tables, plot and leaderboard of probing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from knnvc.evaluation.figures import FAINT, MARKERS, PALETTE, figure, literal, save_png, style
from knnvc.evaluation.probing.base import MIXTURE, LayerScore, Result
from knnvc.evaluation.probing.layers import is_layer, short
from knnvc.evaluation.tables import DASH, FORMATS, Table
from knnvc.files import atomic_path

JSON, PLOT, BOARD = "probes.json", "layers.png", "leaderboard"
COLUMNS = 3  # panels in a row
PER_CENT = ("accuracy", "EER", "error rate")


def heading(result: Result) -> str:
    """A task with its metric, and an arrow to the better side."""
    unit = " %" if result.metric in PER_CENT else ""
    return f"{result.task}, {result.metric}{unit} {'↑' if result.better > 0 else '↓'}"


def cell(score: LayerScore | None, result: Result, intervals: str = "half") -> str:
    """A score with its interval; a dash where there is none."""
    if score is None or score.score is None:
        return DASH
    one, scale, digits = score.score, *_scale(result)
    value = f"{scale * one.value:.{digits}f}"
    if intervals == "ends":
        return f"{value} [{scale * one.low:.{digits}f}, {scale * one.high:.{digits}f}]"
    return f"{value} ±{scale * (one.high - one.low) / 2:.{digits}f}"


def layer_table(encoder: str, results: Sequence[Result], intervals: str = "half") -> Table:
    """Layers × tasks of one encoder, with the learned mixture and chance."""
    own = [one for one in results if one.encoder == encoder]
    layers = list(dict.fromkeys(score.layer for one in own for score in one.scores))
    layers.sort(key=lambda name: (name == MIXTURE, not is_layer(name)))
    lines = []
    for layer in layers:
        scores = [next((s for s in one.scores if s.layer == layer), None) for one in own]
        dim = next(score.dim for score in scores if score is not None)
        cells = [cell(score, one, intervals) for score, one in zip(scores, own, strict=True)]
        lines.append([layer, str(dim), *cells])
    chances = [
        DASH if one.chance is None else f"{_scale(one)[0] * one.chance:.{_scale(one)[1]}f}"
        for one in own
    ]
    lines.append(["chance", "", *chances])
    return Table(encoder, ["vectors", "D", *map(heading, own)], lines)


def leaderboard(results: Sequence[Result], intervals: str = "half") -> Table:
    """Encoders × tasks: the learned mixture where there is one, else the best layer.

    The last column is the mean rank over tasks that all encoders have; encoders come in its order.
    """
    encoders = list(dict.fromkeys(one.encoder for one in results))
    tasks = list(dict.fromkeys(one.task for one in results))
    of = {(one.encoder, one.task): one for one in results}
    common = [task for task in tasks if all((name, task) in of for name in encoders)]
    ranks: dict[str, list[int]] = {name: [] for name in encoders}
    for task in common:
        values = {name: _value(of[name, task]) for name in encoders}
        order = sorted(encoders, key=lambda name: -values[name])
        for name in encoders:
            ranks[name].append(1 + order.index(name))
    mean = {name: float(np.mean(own)) if own else float("nan") for name, own in ranks.items()}
    lines = []
    for name in sorted(encoders, key=lambda name: (np.isnan(mean[name]), mean[name])):
        cells = []
        for task in tasks:
            one = of.get((name, task))
            if one is None:
                cells.append(DASH)
            elif one.mixture is not None:
                cells.append(cell(one.mixture, one, intervals))
            else:
                best = one.best
                where = f" ({short(best.layer)})" if best and len(one.scores) > 1 else ""
                cells.append(cell(best, one, intervals) + where)
        lines.append([name, *cells, DASH if np.isnan(mean[name]) else f"{mean[name]:.1f}"])
    heads = [heading(next(one for one in results if one.task == task)) for task in tasks]
    title = "Leaderboard: learned mixture of layers, or the best layer (named)"
    return Table(title, ["encoder", *heads, "mean rank"], lines)


def _value(result: Result) -> float:
    score = result.mixture or result.best
    if score is None or score.score is None:
        return -np.inf
    return result.better * score.score.value


def _scale(result: Result) -> tuple[float, int]:
    return (100.0, 1) if result.metric in PER_CENT else (1.0, 3)


def rendered(results: Sequence[Result], form: str) -> str:
    """The leaderboard and every encoder's layers × tasks."""
    _, write, intervals = FORMATS[form]
    tables = [layer_table(name, results, intervals)
              for name in dict.fromkeys(one.encoder for one in results)]  # fmt: skip
    if len(tables) > 1:
        tables.insert(0, leaderboard(results, intervals))
    return "\n".join(map(write, tables))


def write(results: Sequence[Result], folder: Path, form: str) -> str:
    """Write JSON, the plot and the table into `folder`; the table as text."""
    text = rendered(results, form)
    values = json.dumps([one.to_dict() for one in results], indent=1, ensure_ascii=False)
    _save(folder / JSON, values + "\n")
    save_png(layer_figure(results), folder / PLOT)
    suffix = FORMATS[form][0] or ".txt"
    _save(folder / f"{BOARD}{suffix}", text)
    return text


def layer_figure(results: Sequence[Result]) -> Any:
    """A panel for each task; numbered layers are joined, other vectors stand behind them."""
    tasks = list(dict.fromkeys(one.task for one in results))
    encoders = list(dict.fromkeys(one.encoder for one in results))
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    with style():
        made = figure(4.6 * columns + 0.4, 3.1 * rows + 0.5)
        panels = made.subplots(rows, columns, squeeze=False).ravel()
        for panel, task in zip(panels, tasks, strict=False):
            own = [one for one in results if one.task == task]
            panel.set_title(literal(heading(own[0])), loc="left", fontsize=10)
            _draw(panel, own, encoders)
        for panel in panels[len(tasks) :]:
            panel.set_visible(False)
        handles = [
            panels[0].plot([], [], color=_colour(n), marker=_marker(n), label=literal(name))[0]
            for n, name in enumerate(encoders)
        ]
        made.legend(
            handles=handles, loc="outside lower center", ncols=min(4, len(encoders)), frameon=False
        )
        return made


def _draw(panel: Any, own: Sequence[Result], encoders: Sequence[str]) -> None:
    names = list(dict.fromkeys(s.layer for one in own for s in one.scores if is_layer(s.layer)))
    names.sort(key=lambda name: int(short(name)))
    names += dict.fromkeys(s.layer for one in own for s in one.scores if not is_layer(s.layer))
    scale = _scale(own[0])[0]
    for one in own:
        number = encoders.index(one.encoder)
        known = [s for s in one.scores if s.score is not None]
        shift = 0.12 * (encoders.index(one.encoder) - (len(encoders) - 1) / 2)
        at = [names.index(s.layer) + shift for s in known]
        values = [scale * s.score.value for s in known if s.score]
        joined = [(x, y) for x, y, s in zip(at, values, known, strict=True) if is_layer(s.layer)]
        if joined:
            panel.plot(*zip(*joined, strict=True), color=_colour(number), lw=1.3)
        panel.vlines(
            at,
            [scale * s.score.low for s in known if s.score],
            [scale * s.score.high for s in known if s.score],
            color=_colour(number), lw=1.2,
        )  # fmt: skip
        panel.plot(at, values, ls="", marker=_marker(number), ms=4.5, color=_colour(number))
    chance = own[0].chance
    if chance is not None:
        panel.axhline(scale * chance, color=FAINT, ls="--", lw=1)
    sparse = len(names) > 14
    shown = [short(n) if not (sparse and is_layer(n) and int(short(n)) % 4) else "" for n in names]
    panel.set_xticks(range(len(names)), [literal(one) if one else "" for one in shown], fontsize=8)
    for label, name in zip(panel.get_xticklabels(), names, strict=True):
        if not is_layer(name):
            label.set(rotation=25, ha="right")


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _save(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
