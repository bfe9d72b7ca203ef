"""Train `mini`'s encoder to name phone states and pitch, from aligned speech.

All augmentation happens on mel spectra, where it costs almost nothing: resampling and vocal-tract
length as warps of the time and mel axes, channel colour as a smooth curve, noise and
overlapping talk as added energy, reverberation as an exponential tail. Utterance mixing follows
WavLM (Chen et al. 2022, https://arxiv.org/abs/2110.13900).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.encoder import MEL_SCALE, MEL_SHIFT, PITCH_CENTRE, MelWavLM, MelWavLMConfig
from knnvc.training.data import IGNORED, MINI_ENCODER, Utterance, load_corpus, split
from knnvc.training.runs import Run, average, cosine_rate, seed_everything

Floats = npt.NDArray[np.float32]
FLOOR = MelWavLMConfig.floor


@dataclass(frozen=True)
class EncoderOptions:
    """How to train the encoder. A frame is 20 ms."""

    steps: int = 8000
    batch: int = 12
    frames: int = 200
    rate: float = 1e-3
    masked_share: float = 0.3  # of the batches
    average: float = 0.998  # decay of the weight average that is published
    seed: int = 0
    report_every: int = 100
    bf16: bool = False  # pays only where the CPU has AMX or AVX512-BF16
    threads: int = 1


def train_encoder(
    corpus: Path,
    folder: Path,
    options: EncoderOptions,
    config: MelWavLMConfig = MINI_ENCODER,
) -> Path:
    """Train, or resume, in `folder`; writes `encoder.safetensors` there and returns its path.

    Raises:
        KnnvcError: the corpus holds nothing to train on.
    """
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    network = MelWavLM(config)
    averaged = copy.deepcopy(network).eval()
    training, held_out = split(load_corpus(corpus, network))
    validation = held_out[:80]
    optimiser = torch.optim.AdamW(
        network.parameters(), options.rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    run = Run(folder, {"network": network, "averaged": averaged, "optimiser": optimiser})
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    hours = sum(len(u.f0) for u in training) / 50 / 3600
    print(f"{len(training)} utterances ({hours:.2f} h) to train on, {len(validation)} held out")
    while run.step < options.steps:
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(run.step, options.steps, options.rate)
        mel, states, f0 = draw_batch(training, options.batch, options.frames, rng)
        hidden = None
        if rng.random() < options.masked_share:
            hidden = _spans(options.batch, options.frames, rng)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            logits, pitch = network.predict(mel, hidden)
        losses = _losses(logits.float(), pitch.float(), states, f0, hidden)
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average(averaged, network, options.average, run.step)
        run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        if run.step % options.report_every == 0:
            run.report(**evaluate(averaged, validation))
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
        logits, pitch = network.predict(mel)
        states = torch.from_numpy(utterance.states.astype(np.int64))
        f0 = torch.from_numpy(utterance.f0)
        known = states != IGNORED
        guess = logits[0].argmax(-1)
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
    utterances: list[Utterance], batch: int, frames: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented `mel` [B, T, 2 · mels], `states` [B, T], `f0` [B, T] in Hz (0 unvoiced)."""
    crops = [_crop(utterances[rng.integers(len(utterances))], frames, rng) for _ in range(batch)]
    energy = torch.from_numpy(np.stack([c[0] for c in crops])).float()  # linear magnitudes
    states = torch.from_numpy(np.stack([c[1] for c in crops]))
    f0 = torch.from_numpy(np.stack([c[2] for c in crops]))
    energy = _degrade(energy, rng)
    mel = (torch.log(energy + FLOOR) - MEL_SHIFT) / MEL_SCALE
    return mel.reshape(batch, frames, -1).float(), states, f0


def _crop(
    utterance: Utterance, frames: int, rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """A stretch resampled by a random ratio: pitch, tempo and formants move, formants by more."""
    ratio = float(np.exp(rng.uniform(np.log(0.84), np.log(1.19))))
    formants = ratio * float(np.exp(rng.uniform(-0.08, 0.08)))
    spectra = utterance.mel
    length = 2 * frames
    room = len(spectra) - 1 - length * ratio
    start = rng.uniform(0, room) if room > 0 else rng.uniform(room, 0)
    at = start + np.arange(length) * ratio
    low = np.floor(at).astype(int)
    share = (at - low)[:, None].astype(np.float32)
    last = len(spectra) - 1
    inside = (low >= 0) & (low < last)
    low = low.clip(0, last - 1)
    logs = spectra[low].astype(np.float32) * (1 - share) + spectra[low + 1] * share
    magnitudes = np.maximum(np.exp(logs * MEL_SCALE + MEL_SHIFT) - FLOOR, 0.0)
    magnitudes = _warp(magnitudes, formants) * inside[:, None]
    centre = start + (2 * np.arange(frames) + 0.5) * ratio
    label = np.floor(centre / 2 + 0.25).astype(int)
    known = (label >= 0) & (label < len(utterance.f0))
    label = label.clip(0, len(utterance.f0) - 1)
    states = np.where(known, utterance.states[label], 0).astype(np.int64)
    f0 = np.where(known, utterance.f0[label] * ratio, 0.0).astype(np.float32)
    return magnitudes, states, f0


_HERTZ_OF_MEL: dict[int, Floats] = {}


def _warp(magnitudes: Floats, ratio: float) -> Floats:
    """Move spectra [2T, mels] along the frequency axis: what stood at f stands at f · ratio."""
    mels = magnitudes.shape[1]
    if mels not in _HERTZ_OF_MEL:
        import librosa

        _HERTZ_OF_MEL[mels] = librosa.mel_frequencies(mels + 2, fmin=0.0, fmax=8000.0)[1:-1]
    hertz = _HERTZ_OF_MEL[mels]
    at = np.interp(hertz / ratio, hertz, np.arange(mels)).astype(np.float32)
    low = np.minimum(at.astype(int), mels - 2)
    share = (at - low).astype(np.float32)
    warped: Floats = magnitudes[:, low] * (1 - share) + magnitudes[:, low + 1] * share
    return warped


def _degrade(energy: Tensor, rng: np.random.Generator) -> Tensor:
    """Level, channel colour, reverberation, overlapping talk, noise, band limit; [B, 2T, mels]."""
    batch, length, mels = energy.shape
    level = torch.from_numpy(np.exp(rng.uniform(-2.3, 0.6, (batch, 1, 1)))).float()
    knots = rng.normal(0, 0.55, (batch, 1, 8)) * (rng.random((batch, 1, 1)) < 0.8)
    curve = functional.interpolate(
        torch.from_numpy(knots).float(), size=mels, mode="linear", align_corners=True
    )
    energy = energy * level * torch.exp(curve)
    if rng.random() < 0.4:
        seconds = rng.uniform(0.1, 0.5)  # until the tail has fallen by 60 dB
        keep = 10 ** (-6 * 0.01 / seconds)
        lags = torch.arange(int(min(50, 100 * seconds)) + 1)
        tail = keep ** lags.float() * rng.uniform(0.02, 0.25)
        tail[0] = 1.0
        power = functional.conv1d(
            functional.pad(energy.square().transpose(1, 2), (len(lags) - 1, 0)).flatten(0, 1)[
                :, None
            ],
            tail.flip(0)[None, None],
        )
        energy = power[:, 0].reshape(batch, mels, length).transpose(1, 2).clamp(min=0).sqrt()
    power = energy.square()
    loudness = power.mean((1, 2), keepdim=True)
    other = power.roll(1, 0)
    talk = torch.zeros(batch, length, 1)
    for index in np.flatnonzero(rng.random(batch) < 0.2):
        span = int(rng.uniform(0.1, 0.5) * length)
        first = int(rng.integers(0, length - span))
        talk[index, first : first + span] = 10 ** (rng.uniform(-15, 0) / 10)
    power = power + other * talk * loudness / loudness.roll(1, 0).clamp(min=1e-6)
    decibels = rng.uniform(3, 40, (batch, 1, 1))
    noisy = (rng.random((batch, 1, 1)) < 0.6) * 10 ** (-decibels / 10)
    tilt = torch.linspace(1, 0, mels) * torch.from_numpy(rng.uniform(-2, 5, (batch, 1, 1))).float()
    shape = torch.exp(tilt)
    shape = shape / shape.mean(2, keepdim=True)
    # A mel band sums several bins of noise, whose power is exponentially distributed.
    grain = torch.empty_like(power).exponential_() * 0.5 + 0.5
    power = power + loudness * torch.from_numpy(noisy).float() * shape * grain
    energy = power.sqrt()
    cut = torch.from_numpy(rng.uniform(55, 78, (batch, 1, 1))).float()
    limited = torch.from_numpy(rng.random((batch, 1, 1)) < 0.15)
    slope = torch.exp(-(torch.arange(mels) - cut).clamp(min=0) * 1.5)
    return torch.where(limited, energy * slope, energy)


def _spans(batch: int, frames: int, rng: np.random.Generator) -> Tensor:
    hidden = torch.zeros(batch, frames, dtype=torch.bool)
    for row in hidden:
        for first in rng.integers(0, frames, rng.integers(2, 9)):
            row[first : first + int(rng.integers(3, 10))] = True
    return hidden
