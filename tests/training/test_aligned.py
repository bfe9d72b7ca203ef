"""Phone states of aligned speech, frame by frame."""

from __future__ import annotations

from knnvc.text.phones import IGNORED, PHONES
from knnvc.training.aligned import frame_states


def test_frame_states_of_a_hand_made_example() -> None:
    # 75 ms silence, 150 ms of "a", 50 ms space, 25 ms of an unknown sign, 75 ms silence.
    record = {"phones": ["a", " ", "@"], "durations": [3, 6, 2, 1, 3]}
    first = 1 + 3 * PHONES.index("a")
    # A frame belongs to where its centre falls (10, 30, 50 ms...); a phone has three states.
    expected = [0] * 4  # up to 75 ms: 10, 30, 50, 70
    expected += [first] * 2  # up to 125 ms: 90, 110
    expected += [first + 1] * 3  # up to 175 ms: 130, 150, 170
    expected += [first + 2] * 2  # up to 225 ms: 190, 210
    expected += [IGNORED] * 4  # up to 300 ms: 230, 250, 270, 290
    expected += [0] * 4  # up to 375 ms: 310, 330, 350, 370
    states = frame_states(record, 19)
    assert states.tolist() == expected


def test_frame_states_stop_where_the_audio_does() -> None:
    states = frame_states({"phones": ["a"], "durations": [2, 6, 2]}, 4)
    assert len(states) == 4
    assert (states != IGNORED).all()
