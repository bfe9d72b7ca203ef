"""Train `mini`'s encoder to name phone states and pitch, from aligned speech.

See `knnvc.training.augmentation` for what the speech goes through. Where the corpus has twins
(`knnvc.training.twins`), the content columns learn by contrast (InfoNCE, van den Oord et al. 2018,
https://arxiv.org/abs/1807.03748): of all frames in a batch, a frame is to find the one at the same
moment of its twin, another speaker's, through another channel.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.encoder import PITCH_CENTRE, MelWavLM, MelWavLMConfig
from knnvc.phones import IGNORED
from knnvc.training.augmentation import Floats, degrade, log_mel, stretch
from knnvc.training.data import MINI_ENCODER, Utterance, load_corpus, load_twins, split
from knnvc.training.options import EncoderOptions
from knnvc.training.runs import Run, average, begin_with, cosine_rate, seed_everything

Crop = tuple[Floats, npt.NDArray[np.int64], Floats]  # magnitudes, states, f0
Pair = tuple[Utterance, Utterance]  # an utterance and its twin

TEMPERATURE = 0.1  # of the contrast
NEAR = 2  # frames around a moment that are no mistake
SAME_STATE = 0.25  # weight of other frames of the same phone state among the mistakes


def train_encoder(
    corpus: Path,
    folder: Path,
    options: EncoderOptions,
    config: MelWavLMConfig = MINI_ENCODER,
    start: Path | None = None,
) -> Path:
    """Train, or resume, in `folder`; writes `encoder.safetensors` there and returns its path.

    A new training begins with the weights in `start`, if given.

    Raises:
        KnnvcError: the corpus holds nothing to train on.
    """
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    network = MelWavLM(config)
    begin_with(network, start)
    averaged = copy.deepcopy(network).eval()
    training, held_out = split(load_corpus(corpus, network))
    twins = load_twins(corpus, network) if config.content else {}
    pairs = [(u, twins[u.file]) for u in training if u.file in twins]
    validation = held_out[:80]
    validation_pairs = [(u, twins[u.file]) for u in validation if u.file in twins][:30]
    optimiser = torch.optim.AdamW(
        network.parameters(), options.rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    parts = {"network": network, "averaged": averaged, "optimiser": optimiser}
    run = Run(folder, parts, options)
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    hours = sum(len(u.f0) for u in training) / 50 / 3600
    print(
        f"{len(training)} utterances ({hours:.2f} h) to train on, {len(pairs)} with a twin, "
        f"{len(validation)} held out",
        flush=True,
    )
    while run.step < options.steps:
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(run.step, options.steps, options.rate)
        paired = bool(pairs) and rng.random() < options.twin_share
        if paired:
            mel, states, f0 = draw_pairs(pairs, options.batch // 2, options.frames, rng)
        else:
            mel, states, f0 = draw_batch(training, options.batch, options.frames, rng)
        hidden = None
        if rng.random() < options.masked_share:
            hidden = _spans(len(mel), options.frames, rng)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            outputs, pitch = network.predict(mel, hidden)
        outputs = outputs.float()
        losses = _losses(outputs[..., : config.states], pitch.float(), states, f0, hidden)
        if paired and hidden is None:
            losses["contrast"] = contrast(outputs[..., config.states :], states)
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average(averaged, network, options.average, run.step)
        run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        if run.step % options.report_every == 0:
            found = evaluate(averaged, validation)
            if validation_pairs:
                found["held_out_twin"] = twin_accuracy(averaged, validation_pairs)
            run.report(**found)
    return run.publish(averaged, "encoder")


def _losses(
    logits: Tensor, pitch: Tensor, states: Tensor, f0: Tensor, hidden: Tensor | None
) -> dict[str, Tensor]:
    phone = functional.cross_entropy(logits.flatten(0, 1), states.flatten(), ignore_index=IGNORED)
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
def evaluate(network: MelWavLM, utterances: list[Utterance]) -> dict[str, float]:
    """Phone, state and voicing accuracy, and the median pitch error in cents, on clean speech."""
    right_state = right_phone = right_voicing = frames = labelled = 0
    cents: list[Tensor] = []
    network.eval()
    for utterance in utterances:
        mel = torch.from_numpy(utterance.mel.astype(np.float32))
        mel = mel.reshape(1, len(utterance.f0), -1)
        outputs, pitch = network.predict(mel)
        states = torch.from_numpy(utterance.states.astype(np.int64))
        f0 = torch.from_numpy(utterance.f0)
        known = states != IGNORED
        guess = outputs[0, :, : network.config.states].argmax(-1)
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


def contrast(content: Tensor, states: Tensor) -> Tensor:
    """InfoNCE between pairs: row i of `content` [2P, T, C] says the same as row i + P.

    Every frame of speech looks for its twin among all frames of the batch but those around the
    moment itself, in either voice. `states` [2P, T] are the phone states; frames of the same state
    are no mistakes worth much, so they count less.
    """
    pairs, frames = len(content) // 2, content.shape[1]
    unit = functional.normalize(content, dim=-1).flatten(0, 1)
    labels = states.flatten()
    pair = torch.arange(2 * pairs).remainder(pairs).repeat_interleave(frames)
    moment = torch.arange(frames).repeat(2 * pairs)
    anchors = (labels > 0).nonzero()[:, 0]
    if len(anchors) == 0:
        return content.sum() * 0
    twin = (anchors + pairs * frames) % (2 * pairs * frames)
    scores = unit[anchors] @ unit.T / TEMPERATURE
    same_state = labels[anchors][:, None] == labels
    near = (moment[anchors][:, None] - moment).abs() <= NEAR
    around = near & (pair[anchors][:, None] == pair)
    right = scores.gather(1, twin[:, None])[:, 0]
    scores = scores + np.log(SAME_STATE) * same_state
    wrong = scores.masked_fill(around, -torch.inf).logsumexp(1)
    return (torch.logaddexp(right, wrong) - right).mean()


@torch.inference_mode()
def twin_accuracy(network: MelWavLM, pairs: Sequence[Pair]) -> float:
    """How often the content of a frame of speech is nearest to that of its twin's, ± NEAR."""
    right = total = 0
    for pair in pairs:
        mels = [torch.from_numpy(u.mel.astype(np.float32)) for u in pair]
        frames = len(pair[0].f0)
        outputs, _ = network.predict(torch.stack(mels).reshape(2, frames, -1))
        one, other = functional.normalize(outputs[..., network.config.states :], dim=-1)
        speech = torch.from_numpy(pair[0].states > 0)
        found = (one @ other.T).argmax(1)
        right += int(((found - torch.arange(frames)).abs() <= NEAR)[speech].sum())
        total += int(speech.sum())
    return right / max(1, total)


def draw_pairs(
    pairs: Sequence[Pair], count: int, frames: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """As `draw_batch`, 2 · `count` crops: row i says the same as row i + `count`."""
    crops: list[list[Crop]] = [[], []]
    for _ in range(count):
        pair = pairs[int(rng.integers(len(pairs)))]
        ratio = _ratio(rng)
        start = _start(pair[0], frames, ratio, rng)
        for side, utterance in zip(crops, pair, strict=True):
            side.append(_crop(utterance, frames, ratio, start, rng))
    return _augmented([*crops[0], *crops[1]], frames, rng)


def draw_batch(
    utterances: list[Utterance], batch: int, frames: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented `mel` [B, T, 2 · mels], `states` [B, T], `f0` [B, T] in Hz (0 unvoiced)."""
    crops = []
    for _ in range(batch):
        utterance = utterances[rng.integers(len(utterances))]
        ratio = _ratio(rng)
        crops.append(_crop(utterance, frames, ratio, _start(utterance, frames, ratio, rng), rng))
    return _augmented(crops, frames, rng)


def _augmented(
    crops: list[Crop], frames: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    energy = torch.from_numpy(np.stack([c[0] for c in crops])).float()  # linear magnitudes
    states = torch.from_numpy(np.stack([c[1] for c in crops]))
    f0 = torch.from_numpy(np.stack([c[2] for c in crops]))
    mel = log_mel(degrade(energy, rng))
    return mel.reshape(len(crops), frames, -1).float(), states, f0


def _ratio(rng: np.random.Generator) -> float:
    """How many times as fast a crop is played: pitch, tempo and formants move."""
    return float(np.exp(rng.uniform(np.log(0.84), np.log(1.19))))


def _start(utterance: Utterance, frames: int, ratio: float, rng: np.random.Generator) -> float:
    """Where a crop begins, in spectra."""
    room = len(utterance.mel) - 1 - 2 * frames * ratio
    return float(rng.uniform(0, room) if room > 0 else rng.uniform(room, 0))


def _crop(
    utterance: Utterance, frames: int, ratio: float, start: float, rng: np.random.Generator
) -> Crop:
    """A stretch played `ratio` times as fast; formants move by a little more or less than that."""
    formants = ratio * float(np.exp(rng.uniform(-0.08, 0.08)))
    magnitudes = stretch(utterance.mel, start, 2 * frames, ratio, formants)
    centre = start + (2 * np.arange(frames) + 0.5) * ratio
    label = np.floor(centre / 2 + 0.25).astype(int)
    known = (label >= 0) & (label < len(utterance.f0))
    label = label.clip(0, len(utterance.f0) - 1)
    states = np.where(known, utterance.states[label], 0).astype(np.int64)
    f0 = np.where(known, utterance.f0[label] * ratio, 0.0).astype(np.float32)
    return magnitudes, states, f0


def _spans(batch: int, frames: int, rng: np.random.Generator) -> Tensor:
    hidden = torch.zeros(batch, frames, dtype=torch.bool)
    for row in hidden:
        for first in rng.integers(0, frames, rng.integers(2, 9)):
            row[first : first + int(rng.integers(3, 10))] = True
    return hidden
