"""The single steps of a conversion, on paths and samples as torch users have them.

T source frames, N frames of the target speaker, D, Dm and Ds feature columns (see
`knnvc.encoders.base.Columns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from knnvc.audio import load_audio, require_audio
from knnvc.audio.batches import mono_batch, stacked
from knnvc.converters.approximate import choose
from knnvc.converters.base import Converter
from knnvc.converters.matching_set import MatchingSet
from knnvc.encoders.base import Encoder
from knnvc.errors import UsageError
from knnvc.frames import Frames
from knnvc.options import ConvertOptions
from knnvc.presets.loading import Parts, load_parts
from knnvc.presets.search import find_preset
from knnvc.progress import Progress, Tell, stage
from knnvc.speech import Speaker
from knnvc.text.base import TextFrontEnd
from knnvc.vocoders.base import Vocoder
from knnvc.voices.building import SetBuilder
from knnvc.voices.cache import SetCache
from knnvc.voices.references import References

Source: TypeAlias = Any
"""A path, samples [S] or a batch [B, S] with `sample_rate=`, or (samples, rate)."""
Voices: TypeAlias = MatchingSet | Iterable[tuple[MatchingSet, float]]
"""One matching set, or several with their shares."""


if TYPE_CHECKING:
    from typing_extensions import Self


class Steps:
    """Four parts and what each does alone; `VoiceConverter` adds the whole way.


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

    _loaded: tuple[str | Path, str, float | None] | None = None

    def _take(self, parts: Parts) -> None:
        self._parts = parts
        self.name = parts.name
        self.preset = parts.preset
        self.encoder = parts.encoder
        self.converter = parts.converter
        self._targets: WeakKeyDictionary[MatchingSet, dict[tuple[str, int], Any]]
        self._targets = WeakKeyDictionary()

    def __repr__(self) -> str:
        """The parts and where they compute."""
        vocoder = self._parts.vocoder
        rate = "no vocoder" if vocoder is None else f"{vocoder.sample_rate} Hz"
        kind = type(self.converter).__name__
        return f"{type(self).__name__}({self.name!r}, {kind}, {rate}, {self.encoder.device})"

    def to(self, device: str | torch.device) -> Self:
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
        return SetBuilder(self.encoder, self.name)

    @cached_property
    def speaker(self) -> Speaker:
        """Speaks text by the same parts."""
        return Speaker(self._parts)

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
        return stacked(made, src)

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
            refs: see `matching_set`, which explains what else there is.
            k: the neighbours that each voice must have frames for.

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
        listed, single = self._as_frames(frames)
        made = [self.vocoder(one, stage(progress, "vocoding", len(one))) for one in listed]
        joined = made[0] if single else torch.nn.utils.rnn.pad_sequence(made, batch_first=True)
        return joined.numpy() if isinstance(frames, np.ndarray) else joined

    def _as_frames(self, given: Any) -> tuple[Sequence[Frames], bool]:
        """What `vocode` takes as frames, and whether it is a single recording."""
        if isinstance(given, Frames):
            return [given], True
        if isinstance(given, list | tuple) and all(isinstance(one, Frames) for one in given):
            return given, False
        values = torch.as_tensor(given)
        batch = values if values.ndim == 3 else values[None]
        wide = batch.shape[-1] > self.vocoder.dim
        columns = self.encoder.columns.synth
        return [Frames(one[:, columns] if wide else one) for one in batch], values.ndim != 3

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

    def _encoding(self, waveform: Tensor, progress: Progress | None) -> Tell | None:
        count = max(1, len(waveform) // self.encoder.hop)
        tell = stage(progress, "encoding", count)
        # An encoder may make a frame more or less: what was announced holds.
        return tell and (lambda done, total: tell(done * count // total, count))


def _weighted(voices: Voices) -> list[tuple[MatchingSet, float]]:
    return [(voices, 1.0)] if isinstance(voices, MatchingSet) else list(voices)


def _cache(wanted: SetCache | bool) -> SetCache | None:
    return (SetCache() if wanted else None) if isinstance(wanted, bool) else wanted
