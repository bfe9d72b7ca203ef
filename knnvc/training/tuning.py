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

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor, nn

from knnvc.acoustic_space import AcousticSpace
from knnvc.encoder import MEL_SCALE, Encoder, MelWavLM
from knnvc.errors import KnnvcError
from knnvc.phones import assure
from knnvc.refiner import RefinerConfig
from knnvc.source_filter import SourceFilterVocoder
from knnvc.training.bandwidth import BandExtension
from knnvc.training.campplus import CamPlusPlus, VoiceJudge, fit_banks
from knnvc.training.data import (
    MINI_REFINER,
    Utterance,
    load_corpus,
    load_recordings,
    recorded,
    split,
)
from knnvc.training.options import TuningOptions
from knnvc.training.recordings import FULL_BANDS
from knnvc.training.refiner import (
    Pieces,
    Task,
    earlier_refiner,
    reference,
    with_a_voice,
)
from knnvc.training.runs import Run, average, cosine_rate, seed_everything
from knnvc.training.spectrograms import BETAS, LARGEST_GRADIENT, SpectrogramCritic

NEIGHBOURS = (2, 4, 4)  # drawn for each piece
SAMPLE = 200  # frames of the target that the verifier hears
VOICED = 0.5  # probability
LEAST_VOICED = 50  # frames that have moments
FITTED = 150  # utterances from which CAM++'s filter banks are learnt
POWER = 2 * MEL_SCALE  # natural logarithm of power in one unit of the log-mel


@dataclass(frozen=True)
class Batch:
    """`selected` to `views` are what `Refiner` takes; the first of them have no known result.

    `truth` [B, T, width] for those that have; of the others, `said` [B, T, states] is what to hear,
    `sample` [B, SAMPLE, width] the target's own speech, `moments` [B, 3, mels] that of all of it.
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


class Conversions(Pieces):
    """Draws conversions of anybody into anybody, and some with a known result."""

    def mixed(self, options: TuningOptions, rng: np.random.Generator) -> Batch:
        """`options.batch` conversions, then `options.known` pieces whose result is known."""
        pieces = [self._draw(options, rng) for _ in range(options.batch + options.known)]
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

    def _draw(self, options: TuningOptions, rng: np.random.Generator) -> tuple[Task, int]:
        """An utterance for its own voice, and the first frame of a piece.

        Raises:
            KnnvcError: no utterance is long enough.
        """
        real, spoken = (
            [task for task in tasks if len(task.truth) > options.frames]
            for tasks in (self.recorded_tasks, self.tasks)
        )
        if not real and not spoken:
            raise KnnvcError(f"no utterance has more than {options.frames} frames: ask for fewer")
        use_real = bool(real) and (not spoken or rng.random() < options.recorded_share)
        tasks = real if use_real else spoken
        task = tasks[int(rng.integers(len(tasks)))]
        return task, int(rng.integers(len(task.truth) - options.frames))

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
        return selected, guide, *told, match[:, 2:], sample, usual


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
    network = encoder.network
    if not isinstance(network, MelWavLM):
        raise KnnvcError("a refiner works with mel-wavlm encoders only")
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    refiner, before = earlier_refiner(config, start).train(), earlier_refiner(config, start)
    before.requires_grad_(False)
    averaged = copy.deepcopy(refiner).eval()
    critic = SpectrogramCritic(options.channels)
    makers = torch.optim.AdamW(refiner.parameters(), options.rate, betas=BETAS)
    judging = torch.optim.AdamW(critic.parameters(), options.rate, betas=BETAS)
    parts = {"network": refiner, "averaged": averaged, "critic": critic}
    run = Run(folder, parts | {"makers": makers, "judges": judging}, options)
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    spoken, _ = split(load_corpus(corpus, network))
    recordings = with_a_voice(load_recordings(corpus, network)) if options.recorded_share else []
    recordings = with_treble(recordings, spoken)
    views = config.views
    pieces = Conversions(spoken, network, space, options.bf16, None, recordings, views)
    banks = fit_banks(_pairs(corpus, spoken, network))
    judges = Judges(VoiceJudge(verifier, banks), network, vocoder, options.bf16)
    print(f"{len(pieces.voices)} voices, {len(recordings)} recordings", flush=True)
    while run.step < options.steps:
        rate = cosine_rate(run.step, options.steps, options.rate, warmup=100, floor=0.05)
        makers.param_groups[0]["lr"] = judging.param_groups[0]["lr"] = rate
        batch, count = pieces.mixed(options, rng), options.batch
        given = (batch.selected, batch.guide, batch.usual, batch.manner, batch.views)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            made = refiner(*given).float()
            with torch.no_grad():
                was = before(*(one[:count] for one in given)).float()
        losses, heard = judges(_sharpened(space, made[:count]), batch)
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
        if run.step >= options.adversarial_from:
            real = batch.sample[:count, : options.frames]
            losses |= _contest(critic, judging, real, heard, config.mels, options.bf16)
            total = total + options.adversarial_weight * losses["adversarial"]
        makers.zero_grad()
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(refiner.parameters(), LARGEST_GRADIENT)
        makers.step()
        average(averaged, refiner, options.average, run.step)
        run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        if run.step % options.report_every == 0:
            run.report()
    return run.publish(averaged, "refiner", **recorded(recordings))


def with_treble(recordings: list[Utterance], spoken: list[Utterance]) -> list[Utterance]:
    """The recordings, with the bands that theirs lack continued as in what is `spoken`."""
    extensions: dict[str, BandExtension] = {}
    rng, done = np.random.default_rng(0), []
    for recording in recordings:
        source = Path(recording.file).parts[1]
        if source in FULL_BANDS:
            if source not in extensions:
                spectra = [utterance.mel for utterance in spoken]
                extensions[source] = BandExtension.fit(spectra, FULL_BANDS[source])
            recording = replace(recording, mel=extensions[source].extend(recording.mel, rng))
        done.append(recording)
    return done


def _sharpened(space: AcousticSpace, frames: Tensor) -> Tensor:
    """`frames` [B, T, width + 2] as a preset sharpens them."""
    return space.sharpen(frames.flatten(0, 1)).reshape(frames.shape)


def _pairs(corpus: Path, spoken: list[Utterance], network: MelWavLM) -> list[tuple[Tensor, Tensor]]:
    """Waveforms and log-mel spectra of some utterances, evenly drawn."""
    pairs = []
    for utterance in spoken[:: max(1, len(spoken) // FITTED)]:
        wave, _ = sf.read(corpus / utterance.file, dtype="float32")
        spectra = torch.from_numpy(utterance.mel.astype(np.float32))
        pairs.append((torch.from_numpy(wave), spectra))
    return pairs


def _contest(
    critic: SpectrogramCritic,
    judging: torch.optim.Optimizer,
    real: Tensor,
    made: Tensor,
    mels: int,
    bf16: bool,
) -> dict[str, Tensor]:
    """Let the critic learn; `adversarial` is what it thinks of `made` [B, T, width] (LSGAN).

    `real` [B, T', width] is other speech of the same voices, so there is nothing to match.
    """

    def score(frames: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            (scores,), _ = critic(frames.reshape(len(frames), 1, -1, mels))
        judged: Tensor = scores.float()
        return judged

    loss = (1 - score(real)).square().mean() + score(made.detach()).square().mean()
    judging.zero_grad()
    torch.autograd.backward(loss)
    judging.step()
    return {"judged": loss, "adversarial": (1 - score(made)).square().mean()}
