"""Train `mini`'s refiner: from frames selected for a disguised source back to what was spoken.

An utterance is disguised (other pitch, tempo, vocal tract, channel, noise), matched against other
utterances of its speaker, and the network is to give back its own spectra. So the source's voice
differs from the target's as in a conversion, while the right answer is known: the disguise plays
the part of another speaker, in the manner of kNN-VC's prematching, which has none. The speaker is
recast, too, in most pieces, with another vocal tract and another microphone: a corpus has about a
hundred voices, and a refiner that only knows those makes every target sound a little like them.

Where the corpus has twins (`recipe.twins`), most pieces are conversions between two of its
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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.encoder import MiniEncoder as Encoder
from knnvc.mini.encoder import PhoneEncoder
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.presets.loading import choose_device
from knnvc.tensors import read_tensors, write_tensors
from knnvc.text.phones import FRAME, STATES
from knnvc.training.runs import seed_everything
from recipe.data import (
    MINI_REFINER,
    Utterance,
    load_corpus,
    load_recordings,
    load_twins,
    recorded,
    split,
)
from recipe.drawing import Batches, moved
from recipe.learner import CONTENT, LAYER, Learner, earlier_learner, earlier_refiner, mean_of
from recipe.likeness import Likeness, pretrained
from recipe.losses import frozen, heard_apart, misheard
from recipe.options import RefinerOptions
from recipe.pieces import Example, Pieces
from recipe.speakers import prior_for
from recipe.spectrograms import SpectrogramTraining

LONGEST_VOICE = 1200.0  # seconds of one speaker's recordings
PART = 140  # frames: recordings are cut into parts, so that one is a reference for another
MEASURED = 300  # parts whose principal components a bottleneck begins with
GIVEN = 5  # columns of an `Example` that a `Learner` takes
LEAST_UNIT = 0.4  # of a band before the critic; in full-band speech they spread by 0.5 and more


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
        UsageError: the device is not there.
    """
    device = choose_device(options.device)
    network = listening(encoder)
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    learner = earlier_learner(config, network.config.content_inputs, start).to(device)
    refiner = learner.refiner
    # Two utterances of one voice need not be alike inside the critic.
    matching = 0.0 if options.crossed_share > 0 else options.matching_weight
    weights = {"adversarial": 1.0, "matching": matching}
    late = (refiner, options.critic_warmup)
    training = SpectrogramTraining(learner, folder, options, config.mels, weights, late)
    run = training.run
    resumed = run.resume()
    if resumed:
        rng = np.random.default_rng(options.seed + run.step)
    training_speech, held_out_speech = split(load_corpus(corpus, network))
    prior = prior_for(space, training_speech, folder, start)
    space = AcousticSpace(space.options, space.mels, space.substeps, prior=prior)
    utterances, held_out = (parts_of(some) for some in (training_speech, held_out_speech))
    twins = load_twins(corpus, network)
    recordings = people(corpus, network, options.recorded_share)
    ear = frozen(network, device)
    likeness = pretrained(network).to(device) if options.crossed_share > 0 else None
    pieces = Pieces(utterances, ear, space, options.bf16, twins, recordings, config.views, likeness)
    if start is not None and options.converted_share > 0 and not run.done:
        pieces.convert_recordings(copy.deepcopy(learner).cpu().eval(), rng)
    if not resumed and (start is None or not (start.parent / CONTENT).exists()):
        learner.bottleneck.begin(_layers(pieces).to(device))
    validation = _validation(held_out, ear, space, options, twins, config.views)
    print(
        f"{len(pieces.voices)} voices to train on, {len(pieces.twin_tasks)} conversions with a "
        f"known result, {len(recordings)} recordings, {len(validation)} batches held out",
        flush=True,
    )
    run.begin()
    draw = partial(pieces.batch, options)
    with Batches(draw, rng, options.seed, run.step, options.workers) as batches:
        while training.begin_step():
            batch = Example(*moved(next(batches), device))
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                made = learner.train()(*batch[:GIVEN])[..., : config.width].float()
            total, losses = _losses(made, batch, likeness, ear, options)
            losses |= training.judge(*_shown(refiner, made, batch.truth, batch.usual))
            if training.finish_step(total, losses):
                run.report(held_out=_evaluate(training.averaged, validation))
    bottleneck = training.averaged.bottleneck
    write_tensors(folder / CONTENT, {LAYER: bottleneck.project.weight.detach()})
    return run.publish(training.averaged.refiner, "refiner", **recorded(recordings))


def _losses(
    every: Tensor,
    batch: Example,
    likeness: Likeness | None,
    ear: PhoneEncoder,
    options: RefinerOptions,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses before the critic's, and each of them."""
    made, mel = every[batch.known], batch.truth[batch.known]
    losses = {"spectral": (made - mel).abs().mean()}
    total = options.spectral_weight * losses["spectral"]
    if options.heard_weight:
        losses["heard"] = heard_apart(ear, made, mel, options.bf16)
        total = total + options.heard_weight * losses["heard"]
    if likeness is not None and not bool(batch.known.all()):
        crossed = ~batch.known
        found, states, voices = every[crossed], batch.states[crossed], batch.likeness[crossed]
        losses["said"] = misheard(ear, found, states, options.bf16)
        with torch.autocast(found.device.type, torch.bfloat16, enabled=options.bf16):
            whose = likeness(found).float()
        losses["unlike"] = 1 - (whose * voices).sum(1).mean()
        total = total + options.said_weight * losses["said"]
        total = total + options.likeness_weight * losses["unlike"]
    return total, losses


def _layers(pieces: Pieces) -> Tensor:
    """What content is made of [N, inputs] in some of the training speech, utterances centred."""
    chosen = pieces.tasks[:: max(1, len(pieces.tasks) // MEASURED)]
    found = (pieces.listener.frames(task.source)[1][:, 2 + STATES :].float() for task in chosen)
    return torch.cat([frames - frames.mean(0) for frames in found]).clone()


def parts_of(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Recordings of known speakers, cut into parts of `PART` frames or somewhat more."""
    out: list[Utterance] = []
    for one in with_a_voice(list(utterances)):
        count = max(1, len(one.f0) // PART)
        edges = np.linspace(0, len(one.f0), count + 1).astype(int)
        for first, last in pairwise(edges):
            part = replace(
                one,
                mel=one.mel[2 * first : 2 * last],
                states=one.states[first:last],
                f0=one.f0[first:last],
                posteriors=None if one.posteriors is None else one.posteriors[first:last],
            )
            out.append(part)
    return out


def _shown(refiner: Refiner, made: Tensor, real: Tensor, usual: Tensor) -> list[Tensor]:
    """What the critic is shown [B, T, width]: what was made, and what its voice has spoken.

    Bands that a recording leaves empty hardly vary: in their own units they would drown the others.
    """
    units = torch.stack([usual[:, 0], usual[:, 1].clamp(min=LEAST_UNIT)], dim=1)
    return [refiner.in_units(one, units) for one in (made, real)]


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
        {name: mean.half() for name, mean in mean_of(states).items()},
        {name: ", ".join(notes.get(name, "?") for notes in noted) for name in names},
    )


def listening(encoder: object) -> PhoneEncoder:
    """The network of an `encoder` that a refiner can work with.

    Raises:
        KnnvcError: the encoder is not `mini`'s.
    """
    if not isinstance(encoder, Encoder):
        raise KnnvcError("a refiner works with mini's encoder only")
    return encoder.network


def people(corpus: Path, network: PhoneEncoder, share: float) -> list[Utterance]:
    """The recordings that a training learns from which gives them a `share` of its pieces."""
    return with_a_voice(load_recordings(corpus, network)) if share > 0 else []


def with_a_voice(recordings: list[Utterance]) -> list[Utterance]:
    """The recordings whose speaker is known, of each no more than LONGEST_VOICE."""
    seconds: dict[str, float] = defaultdict(float)
    kept = []
    for recording in recordings:
        if recording.speaker and seconds[recording.speaker] < LONGEST_VOICE:
            seconds[recording.speaker] += len(recording.f0) * FRAME
            kept.append(recording)
    return kept


def _validation(
    utterances: list[Utterance],
    network: PhoneEncoder,
    space: AcousticSpace,
    options: RefinerOptions,
    twins: Mapping[str, Utterance],
    views: tuple[int, ...],
) -> list[Example]:
    """A few fixed batches of speakers that are held out; none if there are too few utterances."""
    rng = np.random.default_rng(1)
    try:
        pieces = Pieces(utterances, network, space, options.bf16, twins, views=views)
        known = replace(options, crossed_share=0.0)
        return [pieces.batch(known, rng) for _ in range(4)]
    except KnnvcError:
        return []


@torch.inference_mode()
def _evaluate(learner: Learner, batches: list[Example]) -> float:
    """Mean L1 of log-mel values on held-out speakers."""
    width = learner.refiner.config.width
    device = next(learner.parameters()).device
    learner.eval()
    losses = []
    for batch in batches:
        some = Example(*moved(batch, device))
        losses.append(float((learner(*some[:GIVEN])[..., :width] - some.truth).abs().mean()))
    return float(np.mean(losses)) if losses else float("nan")
