"""Decoders: libsndfile for formats that it reads to the end, FFmpeg for everything else.

libsndfile takes the end of an MP3 from an estimate, and reads neither AAC nor films. FFmpeg's
decoders, as PyAV brings them, read on to the last byte; of a short Ogg Vorbis file they miss the
exact end, which libsndfile finds. Files are opened by Python, so that a name can hold any bytes,
and FFmpeg may open no other file or address, whatever a playlist in the file says.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile as sf

from knnvc.audio.joined import tag_length
from knnvc.audio.pieces import Part, View

Samples = npt.NDArray[np.float32]
Block = tuple[int, Samples]
"""A sampling rate in Hz, and samples [T, C] with full scale at 1."""

BLOCK_SAMPLES = 1 << 19  # of all channels together, decoded before they are passed on
_LEAST_LOSS = 0.1  # seconds that may fail to decode without a word: less than a syllable
_EXACT = ("mov", "matroska", "asf", "flac")  # whose headers say how long the sound is
# Formats that are nothing but frames, and the bytes of their longest: what a packet has more of is
# something else that lies between frames. Of AAC, FFmpeg leaves such bytes out itself.
_LONGEST_FRAME = {"mp3": 2881, "ac3": 3840, "eac3": 4096, "aac": 8192}
# Of these libsndfile knows the length.
_PLAIN = frozenset(
    "OGG WAV WAVEX RF64 W64 AIFF AU CAF FLAC SVX NIST VOC PAF AVR PVF IRCAM HTK SDS MAT4 MAT5 "
    "MPC2K XI SD2 WVE".split()
)
# Neither playlists nor formats that are told by a name alone.
_FORMATS = (
    "3g2,3gp,aac,ac3,ac4,act,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dsf,dss,dts,dtshd,dv,"
    "eac3,flac,flv,iff,ircam,latm,loas,m4a,matroska,mj2,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,"
    "nistsphere,nsv,nut,ogg,oma,qcp,qoa,rm,shn,sln,smjpeg,sox,spdif,tak,truehd,tta,ty,voc,w64,wav,"
    "wavarc,webm,wtv,wv,xwma"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none", "err_detect": "crccheck"}
_SCALES = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


class DecodeError(Exception):
    """The decoder cannot read this; the message is the reason, without a full stop."""


class NoSoundError(DecodeError):
    """The file is whole, and there is no sound in it; the message says what it is."""


@dataclass
class Notes:
    """What a decoder found out besides the samples, in seconds.

    Attributes:
        read: was decoded.
        lost: could not be decoded, about.
        missing: what headers name more than there is, of files whose headers do not estimate.
        expected: what there may be; a hint for reserving memory.
        reason: why something could not be decoded.
        skipped: bytes between frames that are none, and would be so long if they were.
    """

    read: float = 0.0
    lost: float = 0.0
    missing: float = 0.0
    expected: float = 0.0
    reason: str = ""
    skipped: float = 0.0


def plain_blocks(file: BinaryIO, parts: tuple[Part, ...], notes: Notes) -> Iterator[Block]:
    """Read one piece of a file by libsndfile.

    Raises:
        DecodeError: It does not know the format, does not read all of it, or the piece is damaged.
    """
    view = _opened(file, parts)
    # By its number, libsndfile sees no name, from whose suffix it would guess a format.
    whole = view is file and os.name != "nt"
    if whole:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    try:
        source = file.fileno() if whole else view
        with sf.SoundFile(source, closefd=False) as handle:
            if handle.format not in _PLAIN or handle.subtype.startswith("MPEG"):
                raise DecodeError(f"{handle.format} is read in part")
            notes.expected = handle.frames / max(1, handle.samplerate)
            frames = max(1, BLOCK_SAMPLES // handle.channels)
            count = 0
            while len(block := handle.read(frames, dtype="float32", always_2d=True)):
                count += len(block)
                yield handle.samplerate, block
            notes.read += count / handle.samplerate
            is_flac, promised = handle.format == "FLAC", handle.frames
    except (sf.LibsndfileError, OSError, TypeError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
        raise DecodeError(reason) from error
    if is_flac and (count < promised or flac_samples(file, parts) > count):
        raise DecodeError("the header of the FLAC file names another length")


def flac_samples(file: BinaryIO, parts: tuple[Part, ...]) -> int:
    """Samples of each channel that the frames of a FLAC file hold, whatever its header says."""
    import av

    try:
        with _container(file, parts) as container:
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            ticks = sum(packet.duration or 0 for packet in container.demux(stream))
            samples: int = round(ticks * stream.time_base * rate)
            return samples
    except (av.FFmpegError, IndexError, ValueError, OSError):
        return 0


def coded_blocks(file: BinaryIO, parts: tuple[Part, ...], notes: Notes) -> Iterator[Block]:
    """Read the sound of one piece of a file by FFmpeg: of several tracks, the default one.

    Encoder delay and padding are left out as far as the file marks them. The rate and the number
    of channels may change from block to block.

    Raises:
        DecodeError: FFmpeg does not know the format, or it holds no sound.
    """
    import av

    counted = _counted(file, parts)  # before FFmpeg reads: the position is shared
    try:
        container = _container(file, parts)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise DecodeError(_reason(error)) from error
    with container:
        stream = next((one for one in _tracks(container) if one.codec_context), None)
        if stream is None:
            raise NoSoundError("a film without sound" if container.streams.video else "no sound")
        seconds = _duration(container, stream)
        notes.expected = seconds
        began = notes.read
        try:
            yield from _gathered(_frames(container, stream, notes))
        except (av.FFmpegError, ValueError, OSError) as error:
            raise DecodeError(_reason(error)) from error
        missing = seconds - (notes.read - began)
        exact = container.format.name.startswith(_EXACT) or counted
        if exact and missing > _LEAST_LOSS:  # less is what encoders add at the ends
            notes.missing += missing


def _tracks(container: Any) -> list[Any]:
    """Sound tracks, the one that a player would choose first."""
    tracks = list(container.streams.audio)
    best = container.streams.best("audio") if tracks else None
    return sorted(tracks, key=lambda one: one is not best)


def _duration(container: Any, stream: Any) -> float:
    """How long the header says the sound is, in seconds; 0 if it does not."""
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    alone = len(container.streams) == 1 and container.duration
    return max(0.0, container.duration / 1e6) if alone else 0.0


def _counted(file: BinaryIO, parts: tuple[Part, ...]) -> bool:
    """Whether an MP3 begins with the header in which an encoder counts its frames."""
    view = _opened(file, parts)
    length = tag_length(view.read(10))
    view.seek(length)
    head = view.read(256)
    return head[:1] == b"\xff" and any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def _opened(file: BinaryIO, parts: tuple[Part, ...]) -> BinaryIO:
    """A piece as a file of its own; the file itself if that is all of it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return file if parts == ((0, size),) else io.BufferedReader(View(file, parts), 1 << 16)


def _container(file: BinaryIO, parts: tuple[Part, ...]) -> Any:
    import av

    # Names and comments in a file may be in any encoding, and are of no use here. PyAV 19 takes
    # any bytes and no longer has the argument.
    takes_any = int(av.__version__.split(".")[0]) >= 19
    encoding: dict[str, Any] = {} if takes_any else {"metadata_errors": "ignore"}
    return av.open(_Nameless(_opened(file, parts)), options=dict(_OPTIONS), **encoding)


class _Nameless:
    """A file to read whose name FFmpeg does not see: it would guess a format from the suffix."""

    def __init__(self, file: BinaryIO) -> None:
        self.read: Callable[[int], bytes] = file.read
        self.seek = file.seek
        self.tell = file.tell


def _frames(container: Any, stream: Any, notes: Notes) -> Iterator[Block]:
    """Decode packet by packet; one that cannot be decoded is counted and passed over."""
    import av

    good = bad = size = gaps = 0
    began = notes.read
    longest = _LONGEST_FRAME.get(container.format.name, 0)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, ValueError) as error:  # what follows cannot be found
            bad, notes.reason = bad + 1, _reason(error)
            break
        if packet is None or bad > 1000 + good:
            break
        if longest:
            gaps += max(0, packet.size - longest)
            size += min(packet.size, longest)
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            bad, notes.reason = bad + 1, _reason(error)
            continue
        for frame in frames:
            if frame.samples:
                notes.read += frame.samples / frame.sample_rate
                good += 1
                yield frame.sample_rate, _samples(frame)
    if container.format.name == "aac":
        gaps += max(0, container.size - size)
    if size:
        notes.skipped += gaps * (notes.read - began) / size
    if bad and good:
        notes.lost += bad * (notes.read - began) / good
    elif bad:
        raise DecodeError(notes.reason)


def _samples(frame: Any) -> Samples:
    """A decoded frame as [T, C] with full scale at 1."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    name = frame.format.name.removesuffix("p")
    if name in _SCALES:
        offset = 128 if name == "u8" else 0
        values = (values.astype(np.float64) - offset) / _SCALES[name]
    with np.errstate(over="ignore", invalid="ignore"):  # the caller reports it
        samples: Samples = values.astype(np.float32)
    return samples


def _gathered(blocks: Iterator[Block]) -> Iterator[Block]:
    """Join the short blocks of a decoder to long ones."""
    for (rate, channels), group in itertools.groupby(
        blocks, key=lambda one: (one[0], one[1].shape[1])
    ):
        pending: list[Samples] = []
        held = 0
        for _, block in group:
            pending.append(block)
            held += len(block)
            if held * channels >= BLOCK_SAMPLES:
                yield rate, np.concatenate(pending)
                pending, held = [], 0
        if pending:
            yield rate, np.concatenate(pending)


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return str(reason).strip().rstrip(".") or type(error).__name__
