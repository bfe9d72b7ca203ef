"""Many cases in a few processes, and a table of how they went."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.kinds import KINDS, SLOWER

CHUNK = 50  # cases that a process is given at once
_PATIENCE = 120.0  # seconds without an answer after which a process hangs

Task = tuple[str, int, int]


@dataclass
class Tally:
    """How the cases of one kind went.

    Attributes:
        cases: tried.
        read: of them, those that were read; the others were refused.
        violations: how each went that breaks the contract.
        memory: the most that a case took, in bytes.
        cpu: the most that a case took, in seconds.
        slowest: which one that was.
    """

    cases: int = 0
    read: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    memory: int = 0
    cpu: float = 0.0
    slowest: int = 0

    def add(self, result: dict[str, Any]) -> None:
        """Count one case."""
        self.cases += 1
        self.read += result["outcome"] == "read"
        self.memory = max(self.memory, result["memory"])
        if result["cpu"] > self.cpu:
            self.cpu, self.slowest = result["cpu"], result["case"]
        if result["problems"]:
            self.violations.append(result)


class Process:
    """A worker, started when it is needed and again when a case ended it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: subprocess.Popen[bytes] | None = None
        self.begun = 0

    def results(self, task: Task) -> Iterator[dict[str, Any]]:
        """The results of a task; a case that ends the process is a violation of its own."""
        name, first, last = task
        while first < last:
            worker = self.running or self._start()
            assert worker.stdin is not None
            worker.stdin.write(f"{name}\t{first}\t{last}\n".encode())
            worker.stdin.flush()
            current = None
            for answer in self._answers(worker):
                if "begin" in answer:
                    current = answer["begin"]
                elif "done" in answer:
                    return
                elif "case" in answer:
                    yield answer
                    first = answer["case"] + 1
            status = self.stop()
            if current is None or current < first:
                raise RuntimeError(f"the kind {name!r} cannot be prepared (exit status {status})")
            yield _ended(current, status)
            first = current + 1

    def _start(self) -> subprocess.Popen[bytes]:
        scratch = tempfile.mkdtemp(dir=self.folder)
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        changed = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self.running = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr").open("ab"),
            env={**os.environ, **changed},
        )
        return self.running

    def _answers(self, worker: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
        assert worker.stdout is not None
        rest = b""
        while True:
            ready, _, _ = select.select([worker.stdout], [], [], _PATIENCE)
            data = os.read(worker.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from map(json.loads, lines)

    def stop(self) -> int:
        """End the worker; the result is its exit status."""
        if self.running is None:
            return 0
        worker, self.running = self.running, None
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            worker.kill()
        return worker.wait()


def _ended(case: int, status: int) -> dict[str, Any]:
    reasons = {
        -signal.SIGXCPU: "far more than 5 s of CPU",
        -signal.SIGKILL: "it hangs, or the system ended it for its memory",
    }
    reason = reasons.get(status, f"the process ended with status {status}")
    return {"case": case, "outcome": "ended", "cpu": 0.0, "memory": 0, "problems": [reason]}


def tasks(cases: dict[str, int], seed: int) -> list[Task]:
    """The cases of each kind in pieces; kinds take turns, so that a run that is cut has of all."""
    made = []
    for name, count in cases.items():
        for first in range(0, count, CHUNK):
            part = first / count
            made.append((part, (name, seed + first, seed + min(first + CHUNK, count))))
    return [task for _, task in sorted(made, key=lambda one: one[0])]


def run(
    cases: dict[str, int], workers: int = 2, seed: int = 0, seconds: float | None = None
) -> dict[str, Tally]:
    """Try cases of several kinds.

    Args:
        cases: how many of each kind.
        workers: processes.
        seed: number of the first case; case N of a kind is always the same.
        seconds: after which no further piece is begun.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks(cases, seed):
        waiting.put(task)
    tallies = {name: Tally() for name in cases}
    ends = time.monotonic() + (seconds if seconds is not None else 1e9)
    failed: list[BaseException] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        arguments = (Path(folder), waiting, tallies, ends, failed)
        threads = [threading.Thread(target=_work, args=arguments) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            said = (Path(folder) / "stderr").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{failed[0]}\n{said}")
    return tallies


def _work(
    folder: Path,
    waiting: queue.SimpleQueue[Task],
    tallies: dict[str, Tally],
    ends: float,
    failed: list[BaseException],
) -> None:
    process = Process(folder)
    try:
        while time.monotonic() < ends and not failed:
            task = waiting.get_nowait()
            for result in process.results(task):
                tallies[task[0]].add(result)
                if time.monotonic() > ends + 5:
                    break
    except queue.Empty:
        pass
    except Exception as error:
        failed.append(error)
    finally:
        if process.running is not None:
            process.running.kill()
        process.stop()


def counts(each: int, names: list[str]) -> dict[str, int]:
    """`each` cases of every kind; fewer of the slow ones."""
    return {name: max(1, each // SLOWER.get(name, 1)) for name in names}


def shared(total: int, names: list[str]) -> dict[str, int]:
    """`total` cases in all; fewer of the slow kinds."""
    weight = sum(1 / SLOWER.get(name, 1) for name in names)
    return counts(-(-total * 1000 // int(1000 * weight)), names)


def table(tallies: dict[str, Tally]) -> str:
    """Kinds, cases, violations, peak memory and slowest case, in Markdown."""
    lines = [
        "| kind | cases | of them read | violations | most memory, MB | slowest, s of CPU |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, one in tallies.items():
        lines.append(
            f"| {name} | {one.cases:,} | {one.read:,} | {len(one.violations)} | "
            f"{one.memory / 1e6:.0f} | {one.cpu:.2f} (case {one.slowest}) |"
        )
    cases, bad = (sum(values) for values in zip(
        *((one.cases, len(one.violations)) for one in tallies.values()), strict=True
    ))  # fmt: skip
    read = sum(one.read for one in tallies.values())
    most, slowest = max(t.memory for t in tallies.values()), max(t.cpu for t in tallies.values())
    lines.append(
        f"| **all** | **{cases:,}** | {read:,} | **{bad}** | {most / 1e6:.0f} | {slowest:.2f} |"
    )
    return "\n".join(lines)


def kinds_of_problem(tally: Tally) -> list[str]:
    """The violations of a kind by what they have in common, most frequent first."""
    found: Counter[str] = Counter()
    example: dict[str, int] = {}
    for one in tally.violations:
        key = one["problems"][0].split(": ")[0][:100]
        found[key] += 1
        example.setdefault(key, one["case"])
    return [f"{count} × {key} (case {example[key]})" for key, count in found.most_common()]


ALL = list(KINDS)
