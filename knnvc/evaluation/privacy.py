"""How well anonymising hides who speaks: error rates of three attackers, words, pitch.

The attackers are those of the VoicePrivacy challenges (Tomashenko et al. 2022,
https://arxiv.org/abs/2205.07123). Each knows some recordings of every speaker (enrolment) and wants
to tell whose voice is in an anonymised one (trial):

- ignorant: does not know that trials were anonymised; compares with original enrolment.
- lazy-informed: anonymises the enrolment, too, by the same system with a key of their own.
- semi-informed: learns from anonymised speech, besides, what is left of a voice.

Where this deviates from the challenge: the verifiers are ready-made and never trained anew. The
semi-informed attacker learns a whitening of their embeddings instead (within-class covariance,
Hatch et al. 2006, with the shrinkage of Ledoit and Wolf 2004), from the anonymised enrolment of all
speakers but the two that are compared, or from other speech. So a stronger attacker exists: these
error rates are upper bounds of privacy, not promises.

K speakers, N recordings, D columns of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from knnvc.evaluation.anonymising import unit
from knnvc.evaluation.statistics import Estimate, equal_error_rate
from knnvc.extras import need

UNPROTECTED_CASE, IGNORANT, LAZY, SEMI = (
    "no anonymisation",
    "ignorant",
    "lazy-informed",
    "semi-informed",
)
ATTACKERS = (UNPROTECTED_CASE, IGNORANT, LAZY, SEMI)
RESAMPLES = 200

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Voices:
    """Embeddings of recordings by one verifier: `vectors` [N, D] and who speaks, [N]."""

    vectors: Vectors
    speakers: tuple[str, ...]


@dataclass(frozen=True)
class Attack:
    """What one attacker achieves.

    Attributes:
        attacker: of `ATTACKERS`.
        verifier: with which.
        eer: in [0, 1]: 0.5 is no better than chance.
        named: share of trials whose speaker scores highest among all enrolled.
    """

    attacker: str
    verifier: str
    eer: Estimate
    named: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def models(enrolled: Voices, names: Sequence[str]) -> Vectors:
    """Mean embedding [K, D] of every speaker."""
    who = np.array(enrolled.speakers)
    return np.stack([unit(enrolled.vectors[who == name].mean(0)) for name in names])


def plain_scores(enrolled: Voices, trials: Voices, names: Sequence[str]) -> Vectors:
    """Cosines [N, K] of trials and speakers' means."""
    made: Vectors = trials.vectors @ models(enrolled, names).T
    return made


def informed_scores(
    enrolled: Voices, trials: Voices, names: Sequence[str], others: Voices | None = None
) -> Vectors:
    """Cosines [N, K] after a whitening that is learnt from anonymised speech.

    Args:
        enrolled: anonymised by the attacker.
        trials: to attack.
        names: the speakers, K.
        others: anonymised speech of other people, to learn from. None learns, for each pair, from
            the enrolment of all speakers but these two.
    """
    if others is not None:
        return _whitened_scores(enrolled, trials, names, others)
    scores = plain_scores(enrolled, trials, names)
    who, tried = np.array(enrolled.speakers), np.array(trials.speakers)
    for first, one in enumerate(names):
        for second, other in enumerate(names[first:], first):
            rest = ~np.isin(who, (one, other))
            learnt = Voices(enrolled.vectors[rest], tuple(who[rest]))
            if len(set(learnt.speakers)) < 2:
                continue  # nobody to learn from
            for column, name, said in ((second, other, one), (first, one, other)):
                rows = np.flatnonzero(tried == said)
                part = Voices(trials.vectors[rows], tuple(tried[rows]))
                if len(rows):
                    scores[rows, column] = _whitened_scores(enrolled, part, [name], learnt)[:, 0]
    return scores


def _whitened_scores(
    enrolled: Voices, trials: Voices, names: Sequence[str], learnt: Voices
) -> Vectors:
    turned, middle = whitening(learnt)
    made = [
        Voices(np.stack([unit(row) for row in (one.vectors - middle) @ turned]), one.speakers)
        for one in (enrolled, trials)
    ]
    return plain_scores(made[0], made[1], names)


def whitening(learnt: Voices) -> tuple[Vectors, Vectors]:
    """A matrix [D, D] after which one speaker's recordings scatter evenly, and the mean [D]."""
    who = np.array(learnt.speakers)
    means = {name: learnt.vectors[who == name].mean(0) for name in set(learnt.speakers)}
    within = learnt.vectors - np.stack([means[name] for name in learnt.speakers])
    estimate = need("sklearn.covariance").LedoitWolf(assume_centered=True).fit(within)
    values, axes = np.linalg.eigh(estimate.covariance_)
    turned = (axes / np.sqrt(np.maximum(values, 1e-8))) @ axes.T
    middle = np.mean(list(means.values()), axis=0)
    return turned.astype(np.float32), middle.astype(np.float32)


def attack(
    attacker: str, verifier: str, scores: Vectors, trials: Voices, names: Sequence[str], seed: int
) -> Attack:
    """Error rates of `scores` [N, K]; the bootstrap draws trials."""
    own = np.array(trials.speakers)[:, None] == np.array(names)[None]
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
    rates = [_rate(scores[draw], own[draw]) for draw in draws]
    low, high = np.quantile(rates, [0.025, 0.975])
    named = float(own[np.arange(len(scores)), scores.argmax(1)].mean())
    eer = Estimate(_rate(scores, own), float(low), float(high))
    return Attack(attacker, verifier, eer, named)


def _rate(scores: Vectors, own: npt.NDArray[np.bool_]) -> float:
    return equal_error_rate(scores[own].tolist(), scores[~own].tolist())


def attacks(
    verifier: str, heard: Mapping[str, Voices], names: Sequence[str], seed: int
) -> list[Attack]:
    """All attackers with one verifier.

    Args:
        verifier: its name.
        heard: embeddings by what was heard: "enrolment", "trials" (both original), "anonymised
            enrolment", "anonymised trials", and optionally "anonymised others".
        names: the speakers.
        seed: of the bootstrap.
    """
    trials, hidden = heard["trials"], heard["anonymised trials"]
    enrolled, masked = heard["enrolment"], heard["anonymised enrolment"]
    cases = {
        UNPROTECTED_CASE: (plain_scores(enrolled, trials, names), trials),
        IGNORANT: (plain_scores(enrolled, hidden, names), hidden),
        LAZY: (plain_scores(masked, hidden, names), hidden),
        SEMI: (informed_scores(masked, hidden, names, heard.get("anonymised others")), hidden),
    }
    return [
        attack(attacker, verifier, scores, tried, names, seed)
        for attacker, (scores, tried) in cases.items()
    ]
