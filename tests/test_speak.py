"""Speaking: from text to a file in a voice, mostly with a stand-in for the front end."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor
from torch.nn import functional

from knnvc import KnnvcError, SpeakOptions, UsageError, VoiceConverter, synthesize
from knnvc.audio import load_audio, loudness_gain
from knnvc.audio.joining import Spool, silence, trim_edges
from knnvc.cli.main import cli
from knnvc.errors import KnnvcWarning
from knnvc.mini.converter import MiniConverter
from knnvc.mini.encoder import MiniEncoder, PhoneEncoder
from knnvc.presets.importing import add_published_front_end
from knnvc.presets.schema import Preset, load_preset
from knnvc.presets.search import bundled_folder
from knnvc.text.sentences import PARAGRAPH_PAUSE, SENTENCE_PAUSE

RATE = 16_000
EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
GLOW = Path(__file__).parent / "assets" / "parity" / "glow"
SYMBOLS = frozenset(" !,.;?abdefhijklmnopstuvwzæðŋɐɑɔəɚɛɜɡɪɹɾʃʊʌʒʔˈˌːθᵻ")


class Parrot:
    """Says every sentence in frames of a recording, four for each sign, and remembers it."""

    symbols = SYMBOLS
    language = "en-us"

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames
        self.heard: list[str] = []

    def features(
        self,
        phonemes: str,
        *,
        speed: float = 1.0,
        noise: float = 0.667,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        self.heard.append(phonemes)
        count = max(10, round(4 * len(phonemes) / speed))
        frames = self.frames.repeat(-(-count // len(self.frames)), 1)[:count]
        frames = frames.clone()
        spectra = frames[:, :160]
        spectra += 0.01 * noise * torch.randn(spectra.shape, generator=generator)
        return frames


@pytest.fixture(scope="module")
def frames(mini: VoiceConverter) -> Tensor:
    """Features of two seconds of speech, [T, D]."""
    found: Tensor = mini.encode((load_audio(EXAMPLES / "source.wav")[: 2 * RATE], RATE))
    return found


@pytest.fixture
def speaker(mini: VoiceConverter, frames: Tensor) -> VoiceConverter:
    """`mini` with a parrot for a front end."""
    return VoiceConverter(mini.encoder, mini.converter, mini.vocoder, Parrot(frames))


def parrot_of(speaker: VoiceConverter) -> Parrot:
    front_end = speaker.speaker.parts.front_end
    assert isinstance(front_end, Parrot)
    return front_end


@pytest.fixture(scope="module")
def voice() -> Path:
    return sorted((EXAMPLES / "target").iterdir())[0]


@pytest.fixture(scope="module")
def talking(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny preset in the published formats, with the tiny published front end."""
    folder = tmp_path_factory.mktemp("presets") / "talking"
    shutil.copytree(preset, folder)
    fit_width(folder)
    add_published_front_end(
        load_preset(folder), GLOW / "glow_tts_ssl_tiny.pth", GLOW / "config.json"
    )
    return folder


def fit_width(folder: Path) -> None:
    """The tiny encoder has to be as wide as the tiny front end; it is."""
    config = json.loads((GLOW / "config.json").read_text())
    assert load_preset(folder).encoder.config["hidden_size"] == config["out_channels"]


# The pipeline -------------------------------------------------------------------------------------


def test_a_predicted_sentence_has_the_features_of_an_encoded_one(
    mini: VoiceConverter, frames: Tensor
) -> None:
    assert isinstance(mini.encoder, MiniEncoder)
    made = mini.encoder.complete(frames[:, mini.encoder.columns.synth])
    assert made.shape == frames.shape
    # Audio has one more frame of spectra than features; with it, all is equal.
    network = mini.encoder.network
    assert isinstance(network, PhoneEncoder)
    spectra = network.log_mel(load_audio(EXAMPLES / "source.wav")[None, : 2 * RATE])[0]
    pitch = functional.pad(frames[:, mini.encoder.columns.synth][:, -2:], (0, 0, 0, 1))
    made = mini.encoder.complete(torch.cat([spectra, pitch], dim=1))
    assert torch.allclose(made[: len(frames)], frames, atol=1e-3)


def test_speak(speaker: VoiceConverter, voice: Path) -> None:
    wave, rate = speaker.speak("It costs $5. Really?", voice)
    assert rate == RATE
    assert wave.dtype == np.float32
    heard = parrot_of(speaker).heard
    assert (heard[0], heard[-1]) == ("ɪt kˈɔsts fˈaɪv dˈɑːlɚz.", "ɹˈiəli?")
    # Two sentences of 4 frames a sign, without the silence at their ends, and a pause.
    assert 0.5 < len(wave) / RATE < (4 * 33 * 0.02) + SENTENCE_PAUSE + 0.1
    assert loudness_gain(torch.from_numpy(wave), RATE) == pytest.approx(1.0, abs=0.01)


def test_lam_0_is_the_front_ends_own_voice(speaker: VoiceConverter, voice: Path) -> None:
    options = SpeakOptions(lam=0.0)
    own, _ = speaker.speak("Hello there.", None, options)
    with_reference, _ = speaker.speak("Hello there.", voice, options)
    other, _ = speaker.speak("Hello there.", voice, SpeakOptions(lam=1.0))
    assert np.allclose(own, with_reference, atol=1e-5)
    assert not np.array_equal(own, other)
    with pytest.raises(UsageError, match="there are no references"):
        speaker.speak("Hello there.")


def test_the_seed_decides(speaker: VoiceConverter) -> None:
    def say(**options: Any) -> Any:
        return speaker.speak("Hello there.", None, SpeakOptions(lam=0.0, **options))[0]

    assert np.array_equal(say(seed=1), say(seed=1))
    assert not np.array_equal(say(seed=1), say(seed=2))
    assert np.array_equal(say(seed=1, noise=0.0), say(seed=2, noise=0.0))


def test_speed_shortens_speech_and_pauses(speaker: VoiceConverter) -> None:
    text = "One two three four.\n\nFive six seven eight."
    lengths = [
        len(speaker.speak(text, None, SpeakOptions(lam=0.0, noise=0.0, speed=speed))[0])
        for speed in (1.0, 2.0)
    ]
    assert 0.3 < lengths[1] / lengths[0] < 0.7
    assert lengths[0] > PARAGRAPH_PAUSE * RATE


def test_the_statistics_are_the_front_ends_and_not_of_one_sentence(
    mini: VoiceConverter, frames: Tensor, voice: Path
) -> None:
    """A part of a sentence becomes the same frames as within the whole, but for its edges."""
    old = mini.speaker.parts.speech_converter
    assert isinstance(old, MiniConverter)

    def halves(speaker: Callable[[], Tensor] | None) -> tuple[Tensor, Tensor]:
        made = MiniConverter(old.config, old.encoder, None, speaker)
        target = [(made.prepare(mini.matching_set(voice)), 1.0)]
        both = made.convert(frames, target).values[:40]
        return both, made.convert(frames[:50], target).values[:40]

    pitch = mini.encoder.columns.pitch
    assert pitch is not None
    whole, part = halves(lambda: frames)
    assert torch.allclose(whole[:, pitch], part[:, pitch])
    whole, part = halves(None)
    assert not torch.allclose(whole[:, pitch], part[:, pitch])


def test_progress_counts_sentences(speaker: VoiceConverter) -> None:
    told: list[tuple[str, int, int]] = []
    speaker.speak("One. Two. Three.", None, SpeakOptions(lam=0.0), lambda *now: told.append(now))
    assert [now for now in told if now[0] == "speaking"] == [("speaking", n, 3) for n in range(4)]


def test_another_language_gets_the_nearest_sounds(speaker: VoiceConverter) -> None:
    speaker.speak("Guten Tag.", None, SpeakOptions(lam=0.0, language="de"))
    assert set(parrot_of(speaker).heard[-1]) <= SYMBOLS
    with pytest.raises(UsageError, match="does not speak"):
        speaker.speak("Guten Tag.", None, SpeakOptions(lam=0.0, language="tlh"))


def test_sounds_that_are_left_out_are_told_once(speaker: VoiceConverter, tmp_path: Path) -> None:
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("click\taǃb", encoding="utf-8")
    options = SpeakOptions(lam=0.0, lexicon=lexicon)
    with pytest.warns(KnnvcWarning, match="leaves out the sounds that it does not know: ǃ") as told:
        speaker.speak("click. click.", None, options)
    assert len(told) == 1
    lexicon.write_text("click\tǃ", encoding="utf-8")
    with pytest.raises(KnnvcError, match="knows none of the sounds"):
        speaker.speak("click", None, options)


def test_published_front_end(talking: Path, voice: Path) -> None:
    converter = VoiceConverter.from_preset(talking, "cpu")
    assert converter.speaker.parts.front_end.language == "en-us"
    wave, _ = converter.speak("hello", voice)
    assert np.isfinite(wave).all()
    again, _ = synthesize("hello", voice, preset=talking, device="cpu")
    assert np.array_equal(wave, again)


def test_synthesize_knows_its_options(talking: Path) -> None:
    with pytest.raises(UsageError, match="unknown option 'speeed'"):
        synthesize("hello", None, 0.0, preset=talking, speeed=2)


@pytest.mark.parametrize(
    "options",
    [{"speed": 0.1}, {"speed": float("nan")}, {"noise": -1}, {"seed": -1}, {"lam": 3}, {"k": 0}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SpeakOptions(**options)


def test_a_preset_without_a_front_end(preset: Path) -> None:
    converter = VoiceConverter.from_preset(preset, "cpu")
    with pytest.raises(UsageError, match="has no text front end, so it cannot speak"):
        converter.speak("hello", None, SpeakOptions(lam=0.0))


def changed(talking: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Preset:
    shutil.copytree(talking, folder)
    values = json.loads((folder / "preset.json").read_text(encoding="utf-8"))
    change(values["text_front_end"])
    (folder / "preset.json").write_text(json.dumps(values), encoding="utf-8")
    return load_preset(folder)


def test_a_front_end_of_another_encoder(
    talking: Path, tmp_path: Path, mini: VoiceConverter
) -> None:
    bundled = bundled_folder() / "mini"
    folder = tmp_path / "mixed"
    shutil.copytree(bundled, folder)
    values = json.loads((folder / "preset.json").read_text(encoding="utf-8"))
    theirs = json.loads((talking / "preset.json").read_text(encoding="utf-8"))
    values["text_front_end"] = theirs["text_front_end"]
    (folder / "preset.json").write_text(json.dumps(values), encoding="utf-8")
    shutil.copy(talking / "text_front_end.safetensors", folder)
    shutil.copy(talking / "text_front_end.safetensors", folder / "text_front_end.safetensors")
    converter = VoiceConverter.from_preset(folder, "cpu")
    with pytest.raises(KnnvcError, match="use a front end that was trained"):
        converter.speak("hello", None, SpeakOptions(lam=0.0))
    # One that is given from outside is checked when it has spoken.
    mini_like = VoiceConverter(
        mini.encoder, mini.converter, mini.vocoder, Parrot(torch.ones(50, 7))
    )
    with pytest.raises(KnnvcError, match=r"this vocoder takes \[frames, 162\]"):
        mini_like.speak("hello", None, SpeakOptions(lam=0.0))


def test_a_front_end_that_does_not_fit_its_configuration(talking: Path, tmp_path: Path) -> None:
    def widen(frontend: dict[str, Any]) -> None:
        frontend["config"]["encoder_layers"] += 1

    changed(talking, tmp_path / "wide", widen)
    converter = VoiceConverter.from_preset(tmp_path / "wide", "cpu")
    with pytest.raises(KnnvcError, match="does not fit its configuration") as error:
        converter.speak("hello", None, SpeakOptions(lam=0.0))
    assert "\n" not in str(error.value)


# Joining ------------------------------------------------------------------------------------------


def test_spool_is_what_went_in() -> None:
    pieces = [torch.randn(n) for n in (1, 1000, 7)]
    with Spool() as spool:
        assert len(spool.waveform()) == 0
        for piece in pieces:
            spool.append(piece)
        assert torch.equal(spool.waveform(), torch.cat(pieces))


def test_trim_edges() -> None:
    speech = torch.sin(torch.arange(RATE) * 0.1)
    padded = torch.cat([torch.zeros(RATE), speech, 0.001 * torch.randn(RATE)])
    cut = trim_edges(padded, RATE)
    assert RATE <= len(cut) <= 1.15 * RATE
    assert cut[0] == cut[-1] == 0
    assert torch.equal(trim_edges(torch.zeros(RATE), RATE), torch.zeros(RATE))
    assert len(silence(0.35, RATE)) == 5600


# The command line ---------------------------------------------------------------------------------


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """`run(arg, ...)`: `knnvc speak arg ...` in an empty folder: exit code, stdout, stderr.

    Nothing comes through stdin: pytest's own stand-in for it cannot be read.
    """
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def call(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code: Any = None
        try:
            cli.main(["speak", *map(str, args)], prog_name="knnvc")
        except SystemExit as stop:
            code = stop.code
        return code, *capfd.readouterr()

    return call


Run = Callable[..., tuple[int, str, str]]


def test_speak_on_the_command_line(run: Run, talking: Path, voice: Path) -> None:
    common = ("--ref", voice, "--preset", talking)
    assert run("hello", *common, "-o", "out.wav") == (0, "out.wav\n", "")
    assert sf.info("out.wav").duration > 0.01
    assert run("hello", *common)[1] == f"speech_as_{voice.stem}.wav\n"
    assert run("hello", "--lam", 0, "--preset", talking)[1] == "speech_own_voice.wav\n"


def test_every_option_at_once(run: Run, talking: Path, voice: Path) -> None:
    Path("words.txt").write_text("hello\thəlˈoʊ", encoding="utf-8")
    Path("old.flac").write_bytes(b"old")
    args = (
        *(
            "hello",
            "--ref",
            f"{voice}:0.5",
            "--ref",
            f"{voice}:0.5",
            "-o",
            "old.flac",
            "--lam",
            0.5,
        ),
        *("--k", 2, "--speed", 0.5, "--noise", 0, "--seed", 3, "--language", "en-gb", "--force"),
        *("--lexicon", "words.txt", "--no-loudness", "--no-trim", "--device", "cpu"),
    )
    assert run(*args, "--preset", talking) == (0, "old.flac\n", "")
    assert sf.info("old.flac").format == "FLAC"


def test_text_from_files_and_stdin(
    run: Run, talking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--lam", 0, "--preset", talking, "--noise", 0, "-o")
    assert run("hello", *common, "a.wav")[0] == 0
    Path("text.txt").write_bytes("\ufeffhello\r\n".encode())
    Path("wide.txt").write_bytes("hello".encode("utf-16"))
    assert run("-f", "text.txt", *common, "b.wav")[0] == 0
    assert run("-f", "wide.txt", *common, "c.wav")[0] == 0
    for name, args in (("d.wav", ("-",)), ("e.wav", ("-f", "-"))):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello\n")))
        assert run(*args, *common, name)[0] == 0
    assert len({Path(f"{name}.wav").read_bytes() for name in "abcde"}) == 1


def test_languages_are_listed(run: Run) -> None:
    code, out, err = run("--languages")
    assert (code, err) == (0, "")
    assert "de " in out
    assert len(out.splitlines()) > 100
    out.encode("ascii")


BINARY = bytes(range(128, 256))
BAD: dict[str, tuple[int, tuple[Any, ...], str]] = {
    "no text": (2, (), "there is no text"),
    "two texts": (2, ("hello", "-f", "text.txt"), "give one of them"),
    "empty": (1, ("",), "the text is empty"),
    "spaces": (1, (" \n ",), "the text is empty"),
    "punctuation": (1, ("?!...",), "give one with words in it"),
    "emoji": (1, ("😀",), "give one with words in it"),
    "control characters": (1, ("\x01\x02",), "give one with words in it"),
    "missing file": (2, ("-f", "none.txt"), "does not exist"),
    "a folder": (2, ("-f", "."), "does not exist or is no file"),
    "no text file": (1, ("-f", "binary.txt"), "no UTF-8 text; save it as UTF-8"),
    "empty file": (1, ("-f", "empty.txt"), "the text is empty"),
    "language": (2, ("hello", "--language", "deutsch"), "close matches are de (German)"),
    "lexicon": (1, ("hello", "--lexicon", "text.txt"), "line 1 of the lexicon"),
    "no lexicon": (2, ("hello", "--lexicon", "none.txt"), "does not exist"),
    "speed": (2, ("hello", "--speed", "9"), "from 0.25 to 4"),
    "noise": (2, ("hello", "--noise", "-1"), "from 0 to 2"),
    "seed": (2, ("hello", "--seed", "-1"), "a whole number from 0"),
    "lam": (2, ("hello", "--lam", "nan"), "from 0 (source) to 2"),
    "reference": (2, ("hello", "--ref", "none/"), "does not exist"),
    "output": (2, ("hello", "-o", "out.txt"), "end it in .wav"),
    "output there": (2, ("hello", "-o", "there.wav"), "overwrite it with --force"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_input_is_one_sentence_and_leaves_nothing(
    run: Run, talking: Path, kind: str, tmp_path: Path
) -> None:
    for name, content in (("text.txt", b"hello"), ("binary.txt", BINARY), ("empty.txt", b"")):
        Path(name).write_bytes(content)
    Path("there.wav").write_bytes(b"precious")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, args, message = BAD[kind]
    common = () if "--lam" in args else ("--lam", 0)
    output = () if "-o" in args else ("-o", "out.wav")
    result = run(*args, *common, *output, "--preset", talking)
    assert result[:2] == (code, "")
    assert message in result[2]
    assert result[2].startswith("Error: ")
    assert result[2].count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_terminal_is_not_waited_for(
    run: Run, talking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sits before an empty line and wonders."""
    waiting = io.TextIOWrapper(io.BytesIO(b"typed"))
    monkeypatch.setattr(waiting, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", waiting)
    code, out, err = run("--lam", 0, "--preset", talking)
    assert (code, out) == (2, "")
    assert err.startswith("Error: there is no text")


def test_what_presets_lack(run: Run, preset: Path, voice: Path) -> None:
    assert "no text front end" in run("hello", "--ref", voice, "--preset", preset)[2]
    assert "no text front end" in run("hello", "--preset", preset)[2]
    assert "there is no preset" in run("hello", "--lam", 0, "--preset", "tiny")[2]


def test_mixed_scripts_and_a_long_line(run: Run, talking: Path) -> None:
    text = "Hello Москва 北京 😀 and नमस्ते! " * 5
    assert run(text, "--lam", 0, "--preset", talking, "-o", "a.wav")[0] == 0
    assert run("x" * 700, "--lam", 0, "--preset", talking, "-o", "b.wav")[0] == 0
