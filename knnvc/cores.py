"""How many processors this process may use: a container's quota may allow fewer than there are."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable(system: Path = Path("/")) -> int:
    """The processors that this process may use, at least 1.

    Args:
        system: the folder that holds `proc` and `sys`; tests give another.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not bind a process to processors
        count = os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _quotas(system))]))


def _quotas(system: Path) -> Iterator[float]:
    """What Linux's control groups, of this process and above it, allow in processors."""
    mounted = system / "sys/fs/cgroup"
    for line in _words(system / "proc/self/cgroup", "\n"):
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if not kinds:  # version 2
            for folder in _upwards(mounted, path):
                yield from _ratio(_words(folder / "cpu.max"))
        elif "cpu" in kinds.split(","):  # version 1
            for folder in _upwards(mounted / "cpu", path):
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _ratio([word for name in files for word in _words(folder / name)])


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """The folder of a group and those above it; in a container the path may not be there."""
    below = Path(path.lstrip("/"))
    return (mounted / one for one in (below, *below.parents))


def _ratio(words: list[str]) -> Iterator[float]:
    """Quota by period, both in microseconds; nothing for "max" or -1, which mean no limit."""
    if len(words) == 2 and words[0].isdigit() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _words(path: Path, between: str | None = None) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split(between)
    except (OSError, ValueError):
        return []
