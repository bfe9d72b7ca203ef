"""How many processors may be used, and what a command does with that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from knnvc.cores import usable

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CPU = "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, HERE),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, HERE),
        ({"sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": f"{HERE * 100_000} 100000"}, HERE),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, HERE),
        ({"sys/fs/cgroup/one/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/one/two/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/other/cpu.max": "50000 100000"}, HERE),
        ({f"{CPU}/cpu.cfs_quota_us": "-1", f"{CPU}/cpu.cfs_period_us": "100000"}, HERE),
        ({f"{CPU}/cpu.cfs_quota_us": "50000", f"{CPU}/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_quotas_of_containers_count(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    groups = {"proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/1\n0::/one/two\n"}
    for name, text in {**groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable(tmp_path) == expected


def told(**environment: str) -> str:
    """What OpenMP says of its settings when `knnvc doctor` has loaded torch."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP"))}
    done = subprocess.run(
        [sys.executable, "-m", "knnvc", "doctor"],
        capture_output=True,
        text=True,
        env={**kept, "OMP_DISPLAY_ENV": "TRUE", **environment},
    )
    return done.stderr


def test_waiting_threads_do_not_spin_unless_asked() -> None:
    """OMP_WAIT_POLICY reaches OpenMP, so it was set before torch was imported."""
    said = told()
    if "OMP_WAIT_POLICY" not in said:
        pytest.skip("this OpenMP does not tell")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in told(OMP_WAIT_POLICY="active")
