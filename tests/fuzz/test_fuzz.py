"""Damaged files of every kind end in work done, or in one `KnnvcError` of one line.

Three hundred cases of each kind, the same every time. Slow kinds have fewer: of presets half, of
checkpoints and sets of mini a third, of presets of mini a tenth (`SLOWER` in kinds.py).
`python benchmarks/fuzz.py --cases 20000` tries more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KINDS = (
    "wav", "flac", "mp3", "srt", "vtt", "ssml", "markdown", "lexicon", "manifest", "cards", "set",
    "mini set", "preset", "mini preset", "wavlm", "hifigan", "glow",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it sets limits as Linux has them")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str]:
    """The violations of one run, and its table."""
    out = tmp_path_factory.mktemp("fuzz") / "violations.jsonl"
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--out", str(out)]
    done = subprocess.run([*command, "--each", "300"], capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert done.returncode == bool(found)
    return found, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_no_case_breaks_the_contract(kind: str, outcome: tuple[list[dict[str, Any]], str]) -> None:
    violations, table = outcome
    assert not [one for one in violations if one["kind"] == kind], table
    row = next(line for line in table.splitlines() if line.startswith(f"| {kind} |"))
    cases, read = (int(cell) for cell in row.split("|")[2:4])
    assert cases >= 30
    assert cases - read > 0  # some are refused


def test_the_suite_knows_what_breaks_the_contract() -> None:
    """A suite that finds nothing is to be trusted only if it finds what is planted."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from fuzz.worker import problem_of, unfit
    finally:
        sys.path.pop(0)
    from knnvc.errors import KnnvcError

    assert problem_of(KnnvcError("the file is damaged: get it again")) is None
    assert "ValueError" in str(problem_of(_raised(ValueError("bad"))))
    assert "201 characters" in str(unfit("x" * 201))
    assert "'\\n'" in str(unfit("two\nlines"))
    assert "'\\x1b'" in str(unfit("\x1b[31mred"))
    assert unfit("é…日本") is None


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except ValueError as caught:
        return caught


PLANTED = """
import warnings, sys
sys.path.insert(0, {tests!r})
from fuzz import runner, worker
from fuzz.kinds import KINDS, Kind, put
worker.BYTES = 64 << 20  # gigabytes take a busy machine longer than a case may
class Planted(Kind):
    def good(self, folder):
        return 0
    def make(self, rng, folder):
        self.folder, self.count = folder, getattr(self, "count", -1) + 1
        return self.count
    def read(self, case):
        if case == 1: warnings.warn("deprecated", DeprecationWarning)
        if case == 2: print("hello")
        if case == 3: put(self.folder, b"left.tmp", b"")
        if case == 4: self.kept = bytearray(96 << 20)
from pathlib import Path
import json, tempfile
scratch = Path(tempfile.mkdtemp())
kind = Planted(scratch)
for number in range(5):
    result = worker.try_case(kind, "planted", number, scratch)
    for path in scratch.iterdir(): path.unlink()
    kind.kept = None
    print(json.dumps(result["problems"]))
scratch.rmdir()
"""


def test_planted_violations_are_found() -> None:
    code = PLANTED.format(tests=str(ROOT / "tests"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fine, warned, printed, left, large = map(json.loads, done.stdout.splitlines())
    assert fine == []
    assert "DeprecationWarning" in warned[0]
    assert "hello" in printed[0]
    assert "left.tmp" in left[0]
    assert any("GB of memory" in one for one in large)
