"""What the recipes fetch; the package managers themselves are not run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from knnvc.errors import KnnvcError
from recipe import downloads


def test_joined_parts_are_checked(tmp_path: Path) -> None:
    parts = [tmp_path / name for name in "ab"]
    for part in parts:
        part.write_bytes(part.name.encode())
    right = hashlib.sha256(b"ab").hexdigest()
    assert downloads.joined(parts, right, "the model") == b"ab"
    with pytest.raises(KnnvcError, match="the model has sha256"):
        downloads.joined(parts, "0" * 64, "the model")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-package-manager"], "no-such-package-manager is missing"),
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "failed: last"),
        (["false"], "failed: no message"),
    ],
)
def test_a_command_that_fails_is_one_sentence(
    command: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(KnnvcError, match=words):
        downloads.run(command, tmp_path)


def test_archives_that_are_there_are_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(downloads, "run", lambda command, _folder: commands.append(command))
    (tmp_path / "fortunes_1_all.deb").touch()
    downloads.from_debian(["fortunes"], tmp_path)
    assert commands == [["dpkg", "-x", "fortunes_1_all.deb", "."]]
