"""What plots share: colours that colour-blind people can tell apart, and writing files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from knnvc.extras import need
from knnvc.files import atomic_path

# Okabe and Ito, "Color universal design" (2008), without yellow and black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
INK, FAINT = "#222222", "#BBBBBB"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.edgecolor": INK,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "knnvc",  # the same figure gives the same file
}


def figure(width: float, height: float) -> Any:
    """A matplotlib figure of `width` x `height` inches that needs no display.

    Raises:
        UsageError: matplotlib is missing.
    """
    return need("matplotlib.figure").Figure((width, height))


def style() -> Any:
    """A context in which figures are made."""
    return need("matplotlib").rc_context(STYLE)


def literal(text: str) -> str:
    """`text` as matplotlib shall draw it: as it stands.

    Between two `$` it would read a formula, and a label that begins with "_" it would leave out.
    """
    shown = "".join(sign if sign.isprintable() else "?" for sign in text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def look_for(made: Any, text: str) -> None:
    """Say below a figure what to look for."""
    made.supxlabel(f"What to look for: {text}", fontsize=9, color="#555555")


def save_png(made: Any, path: Path, *, force: bool = True) -> Path:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path, force=force) as temporary:
        made.savefig(temporary, dpi=150, format="png")
    return path


def svg(made: Any) -> str:
    """A figure as an SVG element to put into a page."""
    with io.StringIO() as text:
        made.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
        drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
