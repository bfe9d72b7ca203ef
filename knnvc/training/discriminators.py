"""HiFi-GAN's discriminators, over periods and scales, and one step against any discriminators.

Kong et al. 2020 (https://arxiv.org/abs/2010.05646); their width is an option, so that a CPU can
try a training out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.training.losses import adversarial_loss, discriminator_loss, feature_matching_loss

SLOPE = 0.1
PERIODS = (2, 3, 5, 7, 11)

# HiFi-GAN's published sizes.
PERIOD_CHANNELS = (32, 128, 512, 1024, 1024)
SCALE_CHANNELS = (128, 128, 256, 512, 1024, 1024, 1024)
SCALE_LAYERS = (  # (kernel, stride, groups)
    *((15, 1, 1), (41, 2, 4), (41, 2, 16), (41, 4, 16), (41, 4, 16), (41, 1, 16)),
    (5, 1, 1),
)


def score(hidden: Tensor, layers: nn.ModuleList, last: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """Score map and inner activations of `hidden`, [B, C, ...]."""
    inner = []
    for layer in layers:
        hidden = functional.leaky_relu(layer(hidden), SLOPE)
        inner.append(hidden)
    return last(hidden), inner


class PublishedPeriodDiscriminator(nn.Module):
    """HiFi-GAN's period discriminator at its published size."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        norm = nn.utils.parametrizations.weight_norm
        pairs = list(pairwise([1, *channels]))
        strides = [3] * (len(pairs) - 1) + [1]
        self.layers = nn.ModuleList(
            norm(nn.Conv2d(a, b, (5, 1), (stride, 1), padding=(2, 0)))
            for (a, b), stride in zip(pairs, strides, strict=True)
        )
        self.last = norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`wave` [B, S] -> score map and inner activations, the score being the last of them."""
        rest = -wave.shape[1] % self.period
        wave = functional.pad(wave[:, None], (0, rest), mode="reflect")
        shaped = wave.reshape(len(wave), 1, -1, self.period)
        found, inner = score(shaped, self.layers, self.last)
        return found, [*inner, found]


class PublishedScaleDiscriminator(nn.Module):
    """HiFi-GAN's scale discriminator: one-dimensional, on the waveform after `pools` halvings."""

    def __init__(self, pools: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.pools = pools
        parametrizations = nn.utils.parametrizations
        norm = parametrizations.weight_norm if pools else parametrizations.spectral_norm
        shapes = zip(pairwise([1, *channels]), SCALE_LAYERS, strict=True)
        self.layers = nn.ModuleList(
            norm(nn.Conv1d(a, b, kernel, stride, kernel // 2, groups=math.gcd(groups, a, b)))
            for (a, b), (kernel, stride, groups) in shapes
        )
        self.last = norm(nn.Conv1d(channels[-1], 1, 3, padding=1))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`wave` [B, S] -> score map and inner activations, the score being the last of them."""
        hidden = wave[:, None]
        for _ in range(self.pools):
            hidden = functional.avg_pool1d(hidden, 4, 2, padding=2)
        found, inner = score(hidden, self.layers, self.last)
        return found, [*inner, found]


class PublishedDiscriminators(nn.Module):
    """The five period and three scale discriminators of HiFi-GAN; `width` 1 is as published."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()

        def scaled(channels: Sequence[int]) -> list[int]:
            return [max(1, round(width * count)) for count in channels]

        self.parts = nn.ModuleList(
            [PublishedPeriodDiscriminator(p, scaled(PERIOD_CHANNELS)) for p in PERIODS]
            + [PublishedScaleDiscriminator(pools, scaled(SCALE_CHANNELS)) for pools in range(3)]
        )

    @property
    def activations(self) -> int:
        """How many activations are compared in feature matching."""
        return len(PERIODS) * (len(PERIOD_CHANNELS) + 1) + 3 * (len(SCALE_CHANNELS) + 1)

    def forward(self, wave: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """`wave` [B, S] -> one score map and one list of activations for each discriminator."""
        done = [part(wave) for part in self.parts]
        return [score for score, _ in done], [inner for _, inner in done]


def contest(
    critics: nn.Module,
    judges: torch.optim.Optimizer,
    made: Tensor,
    real: Tensor,
    bf16: bool = False,
    backward: Callable[[Tensor], None] = torch.autograd.backward,
) -> dict[str, Tensor]:
    """One step of the discriminators, then the losses of the network that made `made`.

    `critics` gives a list of score maps and a list of lists of inner activations; `judges` is
    their optimiser, `backward` what computes gradients. Returned are "critics" (already stepped
    on), "adversarial" and "matching".
    """
    with torch.autocast(made.device.type, torch.bfloat16, enabled=bf16):
        real_scores, _ = critics(real)
        made_scores, _ = critics(made.detach())
        loss = discriminator_loss(real_scores, made_scores).float()
    judges.zero_grad()
    backward(loss)
    judges.step()
    with torch.autocast(made.device.type, torch.bfloat16, enabled=bf16):
        made_scores, made_inner = critics(made)
        with torch.no_grad():
            _, real_inner = critics(real)
        adversarial = adversarial_loss(made_scores).float()
        matching = feature_matching_loss(real_inner, made_inner).float()
    return {"critics": loss.detach(), "adversarial": adversarial, "matching": matching}
