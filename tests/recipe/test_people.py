"""Real readers: texts, alignment by force."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from knnvc.errors import KnnvcError, UsageError
from knnvc.text.phones import PHONES, STATES, states_of_frames
from recipe.people import align, held_out_of, listed, path_through, record_of, words_of
from recipe.whisper import encoder_weights, variables


def brute_force(likely: np.ndarray, states: np.ndarray, skippable: np.ndarray) -> float:
    """Likelihood of the best way, of all that there are."""
    best = -np.inf
    count = len(states)
    for path in itertools.product(range(count), repeat=len(likely)):
        if path[0] > int(skippable[0]) or path[-1] < count - 1 - int(skippable[-1]):
            continue
        steps = np.diff(path)
        if (steps < 0).any() or (steps > 2).any():
            continue
        jumps = np.flatnonzero(steps == 2)
        if not all(skippable[path[at] + 1] for at in jumps):
            continue
        best = max(best, sum(likely[t, states[at]] for t, at in enumerate(path)))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_path_is_the_likeliest_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    likely = rng.normal(size=(6, 7)).astype(np.float32)
    states = rng.integers(0, 7, 5)
    skippable = np.array([True, False, True, False, True]) if seed % 2 else np.zeros(5, bool)
    path = path_through(likely, states, skippable)
    found = sum(likely[t, states[at]] for t, at in enumerate(path))
    assert found == pytest.approx(brute_force(likely, states, skippable), abs=1e-4)


def test_too_few_frames_for_the_words() -> None:
    with pytest.raises(KnnvcError, match="shorter than its words"):
        path_through(np.zeros((2, 5), np.float32), np.arange(5), np.zeros(5, bool))


def test_phones_are_found_where_they_are_spoken() -> None:
    """Posteriors that are sure of "kæt dɒɡ" with a pause give its boundaries to the frame."""
    number = {phone: index for index, phone in enumerate(PHONES)}
    plan = [(None, 4), ("k", 6), ("æ", 9), ("t", 3), (None, 5), ("d", 3), ("ɒ", 6), ("ɡ", 6)]
    states: list[int] = []
    for phone, frames in plan:
        if phone is None:
            states += [0] * frames
            continue
        thirds = np.minimum(2, 3 * np.arange(frames) // frames)
        states += [1 + 3 * number[phone] + int(third) for third in thirds]
    posteriors = np.full((len(states), STATES), 1e-3, np.float32)
    posteriors[np.arange(len(states)), states] = 0.9
    signs, lengths, likelihood = align(posteriors, ["kæt", "dɒɡ"])
    assert list(zip(signs, lengths, strict=True)) == [
        ("," if phone is None else phone, float(frames)) for phone, frames in plan
    ]
    assert likelihood == pytest.approx(np.log(0.9), abs=1e-4)


def test_a_record_gives_the_states_back() -> None:
    text = "Good morning."
    words = words_of(text, "en-us")
    assert len(words) == 2
    number = {phone: index for index, phone in enumerate(PHONES)}
    states = [0] * 5
    for phone in "".join(words):
        states += [1 + 3 * number[phone] + third for third in range(3) for _ in range(3)]
    states += [0] * 4
    posteriors = np.full((len(states), STATES), 1e-3, np.float32)
    posteriors[np.arange(len(states)), states] = 0.9
    record = record_of(posteriors, text)
    assert record is not None
    made = states_of_frames(record["phones"], record["durations"], 0.025, len(states))
    assert (made == np.array(states)).mean() > 0.98


def test_words_that_are_not_heard_are_refused() -> None:
    silence = np.full((200, STATES), 1e-4, np.float32)
    silence[:, 0] = 0.98
    assert record_of(silence, "Somebody said these words.") is None


def test_who_is_held_out_has_one_recording() -> None:
    records = [{"speaker": f"s{n:03d}"} for n in range(40)] + [{"speaker": "many"}] * 9
    held = held_out_of(records)
    assert held == {"s000", "s013", "s026", "s039"}


def test_lists_and_librispeech(tmp_path: Path) -> None:
    chapter = tmp_path / "84" / "121123"
    chapter.mkdir(parents=True)
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO DO YOU HEAR\n")
    (one,) = listed(tmp_path)
    assert (one.speaker, one.text) == ("84", "go do you hear")
    assert one.path == chapter / "84-121123-0000.flac"
    (tmp_path / "manifest.csv").write_text("file,speaker,text\na.flac,anna,Hello\nb.flac,bob,\n")
    first, second = listed(tmp_path)
    assert (first.speaker, first.text, second.text) == ("anna", "Hello", "")
    with pytest.raises(UsageError, match="holds neither"):
        listed(tmp_path / "84" / "121123" / "none")


def model(tensors: dict[str, np.ndarray], version: int = 6) -> bytes:
    """CTranslate2's format, written independently."""
    codes = {"float32": 0, "int8": 1, "float16": 4}
    out = struct.pack("<IH", version, 8) + b"Whisper\0" + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        encoded = name.encode() + b"\0"
        out += struct.pack("<H", len(encoded)) + encoded + struct.pack("<B", tensor.ndim)
        out += struct.pack(f"<{tensor.ndim}I", *tensor.shape)
        blob = tensor.tobytes()
        out += struct.pack("<BI", codes[str(tensor.dtype)], len(blob)) + blob
    return out


def test_matrices_of_8_bits_are_scaled(tmp_path: Path) -> None:
    rows = np.array([[127, -64], [10, 0]], np.int8)
    path = tmp_path / "model.bin"
    scale = np.array([2.0, 5.0], np.float32)
    half = np.array([0.5], np.float16)
    path.write_bytes(model({"a/weight": rows, "a/weight_scale": scale, "b": half}))
    found = variables(path)
    assert set(found) == {"a/weight", "b"}
    assert torch.equal(
        torch.from_numpy(found["a/weight"]), torch.tensor([[63.5, -32.0], [2.0, 0.0]])
    )
    assert found["b"].tolist() == [0.5]


def test_files_that_are_no_whisper_model(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(model({"b": np.zeros(1, np.float32)}, version=99))
    with pytest.raises(KnnvcError, match="format version 99"):
        variables(path)
    path.write_bytes(model({"b": np.zeros(1, np.float32)}))
    with pytest.raises(KnnvcError, match="it is no Whisper model"):
        encoder_weights(path, 1)
