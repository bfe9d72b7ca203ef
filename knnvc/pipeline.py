"""Voice conversion and speech from text, end to end: encode or predict, match, vocode.

T source frames, N frames of the target speaker, D, Dm and Ds feature columns (see
`knnvc.encoders.encoder.Columns`). A ladder of verbs: `VoiceConverter.convert` takes and returns arrays,
`convert_file` goes from file to file; each is a thin call of the one before. `speak` and
`speak_file` do the same for text, whose features a text front end predicts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from numbers import Real
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
    loudness_gain,
    normalize_loudness,
    require_audio,
    to_waveform,
    trim_silence,
    write_audio,
)
from knnvc.audio.joining import Spool, silence, trim_edges
from knnvc.converters.approximate import check_kind, choose, content_hash, open_index
from knnvc.converters.knn import (
    Index,
    Searcher,
    blend,
    check_k,
    check_lam,
    check_weighting,
    follow,
    path_first,
    select,
    weigh,
)
from knnvc.converters.matching_set import SUFFIX, Adaptation, MatchingSet, SetInfo, merge
from knnvc.converters.matching_set import load as load_set
from knnvc.encoders.encoder import (
    CHUNK_SECONDS,
    CONTEXT_SECONDS,
    MEL_SCALE,
    WINDOW,
    Encoder,
    MelWavLM,
    fingerprint,
    load_huggingface,
    load_network,
)
from knnvc.errors import KnnvcError, UsageError
from knnvc.errors import KnnvcWarning as KnnvcWarning
from knnvc.files import sha256_file
from knnvc.kernels import PRECISIONS, accelerate
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions, Statistics
from knnvc.mini.phones import STATES, assure
from knnvc.mini.refiner import RIDGE, CorrectionFit, Refiner, RefinerConfig
from knnvc.mini.text_frontend import TextFrontend
from knnvc.mini.vocal_tract import other_tract
from knnvc.presets.preset import Preset, find_preset
from knnvc.tensors import read_tensors
from knnvc.text.lexicon import Lexicon
from knnvc.text.lines import FrontEnd, Line, columns_of, fit, read, says_something
from knnvc.text.lines import load as load_front_end
from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig
from knnvc.vocoders.source_filter import FilterFit, SourceFilterConfig, SourceFilterVocoder
from knnvc.vocoders.vocoder import Vocoder, griffin_lim, world
from knnvc.voices.cache import SetCache, set_key
from knnvc.voices.ready import packaged, resolve

DEFAULT_PRESET = "mini"
_NAME = "\0"  # stands for a recording's name in what is kept about it
LOUDNESS = -16.0  # LUFS, of published kNN-VC's output
MATCH_BLOCK = 4096  # frames matched at a time, which bounds the temporary memory
DEVICES = ("auto", "cpu", "cuda", "mps")
BACKENDS = ("torch", "onnx")
WIDE = 512  # columns of features from which on a vocoder is a large one
WIDE_CHUNK_FRAMES = 400  # 8 s
# A refiner is corrected for a target by what its references say of each other, a vocoder by them.
PIECE = 200  # frames of them converted at once
MOST_VOCODED = 1500  # frames of pieces that a vocoder is corrected by; more add nothing
LEAST_CORRECTED = 600  # frames of such pieces (of 40 s); with fewer too many words are lost
MOST_CORRECTED = 6000  # evenly drawn, and
MOST_REFERENCE = 15000  # frames that they are converted with
DISGUISES = (0.85, 1.18)  # factors on the formants, in turn

Source: TypeAlias = Any
"""A path, or samples as `knnvc.audio.to_waveform` takes them."""
References: TypeAlias = Any
"""A path (folder, recording or saved matching set), "voice:NAME" for a ready voice, samples, a
`MatchingSet`, or several of these in a list or another iterable."""
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`, first with 0 done; stages are "references" (in per cent
of a recording), "listening" (to what references say of each other, in frames), "indexing",
"encoding", "matching" and "vocoding" (in frames), "speaking" (in sentences)."""
# A front end's voice is measured on these: one sentence is too little to tell its range of pitch.
_MEASURED = (
    "The sun had set behind the hills, and a cool wind came up from the river. Have you ever asked "
    "yourself why they chose that house? Nobody knew the answer, but everyone had an opinion! "
    "Six months later the work was done, and the whole village gathered to celebrate. "
    "We should leave before it gets dark, he said, or we will never find the way."
)


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
        index: how neighbours are searched: "flat" (exactly), "hnsw" or "ivf" (approximately, in a
            part of a very large matching set), or "auto" by the set's size; see `knnvc.converters.approximate`.

    Raises:
        UsageError: a value is out of range.
    """

    lam: float | None = None
    k: int | None = None
    weighting: str | None = None
    seconds: float | None = None
    loudness: bool = True
    trim: bool = True
    index: str = "auto"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.lam is not None:
            check_lam(self.lam)
        if self.k is not None:
            check_k(self.k)
        if self.weighting is not None:
            check_weighting(self.weighting)
        check_kind(self.index)
        if self.seconds is not None and not 0.02 <= self.seconds <= 86_400:
            raise UsageError(f"the duration is {self.seconds!r} s: give 0.02 to 86400 seconds")


@dataclass(frozen=True)
class SpeakOptions:
    """How to speak; None means what the preset recommends.

    Attributes:
        lam: as in `ConvertOptions`, the source being the front end's own voice: 0 is that voice,
            and needs no references.
        k: as in `ConvertOptions`.
        weighting: as in `ConvertOptions`.
        speed: 2 speaks twice as fast, pauses included; 0.25 to 4.
        noise: how freely the front end varies its speech, 0 (always the same) to 2.
        seed: where the variation comes from; the same seed says it the same way again.
        language: any that espeak-ng speaks, like "de"; by default the front end's. The front end
            has learnt the sounds of its own language only, so others get an accent.
        lexicon: pronunciations of your own: a `knnvc.text.lexicon.Lexicon`, or the path of a file.
        loudness: bring the result to −16 LUFS.
        trim: cut silence off both ends of every reference.

    Raises:
        UsageError: a value is out of range.
    """

    lam: float | None = None
    k: int | None = None
    weighting: str | None = None
    speed: float = 1.0
    noise: float = 0.667
    seed: int = 0
    language: str | None = None
    lexicon: Lexicon | Path | str | None = None
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
        if not 0.25 <= self.speed <= 4:
            raise UsageError(f"the speed is {self.speed!r}: give a number from 0.25 to 4")
        if not 0 <= self.noise <= 2:
            raise UsageError(f"the noise is {self.noise!r}: give a number from 0 to 2")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise UsageError(f"the seed is {self.seed!r}: give a whole number from 0")


class VoiceConverter:
    """A preset, loaded: encoder, matching, vocoder, and for text a front end.

    Args:
        preset: what it was made from; holds the recommended k, λ and weighting.
        encoder: audio to features.
        vocoder: features to audio.
        refiner: smooths selected frames, where the preset has an acoustic space for it to read.
        front_end: text to features; by default the preset's, which is loaded when it is needed.
    """

    def __init__(
        self,
        preset: Preset,
        encoder: Encoder,
        vocoder: Vocoder,
        refiner: Refiner | None = None,
        front_end: FrontEnd | None = None,
    ) -> None:
        if front_end is not None:
            self.front_end = front_end
        self.preset = preset
        self.encoder = encoder
        self.vocoder = vocoder
        self.refiner = refiner
        self.sample_rate = vocoder.sample_rate
        matching = dict(preset.matching)
        self.k: int = matching.get("k", 4)
        self.lam: float = matching.get("lam", 1.0)
        self.weighting: str = matching.get("weighting", "mean")
        self.space = _acoustic_space(preset, encoder)
        self.computed_with = ("float32", "torch")  # precision and backend
        self._targets: WeakKeyDictionary[MatchingSet, dict[str, _Target]] = WeakKeyDictionary()

    @classmethod
    def from_preset(
        cls,
        name_or_folder: str | Path = DEFAULT_PRESET,
        device: str = "auto",
        *,
        chunk_seconds: float | None = None,
        precision: str = "float32",
        backend: str = "torch",
    ) -> VoiceConverter:
        """Load a preset by name ("mini", "wavlm-large") or from a folder.

        Args:
            name_or_folder: see `knnvc preset list`.
            device: "auto" (a GPU if there is one), "cpu", "cuda" or "mps".
            chunk_seconds: longer audio is encoded in pieces of this length, see `Encoder`; None is
                the preset's own, 4 for mini, otherwise 30.
            precision: "float32", or "bfloat16" for products in half precision, which is faster on
                processors that have instructions for it. Matching sets of either can be mixed.
            backend: "torch", or "onnx" for ONNX Runtime on the CPU (`pip install knnvc[onnx]`).

        Raises:
            UsageError: there is no such preset, device, precision or backend, or the chunk is
                shorter than a frame.
            KnnvcError: the preset is damaged, its parts do not fit, or it is not downloaded yet.
        """
        if precision not in PRECISIONS:
            raise UsageError(
                f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}"
            )
        if backend not in BACKENDS:
            raise UsageError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}")
        where = choose_device("cpu" if backend == "onnx" and device == "auto" else device)
        if backend == "onnx" and (where.type != "cpu" or precision != "float32"):
            raise UsageError("the backend onnx runs on the CPU in float32: leave the rest out")
        preset = find_preset(name_or_folder)
        network, vocoder = _load_encoder(preset), _load_vocoder(preset)
        if chunk_seconds is None:
            chunk_seconds = preset.encoder.get("chunk_seconds", CHUNK_SECONDS)
        context_seconds = preset.encoder.get("context_seconds", CONTEXT_SECONDS)
        # Of the weights as they are stored, whatever they are computed with.
        stored = precision == "float32" and backend == "torch"
        identities = None if stored else (fingerprint(network), _correctable(vocoder))
        if backend == "onnx":
            from knnvc.presets.onnx import use_onnx

            use_onnx(network)
            use_onnx(vocoder)
        elif where.type == "cpu" or precision != "float32":
            accelerate(network, precision, keep=("phones", "pitch"))
            accelerate(vocoder, precision, keep=("read", "write", "conv_post"))
        encoder = Encoder(network, where, chunk_seconds, context_seconds)
        synth = encoder.columns.synth
        given, wanted = synth.stop - (synth.start or 0), vocoder.dim
        if given != wanted or vocoder.hop * SAMPLE_RATE != HOP * vocoder.sample_rate:
            raise KnnvcError(
                f"the encoder of preset {preset.name!r} gives {given} columns every "
                f"{HOP / SAMPLE_RATE * 1000:g} ms, but its vocoder reads {wanted} every "
                f"{vocoder.hop / vocoder.sample_rate * 1000:g} ms: use parts that belong together"
            )
        refiner = _load_refiner(preset, where)
        # Of the larger network fewer frames at a time: beyond some megabytes each, the memory that
        # activations are written to takes longer than computing them.
        chunk = {} if vocoder.dim < WIDE else {"chunk_frames": WIDE_CHUNK_FRAMES}
        made = cls(preset, encoder, Vocoder(vocoder, device=where, **chunk), refiner)
        if identities is not None:
            made.fingerprint, made.vocoder_fingerprint = identities
            made.computed_with = (precision, backend)
        return made

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the encoder and its layers in matching sets."""
        return fingerprint(self.encoder.network)

    @cached_property
    def refiner_fingerprint(self) -> str:
        """Identifies the refiner in what corrects it; "" where there is none."""
        return fingerprint(self.refiner) if self.refiner and self.space else ""

    @cached_property
    def vocoder_fingerprint(self) -> str:
        """Identifies the vocoder in what corrects it; "" where nothing can."""
        return _correctable(self.vocoder.network)

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
        voices = self.voices(refs, trim=options.trim, k=options.k or self.k, progress=progress)
        features = self.encode(waveform, progress)
        del waveform  # of hours of audio, every stage takes hundreds of megabytes
        if options.seconds is not None:
            features = stretch(features, options.seconds)
        converted = self.match(
            features,
            voices,
            options.k,
            options.lam,
            options.weighting,
            index=options.index,
            progress=progress,
        )
        del features
        made = self.vocode(converted, progress, voices=voices, lam=options.lam)
        if options.loudness:
            made = normalize_loudness(made, self.sample_rate, LOUDNESS, in_place=True)
        return made.numpy(), self.sample_rate

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

        Warns (`KnnvcWarning`) if the peaks did not fit and the result became quieter than asked.

        Raises:
            UsageError: the output exists and `force` is False, or its suffix is no audio format.
            KnnvcError: as `convert`.
        """
        output = _check_free(output, force)
        waveform, sample_rate = self.convert(src, refs, options, progress)
        return _write(output, torch.from_numpy(waveform), sample_rate, force)

    @cached_property
    def front_end(self) -> FrontEnd:
        """The preset's text front end, loaded when first asked for.

        Raises:
            KnnvcError: the preset has none, or one that does not fit its encoder.
        """
        return _load_front_end(self.preset, self.encoder)

    def speak(
        self,
        text: str,
        refs: References | None = None,
        options: SpeakOptions | None = None,
        progress: Progress | None = None,
    ) -> tuple[npt.NDArray[np.float32], int]:
        """Say `text` in the voice of `refs`; None is the front end's own voice, for λ = 0.

        Returns:
            The waveform, float32 [S] with full scale at ±1, and its sample rate in Hz.

        Raises:
            KnnvcError: the text has nothing to say, the preset has no text front end, or a
                reference cannot be used; the message says what to do about it.
        """
        with Spool() as spool:
            waveform = self._speak(text, refs, options or SpeakOptions(), spool, progress)
            return waveform.numpy().copy(), self.sample_rate

    def speak_file(
        self,
        text: str,
        refs: References | None,
        output: Path | str,
        options: SpeakOptions | None = None,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """`speak`, into a file, in memory that does not grow with the text.

        Raises:
            UsageError: the output exists and `force` is False, or its suffix is no audio format.
            KnnvcError: as `speak`.
        """
        output = _check_free(output, force)
        with Spool() as spool:
            waveform = self._speak(text, refs, options or SpeakOptions(), spool, progress)
            return _write(output, waveform, self.sample_rate, force)

    def _speak(
        self,
        text: str,
        refs: References | None,
        options: SpeakOptions,
        spool: Spool,
        progress: Progress | None,
    ) -> Tensor:
        """Speak into `spool`, sentence by sentence; the whole method in one place."""
        front_end = self.front_end
        lexicon = options.lexicon
        if isinstance(lexicon, str | Path):
            lexicon = Lexicon.load(lexicon)
        lines = list(read(text, options.language or front_end.language, lexicon))
        speaking = self._speaking
        lam = speaking.lam if options.lam is None else options.lam
        if refs is None and lam != 0:
            raise UsageError("there are no references; name some, or speak with lam 0")
        voices = (
            None
            if refs is None
            else self.voices(refs, trim=options.trim, k=options.k or speaking.k, progress=progress)
        )
        generator = torch.Generator().manual_seed(options.seed)
        tell = _stage(progress, "speaking", len(lines))
        for number, line in enumerate(_fitted(lines, front_end)):
            features = self._utter(line.phonemes, generator, options.speed, options.noise)
            if voices is not None:
                features = speaking.match(
                    features, voices, options.k, lam, options.weighting, own=self._own_voice
                )
            spoken = self.vocode(features, voices=voices or (), lam=lam)
            spool.append(trim_edges(spoken, self.sample_rate))
            if number < len(lines) - 1:
                spool.append(silence(line.pause / options.speed, self.sample_rate))
            if tell:
                tell(number + 1, len(lines))
        waveform = spool.waveform()
        if options.loudness:
            waveform.mul_(loudness_gain(waveform, self.sample_rate, LOUDNESS))
        return waveform

    def _utter(
        self,
        phonemes: str,
        generator: torch.Generator,
        speed: float = 1.0,
        noise: float = 0.667,
    ) -> Tensor:
        """Features [T, D] of one sentence, from the preset's text front end."""
        front_end, states = self.front_end, None
        given: dict[str, Any] = {"speed": speed, "noise": noise, "generator": generator}
        if isinstance(front_end, TextFrontend):
            predicted, states = front_end.utter(phonemes, **given)
        else:
            predicted = front_end.predict(phonemes, **given)
        return self.complete(predicted, states)

    def complete(self, predicted: Tensor, states: Tensor | None = None) -> Tensor:
        """Features [T, D], as `encode` gives them, of what a text front end predicts [T, Ds].

        Where neighbours are searched in the columns that are synthesised from, they are all there
        is; otherwise the encoder listens to the predicted spectra. The phone `states` [T], if the
        front end knows them (see `knnvc.mini.phones`), then count more than what the encoder hears.

        Raises:
            KnnvcError: the front end predicts other columns than the encoder gives.
        """
        columns = self.encoder.columns
        given, wanted = predicted.shape[1], columns.synth.stop - (columns.synth.start or 0)
        if given != wanted:
            raise KnnvcError(_unfit(self.preset, given, wanted))
        if columns.together:
            return predicted
        features = features_of_spectra(self.encoder, predicted)
        if states is not None:
            # After the synthesis columns come the posteriors.
            posteriors = features[:, given : given + STATES]
            before, after = features[:, :given], features[:, given + STATES :]
            features = torch.cat([before, assure(posteriors, states), after], dim=1)
        return features

    @cached_property
    def _speaking(self) -> VoiceConverter:
        """What text is matched by: this converter, unless its preset matches text differently."""
        if self.preset.speech is None:
            return self
        preset, refiner = self.preset.for_speech, self.refiner
        if preset.refiner != self.preset.refiner:
            refiner = _load_refiner(preset, self.encoder.device)
        made = VoiceConverter(preset, self.encoder, self.vocoder, refiner, self.front_end)
        made.fingerprint, made.vocoder_fingerprint = self.fingerprint, self.vocoder_fingerprint
        return made

    @cached_property
    def _own_voice(self) -> Statistics | None:
        """The front end's own range of pitch and timbre, which every sentence is compared with."""
        if self.space is None:
            return None
        generator = torch.Generator().manual_seed(0)
        lines = list(read(_MEASURED, self.front_end.language))
        said = [self._utter(line.phonemes, generator) for line in _fitted(lines, self.front_end)]
        features, columns = torch.cat(said), self.encoder.columns
        return self.space.statistics(features[:, columns.synth], features[:, columns.match])

    def encode(self, waveform: Source, progress: Progress | None = None) -> Tensor:
        """Features [T, D] float32 of a path or samples, one frame every 20 ms."""
        samples = _read(waveform)
        frames = max(1, (len(samples) - WINDOW) // HOP + 1)
        return self.encoder.encode(samples, _stage(progress, "encoding", frames))

    def matching_set(
        self,
        refs: References,
        *,
        trim: bool = True,
        speaker: str = "",
        licence: str = "",
        progress: Progress | None = None,
        cache: SetCache | None = None,
    ) -> MatchingSet:
        """Encode the recordings of one target speaker.

        Args:
            refs: folders (searched recursively, in sorted order), recordings, samples, saved
                matching sets of the same encoder, or several of these; all of it is one voice.
                A recording of a folder that cannot be used, damaged or silent say, is skipped with
                a `KnnvcWarning` as long as another one can.
            trim: cut silence off both ends of each recording, as published kNN-VC does.
            speaker: recorded in the set; by default the first folder's or file's name.
            licence: recorded in the set.
            progress: see `Progress`.
            cache: where the recordings, if all of them are files, are looked up before they are
                encoded, and kept afterwards; the result is the same to the bit.

        Raises:
            KnnvcError: a recording given by its own path or as samples cannot be used, a folder has
                none that can, or a set comes from another encoder.
        """
        ready: list[MatchingSet] = []
        recordings: list[_Recording] = []
        label = speaker
        for given in _listed(refs):
            item = resolve(given) if isinstance(given, str | Path) else given
            if isinstance(item, MatchingSet):
                ready.append(item)
            elif isinstance(item, Path) and item.suffix == SUFFIX:
                ready.append(load_set(item))
            elif isinstance(item, Path):
                folder = item if item.is_dir() else None
                recordings += [_Recording(path, str(path), folder) for path in find_audio(item)]
                label = label or (folder.resolve().name if folder else item.stem)
            else:
                recordings.append(_Recording(item, f"reference {len(recordings) + 1}"))
        for one in ready:
            one.check_encoder(self.fingerprint, self.preset.name)
        if recordings:
            ready.append(self._encode_references(recordings, trim, label, licence, progress, cache))
        if not ready:
            raise UsageError("there are no references; name a folder, recordings or a matching set")
        merged = ready[0]
        if len(ready) > 1:
            merged = self._corrected(merge(ready), progress)
        info = merged.info
        stated = replace(info, speaker=speaker or info.speaker, licence=licence or info.licence)
        return merged if stated == info else replace(merged, info=stated)

    def _encode_references(
        self,
        recordings: list[_Recording],
        trim: bool,
        speaker: str,
        licence: str,
        progress: Progress | None,
        cache: SetCache | None,
    ) -> MatchingSet:
        def make() -> tuple[MatchingSet, list[tuple[int, str]]]:
            return self._encode_recordings(recordings, trim, progress)

        if cache is None or not all(isinstance(one.source, Path) for one in recordings):
            built, skipped = make()
        else:
            files = [
                (Path(one.name).name, sha256_file(one.source), one.folder is not None)
                for one in recordings
            ]
            pieces = (self.encoder.chunk, self.encoder.context)
            networks = (self.fingerprint, self.refiner_fingerprint, self.vocoder_fingerprint)
            encoder = " ".join((*networks, *self.computed_with, *self._corrected_with))
            key = set_key(encoder, pieces, trim, files, self.encoder.device)
            built, skipped = cache.fetch(key, make)
        for number, reason in skipped:
            reason = reason.replace(_NAME, recordings[number].name)
            warnings.warn(f"skipped a reference: {reason}", KnnvcWarning, stacklevel=3)
        info = replace(built.info, preset=self.preset.name, speaker=speaker, licence=licence)
        return replace(built, info=info)

    def _encode_recordings(
        self, recordings: list[_Recording], trim: bool, progress: Progress | None
    ) -> tuple[MatchingSet, list[tuple[int, str]]]:
        """The set, and why which recordings of a folder could not be used (`_NAME`: theirs)."""
        columns = self.encoder.columns
        match, synth, starts, names, seconds = [], [], [], [], []
        skipped: list[tuple[int, str]] = []
        frames = 0
        for number, recording in enumerate(recordings):
            tell = _share(progress, number, len(recordings))
            tell(0, 1)
            try:
                waveform = require_audio(_read(recording.source), recording.name)
            except KnnvcError as error:
                if recording.folder is None:
                    raise
                skipped.append((number, error.full.replace(recording.name, _NAME)))
                tell(1, 1)
                continue
            if trim:
                waveform = trim_silence(waveform)
            features = self.encoder.encode(waveform, tell)
            starts.append(frames)
            frames += len(features)
            names.append(Path(recording.name).name)
            seconds.append(len(waveform) / SAMPLE_RATE)
            # Copies, so that the features go before all recordings are joined.
            synth.append(features[:, columns.synth].clone())
            if not columns.together:
                match.append(features[:, columns.match].clone())
        if not synth:
            count = f"none of the {len(skipped)} recordings in {recordings[0].folder} can be used: "
            first = skipped[0][1].replace(_NAME, recordings[0].name)
            raise KnnvcError(f"{count if len(skipped) > 1 else ''}{first}")
        built = _joined(synth)
        searched = _joined(match) if match else built
        made = MatchingSet(
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
            ),
        )
        return self._corrected(made, progress), skipped

    @property
    def _corrected_with(self) -> list[str]:
        """What decides a refiner's correction, besides networks and recordings."""
        if self.space is None or self.refiner is None:
            return []
        others = list(map(_packaged_hash, packaged()))
        found = f"{LEAST_CORRECTED} {MOST_CORRECTED} {MOST_REFERENCE} {RIDGE}"
        return [str(self.k), self.weighting, repr(self.space.options), found, *others]

    def _corrected(self, made: MatchingSet, progress: Progress | None) -> MatchingSet:
        """The set with what makes vocoder and refiner fit its voice, if there is enough to hear."""
        found = {
            "vocoder": self._vocoder_correction(made),
            "refiner": self._refiner_correction(made, progress),
        }
        return replace(made, adaptations={name: one for name, one in found.items() if one})

    def _vocoder_correction(self, made: MatchingSet) -> Adaptation | None:
        """What makes the vocoder give pieces of the set as they were spoken."""
        network, encoder = self.vocoder.network, self.encoder.network
        if not isinstance(network, SourceFilterVocoder) or not isinstance(encoder, MelWavLM):
            return None
        fit = FilterFit(network, encoder.log_mel, MEL_SCALE)
        for piece in _thinned(_pieces(made), MOST_VOCODED):
            fit.add(made.synth[piece])
        return Adaptation(fit.solve(), self.vocoder_fingerprint)

    @torch.inference_mode()
    def _refiner_correction(
        self, made: MatchingSet, progress: Progress | None
    ) -> Adaptation | None:
        """What makes the refiner give pieces of the set as they were spoken.

        They are converted into other voices, and from there back by the rest of the set, so what
        they should become is known (back-translation, Sennrich et al. 2016,
        https://aclanthology.org/P16-1009).
        """
        space, refiner = self.space, self.refiner
        if space is None or refiner is None:
            return None
        pieces, rest = _parted(_pieces(made))
        if not pieces:
            return None
        columns, width = self.encoder.columns, refiner.config.width
        kept = _part(made, rest)
        target = self._target(kept, "flat", None)
        correction, total = CorrectionFit(refiner), _frames(pieces)
        tell = _stage(progress, "listening", total)
        others = [self._target(one, "flat", None) for one in self._others(kept)]
        for number, piece in enumerate(pieces):
            spoken = self._said(made.synth[piece], made.match[piece])
            other = others[number % len(others)]
            converted = self._spoken_by(other, spoken, self.k, self.weighting)
            heard = features_of_spectra(self.encoder, converted)
            said = self._said(heard[:, columns.synth], heard[:, columns.match])
            averaged = self._averages(target, said, self.k, self.weighting)
            shown = self._shown(averaged, target, said, self.k)
            assert shown is not None
            correction.add(spoken.synth[:, :width], *shown)
            if tell:
                tell(correction.frames, total)
        return Adaptation(correction.solve(), self.refiner_fingerprint)

    def _others(self, one: MatchingSet) -> list[MatchingSet]:
        """Voices to convert into: the ready ones of the package.

        An encoder that these do not fit gets two that are the given one with formants moved.
        """
        ready = list(map(load_set, packaged()))
        fitting = [voice for voice in ready if voice.info.encoder == self.fingerprint]
        if fitting:
            return fitting
        assert self.space is not None
        spectra, pitch = one.synth[:, :-2], one.synth[:, -2:]
        moved = (other_tract(spectra, self.space.mels, factor) for factor in DISGUISES)
        return [replace(one, synth=torch.cat([other, pitch], dim=1)) for other in moved]

    def voices(
        self,
        refs: References,
        *,
        trim: bool = True,
        k: int | None = None,
        progress: Progress | None = None,
        cache: SetCache | None = None,
    ) -> list[tuple[MatchingSet, float]]:
        """Matching sets with weights that sum to 1.

        A list of `(refs, weight)` pairs blends voices, each pair being one voice; anything else is
        a single voice. Samples in such a pair need their rate, `((samples, rate), weight)`.

        Args:
            refs: see `matching_set`.
            trim: see `matching_set`.
            k: the neighbours that each voice must have frames for.
            progress: see `Progress`.
            cache: see `matching_set`.

        Raises:
            UsageError: a weight is not positive.
            KnnvcError: as `matching_set`, or a voice has fewer than k frames.
        """
        pairs = list(refs) if _is_blend(refs) else [(refs, 1.0)]
        weights = [float(weight) for _, weight in pairs]
        if not all(math.isfinite(w) and w > 0 for w in weights):
            raise UsageError("the weights of references must be positive numbers")
        sets = [
            self.matching_set(ref, trim=trim, progress=progress, cache=cache) for ref, _ in pairs
        ]
        for one in sets:
            # Searching would find this out as well, but after the source has been encoded.
            if k is not None and k > len(one.match):
                raise KnnvcError(
                    f"the references hold {len(one.match)} frames of speech but k is {k}: "
                    "give longer references or a smaller k"
                )
        return [(one, w / sum(weights)) for one, w in zip(sets, weights, strict=True)]

    def match(
        self,
        features: Tensor,
        matching_set: MatchingSet | Iterable[tuple[MatchingSet, float]],
        k: int | None = None,
        lam: float | None = None,
        weighting: str | None = None,
        *,
        index: str = "auto",
        progress: Progress | None = None,
        own: Statistics | None = None,
    ) -> Tensor:
        """Replace every source frame by the target's nearest: `features` [T, D] -> [T, Ds].

        With several weighted sets, `selected = Σ wᵢ·kNNᵢ`. A preset with an acoustic space (see
        `knnvc.mini.acoustic_space`; published kNN-VC has none) compares by more than the match columns,
        and lets the selected frames follow the source's pitch and level, moved into the target's
        range; its refiner, if it has one, smooths them (`knnvc.mini.refiner`). See `ConvertOptions` for
        `k`, `lam`, `weighting` and `index`. `own` are the statistics of the source's speaker, for
        such a preset; by default those of `features`.

        Raises:
            UsageError: `k` or `lam` is out of range, or there is no such index.
            KnnvcError: a set has fewer than k frames, or comes from another encoder.
        """
        k = self.k if k is None else k
        lam = self.lam if lam is None else lam
        weighting = self.weighting if weighting is None else weighting
        check_lam(lam)
        voices = _weighted(matching_set)
        columns = self.encoder.columns
        said = self._said(features[:, columns.synth], features[:, columns.match], own)
        total = len(voices) * len(features)
        tell = _stage(progress, "matching", total)
        selected: Tensor | None = None
        for number, (one, weight) in enumerate(voices):
            one.check_encoder(self.fingerprint, self.preset.name)
            target = self._target(one, index, progress)
            told = tell and partial(_tell_from, tell, number * len(features), total)
            correction = self._correction(one)
            frames = self._spoken_by(target, said, k, weighting, correction, told)
            if weight != 1:
                frames *= weight
            selected = frames if selected is None else selected.add_(frames)
        assert selected is not None
        if lam == 0:
            return said.synth
        if lam != 1:
            for start in range(0, len(selected), MATCH_BLOCK):
                part = selected[start : start + MATCH_BLOCK]
                part.copy_(blend(part, said.synth[start : start + MATCH_BLOCK], lam))
        return selected

    def _correction(self, one: MatchingSet) -> Tensor | None:
        """What corrects this converter's refiner for the set's voice, if it is known."""
        refiner = self.refiner
        if refiner is None:
            return None
        wanted = (refiner.config.channels + 1, refiner.config.width)
        return _fitting_weights(one.adaptations.get("refiner"), self.refiner_fingerprint, wanted)

    def _said(self, synth: Tensor, match: Tensor, own: Statistics | None = None) -> _Said:
        """A source of synthesis columns [T, Ds] and match columns [T, Dm].

        `own` are the statistics of its speaker; by default those of the columns.
        """
        if self.space and own is None:
            own = self.space.statistics(synth, match)
        return _Said(synth, match, own)

    def _spoken_by(
        self,
        target: _Target,
        said: _Said,
        k: int,
        weighting: str,
        correction: Tensor | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> Tensor:
        """What one voice makes of a source: [T, Ds], selected and, if there is a refiner, refined.

        Arguments as those of `_averages`; `correction` is the refiner's for the voice.
        """
        corrected = correction is not None
        averaged = self._averages(target, said, k, weighting, tell, corrected)
        shown = self._shown(averaged, target, said, k)
        kept = averaged[self._kept(k)]
        if shown is None or self.refiner is None or self.space is None or not target.statistics:
            return kept
        refined = self.refiner.refine(*shown, correction)
        return self.space.unite(kept, refined, said.match, target.statistics)

    def _shown(
        self, averaged: Mapping[int, Tensor], target: _Target, said: _Said, k: int
    ) -> _Shown | None:
        """What the refiner sees of `averaged` frames, from `selected` to `views`; None without."""
        refiner, own, known = self.refiner, said.own, target.statistics
        if refiner is None or self.space is None or own is None or known is None:
            return None
        views = [averaged[n][:, : refiner.config.width] for n in refiner.config.views]
        guide = self.space.guide(said.synth, said.match, own)
        return averaged[k], guide, known.spectrum, known.manner, views

    def _kept(self, k: int) -> int:
        """Of how many neighbours the mean is kept beside what the refiner makes of k."""
        return min(self.space.options.kept or k, k) if self.space and self.refiner else k

    def _averages(
        self,
        target: _Target,
        said: _Said,
        k: int,
        weighting: str,
        tell: Callable[[int], None] | None = None,
        corrected: bool = True,
    ) -> dict[int, Tensor]:
        """The means [T, Ds] of the k nearest frames, of as many as are kept, and of the views.

        `tell` is called with the number of frames that are done; `corrected` is as of
        `AcousticSpace.finish`.
        """
        source, own = said.synth, said.own
        synth, known = target.synth, target.statistics
        views = self.refiner.config.views if self.refiner and self.space else ()
        averaged = {n: torch.empty(len(source), synth.shape[1]) for n in {k, self._kept(k), *views}}
        most = max(k, min(max(averaged), target.searcher.frames))
        for start in range(0, len(source), MATCH_BLOCK):
            stop = min(len(source), start + MATCH_BLOCK)
            part = said.match[start:stop]
            if self.space and own:
                part = self.space.vectors(source, said.match, own, span=(start, stop))
            distances, indices = self._neighbours(target, part, most)
            for count, frames in averaged.items():
                weights = weigh(distances[:, :count], weighting)
                chosen = select(synth, indices[:, :count], weights)
                if self.space and own and known:
                    leader = source[start:stop]
                    chosen = self.space.finish(chosen, leader, own, known, corrected)
                frames[start:stop] = chosen
            if tell:
                tell(stop)
        return averaged

    def _neighbours(self, target: _Target, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and rows [M, k]; in a preset that minds the joins the first one joins well."""
        space, joins, seams = self.space, target.joins, target.seams
        if space is None or joins is None or seams is None:
            return target.searcher.search(vectors, k)
        most = min(max(k, space.options.candidates), target.searcher.frames)
        distances, rows = target.searcher.search(vectors, most)
        path = follow(distances, rows, joins, space.options.join_weight, seams)
        order = path_first(rows, path)[:, :k]
        return distances.gather(1, order), rows.gather(1, order)

    def prepare(
        self, one: MatchingSet, index: str = "auto", progress: Progress | None = None
    ) -> str:
        """Build the index that `match` would search, or read it, and keep it for later.

        The index of a set that was loaded from a file is kept in the cache, so that the next
        process finds it (see `knnvc.converters.approximate`); if that fails, a `KnnvcWarning` says
        why.

        Returns:
            The kind of index: "flat" is not saved, as building it takes no time.
        """
        one.check_encoder(self.fingerprint, self.preset.name)
        self._target(one, index, progress)
        return choose(index, len(one.match))

    def _target(self, one: MatchingSet, index: str, progress: Progress | None) -> _Target:
        """What is derived from a matching set, kept as long as the set is."""
        kind, space = choose(index, len(one.match)), self.space
        kept = self._targets.setdefault(one, {})
        if kind in kept:
            return kept[kind]
        statistics = space.statistics(one.synth, one.match) if space else None

        def vectors() -> Tensor:
            if space is None or statistics is None:
                return one.match
            return space.vectors(one.synth, one.match, statistics, one.frame_start)

        searcher: Searcher
        if kind == "flat":
            searcher = Index(vectors(), self.encoder.device)
        else:
            own = [one.match] if space is None else [one.match, one.synth, one.frame_start]
            searcher = open_index(
                kind,
                vectors,
                frames=len(one.match),
                keep=one.origin is not None,
                content=lambda: content_hash(kind, own, repr(space and space.options)),
                progress=_stage(progress, "indexing", len(one.match)),
                refused=_warn_unsaved,
            )
        joins = seams = None
        if space and statistics:
            joins, seams = _joined_well(space, one.synth, statistics, one.frame_start)
        kept[kind] = _Target(one.synth, searcher, statistics, joins, seams)
        return kept[kind]

    def vocode(
        self,
        features: Tensor,
        progress: Progress | None = None,
        *,
        voices: MatchingSet | Iterable[tuple[MatchingSet, float]] = (),
        lam: float | None = None,
    ) -> Tensor:
        """Turn frames [T, Ds] into a waveform [T · 320].

        Features [T, D] straight from `encode` are taken too (copy-synthesis): only the columns that
        are synthesised from are read. `voices` and `lam` are what `match` got the frames with: what
        corrects the vocoder for the voices, if their sets hold it, is then used in that share.
        """
        columns = self.encoder.columns
        if features.shape[1] > self.vocoder.network.dim:
            features = features[:, columns.synth]
        correction = self._heard_with(voices, self.lam if lam is None else lam)
        return self.vocoder(features, _stage(progress, "vocoding", len(features)), correction)

    def _heard_with(
        self, voices: MatchingSet | Iterable[tuple[MatchingSet, float]], lam: float
    ) -> Tensor | None:
        """What corrects this converter's vocoder for the voices, each by its weight."""
        network = self.vocoder.network
        if not isinstance(network, SourceFilterVocoder):
            return None
        wanted = (network.config.channels + 1, network.config.mels)
        total: Tensor | None = None
        for one, weight in _weighted(voices):
            found = _fitting_weights(
                one.adaptations.get("vocoder"), self.vocoder_fingerprint, wanted
            )
            if found is not None:
                share = found * (weight * min(lam, 1.0))
                total = share if total is None else total + share
        return total


@torch.inference_mode()
def features_of_spectra(encoder: Encoder, synth: Tensor) -> Tensor:
    """Features [T, D] of predicted spectra and pitch, as `mini`'s encoder gives them for audio.

    Args:
        encoder: with a `MelWavLM`.
        synth: [T, mels · substeps + 2], log-mel in the encoder's scale, log2 f0, voicing.

    Raises:
        KnnvcError: the encoder does not hear log-mel spectra.
    """
    network = encoder.network
    if not isinstance(network, MelWavLM):
        raise KnnvcError(
            "only encoders of type mel-wavlm can listen to predicted spectra: use a text front end "
            "that was trained on this encoder"
        )
    # In pieces, as audio is encoded: attention grows with the square of the length.
    size = encoder.chunk + 2 * encoder.context
    match = []
    for piece in torch.split(synth[:, :-2], size):
        outputs, _ = network.predict(piece[None].to(encoder.device))
        match.append(network.said(outputs)[0].cpu())
    return torch.cat([synth.float(), torch.cat(match)], dim=-1)


def stretch(features: Tensor, seconds: float) -> Tensor:
    """Interpolate `features` [T, D] linearly to `seconds`, as kNN-VC's target duration does.

    Raises:
        UsageError: the duration is shorter than one frame.
    """
    frames = int(seconds * SAMPLE_RATE) / HOP
    if frames < 1:
        raise UsageError(f"the duration is {seconds!r} s: give at least one frame of 0.02 s")
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
    _check_known(ConvertOptions, options)
    chosen = ConvertOptions(lam=lam, **options)
    return _cached_converter(str(preset), device).convert(src, refs, chosen)


def synthesize(
    text: str,
    refs: References | None,
    lam: float | None = 1.0,
    *,
    preset: str | Path = DEFAULT_PRESET,
    device: str = "auto",
    **options: Any,
) -> tuple[npt.NDArray[np.float32], int]:
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
    _check_known(SpeakOptions, options)
    chosen = SpeakOptions(lam=lam, **options)
    return _cached_converter(str(preset), device).speak(text, refs, chosen)


def _check_known(kind: type[ConvertOptions | SpeakOptions], options: dict[str, Any]) -> None:
    names = kind.__dataclass_fields__
    if unknown := sorted(options.keys() - names.keys()):
        raise UsageError(f"unknown option {unknown[0]!r}: choose from {', '.join(names)}")


@lru_cache(maxsize=2)
def _cached_converter(preset: str, device: str) -> VoiceConverter:
    """Loading takes longer than converting a short clip, so repeated calls share a converter."""
    return VoiceConverter.from_preset(preset, device)


def export_onnx(
    name_or_folder: str | Path, folder: Path, *, force: bool = False
) -> tuple[Path, Path]:
    """Write a preset's encoder.onnx and vocoder.onnx (see `knnvc.presets.onnx`) into `folder`.

    Raises:
        UsageError: there is no such preset, or a file is in the way and `force` is False.
        KnnvcError: the preset is damaged, cannot be exported, or the extra `onnx` is missing.
    """
    from knnvc.presets import onnx as onnx_backend

    preset = find_preset(name_or_folder)
    return (
        onnx_backend.export(_load_encoder(preset), folder / "encoder.onnx", force=force),
        onnx_backend.export(_load_vocoder(preset), folder / "vocoder.onnx", force=force),
    )


@lru_cache
def _packaged_hash(path: Path) -> str:
    """sha256 of a file of the package, which stays as it is while a process runs."""
    return sha256_file(path)


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" (or "cuda:1") or "mps" into a device that is there.

    Raises:
        UsageError: it is unknown or not available.
    """
    kind, _, number = device.partition(":")
    if kind not in DEVICES or (":" in device and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
    mps = torch.backends.mps.is_available()
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (kind == "cuda" and int(number or 0) >= cuda) or (kind == "mps" and not mps):
        raise UsageError(f"device {device!r} is not available here: use --device auto")
    return torch.device(device)


_Shown: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]
"""What `Refiner.refine` and `CorrectionFit.add` take, from `selected` to `views`."""


@dataclass(frozen=True)
class _Said:
    """What a source says: frames [T, Ds], what is searched by [T, Dm] and, if the preset has an
    acoustic space, the statistics of its speaker.
    """

    synth: Tensor
    match: Tensor
    own: Statistics | None


@dataclass(frozen=True)
class _Target:
    """Frames [N, Ds] and their index; if the preset has an acoustic space, the statistics of the
    speaker and, if it minds the joins, what `follow` needs.
    """

    synth: Tensor
    searcher: Searcher
    statistics: Statistics | None
    joins: Tensor | None = None
    seams: Tensor | None = None


def _weighted(
    voices: MatchingSet | Iterable[tuple[MatchingSet, float]],
) -> list[tuple[MatchingSet, float]]:
    return [(voices, 1.0)] if isinstance(voices, MatchingSet) else list(voices)


def _correctable(vocoder: object) -> str:
    """The fingerprint of a vocoder that can be corrected for a voice, "" of any other."""
    return fingerprint(vocoder) if isinstance(vocoder, SourceFilterVocoder) else ""


def _fitting_weights(
    found: Adaptation | None, network: str, wanted: tuple[int, int]
) -> Tensor | None:
    """The weights of a correction, if they are for this network."""
    return None if found is None else found.weights_for(network, wanted)


def _joined_well(
    space: AcousticSpace, synth: Tensor, statistics: Statistics, starts: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """What `follow` needs of the frames `synth` [N, Ds] whose recordings begin at `starts` [F].

    Nothing, if the space does not mind the joins.
    """
    if space.options.candidates <= 1:
        return None, None
    seams = torch.zeros(len(synth), dtype=torch.bool)
    seams[starts[starts < len(synth)]] = True
    return space.joins(synth, statistics), seams


def _pieces(one: MatchingSet) -> list[slice]:
    """The set's rows in pieces, none over the end of a recording."""
    edges = [*one.frame_start.tolist(), len(one.match)]
    return [
        slice(at, min(at + PIECE, stop))
        for start, stop in pairwise(edges)
        for at in range(start, stop, PIECE)
    ]


def _parted(pieces: list[slice]) -> tuple[list[slice], list[slice]]:
    """A third of the pieces, and the others; nothing of too short a set."""
    held_out = pieces[1::3]
    rest = [piece for number, piece in enumerate(pieces) if number % 3 != 1]
    if _frames(held_out) < LEAST_CORRECTED:
        return [], []
    return _thinned(held_out, MOST_CORRECTED), _thinned(rest, MOST_REFERENCE)


def _part(one: MatchingSet, pieces: list[slice]) -> MatchingSet:
    """These pieces of a set as one of its own, in which each counts as a recording."""
    rows = torch.cat([torch.arange(len(one.match))[piece] for piece in pieces])
    frames = [piece.stop - piece.start for piece in pieces]
    seconds = tuple(n * one.info.hop / one.info.sample_rate for n in frames)
    info = replace(one.info, files=("",) * len(pieces), seconds=seconds)
    starts = torch.tensor([0, *frames]).cumsum(0)[:-1]
    return MatchingSet(one.match[rows], one.synth[rows], starts, info)


def _frames(pieces: Iterable[slice]) -> int:
    return sum(piece.stop - piece.start for piece in pieces)


def _thinned(pieces: list[slice], frames: int) -> list[slice]:
    """Some of the pieces, evenly drawn, that have about so many frames together."""
    given = _frames(pieces)
    if given <= frames:
        return pieces
    count = max(1, len(pieces) * frames // given)
    return [pieces[at * len(pieces) // count] for at in range(count)]


def _tell_from(tell: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    tell(before + done, total)


def _warn_unsaved(reason: KnnvcError) -> None:
    warnings.warn(f"the index is not kept: {reason}", KnnvcWarning, stacklevel=2)


def _joined(parts: list[Tensor]) -> Tensor:
    """All of `parts` [., D] in one tensor; a single one is not copied. Empties the list."""
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    parts.clear()
    return joined


def _acoustic_space(preset: Preset, encoder: Encoder) -> AcousticSpace | None:
    settings = preset.matching.get("space")
    if settings is None:
        return None
    if not isinstance(encoder.network, MelWavLM):
        raise KnnvcError(
            f"preset {preset.name!r} has an acoustic space, which only mel-wavlm encoders serve: "
            'remove "space" from its matching settings'
        )
    config = encoder.network.config
    options = AcousticSpaceOptions.from_dict(settings)
    return AcousticSpace(options, config.mels, config.substeps)


def _load_encoder(preset: Preset) -> nn.Module:
    settings = preset.encoder
    layers = (settings["match_layer"], settings["synth_layer"])
    if settings["type"] == "huggingface":
        name = settings["config"]["name"]
        # A folder inside the preset comes first: what a preset means must not depend on where
        # one stands.
        inside = preset.folder / name
        with _fitting(preset, "encoder"):
            network = load_huggingface(inside if inside.is_dir() else name, *layers)
        _check_frames(network.model.config, name)
        return network
    state, _ = read_tensors(preset.folder / settings["weights"])
    with _fitting(preset, "encoder"):
        return load_network(settings["type"], settings["config"], _single(state), *layers)


def _check_frames(config: Any, name: str) -> None:
    """Raise KnnvcError unless the encoder's convolutions make one frame of 20 ms per 20 ms."""
    window, stride = 1, 1
    for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
        window, stride = window + (kernel - 1) * stride, stride * step
    if (window, stride) != (WINDOW, HOP):
        raise KnnvcError(
            f"the encoder {name} makes frames of {window} samples every {stride}: "
            f"use one with {WINDOW} every {HOP}, as all published ones have"
        )


def _load_vocoder(preset: Preset) -> HifiGan | SourceFilterVocoder:
    settings = preset.vocoder
    state, _ = read_tensors(preset.folder / settings["weights"])
    with _fitting(preset, "vocoder"):
        if settings["type"] == "hifigan":
            return HifiGan.from_state(HifiGanConfig.from_dict(settings["config"]), _single(state))
        if settings["type"] == "source-filter":
            with torch.device("meta"):  # real random weights take longer than reading these
                network = SourceFilterVocoder(SourceFilterConfig.from_dict(settings["config"]))
            network.load_state_dict(_single(state), assign=True)
            return network
    raise KnnvcError(
        f"preset {preset.name!r} names the vocoder type {settings['type']!r}; "
        "valid types are hifigan and source-filter"
    )


def _load_refiner(preset: Preset, device: torch.device) -> Refiner | None:
    if preset.refiner is None or preset.refiner_weights is None:
        return None
    state, _ = read_tensors(preset.refiner_weights)
    with _fitting(preset, "refiner"):
        with torch.device("meta"):
            network = Refiner(RefinerConfig.from_dict(preset.refiner["config"]))
        network.load_state_dict(_single(state), assign=True)
    network = network.to(device).eval()
    if device.type == "cpu":
        accelerate(network)
    return network


def _load_front_end(preset: Preset, encoder: Encoder) -> FrontEnd:
    if preset.text_frontend is None or preset.text_frontend_weights is None:
        raise UsageError(
            f"preset {preset.name!r} has no text front end, so it cannot speak: choose another "
            "preset (`knnvc preset list`)"
        )
    with _fitting(preset, "text front end"):
        front_end = load_front_end(preset.text_frontend, preset.text_frontend_weights)
    columns, width = encoder.columns, columns_of(front_end)
    wanted = columns.synth.stop - (columns.synth.start or 0)
    spectra = preset.text_frontend["type"] == "mini-tts"
    if spectra is not isinstance(encoder.network, MelWavLM) or (width or wanted) != wanted:
        raise KnnvcError(_unfit(preset, width, wanted))
    if isinstance(front_end, nn.Module):
        front_end.to(encoder.device)
    return front_end


def _unfit(preset: Preset, given: int | None, wanted: int) -> str:
    predicts = "other features" if given in (None, wanted) else f"{given} columns"
    return (
        f"the text front end of preset {preset.name!r} predicts {predicts}, but its encoder gives "
        f"{wanted}: use a front end that was trained on this encoder"
    )


def _fitted(lines: Iterable[Line], front_end: FrontEnd) -> Iterator[Line]:
    """`lines` in signs that the front end knows; warns about the ones that it does not.

    Raises:
        KnnvcError: of one line nothing is left.
    """
    symbols, lost = front_end.symbols, set[str]()
    for line in lines:
        phonemes, unknown = fit(line.phonemes, symbols)
        if not says_something(phonemes):
            raise KnnvcError(
                f"the text front end, which was trained on {front_end.language}, knows none of the "
                f"sounds of {line.text[:40]!r}: choose another --language"
            )
        if unknown - lost:
            shown = " ".join(sorted(unknown - lost))
            warnings.warn(
                f"the text front end, which was trained on {front_end.language}, leaves out the "
                f"sounds that it does not know: {shown}",
                KnnvcWarning,
                stacklevel=3,
            )
            lost |= unknown
        yield replace(line, phonemes=phonemes)


@contextmanager
def _fitting(preset: Preset, part: str) -> Iterator[None]:
    """Turn what building a network from impossible dimensions raises into one sentence."""
    try:
        yield
    except (KnnvcError, MemoryError):
        raise
    except Exception as error:  # of every type, some of them transformers' own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise KnnvcError(
            f"the {part} of preset {preset.name!r} does not fit its configuration ({reason}): "
            "get the preset again"
        ) from error


def _single(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights may be stored in half precision; computing is done in single."""
    return {name: tensor.float() for name, tensor in state.items()}


def _read(source: Source) -> Tensor:
    return load_audio(source) if isinstance(source, str | Path) else to_waveform(source)


def _name(source: Source, otherwise: str) -> str:
    return str(source) if isinstance(source, str | Path) else otherwise


@dataclass(frozen=True)
class _Recording:
    """A reference to encode; `folder` is the one it was found in, None if it was named itself."""

    source: Source
    name: str
    folder: Path | None = None


def _listed(refs: References) -> list[Any]:
    """References one by one: samples are one item, any other iterable is its items."""
    if isinstance(refs, str | Path | MatchingSet | np.ndarray | Tensor):
        return [refs]
    if not isinstance(refs, Iterable):
        return [refs]  # to_waveform says what is wrong with it
    if isinstance(refs, tuple) and len(refs) == 2 and isinstance(refs[1], Real):
        return [refs]  # samples and their rate
    items = list(refs)
    return [items] if items and isinstance(items[0], Real) else items


def _is_blend(refs: References) -> bool:
    """Whether `refs` is a list of (references, weight), whose second is no sampling rate."""
    return (
        isinstance(refs, list | tuple)
        and bool(refs)
        and all(
            isinstance(r, tuple)
            and len(r) == 2
            and isinstance(r[1], Real)
            and isinstance(r[0], str | Path | list | tuple | MatchingSet)
            and not (isinstance(r[0], list) and r[0] and isinstance(r[0][0], Real))
            for r in refs
        )
    )


def _stage(progress: Progress | None, stage: str, total: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    told = progress
    told(stage, 0, total)
    return lambda done, total: told(stage, done, total)


def _share(progress: Progress | None, number: int, count: int) -> Callable[[int, int], None]:
    """Progress through recording `number` of `count`, whose lengths are not known beforehand."""

    def tell(done: int, total: int) -> None:
        if progress:
            progress("references", 100 * number + 100 * done // total, 100 * count)

    return tell


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
    output = _check_free(output, force)
    waveform = require_audio(load_audio(src), str(src))
    rate = SAMPLE_RATE
    if isinstance(vocoder, VoiceConverter):
        made = vocoder.vocode(vocoder.encode(waveform, progress), progress)
        rate = vocoder.sample_rate
    else:
        baselines = {"world": world, "griffin-lim": griffin_lim}
        if vocoder not in baselines:
            raise UsageError(f"vocoder {vocoder!r} is unknown: use {', '.join(baselines)}")
        made = baselines[vocoder](waveform, SAMPLE_RATE)
    if loudness:
        made = normalize_loudness(made, rate, LOUDNESS)
    return _write(output, made, rate, force)
