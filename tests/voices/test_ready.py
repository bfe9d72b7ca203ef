from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner, Result

import knnvc
from knnvc import VoiceConverter
from knnvc.audio import load_audio, loudness_gain
from knnvc.cli.main import cli
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.voices.ready import (
    CARDS,
    FOLDER_VARIABLE,
    Card,
    Voice,
    list_voices,
    resolve,
    write_cards,
)

CARD = Card(
    source="Kokoro-82M bf_test",
    sex="woman",
    accent="British",
    licence="Apache-2.0",
    seconds=2.0,
    sentences=3,
    pitch=212.0,
    distillmos=4.25,
)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def converter(preset: Path) -> VoiceConverter:
    return VoiceConverter.from_preset(preset, device="cpu")


@pytest.fixture
def voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one ready voice, and a card whose audio is missing."""
    folder = tmp_path / "voices"
    folder.mkdir()
    sf.write(folder / "testa.flac", RNG.normal(0, 0.1, 32_000), 16_000)
    write_cards(folder, {"testa": CARD, "gone": CARD})
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


def test_a_name_stands_for_a_file(voices: Path) -> None:
    assert resolve("voice:testa") == voices / "testa.flac"
    assert list_voices()["testa"] == Voice("testa", voices / "testa.flac", CARD, own=True)
    assert "gone" not in list_voices()
    assert resolve("anna/") == resolve(Path("anna")) == Path("anna")


def test_a_file_of_that_name_comes_first(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("voice:testa").touch()
    assert resolve("voice:testa") == Path("voice:testa")


def test_an_unknown_name_is_told_what_is_spelled_alike(voices: Path) -> None:
    with pytest.raises(UsageError, match=r"no ready voice 'tessa'.* testa.*KNNVC_VOICES"):
        resolve("voice:tessa")
    done = run("convert", "talk.wav", "--ref", "voice:tessa")
    assert done.exit_code == 2
    assert "did you mean testa?" in done.stderr
    assert "…" not in done.stderr  # it is short enough to be shown whole
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"testa": {"source": 1}}', '{"testa": 3}'])
def test_a_damaged_table_is_one_sentence(voices: Path, text: str) -> None:
    (voices / CARDS).write_text(text)
    with pytest.raises(KnnvcError, match="is damaged"):
        list_voices()


def test_voices_are_listed_with_their_cards(voices: Path) -> None:
    done = run("voices")
    assert done.exit_code == 0
    line = next(line for line in done.output.splitlines() if line.startswith("testa "))
    for part in ("woman", "British", "212 Hz", "DistillMOS 4.2", "; 2 s;", "Apache"):
        assert part in line


@pytest.mark.parametrize("weight", ["", ":0.5"])
def test_convert_takes_a_voice_by_name(
    voices: Path, preset: Path, tmp_path: Path, weight: str
) -> None:
    source = tmp_path / "source.wav"
    sf.write(source, RNG.normal(0, 0.1, 16_000), 16_000)
    out = tmp_path / "out.wav"
    done = run(*("convert", source, "--ref", f"voice:testa{weight}", "--preset", preset, "-o", out))
    assert done.exit_code == 0, done.output
    assert out.exists()


def test_python_takes_a_voice_by_name(voices: Path, converter: VoiceConverter) -> None:
    assert converter.matching_set("voice:testa").info.speaker == "testa"
    pairs = converter.voices([("voice:testa", 3.0), ("voice:testa", 1.0)])
    assert [weight for _, weight in pairs] == [0.75, 0.25]


def test_a_set_of_a_voice_states_its_licence(voices: Path, converter: VoiceConverter) -> None:
    assert converter.matching_set("voice:testa").info.licence == CARD.licence
    assert converter.matching_set("voice:testa", licence="CC0").info.licence == "CC0"
    assert converter.matching_set(voices / "testa.flac").info.licence == CARD.licence


def test_a_voice_serves_every_preset_and_needs_no_cache(
    voices: Path, converter: VoiceConverter, mini: VoiceConverter
) -> None:
    for one in (converter, mini):
        kept, made = (one.matching_set("voice:testa", cache=cache) for cache in (True, False))
        assert kept.info.encoder == one.encoder.fingerprint
        assert kept.synth.equal(made.synth)


def test_case_does_not_matter(voices: Path) -> None:
    assert resolve("voice:Testa") == voices / "testa.flac"


def test_a_path_that_is_missing_is_told_from_a_voice(
    voices: Path, converter: VoiceConverter
) -> None:
    with pytest.raises(UsageError, match=r"testa does not exist; did you mean voice:testa\?"):
        converter.matching_set("testa")
    done = run("convert", "talk.wav", "--ref", "testa:0.5")
    assert done.exit_code == 2
    assert "did you mean voice:testa?" in done.stderr


def test_every_shipped_voice_is_a_minute_of_speech(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shipped = list_voices()
    assert {"emma", "george", "heart", "michael"} <= shipped.keys()
    for voice in shipped.values():
        recorded = sf.info(str(voice.path))
        assert recorded.samplerate == 24_000
        assert recorded.duration == pytest.approx(voice.card.seconds, abs=0.1)
        assert 60 <= recorded.duration <= 90
        assert "Apache-2.0" in voice.card.licence
        level = loudness_gain(load_audio(voice.path, 24_000), 24_000, -23.0)
        assert abs(20 * math.log10(level)) < 1


def test_a_users_voice_does_not_depend_on_the_ready_voices(tmp_path: Path) -> None:
    """What a package without any ready voices makes of recordings is the same to the bit."""
    package = Path(knnvc.__file__).parent
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from knnvc import VoiceConverter\n"
        "from knnvc.voices.ready import list_voices\n"
        "converter = VoiceConverter.from_preset('mini', 'cpu')\n"
        "voice = converter.matching_set(sys.argv[1], cache=False)\n"
        "made = converter.convert(sys.argv[2], voice)[0]\n"
        "import hashlib; print(len(list_voices()), hashlib.sha256(made.tobytes()).hexdigest())\n"
    )
    examples = Path(__file__).parents[2] / "examples" / "audio"
    bare = tmp_path / "bare" / "knnvc"
    (bare / "voices").mkdir(parents=True)
    for path in package.iterdir():
        if path.name != "voices":
            (bare / path.name).symlink_to(path)
    for path in (package / "voices").glob("*.py"):
        (bare / "voices" / path.name).symlink_to(path)
    told = []
    for home in (package.parent, bare.parent):
        # The folder of installed packages must not stand there, see conftest.py.
        searched = {"PYTHONPATH": str(home)} if home == bare.parent else {}
        environment = os.environ | {
            **searched,
            FOLDER_VARIABLE: str(tmp_path / "none"),
            "XDG_DATA_HOME": str(tmp_path),
        }
        command = [sys.executable, "-W", "ignore", "-c", code]
        command += [str(examples / "target"), str(examples / "source.wav")]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        told.append(done.stdout.split())
    assert int(told[0][0]) >= 4
    assert int(told[1][0]) == 0
    assert told[0][1] == told[1][1]


VALUES = {
    "source": "s", "sex": "woman", "accent": "a", "licence": "CC0",
    "seconds": 60.0, "sentences": 9, "pitch": 200.0,
}  # fmt: skip


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", "/etc/x", "a\\b", "\x1b[31mred", ""])
def test_a_voice_whose_name_leaves_its_folder_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KNNVC_VOICES", str(tmp_path / "voices"))
    (tmp_path / "voices" / "a").mkdir(parents=True)
    for place in ("outside", "voices/a/b", "voices/anna"):
        (tmp_path / f"{place}.flac").write_bytes(b"a recording")
    (tmp_path / "voices" / "cards.json").write_text(json.dumps({name: VALUES, "anna": VALUES}))
    with pytest.warns(KnnvcWarning, match="no file name"):
        found = list_voices()
    assert "anna" in found
    assert name not in found
    assert {path.parent for path in (voice.path for voice in found.values())} >= {
        tmp_path / "voices"
    }
    assert not any(
        path.stem in ("outside", "b") for path in (voice.path for voice in found.values())
    )


@pytest.mark.parametrize(
    "change",
    [
        {"pitch": "high"},
        {"seconds": None},
        {"wer": [1]},
        {"licence": 3},
        {"pitch": float("nan")},
    ],
)
def test_a_card_of_other_types_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setenv("KNNVC_VOICES", str(tmp_path))
    (tmp_path / "cards.json").write_text(json.dumps({"anna": VALUES | change}))
    with pytest.raises(KnnvcError, match=r"cards\.json is damaged") as caught:
        list_voices()
    assert len(str(caught.value)) <= 200


def test_what_a_card_says_cannot_reach_into_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KNNVC_VOICES", str(tmp_path))
    card = VALUES | {"source": "\x1b]0;owned\x07\x1b[2J", "licence": "a\u202eb\udc9b"}
    (tmp_path / "cards.json").write_text(json.dumps({"anna": card}))
    (tmp_path / "anna.flac").write_bytes(b"a recording")
    cli.main(["voices"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "anna" in said
    assert said.replace("\n", "").isprintable()
