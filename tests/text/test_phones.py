"""Phones and their states."""

from __future__ import annotations

import pytest
import torch

from knnvc.mini.text_frontend import with_known_states
from knnvc.text.phones import IGNORED, segments


def test_segments_give_stress_and_length_to_their_phones() -> None:
    phones = ["h", "ˈ", "i", "ː", " ", "d", "!"]
    durations = [4, 2, 1, 3, 2, 1, 2, 5, 6]
    units = [
        (phone, round(seconds / 0.025)) for phone, seconds in segments(phones, durations, 0.025)
    ]
    assert units == [
        ("sil", 4),  # padding at the start
        ("h", 2),
        ("i", 6),  # with the stress before it and the length mark after it
        (None, 1),  # a space falls inside speech: its frames say nothing
        ("d", 2),
        ("sil", 5),
        ("sil", 6),
    ]


def test_known_states_count_more_than_heard_ones() -> None:
    heard = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).sqrt()
    mixed = with_known_states(heard, torch.tensor([2, IGNORED])).square()
    assert mixed[0].tolist() == pytest.approx([0.05, 0.05, 0.9])
    assert mixed[1].tolist() == pytest.approx([0.2, 0.3, 0.5])
