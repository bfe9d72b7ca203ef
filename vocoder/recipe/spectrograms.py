"""What trainings of networks that make spectrograms share: a critic, optimisers, a step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.training.discriminators import contest
from knnvc.training.runs import Run, average, learn
from recipe.options import RefinerOptions, TextFrontendOptions

BETAS = (0.8, 0.99)  # of both optimisers, as in HiFi-GAN
LARGEST_GRADIENT = 5.0
FLOOR = 0.05  # of the learning rates, as a share of their highest
JUDGING = 0.5  # the critic's learning rate, as a share of the network's


Network = TypeVar("Network", bound=nn.Module)


class SpectrogramCritic(nn.Module):
    """Tells real from made log-mel spectrograms, patch by patch (Isola et al. 2017)."""

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
        """`mel` [B, 1, spectra, mels] -> score maps and inner activations, a list each."""
        hidden, inner = mel, []
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), 0.1)
            inner.append(hidden)
        return [self.last(hidden)], [inner]


class SpectrogramTraining(Generic[Network]):
    """A network, its running average, its critic, and the run that keeps them.

    Args:
        network: what is trained, on its device.
        folder: see `Run`.
        options: of the training.
        mels: bands of a spectrum.
        weights: of the critic's losses, `adversarial` and `matching`.
        late: a part of the network, and the step before which it does not learn.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        options: RefinerOptions | TextFrontendOptions,
        mels: int,
        weights: Mapping[str, float],
        late: tuple[nn.Module, int] | None = None,
    ) -> None:
        self.network, self.options = network, options
        self._weights = weights
        self.averaged: Network = copy.deepcopy(network).eval()
        device = next(network.parameters()).device
        self.critic = SpectrogramCritic(options.channels).to(device)
        part, after = late or (nn.Module(), 0)
        # Where nothing waits there is one group, so that earlier checkpoints fit.
        waiting = list(part.parameters()) if after else []
        known = set(waiting)
        first = [p for p in network.parameters() if p not in known]
        groups = [(group, step) for group, step in ((first, 0), (waiting, after)) if group]
        self.makers = torch.optim.AdamW(
            [{"params": group} for group, _ in groups], options.rate, betas=BETAS
        )
        self._begins = [step for _, step in groups]  # of each group
        self.judges = torch.optim.AdamW(
            self.critic.parameters(), options.rate * JUDGING, betas=BETAS
        )
        self.run = Run(
            folder,
            {
                "network": network,
                "averaged": self.averaged,
                "critic": self.critic,
                "makers": self.makers,
                "judges": self.judges,
            },
            options,
            minutes=options.minutes,
        )
        self._mels = mels

    def begin_step(self) -> bool:
        """Set the learning rates; False if the training is done."""
        highest = self.options.rate
        for group, after in zip(self.makers.param_groups, self._begins, strict=True):
            group["lr"] = self.run.rate(highest, floor=FLOOR, after=after)
        self.judges.param_groups[0]["lr"] = self.run.rate(highest, floor=FLOOR) * JUDGING
        return not self.run.done

    def judge(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Losses before the critic, which learns on the way; none before it comes in.

        Both [B, T, substeps · mels].
        """
        if not self.run.reached(self.options.adversarial_from):
            return {}
        shown = [one.reshape(len(one), 1, -1, self._mels) for one in (made, real)]
        return contest(self.critic, self.judges, shown[0], shown[1], self.options.bf16)

    def finish_step(self, total: Tensor, losses: dict[str, Tensor]) -> bool:
        """Learn from `total` and the critic's `losses`; whether it is time for a report."""
        for name, weight in self._weights.items():
            if name in losses:
                total = total + weight * losses[name]
        learn(self.network, self.makers, total, LARGEST_GRADIENT)
        average(self.averaged, self.network, self.options.average, self.run.step)
        self.run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        return self.run.step % self.options.report_every == 0
