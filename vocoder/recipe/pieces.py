"""Training examples of the refiner: conversions whose result is known, of disguised sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini.acoustic_space import AcousticSpace, Statistics
from knnvc.mini.encoder import PhoneEncoder
from knnvc.mini.text_frontend import with_known_states
from knnvc.text.phones import PHONES, STATES
from recipe.data import Utterance
from recipe.disguises import disguised, other_speaker, same_speaker
from recipe.learner import Learner
from recipe.options import RefinerOptions
from recipe.selection import Selector
from recipe.voices import Listener, Piece, Task, Voice, draw, own_tasks, reference

NEIGHBOURS = (1, 1, 1, 2, 4)  # drawn for each piece, so that any k works; one blurs least
ENVELOPE_FACTORS = (0.5, 1.0, 1.0, 2.0)  # on its weight in the distance
MISHEARD = (3, 12)  # frames of one or two phones
MOST_HEARD = 20  # frames between them
CONVERTED_NEIGHBOURS = 4  # of a recording that is converted, as when `mini` converts
CONVERTED_REFINED = 0.6  # how far their mean is moved to what the refiner makes of it

# What `Refiner` takes, and the true spectra.
Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def mishear(posteriors: Tensor, rng: np.random.Generator) -> None:
    """Take some phones for others in √posteriors [T, states], in place.

    An encoder mishears accents and fast speech. So frames are selected for wrong phones, and the
    refiner learns to believe its other columns where they tell otherwise.
    """
    at = int(rng.integers(0, MOST_HEARD))
    while at < len(posteriors):
        span = slice(at, at + int(rng.integers(*MISHEARD)))
        others = 3 * int(rng.integers(1, len(PHONES)))
        posteriors[span, 1:] = posteriors[span, 1:].roll(others, 1)
        at = span.stop + int(rng.integers(0, MOST_HEARD))


class Pieces:
    """Draws training examples on the CPU; holds the encoded corpus in memory (150 MB an hour).

    The corpus is encoded on the device of `network`.
    """

    def __init__(
        self,
        utterances: list[Utterance],
        network: PhoneEncoder,
        space: AcousticSpace,
        bf16: bool,
        twins: Mapping[str, Utterance] | None = None,
        recordings: Sequence[Utterance] = (),
        views: tuple[int, ...] = (),
    ) -> None:
        self.listener = Listener(network, space, bf16)
        self.selector = Selector(space, views)
        self.space = space
        voices = self.listener.voices(utterances)
        if not voices:
            raise KnnvcError("no speaker of the corpus has three utterances: make a longer corpus")
        recorded = self.listener.voices(recordings)
        self.voices = [*voices.values(), *recorded.values()]
        self.tasks = own_tasks(voices.values())
        self.recorded_tasks = own_tasks(recorded.values())
        self.converted_tasks: list[Task] = []
        self.twin_tasks = list(self._twin_tasks(voices, twins or {}))
        self.listener.network.cpu()  # pieces are drawn one by one, and by processes

    def _twin_tasks(
        self, voices: Mapping[str, Voice], twins: Mapping[str, Utterance]
    ) -> Iterator[Task]:
        """Every utterance into the voice of its twin, and every twin into that of the original."""
        for task in self.tasks:
            twin = twins.get(task.source.file)
            if twin is None:
                continue
            yield Task(twin, task.voice, task.truth, task.without)
            if twin.speaker in voices:
                synth, _ = self.listener.frames(twin)
                yield Task(task.source, voices[twin.speaker], synth, None)

    def batch(self, options: RefinerOptions, rng: np.random.Generator) -> Example:
        """What `Refiner` takes (selected to manner), and the true spectra [B, T, width]."""
        chosen = list(self._choose(options, rng))
        degraded = rng.random() < options.degraded_share
        made = self.examples(chosen, options.frames, degraded, rng, options)
        selected, guide, usual, manner, views, truth = (
            torch.stack(column) for column in zip(*made, strict=True)
        )
        return selected, guide, usual, manner, views, truth

    def examples(
        self,
        chosen: list[Piece],
        frames: int,
        degraded: bool,
        rng: np.random.Generator,
        options: RefinerOptions | None = None,
    ) -> list[Example]:
        """Disguise, match and follow: `frames` of each piece.

        With `options` all is varied that a conversion may meet: the true spectra are mostly not the
        recording's but another speaker's, the source's envelope is kept from the refiner, its
        phones are known. Without, the examples are plain ones.
        """
        sources = disguised(self.listener, chosen, frames, degraded, rng)
        return [
            self._example(piece, source, frames, rng, options)
            for piece, source in zip(chosen, sources, strict=True)
        ]

    def _choose(self, options: RefinerOptions, rng: np.random.Generator) -> Iterator[Piece]:
        """Task and first frame of `options.batch` pieces."""

        def among() -> list[Task]:
            if self.recorded_tasks and rng.random() < options.recorded_share:
                if self.converted_tasks and rng.random() < options.converted_share:
                    return self.converted_tasks
                return self.recorded_tasks
            if self.twin_tasks and rng.random() < options.twin_share:
                return self.twin_tasks
            return self.tasks

        return draw(among, options.batch, options.frames, rng)

    def _example(
        self,
        piece: Piece,
        source: Tensor,
        frames: int,
        rng: np.random.Generator,
        options: RefinerOptions | None,
    ) -> Example:
        task, start = piece
        voice = task.voice
        width = self.space.mels * self.space.substeps
        if options and rng.random() < options.known_share:
            states = torch.from_numpy(task.source.states[start : start + frames])
            posteriors = slice(width + 2, width + 2 + STATES)
            source[:, posteriors] = with_known_states(source[:, posteriors], states)
        if options and rng.random() < options.misheard_share:
            mishear(source[:, width + 2 : width + 2 + STATES], rng)
        synth, match = source[:, : width + 2], source[:, width:]
        pool = reference(voice, task.without, rng)
        frames_of = other_speaker(self.space, rng) if options else same_speaker
        built, truth = (
            frames_of(part) for part in (voice.synth[pool], task.truth[start : start + frames])
        )
        factor = float(rng.choice(ENVELOPE_FACTORS)) if options else 1.0
        k = int(rng.choice(NEIGHBOURS))
        smooth = options is not None and rng.random() < options.smooth_share
        found = self.selector.matched(voice, pool, built, synth, match, k, smooth, factor)
        selected = found.selected
        # The pitch is given: the source's contour in the target's range, here the true one.
        selected[:, width:] = truth[:, width:]
        content = self._content(synth, match, found.own)
        if options and rng.random() < options.hidden_share:
            self.space.hide_envelope(content)
        told = (found.target.spectrum, found.target.vector, found.views)
        return selected, content, *told, truth[:, :width]

    def _content(self, synth: Tensor, match: Tensor, own: Statistics) -> Tensor:
        """What a `Learner` reads of a source: `AcousticSpace.content`, its last layer centred.

        The bottleneck comes before the unit of its columns.
        """
        content = self.space.content(synth, match, own)
        content[:, STATES : -1 - self.space.options.bands] *= own.content[1]
        return content

    @torch.inference_mode()
    def convert_recordings(self, learner: Learner, rng: np.random.Generator) -> None:
        """Fill `converted_tasks`: what `learner` makes of recordings in other voices, and back."""
        for number, task in enumerate(self.recorded_tasks, 1):
            voice = self.voices[rng.integers(len(self.voices))]
            if voice is not task.voice:
                source = self._converted(task, voice, learner, rng)
                self.converted_tasks.append(replace(task, source=source))
            if number % 1000 == 0 or number == len(self.recorded_tasks):
                print(f"converted {number} of {len(self.recorded_tasks)} recordings", flush=True)

    def _converted(
        self, task: Task, voice: Voice, learner: Learner, rng: np.random.Generator
    ) -> Utterance:
        """What the `task` takes for its own utterance, spoken by `voice`."""
        synth, match = self.listener.frames(task.source)
        pool = reference(voice, None, rng)
        k, built = CONVERTED_NEIGHBOURS, voice.synth[pool]
        found = self.selector.matched(voice, pool, built, synth, match, k, smooth=True)
        selected, known = found.selected, found.target
        width = self.space.mels * self.space.substeps
        self.space.follow_pitch(selected, synth, found.own, known)
        content = learner.bottleneck(self._content(synth, match, found.own)[None])[0]
        made = learner.refiner.refine(
            selected, content, known.spectrum, known.vector, [found.views]
        )
        mel = selected[:, :width].lerp(made[:, :width], CONVERTED_REFINED)
        spoken = mel.reshape(-1, self.space.mels).half().numpy()
        return replace(task.source, speaker=voice.utterances[0].speaker, mel=spoken)
