"""Train Glow-TTS on a transcribed corpus of one speaker; durations are found on the way.

The likelihood of Kim et al. (2020), https://arxiv.org/abs/2005.11129: the flow takes features to
where every token's frames are normally distributed about the token's mean, and the most probable
monotonic alignment says which frames those are. The features are those of any preset's encoder.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knnvc.encoders.base import Encoder
from knnvc.errors import KnnvcError, UsageError
from knnvc.tensors import read_json
from knnvc.text.espeak import phonemize
from knnvc.text.glow import GlowConfig, GlowTts
from knnvc.training.aligned import DURATION_UNIT, read_alignments
from knnvc.training.alignment import monotonic_alignment
from knnvc.training.frontends import (
    SETTINGS,
    cached_features,
    is_held_out,
    write_settings,
)
from knnvc.training.options import GlowTtsOptions
from knnvc.training.runs import Run, average, begin_with, cosine_rate, learn, seed_everything

METADATA = "metadata.csv"
FRAME = 0.02  # seconds
VALIDATION = 24  # utterances that the likelihood is measured on
LEAST_FLOW_FRAMES = 4


@dataclass(frozen=True)
class Transcribed:
    """One utterance: its phonemes, where its features lie, and its durations if they are known."""

    file: str
    phonemes: str
    features: Path
    durations: list[int] | None = None  # in units of 25 ms, with one more at either end


@dataclass(frozen=True)
class Batch:
    """Shapes: `tokens` [B, N], `features` [B, D, T], masks [B, 1, N] and [B, 1, T]."""

    tokens: Tensor
    features: Tensor
    token_mask: Tensor
    frame_mask: Tensor


def read_corpus(corpus: Path, language: str = "en-us") -> list[tuple[Path, str, list[int] | None]]:
    """Audio, phonemes and, where they are known, durations of every utterance.

    `corpus` is an aligned one (see `knnvc.training.aligned`), or a folder with a metadata.csv in
    LJSpeech's manner: `file|text`, of more columns the last, the audio beside it or in `wavs/`.

    Raises:
        UsageError: there is neither, or a line or a file of it is wrong.
    """
    if not (corpus / METADATA).is_file():
        records = [
            (corpus / r["file"], "".join(r["phones"]), list(r["durations"]))
            for r in read_alignments(corpus)
        ]
        if not records:
            raise UsageError(
                f"{corpus} has no {METADATA} and no alignments: give a folder with recordings and "
                "lines `file|text` in its metadata.csv"
            )
        return list(records)
    found, texts = [], []
    lines = (corpus / METADATA).read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *columns = (part.strip() for part in line.split("|"))
        if not columns or not columns[-1]:
            raise UsageError(f"line {number} of {corpus / METADATA} is not `file|text`: mend it")
        found.append(_find_audio(corpus, name, number))
        texts.append(columns[-1])
    spoken = [phonemize(text, language) for text in texts]
    return [
        (path, phonemes, None) for path, phonemes in zip(found, spoken, strict=True) if phonemes
    ]


def _find_audio(corpus: Path, name: str, number: int) -> Path:
    for folder in (corpus, corpus / "wavs"):
        for ending in ("", ".wav", ".flac"):
            path = folder / (name + ending)
            if path.is_file():
                return path
    raise UsageError(f"line {number} of {corpus / METADATA} names {name}, which is not there")


def load_transcribed(
    corpus: Path, encoder: Encoder, fingerprint: str, language: str = "en-us"
) -> list[Transcribed]:
    """Every utterance that can be aligned, its features cached beside the audio as .npy.

    Raises:
        UsageError: the corpus cannot be read.
        KnnvcError: nothing in it can be used.
    """
    out, short = [], 0
    for audio, phonemes, durations in read_corpus(corpus, language):
        path = cached_features(audio, encoder, fingerprint)
        frames = len(np.load(path, mmap_mode="r"))
        if frames < max(len(phonemes) + 2, LEAST_FLOW_FRAMES):
            short += 1
            continue
        out.append(Transcribed(str(audio.relative_to(corpus)), phonemes, path, durations))
    if short:
        print(f"left out {short} utterances with more tokens than frames", flush=True)
    if not out:
        raise KnnvcError(f"{corpus} holds no utterance that is long enough for its transcript")
    return out


def choose_config(
    folder: Path,
    utterances: list[Transcribed],
    columns: int,
    options: GlowTtsOptions,
    language: str = "en-us",
) -> GlowConfig:
    """The configuration in `folder`, or a new one for the signs of `utterances`, written there.

    Raises:
        KnnvcError: what is there does not fit the features.
    """
    path = folder / SETTINGS
    if path.exists():
        config = GlowConfig.from_dict(read_json(path).get("config", {}))
        if config.out_channels != columns:
            raise KnnvcError(
                f"{path} is for features of {config.out_channels} columns and these have "
                f"{columns}: name a new folder"
            )
        return config
    signs = sorted({sign for utterance in utterances for sign in utterance.phonemes})
    config = GlowConfig(
        # One token each for the silence at either end.
        vocabulary=("<PAD>", "<EOS>", "<BOS>", *signs),
        ends=(2, 1),
        out_channels=columns,
        encoder_channels=options.width,
        encoder_layers=options.layers,
        feed_forward=4 * options.width,
        window=4,
        duration_channels=options.width,
        decoder_channels=options.width,
        flow_blocks=options.blocks,
    )
    write_settings(folder, "glow-tts", config.to_dict(), language)
    return config


def collate(network: GlowTts, utterances: list[Transcribed]) -> Batch:
    """Utterances side by side; frames that do not fill a group of the flow's are dropped."""
    group = network.config.squeeze
    tokens = [network.tokens(u.phonemes) for u in utterances]
    features = [torch.from_numpy(np.load(u.features).astype(np.float32)) for u in utterances]
    features = [f[: len(f) - len(f) % group] for f in features]
    pad = nn.utils.rnn.pad_sequence
    return Batch(
        pad(tokens, batch_first=True),
        pad(features, batch_first=True).transpose(1, 2),
        pad([torch.ones(len(t)) for t in tokens], batch_first=True)[:, None],
        pad([torch.ones(len(f)) for f in features], batch_first=True)[:, None],
    )


def losses_of(network: GlowTts, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Losses by name, and the durations found [B, N] in frames.

    `likelihood` is the negative log likelihood of a frame's features in nats, per column.
    """
    mean, scale, log_durations = network.encoder(batch.tokens, batch.token_mask)
    latent, volume = network.decoder(batch.features, batch.frame_mask)
    with torch.no_grad():
        # log N(z; m, s) for all pairs of token and frame, without constants of the frame alone.
        weight = torch.exp(-2 * scale)
        scores = (
            -0.5 * (weight.transpose(1, 2) @ latent.square())
            + (mean * weight).transpose(1, 2) @ latent
            - (0.5 * mean.square() * weight + scale).sum(1)[..., None]
        )
        counts = [mask.sum((1, 2)).long().numpy() for mask in (batch.token_mask, batch.frame_mask)]
        found = torch.from_numpy(monotonic_alignment(scores.numpy(), *counts))
    owner = _owners(found, latent.shape[2])
    index = owner[:, None].expand(-1, latent.shape[1], -1)
    mean, scale = mean.gather(2, index), scale.gather(2, index)
    apart = 0.5 * torch.exp(-2 * scale) * (latent - mean).square() + scale
    total = (apart * batch.frame_mask).sum() - volume.sum()
    values = batch.frame_mask.sum() * latent.shape[1]
    wanted = torch.log1p(found.float()) * batch.token_mask[:, 0]
    durations = (log_durations[:, 0] - wanted).square().sum() / batch.token_mask.sum()
    likelihood = total / values + 0.5 * math.log(2 * math.pi)
    return {"likelihood": likelihood, "duration": durations}, found


def _owners(durations: Tensor, frames: int) -> Tensor:
    """Number of the token that each frame belongs to [B, T]; after the end, the last one."""
    ends = durations.cumsum(1)
    at = torch.arange(frames).expand(len(durations), -1).contiguous()
    last = (durations > 0).sum(1, keepdim=True) - 1
    return torch.minimum(torch.searchsorted(ends, at, right=True), last)


def train_glow(
    corpus: Path,
    encoder: Encoder,
    fingerprint: str,
    folder: Path,
    options: GlowTtsOptions,
    language: str = "en-us",
    start: Path | None = None,
) -> Path:
    """Train, or resume, in `folder`; writes `text_frontend.safetensors` and returns its path.

    `text_frontend.json` beside it says what the network looks like. A new training begins with the
    weights in `start`, if given. Durations that the corpus knows are only compared with.

    Raises:
        UsageError: the corpus cannot be read.
        KnnvcError: it holds nothing to train on, or `folder` is for other features.
    """
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    everything = load_transcribed(corpus, encoder, fingerprint, language)
    columns = len(np.load(everything[0].features, mmap_mode="r")[0])
    config = choose_config(folder, everything, columns, options, language)
    known = set(config.vocabulary)
    everything = [u for u in everything if set(u.phonemes) <= known]
    training = [u for u in everything if not is_held_out(u.file)]
    held_out = [u for u in everything if is_held_out(u.file)][:VALIDATION]
    if not training:
        raise KnnvcError("every utterance of the corpus is held out: make a longer corpus")
    network = GlowTts(config, language)
    if start is None:
        first = collate(network, training[: 4 * options.batch])
        network.decoder.initialise(first.features, first.frame_mask)
    begin_with(network, start)
    averaged = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), options.rate, betas=(0.9, 0.98))
    parts = {"network": network, "averaged": averaged, "optimiser": optimiser}
    run = Run(folder, parts, options)
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
        torch.manual_seed(options.seed + run.step)
    print(f"{len(training)} utterances to train on, {len(held_out)} held out", flush=True)
    waiting: list[int] = []
    while run.step < options.steps:
        optimiser.param_groups[0]["lr"] = cosine_rate(run.step, options.steps, options.rate)
        if len(waiting) < options.batch:
            waiting = rng.permutation(len(training)).tolist()
        chosen = [training[waiting.pop()] for _ in range(min(options.batch, len(waiting)))]
        losses, _ = losses_of(network, _noisy(collate(network.train(), chosen), options.noise))
        learn(network, optimiser, losses["likelihood"] + losses["duration"], options.clip)
        average(averaged, network, options.average, run.step)
        run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        if run.step % options.report_every == 0:
            run.report(**evaluate(averaged, held_out))
    return run.publish(averaged, "text_frontend")


def _noisy(batch: Batch, deviation: float) -> Batch:
    """With a little noise: columns that hardly vary, as voicing, had endless likelihood else."""
    noise = deviation * torch.randn_like(batch.features)
    return replace(batch, features=(batch.features + noise) * batch.frame_mask)


@torch.inference_mode()
def evaluate(network: GlowTts, utterances: list[Transcribed]) -> dict[str, float]:
    """Likelihood on held-out utterances, and how the alignment agrees with what is known.

    `held_out` is the negative log likelihood in nats per column. With known durations,
    `boundary` is the median distance of a token's start from the true one in ms, `near` the share
    of the tokens that start within 50 ms of it, and `even` the same share for equal durations.
    """
    if not utterances:
        return {}
    likelihoods, apart, apart_even = [], [], []
    for utterance in utterances:
        losses, found = losses_of(network, collate(network, [utterance]))
        likelihoods.append(float(losses["likelihood"]))
        if utterance.durations is not None:
            true = starts(np.array(utterance.durations) * DURATION_UNIT)
            apart.append(np.abs(starts(found[0].numpy() * FRAME) - true))
            whole = float(found.sum()) * FRAME
            apart_even.append(np.abs(np.arange(len(true)) * whole / len(true) - true))
    row = {"held_out": float(np.mean(likelihoods))}
    if apart:
        distance, even = np.concatenate(apart), np.concatenate(apart_even)
        row["boundary"] = float(1000 * np.median(distance))
        row["near"] = float(np.mean(distance < 0.05))
        row["even"] = float(np.mean(even < 0.05))
    return row


def starts(durations: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """When each token begins [N], in the unit of its `durations` [N]."""
    return np.concatenate([[0.0], np.cumsum(durations)[:-1]])
