"""Files: atomic writes, whole or not at all, and where the cache is."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path

import pytest

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, cache_dir, sha256_file


def test_the_file_appears_only_when_the_block_is_done(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "voice.wav"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".wav"
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"speech")
        assert not path.exists()
    assert path.read_bytes() == b"speech"
    assert list(path.parent.iterdir()) == [path]


def fail_halfway(path: Path, failure: BaseException) -> None:
    """Write half a file, then fail."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        fail_halfway(tmp_path / "a" / "b" / "x.wav", failure)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "old.wav"
    path.write_bytes(b"previous")
    with pytest.raises(RuntimeError):
        fail_halfway(path, RuntimeError())
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_others_use_by_now_is_kept(tmp_path: Path) -> None:
    def write_beside() -> None:
        with atomic_path(tmp_path / "shared" / "x.wav"):
            (tmp_path / "shared" / "other.wav").write_bytes(b"of another job")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_beside()
    assert (tmp_path / "shared" / "other.wav").exists()


def test_replacing_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(b"previous")
    with (
        pytest.raises(UsageError, match="already exists; pass --force"),
        atomic_path(path, force=False),
    ):
        pytest.fail("the block must not run")
    with atomic_path(path, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"

    def race() -> None:
        with atomic_path(path, force=False) as temporary:
            temporary.write_bytes(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(UsageError, match="already exists"):
        race()
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_can_be_written_too(tmp_path: Path) -> None:
    target = tmp_path / "preset"

    def fail_in_folder() -> None:
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "preset.json").write_text("{")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_folder()
    assert list(tmp_path.iterdir()) == []
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "preset.json").write_text("{}")
    assert (target / "preset.json").read_text() == "{}"


def test_the_target_must_not_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"), atomic_path(tmp_path):
        pytest.fail("the block must not run")


def test_a_file_among_the_parents_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(KnnvcError, match="a part of that path is a file"),
        atomic_path(tmp_path / "file" / "voice.wav"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, os.strerror(errno.EIO).lower()),
    ],
)
def test_what_the_system_refuses_is_one_sentence(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "voice.wav"
    with pytest.raises(KnnvcError, match=words) as caught:
        fail_halfway(path, OSError(number, os.strerror(number)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    with pytest.raises(KnnvcError, match="cannot read"):
        sha256_file(tmp_path / "missing")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KNNVC_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "knnvc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "knnvc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "knnvc"
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
