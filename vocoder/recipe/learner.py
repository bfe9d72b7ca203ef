"""What the refiner's training makes better: the refiner, and what the encoder tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.mini.acoustic_space import are_speech
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.tensors import as_single, check_shapes, read_tensors

LAYER = "content.weight"  # of the encoder
CONTENT = "content.safetensors"  # what the encoder is to give, beside the refiner's weights
NOISE = 0.3  # standard deviation, added to content columns of unit spread


class Bottleneck(nn.Module):
    """Learns which content columns the encoder should give: [B, T, ...] -> [B, T, ...].

    A projection of the encoder's layers, in units of its spread over the speech of a source, as
    `AcousticSpace.content` has it. Noise in training bounds what gets through (Alemi et al. 2017,
    https://arxiv.org/abs/1612.00410): the source's voice would be the first thing to.
    """

    def __init__(self, config: RefinerConfig, inputs: int) -> None:
        super().__init__()
        self.states, self.inputs = config.states, inputs
        self.project = nn.Linear(inputs, config.encoded, bias=False)

    @torch.no_grad()
    def begin(self, layers: Tensor) -> None:
        """Begin with the principal components of the encoder's layers [N, inputs], whitened.

        A random projection would repeat its few largest columns.
        """
        centred = layers - layers.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(layers) - 1))
        count = self.project.out_features
        scale = values[-count:].clamp(min=1e-6).rsqrt()
        self.project.weight.copy_((vectors[:, -count:] * scale).T)

    def forward(self, content: Tensor) -> Tensor:
        """`content` [B, T, states + inputs + bands + 1] -> [B, T, states + encoded + bands + 1]."""
        before, after = self.states, self.states + self.inputs
        said, layers, rest = torch.tensor_split(content, (before, after), dim=-1)
        told = self.project(layers).float()
        speech = are_speech(said[..., 0])[..., None].float()
        count = speech.sum(1, keepdim=True)
        mean = (told * speech).sum(1, keepdim=True) / count
        squares = ((told - mean).square() * speech).sum(1, keepdim=True) / count
        told = (told - mean) / squares.clamp(min=1e-8).sqrt()
        if self.training:
            told = told + NOISE * torch.randn_like(told)
        return torch.cat([said, told.to(said.dtype), rest], dim=-1)


class Learner(nn.Module):
    """A refiner behind a bottleneck; what training makes better together.

    Args:
        refiner: reads what the bottleneck gives.
        inputs: the encoder's columns that content is made of.
    """

    def __init__(self, refiner: Refiner, inputs: int) -> None:
        super().__init__()
        self.refiner = refiner
        self.bottleneck = Bottleneck(refiner.config, inputs)

    def forward(self, selected: Tensor, content: Tensor, *given: Tensor) -> Tensor:
        """As `Refiner.forward`, of what the encoder's content columns are made of."""
        made: Tensor = self.refiner(selected, self.bottleneck(content), *given)
        return made


def begin_with(refiner: Refiner, start: Path | None) -> None:
    """Load the weights in `start`, if given.

    Content columns and views that they do not know are not looked at yet, layers that they lack
    change nothing yet.
    """
    if start is None:
        return
    weights, _ = read_tensors(start)
    read = weights.get("read.weight")
    if read is not None:
        config = refiner.config
        missing = refiner.read.in_channels - read.shape[1]
        if missing > 0 and missing % config.width == config.encoded:
            at = config.width + config.states
            unknown = read.new_zeros(read.shape[0], config.encoded, read.shape[2])
            read = torch.cat([read[:, :at], unknown, read[:, at:]], dim=1)
            missing -= config.encoded
        if missing > 0 and missing % config.width == 0:
            read = functional.pad(read, (0, 0, 0, missing))
        weights["read.weight"] = read
    # Blocks that they lack change nothing at first.
    known = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    for name, value in refiner.state_dict().items():
        if known and name.startswith("blocks.") and name.split(".")[1] not in known:
            weights[name] = torch.zeros_like(value) if name.endswith(".scale") else value
    check_shapes(start, refiner.state_dict(), weights)
    refiner.load_state_dict(weights)


def earlier_refiner(config: RefinerConfig, start: Path) -> Refiner:
    """A refiner with the weights in `start`, whose training may have known fewer views."""
    refiner = Refiner(config).eval()
    begin_with(refiner, start)
    return refiner


def earlier_learner(config: RefinerConfig, inputs: int, start: Path | None) -> Learner:
    """A learner with the weights in `start`, if given, and the bottleneck beside them, if any.

    `inputs` are the encoder's columns that content is made of.
    """
    refiner = Refiner(config)
    begin_with(refiner, start)
    learner = Learner(refiner, inputs)
    if start is not None and (start.parent / CONTENT).exists():
        project, found = learner.bottleneck.project, {"weight": content_of(start)[LAYER]}
        check_shapes(start.parent / CONTENT, project.state_dict(), found)
        project.load_state_dict(found)
    return learner


def content_of(refiner: Path) -> dict[str, Tensor]:
    """What the encoder's content layer learnt together with the weights in `refiner`.

    Raises:
        KnnvcError: the file beside them is missing or damaged.
    """
    state: dict[str, Tensor] = as_single(read_tensors(refiner.parent / CONTENT)[0])
    return state


def average_contents(refiners: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of what the encoder's content layer learnt together with several `refiners`.

    Raises:
        KnnvcError: a file beside them is missing or damaged.
    """
    return mean_of([content_of(path) for path in refiners])


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every tensor in several states of one network."""
    return {name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]}
