"""Train `mini`'s refiner: from frames selected for a disguised source back to what was spoken.

An utterance is disguised (other pitch, tempo, vocal tract, channel, noise), matched against other
utterances of its speaker, and the network is to give back its own spectra. So the source's voice
differs from the target's as in a conversion, while the right answer is known: the disguise plays
the part of another speaker, in the manner of kNN-VC's prematching, which has none. The speaker is
recast, too, in most pieces, with another vocal tract and another microphone: a corpus has about a
hundred voices, and a refiner that only knows those makes every target sound a little like them.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional

from knnvc.acoustic_space import AcousticSpace
from knnvc.encoder import PITCH_CENTRE, Encoder, MelWavLM
from knnvc.errors import KnnvcError
from knnvc.matching import select, weigh
from knnvc.refiner import Refiner, RefinerConfig
from knnvc.training.augmentation import channel_curve, degrade, log_mel, recast, stretch
from knnvc.training.data import MINI_REFINER, Utterance, load_corpus, split
from knnvc.training.discriminators import contest
from knnvc.training.options import RefinerOptions
from knnvc.training.runs import Run, average, begin_with, cosine_rate, seed_everything

NEIGHBOURS = (1, 2, 4, 4, 4, 8)  # drawn for each piece, so that any k works
TEMPO = 0.2  # natural logarithm of the largest change of pitch and tempo
FORMANTS = 0.22  # and of the vocal tract on top of it
MOST_REFERENCES = 60  # utterances, some five minutes
RECAST_SHARE = 0.7  # of the pieces are of a speaker with another vocal tract and microphone
RECAST_FORMANTS = 0.1  # natural logarithm of the largest change
RECAST_COLOUR = 0.4  # standard deviation, in natural logarithms of the magnitude


class SpectrogramCritic(nn.Module):
    """Tells real from refined log-mel spectrograms, patch by patch (Isola et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        widths = (1, channels, 2 * channels, 2 * channels, 2 * channels)
        strides = ((2, 2), (2, 2), (1, 2), (1, 1))
        self.layers = nn.ModuleList(
            norm(nn.Conv2d(a, b, 5, stride, padding=2))
            for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.last = norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, mel: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """`mel` [B, spectra, mels] -> score maps and inner activations, one list each."""
        hidden, inner = mel[:, None], []
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), 0.1)
            inner.append(hidden)
        return [self.last(hidden)], [inner]


@dataclass(frozen=True)
class Voice:
    """All frames of a speaker: `vectors` unit rows [N, Dv], `synth` [N, Ds], `match` [N, Dm].

    Utterance i spans the frames `starts[i]` to `starts[i + 1]`.
    """

    utterances: list[Utterance]
    starts: list[int]
    synth: Tensor
    match: Tensor
    vectors: Tensor


Example = tuple[Tensor, Tensor, Tensor, Tensor]  # selected, guide, manner, true spectra


class Pieces:
    """Draws training examples; holds the encoded corpus in memory (150 MB an hour)."""

    def __init__(
        self, utterances: list[Utterance], network: MelWavLM, space: AcousticSpace, bf16: bool
    ) -> None:
        # Weights and activations in bf16: autocast would convert them anew in every layer.
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.network = copy.deepcopy(network).eval().to(self.dtype)
        self.space = space
        grouped: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            grouped[utterance.speaker].append(utterance)
        self.voices = [self._voice(group) for group in grouped.values() if len(group) > 2]
        if not self.voices:
            raise KnnvcError("no speaker of the corpus has three utterances: make a longer corpus")

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """√posteriors [B, T, states], log2 f0, voicing [B, T] of log-mel frames [B, T, width]."""
        logits, pitch = self.network.predict(mel.to(self.dtype))
        pitch = pitch.float()
        posteriors = torch.softmax(logits.float(), -1).sqrt()
        return posteriors, pitch[..., 0] + PITCH_CENTRE, torch.sigmoid(pitch[..., 1])

    def _voice(self, utterances: list[Utterance]) -> Voice:
        synths, matches, starts = [], [], [0]
        for utterance in utterances:
            mel = torch.from_numpy(utterance.mel.astype(np.float32))
            mel = mel.reshape(1, len(utterance.f0), -1)
            posteriors, pitch, voicing = self.encode(mel)
            heard = torch.stack([pitch[0], voicing[0]], 1)
            synths.append(torch.cat([mel[0], heard], 1))
            matches.append(torch.cat([heard, posteriors[0]], 1))
            starts.append(starts[-1] + len(heard))
        synth, match = torch.cat(synths), torch.cat(matches)
        statistics = self.space.statistics(synth, match)
        vectors = self.space.vectors(synth, match, statistics, torch.tensor(starts[:-1]))
        return Voice(utterances, starts, synth, match, functional.normalize(vectors, dim=1))

    def batch(self, options: RefinerOptions, rng: np.random.Generator) -> Example:
        """What `Refiner` takes (selected, guide, manner), and the true spectra [B, T, width]."""
        chosen = list(self._choose(options, rng))
        degraded = rng.random() < options.degraded_share
        made = self.examples(chosen, options.frames, degraded, rng, recast=True)
        columns = [torch.stack(column) for column in zip(*made, strict=True)]
        return columns[0], columns[1], columns[2], columns[3]

    def examples(
        self,
        chosen: list[tuple[Voice, int, int]],
        frames: int,
        degraded: bool,
        rng: np.random.Generator,
        recast: bool = False,
    ) -> list[Example]:
        """Disguise, match and follow: `frames` from (voice, utterance, first frame) on.

        With `recast` the true spectra are mostly not the recording's, but another speaker's.
        """
        ratio = float(np.exp(rng.uniform(-TEMPO, TEMPO)))
        length = round(frames / ratio)
        magnitudes = [
            stretch(
                voice.utterances[index].mel,
                2 * start,
                2 * length,
                ratio,
                ratio * float(np.exp(rng.uniform(-FORMANTS, FORMANTS))),
            )
            for voice, index, start in chosen
        ]
        energy = torch.from_numpy(np.stack(magnitudes)).float()
        if degraded:
            energy = degrade(energy, rng).float()
        mel = log_mel(energy).reshape(len(chosen), length, -1)
        posteriors, pitch, voicing = self.encode(mel)
        heard = torch.stack([pitch - np.log2(ratio), voicing], -1)
        sources = _resample(torch.cat([mel, heard, posteriors], -1), frames, ratio)
        return [
            self._example(piece, source, frames, rng, recast)
            for piece, source in zip(chosen, sources, strict=True)
        ]

    def _choose(
        self, options: RefinerOptions, rng: np.random.Generator
    ) -> Iterator[tuple[Voice, int, int]]:
        """Voice, utterance and first frame of `options.batch` pieces."""
        found = 0
        while found < options.batch:
            voice = self.voices[rng.integers(len(self.voices))]
            index = int(rng.integers(len(voice.utterances)))
            room = len(voice.utterances[index].f0) - options.frames
            if room > 0:
                found += 1
                yield voice, index, int(rng.integers(room))

    def _example(
        self,
        piece: tuple[Voice, int, int],
        source: Tensor,
        frames: int,
        rng: np.random.Generator,
        recast: bool,
    ) -> Example:
        voice, index, start = piece
        width = self.space.mels * self.space.substeps
        synth, match = source[:, : width + 2], source[:, width:]
        own = self.space.statistics(synth, match)
        pool = _reference(voice, index, rng)
        first = voice.starts[index] + start
        frames_of = self._other_speaker(rng, width) if recast else _same_speaker
        built, truth = (
            frames_of(part) for part in (voice.synth[pool], voice.synth[first : first + frames])
        )
        target = self.space.statistics(built, voice.match[pool])
        query = functional.normalize(self.space.vectors(synth, match, own), dim=1)
        k = min(int(rng.choice(NEIGHBOURS)), len(pool))
        # Normalised by the speaker's statistics, the vectors hardly change when it is recast.
        cosines, rows = torch.topk(query @ voice.vectors[pool].T, k, dim=1)
        selected = select(built, rows, weigh(1 - cosines, "mean"))
        selected = self.space.follow_level(selected, synth, own, target)
        # The pitch is given: the source's contour in the target's range, here the true one.
        selected[:, width:] = truth[:, width:]
        guide, manner = self.space.guide(synth, match, own), self.space.manner(target)
        return selected, guide, manner, truth[:, :width]

    def _other_speaker(self, rng: np.random.Generator, width: int) -> Callable[[Tensor], Tensor]:
        """What makes another speaker of all frames [N, Ds] of one; sometimes nothing is done."""
        if rng.random() >= RECAST_SHARE:
            return _same_speaker
        formants = float(np.exp(rng.uniform(-RECAST_FORMANTS, RECAST_FORMANTS)))
        colour = channel_curve(self.space.mels, RECAST_COLOUR, rng)

        def apply(synth: Tensor) -> Tensor:
            spectra = recast(synth[:, :width], self.space.mels, formants, colour)
            return torch.cat([spectra, synth[:, width:]], dim=1)

        return apply


def _same_speaker(synth: Tensor) -> Tensor:
    return synth


def _reference(voice: Voice, index: int, rng: np.random.Generator) -> Tensor:
    """Rows of some other utterances of the speaker: little speech as often as much."""
    others = [i for i in range(len(voice.utterances)) if i != index]
    count = round(np.exp(rng.uniform(0, np.log(min(len(others), MOST_REFERENCES)))))
    kept = sorted(rng.choice(others, size=count, replace=False))
    return torch.cat([torch.arange(voice.starts[i], voice.starts[i + 1]) for i in kept])


def _resample(features: Tensor, frames: int, ratio: float) -> Tensor:
    """`features` [B, T, D] of speech played `ratio` times as fast, at its own pace again."""
    at = ((torch.arange(frames) + 0.5) / ratio - 0.5).clamp(0, features.shape[1] - 1)
    low = at.long().clamp(max=features.shape[1] - 2)
    share = (at - low)[:, None]
    return features[:, low] * (1 - share) + features[:, low + 1] * share


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
    network = encoder.network
    if not isinstance(network, MelWavLM):
        raise KnnvcError("a refiner works with mel-wavlm encoders only")
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    refiner = Refiner(config)
    begin_with(refiner, start)
    averaged = copy.deepcopy(refiner).eval()
    critic = SpectrogramCritic(options.channels)
    makers = torch.optim.AdamW(refiner.parameters(), options.rate, betas=(0.8, 0.99))
    judges = torch.optim.AdamW(critic.parameters(), options.rate / 2, betas=(0.8, 0.99))
    run = Run(
        folder,
        {
            "network": refiner,
            "averaged": averaged,
            "critic": critic,
            "makers": makers,
            "judges": judges,
        },
        options,
    )
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
    training, held_out = split(load_corpus(corpus, network))
    pieces = Pieces(training, network, space, options.bf16)
    validation = _validation(held_out, network, space, options)
    print(
        f"{len(pieces.voices)} voices to train on, {len(validation)} batches held out", flush=True
    )
    while run.step < options.steps:
        rate = cosine_rate(run.step, options.steps, 1.0, floor=0.05)
        makers.param_groups[0]["lr"] = rate * options.rate
        judges.param_groups[0]["lr"] = rate * options.rate / 2
        selected, guide, manner, mel = pieces.batch(options, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            made = refiner(selected, guide, manner)[..., : config.width].float()
        losses = {"spectral": (made - mel).abs().mean()}
        total = options.spectral_weight * losses["spectral"]
        if run.step >= options.adversarial_from:
            shape = (len(mel), -1, config.mels)
            losses |= contest(critic, judges, made.reshape(shape), mel.reshape(shape), options.bf16)
            total = total + losses["adversarial"] + options.matching_weight * losses["matching"]
        makers.zero_grad()
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(refiner.parameters(), 5.0)
        makers.step()
        average(averaged, refiner, options.average, run.step)
        run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        if run.step % options.report_every == 0:
            run.report(held_out=_evaluate(averaged, validation))
    return run.publish(averaged, "refiner")


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
    if not isinstance(encoder.network, MelWavLM):
        raise KnnvcError("a refiner works with mel-wavlm encoders only")
    rng = seed_everything(seed)
    training, _ = split(load_corpus(corpus, encoder.network))
    pieces = Pieces(training, encoder.network, space, bf16)
    tensors: dict[str, npt.NDArray[np.float16]] = {}
    for number, voice in enumerate(pieces.voices, 1):
        for index, utterance in enumerate(voice.utterances):
            whole = [(voice, index, 0)]
            selected, guide, manner, _ = pieces.examples(whole, len(utterance.f0), False, rng)[0]
            tensors[utterance.file] = refiner.refine(selected, guide, manner).half().numpy()
        print(f"refined {number} of {len(pieces.voices)} voices", flush=True)
    temporary = out.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(out)


def _validation(
    utterances: list[Utterance], network: MelWavLM, space: AcousticSpace, options: RefinerOptions
) -> list[Example]:
    """A few fixed batches of speakers that are held out; none if there are too few utterances."""
    try:
        pieces = Pieces(utterances, network, space, options.bf16)
    except KnnvcError:
        return []
    rng = np.random.default_rng(1)
    return [pieces.batch(options, rng) for _ in range(4)]


@torch.inference_mode()
def _evaluate(refiner: Refiner, batches: list[Example]) -> float:
    """Mean L1 of log-mel values on held-out speakers."""
    width = refiner.config.width
    losses = [
        float((refiner(selected, guide, manner)[..., :width] - mel).abs().mean())
        for selected, guide, manner, mel in batches
    ]
    return float(np.mean(losses)) if losses else float("nan")
