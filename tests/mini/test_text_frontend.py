"""`mini`'s text front end: time, pitch, errors, and its training recipe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner

from knnvc.cli.main import cli
from knnvc.encoders.ssl import Columns, Encoder
from knnvc.errors import KnnvcError, UsageError
from knnvc.mini.text_frontend import FRAME, PADDING, Attention, TextFrontend, TextFrontendConfig
from knnvc.presets.preset import find_preset, load_preset
from knnvc.tensors import read_tensors, write_tensors
from knnvc.text.glow import GlowConfig, GlowTts
from knnvc.training import kokoro
from knnvc.training.options import TextFrontendOptions
from knnvc.training.package import add_trained_frontend
from knnvc.training.text_frontend import (
    MINI_TEXT_FRONTEND,
    SYMBOLS,
    collate,
    evaluate,
    is_held_out,
    load_spoken,
    losses_of,
    train_text_frontend,
    usual_durations,
    write_settings,
)

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
    frames = network.predict("ab a.")
    units = 8 + 2 + 3 + 1 + 2 + 6 + 4
    assert frames.shape == (round(units * 0.025 / FRAME), WIDTH)
    assert frames.dtype == torch.float32
    assert ((frames[:, -1] > 0) & (frames[:, -1] < 1)).all()


@pytest.mark.parametrize("speed", [0.5, 0.9, 2.0, 4.0])
def test_speed_divides_the_length(network: TextFrontend, speed: float) -> None:
    plain, other = len(network.predict("ab a.")), len(network.predict("ab a.", speed=speed))
    assert other == pytest.approx(plain / speed, abs=2)


def test_noise_moves_the_pitch_and_a_seed_repeats_it(network: TextFrontend) -> None:
    def pitch(noise: float, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return network.predict("ab a.", noise=noise, generator=generator)[:, -2]

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
        network.predict(phonemes)
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


def test_the_bundled_size_is_small() -> None:
    size = sum(p.numel() for p in TextFrontend(MINI_TEXT_FRONTEND).parameters())
    assert 4e6 < size < 6e6


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


# Training ---------------------------------------------------------------------------------------


class Levels(torch.nn.Module):
    """Stands in for an encoder: the level of a frame in four bands, a pitch, and voicing."""

    columns = Columns(synth=slice(0, WIDTH), match=slice(0, WIDTH), pitch=WIDTH - 2)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        whole = waveform[:, : ((waveform.shape[1] - 400) // 320 + 1) * 320]
        level = whole.reshape(1, -1, 320).square().mean(2).sqrt()[..., None]
        return torch.cat([level.expand(-1, -1, 4), 7.5 + level, (level > 0.05).float()], 2)


def corpus_of(folder: Path, count: int = 21) -> Path:
    """Utterances in which `a` is loud and takes 3 units, `b` quiet and takes 2."""
    (folder / "ann").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        phones = [*rng.choice(["a", "b"], size=8), "."]
        durations = [2, *({"a": 3, "b": 2, ".": 4}[p] for p in phones), 1]
        levels = [0.0, *({"a": 0.5, "b": 0.2, ".": 0.0}[p] for p in phones), 0.0]
        wave = np.repeat(levels, np.array(durations) * 400).astype(np.float32)
        name = f"ann/ann_{number:03d}.flac"
        sf.write(folder / name, wave, 16_000)
        record = {"file": name, "speaker": "ann", "text": "x", "phones": phones}
        record |= {"durations": durations, "seconds": len(wave) / 16_000}
        lines.append(json.dumps(record))
    (folder / "alignments-0.jsonl").write_text("\n".join(lines) + "\n")
    return folder


TRAINED = TextFrontendConfig(symbols=SYMBOLS, **SMALL)


def options(**more: Any) -> TextFrontendOptions:
    values: dict[str, Any] = {"steps": 1, "adversarial_from": 0, "batch": 4, "frames": 20}
    return TextFrontendOptions(**values | {"channels": 2, "report_every": 1} | more)


def test_held_out_utterances_stay_held_out() -> None:
    held_out = [n for n in range(100) if is_held_out(f"v/v_{n:03d}.flac")]
    assert held_out == [19, 39, 59, 79, 99]
    assert is_held_out("v/v_1019.flac")
    assert 2 <= sum(is_held_out(f"v/{'x' * n}.wav") for n in range(1, 100)) <= 10


def test_one_step_and_resuming(tmp_path: Path) -> None:
    corpus, run = corpus_of(tmp_path / "corpus"), tmp_path / "run"
    encoder = Encoder(Levels())
    weights = train_text_frontend(corpus, encoder, "abcdefgh12", run, options(), TRAINED)
    state, metadata = read_tensors(weights)
    assert metadata["steps"] == "1"
    row = json.loads((run / "log.jsonl").read_text())
    assert {"duration", "pitch", "flow", "spectral", "adversarial", "held_out"} <= row.keys()
    assert all(math.isfinite(value) for value in row.values())
    assert "option batch | 4" in (run / "MODEL_CARD.md").read_text()
    train_text_frontend(corpus, encoder, "abcdefgh12", run, options(steps=2), TRAINED)
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    network = TextFrontend(TRAINED)
    network.load_state_dict(state)
    assert network.symbols == frozenset("ab.")
    assert network.predict("ab.").shape[1] == WIDTH


def test_it_learns_levels_and_durations(tmp_path: Path) -> None:
    everything = load_spoken(corpus_of(tmp_path), Encoder(Levels()), "abcdefgh12")
    assert sum(u.durations.sum() for u in everything) * 0.025 == pytest.approx(
        sum(len(u.features) for u in everything) * FRAME, rel=0.02
    )
    torch.manual_seed(0)
    network = TextFrontend(TRAINED)
    usual = usual_durations(everything, TRAINED.tokens)
    network.usual.copy_(usual)
    before = evaluate(network.eval(), everything)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(60):
        batch = collate(everything, [0] * len(everything), 40, usual.numpy())
        losses, _ = losses_of(network.train(), batch)
        optimiser.zero_grad()
        torch.autograd.backward(20 * losses["spectral"] + losses["duration"] + losses["pitch"])
        optimiser.step()
    after = evaluate(network.eval(), everything)
    assert after["held_out"] < 0.25 * before["held_out"]
    assert after["length"] == pytest.approx(1, abs=0.05)
    loud, quiet = network.predict("aaaaaaaa."), network.predict("bbbbbbbb.")
    assert len(loud) > 1.25 * len(quiet)
    assert loud[5:-8, :4].mean() > 1.5 * quiet[5:-8, :4].mean()


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="knnvc train corpus"):
        load_spoken(tmp_path, Encoder(Levels()), "abcdefgh12")


def test_kokoro_speaks_with_one_voice() -> None:
    voices = ["af_heart", "am_adam"]
    assert kokoro.cast_of(voices, "af_heart") == [kokoro.Speaker("af_heart", (("af_heart", 1.0),))]
    assert len(kokoro.cast_of([*voices, "bf_emma", "am_puck"])) == kokoro.SPEAKERS
    with pytest.raises(UsageError, match="did you mean af_heart"):
        kokoro.cast_of(voices, "af_hart")


# Packaging --------------------------------------------------------------------------------------


def writable_mini(folder: Path) -> Path:
    """A copy of the bundled preset without a text front end."""
    bundled = find_preset("mini")
    folder.mkdir()
    values = json.loads((bundled.folder / "preset.json").read_text())
    values["text_frontend"] = None
    (folder / "preset.json").write_text(json.dumps(values))
    for part in bundled.folder.glob("*.safetensors"):
        (folder / part.name).symlink_to(part)
    return folder


def test_a_front_end_is_added_to_a_preset(tmp_path: Path) -> None:
    folder = writable_mini(tmp_path / "mine")
    network = TextFrontend(MINI_TEXT_FRONTEND)
    network.usual.fill_(1.0)
    weights = tmp_path / "text_frontend.safetensors"
    write_settings(tmp_path, "mini-tts", MINI_TEXT_FRONTEND.to_dict(), "en-us")
    write_tensors(weights, {k: v.half() for k, v in network.state_dict().items()}, {"steps": "7"})
    args = ["train", "package", "--text-frontend", str(weights), "--add-to", str(folder)]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    made = load_preset(folder)
    assert made.text_frontend is not None
    assert made.text_frontend["type"] == "mini-tts"
    assert made.text_frontend["language"] == "en-us"
    assert made.provenance["text_frontend"]["steps"] == "7"
    config = TextFrontendConfig.from_dict(made.text_frontend["config"])
    assert made.text_frontend_weights is not None
    read = TextFrontend(config)
    read.load_state_dict(read_tensors(made.text_frontend_weights)[0])
    assert read.eval().predict("həlˈoʊ.").shape[1] == 162


def test_a_front_end_that_does_not_fit_leaves_the_preset_alone(tmp_path: Path) -> None:
    folder = writable_mini(tmp_path / "mine")
    before = (folder / "preset.json").read_bytes()
    weights = tmp_path / "text_frontend.safetensors"
    write_tensors(weights, TextFrontend(CONFIG).state_dict())
    with pytest.raises(UsageError, match=r"no file .*text_frontend.json"):
        add_trained_frontend(load_preset(folder), weights)
    write_settings(tmp_path, "mini-tts", MINI_TEXT_FRONTEND.to_dict(), "en-us")
    with pytest.raises(KnnvcError, match="does not fit its configuration"):
        add_trained_frontend(load_preset(folder), weights)
    write_settings(tmp_path, "mini-tts", CONFIG.to_dict(), "en-us")
    with pytest.raises(KnnvcError, match="6 columns and the encoder of mini gives 162"):
        add_trained_frontend(load_preset(folder), weights)
    glow = GlowTts(GlowConfig(("<PAD>", "a"), out_channels=162, encoder_layers=1, flow_blocks=1))
    write_tensors(weights, glow.state_dict())
    write_settings(tmp_path, "glow-tts", glow.config.to_dict() | {"layers": 3}, "de")
    with pytest.raises(KnnvcError, match="unknown Glow-TTS settings: layers"):
        add_trained_frontend(load_preset(folder), weights)
    assert (folder / "preset.json").read_bytes() == before
    done = CliRunner().invoke(cli, ["train", "package", "--add-to", str(folder)])
    assert done.exit_code == 2
    assert "--text-frontend" in done.stderr
    write_settings(tmp_path, "glow-tts", glow.config.to_dict(), "de")
    made = add_trained_frontend(load_preset(folder), weights)
    assert made.text_frontend is not None
    assert (made.text_frontend["type"], made.text_frontend["language"]) == ("glow-tts", "de")
