"""Pitch: statistics that outliers do not move, and contours moved between speakers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.audio.pitch import (
    LEAST_SPREAD,
    _thinned,
    f0_track,
    move_pitch,
    pitch_quantiles,
    pitch_statistics,
    refine_pitch,
    smooth_pitch,
)
from knnvc.encoders.chunked import HOP
from knnvc.mini.acoustic_space import pitch_space


def columns(log_f0: Tensor, voicing: float = 1.0) -> Tensor:
    """Frames [N, 3] of `log_f0` [N], all voiced or not, and one column of something else."""
    return torch.stack([log_f0, torch.full_like(log_f0, voicing), torch.ones_like(log_f0)], 1)


@pytest.fixture
def speaker() -> Tensor:
    """log2 f0 [2000] of a normal distribution around 7 with a spread of 0.3."""
    return 7.0 + 0.3 * torch.randn(2000, generator=torch.Generator().manual_seed(1))


def test_statistics_of_a_normal_distribution(speaker: Tensor) -> None:
    centre, spread = pitch_statistics(columns(speaker)).tolist()
    assert centre == pytest.approx(7.0, abs=0.03)
    assert spread == pytest.approx(0.3, abs=0.03)


def test_octave_errors_hardly_move_the_statistics(speaker: Tensor) -> None:
    clean = pitch_statistics(columns(speaker))
    wrong = speaker.clone()
    wrong[::20] += 1.0  # 5 % of the frames an octave too high
    dirty = pitch_statistics(columns(wrong))
    assert abs(dirty[0] - clean[0]) < 0.03
    assert abs(dirty[1] / clean[1] - 1) < 0.12
    assert wrong.std() > 1.2 * speaker.std()  # what the plain deviation makes of it


def test_unvoiced_frames_do_not_count(speaker: Tensor) -> None:
    silence = columns(torch.full((5000,), 3.0), voicing=0.4)
    both = torch.cat([silence, columns(speaker)])
    assert torch.equal(pitch_statistics(both), pitch_statistics(columns(speaker)))


def test_a_monotone_speaker_has_a_spread(speaker: Tensor) -> None:
    assert pitch_statistics(columns(torch.full((50,), 6.5))).tolist() == pytest.approx(
        [6.5, LEAST_SPREAD]
    )
    assert pitch_statistics(columns(torch.tensor([6.5]))).tolist() == pytest.approx(
        [6.5, LEAST_SPREAD]
    )


def test_no_voiced_frame_means_no_statistics() -> None:
    assert pitch_statistics(columns(torch.full((9,), 7.0), voicing=0.1)).isnan().all()
    assert pitch_statistics(torch.empty(0, 2)).isnan().all()


def test_very_many_frames_are_thinned() -> None:
    values = torch.arange(2_500_001.0)
    thinned = _thinned(values)
    assert len(thinned) <= 1_000_000
    assert thinned.median() == pytest.approx(1_250_000, rel=1e-3)


def test_moving_gives_every_pitch_the_share_that_the_target_has_of_it(speaker: Tensor) -> None:
    skewed = (0.6 * torch.randn(2000, generator=torch.Generator().manual_seed(2))).exp()
    other = 7.7 + 0.25 * skewed
    source, target = (pitch_quantiles(columns(one)) for one in (speaker, other))
    moved = move_pitch(speaker, source, target)
    (centre, spread), (mean, width) = (pitch_statistics(columns(x)) for x in (speaker, other))
    linear = mean + (speaker - centre) * (width / spread)
    missed, missed_linearly = (
        (pitch_quantiles(columns(made)) - target).abs().max() for made in (moved, linear)
    )
    assert missed < 0.15
    assert missed < 0.5 * missed_linearly
    # Ever higher: the contour keeps its shape.
    assert (moved[speaker.argsort()].diff() >= 0).all()
    assert torch.allclose(move_pitch(moved, target, source), speaker, atol=1e-4)


def test_moving_to_oneself_changes_nothing(speaker: Tensor) -> None:
    own = pitch_quantiles(columns(speaker))
    assert torch.allclose(move_pitch(speaker, own, own), speaker, atol=1e-5)


def test_moving_a_monotone_does_not_stretch_it(speaker: Tensor) -> None:
    flat = 7.0 + 0.001 * torch.randn(500, generator=torch.Generator().manual_seed(2))
    source, target = pitch_quantiles(columns(flat)), pitch_quantiles(columns(speaker))
    moved = move_pitch(flat, source, target)
    assert moved.std() < 0.01
    # Nor where most of the voice has one pitch.
    mixed = torch.cat([flat, speaker[:200]])
    moved = move_pitch(mixed, pitch_quantiles(columns(mixed)), target)
    assert moved[:500].std() < 0.05
    assert moved.isfinite().all()


@pytest.mark.parametrize("unknown", ["source", "target", "both"])
def test_unknown_quantiles_leave_pitch_alone(speaker: Tensor, unknown: str) -> None:
    known = pitch_quantiles(columns(torch.linspace(7.0, 8.0, 50)))
    nothing = pitch_quantiles(columns(speaker, voicing=0.1))
    source = nothing if unknown != "target" else known
    target = nothing if unknown != "source" else known
    assert torch.equal(move_pitch(speaker, source, target), speaker)


def test_smoothing_is_a_gaussian_mean_of_voiced_frames() -> None:
    jump = torch.full((9,), 7.0)
    jump[4] = 8.0
    voiced = torch.ones(9, dtype=torch.bool)
    weights = torch.exp(-0.5 * torch.arange(-3, 4).square())
    wanted = torch.full((9,), 7.0)
    wanted[1:8] += weights / weights.sum()
    made = smooth_pitch(jump, voiced, 1.0)
    assert torch.allclose(made[3:6], wanted[3:6])  # all of whose neighbours are there
    assert torch.equal(smooth_pitch(jump, voiced, 0.0), jump)
    assert torch.equal(smooth_pitch(jump, ~voiced, 1.0), jump)
    assert len(smooth_pitch(jump[:0], voiced[:0], 1.0)) == 0
    # An unvoiced frame stays as it is, and no other one looks at it.
    voiced[4] = False
    assert torch.allclose(smooth_pitch(jump, voiced, 1.0), jump)


def test_smoothing_keeps_a_tone_of_voice_and_takes_out_jitter() -> None:
    time = torch.arange(500) * 0.02
    voiced = torch.sin(2 * torch.pi * time) > -0.6
    tone = 7.0 + 0.3 * torch.sin(2 * torch.pi * 0.7 * time)
    jitter = 0.05 * torch.randn(500, generator=torch.Generator().manual_seed(1))
    assert (smooth_pitch(tone, voiced, 1.0) - tone).abs().max() < 0.04
    made = smooth_pitch(tone + jitter, voiced, 1.0)
    assert (made - tone)[voiced].std() < 0.65 * jitter[voiced].std()


def test_space_weighs_pitch_and_voicing(speaker: Tensor) -> None:
    frames = columns(speaker)
    statistics = pitch_statistics(frames)
    space = pitch_space(frames, statistics, pitch_weight=0.5, voicing_weight=0.25)
    z = (speaker - statistics[0]) / statistics[1]
    assert torch.allclose(space[:, 0], 0.5 * z.clamp(-3, 3), atol=1e-6)
    assert (space[:, 1] == 0.25).all()
    assert torch.equal(space[:, 2:], frames[:, 2:])
    far = pitch_space(columns(torch.tensor([20.0, -20.0])), statistics, 1.0, 1.0)
    assert far[:, 0].tolist() == [3.0, -3.0]  # an octave error costs no more than this


def test_two_speakers_of_one_contour_meet_in_the_space(speaker: Tensor) -> None:
    low, high = columns(speaker), columns(speaker * 0.5 + 5.0)
    spaces = [pitch_space(one, pitch_statistics(one), 1.0, 1.0) for one in (low, high)]
    assert torch.allclose(spaces[0], spaces[1], atol=1e-3)


def test_space_without_statistics_is_finite() -> None:
    frames = columns(torch.tensor([7.0, 8.0]), voicing=0.2)
    space = pitch_space(frames, pitch_statistics(frames), 1.0, 1.0)
    assert space[:, 0].tolist() == [0.0, 0.0]
    assert torch.isfinite(space).all()


def test_f0_track_hears_a_tone_and_silence() -> None:
    at = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * n * 150 * at) / n for n in range(1, 8)).astype(np.float32)
    assert np.median(f0_track(tone / 4, 50)[5:45]) == pytest.approx(150, rel=0.01)
    assert not f0_track(np.zeros(SAMPLE_RATE, dtype=np.float32), 50).any()


@pytest.mark.parametrize("off", [-0.04, 0.02, 0.04, 0.5, 1.0])
def test_pitch_is_made_exact_whether_it_was_nearly_right_or_far_off(off: float) -> None:
    frames = 50
    at = torch.arange(frames * HOP + 80) / SAMPLE_RATE
    contour = 7.0 + 0.3 * torch.sin(2 * torch.pi * at)  # about 104 to 158 Hz
    phase = torch.cumsum(torch.exp2(contour.double()), 0) / SAMPLE_RATE
    waveform = sum(torch.sin(2 * torch.pi * n * phase) / n for n in range(1, 20)).float()
    centres = (torch.arange(frames) * HOP + HOP // 2).long()
    true = contour[centres]
    columns = torch.stack([true + off, torch.ones(frames)], dim=1)
    columns[:10, 1] = 0.2  # taken for unvoiced
    found = refine_pitch(waveform, columns)
    assert torch.equal(found[:10], columns[:10, 0])
    # DIO, which helps where it was far off, says nothing of the ends.
    inside = slice(1, -2) if off < 0.1 else slice(3, -6)
    assert (found[10:] - true[10:])[inside].abs().max() < 0.005  # octaves: 6 cents
    silent = refine_pitch(torch.zeros(len(waveform)), columns)
    assert torch.equal(silent, columns[:, 0])
