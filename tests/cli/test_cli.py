"""The command line: what a person types, and one sentence for whatever is wrong with it."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc.audio import load_audio
from knnvc.cli import common as module
from knnvc.cli.common import Progress
from knnvc.cli.main import cli
from knnvc.converters.matching_set import load
from knnvc.presets.importing import import_published
from knnvc.presets.search import bundled_folder

RATE = 16_000
EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"


def noise(seconds: float, seed: int = 0, level: float = 0.05) -> np.ndarray[Any, Any]:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def record(path: Path, samples: Any, rate: int = RATE, **format_: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, **format_)
    return path


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]
SUSPECTED = r"Warning: the references? .*(hold only|hardly changes).*: give "


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("convert", path, ...)`: the command in this process; bugs come out as exceptions."""

    def call(*args: object) -> Result:
        capfd.readouterr()
        code: Any = None
        try:
            cli.main([str(arg) for arg in args], prog_name="knnvc")
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        # The references here are short noises, and what is said of such is tested elsewhere.
        kept = [line for line in err.splitlines(True) if not re.match(SUSPECTED, line)]
        return Result(code, out, "".join(kept))

    return call


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of every command, and a cache of its own."""
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("sources") / "talk.wav", noise(0.5, seed=9))


@pytest.fixture(scope="module")
def anna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixed folder: recordings in two formats, one of them deeper, and other files."""
    folder = tmp_path_factory.mktemp("voices") / "anna"
    record(folder / "b.wav", noise(0.4, seed=1))
    record(folder / "may" / "a.flac", noise(0.4, seed=2))
    (folder / "notes.txt").write_text("recorded in May")
    (folder / "cover.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / ".hidden.wav").write_bytes(b"")
    return folder


def files(*folders: Path) -> dict[Path, bytes]:
    """Everything below `folders`, hidden files included."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else b"" for path in found}


def traces(folder: Path) -> dict[Path, bytes]:
    """`files`, but for the references that were encoded before something else turned out wrong."""
    cache = folder / "cache"
    return {
        path: content
        for path, content in files(folder).items()
        if path != cache and cache / "matching_sets" not in (path, *path.parents)
    }


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a command that has to fail: one sentence, the exit code, and not a trace on disk."""

    def call(code: int, *args: object) -> str:
        before = traces(tmp_path)
        result = run(*args)
        assert result.code == code, result
        assert result.out == ""
        assert result.err.startswith("Error: ")
        assert result.err.endswith("\n")
        assert result.err.count("\n") == 1
        assert len(result.err) > 20
        assert "Traceback" not in result.err
        assert traces(tmp_path) == before
        return result.err

    return call


# Help ---------------------------------------------------------------------------------------------


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("command", list(commands(cli)), ids=" ".join)
def test_help_of_every_command(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: {' '.join(('knnvc', *command))} ")
    assert run(*command, "-h").out == result.out
    result.out.encode("ascii")  # a Windows console or a pipe may know nothing else


def test_no_arguments_shows_help(run: Run) -> None:
    assert run().out.startswith("Usage: knnvc ")
    assert run("set").out.startswith("Usage: knnvc set ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["convrt"], "No such command 'convrt'"),
        (["convert"], "Missing argument 'SRC...'"),
        (["convert", "x.wav"], "Missing option '--ref'"),
        (["convert", "x.wav", "--ref", "y", "--lamda", "1"], "No such option"),
    ],
)
def test_wrong_usage(refused: Callable[..., str], args: list[str], message: str) -> None:
    assert message in refused(2, *args)


# Converting ---------------------------------------------------------------------------------------


def test_convert(run: Run, preset: Path, source: Path, anna: Path, home: Path) -> None:
    result = run("convert", source, "--ref", anna, "--preset", preset)
    assert (result.code, result.out) == (0, "talk_as_anna.wav\n")
    assert list(files(home)) == [home / "talk_as_anna.wav"]
    assert len(load_audio(home / "talk_as_anna.wav")) == 8000


def test_the_first_command_of_the_readme(run: Run, home: Path) -> None:
    """With the bundled preset, on a piece of the example."""
    record(home / "me.wav", load_audio(EXAMPLES / "source.wav")[:RATE].numpy())
    clip = sorted((EXAMPLES / "target").iterdir())[0]
    result = run("convert", "me.wav", "--ref", clip, "--no-trim", "-o", "out.wav")
    assert (result.code, result.out) == (0, "out.wav\n")
    assert load_audio(home / "out.wav").abs().max() > 0.01


def test_every_option_at_once(run: Run, preset: Path, source: Path, anna: Path, home: Path) -> None:
    common = (
        *("--preset", preset, "--lam", 0.5, "--k", 2, "--weighting", "distance", "--seconds", 0.8),
        *("--no-loudness", "--no-trim", "--device", "cpu", "--force"),
    )
    (home / "out.mp3").write_bytes(b"old")
    result = run("convert", source, "--ref", anna, "-o", "out.mp3", *common)
    assert (result.code, result.out) == (0, "out.mp3\n")
    assert abs(len(load_audio(home / "out.mp3")) / RATE - 0.8) < 0.1  # MP3 pads


def test_blending(run: Run, preset: Path, source: Path, anna: Path, home: Path) -> None:
    ben = record(home / "ben.wav", noise(0.4, seed=3))
    common = ("--preset", preset, "--no-loudness")
    for refs in (
        (f"{anna}:0.7", f"{ben}:0.3"),
        (f"{anna}:1", f"{ben}:1e0"),
        (anna, f"{ben}:1"),
        (f"{anna}:1",),
        (anna,),
    ):
        flags = [part for ref in refs for part in ("--ref", ref)]
        assert run("convert", source, *flags, *common, "-o", f"{len(files(home))}.wav").code == 0
    made = [load_audio(home / f"{number}.wav") for number in range(1, 6)]
    assert torch.equal(made[1], made[2])  # a reference without a weight counts 1
    assert torch.equal(made[3], made[4])
    assert not torch.equal(made[0], made[1])
    flags = ["--ref", f"{anna}:0.7", "--ref", f"{ben}:0.3"]
    assert run("convert", source, *flags, *common).out == "talk_as_anna+ben.wav\n"


def test_a_path_with_a_colon(run: Run, preset: Path, source: Path, home: Path) -> None:
    record(home / "take:2", noise(0.4), format="WAV")
    common = ("--preset", preset, "-o", "out.wav", "--force")
    assert run("convert", source, "--ref", "take:2", *common).code == 0
    assert run("convert", source, "--ref", "take:2:0.5", *common).code == 0


# Good but odd input -------------------------------------------------------------------------------


def truncated(path: Path, keep: float, **format_: str) -> None:
    record(path, noise(0.5), **format_)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


ODD: dict[str, Callable[[Path], object]] = {
    "8-bit": lambda path: record(path, noise(0.4), subtype="PCM_U8"),
    "24-bit": lambda path: record(path, noise(0.4), subtype="PCM_24"),
    "96 kHz": lambda path: record(path, noise(2.4), 96_000),
    "6 channels": lambda path: record(path, noise(2.4).reshape(-1, 6)),
    "a FLAC file named .wav": lambda path: record(path, noise(0.4), format="FLAC"),
    "WAV cut in its data": lambda path: truncated(path, 0.7),
}


@pytest.mark.parametrize("kind", list(ODD))
def test_good_but_odd_recordings(run: Run, preset: Path, home: Path, kind: str) -> None:
    ODD[kind](home / "odd.wav")
    common = ("--preset", preset, "-o", "out.wav", "--force")
    result = run("convert", "odd.wav", "--ref", "odd.wav", *common)
    assert (result.code, result.out) == (0, "out.wav\n")
    assert load_audio(home / "out.wav").abs().max() > 0


# Bad recordings -----------------------------------------------------------------------------------

BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "no samples": lambda path: record(path, np.zeros(0)),
    "one sample": lambda path: record(path, np.full(1, 0.5)),
    "silent": lambda path: record(path, np.zeros(RATE)),
    "NaN": lambda path: record(path, np.full(RATE, np.nan), subtype="FLOAT"),
    "infinite": lambda path: record(path, np.full(RATE, np.inf), subtype="DOUBLE"),
    "cut in its header": lambda path: truncated(path, 0.001),
    "FLAC cut in its header": lambda path: truncated(path, 0.004, format="FLAC"),
    "text": lambda path: path.write_text("This is not a recording.\n" * 100),
    "an archive": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 8),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_recordings(
    refused: Callable[..., str], preset: Path, source: Path, home: Path, kind: str
) -> None:
    """As the source, as the reference, and as all that is in the reference folder."""
    (home / "voice").mkdir()
    for path in (home / "bad.wav", home / "voice" / "bad.wav"):
        BAD[kind](path)
    common = ("--preset", preset, "-o", "out.wav")
    assert "bad.wav" in refused(1, "convert", "bad.wav", "--ref", source, *common)
    assert "bad.wav" in refused(1, "convert", source, "--ref", "bad.wav", *common)
    assert "bad.wav" in refused(1, "convert", source, "--ref", "voice", *common)
    assert "bad.wav" in refused(1, "set", "build", "voice", "-o", "v.safetensors", *common[:2])
    assert "bad.wav" in refused(1, "resynth", "bad.wav", "--vocoder", "world", "-o", "out.wav")


def test_missing_paths(
    refused: Callable[..., str], preset: Path, source: Path, anna: Path, home: Path
) -> None:
    (home / "empty").mkdir()
    (home / "other").mkdir()
    (home / "other" / "notes.txt").write_text("nothing to hear")
    common = ("--preset", preset, "-o", "out.wav")
    assert "does not exist" in refused(2, "convert", "no.wav", "--ref", anna, *common)
    assert "does not exist" in refused(2, "convert", source, "--ref", "no/", *common)
    assert "does not exist" in refused(2, "convert", "", "--ref", anna, *common)
    assert "does not exist" in refused(2, "convert", source, "--ref", "", *common)
    assert "does not exist" in refused(2, "convert", source, "--ref", ":0.5", *common)
    assert "does not exist" in refused(2, "convert", source, "--ref", f"{anna}:x", *common)
    assert "does not exist" in refused(2, "set", "build", f"{anna}:0.7", "-o", "a.safetensors")
    for folder in ("empty", "other"):
        assert "no audio files" in refused(2, "convert", source, "--ref", folder, *common)
        assert "no audio files" in refused(2, "convert", folder, "--ref", anna, *common)
    long = "x" * 300 + ".wav"
    assert "too long" in refused(1, "convert", long, "--ref", anna, *common)


def test_a_bad_recording_in_a_reference_folder_is_skipped(
    run: Run, preset: Path, source: Path, home: Path
) -> None:
    record(home / "voice" / "good.wav", noise(0.4))
    record(home / "voice" / "silent.wav", np.zeros(RATE))
    common = ("--ref", "voice", "--preset", preset, "--no-loudness", "-o", "out.wav")
    result = run("convert", source, *common)
    assert (result.code, result.out) == (0, "out.wav\n")
    silent = Path("voice", "silent.wav")
    assert result.err.startswith(f"Warning: skipped a reference: {silent} is entirely silent")
    assert result.err.count("\n") == 1


def test_a_reference_shorter_than_k(
    refused: Callable[..., str], preset: Path, source: Path, home: Path
) -> None:
    short = record(home / "short.wav", noise(0.065))
    common = ("convert", source, source, "--ref", short, "--preset", preset, "-o", "out/")
    assert "both become" in refused(2, *common)
    other = record(home / "other.wav", noise(0.4))
    # Said once, not for every source.
    common = ("convert", source, other, "--ref", short, "--preset", preset, "-o", "out/")
    assert "hold 3 frames of speech but k is 4" in refused(1, *common, "--no-trim")
    assert "hold 3 frames of speech but k is 9" in refused(1, *common, "--no-trim", "--k", 9)


# Bad options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--lam", "-0.1", "from 0 (source) to 2"),
        ("--lam", "2.01", "from 0 (source) to 2"),
        ("--lam", "nan", "from 0 (source) to 2"),
        ("--lam", "much", "not a valid float"),
        ("--k", "0", "1 or more"),
        ("--k", "-4", "1 or more"),
        ("--k", "1.5", "not a valid integer"),
        ("--seconds", "0", "from 0.02 to 86400"),
        ("--seconds", "-3", "from 0.02 to 86400"),
        ("--seconds", "nan", "from 0.02 to 86400"),
        ("--seconds", "1e9", "from 0.02 to 86400"),
        ("--weighting", "median", "'mean', 'distance'"),
        ("--device", "tpu", "choose one of auto, cpu, cuda, mps"),
        ("--preset", "min", "did you mean mini?"),
        ("--preset", "wavlm-large", "knnvc preset pull wavlm-large"),
        ("--preset", ".", "no preset.json"),
        ("--ref", "SOURCE:0", "must be a positive number"),
        ("--ref", "SOURCE:-1", "must be a positive number"),
        ("--ref", "SOURCE:nan", "must be a positive number"),
        ("--ref", "SOURCE:inf", "must be a positive number"),
    ],
)
def test_options_out_of_range(
    refused: Callable[..., str], source: Path, option: str, value: str, message: str
) -> None:
    value = value.replace("SOURCE", str(source))
    assert message in refused(2, "convert", source, "--ref", source, option, value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_not_there(refused: Callable[..., str], source: Path) -> None:
    message = refused(2, "convert", source, "--ref", source, "--device", "cuda")
    assert "not available here: use --device auto" in message


# Outputs ------------------------------------------------------------------------------------------


def test_several_sources_go_into_a_folder(
    run: Run, preset: Path, source: Path, anna: Path, home: Path
) -> None:
    record(home / "takes" / "1.wav", noise(0.3))
    record(home / "takes" / "more" / "1.flac", noise(0.3))
    (home / "takes" / "list.txt").write_text("two takes")
    common = ("--ref", anna, "--preset", preset)
    result = run("convert", source, "takes", *common, "-o", "out")
    paths = [Path("out", "talk.wav"), Path("out", "1.wav"), Path("out", "more", "1.wav")]
    assert result.code == 0
    assert [Path(line) for line in result.out.splitlines()] == paths
    assert all(path.is_file() for path in paths)
    # One source: a folder if it ends in a slash or is there already.
    assert run("convert", source, *common, "-o", "new/").out == f"{Path('new', 'talk.wav')}\n"
    (home / "there").mkdir()
    assert run("convert", source, *common, "-o", "there").out == f"{Path('there', 'talk.wav')}\n"


def test_one_bad_source_does_not_stop_the_others(
    run: Run, preset: Path, source: Path, anna: Path, home: Path
) -> None:
    record(home / "silent.wav", np.zeros(RATE))
    record(home / "z.wav", noise(0.3))
    common = ("--ref", anna, "--preset", preset, "--no-loudness", "-o", "out")
    result = run("convert", source, "silent.wav", "z.wav", *common)
    assert result.code == 1
    assert result.out.splitlines() == [str(Path("out", name)) for name in ("talk.wav", "z.wav")]
    assert result.err.startswith("Error: silent.wav is entirely silent")
    assert result.err.count("\n") == 1
    assert sorted(path.name for path in (home / "out").iterdir()) == ["talk.wav", "z.wav"]


def test_outputs_that_cannot_be(
    refused: Callable[..., str], preset: Path, source: Path, anna: Path, home: Path
) -> None:
    for name in ("a/x.wav", "b/x.wav", "y.wav", "talk_as_anna.wav"):
        record(home / name, noise(0.3))
    common = ("--ref", anna, "--preset", preset)
    convert = ("convert", source, *common)
    assert "exists" in refused(2, *convert)
    assert "exists" in refused(2, *convert, "-o", "y.wav")
    assert "exists" in refused(2, "convert", "a/x.wav", *common, "-o", "b")
    assert "is itself a source" in refused(2, "convert", "y.wav", *common, "-o", "y.wav")
    assert "is itself a source" in refused(2, "convert", "y.wav", *common, "-o", ".", "--force")
    both = ("convert", "a/x.wav", "b/x.wav", *common, "--force")
    assert "would both become" in refused(2, *both, "-o", "out")
    assert "would both become" in refused(2, *both)
    assert "2 sources; name a folder" in refused(2, *both, "-o", "out.WAV")
    assert "y.wav is a file; name a folder" in refused(2, *both, "-o", "y.wav")
    assert "y.wav is a file" in refused(2, *convert, "-o", "y.wav/out.wav")
    assert "end it in .wav, .flac, .ogg, .mp3, or in /" in refused(2, *convert, "-o", "out")
    assert "end it in .wav" in refused(2, *convert, "-o", "out.aiff")
    assert "empty name" in refused(2, *convert, "-o", "")
    own = ("convert", source, "--ref", "a", "--preset", preset)
    assert "is one of the references" in refused(2, *own, "-o", "a/x.wav", "--force")
    # A source that the converting of another one would replace.
    chain = ("convert", source, "talk_as_anna.wav", *common, "--force")
    assert "talk_as_anna.wav is itself a source" in refused(2, *chain)


def test_an_output_that_the_system_refuses(
    refused: Callable[..., str],
    preset: Path,
    source: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convert = ("convert", source, "--ref", source, "--preset", preset)
    if Path("/proc/version").exists():  # nobody writes there, not even root
        assert "cannot write /proc/out.wav" in refused(1, *convert, "-o", "/proc/out.wav")
        assert "cannot write" in refused(1, *convert, "-o", "/proc/new/out.wav")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home)
    assert "permission denied; choose another" in refused(2, *convert, "-o", "out.wav")
    assert "permission denied; choose another" in refused(2, *convert, "-o", "new/out.wav")


def test_a_result_with_peaks_is_told_about_once(
    run: Run, preset: Path, source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knnvc.vocoders.chunked import ChunkedVocoder

    spike = torch.zeros(RATE)
    spike[5] = 4.0
    monkeypatch.setattr(ChunkedVocoder, "__call__", lambda *_, **__: spike)
    record(home / "b.wav", noise(0.3))
    common = ("--ref", source, "--preset", preset, "--no-loudness", "-o", "out")
    result = run("convert", source, "b.wav", *common)
    assert result.code == 0
    first, second = result.err.splitlines()
    for line in (first, second):
        assert re.match(r"Warning: out/(talk|b)\.wav has ", line)
        assert line.endswith("single peaks are so high that it cannot be louder.")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "out of memory"),
        (OSError(5, "Input/output error", "talk.wav"), 1, "Input/output error (talk.wav)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_may_happen_to_anyone(
    run: Run,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("knnvc.pipeline.resynthesize", lambda *_args, **_options: fail())
    result = run("resynth", source, "--vocoder", "world")
    assert (result.code, result.out) == (code, "")
    (line,) = result.err.split("\n")[:-1] if code != 130 else result.err.strip().split("\n")
    assert line.startswith("Error: ")
    assert message in line


def test_a_bug_keeps_its_traceback(run: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("knnvc.pipeline.resynthesize", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("resynth", source, "--vocoder", "world")


def test_resynth(run: Run, preset: Path, source: Path, home: Path) -> None:
    for vocoder in ("preset", "world", "griffin-lim"):
        result = run("resynth", source, "--vocoder", vocoder, "--preset", preset)
        assert (result.code, result.out) == (0, f"talk_{vocoder}.wav\n")
        assert len(load_audio(home / f"talk_{vocoder}.wav")) == pytest.approx(8000, abs=640)


# Matching sets ------------------------------------------------------------------------------------


def test_sets(run: Run, preset: Path, source: Path, anna: Path, home: Path) -> None:
    common = ("--preset", preset)
    built = run("set", "build", anna, "-o", "a.safetensors", "--licence", "CC0", *common)
    assert built.code == 0
    assert built.out.startswith("a.safetensors\n  speaker  anna\n")
    build = ("set", "build", source, "-o", "b.safetensors", "--speaker", "Ben", *common)
    assert run(*build).code == 0
    merged = run("set", "merge", "a.safetensors", "b.safetensors", "-o", "ab.safetensors")
    assert "speaker  anna; Ben" in merged.out
    again = run("set", "merge", "ab.safetensors", "b.safetensors", "-o", "abb.safetensors")
    assert again.err == "Warning: the recording talk.wav is there twice: it counts once\n"
    info = run("set", "info", "ab.safetensors")
    assert (info.code, info.err) == (0, "")
    for text in ("CC0", "tiny", "from 3 files", "a.flac  0.4 s", "talk.wav  0.5 s"):
        assert text in info.out
    parts = [load(home / f"{name}.safetensors") for name in ("a", "b", "ab")]
    assert len(parts[0].match) + len(parts[1].match) == len(parts[2].match)

    plain = (*common, "--no-loudness")
    for number, ref in enumerate((anna, "a.safetensors")):
        assert run("convert", source, "--ref", ref, "-o", f"{number}.wav", *plain).code == 0
    folder, saved = load_audio(home / "0.wav"), load_audio(home / "1.wav")
    assert (folder - saved).abs().max() < 0.02 * folder.abs().max()
    # Sets and recordings make one voice together, or blend.
    mixed = ("--ref", "a.safetensors", "--ref", source)
    assert run("convert", source, *mixed, "-o", "m.wav", *plain).code == 0
    blend = ("--ref", "a.safetensors:0.5", "--ref", f"{source}:2")
    assert run("convert", source, *blend, "-o", "n.wav", *plain).code == 0


def test_bad_sets(
    run: Run, refused: Callable[..., str], preset: Path, source: Path, anna: Path, home: Path
) -> None:
    assert run("set", "build", source, "-o", "good.safetensors", "--preset", preset).code == 0
    content = (home / "good.safetensors").read_bytes()
    (home / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (home / "empty.safetensors").write_bytes(b"")
    torch.save({"match": torch.zeros(3, 3)}, home / "pickle.safetensors")
    shutil.copy(preset / "vocoder.safetensors", home / "weights.safetensors")
    convert = ("convert", source, "--preset", preset, "-o", "out.wav", "--ref")
    for name in ("cut", "empty", "pickle", "weights"):
        path = f"{name}.safetensors"
        assert path in refused(1, *convert, path)
        assert path in refused(1, "set", "info", path)
        assert path in refused(1, "set", "merge", "good.safetensors", path, "-o", "m.safetensors")
    assert "talk.wav" in refused(1, "set", "info", source)
    assert "no file" in refused(2, "set", "info", "no.safetensors")
    build = ("set", "build", anna, "--preset", preset, "-o")
    assert "exists" in refused(2, *build, "good.safetensors")
    assert "NAME.safetensors" in refused(2, *build, "anna.npz")
    assert "is a file; choose another" in refused(2, *build, "good.safetensors/x.safetensors")
    assert "exists" in refused(2, "set", "merge", "cut.safetensors", "-o", "good.safetensors")


def test_a_set_from_another_encoder(
    run: Run, refused: Callable[..., str], parity: Path, preset: Path, source: Path, home: Path
) -> None:
    weights = (parity / "hifigan_tiny.pt", parity / "hifigan_tiny.json")
    import_published(parity / "wavlm_tiny.pt", 5, *weights, home / "five")
    assert run("set", "build", source, "-o", "5.safetensors", "--preset", "five").code == 0
    convert = ("convert", source, "--ref", "5.safetensors", "--preset", preset, "-o", "out.wav")
    message = refused(1, *convert)
    assert "fits the encoder of preset 'five'" in message
    assert "and not 'tiny'" in message
    assert run("set", "build", source, "-o", "6.safetensors", "--preset", preset).code == 0
    merge = ("set", "merge", "5.safetensors", "6.safetensors", "-o", "56.safetensors")
    assert "preset 'tiny'" in refused(1, *merge)


# Presets ------------------------------------------------------------------------------------------


def test_presets(run: Run, parity: Path, source: Path, home: Path) -> None:
    listed = run("preset", "list")
    assert listed.code == 0
    names = {line.split()[0]: line.split()[1] for line in listed.out.splitlines()}
    assert names["mini"] == "bundled"
    assert names["wavlm-large"] == "available"
    assert "\n  encoder                  mini, " in run("preset", "info", "mini").out
    published = run("preset", "info", "wavlm-large").out
    assert "knnvc preset pull wavlm-large" in published
    assert "6fb4b3c3e6aa567f0a997b30855859cb81528ee8078802af439f7b2da0bf100f" in published

    flags = ("--encoder", parity / "wavlm_tiny.pt", "--vocoder", parity / "hifigan_tiny.pt")
    config = ("--vocoder-config", parity / "hifigan_tiny.json")
    made = run("preset", "import", *flags, *config, "--layer", 6, "own")
    assert (made.code, made.out) == (0, "own\n")
    assert "match_layer 6, synth_layer 6" in run("preset", "info", "own").out
    result = run("convert", source, "--ref", source, "--preset", "own", "-o", "out.wav")
    assert (result.code, result.out) == (0, "out.wav\n")


class Code:
    """Unpickling an instance calls `Path.touch`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_bad_imports(refused: Callable[..., str], parity: Path, preset: Path, home: Path) -> None:
    good = {
        "--encoder": parity / "wavlm_tiny.pt",
        "--vocoder": parity / "hifigan_tiny.pt",
        "--vocoder-config": parity / "hifigan_tiny.json",
    }

    def attempt(code: int, *more: object, **changed: object) -> str:
        options = good | {"--" + name.replace("_", "-"): path for name, path in changed.items()}
        flags = [part for option in options.items() for part in option]
        return refused(code, "preset", "import", *flags, *more, "own")

    torch.save({"cfg": {}, "model": {}, "extra": Code()}, home / "code.pt")
    (home / "bare.pt").write_bytes(pickle.dumps({"generator": Code()}))
    content = (parity / "wavlm_tiny.pt").read_bytes()
    (home / "cut.pt").write_bytes(content[: len(content) // 2])
    (home / "damaged.json").write_text("{")
    assert "carries code" in attempt(1, encoder=home / "code.pt")
    assert "carries code" in attempt(1, vocoder=home / "code.pt")
    attempt(1, vocoder=home / "bare.pt")
    assert not (home / "ran").exists()
    attempt(1, encoder=home / "cut.pt")
    attempt(1, encoder=parity / "hifigan_tiny.pt")
    attempt(1, vocoder=parity / "wavlm_tiny.pt")
    attempt(1, vocoder_config=home / "damaged.json")
    assert "does not exist" in attempt(2, vocoder_config=home / "no.json")
    assert "layers 1 to 8" in attempt(2, "--layer", 9)
    assert "layers 1 to 8" in attempt(2, "--layer", 0)
    (home / "own").mkdir()
    (home / "own" / "notes.txt").write_text("mine")
    assert "holds other files" in attempt(2, "--force")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("preset.json", None, b"{"),
        ("preset.json", None, b"[]"),
        ("preset.json", b'"layer', b'"Layer'),
        ("preset.json", b'"match_layer": 6', b'"match_layer": 60'),
        ("preset.json", b'"format_version": 2', b'"format_version": 3'),
        ("preset.json", b'"hubert_dim": 96', b'"hubert_dim": 64'),
        ("preset.json", b'"hidden_size": 96', b'"hidden_size": 48'),
        ("preset.json", b'"num_attention_heads": 6', b'"num_attention_heads": 0'),
        ("preset.json", b'"hidden_size": 96', b'"hidden_size": "96"'),
        ("encoder.safetensors", None, b"cut"),
        ("vocoder.safetensors", None, b""),
        ("vocoder.safetensors", None, None),
    ],
)
def test_damaged_presets(
    refused: Callable[..., str],
    preset: Path,
    source: Path,
    home: Path,
    name: str,
    old: bytes | None,
    new: bytes | None,
) -> None:
    shutil.copytree(preset, home / "own")
    if new is None:
        (home / "own" / name).unlink()
    elif old is None:
        (home / "own" / name).write_bytes(new)
    else:
        content = (home / "own" / name).read_bytes()
        assert old in content
        (home / "own" / name).write_bytes(content.replace(old, new))
    refused(1, "convert", source, "--ref", source, "--preset", "own", "-o", "out.wav")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("encoder", "heads", 0),
        ("encoder", "hidden", -1),
        ("encoder", "layers", 7),
        ("encoder", "mels", "80"),
        ("vocoder", "substeps", 0),
        ("vocoder", "kernel", 2.5),
        ("vocoder", "mels", 40),
        ("vocoder", "depth", 3),
    ],
)
def test_a_mini_that_does_not_fit_its_configuration(
    refused: Callable[..., str], source: Path, home: Path, part: str, key: str, value: object
) -> None:
    shutil.copytree(bundled_folder() / "mini", home / "own")
    content = json.loads((home / "own" / "preset.json").read_text())
    content[part]["config"][key] = value
    (home / "own" / "preset.json").write_text(json.dumps(content))
    refused(1, "convert", source, "--ref", source, "--preset", "own", "-o", "out.wav")


# Progress -----------------------------------------------------------------------------------------


def on_terminal(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> str:
    """What `work` writes to stderr when that is a terminal."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setenv("TERM", "xterm")
        work()
        terminal.flush()
        # The kernel hands what was written over in pieces, and not all of it at once.
        written, end = b"", b"the end of what was written"
        os.write(writing, end)
        while not written.endswith(end):
            written += os.read(reading, 1 << 20)
    os.close(reading)
    return written.removesuffix(end).decode()


def stages(fail: bool = False) -> None:
    with Progress() as progress:
        for stage, total in (("references", 200), ("references", 100), ("encoding", 3)):
            for done in (0, total // 2, total):
                progress(stage, done, total)
        progress("vocoding", 0, 10)
        if fail:
            raise ValueError("the work failed")


def test_bars_appear_on_a_terminal_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)

    def failing() -> None:
        with pytest.raises(ValueError, match="the work failed"):
            stages(fail=True)

    for work in (stages, failing):
        written = on_terminal(monkeypatch, work)
        assert written.count("100%") == 3
        for stage in ("references", "encoding", "vocoding"):
            assert stage in written
        # Each of the four bars shows the cursor again, and its line is cleared.
        assert written.count("\033[?25l") >= 4
        assert written.count("\033[2K") == 4
        assert written.endswith("\033[?25h\r\n\033[1A\033[2K")


def test_bars_count_what_a_person_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, sentences and seconds of speech, but no frames and no bytes."""
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)

    def work() -> None:
        with Progress() as progress:
            progress("references", 150, 300)
            progress("speaking", 2, 7)
            progress("encoding", 1, 4)
            progress.frame = 0.02
            progress("encoding", 100, 400)
            progress.files = "file 2 of 5"
            progress("matching", 200, 400)
            progress("downloading", 10_000, 20_000)

    written = on_terminal(monkeypatch, work)
    for amount in ("1 of 3 files", "2 of 7 sentences", "2 of 8 s of speech"):
        assert amount in written
    assert "4 of 8 s of speech, file 2 of 5" in written
    assert not re.search("of 400|0000|of 4 s", written)


def test_a_warning_takes_the_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from knnvc.errors import KnnvcWarning

    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)

    def work() -> None:
        with Progress() as progress:
            progress("encoding", 1, 3)
            warn = {"filename": "x.py", "lineno": 1, "module": "knnvc.pipeline"}
            warnings.warn_explicit("a thing", KnnvcWarning, **warn)
            warnings.warn_explicit("of torch", UserWarning, **warn | {"module": "torch"})

    written = on_terminal(monkeypatch, work)
    assert written.endswith("\033[1A\033[2KWarning: a thing\r\n")


def test_quick_work_and_pipes_have_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "QUIET_SECONDS", 100.0)
        pipe = io.StringIO()
        patch.setattr(sys, "stderr", pipe)
        stages()
        patch.setattr(module, "QUIET_SECONDS", 0.0)
        stages()
        assert pipe.getvalue() == ""
