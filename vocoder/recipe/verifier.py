"""A small speaker verifier: whether two log-mel spectrograms are of one voice.

It serves as a loss in training the refiner (a speaker consistency loss, as in YourTTS, Casanova et
al. 2022, https://arxiv.org/abs/2112.02418) and learns from the same corpus; it has nothing to do
with the verifier that `knnvc evaluate` measures with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.training.runs import cosine_rate
from recipe.disguises import other_tract, recasting
from recipe.options import RefinerOptions
from recipe.voices import Voice

SCALE = 15.0  # of cosines, before the softmax
DILATIONS = (1, 2, 3)


class Verifier(nn.Module):
    """Dilated convolutions, then mean and deviation over time (x-vectors, Snyder et al. 2018)."""

    def __init__(self, mels: int, channels: int = 160, size: int = 96) -> None:
        super().__init__()
        self.read = nn.Conv1d(mels, channels, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
            for dilation in DILATIONS
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for _ in DILATIONS)
        self.write = nn.Linear(2 * channels, size)

    def forward(self, spectra: Tensor) -> Tensor:
        """Unit vectors [B, size] of log-mel `spectra` [B, S, mels]."""
        hidden = functional.gelu(self.read(spectra.transpose(1, 2)))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = hidden + functional.gelu(norm(layer(hidden)))
        hidden = hidden.float()
        spread = hidden.var(2, correction=0).clamp(min=1e-4).sqrt()
        pooled = torch.cat([hidden.mean(2), spread], dim=1)
        return functional.normalize(self.write(pooled), dim=1)


def verification_loss(one: Tensor, other: Tensor) -> Tensor:
    """Row i of `one` [B, size] is to find its voice in row i of `other`, and the other way."""
    scores = SCALE * one @ other.T
    right = torch.arange(len(one), device=one.device)
    loss = functional.cross_entropy(scores, right) + functional.cross_entropy(scores.T, right)
    return loss / 2


def unlikeness(verifier: Verifier, made: Tensor, real: Tensor, bf16: bool) -> Tensor:
    """1 minus the mean cosine of the voices of two batches of log-mel frames [B, T, width]."""
    with torch.autocast(made.device.type, torch.bfloat16, enabled=bf16):
        both = torch.cat([made, real]).reshape(2 * len(real), -1, verifier.read.in_channels)
        one, other = verifier(both).chunk(2)
    loss: Tensor = 1 - (one * other).sum(1).mean()
    return loss


def with_two_utterances(voices: Sequence[Voice], frames: int) -> list[Voice]:
    """The voices that have two utterances longer than so many frames."""
    return [v for v in voices if sum(len(u.f0) > frames for u in v.utterances) > 1]


def same_voices(
    voices: Sequence[Voice],
    space: AcousticSpace,
    count: int,
    frames: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Twice `count` pieces [count, frames, width]: row i of either is of the same voice.

    No two rows are of one speaker, as far as there are enough; most speakers are recast. Either
    piece was recorded in a room of its own, so that the room does not tell whose it is.
    """
    width = space.mels * space.substeps
    able = with_two_utterances(voices, frames)
    rows: list[tuple[Tensor, Tensor]] = []
    for number in rng.permutation(len(able))[:count]:
        voice, formants = able[number], other_tract(rng)
        long = [i for i, u in enumerate(voice.utterances) if len(u.f0) > frames]
        starts = [
            voice.starts[i] + int(rng.integers(len(voice.utterances[i].f0) - frames))
            for i in rng.choice(long, 2, replace=False)
        ]
        pieces = [voice.synth[s : s + frames] for s in starts]
        if formants is not None:
            pieces = [recasting(space, formants, rng)(piece) for piece in pieces]
        one, other = (piece[:, :width] for piece in pieces)
        rows.append((one, other))
    return torch.stack([one for one, _ in rows]), torch.stack([other for _, other in rows])


def train_verifier(
    verifier: Verifier,
    voices: Sequence[Voice],
    space: AcousticSpace,
    options: RefinerOptions,
    rng: np.random.Generator,
) -> None:
    """Teach `verifier` the voices of the corpus, recast ones among them."""
    learner = torch.optim.AdamW(verifier.parameters(), options.rate)
    device = next(verifier.parameters()).device
    losses: list[float] = []
    for step in range(options.verifier_steps):
        learner.param_groups[0]["lr"] = cosine_rate(step, options.verifier_steps, options.rate, 50)
        both = torch.cat(same_voices(voices, space, 2 * options.batch, options.frames, rng))
        both = both.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            vectors = verifier(both.reshape(len(both), -1, space.mels))
        loss = verification_loss(*vectors.chunk(2))
        learner.zero_grad()
        torch.autograd.backward(loss)
        learner.step()
        losses.append(float(loss.detach()))
        if (step + 1) % options.report_every == 0:
            print(f"verifier: step {step + 1}, loss {np.mean(losses):.3f}", flush=True)
            losses.clear()
