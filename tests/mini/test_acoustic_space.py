"""Matching and finishing on made-up features: two mel bands, one spectrum a frame, two phones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini import acoustic_space
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions, Statistics

MELS, SUBSTEPS, PHONES = 4, 2, 2
WIDTH = MELS * SUBSTEPS


def make_space(**options: Any) -> AcousticSpace:
    return AcousticSpace(AcousticSpaceOptions(**{"bands": 2, **options}), MELS, SUBSTEPS)


def make_frames(count: int, seed: int = 0, pitch: float = 7.0) -> tuple[Tensor, Tensor]:
    """Synthesis columns [N, WIDTH + 2] and match columns [N, 3 + 3 · PHONES]."""
    generator = torch.Generator().manual_seed(seed)
    mel = torch.randn(count, WIDTH, generator=generator)
    log_f0 = pitch + 0.2 * torch.randn(count, 1, generator=generator)
    voicing = torch.ones(count, 1)
    posteriors = torch.rand(count, 1 + 3 * PHONES, generator=generator)
    posteriors[:, 0] = 0.01  # hardly any silence
    posteriors /= posteriors.sum(1, keepdim=True)
    synth = torch.cat([mel, log_f0, voicing], 1)
    return synth, torch.cat([log_f0, voicing, posteriors.sqrt()], 1)


def statistics(space: AcousticSpace, frames: tuple[Tensor, Tensor]) -> Statistics:
    return space.statistics(*frames)


def test_finishing_a_speakers_own_frames_changes_nothing() -> None:
    space = make_space()
    frames = make_frames(200)
    own = statistics(space, frames)
    done = space.finish(frames[0], frames[0], own, own)
    torch.testing.assert_close(done, frames[0], atol=1e-5, rtol=0)


def test_level_and_pitch_follow_the_source_in_the_targets_range() -> None:
    space = make_space(envelope_transfer=0.0)
    source, target = make_frames(300, 1, pitch=7.0), make_frames(300, 2, pitch=8.0)
    target[0][:, :WIDTH] += 3.0
    own, other = statistics(space, source), statistics(space, target)
    done = space.finish(target[0], source[0], own, other)
    level, wanted = done[:, :WIDTH].mean(1), source[0][:, :WIDTH].mean(1)
    assert torch.corrcoef(torch.stack([level, wanted]))[0, 1] > 0.999
    assert abs(float(level.mean() - target[0][:, :WIDTH].mean())) < 0.05
    assert abs(float(done[:, WIDTH].median()) - 8.0) < 0.05


def test_full_envelope_transfer_gives_the_normalised_envelope_of_the_source() -> None:
    space = make_space(envelope_transfer=1.0, energy_transfer=0.0)
    source, target = make_frames(300, 1), make_frames(300, 2)
    target[0][:, :WIDTH] = 2 * target[0][:, :WIDTH] - 1
    own, other = statistics(space, source), statistics(space, target)
    done = space.finish(target[0], source[0], own, other)
    after = space.statistics(done, target[1])
    torch.testing.assert_close(after.mean, other.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.spread, other.spread, atol=1e-3, rtol=0)


def test_vectors_do_not_depend_on_level_and_range_of_the_speaker() -> None:
    space = make_space()
    synth, match = make_frames(100)
    louder, higher = synth.clone(), match.clone()
    louder[:, :WIDTH] = 1.5 * louder[:, :WIDTH] + 2
    higher[:, 0] = 2 * higher[:, 0] + 1
    one = space.vectors(synth, match, space.statistics(synth, match))
    two = space.vectors(louder, higher, space.statistics(louder, higher))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_context_stops_at_the_seam_between_recordings() -> None:
    space = make_space()
    first, second = make_frames(40, 1), make_frames(50, 2)
    joined = tuple(torch.cat(pair) for pair in zip(first, second, strict=True))
    own = space.statistics(*joined)
    together = space.vectors(*joined, own, torch.tensor([0, 40]))
    apart = torch.cat([space.vectors(*part, own) for part in (first, second)])
    torch.testing.assert_close(together, apart)
    blind = space.vectors(*joined, own)
    assert not torch.allclose(blind[38], together[38])


def test_vectors_of_a_span_are_those_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space()
    synth, match = make_frames(60)
    own = space.statistics(synth, match)
    starts = torch.tensor([0, 20, 45])
    whole = space.vectors(synth, match, own, starts)
    for span in ((0, 60), (0, 1), (17, 23), (43, 60)):
        assert torch.equal(space.vectors(synth, match, own, starts, span), whole[slice(*span)])
    monkeypatch.setattr(acoustic_space, "_BLOCK", 7)  # and neither do blocks change anything
    assert torch.equal(space.vectors(synth, match, own, starts), whole)
    assert all(
        torch.equal(getattr(own, name), getattr(space.statistics(synth, match), name))
        for name in ("pitch", "mean", "spread", "level")
    )


def test_speech_is_measured_without_the_pauses() -> None:
    space = make_space()
    synth, match = make_frames(200)
    padded = torch.cat([synth, torch.full((300, WIDTH + 2), -5.0)])
    silence = torch.zeros(300, match.shape[1])
    silence[:, 2] = 1.0
    with_pauses = space.statistics(padded, torch.cat([match, silence]))
    torch.testing.assert_close(with_pauses.mean, space.statistics(synth, match).mean)


@pytest.mark.parametrize("pauses", [50, 500, 5000])
def test_a_word_in_long_silence_has_a_level_of_its_own(pauses: int) -> None:
    """Half a second of speech and less: silence around it would move it out of all bounds."""
    space = make_space()
    synth, match = make_frames(20)
    padded = torch.cat([synth, torch.full((pauses, WIDTH + 2), -9.0)])
    silence = torch.zeros(pauses, match.shape[1])
    silence[:, 2] = torch.linspace(0.9, 1.0, pauses)
    found = space.statistics(padded, torch.cat([match, silence]))
    own = space.statistics(synth, match)
    # Five frames of silence are among the 25, and no more, however long it lasts.
    assert torch.allclose(found.level[0], (20 * own.level[0] - 5 * 9.0) / 25, atol=1e-4)


def test_bands_divide_the_spectrum() -> None:
    with pytest.raises(KnnvcError, match="do not divide"):
        AcousticSpace(AcousticSpaceOptions(bands=3), MELS, SUBSTEPS)
