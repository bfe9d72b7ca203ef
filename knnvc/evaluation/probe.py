"""What an encoder's layers know: phones, speaker, pitch, energy.

kNN-VC wants a layer in which frames of different speakers lie near each other if they are the same
phone (to match in), and one from which voice, pitch and energy can be rebuilt (to synthesise from).

N frames of all utterances, D dimensions of a layer, T frames of one utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.audio.pitch import f0_track
from knnvc.converters.search import Index
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.errors import KnnvcError
from knnvc.evaluation.figures import FAINT, PALETTE, figure, style
from knnvc.evaluation.probing.layers import every_layer
from knnvc.evaluation.statistics import Estimate, bootstrap
from knnvc.evaluation.vectors import compared
from knnvc.pipeline import VoiceConverter

UNKNOWN, SILENCE = -1, 0
HOP = 320  # samples of the frames that are labelled: 20 ms at 16 kHz
RIDGE = 10.0  # penalty, for standardised dimensions
COMPARED = "compared"
LEAST_VOICED = 20  # frames in either half, for a probe of pitch


@dataclass(frozen=True)
class Spoken:
    """An utterance: `wave` [S] at 16 kHz, and `phones` [T] with UNKNOWN and SILENCE."""

    name: str
    speaker: str
    wave: npt.NDArray[np.float32]
    phones: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LayerScores:
    """What one layer knows.

    Attributes:
        layer: its name.
        dim: D.
        phone: share of speech frames whose nearest neighbour (cosine) among all frames of the
            other speakers is of the same phone; bootstrap over utterances.
        speaker: share of frames of unheard utterances whose speaker a linear probe names.
        pitch: R² of log2 f0 of voiced frames of unheard utterances, by a linear probe; None with
            next to no voiced frames.
        energy: R² of the level in dB of their speech frames.
    """

    layer: str
    dim: int
    phone: Estimate
    speaker: Estimate
    pitch: float | None
    energy: float


@dataclass(frozen=True)
class Probed:
    """Scores of all layers, and what guessing would give.

    `phone_chance` is the agreement of frames drawn at random, `speaker_chance` the share of the
    speaker with the most frames.
    """

    layers: list[LayerScores]
    speakers: list[str]
    utterances: int
    frames: int
    phone_chance: float
    speaker_chance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Frames:
    """Labels of all N frames; `utterance` and `speaker` are numbers, `heard` marks one half."""

    phones: npt.NDArray[np.int64]
    speaker: npt.NDArray[np.int64]
    utterance: npt.NDArray[np.int64]
    heard: npt.NDArray[np.bool_]
    log_f0: npt.NDArray[np.float64]
    level: npt.NDArray[np.float64]


def probe(
    spoken: Sequence[Spoken],
    encoder: ChunkedEncoder,
    converter: VoiceConverter | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Probed:
    """Score every layer of `encoder`, and the vectors in which `converter` compares.

    Linear probes learn from every second utterance of each speaker and are tested on the others.

    Raises:
        KnnvcError: there are fewer than two speakers, or one with a single utterance, or no phones.
    """
    tell = progress or (lambda *_: None)
    spoken = sorted(spoken, key=lambda one: (one.speaker, one.name))
    names = sorted({one.speaker for one in spoken})
    counts = {name: sum(one.speaker == name for one in spoken) for name in names}
    if len(names) < 2 or min(counts.values()) < 2:
        raise KnnvcError("probing needs two speakers with two utterances each: use a larger corpus")
    layers: dict[str, list[Tensor]] = {}
    for number, one in enumerate(spoken):
        tell("encoding", number, len(spoken))
        for name, values in layer_outputs(encoder, torch.from_numpy(one.wave)).items():
            layers.setdefault(name, []).append(values)
    tell("encoding", len(spoken), len(spoken))
    lengths = [len(values) for values in next(iter(layers.values()))]
    frames = _label(spoken, names, lengths)
    if not (frames.phones > SILENCE).any():
        raise KnnvcError("the alignments hold no speech: check the corpus")
    features = layers.pop("features")
    joined = {name: torch.cat(values) for name, values in layers.items()}
    if converter is not None and not _compares_columns(converter, features[0]):
        joined[COMPARED] = _compared(converter, features, spoken, names)
    scores = []
    for number, (name, values) in enumerate(joined.items()):
        tell("probing", number, len(joined))
        scores.append(_score(name, values, frames, [one.name for one in spoken], seed))
    tell("probing", len(joined), len(joined))
    spoken_phones = frames.phones[frames.phones > SILENCE]
    known = frames.phones[frames.phones != UNKNOWN]
    shares = np.bincount(known) / len(known)
    return Probed(
        layers=scores,
        speakers=names,
        utterances=len(spoken),
        frames=len(frames.phones),
        phone_chance=float(shares[spoken_phones].mean()),
        speaker_chance=float(
            np.bincount(frames.speaker[~frames.heard]).max() / (~frames.heard).sum()
        ),
    )


def layer_outputs(encoder: ChunkedEncoder, wave: Tensor) -> dict[str, Tensor]:
    """Outputs [T, D] of all of an encoder's transformer layers for `wave` [S], by name.

    Layer 0 is the input of the first one. The network may name columns of its features
    (`named_columns`), which are given, too. "features" are what `Encoder.encode` returns.
    """
    return every_layer(encoder, wave)


def _compares_columns(converter: VoiceConverter, features: Tensor) -> bool:
    """Whether what is compared are the match columns themselves, which are a layer already."""
    columns = features[:, converter.encoder.columns.match]
    return torch.equal(converter.converter.compared(features), columns)


def _compared(
    converter: VoiceConverter,
    features: Sequence[Tensor],
    spoken: Sequence[Spoken],
    names: Sequence[str],
) -> Tensor:
    """The vectors [N, Dv] of matching; utterances are sorted by speaker, as `names` are."""
    parts = []
    for name in names:
        own = [one for one, said in zip(features, spoken, strict=True) if said.speaker == name]
        joined = torch.cat(own)
        starts = torch.tensor(np.cumsum([0, *(len(one) for one in own)])[:-1])
        parts.append(compared(converter, joined, starts))
    return torch.cat(parts)


def _label(spoken: Sequence[Spoken], names: Sequence[str], lengths: Sequence[int]) -> _Frames:
    rows = []
    turn = dict.fromkeys(names, 0)
    for number, (one, length) in enumerate(zip(spoken, lengths, strict=True)):
        phones = np.full(length, UNKNOWN)
        known = min(length, len(one.phones))
        phones[:known] = one.phones[:known]
        f0 = f0_track(one.wave, length).astype(np.float64)
        blocks = np.pad(one.wave, (0, HOP))[: length * HOP].reshape(length, HOP)
        level = 10 * np.log10(np.square(blocks, dtype=np.float64).mean(1) + 1e-8)
        with np.errstate(divide="ignore"):
            log_f0 = np.where(f0 > 0, np.log2(f0), np.nan)
        speaker, heard = names.index(one.speaker), turn[one.speaker] % 2 == 0
        turn[one.speaker] += 1
        constant = (np.full(length, value) for value in (speaker, number, heard))
        rows.append((phones, *constant, log_f0, level))
    return _Frames(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _score(
    name: str, values: Tensor, frames: _Frames, utterances: Sequence[str], seed: int
) -> LayerScores:
    at = [utterances[number] for number in frames.utterance]

    def share(right: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Estimate:
        groups = [one for one, used in zip(at, among, strict=True) if used]
        found = bootstrap(right[among].tolist(), [1.0] * len(groups), groups, seed)
        assert found is not None
        return found

    speech = frames.phones > SILENCE
    voiced = np.isfinite(frames.log_f0)
    test = ~frames.heard
    one_hot = np.eye(frames.speaker.max() + 1)[frames.speaker]
    named = _ridge(values, one_hot, frames.heard, test).argmax(1)
    right = np.zeros(len(test), dtype=np.bool_)
    right[test] = named == frames.speaker[test]
    enough = min((voiced & frames.heard).sum(), (voiced & test).sum()) >= LEAST_VOICED
    return LayerScores(
        layer=name,
        dim=values.shape[1],
        phone=share(_agreement(values, frames), speech),
        speaker=share(right, test),
        pitch=_decodability(values, frames.log_f0, voiced, frames.heard) if enough else None,
        energy=_decodability(values, frames.level, speech, frames.heard),
    )


def _agreement(values: Tensor, frames: _Frames) -> npt.NDArray[np.bool_]:
    """[N] whether the nearest frame of another speaker is of the same phone."""
    same = np.zeros(len(values), dtype=np.bool_)
    known = frames.phones != UNKNOWN
    for speaker in range(frames.speaker.max() + 1):
        own = np.flatnonzero((frames.speaker == speaker) & (frames.phones > SILENCE))
        others = np.flatnonzero((frames.speaker != speaker) & known)
        if len(own) and len(others):
            _, nearest = Index(values[others]).search(values[own], 1)
            same[own] = frames.phones[others][nearest[:, 0].numpy()] == frames.phones[own]
    return same


def _decodability(
    values: Tensor,
    wanted: npt.NDArray[np.float64],
    among: npt.NDArray[np.bool_],
    heard: npt.NDArray[np.bool_],
) -> float:
    """R² of a linear probe on `among` the frames that were not heard in learning."""
    train, test = among & heard, among & ~heard
    found = _ridge(values, wanted[:, None], train, test)[:, 0]
    left = np.square(wanted[test] - found).sum()
    return float(1 - left / max(1e-12, np.square(wanted[test] - wanted[test].mean()).sum()))


def _ridge(
    values: Tensor,
    wanted: npt.NDArray[np.float64],
    train: npt.NDArray[np.bool_],
    test: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Ridge regression of `wanted` [N, M] learnt on `train`, applied to `test`."""
    inputs = values.double().numpy()
    mean, spread = inputs[train].mean(0), inputs[train].std(0) + 1e-8
    inputs = (inputs - mean) / spread
    learnt, centre = inputs[train], wanted[train].mean(0)
    gram = learnt.T @ learnt + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, learnt.T @ (wanted[train] - centre))
    found: npt.NDArray[np.float64] = inputs[test] @ weights + centre
    return found


# Output -------------------------------------------------------------------------------------------


def text_table(probed: Probed) -> list[str]:
    """Lines for a terminal; ± is half of a 95 % confidence interval."""
    head = f"{'vectors':<12} {'D':>5}  {'phone %':>12}  {'speaker %':>12}  pitch R²  energy R²"
    lines = [head]
    for one in probed.layers:
        pitch = "–" if one.pitch is None else f"{one.pitch:.3f}"
        lines.append(
            f"{one.layer:<12} {one.dim:>5}  {_percent(one.phone):>12}  {_percent(one.speaker):>12}"
            f"  {pitch:>8}  {one.energy:>9.3f}"
        )
    chance = (f"{100 * share:.1f}" for share in (probed.phone_chance, probed.speaker_chance))
    return [*lines, "{:<18}  {:>12}  {:>12}".format("chance", *chance)]


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ±{50 * (estimate.high - estimate.low):.1f}"


def probe_figure(probed: Probed, title: str) -> Any:
    """A panel for each question; numbered layers are joined by a line."""
    names = [one.layer for one in probed.layers]
    at = np.arange(len(names))
    numbered = [n for n, name in enumerate(names) if name.startswith("layer ")]
    panels_of: list[tuple[str, list[Any], float | None]] = [
        (
            "same phone across speakers (%)",
            [_scaled(one.phone) for one in probed.layers],
            100 * probed.phone_chance,
        ),
        (
            "speaker named by a linear probe (%)",
            [_scaled(one.speaker) for one in probed.layers],
            100 * probed.speaker_chance,
        ),
        ("log f0 by a linear probe (R²)", [(one.pitch,) * 3 for one in probed.layers], None),
        ("level by a linear probe (R²)", [(one.energy,) * 3 for one in probed.layers], None),
    ]
    with style():
        made = figure(11, 6.2)
        panels = made.subplots(2, 2, sharex=True).ravel()
        for colour, panel, (about, values, chance) in zip(PALETTE, panels, panels_of, strict=False):
            middle = np.array([np.nan if v[0] is None else v[0] for v in values], dtype=float)
            ends = np.array(
                [[np.nan if e is None else e for e in v[1:]] for v in values], dtype=float
            )
            panel.plot(at[numbered], middle[numbered], color=colour, lw=1.5)
            panel.vlines(at, ends[:, 0], ends[:, 1], color=colour, lw=1.5)
            panel.plot(at, middle, ls="", marker="o", ms=6, color=colour)
            for x, value, top in zip(at, middle, ends[:, 1], strict=True):
                if np.isfinite(value):
                    text = f"{value:.0f}" if chance is not None else f"{value:.2f}"
                    panel.annotate(text, (x, top), (0, 6), textcoords="offset points",
                                   ha="center", fontsize=8)  # fmt: skip
            panel.set_title(about, loc="left")
            panel.set_ylim(1.25 * min(0.0, np.nanmin(middle)), 112 if chance is not None else 1.12)
            if chance is not None:
                panel.axhline(chance, color=FAINT, ls="--", lw=1)
                panel.annotate("chance", (at[0], chance), (-8, 3), textcoords="offset points",
                               ha="left", fontsize=8, color="#777777")  # fmt: skip
        for panel in panels[-2:]:
            short = [name.removeprefix("layer ") for name in names]
            panel.set_xticks(at, short)
            for number, label in enumerate(panel.get_xticklabels()):
                if number not in numbered:
                    label.set(rotation=20, ha="right")
            panel.set_xlabel("transformer layer (0: its input), and other vectors")
        made.suptitle(title, fontsize=12)
        return made


def _scaled(estimate: Estimate) -> tuple[float, float, float]:
    return 100 * estimate.value, 100 * estimate.low, 100 * estimate.high
