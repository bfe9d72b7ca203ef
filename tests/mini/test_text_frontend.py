"""`mini`'s text front end: time, pitch and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from knnvc.errors import KnnvcError
from knnvc.mini.text_frontend import FRAME, PADDING, Attention, TextFrontend, TextFrontendConfig

SMALL: dict[str, Any] = {
    "mels": 2,
    "channels": 16,
    "heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "flow_channels": 8,
    "flow_layers": 2,
    "flow_steps": 2,
}
CONFIG = TextFrontendConfig(symbols="ab .", **SMALL)
WIDTH = CONFIG.width + 2


@pytest.fixture
def network() -> TextFrontend:
    torch.manual_seed(0)
    made = TextFrontend(CONFIG).eval()
    made.usual.copy_(torch.tensor([0.0, 8.0, 4.0, 2.0, 3.0, 1.0, 6.0]))
    torch.nn.init.normal_(made.flow.write.weight, std=0.1)
    return made


# Speaking ---------------------------------------------------------------------------------------


def test_an_untrained_one_speaks_at_the_usual_durations(network: TextFrontend) -> None:
    frames = network.utter("ab a.")[0]
    units = 8 + 2 + 3 + 1 + 2 + 6 + 4
    assert frames.shape == (round(units * 0.025 / FRAME), WIDTH)
    assert frames.dtype == torch.float32
    assert ((frames[:, -1] > 0) & (frames[:, -1] < 1)).all()


@pytest.mark.parametrize("speed", [0.5, 0.9, 2.0, 4.0])
def test_speed_divides_the_length(network: TextFrontend, speed: float) -> None:
    plain, other = len(network.utter("ab a.")[0]), len(network.utter("ab a.", speed=speed)[0])
    assert other == pytest.approx(plain / speed, abs=2)


def test_noise_moves_the_pitch_and_a_seed_repeats_it(network: TextFrontend) -> None:
    def pitch(noise: float, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return network.utter("ab a.", noise=noise, generator=generator)[0][:, -2]

    assert torch.equal(pitch(0.5, 1), pitch(0.5, 1))
    assert not torch.equal(pitch(0.5, 1), pitch(0.5, 2))
    assert torch.equal(pitch(0.0, 1), pitch(0.0, 2))


@pytest.mark.parametrize(
    ("phonemes", "words"),
    [("", "no phonemes"), ("  ", "no phonemes"), ("aχb", "does not know χ"), ("a\n", r"'\n'")],
)
def test_what_cannot_be_spoken_is_one_sentence(
    network: TextFrontend, phonemes: str, words: str
) -> None:
    with pytest.raises(KnnvcError) as caught:
        network.utter(phonemes)[0]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_signs_that_training_did_not_meet_are_not_offered(network: TextFrontend) -> None:
    assert network.symbols == frozenset("ab .")
    network.usual[4] = 0.0
    assert network.symbols == frozenset("a .")


@pytest.mark.parametrize("symbols", [None, "", "aa", 5])
def test_settings_are_checked(symbols: object) -> None:
    with pytest.raises(KnnvcError, match="symbols"):
        TextFrontendConfig.from_dict({"symbols": symbols})
    with pytest.raises(KnnvcError, match="colour"):
        TextFrontendConfig.from_dict({"symbols": "ab", "colour": 1})
    assert TextFrontendConfig.from_dict(CONFIG.to_dict()) == CONFIG


# Inside -----------------------------------------------------------------------------------------


def test_frames_read_the_token_that_is_spoken_at_their_time(network: TextFrontend) -> None:
    # Units of 25 ms: token 0 until 45 ms, 1 until 75 ms, 2 until 150 ms.
    hidden = torch.eye(3, 16)[None] * 100
    durations = torch.tensor([[1.8, 1.2, 3.0]])
    times = (torch.arange(7)[None] + 0.5) * FRAME
    spread = network.spread(hidden, durations, times)
    assert spread.argmax(-1).tolist() == [[0, 0, 1, 1, 2, 2, 2]]
    padded = network.spread(
        torch.cat([hidden, 999 * torch.ones(1, 2, 16)], 1),
        torch.tensor([[1.8, 1.2, 3.0, 0.0, 0.0]]),
        times,
    )
    assert torch.equal(spread, padded)


def test_padding_does_not_reach_the_text(network: TextFrontend) -> None:
    tokens = torch.tensor([[1, 3, 4, 2]])
    padded = torch.cat([tokens, torch.full((1, 3), PADDING)], 1)
    pace = torch.tensor([0.1])
    with torch.inference_mode():
        short, long = network.encode(tokens, pace), network.encode(padded, pace)
        assert torch.allclose(short, long[:, :4], atol=1e-5)
        durations = network.durations(short, tokens, pace), network.durations(long, padded, pace)
    assert torch.allclose(durations[0], durations[1][:, :4], atol=1e-5)


def test_attention_sees_distances_and_not_places() -> None:
    torch.manual_seed(0)
    layer = Attention(16, 2).eval()
    hidden = torch.randn(1, 4, 16)
    shifted = torch.cat([torch.randn(1, 5, 16), hidden], 1)
    real = torch.tensor([[False] * 5 + [True] * 4])
    with torch.inference_mode():
        here, there = layer(hidden, torch.ones(1, 4, dtype=torch.bool)), layer(shifted, real)
    assert torch.allclose(here, there[:, 5:], atol=1e-5)


def test_heads_divide_the_channels() -> None:
    from knnvc.errors import KnnvcError
    from knnvc.mini.text_frontend import TextFrontendConfig

    with pytest.raises(KnnvcError, match="5 heads do not divide 256 channels"):
        TextFrontendConfig.from_dict({"symbols": "ab", "channels": 256, "heads": 5})
