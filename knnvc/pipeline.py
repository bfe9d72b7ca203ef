"""Voice conversion, end to end: encode → convert → vocode.

T source frames, N frames of the target speaker, D, Dm and Ds feature columns (see
`knnvc.encoders.base.Columns`). A ladder of verbs: `VoiceConverter.convert` takes and returns
samples, `convert_file` goes from file to file, `knnvc.batch` from files to files; each is a thin
call of the one before. `speak` and `speak_file` do the same for text (`knnvc.speech`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.audio import (
    check_output,
    load_audio,
    measure_loudness,
    normalize,
    normalize_loudness,
    require_audio,
    write_audio,
)
from knnvc.audio.batches import like
from knnvc.audio.joining import to_length
from knnvc.converters.matching_set import MatchingSet
from knnvc.encoders.base import Encoder
from knnvc.errors import UsageError
from knnvc.options import (
    DEFAULT_PRESET,
    LOUDNESS,
    ConvertOptions,
    LoadOptions,
    SpeakOptions,
    check_known,
)
from knnvc.presets.copying import COPIES, Copier
from knnvc.presets.loading import load_parts
from knnvc.presets.search import find_preset
from knnvc.progress import Progress, stage
from knnvc.steps import Source, Steps
from knnvc.voices.cache import SetCache
from knnvc.voices.references import References

PEAK = 10 ** (-1 / 20)  # −1 dBFS, what files may have


class VoiceConverter(Steps):
    """Four parts and the whole way: encode → convert → vocode. See `Steps` for the arguments."""

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
            level = measure_loudness(waveform, self.encoder.sample_rate)
        features = self.encoder.encode(waveform, self._encoding(waveform, progress))
        seconds = options.seconds or len(waveform) / self.encoder.sample_rate
        del waveform
        if options.seconds is not None:
            features = stretch(features, options.seconds, self.encoder)
        targets = self._prepared(voices, options.index, progress)
        frames = self.converter.convert(features, targets, options, progress)
        del features
        made = self.vocoder(frames, stage(progress, "vocoding", len(frames)))
        made = to_length(made, round(seconds * self.sample_rate))
        if level is not None and math.isfinite(level):
            made = normalize_loudness(made, self.sample_rate, level, in_place=True)
        return made

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
    vocoder: VoiceConverter | Copier | str,
    *,
    loudness: float | str | bool = LOUDNESS,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Copy-synthesis from file to file: what a vocoder loses when nothing is converted.

    Args:
        src: a recording.
        output: where the result goes.
        vocoder: a converter, whose encoder and vocoder are used without matching; what
            `knnvc.presets.copying.open_copier` gives; or the name of a classical one, "world",
            "griffin-lim" or "griffin-lim-mfcc".
        loudness: see `ConvertOptions`.
        force: overwrite `output`.
        progress: called with frames.

    Raises:
        KnnvcError: the recording cannot be used, or the output not written.
    """
    output = _check_free(output, force)
    if isinstance(vocoder, str):
        if vocoder not in COPIES:
            raise UsageError(f"vocoder {vocoder!r} is unknown: use {', '.join(COPIES)}")
        vocoder = Copier(vocoder, None, COPIES[vocoder])
    converting = isinstance(vocoder, VoiceConverter)
    rate = vocoder.encoder.sample_rate if converting else vocoder.given_rate  # type: ignore[union-attr]
    given_rate = rate
    waveform = require_audio(load_audio(src, rate), str(src), sample_rate=rate)
    if isinstance(vocoder, VoiceConverter):
        rate = vocoder.sample_rate
        made: Tensor = vocoder.vocode(vocoder.encode((waveform, given_rate), progress), progress)
        made = to_length(made, round(len(waveform) * rate / given_rate))
    else:
        made, rate = vocoder.copy(waveform, progress), vocoder.sample_rate
    level = ConvertOptions(loudness=loudness).target_loudness
    if level is not None:
        before = measure_loudness(waveform, given_rate)
        made = normalize(made, rate, level, source_loudness=before, name=str(output))
    return _write(output, made, rate, force)


def _check_free(output: Path | str, force: bool) -> Path:
    """The output's path, if its suffix is an audio format's and nothing is in the way."""
    output = check_output(output)
    if output.exists() and not force:
        raise UsageError(f"{output} exists; choose another output or overwrite it with --force")
    return output


def limited(waveform: Tensor, sample_rate: int, name: str) -> Tensor:
    """A result [S] whose peaks fit into a file: a limiter takes them down at its loudness.

    Args:
        waveform: [S].
        sample_rate: in Hz.
        name: what a warning calls it.
    """
    if not len(waveform) or float(waveform.abs().max()) <= PEAK:
        return waveform
    return normalize(waveform, sample_rate, measure_loudness(waveform, sample_rate), name=name)


def _write(output: Path, waveform: Tensor, sample_rate: int, force: bool) -> Path:
    waveform = limited(waveform, sample_rate, str(output))
    write_audio(output, waveform, sample_rate, force=force)
    return output
