from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner, Result

from knnvc import VoiceConverter
from knnvc.cli.main import cli
from knnvc.converters.matching_set import load
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.voices.ready import CARDS, FOLDER_VARIABLE, Card, list_voices, resolve, write_cards

CARD = Card(
    source="Kokoro-82M bf_test",
    sex="woman",
    accent="British",
    licence="Apache-2.0",
    preset="tiny",
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
def voices(converter: VoiceConverter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one ready voice, and a card whose set is missing."""
    folder = tmp_path / "voices"
    folder.mkdir()
    noise = RNG.normal(0, 0.1, 32_000).astype(np.float32)
    converter.matching_set([(noise, 16_000)], trim=False, speaker="testa").save(
        folder / "testa.safetensors"
    )
    write_cards(folder, {"testa": CARD, "gone": CARD})
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


def test_a_name_stands_for_a_file(voices: Path) -> None:
    assert resolve("voice:testa") == voices / "testa.safetensors"
    assert list_voices()["testa"] == (voices / "testa.safetensors", CARD)
    assert "gone" not in list_voices()
    assert resolve("anna/") == resolve(Path("anna")) == Path("anna")


def test_a_file_of_that_name_comes_first(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("voice:testa").touch()
    assert resolve("voice:testa") == Path("voice:testa")


def test_an_unknown_name_lists_the_valid_ones(voices: Path) -> None:
    with pytest.raises(UsageError, match=r"no ready voice 'tessa'.* testa.*KNNVC_VOICES"):
        resolve("voice:tessa")
    done = run("convert", "talk.wav", "--ref", "voice:tessa")
    assert done.exit_code == 2
    assert "testa" in done.stderr
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
    for part in ("woman", "British", "212 Hz", "DistillMOS 4.2", "2 s for preset tiny", "Apache"):
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


def test_a_voice_of_another_encoder_names_both(voices: Path, converter: VoiceConverter) -> None:
    path = voices / "testa.safetensors"
    made = load(path)
    info = dataclasses.replace(made.info, preset="mini", encoder="0" * 64)
    dataclasses.replace(made, info=info).save(path, force=True)
    with pytest.raises(KnnvcError, match=r"testa.*preset 'mini'.*not 'tiny'"):
        converter.matching_set("voice:testa")


def test_every_shipped_voice_fits_mini(mini: VoiceConverter) -> None:
    shipped = {n: found for n, found in list_voices().items() if found[1].preset == "mini"}
    for name in shipped:
        voice = mini.matching_set(f"voice:{name}")
        assert voice.info.speaker == name
        assert voice.seconds == pytest.approx(shipped[name][1].seconds, abs=0.1)


VALUES = {
    "source": "s", "sex": "woman", "accent": "a", "licence": "CC0", "preset": "mini",
    "seconds": 60.0, "sentences": 9, "pitch": 200.0,
}  # fmt: skip


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", "/etc/x", "a\\b", "\x1b[31mred", ""])
def test_a_voice_whose_name_leaves_its_folder_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KNNVC_VOICES", str(tmp_path / "voices"))
    (tmp_path / "voices" / "a").mkdir(parents=True)
    for place in ("outside", "voices/a/b", "voices/anna"):
        (tmp_path / f"{place}.safetensors").write_bytes(b"a set")
    (tmp_path / "voices" / "cards.json").write_text(json.dumps({name: VALUES, "anna": VALUES}))
    with pytest.warns(KnnvcWarning, match="no file name"):
        found = list_voices()
    assert "anna" in found
    assert name not in found
    assert {path.parent for path, _ in found.values()} >= {tmp_path / "voices"}
    assert not any(path.stem in ("outside", "b") for path, _ in found.values())


@pytest.mark.parametrize(
    "change",
    [
        {"pitch": "high"},
        {"seconds": None},
        {"wer": [1]},
        {"licence": 3},
        {"pitch": float("nan")},
        {"colour": 1},
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
    (tmp_path / "anna.safetensors").write_bytes(b"a set")
    cli.main(["voices"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "anna" in said
    assert said.replace("\n", "").isprintable()
