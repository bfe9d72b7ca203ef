"""Thousands of damaged files of every kind that knnvc reads, and a table of how it took them.

    python benchmarks/fuzz.py --cases 20000
    python benchmarks/fuzz.py --each 300 --kinds wav srt
    python benchmarks/fuzz.py --kinds "mini set" --case 1234   # one again, with its traceback

A case either works or is refused by one `KnnvcError` of one line. What else happens is a violation.
Case N of a kind is always the same. Processes with limits try the cases, on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz.runner import ALL, Tally, counts, kinds_of_problem, run, shared, table


def again(name: str, number: int) -> None:
    """Try one case in this process and show all of what it says."""
    from fuzz.worker import prepare

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["KNNVC_CACHE"] = str(scratch / "cache")
        kind = prepare(name, scratch)
        inside = scratch / "case"
        inside.mkdir()
        case = kind.make(Random(f"{name} {number}"), inside)
        kept = Path(tempfile.gettempdir()) / f"fuzz-{name}-{number}".replace(" ", "-")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(inside, kept, symlinks=True)
        print(f"the input: {kept}")
        kind.read(case)
        print("it was read")


def main() -> None:
    """Try cases and print the table; the exit status is 1 if there is a violation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="in all")
    parser.add_argument("--each", type=int, help="of each kind, instead; fewer of the slow ones")
    parser.add_argument("--kinds", nargs="+", choices=ALL, default=ALL, help="all by default")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, help="begin nothing after so long")
    parser.add_argument("--case", type=int, help="try only this one, and show its traceback")
    parser.add_argument("--out", type=Path, help="write violations here, as JSON lines")
    given = parser.parse_args()
    if given.case is not None:
        again(given.kinds[0], given.case)
        return
    cases = counts(given.each, given.kinds) if given.each else shared(given.cases, given.kinds)
    tallies = run(cases, given.workers, given.seed, given.seconds)
    print(table(tallies))
    sys.exit(report(tallies, given.out))


def report(tallies: dict[str, Tally], out: Path | None) -> int:
    """Print and write the violations; 1 if there are any."""
    found = 0
    for name, tally in tallies.items():
        for line in kinds_of_problem(tally):
            print(f"{name}: {line}")
        found += len(tally.violations)
    if out is not None:
        rows = ({"kind": name, **one} for name, t in tallies.items() for one in t.violations)
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    main()
