"""What speakers have in common, for the mean envelope of one of whom little is known.

The mean envelope of one second of speech tells which phones were said as much as whose voice it is.
So what is usual of each phone is taken out first, and what is left is moved towards the usual
speaker, the further the less speech there is (maximum a posteriori estimation, for the means of
speech recognisers by Gauvain and Lee 1994, https://doi.org/10.1109/89.279278).

N frames of speech, B envelope bands, S phone states. A level is the mean of all bands, a shape what
is left of an envelope without it. Levels depend on the recording, so nothing is usual of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

PREFIX = "speakers."  # of the tensors in a file of weights

WINDOW = 50  # frames of speech, over which the error of a mean is measured
LEAST_FRAMES = 250  # of a speaker who is measured
MOST_FRAMES = 700  # that a speaker counts for
ROUNDS = 5


@dataclass(frozen=True, eq=False)
class SpeakerPrior:
    """What is usual, measured by `measure_prior`.

    Attributes:
        phones: [S, B] how far the envelope in a state lies from its speaker's mean.
        shape: [B] mean of the speakers' mean shapes.
        between: [B] variance of these.
        within: [B] variance of the mean shape of one frame, as the means of many tell it.
    """

    phones: Tensor
    shape: Tensor
    between: Tensor
    within: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to keep in a file."""
        return {PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    def deviations(self, probabilities: Tensor) -> Tensor:
        """How far frames lie from their speaker's mean envelope, by their phones: [N, B].

        `probabilities` [N, S] are those of the phone states, silence first, which does not count.
        """
        return probabilities[:, 1:] @ self.phones[1:].to(probabilities)

    def without_phones(self, envelope: Tensor, probabilities: Tensor) -> Tensor:
        """`envelope` [N, B] of speech without what is usual of its phones.

        `probabilities` [N, S] are those of the phone states, silence first.
        """
        speech = 1 - probabilities[:, :1]
        return envelope - self.deviations(probabilities) / speech.clamp(min=1e-6)

    def mean(self, found: Tensor, frames: int) -> Tensor:
        """The speaker's mean envelope [B].

        `found` [B] is the mean of what `without_phones` gave, of so many frames of speech.
        """
        level = found.mean()
        away = found - level - self.shape
        # A telephone has no high bands: what is far from usual is believed the more.
        between = torch.maximum(self.between, away.square())
        share = between / (between + self.within / max(1, frames))
        return self.shape + share * away + level


def split_prior(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], SpeakerPrior | None]:
    """The other tensors of a file of weights, and the prior in it, if there is one."""
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    names = [field.name for field in fields(SpeakerPrior)]
    known = {name: state[PREFIX + name].float() for name in names if PREFIX + name in state}
    return rest, SpeakerPrior(**known) if len(known) == len(names) else None


@dataclass(frozen=True, eq=False)
class Spoken:
    """Frames of speech of one speaker: `envelope` [N, B] and phone `states` [N]."""

    envelope: Tensor
    states: Tensor


def measure_prior(speakers: Sequence[Spoken], states: int) -> SpeakerPrior:
    """What is usual of `speakers`, of whom each has `LEAST_FRAMES` or more; S is `states`.

    Raises:
        ValueError: there are fewer than two speakers.
    """
    if len(speakers) < 2:
        raise ValueError("what speakers have in common takes two of them")
    means = [one.envelope.mean(0) for one in speakers]
    bands = speakers[0].envelope.shape[1]
    for _ in range(ROUNDS):
        total, count = torch.zeros(states, bands), torch.zeros(states)
        for one, mean in zip(speakers, means, strict=True):
            weight = min(1.0, MOST_FRAMES / len(one.states))
            total.index_add_(0, one.states, weight * (one.envelope - mean))
            count.index_add_(0, one.states, torch.full((len(one.states),), weight))
        phones = total / count.clamp(min=1)[:, None]
        phones = torch.where(count[:, None] > 0, phones - (count / count.sum()) @ phones, 0.0)
        means = [(one.envelope - phones[one.states]).mean(0) for one in speakers]
    shapes = torch.stack(means)
    shapes = shapes - shapes.mean(1, keepdim=True)
    return SpeakerPrior(
        phones=phones,
        shape=shapes.mean(0),
        between=shapes.var(0),
        within=_within(speakers, phones),
    )


def _within(speakers: Sequence[Spoken], phones: Tensor) -> Tensor:
    """`SpeakerPrior.within`: neighbouring frames are alike, so it is measured on whole windows."""
    errors = []
    for one in speakers:
        rest = one.envelope - phones[one.states]
        rest = rest - rest.mean(1, keepdim=True)
        count = len(rest) // WINDOW
        if count < 2:
            continue
        windows = rest[: count * WINDOW].reshape(count, WINDOW, -1).mean(1)
        errors.append((windows - windows.mean(0)) * (count / (count - 1)) ** 0.5)
    return WINDOW * torch.cat(errors).square().mean(0)
