"""Training examples of the refiner: conversions whose result is known, of disguised sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

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
from recipe.likeness import Likeness
from recipe.options import RefinerOptions
from recipe.selection import Selector
from recipe.voices import Listener, Piece, Task, Voice, draw, own_tasks, reference

NEIGHBOURS = (1, 1, 1, 2, 4)  # drawn for each piece, so that any k works; one blurs least
ENVELOPE_FACTORS = (0.5, 1.0, 1.0, 2.0)  # on its weight in the distance
MISHEARD = (3, 12)  # frames of one or two phones
MOST_HEARD = 20  # frames between them
CONVERTED_NEIGHBOURS = 4  # of a recording that is converted, as when `mini` converts
CONVERTED_REFINED = 0.6  # how far their mean is moved to what the refiner makes of it


class Example(NamedTuple):
    """What a `Learner` takes, `selected` to `views`, and what is known of the result.

    `truth` [B, T, width] are the true spectra. Where another spoke the source they are unknown, and
    `known` [B] is False. Then `truth` is something else that the voice has spoken. What is known
    are `states` [B, T], the phone states that are said, and `likeness` [B, L], whose voice it is
    (see `recipe.likeness`). Of one piece without B.
    """

    selected: Tensor
    guide: Tensor
    usual: Tensor
    manner: Tensor
    views: Tensor
    truth: Tensor
    known: Tensor
    states: Tensor
    likeness: Tensor


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


def with_likeness(voice: Voice, likeness: Likeness, space: AcousticSpace) -> Voice:
    """The `voice`, with whose it is."""
    width = space.mels * space.substeps
    return replace(voice, likeness=likeness.voice(voice.synth[:, :width]))


def _crossed(voices: Sequence[Voice], rng: np.random.Generator) -> Task:
    """What one speaker said, into the voice of another."""
    one, other = rng.choice(len(voices), 2, replace=False)
    spoken = voices[one].utterances
    return Task(spoken[rng.integers(len(spoken))], voices[other], None, None)


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
        likeness: Likeness | None = None,
    ) -> None:
        self.listener = Listener(network, space, bf16)
        self.selector = Selector(space, views)
        self.space = space
        voices = self.listener.voices(utterances)
        if not voices:
            raise KnnvcError("no speaker of the corpus has three utterances: make a longer corpus")
        recorded = self.listener.voices(recordings)
        if likeness is not None:
            voices, recorded = (
                {name: with_likeness(voice, likeness, space) for name, voice in some.items()}
                for some in (voices, recorded)
            )
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
        """A batch of `options.batch` pieces."""
        chosen = list(self._choose(options, rng))
        degraded = rng.random() < options.degraded_share
        made = self.examples(chosen, options.frames, degraded, rng, options)
        return Example(*(torch.stack(column) for column in zip(*made, strict=True)))

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

        crossed = round(options.crossed_share * options.batch)
        if crossed:
            able = [voice for voice in self.voices if len(voice.synth) >= options.frames]
            if len(able) < 2:
                raise KnnvcError(f"no two speakers have {options.frames} frames: ask for fewer")
            yield from draw(lambda: [_crossed(able, rng)], crossed, options.frames, rng)
        yield from draw(among, options.batch - crossed, options.frames, rng)

    def _example(
        self,
        piece: Piece,
        source: Tensor,
        frames: int,
        rng: np.random.Generator,
        options: RefinerOptions | None,
    ) -> Example:
        task, start = piece
        span = slice(start, start + frames)
        voice = task.voice
        width = self.space.mels * self.space.substeps
        states = torch.from_numpy(task.source.states[span]).long()
        said = source[:, width + 2 : width + 2 + STATES]
        if options and rng.random() < options.known_share:
            said.copy_(with_known_states(said, states))
        if options and rng.random() < options.misheard_share:
            mishear(said, rng)
        synth, match = source[:, : width + 2], source[:, width:]
        short = options is not None and rng.random() < options.short_share
        pool = reference(voice, task.without, rng, short)
        # A voice that is recast would be nobody's.
        recast = options is not None and task.truth is not None
        frames_of = other_speaker(self.space, rng) if recast else same_speaker
        built = frames_of(voice.synth[pool])
        factor = float(rng.choice(ENVELOPE_FACTORS)) if options else 1.0
        k = int(rng.choice(NEIGHBOURS))
        smooth = options is not None and rng.random() < options.smooth_share
        found = self.selector.matched(voice, pool, built, synth, match, k, smooth, factor)
        selected = found.selected
        # The source's contour in the range of the target; where it is known, the true one.
        if task.truth is None:
            self.space.follow_pitch(selected, synth, found.own, found.target)
            first = int(rng.integers(len(voice.synth) - frames + 1))
            truth = voice.synth[first : first + frames]
        else:
            truth = frames_of(task.truth[span])
            selected[:, width:] = truth[:, width:]
        content = self._content(synth, match, found.own)
        if options and rng.random() < options.hidden_share:
            self.space.hide_envelope(content)
        likeness = torch.zeros(1) if voice.likeness is None else voice.likeness
        return Example(
            selected,
            content,
            found.target.spectrum,
            found.target.vector,
            found.views,
            truth[:, :width],
            torch.tensor(task.truth is not None),
            states,
            likeness,
        )

    def _content(self, synth: Tensor, match: Tensor, own: Statistics) -> Tensor:
        """What a `Learner` reads of a source: `AcousticSpace.content`, with layers centred.

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
