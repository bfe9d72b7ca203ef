"""Chunked vocoding equals vocoding in one go, and copy-synthesis keeps what it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from knnvc.errors import KnnvcError, UsageError
from knnvc.frames import Frames
from knnvc.vocoders import classical
from knnvc.vocoders.chunked import ChunkedVocoder
from knnvc.vocoders.classical import griffin_lim, world


class TinyNetwork(nn.Module):
    """Two convolutions of two frames' reach each, and a running phase made by `prepare`."""

    context_frames = 4
    hop = 10
    dim = 3
    sample_rate = 500

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv1d(self.dim + 1, 8, 5, padding=2)
        self.second = nn.Conv1d(8, self.hop, 5, padding=2)
        self.longest = 0  # frames it was given at a time

    def prepare(self, features: Tensor) -> Tensor:
        phase = features[:, :1].cumsum(0)  # depends on all frames before: not local
        return torch.cat([features, phase.sin()], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        self.longest = max(self.longest, features.shape[1])
        hidden = torch.tanh(self.first(features.transpose(1, 2)))
        frames: Tensor = torch.tanh(self.second(hidden))
        return frames.transpose(1, 2).reshape(len(features), 1, -1)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(101, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chunk", [1, 2, 7, 50, 100, 101, 1500])
def test_chunks_equal_the_whole(features: Tensor, chunk: int) -> None:
    network = TinyNetwork()
    with torch.no_grad():
        whole = network(network.prepare(features)[None])[0, 0]
    network.longest = 0
    waveform = ChunkedVocoder(network, chunk_frames=chunk)(Frames(features))
    assert waveform.shape == (101 * network.hop,)
    assert network.longest <= chunk + 2 * network.context_frames
    torch.testing.assert_close(waveform, whole, atol=1e-5, rtol=0)


def test_less_context_would_be_heard(features: Tensor) -> None:
    """The test above has teeth: a context one frame short does not reproduce the whole."""
    whole = ChunkedVocoder(TinyNetwork())(Frames(features))
    network = TinyNetwork()
    network.context_frames = 3
    assert (ChunkedVocoder(network, chunk_frames=20)(Frames(features)) - whole).abs().max() > 1e-4


def test_the_stream_is_the_same_waveform(features: Tensor) -> None:
    runner = ChunkedVocoder(TinyNetwork(), chunk_frames=30)
    pieces = []
    for piece in runner.stream(Frames(features)):
        assert not torch.is_inference_mode_enabled()  # nothing leaks into the caller
        pieces.append(piece)
    assert len(pieces) == 4
    assert max(map(len, pieces)) <= 30 * runner.network.hop
    torch.testing.assert_close(torch.cat(pieces), runner(Frames(features)), atol=0, rtol=0)


def test_progress_counts_frames(features: Tensor) -> None:
    calls: list[tuple[int, int]] = []
    ChunkedVocoder(TinyNetwork(), chunk_frames=40)(
        Frames(features), lambda *call: calls.append(call)
    )
    assert [total for _, total in calls] == [101] * 3
    assert [done for done, _ in calls] == [33, 67, 101]


def test_the_result_is_float32_on_the_cpu_without_gradient(features: Tensor) -> None:
    network = TinyNetwork().double().train()
    waveform = ChunkedVocoder(network, device="cpu")(Frames(features.half().requires_grad_()))
    assert waveform.dtype == torch.float32
    assert waveform.device.type == "cpu"
    assert not waveform.requires_grad
    assert not network.training


@pytest.mark.parametrize("shape", [(5,), (0, 3), (5, 4), (1, 5, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"this vocoder takes \[frames, 3\]"):
        ChunkedVocoder(TinyNetwork())(Frames(torch.zeros(shape)))


def test_values_that_are_no_numbers_are_refused(features: Tensor) -> None:
    network = TinyNetwork()
    with torch.no_grad():
        network.second.bias.fill_(math.nan)
    with pytest.raises(KnnvcError, match="no numbers"):
        ChunkedVocoder(network)(Frames(features))


def test_chunks_have_at_least_one_frame() -> None:
    with pytest.raises(UsageError, match="chunk_frames is 0"):
        ChunkedVocoder(TinyNetwork(), chunk_frames=0)


# Copy-synthesis

VOWEL_A = (700, 1200, 2600)  # Hz, formants of an [a]
VOWEL_I = (280, 2250, 2900)  # and of an [i]


def vowel(seconds: float, hertz: float = 140.0, formants: tuple[int, ...] = VOWEL_A) -> Tensor:
    """A harmonic signal with formants and a pause every second, at 16 kHz."""
    time = torch.arange(round(seconds * 16_000)) / 16_000
    result = torch.zeros(len(time))
    for n in range(1, int(7000 / hertz)):
        gain = sum(1 / (1 + ((n * hertz - formant) / 120) ** 2) for formant in formants)
        result += gain * torch.sin(2 * math.pi * n * hertz * time)
    return 0.1 * result * ((time % 1.0) < 0.8)


def pitch_of(waveform: Tensor) -> float:
    pyworld = pytest.importorskip("pyworld")
    pitch, _ = pyworld.harvest(waveform.double().numpy(), 16_000)
    return float(np.median(pitch[pitch > 0]))


def envelope_distance(a: Tensor, b: Tensor) -> float:
    """Mean distance in dB of the power in bands of 125 Hz, where there is something to hear."""
    window = torch.hann_window(1024)
    x, y = (
        nn.functional.avg_pool1d(
            torch.stft(w, 1024, 256, window=window, return_complex=True).abs().square().T, 8
        )
        for w in (a, b)
    )
    loud = x > 1e-4 * x.max()
    return float((10 * (x[loud] / y[loud].clamp(min=1e-9)).log10()).abs().mean())


def test_the_distance_tells_vowels_apart() -> None:
    assert envelope_distance(vowel(1.0), vowel(1.0, formants=VOWEL_I)) > 8


@pytest.mark.parametrize("hertz", [110.0, 220.0])
def test_world_keeps_pitch_and_spectrum(hertz: float) -> None:
    speech = vowel(1.5, hertz)
    copy = world(speech)
    assert copy.shape == speech.shape
    assert copy.dtype == torch.float32
    assert pitch_of(copy) == pytest.approx(hertz, rel=0.01)
    assert envelope_distance(speech, copy) < 4
    assert copy.square().mean() == pytest.approx(float(speech.square().mean()), rel=0.5)


def test_griffin_lim_keeps_the_spectrum_and_is_repeatable() -> None:
    speech = vowel(1.0)
    copy = griffin_lim(speech)
    assert copy.shape == speech.shape
    assert envelope_distance(speech, copy) < 4
    assert torch.equal(griffin_lim(speech), copy)
    assert not torch.equal(griffin_lim(speech, seed=1), copy)


@pytest.mark.parametrize("samples", [0, 1, 399, 1601])
def test_short_recordings_are_copied(samples: int) -> None:
    speech = vowel(0.2)[:samples]
    for copy in (world(speech), griffin_lim(speech)):
        assert copy.shape == (samples,)
        assert torch.isfinite(copy).all()


def test_silence_stays_silent() -> None:
    assert world(torch.zeros(8000)).abs().max() < 1e-3
    assert griffin_lim(torch.zeros(8000)).abs().max() < 1e-3


def test_long_recordings_are_cut_where_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = vowel(6.0)
    monkeypatch.setattr(classical, "_PIECE_SECONDS", 2.5)
    monkeypatch.setattr(classical, "_SEARCH_SECONDS", 1.5)
    cuts = classical._quiet_cuts(speech.numpy(), 16_000)
    assert len(cuts) >= 2
    for cut, before in zip(cuts, [0, *cuts], strict=False):
        assert 0 < cut - before <= 2.5 * 16_000
        assert speech[cut - 200 : cut + 200].abs().max() == 0
    cut_copy = world(speech)
    assert cut_copy.shape == speech.shape
    assert pitch_of(cut_copy) == pytest.approx(140.0, rel=0.01)
    assert envelope_distance(speech, cut_copy) < 4


def test_world_needs_sixteen_kilohertz() -> None:
    with pytest.raises(UsageError, match="16000 Hz or more"):
        world(torch.zeros(8000), 8_000)
