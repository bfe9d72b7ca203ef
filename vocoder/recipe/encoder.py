"""Train `mini`'s encoder to name phone states and pitch, from aligned speech.

See `recipe.augmentation` for what the speech goes through. Where the corpus has twins
(`recipe.twins`), they are so many more utterances.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.mini.encoder import PhoneEncoder, PhoneEncoderConfig
from knnvc.mini.format import PITCH_CENTRE
from knnvc.mini.vocal_tract import Floats, log_mel
from knnvc.presets.loading import choose_device
from knnvc.text.phones import IGNORED, STATES
from knnvc.training.runs import Run, average, begin_with, learn, seed_everything
from recipe.augmentation import degrade, roughen, stretch
from recipe.data import (
    MINI_ENCODER,
    Utterance,
    hours,
    load_corpus,
    load_recordings,
    load_twins,
    recorded,
    split,
)
from recipe.drawing import Batches, moved
from recipe.options import EncoderOptions

Crop = tuple[Floats, Floats, Floats]  # magnitudes, probabilities of the states, f0
BEFORE = ("conv1.", "conv2.", "gain", "offset")  # the layers
LARGEST_GRADIENT = 1.0
SILENT = np.eye(1, STATES, dtype=np.float32)  # what is outside a recording


def train_encoder(
    corpus: Path,
    folder: Path,
    options: EncoderOptions,
    config: PhoneEncoderConfig = MINI_ENCODER,
    start: Path | None = None,
) -> Path:
    """Train, or resume, in `folder`; writes `encoder.safetensors` there and returns its path.

    A training begins with the weights in `start`, if given; without them no layer is frozen.

    Raises:
        KnnvcError: the corpus holds nothing to train on, or the device is not there.
    """
    device = choose_device(options.device)
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    network = PhoneEncoder(config)
    begin_with(network, start)
    spoken = load_corpus(corpus, network)
    network.to(device)
    averaged = copy.deepcopy(network).eval()
    known = {u.file for u in spoken}
    recordings = load_recordings(corpus, network) if options.recorded_share > 0 else []
    twins = [u for u in load_twins(corpus, network).values() if u.file not in known]
    training, held_out = split(spoken + twins)
    validation = [u for u in held_out if u.file in known][:80]
    if start is not None and options.frozen_layers:
        _freeze(network, options.frozen_layers)
    optimiser = _optimiser(network, options.rate)
    parts = {"network": network, "averaged": averaged, "optimiser": optimiser}
    run = Run(folder, parts, options, minutes=options.minutes)
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    print(
        f"{len(training)} utterances ({hours(training):.2f} h) and {len(recordings)} recordings "
        f"({hours(recordings):.2f} h) to train on, {len(validation)} held out",
        flush=True,
    )

    run.begin()
    draw = partial(_draw, training, recordings, options)
    with Batches(draw, rng, options.seed, run.step, options.workers, thread=True) as batches:
        while not run.done:
            mel, states, f0, hidden = moved(next(batches), device)
            for group, share in zip(optimiser.param_groups, (1.0, options.trunk_rate), strict=True):
                group["lr"] = run.rate(share * options.rate, options.warmup)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                outputs, pitch = network.train().predict(mel, hidden)
            losses = _losses(outputs.float(), pitch.float(), states, f0, hidden)
            learn(network, optimiser, torch.stack(list(losses.values())).sum(), LARGEST_GRADIENT)
            average(averaged, network, options.average, run.step)
            run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
            if run.step % options.report_every == 0:
                run.report(**evaluate(averaged, validation))
    return run.publish(averaged, "encoder", **recorded(recordings))


def _draw(
    training: list[Utterance],
    recordings: list[Utterance],
    options: EncoderOptions,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What `draw_batch` gives, of the length that this step has, and which frames are hidden."""
    # Long pieces tell more of their words, but some recordings are short.
    halved = int(rng.integers(3))
    frames = max(1, options.frames >> halved)
    mel, states, f0 = draw_batch(
        training,
        options.batch << halved,
        frames,
        rng,
        recordings,
        options.recorded_share,
        damaged=rng.random() >= options.clean_share,
    )
    masked = rng.random() < options.masked_share
    return mel, states, f0, _spans(len(mel), frames, rng) if masked else None


def _freeze(network: PhoneEncoder, layers: int) -> None:
    """Keep the first `layers`, and all before them, as they are."""
    still = (*BEFORE, "mask", *(f"layers.{number}." for number in range(layers)))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(still))


def _optimiser(network: PhoneEncoder, rate: float) -> torch.optim.Optimizer:
    """Of the heads, and, as the second group, of what Whisper has learnt before."""
    begun = (*BEFORE, "layers.")
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    trunk = [p for name, p in learning if name.startswith(begun)]
    heads = [p for name, p in learning if not name.startswith(begun)]
    groups = [{"params": heads}, {"params": trunk}]
    return torch.optim.AdamW(groups, rate, betas=(0.9, 0.98), weight_decay=0.01)


def _losses(
    logits: Tensor, pitch: Tensor, states: Tensor, f0: Tensor, hidden: Tensor | None
) -> dict[str, Tensor]:
    logits = logits[..., :STATES]  # content is learnt with the refiner
    phone = -(states * logits.log_softmax(-1)).sum() / states.sum().clamp(min=1.0)
    # Pitch cannot be guessed from context, so hidden frames do not count for it.
    seen = torch.ones_like(f0) if hidden is None else (~hidden).float()
    voiced = (f0 > 0).float()
    voicing = functional.binary_cross_entropy_with_logits(pitch[..., 1], voiced, reduction="none")
    octaves = (pitch[..., 0] + PITCH_CENTRE - torch.log2(f0.clamp(min=40.0))).abs() * voiced
    return {
        "phone": phone,
        "voicing": 0.3 * (voicing * seen).sum() / seen.sum(),
        "octaves": (octaves * seen).sum() / (voiced * seen).sum().clamp(min=1.0),
    }


@torch.inference_mode()
def evaluate(network: PhoneEncoder, utterances: list[Utterance]) -> dict[str, float]:
    """Phone, state and voicing accuracy, and the median pitch error in cents, on clean speech."""
    right_state = right_phone = right_voicing = frames = labelled = 0
    cents: list[Tensor] = []
    device = next(network.parameters()).device
    network.eval()
    for utterance in utterances:
        mel = torch.from_numpy(utterance.mel.astype(np.float32))
        mel = mel.reshape(1, len(utterance.f0), -1)
        outputs, pitch = moved(network.predict(mel.to(device)), torch.device("cpu"))
        states = torch.from_numpy(utterance.states.astype(np.int64))
        f0 = torch.from_numpy(utterance.f0)
        known = states != IGNORED
        guess = outputs[0, :, :STATES].argmax(-1)
        right_state += int((guess == states)[known].sum())
        right_phone += int(((guess + 2) // 3 == (states + 2) // 3)[known].sum())
        labelled += int(known.sum())
        voiced = f0 > 0
        heard = pitch[0, :, 1] > 0
        right_voicing += int((heard == voiced).sum())
        frames += len(f0)
        both = voiced & heard
        cents.append(1200 * (pitch[0, both, 0] + PITCH_CENTRE - torch.log2(f0[both])).abs())
    return {
        "held_out_phone": right_phone / max(1, labelled),
        "held_out_state": right_state / max(1, labelled),
        "held_out_voicing": right_voicing / max(1, frames),
        "held_out_cents": float(torch.cat(cents).median()) if cents else float("nan"),
    }


def draw_batch(
    utterances: list[Utterance],
    batch: int,
    frames: int,
    rng: np.random.Generator,
    recordings: list[Utterance] | None = None,
    recorded_share: float = 0.0,
    damaged: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented `mel` [B, T, 2 · mels], `states` [B, T, S], `f0` [B, T] in Hz (0 unvoiced).

    `states` are probabilities, or all zero where the state is not known. `recorded_share` of the
    crops are from `recordings`, if there are any. What is not `damaged` only moves in time and
    frequency.
    """
    crops = []
    also = recordings or []
    shares = [_shares(drawn) for drawn in (utterances, also)]
    for _ in range(batch):
        real = bool(also) and rng.random() < recorded_share
        at = int(np.searchsorted(shares[real], rng.random()))
        utterance = also[at] if real else utterances[at]
        ratio = _ratio(rng)
        crops.append(_crop(utterance, frames, ratio, _start(utterance, frames, ratio, rng), rng))
    return _augmented(crops, frames, rng if damaged else None)


def _shares(utterances: list[Utterance]) -> npt.NDArray[np.float64]:
    """Running shares [N] of the utterances in their common length, up to 1."""
    lengths = np.cumsum([len(u.f0) for u in utterances], dtype=np.float64)
    return lengths / max(1.0, float(lengths[-1])) if len(lengths) else lengths


def _augmented(
    crops: list[Crop], frames: int, rng: np.random.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Batches of `crops`, damaged by `rng` if there is one."""
    energy = torch.from_numpy(np.stack([c[0] for c in crops])).float()  # linear magnitudes
    states = torch.from_numpy(np.stack([c[1] for c in crops]))
    f0 = torch.from_numpy(np.stack([c[2] for c in crops]))
    mel = log_mel(energy) if rng is None else roughen(log_mel(degrade(energy, rng)), rng)
    return mel.reshape(len(crops), frames, -1).float(), states, f0


def _ratio(rng: np.random.Generator) -> float:
    """How many times as fast a crop is played."""
    return float(np.exp(rng.uniform(np.log(0.76), np.log(1.32))))


def _start(utterance: Utterance, frames: int, ratio: float, rng: np.random.Generator) -> float:
    """Where a crop begins, in spectra."""
    room = len(utterance.mel) - 1 - 2 * frames * ratio
    return float(rng.uniform(0, room) if room > 0 else rng.uniform(room, 0))


def _crop(
    utterance: Utterance, frames: int, ratio: float, start: float, rng: np.random.Generator
) -> Crop:
    """A stretch played `ratio` times as fast; formants and pitch move by as much, or by less.

    People who speak fast have no shorter vocal tracts, but some have.
    """
    formants = ratio ** rng.uniform(0, 1) * float(np.exp(rng.uniform(-0.12, 0.12)))
    magnitudes = stretch(utterance.mel, start, 2 * frames, ratio, formants)
    centre = start + (2 * np.arange(frames) + 0.5) * ratio
    label = np.floor(centre / 2 + 0.25).astype(int)
    known = (label >= 0) & (label < len(utterance.f0))
    label = label.clip(0, len(utterance.f0) - 1)
    states = _probabilities(utterance, label)
    states[~known] = SILENT
    f0 = np.where(known, utterance.f0[label] * formants, 0.0).astype(np.float32)
    return magnitudes, states, f0


def _probabilities(utterance: Utterance, label: npt.NDArray[np.int64]) -> Floats:
    """Probability of every state in the frames `label` [T]: [T, S]; zero where it is not known."""
    if utterance.posteriors is not None:
        return utterance.posteriors[label].astype(np.float32)
    states = utterance.states[label]
    certain = np.zeros((len(label), STATES), np.float32)
    rows = np.flatnonzero(states != IGNORED)
    certain[rows, states[rows]] = 1.0
    return certain


def _spans(batch: int, frames: int, rng: np.random.Generator) -> Tensor:
    hidden = torch.zeros(batch, frames, dtype=torch.bool)
    for row in hidden:
        for first in rng.integers(0, frames, rng.integers(2, 9)):
            row[first : first + int(rng.integers(3, 10))] = True
    return hidden
