"""What may stand for a target speaker: paths, `voice:NAME`, samples, sets, and blends of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from knnvc.audio import load_audio
from knnvc.audio.batches import mono_batch
from knnvc.converters.matching_set import SUFFIX, MatchingSet
from knnvc.converters.matching_set import load as load_set
from knnvc.files import find_audio
from knnvc.voices.ready import PREFIX, check_missing, licence_of, resolve

Samples: TypeAlias = Any
"""[S] samples or [B, S] a batch, as a tensor or an array, or (samples, rate in Hz)."""
References: TypeAlias = Any
"""A path (folder, recording or saved matching set), "voice:NAME" for a ready voice, samples, a
`MatchingSet`, or several of these in a list or another iterable."""


@dataclass(frozen=True)
class Recording:
    """A reference to encode; `folder` is the one it was found in, None if it was named itself."""

    source: Any
    name: str
    folder: Path | None = None

    def read(self, sample_rate: int) -> Tensor:
        """Its samples [S] at `sample_rate`."""
        if isinstance(self.source, str | Path):
            return load_audio(self.source, sample_rate)
        waveform: Tensor = self.source
        return waveform


@dataclass
class Gathered:
    """References in order of kind: saved sets, recordings, their name, a ready voice's licence."""

    sets: list[MatchingSet]
    recordings: list[Recording]
    label: str = ""
    licence: str = ""


def gather(refs: References, encoder_rate: int, sample_rate: int | None = None) -> Gathered:
    """Sort out the references of one speaker.

    Args:
        refs: see `References`.
        encoder_rate: Hz that samples are brought to.
        sample_rate: of samples that come without one, in Hz.

    Raises:
        UsageError: samples come without a rate, or have an ambiguous shape.
        KnnvcError: there is no such voice, or a set is damaged.
    """
    found = Gathered([], [])
    for given in _listed(refs):
        if isinstance(given, str):
            check_missing(given)
        named = isinstance(given, str) and given.startswith(PREFIX)
        item = resolve(given) if isinstance(given, str | Path) else given
        if isinstance(item, MatchingSet):
            found.sets.append(item)
        elif isinstance(item, Path) and item.suffix == SUFFIX:
            found.sets.append(load_set(item))
        elif isinstance(item, Path):
            folder = item if item.is_dir() else None
            found.recordings += [Recording(path, str(path), folder) for path in find_audio(item)]
            name = given.removeprefix(PREFIX) if named else item.stem
            found.label = found.label or (folder.resolve().name if folder else name)
            found.licence = found.licence or licence_of(item)
        else:
            for samples in mono_batch(item, encoder_rate, sample_rate):
                number = len(found.recordings) + 1
                found.recordings.append(Recording(samples, f"reference {number}"))
    return found


def _listed(refs: References) -> list[Any]:
    """References one by one: samples are one item, any other iterable is its items."""
    if isinstance(refs, str | Path | MatchingSet | np.ndarray | Tensor):
        return [refs]
    if not isinstance(refs, Iterable):
        return [refs]  # reading it as samples says what is wrong with it
    if isinstance(refs, tuple) and len(refs) == 2 and isinstance(refs[1], Real):
        return [refs]  # samples and their rate
    items = list(refs)
    return [items] if items and isinstance(items[0], Real) else items


def made_before(refs: References) -> bool:
    """Whether all of `refs` are matching sets in memory; all has been said of them already."""
    return all(isinstance(one, MatchingSet) for one in _listed(refs))


def is_blend(refs: References) -> bool:
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
