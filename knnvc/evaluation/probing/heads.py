"""Small heads on frozen layers: one for each layer, and one on their learned mixture.

All heads of a task learn side by side from the same examples, each with an optimiser's state of its
own (Adam is per parameter, and no loss reaches another head). Each is kept as it was when it did
best on the part "valid".

H heads, N examples or frames, D dimensions of a layer, C outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.evaluation.probing.base import MIXTURE
from knnvc.evaluation.probing.layers import is_layer

Layers: TypeAlias = Mapping[str, Tensor]
"""By layer, [..., D]; the leading sizes are the same for all."""

LEAST_SPREAD = 0.1  # added to a dimension's, as a share of the mean: what hardly varies stays small
DESCENT = 2.0  # learning rate times dimensions
WEIGHT_RATE = 20.0  # learning rate of the mixture's weights, in multiples of the heads'


@dataclass(frozen=True)
class Training:
    """How heads learn.

    Attributes:
        rate: of Adam.
        steps: at most.
        every: steps between two looks at the part "valid".
        patience: looks without a better one, by any head, after which it ends.
        decay: of weights, decoupled (AdamW).
        dropout: of a hidden layer.
        descent: gradient descent with momentum instead of Adam, for few examples: from
            zero it goes where all examples agree, and Adam, which takes equal steps in every
            dimension, learns noise by heart.
    """

    rate: float = 5e-3
    steps: int = 400
    every: int = 10
    patience: int = 8
    decay: float = 1e-2
    dropout: float = 0.1
    descent: bool = False


class Scaling:
    """Brings every dimension of every layer to mean 0 and spread 1, as it is in training."""

    def __init__(self, train: Layers) -> None:
        self.middle, self.spread = {}, {}
        for name, values in train.items():
            flat = values.reshape(-1, values.shape[-1]).float()
            spread = flat.std(0, correction=0)
            self.middle[name] = flat.mean(0)
            self.spread[name] = spread + LEAST_SPREAD * float(spread.mean()) + 1e-8

    def __call__(self, layers: Layers) -> dict[str, Tensor]:
        """`layers` scaled, in float32."""
        return {
            name: (values.float() - self.middle[name]) / self.spread[name]
            for name, values in layers.items()
        }


class Head(nn.Module):
    """A linear layer, or two, with a ReLU between them if `bend`: [..., D] -> [..., C]."""

    bend = True

    def __init__(self, dim: int, outputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        first = hidden or outputs
        self.first = nn.Linear(dim, first)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden, outputs) if hidden else None
        # From zero, few examples teach no direction that none of them has.
        for parameter in (self.last or self.first).parameters():
            nn.init.zeros_(parameter)

    def forward(self, values: Tensor) -> Tensor:
        """Outputs [..., C] of `values` [..., D]."""
        made: Tensor = self.first(values)
        if self.last is not None:
            made = self.last(self.dropout(functional.relu(made) if self.bend else made))
        return made


class Mixture(nn.Module):
    """Σ softmax(w)·layer, then a head: SUPERB's way to read an encoder."""

    def __init__(self, layers: Sequence[str], head: Head) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.weights = nn.Parameter(torch.zeros(len(layers)))
        self.head = head

    @property
    def shares(self) -> dict[str, float]:
        """How much of each layer is taken; they sum to 1."""
        return dict(zip(self.layers, torch.softmax(self.weights.detach(), 0).tolist(), strict=True))

    def mixed(self, layers: Layers) -> Tensor:
        """The mixture [..., D] of the layers [..., D]."""
        weights = torch.softmax(self.weights, 0)
        made: Any = sum(
            weight * layers[name] for weight, name in zip(weights, self.layers, strict=True)
        )
        mixed: Tensor = made
        return mixed

    def forward(self, layers: Layers) -> Tensor:
        """Outputs [..., C] of the layers [..., D]."""
        made: Tensor = self.head(self.mixed(layers))
        return made


class Heads(nn.Module):
    """A head for every layer and, with two numbered layers of one width or more, a mixture."""

    def __init__(
        self, dims: Mapping[str, int], outputs: int, hidden: int, dropout: float, seed: int
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.names = tuple(dims)
            self.single = nn.ModuleList(
                Head(dims[name], outputs, hidden, dropout) for name in self.names
            )
            mixed = [name for name in dims if is_layer(name)]
            self.mixture: Mixture | None = None
            if len(mixed) > 1 and len({dims[name] for name in mixed}) == 1:
                head = Head(dims[mixed[0]], outputs, hidden, dropout)
                self.mixture = Mixture(mixed, head)

    @property
    def all(self) -> dict[str, nn.Module]:
        """Every head by name; the mixture's is `MIXTURE`."""
        found: dict[str, nn.Module] = dict(zip(self.names, self.single, strict=True))
        return found | ({} if self.mixture is None else {MIXTURE: self.mixture})

    def forward(self, layers: Layers) -> dict[str, Tensor]:
        """Outputs [..., C] of every head for scaled `layers` [..., D]."""
        found = {
            name: head(layers[name]) for name, head in zip(self.names, self.single, strict=True)
        }
        if self.mixture is not None:
            found[MIXTURE] = self.mixture(layers)
        return found

    def straighten(self) -> None:
        """Take the ReLU out of every head: the hidden layer is a linear bottleneck."""
        for head in (*self.single, *([] if self.mixture is None else [self.mixture.head])):
            head.bend = False

    def inner(self, layers: Layers) -> dict[str, Tensor]:
        """What every head's first layer gives, [..., hidden]: an embedding."""
        found: dict[str, Tensor] = {
            name: head.first(layers[name])  # type: ignore[operator]
            for name, head in zip(self.names, self.single, strict=True)
        }
        if self.mixture is not None:
            found[MIXTURE] = self.mixture.head.first(self.mixture.mixed(layers))
        return found

    def optimisers(self, how: Training) -> list[torch.optim.Optimizer]:
        """For all heads, and for the mixture's weights, which learn faster and do not decay."""
        weights = [] if self.mixture is None else [self.mixture.weights]
        made: list[torch.optim.Optimizer] = []
        if how.descent:
            heads = [*self.single, *([] if self.mixture is None else [self.mixture.head])]
            layers = [one for head in heads for one in (head.first, head.last) if one is not None]
            # The loss bends at most so much in standardised dimensions.
            groups = [
                {"params": one.parameters(), "lr": DESCENT / one.in_features} for one in layers
            ]
            made.append(torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=1e-3))
        else:
            others = [one for one in self.parameters() if all(one is not w for w in weights)]
            made.append(torch.optim.AdamW(others, lr=how.rate, weight_decay=how.decay))
        if weights:
            made.append(torch.optim.Adam(weights, lr=WEIGHT_RATE * how.rate))
        return made


def learn(
    heads: Heads,
    batch: Callable[[int], tuple[Layers, object]],
    loss: Callable[[Tensor, object], Tensor],
    judge: Callable[[Heads], Mapping[str, float]],
    how: Training,
    seed: int,
    tell: Callable[[int, int], None] | None = None,
) -> Heads:
    """Train `heads` in place, each kept as it was at its best, and return them.

    Args:
        heads: what learns.
        batch: scaled layers and what is to be said of them, by step.
        loss: of one head's outputs [..., C] and what `batch` gave, a scalar.
        judge: a score of every head on the part "valid", more being better.
        how: see `Training`.
        seed: of dropout.
        tell: is told steps.
    """
    optimisers = heads.optimisers(how)
    best: dict[str, float] = {}
    kept: dict[str, dict[str, Tensor]] = {}
    stale = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(1, how.steps + 1):
            heads.train()
            layers, wanted = batch(step - 1)
            total = torch.stack([loss(made, wanted) for made in heads(layers).values()]).sum()
            heads.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            for optimiser in optimisers:
                optimiser.step()
            if step % how.every and step != how.steps:
                continue
            heads.eval()
            with torch.inference_mode():
                scores = judge(heads)
            stale += 1
            for name, head in heads.all.items():
                if name not in best or scores[name] > best[name] + 1e-6:
                    best[name], stale = scores[name], 0
                    kept[name] = copy.deepcopy(head.state_dict())
            if tell:
                tell(step, how.steps)
            if stale >= how.patience:
                break
    for name, head in heads.all.items():
        head.load_state_dict(kept[name])
    return heads.eval()
