"""Voice conversion, end to end: encode → convert → vocode.

T source frames, N frames of the target speaker, D, Dm and Ds feature columns (see
`knnvc.encoders.base.Columns`). A ladder of verbs: `VoiceConverter.convert` takes and returns
samples, `convert_file` goes from file to file, `knnvc.batch` from files to files; each is a thin
call of the one before. `speak` and `speak_file` do the same for text (`knnvc.speech`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.audio import (
    check_output,
    load_audio,
    loudness_gain,
    normalize_loudness,
    require_audio,
    write_audio,
)
from knnvc.audio.samples import like, mono_batch
from knnvc.converters.approximate import choose
from knnvc.converters.base import Converter
from knnvc.converters.matching_set import MatchingSet
from knnvc.encoders.base import Encoder
from knnvc.errors import KnnvcWarning, UsageError
from knnvc.frames import Frames
from knnvc.options import (
    DEFAULT_PRESET,
    LOUDNESS,
    ConvertOptions,
    LoadOptions,
    SpeakOptions,
    check_known,
)
from knnvc.presets.loading import Parts, load_parts
from knnvc.presets.search import find_preset
from knnvc.progress import Progress, stage
from knnvc.speech import Speaker
from knnvc.text.base import TextFrontEnd
from knnvc.vocoders.base import Vocoder
from knnvc.vocoders.classical import griffin_lim, world
from knnvc.voices.building import SetBuilder
from knnvc.voices.cache import SetCache
from knnvc.voices.references import References

Source: TypeAlias = Any
"""A path, samples [S] or a batch [B, S] with `sample_rate=`, or (samples, rate)."""
Voices: TypeAlias = MatchingSet | Iterable[tuple[MatchingSet, float]]
"""One matching set, or several with their shares."""
COPIES: dict[str, Callable[[Tensor, int], Tensor]] = {"world": world, "griffin-lim": griffin_lim}


class VoiceConverter:
    """Four parts: encoder, converter, vocoder, and for text a front end.

    Args:
        encoder: speech to features (`knnvc.encoders.base`).
        converter: features to frames of the target (`knnvc.converters.base`).
        vocoder: frames to a waveform (`knnvc.vocoders.base`); None only encodes and matches.
        front_end: text to features (`knnvc.text.base`); None cannot speak.
        speech_converter: that serves for text instead of `converter`.
        name: what messages and matching sets call this combination.

    Raises:
        KnnvcError: the vocoder reads other columns than the encoder gives, or another frame rate.
    """

    def __init__(
        self,
        encoder: Encoder,
        converter: Converter,
        vocoder: Vocoder | None = None,
        front_end: TextFrontEnd | None = None,
        *,
        speech_converter: Converter | None = None,
        name: str = "custom",
    ) -> None:
        make = None if front_end is None else lambda: front_end
        other = None if speech_converter is None else lambda: speech_converter
        self._take(Parts(encoder, converter, vocoder, name, make, other))

    def _take(self, parts: Parts) -> None:
        self._parts = parts
        self.name = parts.name
        self.encoder = parts.encoder
        self.converter = parts.converter
        self._targets: WeakKeyDictionary[MatchingSet, dict[tuple[str, int], Any]]
        self._targets = WeakKeyDictionary()

    @classmethod
    def from_preset(
        cls,
        name_or_folder: str | Path = DEFAULT_PRESET,
        device: str = "auto",
        *,
        chunk_seconds: float | None = None,
        precision: str = "float32",
    ) -> VoiceConverter:
        """Load a preset by name ("mini", "wavlm-large") or from a folder.

        Args:
            name_or_folder: see `knnvc preset list`.
            device: "auto" (a GPU if there is one), "cpu", "cuda" or "mps".
            chunk_seconds: longer audio is encoded in pieces of this length; None is the preset's
                own.
            precision: see `knnvc.options.LoadOptions`.

        Raises:
            UsageError: there is no such preset, device or precision, or the chunk is shorter than a
                frame.
            KnnvcError: the preset is damaged, its parts do not fit, or it is not downloaded yet.
        """
        LoadOptions(device=device, precision=precision, chunk=chunk_seconds)
        made = cls.__new__(cls)
        made._loaded = (name_or_folder, precision, chunk_seconds)
        made._take(load_parts(find_preset(name_or_folder), device, precision, chunk_seconds))
        return made

    _loaded: tuple[str | Path, str, float | None] | None = None

    def __repr__(self) -> str:
        """The parts and where they compute."""
        vocoder = self._parts.vocoder
        rate = "no vocoder" if vocoder is None else f"{vocoder.sample_rate} Hz"
        kind = type(self.converter).__name__
        return f"VoiceConverter({self.name!r}, {kind}, {rate}, {self.encoder.device})"

    def to(self, device: str | torch.device) -> VoiceConverter:
        """Move to a device, in place; the converter itself is returned.

        Raises:
            UsageError: the device is not there, or the parts were not loaded from a preset.
        """
        if self._loaded is None:
            raise UsageError("these parts were put together by hand: build them on the device")
        preset, precision, chunk = self._loaded
        self._take(load_parts(find_preset(preset), str(device), precision, chunk))
        self.__dict__.pop("speaker", None)
        return self

    @property
    def vocoder(self) -> Vocoder:
        """Frames to a waveform.

        Raises:
            UsageError: there is none.
        """
        if self._parts.vocoder is None:
            raise UsageError(
                f"preset {self.name!r} has no vocoder: it encodes and matches, but makes no sound"
            )
        return self._parts.vocoder

    @property
    def sample_rate(self) -> int:
        """Hz of the result."""
        return self.vocoder.sample_rate

    @property
    def k(self) -> int:
        """Neighbours averaged where the options say nothing; 1 for a converter without."""
        return int(getattr(self.converter.config, "k", 1))

    @property
    def sets(self) -> SetBuilder:
        """Makes matching sets for these parts."""
        return SetBuilder(self.encoder, self.converter, self.name)

    @cached_property
    def speaker(self) -> Speaker:
        """Speaks text by the same parts."""
        return Speaker(self._parts)

    # Samples to samples -----------------------------------------------------------------------

    def convert(
        self,
        src: Source,
        refs: References,
        options: ConvertOptions | None = None,
        progress: Progress | None = None,
        *,
        sample_rate: int | None = None,
        cache: SetCache | bool = True,
    ) -> tuple[Any, int]:
        """Say what `src` says in the voice of `refs`; the whole method in one place.

        Args:
            src: a path, or samples [S] or a batch [B, S].
            refs: see `matching_set`, or (refs, weight) pairs to blend voices.
            options: how; None is what the preset recommends.
            progress: see `knnvc.progress`.
            sample_rate: of samples in `src` and `refs`, in Hz.
            cache: see `matching_set`.

        Returns:
            The waveform, full scale at ±1, and its sample rate in Hz. A tensor gives a tensor, a
            batch a batch; anything else a float32 array [S].

        Raises:
            KnnvcError: an input cannot be used; the message says what to do about it.
        """
        options = options or ConvertOptions()
        signals = self._read(src, sample_rate)
        voices = self.voices(
            refs,
            trim=options.trim,
            k=options.k or self.k,
            sample_rate=sample_rate,
            progress=progress,
            cache=cache,
        )
        given = None if isinstance(src, str | Path) else src
        # Of hours of audio every stage takes hundreds of megabytes: let go of each.
        made = [self._converted(signals.pop(0), voices, options, progress) for _ in signals[:]]
        return like(made, given), self.sample_rate

    def _converted(
        self,
        waveform: Tensor,
        voices: list[tuple[MatchingSet, float]],
        options: ConvertOptions,
        progress: Progress | None,
    ) -> Tensor:
        """One signal [S] at the encoder's rate in the voices, [S'] at the vocoder's."""
        level = options.target_loudness
        if level == "source":
            level = _loudness(waveform, self.encoder.sample_rate)
        features = self.encoder.encode(waveform, self._encoding(waveform, progress))
        del waveform
        if options.seconds is not None:
            features = stretch(features, options.seconds, self.encoder)
        targets = self._prepared(voices, options.index, progress)
        frames = self.converter.convert(features, targets, options, progress)
        del features
        made = self.vocoder(frames, stage(progress, "vocoding", len(frames)))
        if level is not None:
            made = normalize_loudness(made, self.sample_rate, float(level), in_place=True)
        return made

    # Step by step -----------------------------------------------------------------------------

    def encode(
        self,
        src: Source,
        progress: Progress | None = None,
        *,
        sample_rate: int | None = None,
    ) -> Any:
        """Features of a path or samples.

        Args:
            src: a path, or samples [S] or a batch [B, S].
            progress: see `knnvc.progress`.
            sample_rate: of samples, in Hz.

        Returns:
            [T, D] float32, one frame every `encoder.hop` samples; of a batch [B, T, D]. An array
            gives an array, anything else a tensor.
        """
        signals = self._read(src, sample_rate, check=False)
        made = [self.encoder.encode(one, self._encoding(one, progress)) for one in signals]
        return _stacked(made, src)

    def matching_set(
        self,
        refs: References,
        *,
        trim: bool = True,
        speaker: str = "",
        licence: str = "",
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cache: SetCache | bool = True,
    ) -> MatchingSet:
        """Encode the recordings of one target speaker.

        Args:
            refs: folders (searched recursively, in sorted order), recordings, samples [S] or
                [B, S], ready voices ("voice:NAME"), saved matching sets of the same encoder, or
                several of these; all of it is one voice. A recording of a folder that cannot be
                used, damaged or silent say, is skipped with a `KnnvcWarning` as long as another
                one can.
            trim: cut silence off both ends of each recording, as published kNN-VC does.
            speaker: recorded in the set; by default the first folder's or file's name.
            licence: recorded in the set.
            sample_rate: of samples, in Hz.
            progress: see `knnvc.progress`.
            cache: whether recordings, if all of them are files, are looked up before they are
                encoded, and kept afterwards; the result is the same to the bit. A `SetCache` says
                where.

        Raises:
            UsageError: samples come without a rate, or have an ambiguous shape.
            KnnvcError: a recording given by its own path or as samples cannot be used, a folder has
                none that can, or a set comes from another encoder.
        """
        return self.sets.matching_set(
            refs,
            trim=trim,
            speaker=speaker,
            licence=licence,
            sample_rate=sample_rate,
            progress=progress,
            cache=_cache(cache),
        )

    def voices(
        self,
        refs: References,
        *,
        trim: bool = True,
        k: int | None = None,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cache: SetCache | bool = True,
    ) -> list[tuple[MatchingSet, float]]:
        """Matching sets with weights that sum to 1.

        A list of `(refs, weight)` pairs blends voices, each pair being one voice; anything else is
        a single voice. Samples in such a pair need their rate, `((samples, rate), weight)`.

        Args:
            refs: see `matching_set`.
            trim: see `matching_set`.
            k: the neighbours that each voice must have frames for.
            sample_rate: see `matching_set`.
            progress: see `knnvc.progress`.
            cache: see `matching_set`.

        Raises:
            UsageError: a weight is not positive.
            KnnvcError: as `matching_set`, or a voice has fewer than k frames.
        """
        return self.sets.voices(
            refs,
            trim=trim,
            k=k,
            sample_rate=sample_rate,
            progress=progress,
            cache=_cache(cache),
        )

    def match(
        self,
        features: Any,
        voices: Voices,
        k: int | None = None,
        lam: float | None = None,
        weighting: str | None = None,
        *,
        index: str = "auto",
        progress: Progress | None = None,
    ) -> Any:
        """Map features to frames of the target; `ConvertOptions` explains k, λ, weighting, index.

        Args:
            features: [T, D] as `encode` gives them, or a batch [B, T, D].
            voices: a matching set, or several with their shares.
            k: neighbours averaged.
            lam: λ.
            weighting: of the neighbours.
            index: how they are searched.
            progress: see `knnvc.progress`.

        Returns:
            `Frames`; of a batch a list of them.

        Raises:
            UsageError: `k` or `lam` is out of range, or there is no such index.
            KnnvcError: a set has fewer than k frames, or comes from another encoder.
        """
        options = ConvertOptions(lam=lam, k=k, weighting=weighting, index=index)
        targets = self._prepared(_weighted(voices), index, progress)
        given = torch.as_tensor(features)
        batch = given if given.ndim == 3 else given[None]
        made = [self.converter.convert(one, targets, options, progress) for one in batch]
        return made if given.ndim == 3 else made[0]

    def prepare(
        self, one: MatchingSet, index: str = "auto", progress: Progress | None = None
    ) -> str:
        """Build the index that `match` would search, or read it, and keep it for later.

        Returns:
            The kind of index: "flat" is not saved, as building it takes no time.
        """
        self._prepared([(one, 1.0)], index, progress)
        return choose(index, len(one.match))

    def vocode(self, frames: Any, progress: Progress | None = None) -> Any:
        """Turn frames into a waveform.

        Args:
            frames: `Frames` as `match` gives them, a list of them, or features [T, D] or [B, T, D]
                straight from `encode`, of which the synthesis columns are read (copy-synthesis).
            progress: see `knnvc.progress`.

        Returns:
            [T · hop] float32 at `sample_rate`, of several [B, S]. An array gives an array, anything
            else a tensor.
        """
        given = frames
        if not isinstance(frames, Frames) and not _are_frames(frames):
            values = torch.as_tensor(frames)
            batch = values if values.ndim == 3 else values[None]
            wide = batch.shape[-1] > self.vocoder.dim
            columns = self.encoder.columns.synth
            frames = [Frames(one[:, columns] if wide else one) for one in batch]
            single = values.ndim != 3
        else:
            single = isinstance(frames, Frames)
        listed: Sequence[Frames] = [frames] if isinstance(frames, Frames) else frames
        made = [self.vocoder(one, stage(progress, "vocoding", len(one))) for one in listed]
        joined = made[0] if single else torch.nn.utils.rnn.pad_sequence(made, batch_first=True)
        return joined.numpy() if isinstance(given, np.ndarray) else joined

    def _prepared(
        self,
        voices: Sequence[tuple[MatchingSet, float]],
        index: str,
        progress: Progress | None = None,
        converter: Converter | None = None,
    ) -> list[tuple[Any, float]]:
        """What the converter makes of each set, kept as long as the set is."""
        converter = converter or self.converter
        found = []
        for one, weight in voices:
            kept = self._targets.setdefault(one, {})
            key = (choose(index, len(one.match)), id(converter))
            if key not in kept:
                kept[key] = converter.prepare(one, index, progress)
            found.append((kept[key], weight))
        return found

    def _read(self, src: Source, sample_rate: int | None, *, check: bool = True) -> list[Tensor]:
        """The signals in `src`, each [S] at the encoder's rate."""
        rate = self.encoder.sample_rate
        if isinstance(src, str | Path):
            signals, name = [load_audio(src, rate)], str(src)
        else:
            signals, name = mono_batch(src, rate, sample_rate), "the source"
        if check:
            for one in signals:
                require_audio(one, name, sample_rate=rate)
        return signals

    def _encoding(
        self, waveform: Tensor, progress: Progress | None
    ) -> Callable[[int, int], None] | None:
        return stage(progress, "encoding", max(1, len(waveform) // self.encoder.hop))

    # Files and text ---------------------------------------------------------------------------

    def convert_file(
        self,
        src: Path | str,
        refs: References,
        output: Path | str,
        options: ConvertOptions | None = None,
        *,
        force: bool = False,
        progress: Progress | None = None,
        cache: SetCache | bool = True,
    ) -> Path:
        """`convert`, from file to file; the output appears whole or not at all.

        Raises:
            UsageError: the output exists and `force` is False, or its suffix is no audio format.
            KnnvcError: as `convert`.
        """
        output = _check_free(output, force)
        waveform, sample_rate = self.convert(src, refs, options, progress, cache=cache)
        return _write(output, torch.from_numpy(waveform), sample_rate, force)

    def speak(
        self,
        text: str,
        refs: References | None = None,
        options: SpeakOptions | None = None,
        progress: Progress | None = None,
        *,
        cache: SetCache | bool = True,
    ) -> tuple[Any, int]:
        """Say `text` in the voice of `refs`; None is the front end's own voice, for λ = 0.

        Returns:
            The waveform, float32 [S] with full scale at ±1, and its sample rate in Hz.

        Raises:
            KnnvcError: the text has nothing to say, the preset has no text front end, or a
                reference cannot be used; the message says what to do about it.
        """
        targets = self._speech_targets(refs, options or SpeakOptions(), progress, cache)
        waveform = self.speaker.speak(text, targets, options, progress)
        return waveform.numpy(), self.sample_rate

    def speak_file(
        self,
        text: str,
        refs: References | None,
        output: Path | str,
        options: SpeakOptions | None = None,
        *,
        force: bool = False,
        progress: Progress | None = None,
        cache: SetCache | bool = True,
    ) -> Path:
        """`speak`, into a file, in memory that does not grow with the text.

        Raises:
            UsageError: the output exists and `force` is False, or its suffix is no audio format.
            KnnvcError: as `speak`.
        """
        output = _check_free(output, force)
        targets = self._speech_targets(refs, options or SpeakOptions(), progress, cache)
        with self.speaker.spoken(text, targets, options, progress) as waveform:
            return _write(output, waveform, self.sample_rate, force)

    def _speech_targets(
        self,
        refs: References | None,
        options: SpeakOptions,
        progress: Progress | None,
        cache: SetCache | bool,
    ) -> list[tuple[Any, float]] | None:
        """What the speech converter needs of the references; None without any."""
        if refs is None:
            return None
        self.speaker.check(options)
        converter = self._parts.speech_converter
        k = options.k or int(getattr(converter.config, "k", 1))
        voices = self.voices(refs, trim=options.trim, k=k, progress=progress, cache=cache)
        return self._prepared(voices, options.index, progress, converter)


def stretch(features: Tensor, seconds: float, encoder: Encoder) -> Tensor:
    """Interpolate `features` [T, D] linearly to `seconds`, as kNN-VC's target duration does.

    Raises:
        UsageError: the duration is shorter than one frame.
    """
    frames = int(seconds * encoder.sample_rate) / encoder.hop
    if frames < 1:
        least = encoder.hop / encoder.sample_rate
        raise UsageError(f"the duration is {seconds!r} s: give at least one frame of {least:g} s")
    scale = frames / len(features)
    # T · (1 / T) can round to less than 1, of which nothing would be left.
    length: dict[str, Any] = {"scale_factor": scale} if scale * len(features) >= 1 else {"size": 1}
    scaled: Tensor = functional.interpolate(features.T[None], mode="linear", **length)
    return scaled[0].T


def convert(
    src: Source,
    refs: References,
    lam: float | None = None,
    *,
    preset: str | Path = DEFAULT_PRESET,
    device: str = "auto",
    sample_rate: int | None = None,
    **options: Any,
) -> tuple[Any, int]:
    """Say what `src` says in the voice of `refs`.

    Args:
        src: a recording's path, or samples [S] or [B, S].
        refs: a folder or list of recordings of the target speaker, a saved matching set, samples,
            or (refs, weight) pairs to blend voices.
        lam: λ; None is the preset's own, 1.0 (pure kNN-VC) for the presets that come with knnvc.
            0.7 mixes 30 % of the source's frames back in.
        preset: name or folder.
        device: "auto", "cpu", "cuda" or "mps".
        sample_rate: of samples, in Hz.
        **options: the other fields of `ConvertOptions`.

    Returns:
        The waveform and its sample rate in Hz, as of `VoiceConverter.convert`.

    Raises:
        KnnvcError: an input cannot be used; the message says what to do about it.
    """
    check_known(ConvertOptions, options)
    chosen = ConvertOptions(lam=lam, **options)
    converter = _cached_converter(str(preset), device)
    return converter.convert(src, refs, chosen, sample_rate=sample_rate)


def synthesize(
    text: str,
    refs: References | None,
    lam: float | None = 1.0,
    *,
    preset: str | Path = DEFAULT_PRESET,
    device: str = "auto",
    **options: Any,
) -> tuple[Any, int]:
    """Say `text` in the voice of `refs`.

    Args:
        text: one word or a book; it is spoken sentence by sentence.
        refs: as in `convert`; None for the front end's own voice, with `lam` 0.
        lam: λ; 1 is nothing but the target's frames, 0 the front end's own voice.
        preset: name or folder of a preset with a text front end.
        device: "auto", "cpu", "cuda" or "mps".
        **options: the other fields of `SpeakOptions`.

    Returns:
        The waveform, float32 [S], and its sample rate in Hz.

    Raises:
        KnnvcError: an input cannot be used; the message says what to do about it.
    """
    check_known(SpeakOptions, options)
    chosen = SpeakOptions(lam=lam, **options)
    return _cached_converter(str(preset), device).speak(text, refs, chosen)


@lru_cache(maxsize=2)
def _cached_converter(preset: str, device: str) -> VoiceConverter:
    """Loading takes longer than converting a short clip, so repeated calls share a converter."""
    return VoiceConverter.from_preset(preset, device)


def resynthesize(
    src: Path | str,
    output: Path | str,
    vocoder: VoiceConverter | str,
    *,
    loudness: float | str | bool = LOUDNESS,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Copy-synthesis from file to file: what a vocoder loses when nothing is converted.

    Args:
        src: a recording.
        output: where the result goes.
        vocoder: a converter, whose encoder and vocoder are used without matching; or "world" or
            "griffin-lim", which need no features.
        loudness: see `ConvertOptions`.
        force: overwrite `output`.
        progress: called with frames.

    Raises:
        KnnvcError: the recording cannot be used, or the output not written.
    """
    output = _check_free(output, force)
    rate = vocoder.encoder.sample_rate if isinstance(vocoder, VoiceConverter) else 16_000
    waveform = require_audio(load_audio(src, rate), str(src), sample_rate=rate)
    if isinstance(vocoder, VoiceConverter):
        given, rate = (waveform, rate), vocoder.sample_rate
        made: Tensor = vocoder.vocode(vocoder.encode(given, progress), progress)
    elif vocoder in COPIES:
        made = COPIES[vocoder](waveform, rate)
    else:
        raise UsageError(f"vocoder {vocoder!r} is unknown: use {', '.join(COPIES)}")
    level = ConvertOptions(loudness=loudness).target_loudness
    if level is not None:
        wanted = _loudness(waveform, 16_000) if level == "source" else float(level)
        made = normalize_loudness(made, rate, wanted)
    return _write(output, made, rate, force)


def _weighted(voices: Voices) -> list[tuple[MatchingSet, float]]:
    return [(voices, 1.0)] if isinstance(voices, MatchingSet) else list(voices)


def _cache(wanted: SetCache | bool) -> SetCache | None:
    return (SetCache() if wanted else None) if isinstance(wanted, bool) else wanted


def _are_frames(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, Frames) for one in value)


def _stacked(made: list[Tensor], src: Source) -> Any:
    """Results [T, D] of the signals in `src`, as it was given: a batch, an array."""
    if isinstance(src, tuple):
        src = src[0]
    joined = torch.stack(made) if getattr(src, "ndim", 1) == 2 else made[0]
    return joined.numpy() if isinstance(src, np.ndarray) else joined


def _loudness(waveform: Tensor, sample_rate: int) -> float:
    """Integrated loudness in LUFS."""
    return LOUDNESS - 20 * math.log10(loudness_gain(waveform, sample_rate, LOUDNESS))


def _check_free(output: Path | str, force: bool) -> Path:
    """The output's path, if its suffix is an audio format's and nothing is in the way."""
    output = check_output(output)
    if output.exists() and not force:
        raise UsageError(f"{output} exists; choose another output or overwrite it with --force")
    return output


def _write(output: Path, waveform: Tensor, sample_rate: int, force: bool) -> Path:
    scale = write_audio(output, waveform, sample_rate, force=force)
    if scale < 1.0:
        warnings.warn(
            f"{output} is {-20 * math.log10(scale):.1f} dB quieter than asked, so that its peaks "
            "are not clipped",
            KnnvcWarning,
            stacklevel=3,
        )
    return output
