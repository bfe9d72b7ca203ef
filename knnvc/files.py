"""The cache folder, finding recordings, and writing files so that a failure leaves no half."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from knnvc.errors import KnnvcError, UsageError

_READ_BYTES = 1 << 20

# Errors of the operating system that have a cure we can name; others keep their own words.
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this system allows; choose another folder",
    errno.EACCES: "permission denied; choose a folder you can write to",
    errno.EPERM: "permission denied; choose a folder you can write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of that path is a file and not a folder; choose another path",
    errno.EEXIST: "a part of that path is a file and not a folder; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}

AUDIO_OUTPUT = (".wav", ".flac", ".ogg", ".mp3")  # what `knnvc.audio.write_audio` writes
# What libsndfile reads and a folder of recordings may hold; headerless formats are left out.
# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".avr", ".caf", ".flac", ".iff", ".mp3", ".nist", ".oga",
    ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sf", ".snd", ".sph", ".svx", ".voc", ".w64",
    ".wav", ".wave",
})
# fmt: on


@contextlib.contextmanager
def atomic_path(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block succeeds.

    The temporary name is hidden and keeps the suffix of `path`, from which audio writers tell the
    format. Nothing exists there yet: the block creates a file or a folder. Missing parent folders
    are created. After any failure, `KeyboardInterrupt` included, the temporary file and the
    folders created for it are gone and a previous file at `path` is untouched.

    Args:
        path: Where the finished file goes.
        force: Replace an existing file; False refuses to.

    Raises:
        UsageError: `path` is an existing folder, or exists and `force` is False.
        KnnvcError: The operating system refuses (permissions, full disk, ...).
    """
    path = Path(path)
    _check_target(path, force)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{path.suffix}")
    created: list[Path] = []
    try:
        for parent in reversed(path.parents):
            if not parent.is_dir():
                parent.mkdir()
                created.append(parent)
        yield temporary
        _check_target(path, force)  # it may have appeared while the block ran
        os.replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
            for parent in reversed(created):
                parent.rmdir()
        if isinstance(error, OSError):
            raise KnnvcError(f"cannot write {path}: {os_reason(error)}.") from error
        raise


def cache_dir() -> Path:
    """Return the folder for downloads and pulled presets: $KNNVC_CACHE or the platform's cache."""
    chosen = os.environ.get("KNNVC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "knnvc"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 lower-case hexadecimal digits.

    Raises:
        KnnvcError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as handle:
            while block := handle.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        reason = error.strerror or error
        raise KnnvcError(f"cannot read {path}: {reason}; check the path.") from error
    return digest.hexdigest()


def native(path: Path | str) -> str | bytes:
    """The name of a file for libraries in C: its bytes, which need not be UTF-8, but on Windows."""
    return str(path) if os.name == "nt" else os.fsencode(path)


# What a spreadsheet takes for the beginning of a formula, as do its full-width forms; and the sign
# that protects from it.
_FORMULA = tuple("=+-@\t\r\n'＝＋－＠")


def csv_cell(value: object) -> str:
    """What to write into a CSV file so that a spreadsheet shows a value and runs no part of it."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_text(cell: str) -> str:
    """What `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def find_audio(path: Path | str) -> list[Path]:
    """List the recordings a path stands for.

    Args:
        path: A file, which stands for itself whatever its name, or a folder, which is searched
            recursively for files with one of `AUDIO_SUFFIXES`; hidden files and folders and files
            of other kinds are passed over.

    Returns:
        At least one path, sorted.

    Raises:
        UsageError: There is no such path, or the folder holds no audio.
        KnnvcError: A folder cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        check_exists(path)
        return [path]

    def refuse(error: OSError) -> None:
        raise KnnvcError(
            f"cannot read the folder {error.filename}: {error.strerror}; check its permissions."
        ) from error

    found = []
    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    if not found:
        raise UsageError(
            f"{path} holds no audio files; put recordings such as .wav, .flac, .ogg or .mp3 there."
        )
    return sorted(found)


def check_exists(path: Path) -> None:
    """Raise UsageError unless something is at `path`."""
    try:
        path.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"{path} does not exist; check the path.") from error
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path.") from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{str(path)!r} is not a path; check it.") from error


def os_reason(error: OSError) -> str:
    """Say why a write failed and what to do, without a full stop at the end."""
    known = _REASONS.get(error.errno or 0)
    return known or str(error.strerror or error) or "the operating system refused"


def _check_target(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file to write.")
    # lexists: a dangling link is somebody's link, too.
    if not force and os.path.lexists(path):
        raise UsageError(f"{path} already exists; pass --force to replace it.")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
