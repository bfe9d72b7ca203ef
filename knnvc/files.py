"""The cache folder, finding recordings, and writing files so that a failure leaves no half."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import unicodedata
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError

_READ_BYTES = 1 << 20
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode: control, format, surrogate, separators

# Errors of the operating system that have a cure we can name; others keep their own words.
_REASONS = {
    errno.ENOSPC: "the disk is full (no space left on device); choose another or free some space",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this system allows; choose another folder",
    errno.EACCES: "permission denied; choose a folder you can write to",
    errno.EPERM: "permission denied; choose a folder you can write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of that path is a file and not a folder; choose another path",
    errno.EEXIST: "a part of that path is a file and not a folder; choose another path",
    errno.EPIPE: "the program that reads it has ended",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}

AUDIO_OUTPUT = (".wav", ".flac", ".ogg", ".mp3")  # what `knnvc.audio.write_audio` writes
# What a folder of recordings may hold and `knnvc.audio.load_audio` reads: by libsndfile, or FFmpeg.
AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        "3g2 3ga 3gp 3gpp aac ac3 aif aifc aiff amr ape asf au avi avr awb caf dts eac3 ec3 f4a "
        "f4v flac flv iff ircam m2ts m4a m4b m4r m4v mka mkv mov mp1 mp2 mp3 mp4 mpa mpc mpeg "
        "mpg mts nist nut oga ogg ogm ogv ogx oma opus paf pvf qt ra rf64 rm rmvb sf shn snd sph "
        "spx svx tak ts tta vob voc w64 wav wave weba webm wma wmv wtv wv"
    ).split()
)
# Sound without a header to say what the bytes mean.
HEADERLESS = frozenset(
    f".{suffix}" for suffix in "al alaw gsm pcm raw sb sln sw ul ulaw vox".split()
)
# Sound, or what people take for it, that nothing here reads.
_UNREADABLE = {
    **dict.fromkeys(HEADERLESS, "headerless raw audio; convert it to WAV first"),
    **dict.fromkeys((".mid", ".midi", ".kar", ".rmi"), "MIDI, which holds notes and no sound"),
    **dict.fromkeys((".aa", ".aax", ".m4p"), "a protected file; convert it to WAV first"),
    ".safetensors": "a matching set or weights, which is named by itself",
}
# What lies beside recordings and is none: texts, tables, labels, pictures, programs, weights.
_OTHER = frozenset(
    f".{suffix}"
    for suffix in (
        "ass bmp cfg cha csv ctm cue db doc docx eaf gif gz h5 htm html ini ipynb jpeg jpg "
        "js json jsonl lab lock log lrc m3u m3u8 md mlf nfo npy npz odt onnx par pdf phn pkl pls "
        "png pt pth py rst rtf sfv sh srt stm svg tar tex textgrid tg tif tiff tmp "
        "toml trans trn tsv txt url vtt webp wrd xls xlsx xml yaml yml zip"
    ).split()
)
# The first bytes of recordings, whatever their name; ISO base media has them behind a length.
_MAGIC = (
    *(b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"#!AMR", b"wvpk"),
    *(b"\x1a\x45\xdf\xa3", bytes.fromhex("3026b2758e66cf11"), b"\xff\xfb", b"\xff\xf1"),
)


@dataclass(frozen=True)
class Skipped:
    """Something in a folder that was passed over.

    Attributes:
        path: What.
        reason: Why, as the end of a sentence: "is a link to nothing".
        broken: Whether it is a recording by its name, and only could not be read.
    """

    path: Path
    reason: str
    broken: bool = False


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        audio: Recordings, sorted.
        skipped: What may have been meant as one, sorted. Texts, pictures and the like are left out.
    """

    audio: tuple[Path, ...]
    skipped: tuple[Skipped, ...] = ()

    def warning(self) -> str | None:
        """One sentence that counts what was skipped and names the first three; None if nothing."""
        if not self.skipped:
            return None
        named = [f"{shown_path(one.path)} {one.reason}" for one in self.skipped[:3]]
        more = len(self.skipped) - len(named)
        what = "file was" if len(self.skipped) == 1 else "files were"
        rest = f", and {more} more" if more else ""
        return f"{len(self.skipped)} {what} skipped: {', '.join(named)}{rest}"


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
            raise KnnvcError(f"cannot write {shown_path(path)}: {os_reason(error)}.") from error
        raise


def cache_dir() -> Path:
    """Return the folder for downloads and pulled presets: $KNNVC_CACHE or the platform's cache."""
    chosen = os.environ.get("KNNVC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "knnvc"
    return _platform_dir("XDG_CACHE_HOME", Path.home() / ".cache")


def data_dir() -> Path:
    """Return the folder for what the user keeps, own voices say: the platform's data folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "knnvc"
    return _platform_dir("XDG_DATA_HOME", Path.home() / ".local" / "share")


def _platform_dir(variable: str, usual: Path) -> Path:
    """The folder on Windows, or where the XDG `variable` says."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "knnvc"
    return Path(os.environ.get(variable) or usual) / "knnvc"


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
        raise KnnvcError(
            f"cannot read {shown_path(path)}: {_read_reason(error)}; check the path."
        ) from error
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
    return f"'{text}" if _is_formula(text) else text


def csv_text(cell: str) -> str:
    """What `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet may take `text` for a formula; some pass over space before one."""
    if text.startswith(_FORMULA):
        return True
    seen = next((sign for sign in text if sign.isprintable() and not sign.isspace()), "")
    return seen in _FORMULA and not text.startswith(seen)


def find_audio(path: Path | str) -> list[Path]:
    """List the recordings a path stands for.

    Args:
        path: A file, which stands for itself whatever its name, or a folder (see `list_folder`).

    Returns:
        At least one path, sorted.

    Warns:
        KnnvcWarning: Something in the folder was skipped.

    Raises:
        UsageError: There is no such path, or the folder holds no audio.
        KnnvcError: The folder cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        check_exists(path)
        return [path]
    listing = list_folder(path)
    if (sentence := listing.warning()) is not None:
        warnings.warn(f"{sentence}.", KnnvcWarning, stacklevel=2)
    return list(listing.audio)


def list_folder(path: Path | str) -> Listing:
    """List the recordings in a folder, and what was skipped.

    The folder is searched recursively, linked folders included. A recording has one of
    `AUDIO_SUFFIXES`, or an unknown suffix and the first bytes of one. Hidden files and folders, and
    files of known other kinds, are left out.

    Args:
        path: A folder.

    Returns:
        At least one recording.

    Raises:
        UsageError: It holds none.
        KnnvcError: The folder, or the only recordings in it, cannot be read.
    """
    path = Path(path)
    audio: list[Path] = []
    skipped: list[Skipped] = []

    def note(error: OSError) -> None:
        if Path(error.filename) == path:
            raise KnnvcError(
                f"cannot read the folder {shown_path(path)}: {_read_reason(error)}; "
                "check its permissions."
            ) from error
        reason = f"cannot be read ({_read_reason(error)})"
        skipped.append(Skipped(Path(error.filename), reason))

    seen: set[str] = set()
    named: list[Path] = []  # folders that are called like a recording
    for folder, folders, names in os.walk(path, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back, or to what was listed already
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        named += [
            Path(folder, one) for one in folders if Path(one).suffix.lower() in AUDIO_SUFFIXES
        ]
        for name in names:
            if name.startswith("."):
                continue
            one = _judge(Path(folder, name))
            if isinstance(one, Skipped):
                skipped.append(one)
            elif one:
                audio.append(Path(folder, name))
    inside = {parent for one in audio for parent in one.parents}
    skipped += [Skipped(one, "is a folder") for one in named if one not in inside]
    listing = Listing(tuple(sorted(audio)), tuple(sorted(skipped, key=lambda one: one.path)))
    if not audio:
        sentence = listing.warning()
        # Recordings that are broken are no fault of the call.
        kind = KnnvcError if any(one.broken for one in skipped) else UsageError
        raise kind(
            f"{shown_path(path)} holds no audio files{f' ({sentence})' if sentence else ''}; "
            "put recordings such as .wav, .flac, .m4a or .mp3 there."
        )
    return listing


def _judge(path: Path) -> Skipped | bool:
    """Whether a file in a folder is a recording; what is wrong if it only looks like one."""
    suffix = path.suffix.lower()
    if suffix in _OTHER:
        return False
    named = suffix in AUDIO_SUFFIXES
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return Skipped(path, "is no ordinary file")
        if suffix in _UNREADABLE:
            return Skipped(path, f"is {_UNREADABLE[suffix]}")
        if not status.st_size:
            return Skipped(path, "is empty", broken=True) if named else False
        if named and os.access(path, os.R_OK):
            return True
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        if path.is_symlink() and not path.exists():
            return Skipped(path, "is a link to nothing", broken=named)
        return Skipped(path, f"cannot be read ({_read_reason(error)})", broken=named)
    if named or head.startswith(_MAGIC) or head[4:8] == b"ftyp":
        return True
    return Skipped(path, "is not known as audio")


def check_exists(path: Path) -> None:
    """Raise UsageError unless something is at `path`."""
    try:
        path.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"{shown_path(path)} does not exist; check the path.") from error
        raise UsageError(
            f"cannot read {shown_path(path)}: {_read_reason(error)}; check the path."
        ) from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{shown_path(path)} is not a path; check it.") from error


def shown_path(path: Path | str) -> str:
    """`path` as it may be printed: what a terminal could take for a command is written out.

    Control characters, line breaks and marks that turn the direction of writing become escapes
    such as `\\x1b`, bytes that are no UTF-8 become `\\xff`. Any other name stays as it is.
    """
    return "".join(map(_shown_character, str(path)))


def _shown_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    # Joiners are part of words and of emoji.
    if unicodedata.category(character) not in _UNSEEN or character in "\u200c\u200d":
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def os_reason(error: OSError) -> str:
    """Say why a write failed and what to do, without a full stop at the end."""
    return _REASONS.get(error.errno or 0) or _read_reason(error)


def _read_reason(error: OSError) -> str:
    """The operating system's own words, as part of a sentence."""
    words = str(error.strerror or "") or "the operating system refused"
    return words[:1].lower() + words[1:]


def _check_target(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{shown_path(path)} is a folder; name a file to write.")
    # lexists: a dangling link is somebody's link, too.
    if not force and os.path.lexists(path):
        raise UsageError(f"{shown_path(path)} already exists; pass --force to replace it.")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def told_apart(pairs: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Outputs of pairs of a source and an output; no two pairs differ in the source alone.

    Where "a.wav" and "a.mp4" would both become "a.wav", the second becomes "a.mp4.wav". Sources
    that have the same name, too, are left to the caller.
    """
    count = Counter(output for _, output in pairs)
    return [
        output.with_name(f"{output.stem}{source.suffix}{output.suffix}")
        if count[output] > 1 and source.suffix != output.suffix
        else output
        for source, output in pairs
    ]
