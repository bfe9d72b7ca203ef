"""The discriminators of `mini`'s vocoder: HiFi-GAN's over periods, UnivNet's over spectrograms.

Kong et al. 2020 (https://arxiv.org/abs/2010.05646), Jang et al. 2021
(https://arxiv.org/abs/2106.07889); fewer channels than published, so that a CPU can train with
them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.training.discriminators import PERIODS, SLOPE, score

SPECTROGRAMS = ((1024, 120), (512, 80), (256, 40))  # (FFT length, hop) in samples
# Waveforms and log magnitudes of speech come to about zero mean and unit spread.
LOUDER = 15.0
FLOOR, LOG_MEAN, LOG_SPREAD = 1e-3, -2.5, 2.0


def _convolution(inner: int, outer: int, kernel: tuple[int, int], **given: Any) -> nn.Module:
    """A convolution with weight normalisation, which keeps the scale of what it is given.

    With torch's own weights the activations of so few channels fade to a hundredth, and a critic
    cannot tell anything for more than a thousand steps.
    """
    layer = nn.Conv2d(inner, outer, kernel, **given)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    normed: nn.Module = nn.utils.parametrizations.weight_norm(layer)
    return normed


class PeriodDiscriminator(nn.Module):
    """Looks at every `period`-th sample side by side."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, channels, 2 * channels, 4 * channels, 8 * channels]
        self.layers = nn.ModuleList(
            _convolution(a, b, (5, 1), stride=(3, 1), padding=(2, 0)) for a, b in pairwise(widths)
        )
        self.last = _convolution(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`wave` [B, S] -> score map and inner activations."""
        rest = -wave.shape[1] % self.period
        wave = functional.pad(LOUDER * wave[:, None], (0, rest), mode="reflect")
        return score(wave.reshape(len(wave), 1, -1, self.period), self.layers, self.last)


class SpectrogramDiscriminator(nn.Module):
    """Looks at the magnitudes of one STFT."""

    window: Tensor

    def __init__(self, size: int, hop: int, channels: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.layers = nn.ModuleList(
            [
                _convolution(1, channels, (7, 5), stride=(2, 2), padding=(3, 2)),
                _convolution(channels, channels, (5, 3), stride=(2, 1), padding=(2, 1)),
                _convolution(channels, channels, (5, 3), stride=(2, 1), padding=(2, 1)),
                _convolution(channels, channels, (3, 3), padding=1),
            ]
        )
        self.last = _convolution(channels, 1, (3, 3), padding=1)

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`wave` [B, S] -> score map and inner activations."""
        spectrum = torch.stft(
            wave, self.size, self.hop, window=self.window, return_complex=True
        ).abs()
        # Compressed, so that quiet high frequencies are looked at too.
        seen = (torch.log(spectrum + FLOOR) - LOG_MEAN) / LOG_SPREAD
        return score(seen[:, None], self.layers, self.last)


class Discriminators(nn.Module):
    """All of them; returns their scores and inner activations."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [PeriodDiscriminator(period, channels) for period in PERIODS]
            + [SpectrogramDiscriminator(size, hop, channels) for size, hop in SPECTROGRAMS]
        )

    def forward(self, wave: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """`wave` [B, S] -> one score map and one list of activations for each discriminator."""
        done = [part(wave) for part in self.parts]
        return [scores for scores, _ in done], [inner for _, inner in done]
