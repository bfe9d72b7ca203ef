"""Losses of vocoder training. Waveforms are [B, S]; every loss is a scalar."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional


def discriminator_loss(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Least-squares loss of the discriminators (Mao et al. 2017, as in HiFi-GAN)."""
    terms = [(1 - r).square().mean() + m.square().mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(terms).sum()


def adversarial_loss(made: list[Tensor]) -> Tensor:
    """Least-squares loss of the generator."""
    return torch.stack([(1 - score).square().mean() for score in made]).sum()


def feature_matching_loss(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """L1 between the discriminators' inner activations, mean over layers (Kong et al. 2020)."""
    terms = [
        functional.l1_loss(m, r.detach())
        for reals, mades in zip(real, made, strict=True)
        for r, m in zip(reals, mades, strict=True)
    ]
    return torch.stack(terms).mean()


class MelLoss(nn.Module):
    """L1 of log-mel spectra, HiFi-GAN's reconstruction loss (Kong et al. 2020, section 2.4)."""

    def __init__(self, sample_rate: int, size: int, hop: int, window: int, mels: int) -> None:
        super().__init__()
        self.padding = (size - hop) // 2
        self.spectrum = torchaudio.transforms.MelSpectrogram(
            sample_rate,
            size,
            window,
            hop,
            n_mels=mels,
            power=1.0,
            center=False,
            norm="slaney",
            mel_scale="slaney",
        )

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean absolute difference of two batches of waveforms [B, S]."""
        return functional.l1_loss(self._log_mel(made), self._log_mel(real))

    def _log_mel(self, wave: Tensor) -> Tensor:
        padded = functional.pad(wave[:, None], (self.padding, self.padding), mode="reflect")[:, 0]
        spectrum: Tensor = self.spectrum(padded)
        return spectrum.clamp(min=1e-5).log()
