"""The notebook runs from its first cell to its last, on the recordings that come along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_a_researchers_afternoon(tmp_path: Path) -> None:
    """All code cells, in order, in a fresh interpreter, in a folder of their own."""
    notebook = json.loads((EXAMPLES / "afternoon.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [one for one in notebook["cells"] if one["cell_type"] == "code"]
    assert all(not one["outputs"] and one["execution_count"] is None for one in cells)
    script = tmp_path / "afternoon.py"
    script.write_text("\n".join("".join(one["source"]) for one in cells), encoding="utf-8")
    (tmp_path / "audio").symlink_to(EXAMPLES / "audio")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / "afternoon"
    table = (made / "results/table.tex").read_text(encoding="utf-8")
    assert table in done.stdout
    assert table.count(r"\\") >= 5  # a head, the source, copy-synthesis, and both conversions
    assert "converted, 20 s" in table
    assert (made / "converted.wav").stat().st_size > 100_000
    assert (made / "frames.png").stat().st_size > 50_000
    rows = json.loads((made / "results/results.json").read_text(encoding="utf-8"))["rows"]
    assert [row["system"] for row in rows] == ["source", "copy-synthesis", *["converted"] * 2]
