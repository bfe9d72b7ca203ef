"""`mini`'s converter: unit selection, refiner, speaker adaptation, pitch, λ and blends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from knnvc import ConvertOptions, VoiceConverter
from knnvc.audio import find_audio, load_audio
from knnvc.audio.pitch import VOICED, move_pitch, pitch_quantiles
from knnvc.converters.matching_set import Adaptation, MatchingSet
from knnvc.converters.search import search
from knnvc.frames import Frames
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.converter import MiniConverter, MiniTarget
from knnvc.mini.encoder import MelWavLM
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
    """As `mini`'s, but with these options of its acoustic space and this refiner."""
    old = given(mini)
    made = MiniConverter(old.config, old.encoder, mini.vocoder, refiner, old.others)
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
    still = {"envelope_transfer": 0.0, "unadapted_transfer": None, "energy_transfer": 0.0}

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
    space = given(mini).space
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


def test_what_is_kept_is_not_what_the_refiner_reads(
    mini: VoiceConverter, speech: Tensor, anna: Path
) -> None:
    """Unrefined, only the neighbours that are kept count; refined, only those that are read."""
    voice = mini.matching_set(anna)

    def matched(k: int, kept: int, refined: float) -> Tensor:
        chosen = {"kept": kept, "refined": refined, "roughness": 0.0, "balanced": 0}
        return converted(with_space(mini, given(mini).refiner, **chosen), speech, voice, k)

    assert torch.equal(matched(4, 1, 0.0), matched(1, 0, 0.0))
    assert torch.equal(matched(4, 1, 1.0), matched(4, 0, 1.0))
    assert not torch.allclose(matched(4, 1, 0.5), matched(4, 0, 0.5), atol=1e-3)
    assert torch.equal(matched(2, 4, 0.5), matched(2, 0, 0.5))  # no more can be kept than there are


def test_a_voice_without_adaptation_follows_the_source_the_more(
    mini: VoiceConverter, speech: Tensor, anna: Path
) -> None:
    refiner = given(mini).refiner
    assert refiner is not None
    short = mini.matching_set(anna)
    nothing = torch.zeros(refiner.config.channels + 1, refiner.config.width)
    known = {"refiner": Adaptation(nothing, given(mini).refiner_fingerprint)}
    adapted = replace(short, adaptations={**short.adaptations, **known})

    def matched(voice: MatchingSet, envelope: float, unadapted: float | None) -> Tensor:
        chosen = {"envelope_transfer": envelope, "unadapted_transfer": unadapted}
        return converted(with_space(mini, refiner, **chosen), speech, voice)

    assert "refiner" not in short.adaptations
    assert torch.equal(matched(adapted, 0.1, 0.7), matched(short, 0.1, None))
    assert torch.equal(matched(short, 0.1, 0.7), matched(adapted, 0.7, None))
    assert not torch.allclose(matched(short, 0.1, 0.7), matched(short, 0.1, None), atol=1e-3)


@pytest.mark.parametrize("others", [True, False])
def test_the_refiner_is_adapted_to_a_voice_of_which_there_is_enough(
    mini: VoiceConverter, others: bool
) -> None:
    """By way of the preset's voices; without them, by way of its own with other formants."""
    old = given(mini)
    voices: Sequence[MatchingSet] = old.others if others else ()
    assert old.others
    converter = MiniConverter(old.config, old.encoder, mini.vocoder, old.refiner, voices)
    parts = VoiceConverter(old.encoder, converter, mini.vocoder)
    *known, unseen = find_audio(EXAMPLES / "target")
    assert "refiner" not in parts.matching_set(known[:1]).adaptations
    voice = parts.matching_set(known)
    adaptation = voice.adaptations["refiner"]
    assert adaptation.network == old.refiner_fingerprint
    if not others:
        by_others = mini.matching_set(known).adaptations["refiner"]
        assert not torch.equal(by_others.weights, adaptation.weights)
    # What it says of a recording that was not among them is nearer to what was spoken.
    features = mini.encode(unseen)
    width = mini.encoder.columns.synth.stop - 2
    alone = with_space(mini, old.refiner, balanced=0)
    target = alone.prepare(voice)
    spoken, made = features[:, :width], converted(alone, features, target)[:, :width]
    plain = converted(alone, features, replace(target, refiner=None))[:, :width]
    assert (made - spoken).abs().mean() < 0.97 * (plain - spoken).abs().mean()
    # An adaptation of another network is not used: it is found again.
    foreign = replace(adaptation, network="another")
    again = converter.adapt(replace(voice, adaptations={**voice.adaptations, "refiner": foreign}))
    assert again.adaptations["refiner"].network == old.refiner_fingerprint
    torch.testing.assert_close(
        again.adaptations["refiner"].weights, adaptation.weights, atol=1e-3, rtol=1e-2
    )
    # Two sets together are one voice, to which it is adapted anew.
    both = parts.matching_set([voice, parts.matching_set(unseen)]).adaptations["refiner"]
    assert not torch.equal(both.weights, adaptation.weights)


def test_the_vocoder_is_adapted_to_a_voice(mini: VoiceConverter, ben: Path) -> None:
    *known, unseen = find_audio(EXAMPLES / "target")
    voice, other = mini.matching_set(known[:2]), mini.matching_set(ben)
    found = voice.adaptations["vocoder"]
    assert found.network == given(mini).vocoder_fingerprint
    # Its spectra of a recording that was not among them are nearer to what was spoken.
    network = mini.encoder.network  # type: ignore[attr-defined]
    assert isinstance(network, MelWavLM)
    features = mini.encode(unseen)
    synth = features[:, mini.encoder.columns.synth]
    spoken = synth[:, :-2]

    def missing(adaptation: Tensor | None) -> float:
        waveform = mini.vocode(Frames(synth, adaptation))
        return float((network.log_mel(waveform[None])[0] - spoken).abs().mean())

    assert missing(found.weights) < 0.995 * missing(None)
    # It counts as much as the voice does.
    assert mini.match(features, voice, lam=0.0).adaptation is None

    def counted(lam: float, share: float = 1.0) -> Tensor:
        voices = [(voice, share), (other, 1 - share)] if share < 1 else voice
        adaptation = mini.match(features, voices, lam=lam).adaptation
        assert adaptation is not None
        return adaptation

    assert torch.equal(counted(1.0), found.weights)
    assert torch.equal(counted(2.0), found.weights)
    torch.testing.assert_close(counted(0.5), 0.5 * found.weights)
    theirs = other.adaptations["vocoder"].weights
    torch.testing.assert_close(counted(1.0, 0.25), 0.25 * found.weights + 0.75 * theirs)


def test_pitch_moves_into_the_target_range(mini: VoiceConverter) -> None:
    """The converted frames' pitch is the target's, their voicing the source's."""
    source = mini.encode((load_audio(EXAMPLES / "source.wav")[: 3 * RATE], RATE))
    target = mini.matching_set(find_audio(EXAMPLES / "target")[:1], trim=False)
    at = mini.encoder.columns.pitch
    assert at is not None
    made = mini.match(source, target).values
    own = pitch_quantiles(source[:, at:])
    assert torch.isfinite(own).all()
    wanted = pitch_quantiles(target.match)
    assert torch.allclose(made[:, at], move_pitch(source[:, at], own, wanted))
    voiced = source[:, at + 1] > VOICED
    assert torch.allclose(made[voiced, at].median(), wanted[len(wanted) // 2], atol=0.02)
    assert torch.equal(made[:, at + 1], source[:, at + 1])


def test_nothing_has_to_be_voiced(mini: VoiceConverter, source: Source) -> None:
    generator = np.random.default_rng(1)
    hiss = 0.05 * generator.standard_normal(RATE)
    made, _ = mini.convert(source, (hiss, RATE))
    assert np.isfinite(made).all()
