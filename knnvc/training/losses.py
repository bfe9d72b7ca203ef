"""Losses of vocoder training. Waveforms are [B, S]; every loss is a scalar."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

RESOLUTIONS = ((256, 40), (512, 60), (1024, 80), (2048, 100))  # (FFT length in samples, mel bands)


class SpectralLoss(nn.Module):
    """Distance of log-mel and log-magnitude spectra at several resolutions.

    Several resolutions at once keep both time and frequency detail (Yamamoto et al. 2020, Parallel
    WaveGAN, https://arxiv.org/abs/1910.11480).
    """

    def __init__(
        self, sample_rate: int, resolutions: tuple[tuple[int, int], ...] = RESOLUTIONS
    ) -> None:
        super().__init__()
        self.sizes = [size for size, _ in resolutions]
        for size, mels in resolutions:
            bank = torchaudio.functional.melscale_fbanks(
                size // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, mel_scale="slaney"
            )
            self.register_buffer(f"bank{size}", bank, persistent=False)
            self.register_buffer(f"window{size}", torch.hann_window(size), persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean over resolutions of L1 on log-mel, plus a third of L1 on log magnitudes."""
        total = made.new_zeros(())
        for size in self.sizes:
            window, bank = getattr(self, f"window{size}"), getattr(self, f"bank{size}")
            pair = [
                torch.stft(wave, size, size // 4, window=window, return_complex=True).abs()
                for wave in (made, real)
            ]
            mel = [torch.log(spectrum.transpose(1, 2) @ bank + 0.01) for spectrum in pair]
            log = [torch.log(spectrum + 0.01) for spectrum in pair]
            total = total + (mel[0] - mel[1]).abs().mean() + (log[0] - log[1]).abs().mean() / 3
        return total / len(self.sizes)


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
