"""Print the aims of the project and what was measured, as Markdown, from results.json.

python benchmarks/evaluation_data.py --out data/
knnvc evaluate data/report.csv -o results/ --sweep seconds=5,10,30,60,300
python benchmarks/table.py results/results.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Aim:
    """A line of the table; `better` is 1 if more is better, -1 if less is."""

    title: str
    key: str
    aim: float
    acceptable: float
    digits: int
    better: int
    system: str = "converted"

    def verdict(self, value: float) -> str:
        """How a value compares with the aims."""
        if self.better * (value - self.aim) >= 0:
            return "✓✓"
        return "✓" if self.better * (value - self.acceptable) >= 0 else "✗"


EER = Aim("EER (%), 50 = cannot be told from the target", "eer", 40, 20, 1, 1)
AIMS = (
    Aim("WER added (points)", "wer_added", 2, 10, 1, -1),
    EER,
    Aim("similarity gained", "like_gain", 0.30, 0.20, 3, 1),
    Aim("DistillMOS", "distillmos", 4.0, 3.0, 2, 1),
)
COPY = Aim("WER added by copy-synthesis (points)", "wer_added", 1, 3, 1, -1, "copy-synthesis")
SPEED = Aim("x real time, end to end", "speed", 30, 30, 1, 1)
MEGABYTES = Aim("size of the preset (MB)", "", 40, 40, 1, -1)


def cell(aim: Aim, row: Values) -> str:
    """Value, confidence interval and verdict; for the EER the deviation over targets, too."""
    found = row["values"][aim.key]
    if found is None:
        return "–"
    value, low, high = (f"{found[part]:.{aim.digits}f}" for part in ("value", "low", "high"))
    spread = f", sd {row['eer_deviation']:.1f}" if aim.key == "eer" else ""
    return f"{value} [{low}, {high}{spread}] {aim.verdict(found['value'])}"


def table(results: Values) -> list[str]:
    """Lines of Markdown: a part for each pair of groups, a column for each condition."""
    lines = [
        f"Preset {results['preset']}, seed {results['seed']}. In brackets: 95 % confidence "
        "interval; ✓✓ reaches the aim, ✓ is acceptable, ✗ is neither."
    ]
    rows: list[Values] = results["rows"]
    converted = [row for row in rows if row["system"] == "converted"]
    conditions = list(dict.fromkeys(row["condition"] for row in converted))
    for group in dict.fromkeys(row["group"] for row in rows):
        own = [row for row in rows if row["group"] == group]
        by_condition = {row["condition"]: row for row in own if row["system"] == "converted"}
        lines += head(group, conditions)
        for aim in (*AIMS, SPEED):
            found = [by_condition.get(condition) for condition in conditions]
            lines.append(line(aim, ["–" if row is None else cell(aim, row) for row in found]))
        copies = [cell(COPY, row) for row in own if row["system"] == COPY.system][:1]
        lines.append(line(COPY, copies + [""] * (len(conditions) - len(copies))))
    for kind in ("same language", "another language"):
        alike = [row for row in converted if kind in row["group"] and "person" not in row["group"]]
        lines += over_targets(kind, alike, conditions)
    size = results["preset_bytes"] / 1e6
    stated = f"Size of the preset: {size:.1f} MB {MEGABYTES.verdict(size)}. Speed was measured on "
    lines += ["", f"{stated}{results['computed_on']}, with the matching set at hand."]
    lines += ["", *(f"- {what}: {name}" for what, name in results["instruments"].items())]
    return lines


def over_targets(kind: str, rows: list[Values], conditions: list[str]) -> list[str]:
    """Mean over targets, each by the mean of its rows: an EER is a property of a target."""
    cells, names = [], dict[str, None]()
    for condition in conditions:
        rates: dict[str, list[float]] = {}
        for row in rows:
            if row["condition"] == condition:
                for target, rate in row["eer_of_targets"].items():
                    rates.setdefault(target, []).append(rate)
        names |= dict.fromkeys(rates)
        if not rates:
            cells.append("–")
            continue
        of_each = [mean(found) for found in rates.values()]
        value = mean(of_each)
        cells.append(f"{value:.1f} [sd {pstdev(of_each):.1f}] {EER.verdict(value)}")
    if not names:
        return []
    return [*head(f"{kind}, all sources → {', '.join(names)}", conditions), line(EER, cells)]


def head(title: str, conditions: list[str]) -> list[str]:
    """How a part of the table begins."""
    top = f"| {title} | aim | acceptable | {' | '.join(conditions)} |"
    return ["", top, "|---" * (3 + len(conditions)) + "|"]


def line(aim: Aim, cells: list[str]) -> str:
    """A row of Markdown."""
    sign = "≥" if aim.better > 0 else "≤"
    return f"| {aim.title} | {sign} {aim.aim:g} | {sign} {aim.acceptable:g} | {' | '.join(cells)} |"


def main() -> None:
    """Read results.json and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="results.json of knnvc evaluate, or its folder")
    path = parser.parse_args().results
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        parser.error(f"there is no {path}: run knnvc evaluate first")
    print("\n".join(table(json.loads(path.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
