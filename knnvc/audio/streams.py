"""Sound through pipes: standard input and output, WAV or raw samples."""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.audio.channels import mono_blocks
from knnvc.audio.reading import read_file
from knnvc.audio.resampling import SAMPLE_RATE, resampled
from knnvc.audio.samples import BLOCK_SAMPLES, check_finite, split
from knnvc.audio.writing import writable
from knnvc.errors import KnnvcError
from knnvc.files import os_reason
from knnvc.sound_options import RawFormat

_COPIED = 1 << 20  # bytes at a time
_LONGEST = 0xFFFFFFFF  # what a 32-bit length can say; in WAV also "unknown"


def read_stream(
    file: BinaryIO,
    sample_rate: int = SAMPLE_RATE,
    *,
    raw: RawFormat | None = None,
    name: str = "standard input",
) -> Tensor:
    """Read a recording that comes through a pipe, to its end.

    Args:
        file: Open for reading bytes, such as `sys.stdin.buffer`; it needs no `seek`.
        sample_rate: Hz of the result.
        raw: How its samples are stored; None for a format with a header, any that `load_audio`
            reads (WAV whose length is unknown, as FFmpeg and SoX pipe it, is one).
        name: What messages call it.

    Returns:
        `[T]`, as `load_audio` returns it.

    Raises:
        KnnvcError: It is empty, damaged, not audio or not finite, or cannot be read.
    """
    try:
        if raw is not None:
            return _read_raw(file, sample_rate, raw, name)
        # Of many formats the end is needed first; what does not fit into memory lies on disk.
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy, _COPIED)
            copy.flush()
            if not copy.tell():
                raise KnnvcError(f"{name} is empty; pipe a recording into it.")
            return read_file(copy, name, sample_rate, stacklevel=3)
    except OSError as error:
        raise KnnvcError(f"cannot read {name}: {os_reason(error)}.") from error


def write_stream(
    file: BinaryIO,
    waveform: Tensor,
    sample_rate: int,
    *,
    raw: RawFormat | None = None,
    name: str = "standard output",
) -> float:
    """Write a waveform into a pipe: 16-bit WAV, or raw samples.

    Args:
        file: Open for writing bytes, such as `sys.stdout.buffer`; it needs no `seek`.
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        raw: How to store its samples; the rate is converted to the one it names, and all channels
            are the same. None for WAV.
        name: What messages call it.

    Returns:
        The factor that the waveform was scaled by, as of `write_audio`.

    Raises:
        KnnvcError: Samples are not finite, or the reader has gone.
    """
    waveform, scale = writable(waveform, name)
    form = raw or RawFormat(sample_rate)
    try:
        if raw is None:
            file.write(_wav_header(len(waveform), sample_rate))
        for block in resampled(split(waveform), sample_rate, form.sample_rate):
            samples = (block * scale).clamp(-1.0, 1.0).numpy()
            file.write(_encode(np.repeat(samples, form.channels), form.encoding))
        file.flush()
    except OSError as error:
        # What Python still holds for it would fail once more at the end.
        with contextlib.suppress(OSError, ValueError):
            file.close()
        raise KnnvcError(f"cannot write to {name}: {os_reason(error)}.") from error
    return scale


def _read_raw(file: BinaryIO, sample_rate: int, raw: RawFormat, name: str) -> Tensor:
    blocks = _raw_blocks(file, raw)
    mixed = mono_blocks(blocks, raw.channels, raw.sample_rate)
    pieces = []
    for piece in resampled(map(torch.from_numpy, mixed), raw.sample_rate, sample_rate):
        check_finite(piece, name)
        pieces.append(piece)
    waveform = torch.cat(pieces)
    if not len(waveform):
        raise KnnvcError(f"{name} is empty; pipe a recording into it.")
    return waveform


def _raw_blocks(file: BinaryIO, raw: RawFormat) -> Iterator[npt.NDArray[np.float32]]:
    """Samples [T, C]; an incomplete one at the end is dropped."""
    width = int(raw.encoding[1:].rstrip("leb")) // 8 * raw.channels
    pending = b""
    while data := file.read(BLOCK_SAMPLES * width // raw.channels):
        pending += data
        whole = len(pending) // width * width
        if whole:
            yield _decode(pending[:whole], raw.encoding).reshape(-1, raw.channels)
            pending = pending[whole:]


def _decode(data: bytes, encoding: str) -> npt.NDArray[np.float32]:
    """Raw bytes as samples [N] with full scale at 1."""
    kind, bits, order = encoding[0], int(encoding[1:].rstrip("leb")), encoding[-2:]
    sign = ">" if order == "be" else "<"
    if kind == "f":
        with np.errstate(over="ignore"):  # to infinity, which is refused later
            return np.frombuffer(data, f"{sign}f{bits // 8}").astype(np.float32)
    if bits == 24:
        three = np.frombuffer(data, np.uint8).reshape(-1, 3)
        four = np.zeros((len(three), 4), np.uint8)
        four[:, 1:] = three if sign == "<" else three[:, ::-1]
        return (four.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    values = np.frombuffer(data, f"{sign}{'u' if kind == 'u' else 'i'}{bits // 8}")
    offset = 128.0 if kind == "u" else 0.0
    return ((values - offset) / 2.0 ** (bits - 1)).astype(np.float32)


def _encode(samples: npt.NDArray[np.float32], encoding: str) -> bytes:
    """Samples [N] from -1 to 1 as raw bytes."""
    kind, bits, order = encoding[0], int(encoding[1:].rstrip("leb")), encoding[-2:]
    sign = ">" if order == "be" else "<"
    if kind == "f":
        return samples.astype(f"{sign}f{bits // 8}").tobytes()
    highest = 2.0 ** (bits - 1)
    values = np.clip(np.rint(samples.astype(np.float64) * highest), -highest, highest - 1)
    if bits == 24:
        four = values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
        return (four if sign == "<" else four[:, ::-1]).tobytes()
    offset = 128 if kind == "u" else 0
    return (values + offset).astype(f"{sign}{'u' if kind == 'u' else 'i'}{bits // 8}").tobytes()


def _wav_header(samples: int, sample_rate: int) -> bytes:
    """44 bytes in front of 16-bit samples of one channel."""
    size = min(2 * samples, _LONGEST)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", min(size + 36, _LONGEST), b"WAVE", b"fmt ", 16, 1, 1),
        *(sample_rate, 2 * sample_rate, 2, 16, b"data", size),
    )
