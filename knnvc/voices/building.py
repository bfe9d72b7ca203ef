"""Matching sets from references: recordings are read, trimmed, encoded and kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from knnvc.audio import require_audio, trim_silence
from knnvc.audio.suspicion import LEAST_HEARD, listen
from knnvc.converters.matching_set import (
    MatchingSet,
    SetInfo,
    merge,
    repeats,
    without_repeats,
)
from knnvc.encoders.base import Encoder
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import sha256_file
from knnvc.progress import Progress
from knnvc.voices.cache import SetCache, set_key
from knnvc.voices.references import Recording, References, gather, is_blend, made_before

_NAME = "\0"  # stands for a recording's name in what is kept about it
LEAST_SECONDS = 1.0  # of speech in all references of one voice; below it a warning says so
ENOUGH = "give 30 s or more of the voice"
Notes = list[tuple[int, str]]
"""What is to be said of recordings: the number of one, and the words."""


class SetBuilder:
    """Makes matching sets for one encoder.

    Args:
        encoder: whose frames a set holds.
        preset: name, which sets remember.
    """

    def __init__(self, encoder: Encoder, preset: str) -> None:
        self.encoder = encoder
        self.preset = preset

    def matching_set(
        self,
        refs: References,
        *,
        trim: bool = True,
        speaker: str = "",
        licence: str = "",
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cache: SetCache | None = None,
    ) -> MatchingSet:
        """Encode the references of one speaker; see `VoiceConverter.matching_set`."""
        found = gather(refs, self.encoder.sample_rate, sample_rate)
        for one in found.sets:
            one.check_encoder(self.encoder.fingerprint, self.preset)
        ready = found.sets
        if found.recordings:
            named = (speaker or found.label, licence or found.licence)
            ready.append(self._encoded(found.recordings, trim, *named, progress, cache))
        if not ready:
            raise UsageError("there are no references: name a folder, recordings or a matching set")
        merged = ready[0] if len(ready) == 1 else merge(ready)
        if not made_before(refs):
            warn_if_short(merged)
        info = merged.info
        stated = replace(info, speaker=speaker or info.speaker, licence=licence or info.licence)
        return merged if stated == info else replace(merged, info=stated)

    def voices(
        self,
        refs: References,
        *,
        trim: bool = True,
        k: int | None = None,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cache: SetCache | None = None,
    ) -> list[tuple[MatchingSet, float]]:
        """Matching sets with weights that sum to 1; see `VoiceConverter.voices`."""
        pairs = list(refs) if is_blend(refs) else [(refs, 1.0)]
        weights = [float(weight) for _, weight in pairs]
        if not all(math.isfinite(w) and w > 0 for w in weights):
            raise UsageError("the weights of references must be positive numbers")
        sets = [
            self.matching_set(
                ref, trim=trim, sample_rate=sample_rate, progress=progress, cache=cache
            )
            for ref, _ in pairs
        ]
        for one in sets:
            # Searching would find this out as well, but after the source has been encoded.
            if k is not None and k > len(one.match):
                raise KnnvcError(
                    f"the references hold {len(one.match)} frames of speech but k is {k}: "
                    "give longer references or a smaller k"
                )
        return [(one, w / sum(weights)) for one, w in zip(sets, weights, strict=True)]

    def _encoded(
        self,
        recordings: list[Recording],
        trim: bool,
        speaker: str,
        licence: str,
        progress: Progress | None,
        cache: SetCache | None,
    ) -> MatchingSet:
        """The set of these recordings, out of the cache if it was made before."""

        def make() -> tuple[MatchingSet, Notes]:
            return self._encode(recordings, trim, progress)

        if cache is None or not all(isinstance(one.source, Path) for one in recordings):
            built, notes = make()
        else:
            built, notes = cache.fetch(self._key(recordings, trim), make)
        for number, note in notes:
            note = note.replace(_NAME, recordings[number].name)
            warnings.warn(note, KnnvcWarning, stacklevel=4)
        info = replace(built.info, preset=self.preset, speaker=speaker, licence=licence)
        return replace(built, info=info)

    def _key(self, recordings: list[Recording], trim: bool) -> str:
        """What a set of these recordings is kept under."""
        files = [
            (Path(one.name).name, sha256_file(one.source), one.folder is not None)
            for one in recordings
        ]
        encoder = self.encoder
        settings = (encoder.fingerprint, *encoder.cache_key)
        return set_key(settings, trim, files, encoder.device)

    def _encode(
        self, recordings: list[Recording], trim: bool, progress: Progress | None
    ) -> tuple[MatchingSet, Notes]:
        """The set, and what is to be said of recordings, which are called `_NAME` there."""
        encoder, columns = self.encoder, self.encoder.columns
        match: list[Tensor] = []
        synth: list[Tensor] = []
        frames, names, seconds = [0], [], []
        notes: Notes = []
        heard = 0.0
        for number, waveform, tell in self._waveforms(recordings, notes, progress):
            if trim:
                waveform = trim_silence(waveform, encoder.sample_rate)
            found = listen(waveform, encoder.sample_rate)
            heard += found.seconds
            if found.fault:
                notes.append((number, f"the reference {_NAME} {found.fault}: give speech instead"))
            features = encoder.encode(waveform, tell)
            frames.append(frames[-1] + len(features))
            names.append(Path(recordings[number].name).name)
            seconds.append(len(waveform) / encoder.sample_rate)
            # Copies, so that the features go before all recordings are joined.
            synth.append(features[:, columns.synth].clone())
            if not columns.together:
                match.append(features[:, columns.match].clone())
        if heard < LEAST_HEARD and sum(seconds) >= LEAST_SECONDS:  # else `warn_if_short` says it
            notes.append((0, f"there is only {heard:.2g} s of sound in the references: {ENOUGH}"))
        built = _joined(synth)
        made = MatchingSet(
            match=_joined(match) if match else built,
            synth=built,
            frame_start=torch.tensor(frames[:-1], dtype=torch.int64),
            info=SetInfo(
                preset=self.preset,
                encoder=encoder.fingerprint,
                hop=encoder.hop,
                sample_rate=encoder.sample_rate,
                files=tuple(names),
                seconds=tuple(seconds),
            ),
        )
        made, repeated = without_repeats(made)
        if repeated:
            notes.append((0, repeats(repeated)))
        return made, notes

    def _waveforms(
        self, recordings: list[Recording], notes: Notes, progress: Progress | None
    ) -> Iterator[tuple[int, Tensor, Callable[[int, int], None]]]:
        """The samples [S] of each usable recording, its number, and what takes its progress.

        One of a folder that is of no use is skipped and noted.
        """
        skipped: list[str] = []
        for number, recording in enumerate(recordings):
            tell = _share(progress, number, len(recordings))
            tell(0, 1)
            try:
                waveform = self._read(recording)
            except KnnvcError as error:
                if recording.folder is None:
                    raise
                skipped.append(error.full)
                reason = error.full.replace(recording.name, _NAME)
                notes.append((number, f"skipped a reference: {reason}"))
                tell(1, 1)
                continue
            yield number, waveform, tell
        if len(skipped) == len(recordings):
            count = f"none of the {len(skipped)} recordings in {recordings[0].folder} can be used: "
            raise KnnvcError(f"{count if len(skipped) > 1 else ''}{skipped[0]}")

    def _read(self, recording: Recording) -> Tensor:
        rate = self.encoder.sample_rate
        return require_audio(recording.read(rate), recording.name, sample_rate=rate)


def warn_if_short(voice: MatchingSet) -> None:
    """Say so if there is less of a voice than any method needs."""
    if voice.seconds < LEAST_SECONDS:
        warnings.warn(
            f"the references hold only {voice.seconds:.2g} s of speech: {ENOUGH}",
            KnnvcWarning,
            stacklevel=3,
        )


def _share(progress: Progress | None, number: int, count: int) -> Callable[[int, int], None]:
    """Progress through recording `number` of `count`, whose lengths are not known beforehand."""

    def tell(done: int, total: int) -> None:
        if progress:
            progress("references", 100 * number + 100 * done // total, 100 * count)

    return tell


def _joined(parts: list[Tensor]) -> Tensor:
    """All of `parts` [., D] in one tensor; a single one is not copied. Empties the list."""
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    parts.clear()
    return joined
