"""The voices of a corpus as `mini` hears them, and conversions whose result is known."""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from knnvc.errors import KnnvcError
from knnvc.kernels import accelerate
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.encoder import PhoneEncoder
from knnvc.mini.format import PITCH_CENTRE
from knnvc.text.phones import STATES
from recipe.data import Utterance

MOST_REFERENCES = 60  # utterances, some five minutes
SHORT = (40, 140)  # frames of a short reference
MOST_MISSES = 100_000  # tasks in a row that are too short for a piece


@dataclass(frozen=True)
class Voice:
    """All frames of a speaker: `synth` [N, Ds], `match` [N, Dm], `vectors` to compare [N, Dv].

    `joins` [N, J] are for `knnvc.converters.knn.follow`. Utterance i spans the frames `starts[i]`
    to `starts[i + 1]`. `likeness` [L] is whose voice it is, as of `recipe.likeness`, if asked for.
    """

    utterances: list[Utterance]
    starts: list[int]
    synth: Tensor
    match: Tensor
    vectors: Tensor
    joins: Tensor
    likeness: Tensor | None = None


@dataclass(frozen=True)
class Task:
    """A conversion: `source`, into `voice`, should become `truth`.

    `truth` [T, Ds] are frames that run alike to the source's; None where nobody knows it, because
    another spoke the source. `without` is the utterance of the voice that may not be selected
    from, because it is the truth; None if there is no such.
    """

    source: Utterance
    voice: Voice
    truth: Tensor | None
    without: int | None


Piece = tuple[Task, int]  # and its first frame


class Listener:
    """Encodes a corpus as a conversion does; what it takes and gives lies on the CPU.

    Args:
        network: `mini`'s encoder; a copy of it is used, on its device.
        space: where frames are compared.
        bf16: whether the network computes in bfloat16.
    """

    def __init__(self, network: PhoneEncoder, space: AcousticSpace, bf16: bool) -> None:
        self.network = opened(network)
        precision = "bfloat16" if bf16 else "float32"
        accelerate(self.network, precision, keep=("phones", "pitch", "content"))
        self.space = space

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is said [B, T, states], log2 f0 and voicing [B, T] of log-mel frames."""
        device = next(self.network.parameters()).device
        outputs, pitch = self.network.predict(mel.to(device))
        pitch = pitch.float().cpu()
        return (
            self.network.posteriors(outputs).cpu(),
            pitch[..., 0] + PITCH_CENTRE,
            torch.sigmoid(pitch[..., 1]),
        )

    def frames(self, utterance: Utterance) -> tuple[Tensor, Tensor]:
        """Synthesis columns [T, Ds] and match columns [T, Dm]."""
        mel = torch.from_numpy(utterance.mel.astype(np.float32))
        mel = mel.reshape(1, len(utterance.f0), -1)
        said, pitch, voicing = self.encode(mel)
        heard = torch.stack([pitch[0], voicing[0]], 1)
        return torch.cat([mel[0], heard], 1), torch.cat([heard, said[0]], 1)

    def voice(self, utterances: list[Utterance]) -> Voice:
        """All frames of the speaker of `utterances`."""
        synths, matches, starts = [], [], [0]
        for utterance in utterances:
            synth, match = self.frames(utterance)
            synths.append(synth)
            matches.append(match[:, : 2 + STATES])
            starts.append(starts[-1] + len(synth))
        # Of the target nothing but phones is compared.
        synth, match = torch.cat(synths), torch.cat(matches)
        statistics = self.space.statistics(synth, match)
        vectors = self.space.vectors(synth, match, statistics, torch.tensor(starts[:-1]))
        joins = self.space.joins(synth, statistics)
        return Voice(utterances, starts, synth, match, vectors, joins)

    def voices(self, utterances: Sequence[Utterance]) -> dict[str, Voice]:
        """The speakers of three utterances or more, by name."""
        grouped: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            grouped[utterance.speaker].append(utterance)
        return {name: self.voice(group) for name, group in grouped.items() if len(group) > 2}


def opened(network: PhoneEncoder) -> PhoneEncoder:
    """A copy whose content columns are what content is made of: what a bottleneck learns on."""
    copied = copy.deepcopy(network).eval()
    copied.config = dataclasses.replace(copied.config, content=copied.config.content_inputs)
    copied.content = nn.Identity()
    return copied


def own_tasks(voices: Iterable[Voice]) -> list[Task]:
    """Every utterance into the voice that spoke it."""
    return [
        Task(utterance, voice, voice.synth[start:stop], index)
        for voice in voices
        for index, (utterance, (start, stop)) in enumerate(
            zip(voice.utterances, pairwise(voice.starts), strict=True)
        )
    ]


def draw(
    among: Callable[[], list[Task]], count: int, frames: int, rng: np.random.Generator
) -> Iterator[Piece]:
    """So many pieces of tasks that have more than so many `frames`, one each of `among()`.

    Raises:
        KnnvcError: hardly any task is long enough.
    """
    found = misses = 0
    while found < count:
        tasks = among()
        task = tasks[rng.integers(len(tasks))]
        room = len(task.source.f0) - frames
        if room > 0:
            found, misses = found + 1, 0
            yield task, int(rng.integers(room))
            continue
        misses += 1
        if misses == MOST_MISSES:
            raise KnnvcError(f"no utterance has more than {frames} frames: ask for fewer")


def reference(
    voice: Voice, index: int | None, rng: np.random.Generator, short: bool = False
) -> Tensor:
    """Rows of some utterances other than `index` of the speaker: little as often as much.

    `short` asks for less than three seconds of one utterance, as a user may have of a voice.
    """
    others = [i for i in range(len(voice.utterances)) if i != index]
    if short:
        one = int(rng.choice(others))
        first, last = voice.starts[one], voice.starts[one + 1]
        count = min(last - first, int(rng.integers(*SHORT)))
        first += int(rng.integers(last - first - count + 1))
        return torch.arange(first, first + count)
    count = round(np.exp(rng.uniform(0, np.log(min(len(others), MOST_REFERENCES)))))
    kept = sorted(rng.choice(others, size=count, replace=False))
    return torch.cat([torch.arange(voice.starts[i], voice.starts[i + 1]) for i in kept])
