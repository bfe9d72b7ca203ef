"""Tables of results: for a terminal, as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from knnvc.evaluation.demos import Compared
from knnvc.evaluation.statistics import Estimate
from knnvc.evaluation.summary import MORE, Measure, Row, SpeakerRow

DASH = "–"
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "λ": r"$\lambda$",
    "±": r"$\pm$",
    "×": r"$\times$",
}
FORMULA = "=+-@\t\r"  # a spreadsheet would compute a cell that begins so


@dataclass(frozen=True)
class Table:
    """A title, names of columns, and lines of cells; the first column is text, the others numbers.

    A line of one cell is a heading for those that follow.
    """

    title: str
    head: list[str]
    lines: list[list[str]]


def main_table(rows: Sequence[Row], measures: Sequence[Measure], intervals: str = "half") -> Table:
    """Every row with its measures.

    Args:
        rows: of `summarise`.
        measures: the columns.
        intervals: "half" writes half the width of the interval as "±", "ends" both its ends.
    """
    lines: list[list[str]] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append([group])
        cells = [cell(row.values[measure.key], measure.digits, intervals) for measure in measures]
        lines.append([row.name, str(row.count), *cells])
    return Table("", ["system", "n", *(measure.title for measure in measures)], lines)


def speaker_table(rows: Sequence[SpeakerRow], intervals: str = "half") -> Table:
    """Words lost by source speaker."""
    names = list(rows[0].wer) if rows else []
    lines = [
        [row.speaker, str(row.words), *(cell(row.wer[name], 1, intervals) for name in names)]
        for row in rows
    ]
    return Table("WER % by source speaker", ["speaker", "words", *names], lines)


def target_table(rows: Sequence[Row]) -> Table:
    """Equal error rates by target, of the first verifier; all groups' targets together."""
    shown = {row.name: row for row in rows if row.eer_of_targets}
    names = list(shown)
    rates: dict[str, dict[str, float]] = {}
    for name, row in shown.items():
        for target, rate in next(iter(row.eer_of_targets.values())).items():
            rates.setdefault(target, {})[name] = rate
    lines = [
        [target, *(f"{own[name]:.1f}" if name in own else DASH for name in names)]
        for target, own in rates.items()
    ]
    return Table("EER % by target", ["target", *names], lines)


def demo_table(rows: Sequence[Compared]) -> Table:
    """Published systems beside ours, on the same pairs."""
    lines = [
        [
            row.system,
            str(row.pairs),
            *(DASH if wer is None else f"{wer:.1f}" for wer in (row.wer, row.our_wer)),
            *(f"{value:.3f}" for value in (row.similarity, row.our_similarity)),
            *(f"{value:.2f}" for value in (row.distillmos, row.our_distillmos)),
        ]
        for row in rows
    ]
    head = ["system", "pairs"]
    for title in ("WER %", "like target", "DistillMOS"):
        head += [title, "ours"]
    return Table("Published systems, and ours on the same pairs", head, lines)


def cell(estimate: Estimate | None, digits: int, intervals: str) -> str:
    """A value with its interval; a dash where nothing was measured."""
    if estimate is None:
        return DASH
    value, low, high = (
        f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    if estimate.low == estimate.high:
        return value
    if intervals == "ends":
        return f"{value} [{low}, {high}]"
    return f"{value} ±{(estimate.high - estimate.low) / 2:.{digits}f}"


def text(table: Table) -> str:
    """For a terminal."""
    lines = [table.head, *table.lines]
    widths = [
        max(len(line[i]) for line in lines if len(line) > max(i, 1) or line is table.head)
        for i in range(len(table.head))
    ]
    written = [table.title] if table.title else []
    for line in lines:
        cells = [
            one.ljust(width) if i == 0 else one.rjust(width)
            for i, (one, width) in enumerate(zip(line, widths, strict=False))
        ]
        written.append("  ".join(cells).rstrip())
    return "\n".join(written) + "\n"


def markdown(table: Table) -> str:
    """GitHub's Markdown."""

    def line(cells: Sequence[str]) -> str:
        filled = [*cells, *[""] * (len(table.head) - len(cells))]
        return "| " + " | ".join(re.sub(r"([\\|*_<>`$])", r"\\\1", one) for one in filled) + " |"

    written = [f"**{table.title}**", ""] if table.title else []
    written += [line(table.head), "|---" + "|---:" * (len(table.head) - 1) + "|"]
    written += [line(cells) for cells in table.lines]
    return "\n".join(written) + "\n"


def latex(table: Table) -> str:
    """A tabular of the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        if len(cells) == 1:
            return rf"\multicolumn{{{len(table.head)}}}{{l}}{{{_latex(cells[0])}}} \\"
        return " & ".join(map(_latex, cells)) + r" \\"

    written = [f"% {_latex(table.title)}"] if table.title else []
    written += [rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}", r"\toprule"]
    written += [line(table.head), r"\midrule", *map(line, table.lines)]
    return "\n".join([*written, r"\bottomrule", r"\end{tabular}"]) + "\n"


def plain_csv(table: Table) -> str:
    """Comma-separated values as shown; `main_csv` has every number in a column of its own."""
    with io.StringIO() as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([_safe(name), *rest] for name, *rest in [table.head, *table.lines])
        return file.getvalue()


def main_csv(rows: Sequence[Row], measures: Sequence[Measure]) -> str:
    """A line for each row, and of each measure the value and both ends of its interval."""
    with io.StringIO() as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["group", "system", "condition", "reference_seconds_least", "reference_seconds_most"]
        ends = [f"{one.key}{end}" for one in measures for end in ("", "_low", "_high")]
        writer.writerow([*head, "n", *ends])
        for row in rows:
            span = row.reference_seconds or ("", "")
            names = [_safe(one) for one in (row.group, row.system, row.condition)]
            numbers: list[object] = []
            for measure in measures:
                found = row.values[measure.key]
                numbers += ["", "", ""] if found is None else [found.value, found.low, found.high]
            writer.writerow([*names, *span, row.count, *numbers])
        return file.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Table], str], str]] = {
    "text": ("", text, "half"),
    "csv": (".csv", plain_csv, "ends"),
    "markdown": (".md", markdown, "ends"),
    "latex": (".tex", latex, "ends"),
}
"""By name: suffix of the file, writer, and how intervals are written."""


def rendered(
    style: str,
    rows: Sequence[Row],
    measures: Sequence[Measure],
    speakers: Sequence[SpeakerRow],
    demos: Sequence[Compared],
) -> str:
    """All tables in one format; as CSV one only, of the systems or of the demos."""
    _, write, intervals = FORMATS[style]
    if style == "csv":
        return plain_csv(demo_table(demos)) if demos else main_csv(rows, measures)
    shown = [one for one in measures if one.part != MORE] if style == "text" else measures
    made = [demo_table(demos)] if demos else []
    made.append(main_table(rows, shown, intervals))
    if not demos and len(speakers) > 1:
        made += [speaker_table(speakers, intervals), target_table(rows)]
    return "\n".join(map(write, made))


def _latex(cell: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in cell)


def _safe(cell: str) -> str:
    """A text cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(tuple(FORMULA)) else cell
