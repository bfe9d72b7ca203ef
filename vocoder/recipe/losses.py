"""The spectral loss that `mini`'s vocoder begins with."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

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
