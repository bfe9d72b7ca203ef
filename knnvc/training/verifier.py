"""A small speaker verifier: whether two log-mel spectrograms are of one voice.

It serves as a loss in training the refiner (a speaker consistency loss, as in YourTTS, Casanova et
al. 2022, https://arxiv.org/abs/2112.02418) and learns from the same corpus; it has nothing to do
with the verifier that `knnvc evaluate` measures with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    right = torch.arange(len(one))
    loss = functional.cross_entropy(scores, right) + functional.cross_entropy(scores.T, right)
    return loss / 2
