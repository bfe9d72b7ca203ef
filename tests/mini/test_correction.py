"""What is corrected after the refiner, on made-up features."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from knnvc.mini import correction, sharpening
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.correction import Correction
from knnvc.mini.covariance import cepstra_of, mean_and_covariance
from knnvc.mini.speaker_prior import SpeakerPrior
from tests.mini.test_acoustic_space import (
    MELS,
    PHONES,
    SUBSTEPS,
    WIDTH,
    make_frames,
    make_space,
)
from tests.mini.test_covariance import some_covariance

MANY = 10**9  # frames: what they tell is believed


def corrected(**options: Any) -> Correction:
    return Correction(make_space(**options))


def test_the_postfilter_gives_peaks_and_valleys_what_the_targets_have_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by(strength: float) -> Correction:
        options = AcousticSpaceOptions(bands=20, postfilter=strength)
        return Correction(AcousticSpace(options, 80, SUBSTEPS))

    bands = torch.arange(80.0)
    formants = torch.exp(-(((bands - 20) / 3) ** 2)) + torch.exp(-(((bands - 50) / 3) ** 2))
    frame = torch.cat([formants - 1, 0.5 * formants, torch.tensor([7.0, 0.9])])
    frames, spoken = frame.repeat(40, 1), torch.zeros(40)
    target = frames.clone()
    target[:, :160] *= 1.5
    wanted = by(1.0).space.contrast(target, spoken)
    done = by(1.0).sharpen_formants(frames, spoken, wanted)
    assert torch.equal(done[:, 160:], frames[:, 160:])  # pitch and voicing
    for start, height in ((0, 1.0), (80, 0.5)):
        before, after = frame[start : start + 80], done[0, start : start + 80]
        assert 0.1 * height < float(after[20] - before[20]) < 0.5 * height
        assert float(after[26] - before[26]) < 0  # beside a peak
        assert float((after - before).mean().abs()) < 0.01  # the level stays
    twice = by(2.0).sharpen_formants(frames, spoken, wanted)
    torch.testing.assert_close(twice - frames, 2 * (done - frames))
    # Silence does not count where there is speech: half of it, flat, changes nothing.
    flat = torch.cat([frames, torch.ones(40, 162)])
    heard = torch.cat([spoken, torch.ones(40)])
    monkeypatch.setattr(sharpening, "BLOCK", 11)
    torch.testing.assert_close(by(1.0).sharpen_formants(flat, heard, wanted)[:40], done)
    torch.testing.assert_close(by(1.0).sharpen_formants(flat, heard, wanted)[40:], flat[40:])
    assert torch.equal(
        by(1.0).sharpen_formants(target, spoken, wanted / 9), target
    )  # nothing missing
    assert by(0.0).sharpen_formants(frames, spoken, wanted) is frames  # not asked for


def test_balancing_gives_the_mean_of_what_was_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    made = corrected(balanced=7)
    refined, selected = make_frames(60, 1)[0], make_frames(60, 2)[0]
    done = made.balance(refined, selected)
    assert torch.equal(done[:, WIDTH:], refined[:, WIDTH:])  # pitch and voicing
    for at in (0, 3, 30, 59):
        around = slice(max(0, at - 7), at + 8)
        mean = (selected[around] - refined[around]).mean(0)[:WIDTH]
        torch.testing.assert_close(done[at, :WIDTH], refined[at, :WIDTH] + mean)
    monkeypatch.setattr(sharpening, "BLOCK", 11)
    torch.testing.assert_close(made.balance(refined, selected), done)
    whole = corrected(balanced=1000).balance(refined, selected)  # over all there is
    torch.testing.assert_close(whole.mean(0)[:WIDTH], selected.mean(0)[:WIDTH])
    assert corrected().balance(refined, selected) is refined  # not asked for


def test_other_phones_are_not_taken_for_the_voice() -> None:
    """A reference without a phone: what was selected for it has another phone's envelope."""
    phones = torch.zeros(1 + 3 * PHONES, 2)
    phones[1:4, 0], phones[4:, 0] = 1.0, -1.0  # the first is low, the second high
    phones[:, 1] = -phones[:, 0]
    usual = SpeakerPrior(
        phones=phones,
        shape=torch.zeros(2),
        between=torch.ones(2),
        within=torch.ones(2),
    )
    options = AcousticSpaceOptions(bands=2, balanced=1000)
    space = AcousticSpace(options, MELS, SUBSTEPS, 1 + 3 * PHONES, usual)
    synth, match = make_frames(100)
    match[:, 3:] = 0
    match[:, 3] = 1.0  # the first phone, where the voice has only said the second
    target = dataclasses.replace(space.statistics(synth, match), frames=10**9)
    wide = torch.cat([phones.repeat_interleave(MELS // 2, 1)] * SUBSTEPS, 1)
    voice = torch.linspace(0, 1, WIDTH)
    refined, selected = synth.clone(), synth.clone()
    refined[:, :WIDTH] = wide[1]
    selected[:, :WIDTH] = wide[4] + voice
    other = phones[4].expand(100, -1)
    made = Correction(space)
    done = made.combine(selected, refined, match, target, other)
    torch.testing.assert_close(done[:, :WIDTH], (wide[1] + voice).expand(100, -1))
    same = made.combine(selected, refined, match, target)  # nothing is known of the phones
    torch.testing.assert_close(same[:, :WIDTH], selected[:, :WIDTH])
    some = dataclasses.replace(target, frames=correction.BELIEVED)
    half = made.combine(selected, refined, match, some, other)
    torch.testing.assert_close(half[:, :WIDTH], (wide[1] + voice / 2).expand(100, -1))


def follow(after: Correction, frames: Tensor, silence: Tensor, wanted: Tensor) -> Tensor:
    known = after.space.statistics(*make_frames(50))
    target = dataclasses.replace(known, covariance=wanted, frames=MANY)
    return after.follow_covariance(frames, silence, target)


def test_speech_follows_the_targets_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    after = corrected(expansion=1.0, contraction=1.0)
    frames, wanted = make_frames(5000, 1)[0], some_covariance(3, MELS - 1)
    spoken = torch.zeros(len(frames))
    monkeypatch.setattr(correction, "BELIEVED", 0)
    done = follow(after, frames, spoken, wanted)
    assert torch.equal(done[:, WIDTH:], frames[:, WIDTH:])  # pitch and voicing
    old, new = (some[:, :WIDTH].reshape(-1, MELS) for some in (frames, done))
    torch.testing.assert_close(new.mean(0), old.mean(0))
    torch.testing.assert_close(new.mean(1), old.mean(1))  # the level
    _, found = mean_and_covariance([new], cepstra_of(MELS))
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0)
    monkeypatch.setattr(correction, "BLOCK", 11)
    torch.testing.assert_close(follow(after, frames, spoken, wanted), done)


def test_silence_neither_counts_nor_changes() -> None:
    after = corrected(expansion=1.0, contraction=1.0)
    frames, wanted = make_frames(100, 1)[0], some_covariance(3, MELS - 1)
    done = follow(after, frames, torch.zeros(100), wanted)
    with_silence = torch.cat([frames, 9 * torch.randn(40, frames.shape[1])])
    heard = torch.cat([torch.zeros(100), torch.ones(40)])
    made = follow(after, with_silence, heard, wanted)
    torch.testing.assert_close(made[:100], done)
    assert torch.equal(made[100:], with_silence[100:])


def test_little_speech_changes_little() -> None:
    after = corrected(expansion=1.0, contraction=1.0)
    frames, wanted = make_frames(100, 1)[0], 9 * torch.eye(MELS - 1).double()
    spoken, target = torch.zeros(100), after.space.statistics(*make_frames(50))
    target = dataclasses.replace(target, covariance=wanted)
    changes = []
    for count in (10, 100, MANY):
        known = dataclasses.replace(target, frames=count)
        done = after.follow_covariance(frames, spoken, known)
        changes.append(float((done - frames).abs().mean()))
    assert 0 < changes[0] < changes[1] < changes[2]
    few = frames[:10]  # as few of the source
    short = after.follow_covariance(few, spoken[:10], dataclasses.replace(target, frames=MANY))
    assert float((short - few).abs().mean()) < changes[1]


def test_not_asked_for_nothing_changes() -> None:
    after = corrected()
    frames = make_frames(30)[0]
    assert follow(after, frames, torch.zeros(30), torch.eye(MELS - 1).double()) is frames


def test_frames_of_broken_weights_are_left_for_the_vocoder_to_refuse() -> None:
    frames = make_frames(30)[0]
    frames[7, 3] = torch.nan
    wanted = torch.eye(MELS - 1).double()
    assert follow(corrected(expansion=1.0), frames, torch.zeros(30), wanted) is frames
