"""Statistics of a speaker of whom little is known: made-up voices, whose truth is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.speaker_prior import (
    SpeakerPrior,
    Spoken,
    measure_prior,
    split_prior,
)

STATES, BANDS = 7, 4


def make_phones(generator: torch.Generator) -> Tensor:
    """How far each state lies from the speaker's mean [STATES, BANDS]; silence is none."""
    phones = torch.randn(STATES, BANDS, generator=generator)
    phones[0] = 0
    phones[1:] -= phones[1:].mean(0)
    return phones


def make_speaker(
    generator: torch.Generator, phones: Tensor, frames: int, states: Tensor | None = None
) -> tuple[Tensor, Spoken]:
    """The true mean envelope [BANDS] of a voice, and what it says."""
    shape = 0.3 * torch.randn(BANDS, generator=generator)
    shape += torch.tensor([1.0, 0.0, 0.0, -1.0])
    level = 5 * torch.randn(1, generator=generator)
    mean = shape - shape.mean() + level
    if states is None:
        states = torch.randint(1, STATES, (frames,), generator=generator)
    envelope = mean + phones[states] + 0.2 * torch.randn(frames, BANDS, generator=generator)
    return mean, Spoken(envelope, states)


def make_prior(generator: torch.Generator, phones: Tensor) -> SpeakerPrior:
    speakers = [make_speaker(generator, phones, 600)[1] for _ in range(60)]
    return measure_prior(speakers, STATES)


def probabilities(states: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(states, STATES).float()


def estimated(prior: SpeakerPrior, envelope: Tensor, likely: Tensor) -> Tensor:
    return prior.mean(prior.without_phones(envelope, likely).mean(0), len(envelope))


def test_what_is_usual_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    phones = make_phones(generator)
    prior = make_prior(generator, phones)
    assert float((prior.phones[1:] - phones[1:]).abs().max()) < 0.1
    assert float((prior.shape - torch.tensor([1.0, 0.0, 0.0, -1.0])).abs().max()) < 0.15
    # Independent bands of variance 0.09 lose a quarter of it with their mean.
    assert float(prior.between.mean()) == pytest.approx(0.09 * 3 / 4, rel=0.3)
    assert float(prior.within.mean()) == pytest.approx(0.04 * 3 / 4, rel=0.3)


def test_a_speaker_of_few_phones_is_known_better_than_by_counting() -> None:
    generator = torch.Generator().manual_seed(1)
    phones = make_phones(generator)
    prior = make_prior(generator, phones)
    counted, known = [], []
    for number in range(40):
        states = torch.full((15,), 1 + number % (STATES - 1))  # one vowel, held
        mean, said = make_speaker(generator, phones, 15, states)
        counted.append((said.envelope.mean(0) - mean).square().mean())
        found = estimated(prior, said.envelope, probabilities(states))
        known.append((found - mean).square().mean())
    assert float(torch.stack(known).mean()) < 0.05 * float(torch.stack(counted).mean())


def test_much_speech_overrules_what_is_usual() -> None:
    generator = torch.Generator().manual_seed(2)
    phones = make_phones(generator)
    prior = make_prior(generator, phones)
    mean, said = make_speaker(generator, phones, 5000)
    found = estimated(prior, said.envelope, probabilities(said.states))
    assert float((found - mean).abs().max()) < 0.05


def test_a_voice_unlike_all_others_is_believed() -> None:
    """A telephone has no high bands: a second of it may not get them from other speakers."""
    generator = torch.Generator().manual_seed(3)
    phones = make_phones(generator)
    prior = make_prior(generator, phones)
    _, said = make_speaker(generator, phones, 50)
    cut = said.envelope - torch.tensor([0.0, 0.0, 0.0, 20.0])
    shapes = (
        estimated(prior, envelope, probabilities(said.states)) for envelope in (said.envelope, cut)
    )
    usual, without = shapes
    assert float(usual[3] - without[3]) == pytest.approx(20, abs=0.5)


def test_silence_and_unknown_phones_do_not_count() -> None:
    generator = torch.Generator().manual_seed(4)
    phones = make_phones(generator)
    prior = make_prior(generator, phones)
    _, said = make_speaker(generator, phones, 50)
    sure = probabilities(said.states)
    likely = 0.6 * sure
    likely[:, 0] = 0.4
    found, wanted = (estimated(prior, said.envelope, some) for some in (likely, sure))
    torch.testing.assert_close(found, wanted)
    assert torch.isfinite(estimated(prior, said.envelope, torch.zeros(50, STATES))).all()


def test_it_travels_with_the_weights() -> None:
    generator = torch.Generator().manual_seed(5)
    prior = make_prior(generator, make_phones(generator))
    weights = {"read.weight": torch.ones(2)}
    rest, found = split_prior(weights | prior.tensors())
    assert list(rest) == ["read.weight"]
    assert found is not None
    for field in dataclasses.fields(SpeakerPrior):
        assert torch.equal(getattr(found, field.name), getattr(prior, field.name))
    assert split_prior(weights) == (weights, None)


def test_one_speaker_has_nothing_in_common() -> None:
    generator = torch.Generator().manual_seed(6)
    one = make_speaker(generator, make_phones(generator), 300)[1]
    with pytest.raises(ValueError, match="takes two"):
        measure_prior([one], STATES)


def test_the_space_uses_it() -> None:
    """The mean of little speech moves to the usual one; all else is counted as before."""
    generator = torch.Generator().manual_seed(7)
    options = AcousticSpaceOptions(bands=2)
    plain = AcousticSpace(options, 4, 2, states=STATES)
    usual = SpeakerPrior(
        phones=torch.zeros(STATES, 2),
        shape=torch.tensor([0.5, -0.5]),
        between=torch.full((2,), 1e-4),
        within=torch.full((2,), 1.0),
    )
    informed = AcousticSpace(options, 4, 2, states=STATES, prior=usual)
    synth = torch.cat([0.1 * torch.randn(30, 8, generator=generator), torch.ones(30, 2)], 1)
    said = torch.rand(30, STATES, generator=generator)
    said[:, 0] = 0
    match = torch.cat([synth[:, 8:], (said / said.sum(1, keepdim=True)).sqrt()], 1)
    before, after = (space.statistics(synth, match) for space in (plain, informed))
    assert float(before.mean[0] - before.mean[1]) == pytest.approx(0, abs=0.1)
    # Fifty usual deviations away, it is believed for the most part.
    assert 0.05 < float(after.mean[0] - after.mean[1]) < 0.3
    assert float(after.mean.mean()) == pytest.approx(float(before.mean.mean()), abs=1e-5)
    assert float(after.level[0]) == pytest.approx(float(before.level[0]), abs=1e-5)
    for same in ("spread", "pitches", "spectrum", "contrast"):
        assert torch.equal(getattr(after, same), getattr(before, same))
