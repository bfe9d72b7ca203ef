"""Anonymising: every speaker gets a pseudo-voice, blended from voices that are unlike their own.

The scheme is that of the VoicePrivacy challenges (Tomashenko et al. 2022,
https://arxiv.org/abs/2205.07123): a pseudo-speaker is a mean of voices of a pool that are far from
the source, drawn at random. Here matching sets are blended instead of x-vectors.

What a listener can still use to tell people apart: words, accent, rhythm, and the shape of
intonation, which a conversion keeps (`UNPROTECTED`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.converters.matching_set import SUFFIX, MatchingSet
from knnvc.errors import UsageError
from knnvc.evaluation.verifiers import Vector, Verifier
from knnvc.files import AUDIO_SUFFIXES, find_audio
from knnvc.options import ConvertOptions
from knnvc.pipeline import VoiceConverter
from knnvc.progress import Progress
from knnvc.voices.ready import list_voices

PER = ("speaker", "utterance")
LEAST_SHARE = 0.15  # of a voice in a blend
HEARD_FILES = 5  # of a speaker, for their embedding
HEARD_SECONDS = 20.0  # of each file
FEW_VOICES = 8  # with fewer, a pseudo-voice can be guessed
UNPROTECTED = (
    "Not protected: what is said (names, places), language and accent, rhythm and speaking rate, "
    "the shape of the intonation, and whatever file names and metadata tell."
)


@dataclass(frozen=True)
class PseudoVoice:
    """A blend: names of voices, their shares, which sum to 1, and the likeness to the source.

    `likeness` is the cosine of the shares' mean embedding with the source's; None if unknown.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    likeness: float | None = None


class Anonymiser:
    """Chooses pseudo-voices and converts to them.

    Args:
        converter: which preset.
        verifier: tells how near the voices of the pool are to a source.
        pool: recordings, folders or saved matching sets by name.
        seed: the key. Who knows it, and the pool, can tell who has which pseudo-voice.
        blend: voices of a pseudo-voice.

    Raises:
        UsageError: the pool is too small: a pseudo-voice comes of its farther half.
    """

    def __init__(
        self,
        converter: VoiceConverter,
        verifier: Verifier,
        pool: Mapping[str, Path],
        seed: int,
        blend: int = 3,
    ) -> None:
        if blend < 1 or len(pool) < 2 * blend:
            raise UsageError(
                f"a blend of {blend} needs a pool of {2 * max(1, blend)} voices, and there are "
                f"{len(pool)}: name more with --pool, or blend fewer"
            )
        self.converter = converter
        self.verifier = verifier
        self.pool = dict(sorted(pool.items()))
        self.seed = seed
        self.blend = blend
        self._sets: dict[str, MatchingSet] = {}
        self._embedded: dict[str, Vector] = {}

    def embedding(self, paths: Iterable[Path]) -> Vector:
        """Mean embedding [D], of unit length, of a speaker's first recordings."""
        found = []
        for path in list(paths)[:HEARD_FILES]:
            wave = load_audio(path)[: round(HEARD_SECONDS * SAMPLE_RATE)]
            found.append(self.verifier.embed(wave.numpy()))
        return unit(np.mean(found, axis=0))

    def choose(self, key: str, source: Vector) -> PseudoVoice:
        """The pseudo-voice of `key`, a speaker or an utterance: the same for the same seed.

        Of the pool's voices the half that is nearer to `source` [D] is left out; the blend is drawn
        from the others.
        """
        names = list(self.pool)
        near = np.array([float(self._embedding(name) @ source) for name in names])
        far = [names[i] for i in np.argsort(near, kind="stable")[: len(names) // 2]]
        digest = hashlib.sha256(f"{self.seed}:{key}".encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        chosen = [far[i] for i in sorted(rng.permutation(len(far))[: self.blend])]
        free = rng.dirichlet(np.ones(len(chosen)))
        shares = LEAST_SHARE + (1 - LEAST_SHARE * len(chosen)) * free
        shares /= shares.sum()
        mean = sum(
            share * self._embedding(name) for name, share in zip(chosen, shares, strict=True)
        )
        likeness = float(unit(np.asarray(mean)) @ source)
        return PseudoVoice(tuple(chosen), tuple(shares.tolist()), likeness)

    def convert(
        self,
        source: Path,
        voice: PseudoVoice,
        options: ConvertOptions | None = None,
        progress: Progress | None = None,
    ) -> tuple[Any, int]:
        """What `source` says in a pseudo-voice: samples [S], and their rate in Hz."""
        blend = [
            (self._set(name, progress), share)
            for name, share in zip(voice.names, voice.shares, strict=True)
        ]
        return self.converter.convert(source, blend, options, progress)

    def convert_file(self, source: Path, voice: PseudoVoice, output: Path) -> None:
        """`convert` into a file, which appears whole or not at all."""
        samples, rate = self.convert(source, voice)
        write_audio(output, torch.from_numpy(np.asarray(samples)), rate)

    def _set(self, name: str, progress: Progress | None) -> MatchingSet:
        if name not in self._sets:
            self._sets[name] = self.converter.matching_set(
                self.pool[name], speaker=name, progress=progress
            )
        return self._sets[name]

    def _embedding(self, name: str) -> Vector:
        if name not in self._embedded:
            self._embedded[name] = self.embedding(find_audio(self.pool[name]))
        return self._embedded[name]


def unit(vector: Any) -> Vector:
    """`vector` [D] at length 1."""
    found: Vector = np.asarray(vector, np.float32)
    return found / max(float(np.linalg.norm(found)), 1e-12)


def find_pool(names: Sequence[str]) -> dict[str, Path]:
    """Voices to blend: all ready voices, or the folders and recordings in the folders of `names`.

    Args:
        names: folders, each of which holds a folder or a recording for every voice; "voices" are
            the ready ones.

    Raises:
        UsageError: a folder does not exist, or holds a saved matching set, whose voice cannot be
            compared with a source.
    """
    found: dict[str, Path] = {}
    for name in names:
        if name == "voices":
            found |= {voice: one.path for voice, one in list_voices().items()}
            continue
        folder = Path(name)
        if not folder.is_dir():
            raise UsageError(f"the pool {name} is no folder: name one, or voices")
        for one in sorted(folder.iterdir()):
            if one.suffix == SUFFIX:
                raise UsageError(
                    f"{one} is a matching set, whose voice cannot be compared with a source: "
                    "give recordings"
                )
            if one.is_dir() or one.suffix.lower() in AUDIO_SUFFIXES:
                found[one.stem if one.is_file() else one.name] = one
    return found


def speakers_of(folder: Path) -> dict[str, list[Path]]:
    """Recordings below `folder` by speaker: the first folder below it, or the folder itself.

    LibriSpeech, VCTK and folders of folders are read so.
    """
    found: dict[str, list[Path]] = {}
    for path in find_audio(folder):
        below = path.relative_to(folder) if folder.is_dir() else Path(path.name)
        name = below.parts[0] if len(below.parts) > 1 else folder.name
        found.setdefault(name, []).append(path)
    return found
