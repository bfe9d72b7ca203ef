"""`mini`'s converter: unit selection, refiner, pitch, λ and blends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from knnvc import ConvertOptions, VoiceConverter
from knnvc.audio import find_audio, load_audio
from knnvc.audio.pitch import VOICED, move_pitch, pitch_quantiles, smooth_pitch
from knnvc.converters.approximate import content_hash
from knnvc.converters.matching_set import MatchingSet
from knnvc.converters.search import search
from knnvc.mini import converter as converter_module
from knnvc.mini.acoustic_space import RECORDINGS, AcousticSpace
from knnvc.mini.converter import MiniConverter, MiniTarget
from knnvc.mini.correction import BELIEVED
from knnvc.mini.refiner import Refiner

RATE = 16_000
EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
Source = tuple[Any, int]


def given(mini: VoiceConverter) -> MiniConverter:
    assert isinstance(mini.converter, MiniConverter)
    return mini.converter


def with_space(
    mini: VoiceConverter, refiner: Refiner | None, **options: float | None
) -> MiniConverter:
    """As `mini`'s, but with these options of its acoustic space, no prior, and this refiner."""
    old = given(mini)
    made = MiniConverter(old.config, old.encoder, refiner)
    space = old.space
    made.space = AcousticSpace(replace(space.options, **options), space.mels, space.substeps)
    return made


def converted(
    converter: MiniConverter, features: Tensor, voice: MatchingSet | MiniTarget, k: int = 4
) -> Tensor:
    target = converter.prepare(voice) if isinstance(voice, MatchingSet) else voice
    return converter.convert(features, [(target, 1.0)], ConvertOptions(k=k)).values


@pytest.fixture(scope="module")
def speech(mini: VoiceConverter) -> Tensor:
    """Features of the example's source, [T, D]."""
    found: Tensor = mini.encode(EXAMPLES / "source.wav")
    return found


def test_lam_and_weights_blend_what_the_refiner_made(
    mini: VoiceConverter, source: Source, anna: Path, ben: Path
) -> None:
    voices = [mini.matching_set(folder) for folder in (anna, ben)]
    features = torch.from_numpy(mini.encode(source))
    own = features[:, mini.encoder.columns.synth]
    one, other = (mini.match(features, voice).values for voice in voices)
    half = mini.match(features, voices[0], lam=0.5).values
    assert torch.allclose(half, 0.5 * one + 0.5 * own, atol=1e-5)
    both = mini.match(features, [(voices[0], 0.25), (voices[1], 0.75)]).values
    assert torch.allclose(both, 0.25 * one + 0.75 * other, atol=1e-5)


def test_frames_are_selected_that_join_well(mini: VoiceConverter, speech: Tensor) -> None:
    """More of them follow each other in the reference; k > 1 adds the nearest others."""
    voice = mini.matching_set(EXAMPLES / "target")
    columns = mini.encoder.columns
    width = columns.synth.stop - 2
    # Nothing but pitch follows the source, so every frame shows which one was selected.
    still = {"envelope_transfer": 0.0, "energy_transfer": 0.0}

    def made(candidates: int, k: int) -> Tensor:
        options = {**still, "candidates": candidates, "join_weight": 0.5}
        return converted(with_space(mini, None, **options), speech, voice, k)[:, :width]

    def rows(candidates: int) -> Tensor:
        selected = made(candidates, 1)
        found = torch.cdist(selected, voice.synth[:, :width]).argmin(dim=1)
        assert torch.allclose(selected, voice.synth[found, :width], atol=1e-4)
        return found

    def continued(found: Tensor) -> float:
        return float((found[1:] == found[:-1] + 1).float().mean())

    path = rows(16)
    assert continued(path) > continued(rows(1))
    space = with_space(mini, None).space
    own = space.statistics(speech[:, columns.synth], speech[:, columns.match])
    known = space.statistics(voice.synth, voice.match)
    _, near = search(
        space.vectors(speech[:, columns.synth], speech[:, columns.match], own),
        space.vectors(voice.synth, voice.match, known, voice.frame_start),
        3,
    )
    others = [[row for row in rows if row != first][:2] for rows, first in zip(
        near.tolist(), path.tolist(), strict=True)]  # fmt: skip
    chosen = torch.cat([path[:, None], torch.tensor(others)], dim=1)
    assert torch.allclose(made(16, 3), voice.synth[chosen, :width].mean(dim=1), atol=1e-4)
    assert torch.allclose(made(3, 3), made(1, 3), atol=1e-4)


def test_pitch_moves_into_the_target_range(mini: VoiceConverter) -> None:
    """The converted frames have the target's pitch, and voicing between source and target."""
    source = mini.encode((load_audio(EXAMPLES / "source.wav")[: 3 * RATE], RATE))
    target = mini.matching_set(find_audio(EXAMPLES / "target")[:1], trim=False)
    at = mini.encoder.columns.pitch
    assert at is not None
    made = mini.match(source, target).values
    own = pitch_quantiles(source[:, at:])
    assert torch.isfinite(own).all()
    wanted = pitch_quantiles(target.match)
    moved = move_pitch(source[:, at], own, wanted)
    voiced = source[:, at + 1] > VOICED
    smoothed = smooth_pitch(moved, voiced, RECORDINGS.pitch_smoothing)
    assert torch.allclose(made[:, at], smoothed)
    assert torch.allclose(moved[voiced].median(), wanted[len(wanted) // 2], atol=0.02)
    assert torch.allclose(made[voiced, at].median(), moved[voiced].median(), atol=1 / 12)
    share = RECORDINGS.voicing_transfer
    selected = (made[:, at + 1] - share * source[:, at + 1]) / (1 - share)
    known = target.match[:, 1]
    assert selected.min() > known.min() - 1e-4
    assert selected.max() < known.max() + 1e-4
    assert (made[voiced, at + 1] > VOICED).float().mean() > 0.8


def test_nothing_has_to_be_voiced(mini: VoiceConverter, source: Source) -> None:
    generator = np.random.default_rng(1)
    hiss = 0.05 * generator.standard_normal(RATE)
    made, _ = mini.convert(source, (hiss, RATE))
    assert np.isfinite(made).all()


def test_frames_keep_the_mean_spectrum_of_what_is_kept(
    mini: VoiceConverter, speech: Tensor, anna: Path
) -> None:
    """How many neighbours are kept decides the mean, where it is balanced, and nothing else.

    The more speech of the voice there is, the nearer it comes to that mean.
    """
    voice = mini.matching_set(anna)

    def matched(kept: int, balanced: int) -> Tensor:
        chosen = {"kept": kept, "balanced": balanced}
        others = {"postfilter": 0.0, "expansion": 0.0, "contraction": 0.0}
        space = with_space(mini, given(mini).refiner, **chosen, **others)
        return converted(space, speech, voice)

    assert torch.equal(matched(1, 0), matched(0, 0))
    assert not torch.allclose(matched(1, 100_000), matched(0, 100_000), atol=1e-3)
    plain = converted(with_space(mini, None), speech, voice, 1)
    width = mini.encoder.columns.synth.stop - 2
    means = [made[:, :width].mean(0) for made in (matched(1, 100_000), matched(1, 0), plain)]
    balanced, refined, wanted = means
    known = given(mini).prepare(voice).statistics.frames
    share = known / (known + BELIEVED)
    assert 0.1 < share < 0.9
    torch.testing.assert_close(balanced, refined.lerp(wanted, share), atol=1e-3, rtol=0)


def test_a_kept_index_belongs_to_the_prior(
    mini: VoiceConverter, anna: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors are normalised by it: with another prior, they are built anew."""
    seen: list[list[Tensor]] = []
    build = converter_module.build_searcher

    def told(one: MatchingSet, index: str, vectors: Any, made_of: list[Tensor], *rest: Any) -> Any:
        seen.append(made_of)
        return build(one, index, vectors, made_of, *rest)

    monkeypatch.setattr(converter_module, "build_searcher", told)
    voice = mini.matching_set(anna)
    given(mini).prepare(voice)
    with_space(mini, None).prepare(voice)
    informed, plain = (content_hash("ivf", tensors, "") for tensors in seen)
    assert informed != plain


def test_little_speech_averages_fewer_neighbours(
    mini: VoiceConverter, speech: Tensor, anna: Path
) -> None:
    """Among fifty frames four that are alike are hard to find; who asks for four gets four."""
    target = given(mini).prepare(mini.matching_set(anna))

    def made(frames: int, k: int | None) -> Tensor:
        known = replace(target, statistics=replace(target.statistics, frames=frames))
        return given(mini).convert(speech, [(known, 1.0)], ConvertOptions(k=k)).values

    assert torch.equal(made(100, None), made(100, 4))
    assert torch.equal(made(5000, None), made(5000, 4))
    assert torch.equal(made(99, None), made(99, 3))
    assert torch.equal(made(20, None), made(20, 2))
    assert not torch.equal(made(20, None), made(20, 4))
