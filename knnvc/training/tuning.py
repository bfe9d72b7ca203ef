"""Tune a refiner by ear: what it makes is spoken by the vocoder, and judged by who listens.

`knnvc.training.refiner` teaches by examples whose result is known. Between two people there are
none, and the mean error makes of many possible answers one that is nobody's voice. Here most pieces
are conversions of anybody into anybody, and three judges say what is wrong, each through the
vocoder, whose weights stay as they are:

- CAM++, a pretrained verifier (`knnvc.training.campplus`): is it the target's voice? Such a speaker
  consistency loss serves YourTTS (Casanova et al. 2022, https://arxiv.org/abs/2112.02418), too;
- the preset's own encoder: are the source's phones heard?
- moments: mean, deviation and mean power of every band of voiced speech are the target's. CAM++
  takes the mean over time out of what it hears, and would let the sound's colour drift.

A critic (Isola et al. 2017) sees to it that what pleases them looks like speech; some pieces with a
known result, and the refiner as it was, keep it from forgetting.

B batch, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor, nn

from knnvc.audio.pitch import VOICED
from knnvc.encoders.ssl import MEL_SCALE, Encoder, MelWavLM
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.phones import assure
from knnvc.mini.refiner import RefinerConfig
from knnvc.training.bandwidth import with_treble
from knnvc.training.campplus import CamPlusPlus, VoiceJudge, fit_banks
from knnvc.training.data import (
    MINI_REFINER,
    Utterance,
    load_corpus,
    recorded,
    split,
)
from knnvc.training.options import TuningOptions
from knnvc.training.refiner import (
    Pieces,
    Task,
    draw,
    earlier_refiner,
    listening,
    people,
    reference,
)
from knnvc.training.runs import seed_everything
from knnvc.training.spectrograms import SpectrogramTraining
from knnvc.vocoders.source_filter import SourceFilterVocoder

NEIGHBOURS = (2, 4, 4)  # drawn for each piece
SAMPLE = 200  # frames of the target that the verifier hears
LEAST_VOICED = 50  # frames that have moments
FITTED = 150  # utterances from which CAM++'s filter banks are learnt
POWER = 2 * MEL_SCALE  # natural logarithm of power in one unit of the log-mel


@dataclass(frozen=True)
class Batch:
    """`selected` to `views` are what `Refiner` takes; the first of them have no known result.

    `truth` [B, T, width] for those that have; of the others, `said` [B, T, states] is what to hear,
    `sample` [B, SAMPLE, width] the target's own speech, `moments` [B, 3, mels] that of all of it,
    `contrast` [B, mels] as in its `Statistics`.
    """

    selected: Tensor
    guide: Tensor
    usual: Tensor
    manner: Tensor
    views: Tensor
    truth: Tensor
    said: Tensor
    sample: Tensor
    moments: Tensor
    contrast: Tensor


class Conversions(Pieces):
    """Draws conversions of anybody into anybody, and some with a known result."""

    def mixed(self, options: TuningOptions, rng: np.random.Generator) -> Batch:
        """`options.batch` conversions, then `options.known` pieces whose result is known."""

        def among() -> list[Task]:
            real = bool(self.recorded_tasks) and rng.random() < options.recorded_share
            return self.recorded_tasks if real else self.tasks

        pieces = list(draw(among, options.batch + options.known, options.frames, rng))
        for number in range(options.batch):
            task, start = pieces[number]
            others = [voice for voice in self.voices if voice is not task.voice]
            if others:
                voice = others[int(rng.integers(len(others)))]
                pieces[number] = Task(task.source, voice, task.truth, None), start
        degraded = rng.random() < options.degraded_share
        sources = self.disguised(pieces, options.frames, degraded, rng)
        rows = [
            self._row(task, start, source, number >= options.batch, options, rng)
            for number, ((task, start), source) in enumerate(zip(pieces, sources, strict=True))
        ]
        return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _row(
        self,
        task: Task,
        start: int,
        source: Tensor,
        known: bool,
        options: TuningOptions,
        rng: np.random.Generator,
    ) -> tuple[Tensor, ...]:
        """The row of a `Batch`, of a source [T, columns]."""
        width = self.space.mels * self.space.substeps
        frames, columns = options.frames, slice(width + 2, None)
        if known and rng.random() < options.known_share:
            states = torch.from_numpy(task.source.states[start : start + frames])
            source[:, columns] = assure(source[:, columns], states)
        synth, match = source[:, : width + 2], source[:, width:]
        pool = reference(task.voice, task.without, rng)
        cast = self.other_speaker(rng, width, options.recast_share)
        built = cast(task.voice.synth[pool])
        k, smooth = int(rng.choice(NEIGHBOURS)), rng.random() < options.smooth_share
        found = self.matched(task.voice, pool, built, synth, match, k, smooth)
        selected = found.selected
        if known:
            truth = cast(task.truth[start : start + frames])
            selected[:, width:] = truth[:, width:]
        else:
            truth = selected
            self.space.follow_pitch(selected, synth, found.own, found.target)
        guide = self.space.guide(synth, match, found.own)
        if rng.random() < options.hidden_share:
            self.space.hide_envelope(guide)
        first = int(rng.integers(max(1, len(built) - SAMPLE)))
        sample = built[first : first + SAMPLE, :width]
        sample = sample.repeat(-(-SAMPLE // len(sample)), 1)[:SAMPLE]
        voiced = built[:, width + 1] > VOICED
        if int(voiced.sum()) < LEAST_VOICED:
            voiced = torch.ones_like(voiced)
        spectra = built[voiced, :width].reshape(1, -1, self.space.mels)
        usual = moments(spectra, torch.ones(1, spectra.shape[1]))[0]
        told = (found.target.spectrum, found.target.manner, found.views, truth[:, :width])
        return selected, guide, *told, match[:, 2:], sample, usual, found.target.contrast


def moments(spectra: Tensor, voiced: Tensor) -> Tensor:
    """Mean, deviation and logarithm of the mean power [B, 3, mels] of `spectra` [B, S, mels].

    All in units of the log-mel, over those spectra that are `voiced` [B, S] (0 or 1).
    """
    weights = voiced[..., None] / voiced.sum(1).clamp(min=1)[:, None, None]
    mean = (spectra * weights).sum(1)
    variance = ((spectra - mean[:, None]).square() * weights).sum(1)
    power = ((spectra * POWER).exp() * weights).sum(1).clamp(min=1e-6).log() / POWER
    return torch.stack([mean, variance.clamp(min=1e-4).sqrt(), power], dim=1)


def speak(vocoder: SourceFilterVocoder, frames: Tensor) -> Tensor:
    """Waveforms [B, T · HOP] of `frames` [B, T, width + 2]; gradients reach the spectra."""
    width = frames.shape[-1] - 2
    with torch.no_grad():  # phases and voicing come from the pitch, which nothing learns
        state = torch.stack([vocoder.prepare(one)[:, width:] for one in frames])
    made: Tensor = vocoder(torch.cat([frames[..., :width], state], dim=-1))
    return made[:, 0]


class Judges(nn.Module):
    """Who listens to what a refiner made, through a vocoder; none of them learns.

    Args:
        voice: whose voice it is.
        network: which phones are said.
        vocoder: speaks it.
        bf16: whether the convolutions run in bfloat16.
    """

    def __init__(
        self, voice: VoiceJudge, network: MelWavLM, vocoder: SourceFilterVocoder, bf16: bool
    ) -> None:
        super().__init__()
        self.voice, self.network, self.vocoder, self.bf16 = voice, network, vocoder, bf16
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of the conversions' `frames` [B, T, width + 2], and how they sound [B, T, width].

        `voice` and `content` are 0 at best and 1 where nothing fits, `moments` are in units of the
        log-mel.
        """
        count, mels = len(frames), self.network.config.mels
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            # The vocoder's Fourier transforms know no bfloat16, and leave autocast by themselves.
            waves = speak(self.vocoder, frames)
            heard = self.network.log_mel(waves.float())
            outputs, _ = self.network.predict(heard)
            spectra = heard.reshape(count, -1, mels)
            with torch.no_grad():
                wanted = self.voice(batch.sample[:count].reshape(count, -1, mels))
            found = self.voice(spectra)
        said = self.network.said(outputs)
        voiced = (frames[..., -1] > VOICED).float()
        usual = moments(spectra, voiced.repeat_interleave(self.network.config.substeps, 1))
        losses = {
            "voice": 1 - (found * wanted).sum(1).mean(),
            "content": 1 - (said * batch.said[:count]).sum(-1).mean(),
            "moments": (usual - batch.moments[:count]).abs().mean(),
        }
        return losses, heard


def tune_refiner(
    corpus: Path,
    encoder: Encoder,
    vocoder: SourceFilterVocoder,
    verifier: CamPlusPlus,
    start: Path,
    space: AcousticSpace,
    folder: Path,
    options: TuningOptions,
    config: RefinerConfig = MINI_REFINER,
) -> Path:
    """Tune the refiner in `start`, or resume; returns `folder/refiner.safetensors`.

    Raises:
        KnnvcError: the encoder is not `mini`'s kind, or the corpus holds too little.
    """
    network = listening(encoder)
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    refiner, before = earlier_refiner(config, start).train(), earlier_refiner(config, start)
    before.requires_grad_(False)
    weights = {"adversarial": options.adversarial_weight}
    training = SpectrogramTraining(
        refiner, folder, options, config.mels, weights, warmup=100, judging=1.0
    )
    run = training.run
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    spoken, _ = split(load_corpus(corpus, network))
    # Judges need no names of phones, so no teacher needs to have heard the recordings.
    found = people(corpus, network, options.recorded_share, taught=False)
    recordings = with_treble(found, spoken)
    views = config.views
    pieces = Conversions(spoken, network, space, options.bf16, None, recordings, views)
    banks = fit_banks(_pairs(corpus, spoken, network))
    judges = Judges(VoiceJudge(verifier, banks), network, vocoder, options.bf16)
    print(f"{len(pieces.voices)} voices, {len(recordings)} recordings", flush=True)
    while training.begin_step():
        batch, count = pieces.mixed(options, rng), options.batch
        given = (batch.selected, batch.guide, batch.usual, batch.manner, batch.views)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            made = refiner(*given).float()
            with torch.no_grad():
                was = before(*(one[:count] for one in given)).float()
        losses, heard = judges(_sharpened(space, made[:count], batch), batch)
        spectra = made[..., : config.width]
        losses["anchor"] = (made[:count] - was).abs().mean()
        total = (
            options.voice_weight * losses["voice"]
            + options.content_weight * losses["content"]
            + options.moments_weight * losses["moments"]
            + options.anchor_weight * losses["anchor"]
        )
        if options.known:
            losses["spectral"] = (spectra[count:] - batch.truth[count:]).abs().mean()
            total = total + options.spectral_weight * losses["spectral"]
        losses |= training.judge_unpaired(heard, batch.sample[:count, : options.frames])
        if training.finish_step(total, losses):
            run.report()
    return run.publish(training.averaged, "refiner", **recorded(recordings))


def _sharpened(space: AcousticSpace, frames: Tensor, batch: Batch) -> Tensor:
    """Refined `frames` [B, T, width + 2] of the first of `batch`, as a preset sharpens them."""
    told = (batch.guide[: len(frames), :, 0], batch.contrast[: len(frames)])
    return torch.stack([space.sharpen(*one) for one in zip(frames, *told, strict=True)])


def _pairs(corpus: Path, spoken: list[Utterance], network: MelWavLM) -> list[tuple[Tensor, Tensor]]:
    """Waveforms and log-mel spectra of some utterances, evenly drawn."""
    pairs = []
    for utterance in spoken[:: max(1, len(spoken) // FITTED)]:
        wave, _ = sf.read(corpus / utterance.file, dtype="float32")
        spectra = torch.from_numpy(utterance.mel.astype(np.float32))
        pairs.append((torch.from_numpy(wave), spectra))
    return pairs
