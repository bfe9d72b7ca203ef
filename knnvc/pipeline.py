"""Voice conversion from end to end: encode, match, vocode.

T source frames, N frames of the target speaker, D, Dm and Ds feature columns (see
`knnvc.encoder.Columns`). A ladder of verbs: `VoiceConverter.convert` takes and returns arrays,
`convert_file` goes from file to file; each is a thin call of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio import (
    HOP,
    SAMPLE_RATE,
    check_output,
    find_audio,
    load_audio,
    normalize_loudness,
    require_audio,
    to_waveform,
    trim_silence,
    write_audio,
)
from knnvc.checkpoints import read_tensors
from knnvc.encoder import Encoder, fingerprint, load_huggingface, load_network
from knnvc.errors import KnnvcError, UsageError
from knnvc.hifigan import HifiGan, HifiGanConfig
from knnvc.matching import Index, blend, check_k, check_lam, check_weighting, select, weigh
from knnvc.matching_set import SUFFIX, MatchingSet, SetInfo
from knnvc.matching_set import load as load_set
from knnvc.pitch import move_pitch, pitch_space, pitch_statistics
from knnvc.preset import Preset, find_preset
from knnvc.source_filter import SourceFilterConfig, SourceFilterVocoder
from knnvc.vocoder import Vocoder, VocoderNetwork, griffin_lim, world

DEFAULT_PRESET = "mini"
LOUDNESS = -16.0  # LUFS, of published kNN-VC's output
DEVICES = ("auto", "cpu", "cuda", "mps")

Source: TypeAlias = Any
"""A path, or samples as `knnvc.audio.to_waveform` takes them."""
References: TypeAlias = Any
"""A path (folder, recording or saved matching set), samples, a `MatchingSet`, a list of these."""
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`; stages are "references", "encoding" and "vocoding"."""


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; None means what the preset recommends.

    Attributes:
        lam: λ in [0, 2] of `out = λ·selected + (1−λ)·source`. 1 is pure kNN-VC. Below 1, source
            frames are mixed back in: closer to the source's voice and wording, further from the
            target; 0 is copy-synthesis of the source. Above 1 goes past the target.
        k: neighbours averaged for each frame.
        weighting: "mean", or "distance" to weigh near neighbours more.
        seconds: duration of the result; the source's frames are interpolated linearly. None keeps
            the source's duration.
        loudness: bring the result to −16 LUFS.
        trim: cut silence off both ends of every reference.

    Raises:
        UsageError: a value is out of range.
    """

    lam: float | None = None
    k: int | None = None
    weighting: str | None = None
    seconds: float | None = None
    loudness: bool = True
    trim: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.lam is not None:
            check_lam(self.lam)
        if self.k is not None:
            check_k(self.k)
        if self.weighting is not None:
            check_weighting(self.weighting)
        if self.seconds is not None and not 0.02 <= self.seconds <= 86_400:
            raise UsageError(f"the duration is {self.seconds!r} s: give 0.02 to 86400 seconds")


class VoiceConverter:
    """A preset, loaded: encoder, matching, vocoder.

    Args:
        preset: what it was made from; holds the recommended k, λ and weighting.
        encoder: audio to features.
        vocoder: features to audio.
    """

    def __init__(self, preset: Preset, encoder: Encoder, vocoder: Vocoder) -> None:
        self.preset = preset
        self.encoder = encoder
        self.vocoder = vocoder
        self.sample_rate = vocoder.sample_rate
        matching = dict(preset.matching)
        self.k: int = matching.get("k", 4)
        self.lam: float = matching.get("lam", 1.0)
        self.weighting: str = matching.get("weighting", "mean")
        self._pitch_weights = (
            matching.get("pitch_weight", 0.0),
            matching.get("voicing_weight", 0.0),
        )
        self._indices: WeakKeyDictionary[MatchingSet, Index] = WeakKeyDictionary()

    @classmethod
    def from_preset(
        cls, name_or_folder: str | Path = DEFAULT_PRESET, device: str = "auto"
    ) -> VoiceConverter:
        """Load a preset by name ("mini", "wavlm-large") or from a folder.

        Args:
            name_or_folder: see `knnvc preset list`.
            device: "auto" (a GPU if there is one), "cpu", "cuda" or "mps".

        Raises:
            UsageError: there is no such preset or device.
            KnnvcError: the preset is damaged, or not downloaded yet.
        """
        where = choose_device(device)
        preset = find_preset(name_or_folder)
        encoder = Encoder(_load_encoder(preset), where)
        return cls(preset, encoder, Vocoder(_load_vocoder(preset), device=where))

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the encoder and its layers in matching sets."""
        return fingerprint(self.encoder.network)

    def convert(
        self,
        src: Source,
        refs: References,
        options: ConvertOptions | None = None,
        progress: Progress | None = None,
    ) -> tuple[npt.NDArray[np.float32], int]:
        """Say what `src` says in the voice of `refs`; the whole method in one place.

        Returns:
            The waveform, float32 [S] with full scale at ±1, and its sample rate in Hz.

        Raises:
            KnnvcError: an input cannot be used; the message says what to do about it.
        """
        options = options or ConvertOptions()
        waveform = require_audio(_read(src), _name(src, "the source"))
        voices = self.voices(refs, trim=options.trim, progress=progress)
        features = self.encode(waveform, progress)
        if options.seconds is not None:
            features = stretch(features, options.seconds)
        converted = self.match(features, voices, options.k, options.lam, options.weighting)
        waveform = self.vocode(converted, progress)
        if options.loudness:
            waveform = normalize_loudness(waveform, self.sample_rate, LOUDNESS)
        return waveform.numpy(), self.sample_rate

    def convert_file(
        self,
        src: Path | str,
        refs: References,
        output: Path | str,
        options: ConvertOptions | None = None,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """`convert`, from file to file; the output appears whole or not at all.

        Raises:
            UsageError: the output exists and `force` is False, or its suffix is no audio format.
            KnnvcError: as `convert`.
        """
        output = check_output(output)
        if output.exists() and not force:
            raise UsageError(f"{output} exists; choose another output or overwrite it with --force")
        waveform, sample_rate = self.convert(src, refs, options, progress)
        write_audio(output, torch.from_numpy(waveform), sample_rate, force=force)
        return output

    def encode(self, waveform: Source, progress: Progress | None = None) -> Tensor:
        """Features [T, D] float32 of a path or samples, one frame every 20 ms."""
        if not isinstance(waveform, Tensor) or waveform.ndim != 1:
            waveform = _read(waveform)
        return self.encoder.encode(waveform, _stage(progress, "encoding"))

    def matching_set(
        self,
        refs: References,
        *,
        trim: bool = True,
        speaker: str = "",
        licence: str = "",
        progress: Progress | None = None,
    ) -> MatchingSet:
        """Encode the recordings of one target speaker.

        Args:
            refs: folders (searched recursively, in sorted order), recordings, samples, saved
                matching sets of the same encoder, or a list of these; all of it is one voice.
            trim: cut silence off both ends of each recording, as published kNN-VC does.
            speaker: recorded in the set; by default the first folder's or file's name.
            licence: recorded in the set.
            progress: called with the recordings done.

        Raises:
            KnnvcError: nothing usable is there, or a set comes from another encoder.
        """
        from knnvc.matching_set import merge

        ready: list[MatchingSet] = []
        recordings: list[Source] = []
        items = _listed(refs)
        for item in items:
            if isinstance(item, MatchingSet):
                ready.append(item)
            elif isinstance(item, str | Path) and Path(item).suffix == SUFFIX:
                ready.append(load_set(item))
            elif isinstance(item, str | Path):
                recordings += find_audio(item)
            else:
                recordings.append(item)
        for one in ready:
            one.check_encoder(self.fingerprint, self.preset.name)
        if recordings:
            label = speaker or _speaker_name(items[0])
            ready.append(self._encode_references(recordings, trim, label, licence, progress))
        if not ready:
            raise UsageError("there are no references; name a folder, recordings or a matching set")
        return ready[0] if len(ready) == 1 else merge(ready)

    def _encode_references(
        self,
        recordings: Sequence[Source],
        trim: bool,
        speaker: str,
        licence: str,
        progress: Progress | None,
    ) -> MatchingSet:
        columns = self.encoder.columns
        match, synth, starts, names, seconds = [], [], [], [], []
        frames = 0
        for number, recording in enumerate(recordings, 1):
            name = _name(recording, f"reference {number}")
            waveform = require_audio(_read(recording), name)
            if trim:
                waveform = trim_silence(waveform)
            features = self.encoder.encode(waveform)
            starts.append(frames)
            frames += len(features)
            names.append(Path(name).name)
            seconds.append(len(waveform) / SAMPLE_RATE)
            synth.append(features[:, columns.synth])
            if not columns.together:
                match.append(features[:, columns.match])
            if progress:
                progress("references", number, len(recordings))
        built = torch.cat(synth)
        searched = torch.cat(match) if match else built
        pitch = None if columns.pitch is None else pitch_statistics(searched)
        return MatchingSet(
            match=searched,
            synth=built,
            frame_start=torch.tensor(starts, dtype=torch.int64),
            info=SetInfo(
                preset=self.preset.name,
                encoder=self.fingerprint,
                hop=HOP,
                sample_rate=SAMPLE_RATE,
                files=tuple(names),
                seconds=tuple(seconds),
                speaker=speaker,
                licence=licence,
            ),
            pitch=pitch if pitch is not None and bool(torch.isfinite(pitch).all()) else None,
        )

    def voices(
        self, refs: References, *, trim: bool = True, progress: Progress | None = None
    ) -> list[tuple[MatchingSet, float]]:
        """Matching sets with weights that sum to 1.

        A list of `(refs, weight)` pairs blends voices, each pair being one voice; anything else is
        a single voice.
        """
        if not _is_blend(refs):
            return [(self.matching_set(refs, trim=trim, progress=progress), 1.0)]
        weights = [float(weight) for _, weight in refs]
        if not all(math.isfinite(w) and w > 0 for w in weights):
            raise UsageError("the weights of references must be positive numbers")
        sets = [self.matching_set(ref, trim=trim, progress=progress) for ref, _ in refs]
        return [(one, w / sum(weights)) for one, w in zip(sets, weights, strict=True)]

    def match(
        self,
        features: Tensor,
        matching_set: MatchingSet | Iterable[tuple[MatchingSet, float]],
        k: int | None = None,
        lam: float | None = None,
        weighting: str | None = None,
    ) -> Tensor:
        """Replace every source frame by the target's nearest: `features` [T, D] -> [T, Ds].

        With several weighted sets, `selected = Σ wᵢ·kNNᵢ`. Where the preset hears pitch, the
        selected pitch is the source's contour moved into the target's range. See `ConvertOptions`
        for `k`, `lam` and `weighting`.

        Raises:
            UsageError: `k` or `lam` is out of range.
            KnnvcError: a set has fewer than k frames, or comes from another encoder.
        """
        k = self.k if k is None else k
        lam = self.lam if lam is None else lam
        weighting = self.weighting if weighting is None else weighting
        check_lam(lam)
        voices = (
            [(matching_set, 1.0)] if isinstance(matching_set, MatchingSet) else list(matching_set)
        )
        columns = self.encoder.columns
        source = features[:, columns.synth]
        query = features[:, columns.match]
        statistics = None if columns.pitch is None else pitch_statistics(query)
        selected: Tensor | None = None
        for one, weight in voices:
            one.check_encoder(self.fingerprint, self.preset.name)
            space = query
            if statistics is not None:
                space = pitch_space(query, statistics, *self._pitch_weights)
            distances, indices = self._index(one).search(space, k)
            frames = select(one.synth, indices, weigh(distances, weighting))
            if statistics is not None and columns.pitch is not None:
                at = columns.pitch - (columns.synth.start or 0)
                target = statistics if one.pitch is None else one.pitch
                frames[:, at] = move_pitch(source[:, at], statistics, target)
                frames[:, at + 1] = source[:, at + 1]
            selected = frames * weight if selected is None else selected + frames * weight
        assert selected is not None
        return blend(selected, source, lam)

    def _index(self, one: MatchingSet) -> Index:
        if one not in self._indices:
            match = one.match
            if self.encoder.columns.pitch is not None:
                statistics = torch.full((2,), math.nan) if one.pitch is None else one.pitch
                match = pitch_space(match, statistics, *self._pitch_weights)
            self._indices[one] = Index(match)
        return self._indices[one]

    def vocode(self, features: Tensor, progress: Progress | None = None) -> Tensor:
        """Turn frames [T, Ds] into a waveform [T · 320].

        Features [T, D] straight from `encode` are taken too (copy-synthesis): only the columns that
        are synthesised from are read.
        """
        columns = self.encoder.columns
        if features.shape[1] > self.vocoder.network.dim:
            features = features[:, columns.synth]
        return self.vocoder(features, _stage(progress, "vocoding"))


def stretch(features: Tensor, seconds: float) -> Tensor:
    """Interpolate `features` [T, D] linearly to `seconds`, as kNN-VC's target duration does."""
    frames = int(seconds * SAMPLE_RATE) / HOP
    if frames < 1:
        raise UsageError(f"the duration is {seconds!r} s: give at least one frame of 0.02 s")
    scaled: Tensor = functional.interpolate(
        features.T[None], scale_factor=frames / len(features), mode="linear"
    )
    return scaled[0].T


def convert(
    src: Source,
    refs: References,
    lam: float | None = None,
    *,
    preset: str | Path = DEFAULT_PRESET,
    device: str = "auto",
    **options: Any,
) -> tuple[npt.NDArray[np.float32], int]:
    """Say what `src` says in the voice of `refs`.

    Args:
        src: a recording's path, samples at 16 kHz, or (samples, rate).
        refs: a folder or list of recordings of the target speaker, a saved matching set, samples,
            or (refs, weight) pairs to blend voices.
        lam: λ; None is the preset's own, 1.0 (pure kNN-VC) for the presets that come with knnvc.
            0.7 mixes 30 % of the source's frames back in.
        preset: name or folder.
        device: "auto", "cpu", "cuda" or "mps".
        **options: the other fields of `ConvertOptions`.

    Returns:
        The waveform, float32 [S], and its sample rate in Hz.

    Raises:
        KnnvcError: an input cannot be used; the message says what to do about it.
    """
    try:
        chosen = ConvertOptions(lam=lam, **options)
    except TypeError as error:
        names = ", ".join(ConvertOptions.__dataclass_fields__)
        raise UsageError(f"{str(error).split(') ')[-1]}; the options are {names}") from error
    return _cached_converter(str(preset), device).convert(src, refs, chosen)


@lru_cache(maxsize=2)
def _cached_converter(preset: str, device: str) -> VoiceConverter:
    """Loading takes longer than converting a short clip, so repeated calls share a converter."""
    return VoiceConverter.from_preset(preset, device)


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" (or "cuda:1") or "mps" into a device that is there.

    Raises:
        UsageError: it is unknown or not available.
    """
    if device.split(":")[0] not in DEVICES:
        raise UsageError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (device.startswith("cuda") and not cuda) or (device == "mps" and not mps):
        raise UsageError(f"device {device!r} is not available here: use --device auto")
    return torch.device(device)


def _load_encoder(preset: Preset) -> nn.Module:
    settings = preset.encoder
    layers = (settings["match_layer"], settings["synth_layer"])
    if settings["type"] == "huggingface":
        return load_huggingface(settings["config"]["name"], *layers)
    state, _ = read_tensors(preset.folder / settings["weights"])
    return load_network(settings["type"], settings["config"], _single(state), *layers)


def _load_vocoder(preset: Preset) -> VocoderNetwork:
    settings = preset.vocoder
    state, _ = read_tensors(preset.folder / settings["weights"])
    if settings["type"] == "hifigan":
        return HifiGan.from_state(HifiGanConfig.from_dict(settings["config"]), _single(state))
    if settings["type"] == "source-filter":
        network = SourceFilterVocoder(SourceFilterConfig.from_dict(settings["config"]))
        try:
            network.load_state_dict(_single(state))
        except RuntimeError as error:
            raise KnnvcError(
                f"the vocoder of preset {preset.name!r} does not fit its configuration: "
                f"{str(error).splitlines()[-1].strip()}"
            ) from error
        return network
    raise KnnvcError(
        f"preset {preset.name!r} names the vocoder type {settings['type']!r}; "
        "valid types are hifigan and source-filter"
    )


def _single(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights may be stored in half precision; computing is done in single."""
    return {name: tensor.float() for name, tensor in state.items()}


def _read(source: Source) -> Tensor:
    return load_audio(source) if isinstance(source, str | Path) else to_waveform(source)


def _name(source: Source, otherwise: str) -> str:
    return str(source) if isinstance(source, str | Path) else otherwise


def _speaker_name(item: Source) -> str:
    if not isinstance(item, str | Path):
        return ""
    path = Path(item).resolve()
    return path.name if path.is_dir() else path.stem


def _listed(refs: References) -> list[Any]:
    """References as a list: a list of paths or sets is itself, samples are one item."""
    if isinstance(refs, list) and refs and not isinstance(refs[0], int | float):
        return refs
    if isinstance(refs, list) and not refs:
        return []
    return [refs]


def _is_blend(refs: References) -> bool:
    """Whether `refs` is a list of (references, weight): their second is no sample rate."""
    return (
        isinstance(refs, list)
        and bool(refs)
        and all(
            isinstance(r, tuple)
            and len(r) == 2
            and isinstance(r[1], int | float)
            and isinstance(r[0], str | Path | list | MatchingSet)
            for r in refs
        )
    )


def _stage(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    told = progress
    return lambda done, total: told(stage, done, total)


def resynthesize(
    src: Path | str,
    output: Path | str,
    vocoder: VoiceConverter | str,
    *,
    loudness: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Copy-synthesis from file to file: what a vocoder loses when nothing is converted.

    Args:
        src: a recording.
        output: where the result goes.
        vocoder: a converter, whose encoder and vocoder are used without matching; or "world" or
            "griffin-lim", which need no features.
        loudness: bring the result to −16 LUFS.
        force: overwrite `output`.
        progress: called with frames.

    Raises:
        KnnvcError: the recording cannot be used, or the output not written.
    """
    output = check_output(output)
    waveform = require_audio(load_audio(src), str(src))
    rate = SAMPLE_RATE
    if isinstance(vocoder, VoiceConverter):
        made, rate = (
            vocoder.vocode(vocoder.encode(waveform, progress), progress),
            vocoder.sample_rate,
        )
    else:
        baselines = {"world": world, "griffin-lim": griffin_lim}
        if vocoder not in baselines:
            raise UsageError(f"vocoder {vocoder!r} is unknown: use {', '.join(baselines)}")
        made = baselines[vocoder](waveform, SAMPLE_RATE)
    if loudness:
        made = normalize_loudness(made, rate, LOUDNESS)
    write_audio(output, made, rate, force=force)
    return output
