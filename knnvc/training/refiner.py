"""Train `mini`'s refiner: from frames selected for a disguised source back to what was spoken.

An utterance is disguised (other pitch, tempo, vocal tract, channel, noise), matched against other
utterances of its speaker, and the network is to give back its own spectra. So the source's voice
differs from the target's as in a conversion, while the right answer is known: the disguise plays
the part of another speaker, in the manner of kNN-VC's prematching, which has none. The speaker is
recast, too, in most pieces, with another vocal tract and another microphone: a corpus has about a
hundred voices, and a refiner that only knows those makes every target sound a little like them.

Where the corpus has twins (`knnvc.training.twins`), most pieces are conversions between two of its
voices whose result was spoken by the target: they teach what a disguise cannot, how much of what a
source does belongs to its voice.

Recordings of people have no twins. Where training begins with an earlier refiner, that one converts
them into other voices of the corpus, and from there they are to be brought back (back-translation,
Sennrich et al. 2016, https://aclanthology.org/P16-1009): so the truth is a recording, and what the
source says of its voice belongs to somebody else.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional

from knnvc.converters.knn import follow, path_first, select
from knnvc.encoders.ssl import PITCH_CENTRE, Encoder, MelWavLM
from knnvc.errors import KnnvcError
from knnvc.kernels import accelerate
from knnvc.mini.acoustic_space import AcousticSpace, Statistics
from knnvc.mini.phones import FRAME, STATES, assure
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.mini.vocal_tract import log_mel
from knnvc.tensors import check_shapes, read_tensors
from knnvc.training.augmentation import (
    channel_curve,
    degrade,
    noise_floor,
    recast,
    stretch,
)
from knnvc.training.data import (
    MINI_REFINER,
    Utterance,
    load_corpus,
    load_recordings,
    load_twins,
    recorded,
    split,
)
from knnvc.training.options import RefinerOptions
from knnvc.training.runs import cosine_rate, seed_everything
from knnvc.training.spectrograms import SpectrogramTraining
from knnvc.training.verifier import Verifier, verification_loss

CANDIDATES = 16  # of which the smoothest path is taken
NEIGHBOURS = (1, 1, 1, 2, 4)  # drawn for each piece, so that any k works; one blurs least
TEMPO = 0.2  # natural logarithm of the largest change of pitch and tempo
FORMANTS = 0.22  # and of the vocal tract on top of it
MOST_REFERENCES = 60  # utterances, some five minutes
RECAST_SHARE = 0.85  # of the pieces are of a speaker with another vocal tract and microphone
RECAST_FORMANTS = 0.15  # natural logarithm of the largest change
ENVELOPE_FACTORS = (0.5, 1.0, 1.0, 2.0)  # on its weight in the distance
LONGEST_VOICE = 1200.0  # seconds of one speaker's recordings
CONVERTED_NEIGHBOURS = 4  # of a recording that is converted, as when `mini` converts
CONVERTED_REFINED = 0.6  # how far their mean is moved to what the refiner makes of it
LEAST_UNIT = 0.4  # of a band before the critic; in full-band speech they spread by 0.5 and more
MOST_MISSES = 100_000  # tasks in a row that are too short for a piece
RECAST_COLOUR = 0.6  # standard deviation, in natural logarithms of the magnitude


@dataclass(frozen=True)
class Voice:
    """All frames of a speaker: `synth` [N, Ds], `match` [N, Dm], `vectors` to compare [N, Dv].

    `joins` [N, J] are for `follow`. Utterance i spans the frames `starts[i]` to `starts[i + 1]`.
    """

    utterances: list[Utterance]
    starts: list[int]
    synth: Tensor
    match: Tensor
    vectors: Tensor
    joins: Tensor


@dataclass(frozen=True)
class Task:
    """A conversion whose result is known: `source`, into `voice`, should become `truth`.

    `truth` [T, Ds] are frames that run alike to the source's. `without` is the utterance of the
    voice that may not be selected from, because it is the truth; None if there is no such.
    """

    source: Utterance
    voice: Voice
    truth: Tensor
    without: int | None


@dataclass(frozen=True)
class Matched:
    """Statistics of source and target; `selected` [T, Ds] and `views` [T, views · width]."""

    own: Statistics
    target: Statistics
    selected: Tensor
    views: Tensor


Piece = tuple[Task, int]  # and its first frame
# What `Refiner` takes, and the true spectra.
Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Pieces:
    """Draws training examples; holds the encoded corpus in memory (150 MB an hour)."""

    def __init__(
        self,
        utterances: list[Utterance],
        network: MelWavLM,
        space: AcousticSpace,
        bf16: bool,
        twins: Mapping[str, Utterance] | None = None,
        recordings: Sequence[Utterance] = (),
        views: tuple[int, ...] = (),
    ) -> None:
        self.network = copy.deepcopy(network).eval()
        precision = "bfloat16" if bf16 else "float32"
        accelerate(self.network, precision, keep=("phones", "pitch"))
        self.space, self.views = space, views
        voices = self._voices(utterances)
        if not voices:
            raise KnnvcError("no speaker of the corpus has three utterances: make a longer corpus")
        recorded = self._voices(recordings)
        self.voices = [*voices.values(), *recorded.values()]
        self.tasks = _own_tasks(voices.values())
        self.recorded_tasks = _own_tasks(recorded.values())
        self.converted_tasks: list[Task] = []
        self.twin_tasks = list(self._twin_tasks(voices, twins or {}))

    def _voices(self, utterances: Sequence[Utterance]) -> dict[str, Voice]:
        """The speakers of three utterances or more, by name."""
        grouped: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            grouped[utterance.speaker].append(utterance)
        return {name: self._voice(group) for name, group in grouped.items() if len(group) > 2}

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
                synth, _ = self._frames(twin)
                yield Task(task.source, voices[twin.speaker], synth, None)

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is said [B, T, states], log2 f0 and voicing [B, T] of log-mel frames."""
        outputs, pitch = self.network.predict(mel)
        pitch = pitch.float()
        return (
            self.network.said(outputs),
            pitch[..., 0] + PITCH_CENTRE,
            torch.sigmoid(pitch[..., 1]),
        )

    def _frames(self, utterance: Utterance) -> tuple[Tensor, Tensor]:
        """Synthesis columns [T, Ds] and match columns [T, Dm]."""
        mel = torch.from_numpy(utterance.mel.astype(np.float32))
        mel = mel.reshape(1, len(utterance.f0), -1)
        said, pitch, voicing = self.encode(mel)
        heard = torch.stack([pitch[0], voicing[0]], 1)
        return torch.cat([mel[0], heard], 1), torch.cat([heard, said[0]], 1)

    def _voice(self, utterances: list[Utterance]) -> Voice:
        synths, matches, starts = [], [], [0]
        for utterance in utterances:
            synth, match = self._frames(utterance)
            synths.append(synth)
            matches.append(match)
            starts.append(starts[-1] + len(synth))
        synth, match = torch.cat(synths), torch.cat(matches)
        statistics = self.space.statistics(synth, match)
        vectors = self.space.vectors(synth, match, statistics, torch.tensor(starts[:-1]))
        joins = self.space.joins(synth, statistics)
        return Voice(utterances, starts, synth, match, vectors, joins)

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
        sources = self.disguised(chosen, frames, degraded, rng)
        return [
            self._example(piece, source, frames, rng, options)
            for piece, source in zip(chosen, sources, strict=True)
        ]

    def disguised(
        self, chosen: list[Piece], frames: int, degraded: bool, rng: np.random.Generator
    ) -> Tensor:
        """What is heard [B, frames, columns] of the pieces' sources at another pitch, pace, tract.

        All columns of synthesis and match, at the pace of the originals; `degraded` ones are noisy
        or reverberant, too.
        """
        ratio = float(np.exp(rng.uniform(-TEMPO, TEMPO)))
        length = round(frames / ratio)
        magnitudes = [
            stretch(
                task.source.mel,
                2 * start,
                2 * length,
                ratio,
                ratio * float(np.exp(rng.uniform(-FORMANTS, FORMANTS))),
            )
            for task, start in chosen
        ]
        energy = torch.from_numpy(np.stack(magnitudes)).float()
        if degraded:
            energy = degrade(energy, rng).float()
        mel = log_mel(energy).reshape(len(chosen), length, -1)
        said, pitch, voicing = self.encode(mel)
        heard = torch.stack([pitch - np.log2(ratio), voicing], -1)
        return resample(torch.cat([mel, heard, said], -1), frames, ratio)

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
            source[:, posteriors] = assure(source[:, posteriors], states)
        synth, match = source[:, : width + 2], source[:, width:]
        pool = reference(voice, task.without, rng)
        frames_of = self.other_speaker(rng, width) if options else _same_speaker
        built, truth = (
            frames_of(part) for part in (voice.synth[pool], task.truth[start : start + frames])
        )
        factor = float(rng.choice(ENVELOPE_FACTORS)) if options else 1.0
        k = int(rng.choice(NEIGHBOURS))
        smooth = options is not None and rng.random() < options.smooth_share
        found = self.matched(voice, pool, built, synth, match, k, smooth, factor)
        selected = found.selected
        # The pitch is given: the source's contour in the target's range, here the true one.
        selected[:, width:] = truth[:, width:]
        guide = self.space.guide(synth, match, found.own)
        if options and rng.random() < options.hidden_share:
            self.space.hide_envelope(guide)
        told = (found.target.spectrum, found.target.manner, found.views)
        return selected, guide, *told, truth[:, :width]

    def matched(
        self,
        voice: Voice,
        pool: Tensor,
        built: Tensor,
        synth: Tensor,
        match: Tensor,
        k: int,
        smooth: bool,
        factor: float = 1.0,
    ) -> Matched:
        """What the rows `pool` [M] of `voice` give for a source, as far as there are k of them.

        Args:
            voice: the target.
            pool: of its frames, those to select from.
            built: [M, Ds] how these sound.
            synth: [T, Ds] the source.
            match: [T, Dm] its match columns.
            k: neighbours whose mean is taken.
            smooth: see `neighbours`.
            factor: on the weight of the envelope.
        """
        own = self.space.statistics(synth, match)
        target = self.space.statistics(built, voice.match[pool])
        query, among = self.space.vectors(synth, match, own), voice.vectors[pool]
        if factor != 1:
            envelope = slice(-2 - self.space.options.bands, -2)
            query[:, envelope] *= factor
            among[:, envelope] *= factor
        # Normalised by the speaker's statistics, the vectors hardly change when it is recast.
        rows = self.neighbours(voice, pool, query, among, smooth)
        selected, views = self.means(built, rows, min(k, len(pool)), synth, own, target)
        return Matched(own, target, selected, views)

    def neighbours(
        self, voice: Voice, pool: Tensor, query: Tensor, among: Tensor, smooth: bool
    ) -> Tensor:
        """Rows of `pool` [M, CANDIDATES at most], nearest first.

        With `smooth`, the first is the one that joins well with those before and after.
        """
        query, among = functional.normalize(query, dim=1), functional.normalize(among, dim=1)
        most = min(max([CANDIDATES, *self.views]), len(pool))
        cosines, rows = torch.topk(query @ among.T, most, dim=1)
        if not smooth:
            return rows
        seams = torch.ones(len(pool), dtype=torch.bool)
        seams[1:] = pool[1:] != pool[:-1] + 1
        seams |= torch.isin(pool, torch.tensor(voice.starts))
        weight = self.space.options.join_weight
        near = slice(CANDIDATES)
        path = follow(1 - cosines[:, near], rows[:, near], voice.joins[pool], weight, seams)
        return rows.gather(1, path_first(rows, path))

    def means(
        self,
        built: Tensor,
        rows: Tensor,
        k: int,
        synth: Tensor,
        own: Statistics,
        target: Statistics,
    ) -> tuple[Tensor, Tensor]:
        """Mean of the first k of `rows` [T, Ds], and of the views [T, views · width].

        All at the level of the source, whose frames and statistics are `synth` and `own`.
        """
        first, *seen = (
            self.space.follow_level(_mean(built, rows[:, :count]), synth, own, target)
            for count in (k, *self.views)
        )
        width = self.space.mels * self.space.substeps
        return first, torch.cat([first[:, :0], *(view[:, :width] for view in seen)], dim=1)

    @torch.inference_mode()
    def convert_recordings(self, refiner: Refiner, rng: np.random.Generator) -> None:
        """Fill `converted_tasks`: what `refiner` makes of recordings in other voices, and back."""
        for number, task in enumerate(self.recorded_tasks, 1):
            voice = self.voices[rng.integers(len(self.voices))]
            if voice is not task.voice:
                source = self._converted(task, voice, refiner, rng)
                self.converted_tasks.append(replace(task, source=source))
            if number % 1000 == 0 or number == len(self.recorded_tasks):
                print(f"converted {number} of {len(self.recorded_tasks)} recordings", flush=True)

    def _converted(
        self, task: Task, voice: Voice, refiner: Refiner, rng: np.random.Generator
    ) -> Utterance:
        """What the `task` takes for its own utterance, spoken by `voice`."""
        assert task.without is not None
        start = task.voice.starts[task.without]
        synth, match = task.truth, task.voice.match[start : start + len(task.truth)]
        pool = reference(voice, None, rng)
        k, built = CONVERTED_NEIGHBOURS, voice.synth[pool]
        found = self.matched(voice, pool, built, synth, match, k, smooth=True)
        selected, known = found.selected, found.target
        width = self.space.mels * self.space.substeps
        self.space.follow_pitch(selected, synth, found.own, known)
        guide = self.space.guide(synth, match, found.own)
        made = refiner.refine(selected, guide, known.spectrum, known.manner, [found.views])
        mel = selected[:, :width].lerp(made[:, :width], CONVERTED_REFINED)
        spoken = mel.reshape(-1, self.space.mels).half().numpy()
        return replace(task.source, speaker=voice.utterances[0].speaker, mel=spoken)

    def other_speaker(
        self, rng: np.random.Generator, width: int, share: float = RECAST_SHARE
    ) -> Callable[[Tensor], Tensor]:
        """What makes another speaker of all frames [N, Ds] of one, in a `share` of the cases."""
        formants = self._other_tract(rng, share)
        return _same_speaker if formants is None else self._recast(formants, rng, width)

    def _other_tract(self, rng: np.random.Generator, share: float) -> float | None:
        """By which factor formants move in a speaker that is recast; None for one that is not."""
        if rng.random() >= share:
            return None
        return float(np.exp(rng.uniform(-RECAST_FORMANTS, RECAST_FORMANTS)))

    def _recast(
        self, formants: float, rng: np.random.Generator, width: int
    ) -> Callable[[Tensor], Tensor]:
        """What moves the formants of frames [N, Ds], and has them heard in another room."""
        colour = channel_curve(self.space.mels, RECAST_COLOUR, rng)
        floor = noise_floor(self.space.mels, rng)

        def apply(synth: Tensor) -> Tensor:
            spectra = recast(synth[:, :width], self.space.mels, formants, colour, floor)
            return torch.cat([spectra, synth[:, width:]], dim=1)

        return apply

    def with_two_utterances(self, frames: int) -> list[Voice]:
        """The voices that have two utterances longer than so many frames."""
        return [v for v in self.voices if sum(len(u.f0) > frames for u in v.utterances) > 1]

    def same_voices(
        self, count: int, frames: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Twice `count` pieces [count, frames, width]: row i of either is of the same voice.

        No two rows are of one speaker, as far as there are enough; most speakers are recast. Either
        piece was recorded in a room of its own, so that the room does not tell whose it is.
        """
        width = self.space.mels * self.space.substeps
        able = self.with_two_utterances(frames)
        rows: list[tuple[Tensor, Tensor]] = []
        for number in rng.permutation(len(able))[:count]:
            voice, formants = able[number], self._other_tract(rng, RECAST_SHARE)
            long = [i for i, u in enumerate(voice.utterances) if len(u.f0) > frames]
            starts = [
                voice.starts[i] + int(rng.integers(len(voice.utterances[i].f0) - frames))
                for i in rng.choice(long, 2, replace=False)
            ]
            pieces = [voice.synth[s : s + frames] for s in starts]
            if formants is not None:
                pieces = [self._recast(formants, rng, width)(piece) for piece in pieces]
            one, other = (piece[:, :width] for piece in pieces)
            rows.append((one, other))
        return torch.stack([one for one, _ in rows]), torch.stack([other for _, other in rows])


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
        room = len(task.truth) - frames
        if room > 0:
            found, misses = found + 1, 0
            yield task, int(rng.integers(room))
            continue
        misses += 1
        if misses == MOST_MISSES:
            raise KnnvcError(f"no utterance has more than {frames} frames: ask for fewer")


def _mean(synth: Tensor, rows: Tensor) -> Tensor:
    return select(synth, rows, torch.full(rows.shape, 1 / rows.shape[1]))


def _own_tasks(voices: Iterable[Voice]) -> list[Task]:
    """Every utterance into the voice that spoke it."""
    return [
        Task(utterance, voice, voice.synth[start:stop], index)
        for voice in voices
        for index, (utterance, (start, stop)) in enumerate(
            zip(voice.utterances, pairwise(voice.starts), strict=True)
        )
    ]


def _same_speaker(synth: Tensor) -> Tensor:
    return synth


def reference(voice: Voice, index: int | None, rng: np.random.Generator) -> Tensor:
    """Rows of some utterances other than `index` of the speaker: little as often as much."""
    others = [i for i in range(len(voice.utterances)) if i != index]
    count = round(np.exp(rng.uniform(0, np.log(min(len(others), MOST_REFERENCES)))))
    kept = sorted(rng.choice(others, size=count, replace=False))
    return torch.cat([torch.arange(voice.starts[i], voice.starts[i + 1]) for i in kept])


def resample(features: Tensor, frames: int, ratio: float) -> Tensor:
    """`features` [B, T, D] of speech played `ratio` times as fast, at its own pace again."""
    at = ((torch.arange(frames) + 0.5) / ratio - 0.5).clamp(0, features.shape[1] - 1)
    low = at.long().clamp(max=features.shape[1] - 2)
    share = (at - low)[:, None]
    return features[:, low] * (1 - share) + features[:, low + 1] * share


def train_verifier(
    verifier: Verifier, pieces: Pieces, options: RefinerOptions, rng: np.random.Generator
) -> None:
    """Teach `verifier` the voices of the corpus, recast ones among them."""
    learner = torch.optim.AdamW(verifier.parameters(), options.rate)
    losses: list[float] = []
    for step in range(options.verifier_steps):
        learner.param_groups[0]["lr"] = cosine_rate(step, options.verifier_steps, options.rate, 50)
        both = torch.cat(pieces.same_voices(2 * options.batch, options.frames, rng))
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            vectors = verifier(both.reshape(len(both), -1, pieces.space.mels))
        loss = verification_loss(*vectors.chunk(2))
        learner.zero_grad()
        torch.autograd.backward(loss)
        learner.step()
        losses.append(float(loss.detach()))
        if (step + 1) % options.report_every == 0:
            print(f"verifier: step {step + 1}, loss {np.mean(losses):.3f}", flush=True)
            losses.clear()


def train_refiner(
    corpus: Path,
    encoder: Encoder,
    space: AcousticSpace,
    folder: Path,
    options: RefinerOptions,
    config: RefinerConfig = MINI_REFINER,
    start: Path | None = None,
) -> Path:
    """Train, or resume, in `folder`; writes `refiner.safetensors` there and returns its path.

    A new training begins with the weights in `start`, if given.

    Raises:
        KnnvcError: the encoder is not `mini`'s kind, or the corpus holds too little.
    """
    network = listening(encoder)
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    refiner = Refiner(config)
    _begin_with(refiner, start)
    weights = {"adversarial": 1.0, "matching": options.matching_weight}
    training = SpectrogramTraining(refiner, folder, options, config.mels, weights, given=1)
    run = training.run
    verifier = run.parts["verifier"] = Verifier(config.mels)
    resumed = run.resume()
    if resumed:
        rng = np.random.default_rng(options.seed + run.step)
    utterances, held_out = split(load_corpus(corpus, network))
    twins = load_twins(corpus, network)
    recordings = people(corpus, network, options.recorded_share)
    views = config.views
    pieces = Pieces(utterances, network, space, options.bf16, twins, recordings, views)
    if start is not None and options.converted_share > 0 and run.step < options.steps:
        pieces.convert_recordings(earlier_refiner(config, start), rng)
    validation = _validation(held_out, network, space, options, twins, views)
    print(
        f"{len(pieces.voices)} voices to train on, {len(pieces.twin_tasks)} conversions with a "
        f"known result, {len(recordings)} recordings, {len(validation)} batches held out",
        flush=True,
    )
    # It takes two voices to tell one from another.
    verified = options.verifier_steps > 0 and len(pieces.with_two_utterances(options.frames)) > 1
    if verified and not resumed:
        train_verifier(verifier, pieces, options, rng)
        run.save()
    verifier.requires_grad_(False)
    while training.begin_step():
        selected, guide, usual, manner, seen, mel = pieces.batch(options, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            made = refiner(selected, guide, usual, manner, seen)[..., : config.width].float()
        losses = {"spectral": (made - mel).abs().mean()}
        total = options.spectral_weight * losses["spectral"]
        if verified:
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                both = torch.cat([made, mel]).reshape(2 * len(mel), -1, config.mels)
                one, other = verifier(both).chunk(2)
            losses["voice"] = 1 - (one * other).sum(1).mean()
            total = total + options.voice_weight * losses["voice"]
        # The critic sees the target's own frames, too: so what is made must have their voice. Bands
        # that a recording leaves empty hardly vary: in their own units they would drown the others.
        units = torch.stack([usual[:, 0], usual[:, 1].clamp(min=LEAST_UNIT)], dim=1)
        shown = [refiner.in_units(x, units) for x in (made, mel, selected[..., : config.width])]
        losses |= training.judge(*shown)
        if training.finish_step(total, losses):
            run.report(held_out=_evaluate(training.averaged, validation))
    return run.publish(training.averaged, "refiner", **recorded(recordings))


def _begin_with(refiner: Refiner, start: Path | None) -> None:
    """Load the weights in `start`, if given; views that they do not know are not looked at yet."""
    if start is None:
        return
    weights, _ = read_tensors(start)
    read = weights.get("read.weight")
    if read is not None:
        missing = refiner.read.in_channels - read.shape[1]
        if missing > 0 and missing % refiner.config.width == 0:
            weights["read.weight"] = functional.pad(read, (0, 0, 0, missing))
    check_shapes(start, refiner.state_dict(), weights)
    refiner.load_state_dict(weights)


def earlier_refiner(config: RefinerConfig, start: Path) -> Refiner:
    """A refiner with the weights in `start`, whose training may have known fewer views."""
    refiner = Refiner(config).eval()
    _begin_with(refiner, start)
    return refiner


def average_refiners(
    weights: Sequence[Path], config: RefinerConfig
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The mean of trained weights, in half precision, and what was noted with them.

    A refiner that was trained further on recordings is more like voices that were never met, the
    one before makes cleaner speech; their mean keeps most of both (Wortsman et al. 2022,
    https://arxiv.org/abs/2109.01903). It works only where one began with the other.
    """
    states = [earlier_refiner(config, path).state_dict() for path in weights]
    noted = [read_tensors(path)[1] for path in weights]
    names = dict.fromkeys(name for notes in noted for name in notes)
    return (
        {name: torch.stack([s[name] for s in states]).mean(0).half() for name in states[0]},
        {name: ", ".join(notes.get(name, "?") for notes in noted) for name in names},
    )


def listening(encoder: Encoder) -> MelWavLM:
    """The network of an `encoder` that a refiner can work with.

    Raises:
        KnnvcError: the encoder is not `mini`'s kind.
    """
    if not isinstance(encoder.network, MelWavLM):
        raise KnnvcError("a refiner works with mel-wavlm encoders only")
    return encoder.network


def people(corpus: Path, network: MelWavLM, share: float, taught: bool = True) -> list[Utterance]:
    """The recordings that a training learns from which gives them a `share` of its pieces.

    `taught` as of `load_recordings`.
    """
    return with_a_voice(load_recordings(corpus, network, taught)) if share > 0 else []


def with_a_voice(recordings: list[Utterance]) -> list[Utterance]:
    """The recordings whose speaker is known, of each no more than LONGEST_VOICE."""
    seconds: dict[str, float] = defaultdict(float)
    kept = []
    for recording in recordings:
        if recording.speaker and seconds[recording.speaker] < LONGEST_VOICE:
            seconds[recording.speaker] += len(recording.f0) * FRAME
            kept.append(recording)
    return kept


@torch.inference_mode()
def prematch_refined(
    corpus: Path,
    encoder: Encoder,
    space: AcousticSpace,
    refiner: Refiner,
    out: Path,
    seed: int = 0,
    bf16: bool = False,
) -> None:
    """Write refined frames of disguised utterances to `out`, in the format of `prematch`.

    A vocoder that trains on them learns to read what it is given in a conversion.

    Raises:
        KnnvcError: the encoder is not `mini`'s kind, or the corpus holds too little.
    """
    network = listening(encoder)
    rng = seed_everything(seed)
    training, _ = split(load_corpus(corpus, network))
    pieces = Pieces(training, network, space, bf16, views=refiner.config.views)
    tensors: dict[str, npt.NDArray[np.float16]] = {}
    for number, task in enumerate(pieces.tasks, 1):
        whole = pieces.examples([(task, 0)], len(task.truth), False, rng)[0]
        selected, guide, usual, manner, views, _ = whole
        made = refiner.refine(selected, guide, usual, manner, [views])
        tensors[task.source.file] = made.half().numpy()
        if number % 100 == 0 or number == len(pieces.tasks):
            print(f"refined {number} of {len(pieces.tasks)} utterances", flush=True)
    temporary = out.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(out)


def _validation(
    utterances: list[Utterance],
    network: MelWavLM,
    space: AcousticSpace,
    options: RefinerOptions,
    twins: Mapping[str, Utterance],
    views: tuple[int, ...],
) -> list[Example]:
    """A few fixed batches of speakers that are held out; none if there are too few utterances."""
    rng = np.random.default_rng(1)
    try:
        pieces = Pieces(utterances, network, space, options.bf16, twins, views=views)
        return [pieces.batch(options, rng) for _ in range(4)]
    except KnnvcError:
        return []


@torch.inference_mode()
def _evaluate(refiner: Refiner, batches: list[Example]) -> float:
    """Mean L1 of log-mel values on held-out speakers."""
    width = refiner.config.width
    losses = [float((refiner(*read)[..., :width] - mel).abs().mean()) for *read, mel in batches]
    return float(np.mean(losses)) if losses else float("nan")
