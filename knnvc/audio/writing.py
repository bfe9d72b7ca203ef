"""Waveforms as files, whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import soundfile as sf
from torch import Tensor

from knnvc.audio.samples import BLOCK_SAMPLES, is_finite, peak, split
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, shown_path

_WRITERS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def check_output(path: Path | str) -> Path:
    """Return `path` if its suffix names a format that `write_audio` writes.

    Raises:
        UsageError: It does not; the message lists the suffixes.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(
            f"cannot write {shown_path(path)}: use a name that ends in {', '.join(_WRITERS)}."
        )
    return path


def write_audio(
    path: Path | str, waveform: Tensor, sample_rate: int, *, force: bool = True
) -> float:
    """Write a waveform, whole or not at all, in the format that the suffix names.

    WAV and FLAC are 16-bit. A waveform whose peak passes full scale is scaled down as a whole
    instead of clipped, so it is then quieter than what was asked for.

    Args:
        path: Ends in .wav, .flac, .ogg or .mp3.
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        force: Replace an existing file; False refuses to.

    Returns:
        The factor that the waveform was scaled by: 1.0, or less where it had peaks over 1.

    Raises:
        UsageError: Another suffix, a folder, or a file that exists while `force` is False.
        KnnvcError: Samples that are not finite, a rate that the format does not have, a disk that
            is full or not writable.
    """
    path = check_output(path)
    name, subtype = _WRITERS[path.suffix.lower()]
    waveform, scale = writable(waveform, shown_path(path))
    # libsndfile says of any failure "System error"; a file of Python's own keeps the reason.
    with atomic_path(path, force=force) as temporary, temporary.open("w+b") as file:
        _encode(_Sink(file), waveform, scale, sample_rate, name, subtype, path)
    return scale


def writable(waveform: Tensor, name: str) -> tuple[Tensor, float]:
    """`waveform [T]` on the CPU, and the factor that brings its peak to full scale if it is over.

    Raises:
        KnnvcError: Samples are not finite.
    """
    waveform = waveform.detach().cpu().float()
    if not is_finite(waveform):
        raise KnnvcError(f"cannot write {name}: the waveform holds samples that are not finite.")
    highest = peak(waveform)
    return waveform, 1.0 / highest if highest > 1.0 else 1.0


class _Sink:
    """A file to write to that remembers why it failed.

    libsndfile calls it back from C, where an exception would be printed and lost.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes; 0 of them if that fails."""
        if self.error is None:
            try:
                return self._file.write(bytes(data))
            except OSError as error:
                self.error = error
        return 0

    def read(self, count: int = -1) -> bytes:
        """Read bytes: soundfile asks for it, libsndfile's writers do not."""
        return self._file.read(count)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there, as in any file."""
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # it writes what it holds back
            self.error = self.error or error
            return self._file.tell()

    def tell(self) -> int:
        """Where writing goes on."""
        return self._file.tell()


def _encode(
    sink: _Sink,
    waveform: Tensor,
    scale: float,
    sample_rate: int,
    name: str,
    subtype: str,
    path: Path,
) -> None:
    try:
        with sf.SoundFile(
            sink, "w", sample_rate, channels=1, format=name, subtype=subtype
        ) as handle:
            # libsndfile's Vorbis encoder keeps a whole write on the stack and overflows it.
            for block in split(waveform, BLOCK_SAMPLES // 8):
                # clamp: the product can round to just over 1, which would wrap in 16 bits.
                handle.write((block * scale).clamp(-1.0, 1.0).numpy())
                if sink.error:
                    break
    except (sf.LibsndfileError, AssertionError) as error:
        # soundfile asserts that all samples were written, which a full disk prevents.
        if sink.error is None:
            reason = str(getattr(error, "error_string", "")).strip().rstrip(".")
            raise KnnvcError(
                f"cannot write {shown_path(path)} at {sample_rate} Hz "
                f"({reason or 'not all samples could be written'}); "
                "choose another format or rate."
            ) from error
    if sink.error is not None:
        raise sink.error
