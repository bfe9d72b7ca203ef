"""Recordings as waveforms: any format, all of it, and never silently less."""

from __future__ import annotations

import itertools
import mmap
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from knnvc.audio.channels import mono_blocks
from knnvc.audio.containers import examine
from knnvc.audio.decoding import (
    Block,
    DecodeError,
    NoSoundError,
    Notes,
    coded_blocks,
    plain_blocks,
)
from knnvc.audio.pieces import Pieces
from knnvc.audio.resampling import SAMPLE_RATE, check_rate, resampled
from knnvc.audio.samples import BLOCK_SAMPLES, check_finite
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import HEADERLESS, check_exists, os_reason, shown_path

_MOST_EXPECTED = 1 << 29  # samples to provide for on a header's word: 9 hours
_LEAST_LOSS = 0.25  # seconds that may be missing without a word: about a syllable
# Kinds that libsndfile is tried on first.
_EXACT = frozenset("wav aiff au flac ogg caf w64 other".split())


def load_audio(path: Path | str, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Read a recording, or the sound of a film, as a mono waveform.

    The format is told by the content: WAV, FLAC, Ogg and their like are read by libsndfile,
    everything else (MP3, M4A, AAC, WebM, MP4, MKV, WMA, AMR, ...) by FFmpeg. What the header says
    of the length is not believed: the samples that are there are read, and of files that were
    joined all. Channels are averaged unless they cancel (`knnvc.audio.channels`). Rate and channels
    are converted block by block, so memory is bounded by the result.

    Args:
        path: A file of any sampling rate from 4 to 768 kHz and any number of channels; it may be a
            pipe.
        sample_rate: Hz of the result.

    Returns:
        `[T]`, finite, at least one sample; it may be silent (see `require_audio`). Of n samples at
        r Hz that is `round(n * sample_rate / r)`.

    Warns:
        KnnvcWarning: A part is missing or could not be decoded; the rest is returned.

    Raises:
        UsageError: There is no such file, or it is a folder.
        KnnvcError: The file is empty, not audio, damaged, without samples, or not finite.
    """
    path = Path(path)
    if _check_readable(path):
        from knnvc.audio.streams import read_stream

        with path.open("rb") as pipe:
            return read_stream(pipe, sample_rate, name=shown_path(path))
    try:
        with path.open("rb") as file:
            return read_file(file, shown_path(path), sample_rate, stacklevel=3)
    except OSError as error:
        raise KnnvcError(f"cannot read {shown_path(path)}: {os_reason(error)}.") from error


def read_file(file: BinaryIO, name: str, sample_rate: int, *, stacklevel: int = 2) -> Tensor:
    """Read an open file as `load_audio` does.

    Args:
        file: A real file with something in it, opened for reading bytes.
        name: What messages call it.
        sample_rate: Hz of the result.
        stacklevel: Whose line a warning names, as in `warnings.warn`.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pieces = examine(content)
        size = len(content)
    first: DecodeError | None = None
    for decode in (plain_blocks, coded_blocks) if pieces.kind in _EXACT else (coded_blocks,):
        notes = Notes()
        last = decode is coded_blocks
        try:
            blocks = _pieces(file, pieces, notes, last)
            waveform = _collect(blocks, notes, name, sample_rate)
        except DecodeError as error:
            first = first or error
            if not last:
                continue
            # Of formats that it knows, libsndfile tells better what is wrong.
            raise _refusal(name, error if pieces.kind == "other" else first, pieces) from error
        if len(waveform) or pieces.kind != "other":
            break
    if not len(waveform):
        raise KnnvcError(f"{name} holds no samples; record or export it again.")
    if pieces.lost > _LEAST_LOSS:
        notes.lost += pieces.lost
        notes.reason = notes.reason or "pages are damaged or missing"
    missing = notes.missing or pieces.promised / size * notes.read
    if pieces.seconds:
        missing = pieces.seconds - notes.read
    _warn_of_losses(name, notes, missing, pieces, stacklevel + 1)
    return waveform


def _pieces(file: BinaryIO, pieces: Pieces, notes: Notes, last: bool) -> Iterator[Block]:
    """Decode the pieces of a file one after the other."""
    failed: DecodeError | None = None
    for parts in pieces.pieces:
        decode = coded_blocks if last else plain_blocks
        try:
            yield from decode(file, parts, notes)
        except DecodeError as error:
            if not last or len(pieces.pieces) == 1:
                raise
            failed = error
            size = sum(len(one) if isinstance(one, bytes) else one[1] - one[0] for one in parts)
            notes.lost += size / 16_000  # at 128 kbit/s; less is a header without sound
            notes.reason = str(error)
    if failed and not notes.read:
        raise failed


def _collect(blocks: Iterator[Block], notes: Notes, name: str, sample_rate: int) -> Tensor:
    """Mix, resample and join blocks of samples."""
    waveform, read = torch.empty(0), 0
    for (rate, channels), group in itertools.groupby(
        blocks, key=lambda block: (block[0], block[1].shape[1])
    ):
        check_rate(rate, name)
        mixed = mono_blocks((block for _, block in group), channels, rate)
        for piece in resampled(map(torch.from_numpy, mixed), rate, sample_rate):
            # NaN and infinity spread through the averaging and the filter to here.
            check_finite(piece, name)
            if read + len(piece) > len(waveform):
                # What a header says is only where to begin; untouched memory costs nothing.
                hint = min(notes.expected * sample_rate, _MOST_EXPECTED) if not read else 0
                grown = torch.empty(max(int(hint), 2 * read, read + len(piece), BLOCK_SAMPLES))
                grown[:read] = waveform[:read]
                waveform = grown
            waveform[read : read + len(piece)] = piece
            read += len(piece)
    return waveform[:read]


def _warn_of_losses(
    name: str, notes: Notes, missing: float, pieces: Pieces, stacklevel: int
) -> None:
    if notes.lost > max(_LEAST_LOSS, notes.read):
        raise KnnvcError(
            f"{name} is damaged: most of it cannot be decoded ({notes.reason}); export it again."
        )
    if notes.lost > _LEAST_LOSS and missing < 2 * notes.lost:
        message = f"about {notes.lost:.1f} s of {name} cannot be decoded ({notes.reason})"
    elif missing > _LEAST_LOSS:
        message = f"{name} is cut off: it ends {missing:.1f} s before its header says"
    elif notes.skipped > _LEAST_LOSS:
        message = (
            f"between the frames of {name} lie bytes that are no sound, where some may have been"
        )
    elif pieces.unread:
        message = f"{pieces.unread} bytes behind the end of {name} are no sound that can be read"
    elif pieces.stops:
        message = f"{name} ends in the middle of a frame: what came after it may be missing"
    else:
        return
    warnings.warn(f"{message}; the rest was read.", KnnvcWarning, stacklevel=stacklevel + 1)


def _refusal(name: str, error: DecodeError, pieces: Pieces) -> KnnvcError:
    if isinstance(error, NoSoundError):
        return KnnvcError(f"{name} holds {error}; use a recording with speech in it.")
    if Path(name).suffix.lower() in HEADERLESS:
        return KnnvcError(f"{name} is headerless raw audio; convert it to WAV first.")
    if pieces.before:
        return KnnvcError(
            f"{name} begins with {pieces.before} bytes that are no sound, in front of a recording; "
            "cut them off first."
        )
    return KnnvcError(
        f"{name} is damaged or not audio that libsndfile or FFmpeg reads ({error}); "
        "convert it to WAV or FLAC first."
    )


def _check_readable(path: Path) -> bool:
    """Refuse what cannot be read; the result says whether it is a pipe."""
    check_exists(path)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise UsageError(f"{shown_path(path)} is a folder; name an audio file.")
    if not os.access(path, os.R_OK):
        raise UsageError(
            f"cannot read {shown_path(path)}: permission denied; change its permissions."
        )
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    if not path.stat().st_size:
        raise KnnvcError(f"{shown_path(path)} is an empty file; record or export it again.")
    return False
