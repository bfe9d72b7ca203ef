"""Reading, preparing and writing waveforms.

Everywhere in this package a waveform is a float32 tensor `[T]` on the CPU: mono, T samples, full
scale at -1 and 1, `SAMPLE_RATE` unless a function says otherwise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile as sf
import torch
import torchaudio
from torch import Tensor

from knnvc.audio.ogg import fix_serial
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from knnvc.files import atomic_path, check_exists, native
from knnvc.files import find_audio as find_audio

SAMPLE_RATE = 16_000  # Hz, what every supported encoder was trained on
HOP = 320  # samples between frames at SAMPLE_RATE: 20 ms

MINIMUM_SECONDS = 0.025  # one window of the encoders: 400 samples
SILENT_PEAK = 1e-5  # -100 dBFS, less than the last bit of 16-bit audio

# Hz. Outside it a header is damaged, or following it would ask for absurd amounts of memory.
_LOWEST_RATE, _HIGHEST_RATE = 4_000, 768_000
_BLOCK_SAMPLES = 1 << 19  # samples of all channels together that are held at a time
_MOST_EXPECTED = 1 << 29  # samples to provide for on a header's word: 9 hours
_MOST_CHANNELS = 64  # of an array; more means that somebody passed another kind of matrix
_LARGEST_KERNEL = 1 << 22  # taps of one polyphase filter bank: 16 MB
_STRETCH_SECONDS = 300.0  # of loudness measured at a time
_LEAD_IN_SECONDS = 2.0  # in which the 38 Hz high-pass decays to less than float32 can tell

AudioInput: TypeAlias = Any
"""A NumPy array, tensor or sequence of samples, or a tuple of one of them and its rate in Hz."""

_WRITERS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def load_audio(path: Path | str, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Read a recording as a mono waveform.

    The format is told by the content; anything libsndfile reads will do. Channels are averaged and
    the rate is converted block by block, so memory is bounded by the result. A file that ends
    before its header says so gives what it holds.

    Args:
        path: An audio file of any sampling rate from 4 to 768 kHz and any number of channels.
        sample_rate: Hz of the result.

    Returns:
        `[T]`, finite, at least one sample; it may be silent (see `require_audio`).

    Raises:
        UsageError: There is no such file, or it is a folder.
        KnnvcError: The file is empty, not audio, damaged, without samples, or not finite.
    """
    path = Path(path)
    _check_readable(path)
    try:
        with sf.SoundFile(native(path)) as handle:
            _check_rate(handle.samplerate, str(path))
            expected = math.ceil(handle.frames * sample_rate / handle.samplerate)
            # What a header says is only where to begin; untouched memory costs nothing.
            waveform = torch.empty(min(max(expected, _BLOCK_SAMPLES), _MOST_EXPECTED))
            read = 0
            for piece in _resampled(_mono_blocks(handle), handle.samplerate, sample_rate):
                # NaN and infinity spread through the averaging and the filter to here.
                _check_finite(piece, str(path))
                if read + len(piece) > len(waveform):
                    grown = torch.empty(max(2 * len(waveform), read + len(piece)))
                    grown[:read] = waveform[:read]
                    waveform = grown
                waveform[read : read + len(piece)] = piece
                read += len(piece)
    except sf.LibsndfileError as error:
        what = str(error.error_string).strip().rstrip(".")
        raise KnnvcError(
            f"{path} is damaged or not audio that libsndfile reads ({what}); "
            "convert it to WAV or FLAC first."
        ) from error
    except TypeError as error:  # soundfile's answer to .raw, which has no header to read
        raise KnnvcError(f"{path} is headerless raw audio; convert it to WAV first.") from error
    if not read:
        raise KnnvcError(f"{path} holds no samples; record or export it again.")
    return waveform[:read]


def to_waveform(
    audio: AudioInput, sample_rate: int = SAMPLE_RATE, *, name: str = "the audio"
) -> Tensor:
    """Turn samples that a Python caller holds into a mono waveform.

    Args:
        audio: An array, tensor or sequence `[T]`, or two-dimensional with the channels on the
            shorter axis (both `[C, T]` and `[T, C]` are in use), or a tuple of that and its
            sampling rate in Hz. Floats have their full scale at 1; int8, int16, int32 and uint8
            are scaled from their own. Without a rate it is taken to be at `sample_rate`.
        sample_rate: Hz of the result.
        name: What error messages call it.

    Returns:
        `[T]`, a tensor of its own or a view of `audio`; do not write to it.

    Raises:
        UsageError: The shape, type or rate is none of these.
        KnnvcError: It holds no samples, or some that are not finite.
    """
    rate = sample_rate
    if isinstance(audio, tuple) and len(audio) == 2 and np.ndim(audio[1]) == 0:
        audio, rate = audio
    samples = _samples(audio, name)
    if not samples.numel():
        raise KnnvcError(f"{name} holds no samples; pass at least one.")
    if samples.ndim == 2:
        channels = min(samples.shape)
        if channels > _MOST_CHANNELS:
            raise UsageError(
                f"{name} has the shape {list(samples.shape)}, which is not channels and samples."
            )
        samples = samples.mean(dim=0 if samples.shape[0] == channels else 1)
    if samples.ndim != 1:
        raise UsageError(f"{name} has {samples.ndim} dimensions; pass samples [T] or [C, T].")
    waveform = resample(samples, rate, sample_rate)
    _check_finite(waveform, name)
    return waveform


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Convert the sampling rate: torchaudio's windowed sinc, in blocks that bound the memory.

    Equal to `torchaudio.functional.resample` on the whole waveform to 1e-6 of full scale. Two rates
    with a tiny common divisor (44,101 Hz, say) would need a filter bank of gigabytes there; those
    go through soxr instead.

    Args:
        waveform: `[T]`.
        from_rate: Hz of `waveform`, 4 to 768 kHz.
        to_rate: Hz of the result, in the same range.

    Returns:
        `[ceil(T * to_rate / from_rate)]`.

    Raises:
        UsageError: A rate is not a whole number in that range.
    """
    from_rate = _check_rate(from_rate, "the audio")
    to_rate = _check_rate(to_rate, "the result")
    if from_rate == to_rate:
        return waveform
    return torch.cat(list(_resampled(_split(waveform, _BLOCK_SAMPLES), from_rate, to_rate)))


def require_audio(
    waveform: Tensor,
    name: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    minimum_seconds: float = MINIMUM_SECONDS,
) -> Tensor:
    """Return `waveform [T]` if there is something in it to encode.

    Args:
        waveform: `[T]`.
        name: What error messages call it: the path, usually.
        sample_rate: Hz of `waveform`.
        minimum_seconds: The shortest that will do; by default one window of the encoders.

    Raises:
        KnnvcError: It is empty, shorter than `minimum_seconds`, or silent (peak below -100 dBFS).
    """
    if not len(waveform):
        raise KnnvcError(f"{name} holds no samples; record or export it again.")
    seconds = len(waveform) / sample_rate
    if seconds < minimum_seconds:
        raise KnnvcError(
            f"{name} is only {seconds * 1000:.3g} ms long; "
            f"use a recording of at least {minimum_seconds * 1000:g} ms."
        )
    if _peak(waveform) < SILENT_PEAK:
        raise KnnvcError(f"{name} is entirely silent; use a recording with speech in it.")
    return waveform


def trim_silence(
    waveform: Tensor, sample_rate: int = SAMPLE_RATE, trigger_level: float = 7.0
) -> Tensor:
    """Cut what precedes the first and follows the last speech, as published kNN-VC does.

    That is torchaudio's port of the SoX voice activity detector, run forwards and then on the
    reversed rest (https://github.com/bshall/knn-vc, `matcher.py`). An end at which it finds no
    speech at all, as in very short clips, is left alone; the published code would return nothing.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        trigger_level: The detector's threshold; 0 or less trims nothing.

    Returns:
        `[T']` with `0 < T' <= T` (empty only for an empty waveform).
    """
    if trigger_level <= 0:
        return waveform
    front = _trim_front(waveform, sample_rate, trigger_level)
    return _trim_front(front.flip(-1), sample_rate, trigger_level).flip(-1)


def normalize_loudness(
    waveform: Tensor,
    sample_rate: int = SAMPLE_RATE,
    target: float = -16.0,
    *,
    in_place: bool = False,
) -> Tensor:
    """Scale a waveform to an integrated loudness (ITU-R BS.1770-4), as published kNN-VC does.

    A clip shorter than one 0.4 s block of that standard is measured as if repeated to fill one.
    Audio without a loudness (silence, or everything under the -70 LUFS gate) stays as it is. Peaks
    may pass 1; `write_audio` sees to them.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        target: LUFS.
        in_place: Write the result over `waveform`, which for hours of audio spares a copy.

    Returns:
        `[T]`.
    """
    factor = loudness_gain(waveform, sample_rate, target)
    return waveform.mul_(factor) if in_place else waveform * factor


def loudness_gain(waveform: Tensor, sample_rate: int = SAMPLE_RATE, target: float = -16.0) -> float:
    """The factor that `normalize_loudness` scales by; 1 for audio without a loudness.

    Args:
        waveform: `[T]`.
        sample_rate: Hz of `waveform`.
        target: LUFS.
    """
    if not len(waveform):
        return 1.0
    block = round(0.4 * sample_rate)
    short = len(waveform) < block
    measured = waveform.repeat(math.ceil(block / len(waveform))) if short else waveform
    loudness = _loudness(measured, sample_rate)
    if not bool(torch.isfinite(loudness)):
        return 1.0
    return float(10 ** ((target - loudness) / 20))


def check_output(path: Path | str) -> Path:
    """Return `path` if its suffix names a format that `write_audio` writes.

    Raises:
        UsageError: It does not; the message lists the suffixes.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"cannot write {path}: use a name that ends in {', '.join(_WRITERS)}.")
    return path


def _provoke(path: Path) -> None:
    """Write to a file that libsndfile could not write to: the system says why in an OSError."""
    with path.open("ab", buffering=0) as handle:
        handle.write(bytes(1 << 16))
        os.fsync(handle.fileno())


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
    waveform = waveform.detach().cpu().float()
    if not _is_finite(waveform):
        raise KnnvcError(f"cannot write {path}: the waveform holds samples that are not finite.")
    peak = _peak(waveform)
    scale = 1.0 / peak if peak > 1.0 else 1.0
    with atomic_path(path, force=force) as temporary:
        temporary.touch()  # OSError has the reason if this fails; libsndfile says only "System"
        try:
            with sf.SoundFile(
                native(temporary), "w", sample_rate, channels=1, format=name, subtype=subtype
            ) as handle:
                # libsndfile's Vorbis encoder keeps a whole write on the stack and overflows it.
                for block in _split(waveform, _BLOCK_SAMPLES // 8):
                    # clamp: the product can round to just over 1, which would wrap in 16 bits.
                    handle.write((block * scale).clamp(-1.0, 1.0).numpy())
            if name == "OGG":
                fix_serial(temporary)
        except (sf.LibsndfileError, AssertionError) as error:
            # soundfile asserts that all samples were written, which a full disk prevents.
            _provoke(temporary)
            reason = getattr(error, "error_string", "") or "not all samples could be written"
            raise KnnvcError(
                f"cannot write {path} at {sample_rate} Hz ({str(reason).strip().rstrip('.')}); "
                "check the free space, or choose another format or folder."
            ) from error
    return scale


def _check_readable(path: Path) -> None:
    check_exists(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name an audio file.")
    if path.is_file() and path.stat().st_size == 0:
        raise KnnvcError(f"{path} is an empty file; record or export it again.")
    if not os.access(path, os.R_OK):
        raise UsageError(f"cannot read {path}: permission denied; change its permissions.")


def _check_rate(rate: int, name: str) -> int:
    try:
        hertz = int(rate)
        valid = hertz == rate and _LOWEST_RATE <= hertz <= _HIGHEST_RATE
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise UsageError(
            f"{name} has a sampling rate of {rate} Hz; "
            f"use a whole number from {_LOWEST_RATE} to {_HIGHEST_RATE} Hz."
        )
    return hertz


def _is_finite(waveform: Tensor) -> bool:
    # In blocks: a mask of hours of audio would be hundreds of megabytes.
    return all(bool(torch.isfinite(block).all()) for block in _split(waveform, _BLOCK_SAMPLES))


def _peak(waveform: Tensor) -> float:
    if not len(waveform):
        return 0.0
    lowest, highest = torch.aminmax(waveform)
    return max(-float(lowest), float(highest))


def _check_finite(waveform: Tensor, name: str) -> None:
    if not _is_finite(waveform):
        raise KnnvcError(
            f"{name} holds samples that are not finite (NaN or infinity); export it again."
        )


def _samples(audio: AudioInput, name: str) -> Tensor:
    """Convert anything array-like to a float32 tensor with its full scale at 1, same shape."""
    try:
        samples = audio if isinstance(audio, Tensor) else torch.as_tensor(np.asarray(audio).copy())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} is not an array of samples but {type(audio).__name__}."
        ) from error
    samples = samples.detach().cpu()
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128.0) / 128.0
    if samples.dtype in (torch.int8, torch.int16, torch.int32):
        return samples.float() / float(-torch.iinfo(samples.dtype).min)
    raise UsageError(
        f"{name} has samples of type {samples.dtype}, whose full scale is unknown; "
        "pass floats between -1 and 1."
    )


def _mono_blocks(handle: Any) -> Iterator[Tensor]:
    """Read an open `SoundFile` from here on as the mean of its channels, `[T]` at a time."""
    frames = max(1, _BLOCK_SAMPLES // handle.channels)
    while len(block := handle.read(frames, dtype="float32", always_2d=True)):
        # float64 only for the sum: two full-scale float32 samples must not overflow to infinity.
        with np.errstate(invalid="ignore"):  # infinity minus infinity; reported by the caller
            mono = block.mean(axis=1, dtype=np.float64).astype(np.float32)
        yield torch.from_numpy(mono)


def _split(waveform: Tensor, samples: int) -> Iterator[Tensor]:
    return (waveform[at : at + samples] for at in range(0, len(waveform), samples))


def _resampled(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """Convert the rate of a waveform that comes in blocks."""
    if from_rate == to_rate:
        return iter(blocks)
    divisor = math.gcd(from_rate, to_rate)
    if (from_rate // divisor) * (to_rate // divisor) > _LARGEST_KERNEL:
        return _resampled_soxr(blocks, from_rate, to_rate)
    return _resampled_sinc(blocks, from_rate // divisor, to_rate // divisor)


def _resampled_sinc(blocks: Iterable[Tensor], orig: int, new: int) -> Iterator[Tensor]:
    """Resample by the reduced ratio `new / orig`.

    Every `orig` samples in are a unit that gives `new` samples out, by filters that do not depend
    on the unit's position. So any run of whole units resampled with enough real neighbours on both
    sides gives the same values as the whole waveform does.
    """
    # The module computes its filters once; in float32, as the function of the same name does.
    convert = torchaudio.transforms.Resample(orig, new, dtype=torch.float32)
    units = math.ceil(convert.width / orig) + 1
    context = units * orig
    pending = torch.zeros(context)  # the silence that the whole conversion pads with
    read = written = 0
    for block in blocks:
        read += len(block)
        pending = torch.cat([pending, block])
        ready = (len(pending) - 2 * context) // orig
        if ready > 0:
            piece = convert(pending[: ready * orig + 2 * context])
            yield piece[units * new : (units + ready) * new]
            pending = pending[ready * orig :]
            written += ready * new
    rest = math.ceil(read * new / orig) - written
    piece = convert(torch.cat([pending, torch.zeros(context)]))
    yield piece[units * new :][:rest]


def _resampled_soxr(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    import soxr  # only for odd rates, and librosa brings it

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    read = written = 0
    for block in blocks:
        read += len(block)
        piece = torch.from_numpy(stream.resample_chunk(block.numpy()))
        written += len(piece)
        yield piece
    rest = math.ceil(read * to_rate / from_rate) - written
    piece = torch.from_numpy(stream.resample_chunk(np.zeros(0, np.float32), last=True))[:rest]
    yield torch.nn.functional.pad(piece, (0, rest - len(piece)))


def _loudness(waveform: Tensor, sample_rate: int) -> Tensor:
    """Measure `[T]` in LUFS, a scalar tensor: `torchaudio.functional.loudness`, memory bounded.

    That function keeps some twenty copies of the waveform, gigabytes for an hour. Here the
    K-weighting runs over stretches with a lead-in long enough for its filters to forget their
    start; up to one stretch the result is the same to the bit.
    """
    gate = round(0.4 * sample_rate)
    step = round(gate * 0.25)
    blocks = (len(waveform) - gate) // step + 1
    lead = round(_LEAD_IN_SECONDS * sample_rate)
    stretch = max(1, round(_STRETCH_SECONDS * sample_rate) // step)
    pieces = []
    for first in range(0, blocks, stretch):
        start, end = first * step, (min(first + stretch, blocks) - 1) * step + gate
        if first + stretch >= blocks:
            end = len(waveform)
        before = max(0, start - lead)
        piece = waveform[None, before:end]
        piece = torchaudio.functional.treble_biquad(piece, sample_rate, 4.0, 1500.0, 0.5**0.5)
        piece = torchaudio.functional.highpass_biquad(piece, sample_rate, 38.0, 0.5)
        energy = torch.square(piece[0, start - before :]).unfold(-1, gate, step).mean(dim=-1)
        pieces.append(energy)
    energy = torch.cat(pieces)
    # BS.1770-4: the mean of the blocks over -70 LUFS, then of those within 10 LU of that mean.
    level = -0.691 + 10 * torch.log10(energy)
    loud = level > -70.0
    relative = -0.691 + 10 * torch.log10((loud * energy).sum() / loud.count_nonzero()) - 10
    loud &= level > relative
    return -0.691 + 10 * torch.log10((loud * energy).sum() / loud.count_nonzero())


def _trim_front(waveform: Tensor, sample_rate: int, trigger_level: float) -> Tensor:
    if not len(waveform):
        return waveform
    trimmed: Tensor = torchaudio.functional.vad(
        waveform, sample_rate=sample_rate, trigger_level=trigger_level
    )
    return trimmed if len(trimmed) else waveform
