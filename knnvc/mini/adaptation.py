"""Speaker adaptation: what refiner and vocoder lack for one voice, found in closed form.

Networks of a hundred voices make any target sound a little like those, and strange microphones
more. So the last layer of either is adapted to each target, in seconds: pieces of the target's own
speech, of which is known what they should become, go through the fixed network, and ridge
regression on its last hidden layer finds what must be added.

N frames of the target, T frames of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from knnvc.converters.matching_set import MatchingSet, SetInfo
from knnvc.errors import UsageError
from knnvc.mini.encoder import MiniEncoder
from knnvc.mini.refiner import Refiner
from knnvc.mini.ridge import Ridge
from knnvc.mini.vocal_tract import other_tract
from knnvc.tensors import pack, read_tensors, write_tensors
from knnvc.vocoders.source_filter import SourceFilterVocoder

REFINER_PENALTY = 250.0  # frames of evidence against an adaptation
VOCODER_PENALTY = 1500.0  # spectra of evidence against one
MOST_MISSING = 2.0  # of the logarithm of a magnitude: more is not a voice, but a click or a pause
EDGE = 2  # spectra at either end of a piece whose filters lack their neighbours
PIECE = 200  # frames converted at once
MOST_VOCODED = 1500  # frames that a vocoder is adapted by; more add nothing
LEAST_ADAPTED = 600  # frames held out (of 40 s) to adapt a refiner; with fewer words are lost
MOST_ADAPTED = 6000  # of them, evenly drawn, and
MOST_REFERENCE = 15000  # frames that they are converted with
PITCH_COLUMNS = 2  # log2 f0 and voicing
FORMANTS = (0.85, 1.18)  # factors that make two voices of one, where there are no others


class RefinerFit:
    """Gathers how far a refiner is from what a target spoke, and finds what its last layer lacks.

    Args:
        refiner: stays as it is.
    """

    def __init__(self, refiner: Refiner) -> None:
        self.refiner = refiner
        self.frames = 0
        self._ridge = Ridge(refiner.config.channels, refiner.config.width)

    @torch.inference_mode()
    def add(
        self,
        truth: Tensor,
        selected: Tensor,
        content: Tensor,
        spectrum: Tensor,
        statistics: Tensor | None = None,
        views: Sequence[Tensor] = (),
    ) -> None:
        """Count a piece with known `truth` [T, width]; the rest [T, ...] as in `refine`."""
        given = self.refiner.batch_of_one(selected, content, spectrum, statistics, views)
        frames, _, bands, *_ = given
        hidden = self.refiner.hidden(*given)
        wanted = (truth.to(frames) - frames[..., : truth.shape[1]]) / self.refiner.unit(bands)
        self._ridge.add(hidden[0], (wanted - self.refiner.write(hidden))[0])
        self.frames += len(truth)

    def solve(self, ridge: float = REFINER_PENALTY) -> Tensor:
        """The `adaptation` [channels + 1, width] that `Refiner` takes; small where little is known.

        With fewer frames than `ridge` it is nearer to none than to what fits them.
        """
        return self._ridge.solve(ridge)


class VocoderFit:
    """Gathers how what a vocoder says differs from what was spoken, and finds what it lacks.

    Args:
        network: stays as it is.
        log_mel: waveform [B, S] -> spectra [B, T, mels · substeps] as in the features.
        unit: of the features' spectra, as a natural logarithm.
    """

    def __init__(
        self, network: SourceFilterVocoder, log_mel: Callable[[Tensor], Tensor], unit: float
    ) -> None:
        self.network, self.log_mel, self.unit = network, log_mel, unit
        self._ridge = Ridge(network.config.channels, network.config.mels)

    @torch.inference_mode()
    def add(self, features: Tensor) -> None:
        """Count a piece of the voice, `features` [T, D] of what was spoken."""
        network, mels = self.network, self.network.config.mels
        prepared = network.prepare(features.to(network.window.device))[None]
        shapes, hidden = network.shape(prepared[..., : network.dim])
        made = self.log_mel(network.sound(prepared, shapes)[:, 0])[0].reshape(-1, mels)
        spoken = prepared[0, :, : network.dim - 2].reshape(-1, mels)
        missing = (spoken - made) * self.unit
        inner = slice(EDGE, len(missing) - EDGE)
        self._ridge.add(hidden[0, inner], missing[inner].clamp(-MOST_MISSING, MOST_MISSING))

    def of_set(self, one: MatchingSet) -> Tensor:
        """The adaptation to a voice, from pieces of its set."""
        for piece in thinned(pieces(one), MOST_VOCODED):
            self.add(one.synth[piece])
        return self.solve()

    def solve(self, ridge: float = VOCODER_PENALTY) -> Tensor:
        """The `adaptation` [channels + 1, mels] that `SourceFilterVocoder` takes."""
        return self._ridge.solve(ridge)


def pieces(one: MatchingSet) -> list[slice]:
    """The set's rows in pieces, none over the end of a recording."""
    edges = [*one.frame_start.tolist(), len(one.match)]
    return [
        slice(at, min(at + PIECE, stop))
        for start, stop in pairwise(edges)
        for at in range(start, stop, PIECE)
    ]


def parted(found: list[slice]) -> tuple[list[slice], list[slice]]:
    """A third of the pieces, and the others; nothing of too short a set."""
    held_out = found[1::3]
    rest = [piece for number, piece in enumerate(found) if number % 3 != 1]
    if frames_of(held_out) < LEAST_ADAPTED:
        return [], []
    return thinned(held_out, MOST_ADAPTED), thinned(rest, MOST_REFERENCE)


def part_of_set(one: MatchingSet, chosen: list[slice]) -> MatchingSet:
    """These pieces of a set as one of its own, in which each counts as a recording."""
    rows = torch.cat([torch.arange(len(one.match))[piece] for piece in chosen])
    frames = [piece.stop - piece.start for piece in chosen]
    seconds = tuple(n * one.info.hop / one.info.sample_rate for n in frames)
    info = replace(one.info, files=("",) * len(chosen), seconds=seconds)
    starts = torch.tensor([0, *frames]).cumsum(0)[:-1]
    return MatchingSet(one.match[rows], one.synth[rows], starts, info)


def frames_of(chosen: Iterable[slice]) -> int:
    """How many frames the pieces have together."""
    return sum(piece.stop - piece.start for piece in chosen)


def thinned(found: list[slice], frames: int) -> list[slice]:
    """Some of the pieces, evenly drawn, that have about so many frames together."""
    given = frames_of(found)
    if given <= frames:
        return found
    count = max(1, len(found) * frames // given)
    return [found[at * len(found) // count] for at in range(count)]


def two_voices_of(one: MatchingSet, mels: int) -> list[MatchingSet]:
    """Two voices to convert into, where there are no others: the given one with formants moved."""
    spectra, pitch = one.synth[:, :-2], one.synth[:, -2:]
    moved = (other_tract(spectra, mels, factor) for factor in FORMANTS)
    return [replace(one, synth=torch.cat([other, pitch], dim=1)) for other in moved]


def write_voices(path: Path, sets: Mapping[str, MatchingSet]) -> None:
    """Write a preset's asset: the frames of each voice, in 8 bits but for the pitch.

    Values are rounded by column, to 1/127 of its largest.
    """
    encoders = {one.info.encoder for one in sets.values()}
    if len(encoders) != 1:
        raise UsageError("the voices must come from one encoder")
    tensors: dict[str, Tensor] = {}
    for name, one in sets.items():
        synth, match = one.synth, one.match
        tensors[f"{name}.spectra"] = synth[:, :-PITCH_COLUMNS].T
        tensors[f"{name}.phones"] = match[:, PITCH_COLUMNS:].T
        tensors[f"{name}.pitch"] = match[:, :PITCH_COLUMNS].flatten()
    packed = pack(tensors)
    packed |= {f"{name}.frame_start": one.frame_start for name, one in sets.items()}
    write_tensors(path, packed, {"encoder": encoders.pop()})


def read_voices(path: Path, encoder: MiniEncoder) -> list[MatchingSet]:
    """The voices that references are converted into, of a preset's asset.

    Voices that another encoder made are left out.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("encoder") != encoder.fingerprint:
        return []
    names = sorted({name.partition(".")[0] for name in tensors})
    found = []
    for name in names:
        spectra, phones = tensors[f"{name}.spectra"].float().T, tensors[f"{name}.phones"].float().T
        pitch = tensors[f"{name}.pitch"].float().reshape(-1, PITCH_COLUMNS)
        starts = tensors[f"{name}.frame_start"]
        info = SetInfo(
            preset="mini",
            encoder=encoder.fingerprint,
            hop=encoder.hop,
            sample_rate=encoder.sample_rate,
            files=("",) * len(starts),
            seconds=(0.0,) * len(starts),
            speaker=name,
        )
        match, synth = torch.cat([pitch, phones], dim=1), torch.cat([spectra, pitch], dim=1)
        found.append(MatchingSet(match, synth, starts, info))
    return found
