"""Train `mini`'s source-filter vocoder: spectral losses first, then HiFi-GAN's adversarial ones.

As in kNN-VC, the network learns to read matched frames: where prematched features are given, part
of every batch uses them instead of the recording's own. An encoder, where one is given, compares
what it hears in the result and in the recording, as in the refiner's training, and its pitch takes
the place of the corpus' in part, as in a conversion.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError
from knnvc.mini.encoder import MiniEncoder, PhoneEncoder
from knnvc.mini.format import HOP
from knnvc.mini.vocal_tract import log_mel, magnitudes_of
from knnvc.presets.loading import choose_device
from knnvc.training.discriminators import contest
from knnvc.training.runs import Run, average, begin_with, learn, seed_everything
from knnvc.vocoders.source_filter import SourceFilterConfig, SourceFilterVocoder
from recipe.data import MINI_ENCODER, MINI_VOCODER, Utterance, load_corpus, split
from recipe.discriminators import Discriminators
from recipe.drawing import Batches, moved
from recipe.losses import SpectralLoss, frozen, heard_apart
from recipe.options import VocoderOptions
from recipe.prematch import read_prematched

LARGEST_GRADIENT = 20.0


def train_vocoder(
    corpus: Path,
    folder: Path,
    options: VocoderOptions,
    prematched: Path | None = None,
    config: SourceFilterConfig = MINI_VOCODER,
    start: Path | None = None,
    encoder: MiniEncoder | None = None,
) -> Path:
    """Train, or resume, in `folder`; writes `vocoder.safetensors` there and returns its path.

    A new training begins with the weights in `start`, if given. `encoder` compares what it hears.

    Raises:
        KnnvcError: the corpus holds nothing to train on, or nothing long enough.
        UsageError: the device is not there.
    """
    device = choose_device(options.device)
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    network = SourceFilterVocoder(config)
    begin_with(network, start)
    network.to(device)
    averaged = copy.deepcopy(network).eval()
    critics = Discriminators(options.channels).to(device)
    makers = torch.optim.AdamW(network.parameters(), options.rate, betas=(0.8, 0.99))
    judges = torch.optim.AdamW(critics.parameters(), options.judging_rate, betas=(0.8, 0.99))
    parts = {"network": network, "averaged": averaged, "critics": critics}
    learners = {"makers": makers, "judges": judges}
    run = Run(folder, {**parts, **learners}, options, minutes=options.minutes)
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    reader = Reader(corpus, prematched, encoder if options.heard_pitch_share else None)
    reader.check(options.frames)
    spectral = SpectralLoss(SAMPLE_RATE).to(device)
    ear = None
    if encoder is not None and options.heard_weight:
        ear = frozen(encoder.network, device)
    print(f"{len(reader.training)} utterances to train on, {len(reader.held_out)} held out")

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return reader.batch(network, options, rng)

    run.begin()
    with Batches(draw, rng, options.seed, run.step, options.workers) as batches:
        while not run.done:
            rate = run.rate(options.rate, floor=0.1, after=options.critic_warmup)
            makers.param_groups[0]["lr"] = rate
            judges.param_groups[0]["lr"] = run.rate(options.judging_rate, floor=0.1)
            prepared, real = moved(next(batches), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                made = network(prepared)[:, 0].float()
            losses = {"spectral": spectral(made, real)}
            if ear is not None:
                mels = ear.log_mel(made), ear.log_mel(real)
                losses["heard"] = heard_apart(ear, *mels, bf16=options.bf16)
            if run.reached(options.adversarial_from):
                shown = _window(made, real, options.judged_frames * HOP)
                losses |= contest(critics, judges, *shown, options.bf16)
            learn(network, makers, _total(losses, options, len(critics.parts)), LARGEST_GRADIENT)
            average(averaged, network, options.average, run.step)
            run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
            if run.step % options.report_every == 0:
                _report(run, averaged, reader, spectral)
    return run.publish(averaged, "vocoder")


def _report(
    run: Run, averaged: SourceFilterVocoder, reader: Reader, spectral: SpectralLoss
) -> None:
    run.report(held_out_spectral=evaluate(averaged, reader, spectral))
    for name, wave in zip(("made", "real"), listening_pair(averaged, reader), strict=False):
        run.listen(name, wave, SAMPLE_RATE)


def _window(made: Tensor, real: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """The same part of both waveforms [B, S], of so many `samples`."""
    first = int(torch.randint(max(0, made.shape[1] - samples) + 1, ()))
    return made[:, first : first + samples], real[:, first : first + samples]


def _total(losses: dict[str, Tensor], options: VocoderOptions, critics: int) -> Tensor:
    total = options.spectral_weight * losses["spectral"]
    if "heard" in losses:
        total = total + options.heard_weight * losses["heard"]
    if "adversarial" in losses:
        total = total + losses["adversarial"]
        total = total + options.matching_weight * critics * losses["matching"]
    return total


class Reader:
    """Features and waveforms of a corpus, cut into training segments."""

    def __init__(
        self, corpus: Path, prematched: Path | None, encoder: MiniEncoder | None = None
    ) -> None:
        self.corpus = corpus
        utterances = load_corpus(corpus, PhoneEncoder(MINI_ENCODER))
        self.training, held_out = split(utterances)
        self.held_out = held_out[:24]
        self.waves: dict[str, np.ndarray] = {}
        for utterance in utterances:
            wave, _ = sf.read(corpus / utterance.file, dtype="int16")
            self.waves[utterance.file] = wave
        self.matched = read_prematched(prematched) if prematched else {}
        self.pitch = {u.file: self._heard(u, encoder) for u in self.training} if encoder else {}

    def _heard(self, utterance: Utterance, encoder: MiniEncoder) -> np.ndarray:
        """log2 f0 and voicing [T, 2] that the encoder hears."""
        at = encoder.columns.pitch
        assert at is not None
        heard = encoder.encode(self._wave(utterance))
        told: np.ndarray = heard[: len(utterance.f0), at : at + 2].numpy()
        return told

    def _wave(self, utterance: Utterance, start: int = 0, stop: int | None = None) -> Tensor:
        """Samples `start` to `stop` of an utterance."""
        wave = self.waves[utterance.file][start:stop]
        return torch.from_numpy(wave.astype(np.float32) / 32768)

    def check(self, frames: int) -> None:
        """Raise KnnvcError if no utterance is long enough for segments of so many frames."""
        if max(len(u.f0) for u in self.training) <= frames + 1:
            raise KnnvcError(
                f"no utterance is longer than {frames} frames: train on shorter segments"
            )

    def features(
        self, utterance: Utterance, matched: bool = False, heard: bool = False
    ) -> np.ndarray:
        """[T, mels · substeps + 2]: the utterance's own frames, or its speaker's nearest others.

        Own frames have the corpus' pitch, or the one `heard` by the encoder, if there is one.
        """
        if matched and utterance.file in self.matched:
            return self.matched[utterance.file].astype(np.float32)
        frames = len(utterance.f0)
        mel = utterance.mel.astype(np.float32).reshape(frames, -1)
        if heard and utterance.file in self.pitch:
            pitch = self.pitch[utterance.file]
            return np.concatenate([mel[: len(pitch)], pitch], axis=1)
        voiced = utterance.f0 > 0
        pitch = np.log2(np.where(voiced, utterance.f0, 150.0))
        return np.concatenate([mel, np.stack([pitch, voiced], 1)], axis=1).astype(np.float32)

    def batch(
        self, network: SourceFilterVocoder, options: VocoderOptions, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """`prepared` [B, T, D + 4] and the real waveform [B, T · 320]."""
        prepared: list[Tensor] = []
        waves: list[Tensor] = []
        while len(waves) < options.batch:
            utterance = self.training[rng.integers(len(self.training))]
            matched = rng.random() < options.prematched_share
            heard = rng.random() < options.heard_pitch_share
            features = self.features(utterance, matched, heard)
            if len(features) <= options.frames:
                continue
            start = int(rng.integers(0, len(features) - options.frames))
            piece, wave = self._cut(utterance, features, start, options.frames)
            gain = float(np.exp(rng.uniform(-1.2, 0.2)))
            piece, wave = _louder(piece, wave, gain)
            at = int(rng.integers(0, 3000))
            prepared.append(network.prepare(piece, float(rng.random()), at))
            waves.append(wave)
        return torch.stack(prepared), torch.stack(waves)

    def _cut(
        self, utterance: Utterance, features: np.ndarray, start: int, frames: int
    ) -> tuple[Tensor, Tensor]:
        piece = torch.from_numpy(features[start : start + frames])
        return piece, self._wave(utterance, start * HOP, (start + frames) * HOP)


def _louder(features: Tensor, wave: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """Scale a waveform and its log-mel features alike (see `PhoneEncoder.log_mel`)."""
    magnitudes = torch.from_numpy(magnitudes_of(features[:, :-2].numpy()))
    mel = log_mel(magnitudes * gain)
    return torch.cat([mel, features[:, -2:]], dim=1), wave * gain


@torch.inference_mode()
def evaluate(network: SourceFilterVocoder, reader: Reader, spectral: SpectralLoss) -> float:
    """Mean spectral loss on two-second pieces of held-out speakers, from their own features."""
    losses = []
    for utterance in reader.held_out:
        made, real = _rebuild(network, reader, utterance)
        losses.append(float(spectral(made[None], real[None])))
    return float(np.mean(losses)) if losses else float("nan")


@torch.inference_mode()
def listening_pair(network: SourceFilterVocoder, reader: Reader) -> tuple[Tensor, ...]:
    """Two seconds [S] of a held-out speaker, made and real; nothing if nobody is held out."""
    return _rebuild(network, reader, reader.held_out[0]) if reader.held_out else ()


def _rebuild(
    network: SourceFilterVocoder, reader: Reader, utterance: Utterance
) -> tuple[Tensor, Tensor]:
    features = reader.features(utterance)
    piece, wave = reader._cut(utterance, features, 0, min(100, len(features)))
    device = next(network.parameters()).device
    return network(network.prepare(piece)[None].to(device))[0, 0], wave.to(device)
