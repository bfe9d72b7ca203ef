"""A process that tries cases: it reads "KIND<tab>FIRST<tab>LAST" lines, and writes JSON lines."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from fuzz.kinds import KINDS, Kind

SECONDS = 5.0  # of CPU for one case
BYTES = 2 << 30  # of memory for one case
LONGEST = 200  # characters of a message
_ROOM = 2  # seconds after which a case is ended
_PAGE = resource.getpagesize()


def problem_of(error: BaseException) -> str | None:
    """What breaks the contract about how a case ended; None if nothing does."""
    from knnvc.errors import KnnvcError

    if not isinstance(error, KnnvcError):
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "knnvc" in one.filename]
        where = ours[-1] if ours else last
        place = f"{Path(where.filename).name}:{where.lineno}"
        return f"{type(error).__name__} at {place}: {str(error)[:150]!r}"
    return unfit(str(error))


def unfit(message: str) -> str | None:
    """Why a message is not one line that a terminal shows; None if it is."""
    if not message.strip():
        return "an empty message"
    if len(message) > LONGEST:
        return f"a message of {len(message)} characters: {message[:80]!r}"
    odd = [sign for sign in message if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")]
    return f"a message with {odd[0]!r}: {message[:120]!r}" if odd else None


def try_case(kind: Kind, name: str, number: int, folder: Path) -> dict[str, Any]:
    """One case: what is wrong with how it went, and what it took."""
    from knnvc.errors import KnnvcWarning

    _unlimited()
    case = kind.make(Random(f"{name} {number}"), folder)
    before = _listing(folder)
    size = _memory_before()
    _limit()
    problems: list[str | None] = []
    began = time.process_time()
    outcome = "read"
    with warnings.catch_warnings(record=True) as warned, _quiet() as said:
        warnings.simplefilter("always")
        try:
            kind.read(case)
        except Exception as error:
            outcome = "refused"
            problems.append(problem_of(error))
    took, peak = time.process_time() - began, max(0, _peak() - size)
    for one in warned:
        foreign = not issubclass(one.category, KnnvcWarning)
        text = f"{one.category.__name__}: {str(one.message)[:150]!r}"
        problems.append(f"a warning, {text}" if foreign else unfit(str(one.message)))
    if said():
        problems.append(f"something is printed: {said()[:150]!r}")
    if left := sorted(_listing(folder) - before):
        problems.append(f"left over: {left}")
    if took > SECONDS:
        problems.append(f"{took:.1f} s of CPU")
    if peak > BYTES:
        problems.append(f"{peak / 1e9:.1f} GB of memory")
    found = [one for one in problems if one]
    return {"case": number, "outcome": outcome, "cpu": took, "memory": peak, "problems": found}


def _listing(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def _limit() -> None:
    """End the process, or refuse it memory, where a case takes far too much."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + SECONDS + _ROOM), hard))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    # Twice the bound: memory that is only set aside counts here, and is no harm.
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE + 2 * BYTES, hard))


def _unlimited() -> None:
    for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (hard, hard))


def _memory_before() -> int:
    """Bytes in use; the peak is counted from here on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Keep what is printed, by C libraries too; gives a function that returns it."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        text = ""
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield lambda: text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, old in zip((1, 2), kept, strict=True):
                os.dup2(old, stream)
                os.close(old)
            file.seek(0)
            text = file.read(2000).decode("utf-8", "replace").strip()


def prepare(name: str, scratch: Path) -> Kind:
    """A kind that has read a good input, so that no case pays for what is loaded once.

    Anything that is wrong with the good input is an error of the suite.
    """
    kind = KINDS[name](scratch)
    folder = scratch / "good"
    folder.mkdir()
    with _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind.read(kind.good(folder))
    shutil.rmtree(folder)
    return kind


def unmade(number: int, error: Exception) -> dict[str, Any]:
    """What is said of a case that the suite itself could not make."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    problem = f"the suite fails at {Path(last.filename).name}:{last.lineno}: {error!r:.150}"
    return {"case": number, "outcome": "unmade", "cpu": 0.0, "memory": 0, "problems": [problem]}


def serve(scratch: Path, answer: int) -> None:
    """Try what stdin asks for, until it ends."""
    kinds: dict[str, Kind] = {}
    tell = os.fdopen(answer, "w", buffering=1)
    for line in sys.stdin:
        name, first, last = line.rstrip("\n").split("\t")
        if name not in kinds:
            _unlimited()
            kinds[name] = prepare(name, scratch)
        for number in range(int(first), int(last)):
            tell.write(json.dumps({"begin": number}) + "\n")
            folder = scratch / "case"
            folder.mkdir()
            try:
                result = try_case(kinds[name], name, number, folder)
            except Exception as error:
                result = unmade(number, error)
            shutil.rmtree(folder)
            if result["memory"] > BYTES // 8:
                gc.collect()
            tell.write(json.dumps(result) + "\n")
        tell.write(json.dumps({"done": name}) + "\n")


def main() -> None:
    """Serve on stdin; what is printed by accident goes where stderr goes."""
    import torch

    torch.set_num_threads(1)
    answer = os.dup(1)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scratch = Path(sys.argv[1])  # whoever starts this removes it, however this ends
    os.environ["KNNVC_CACHE"] = str(scratch / "cache")
    os.chdir(scratch)
    serve(scratch, answer)


if __name__ == "__main__":
    main()
