from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.voices.library import add, add_archive, export, preview, remove, rename
from knnvc.voices.ready import FOLDER_VARIABLE, find, list_voices, own_folder, write_cards

RATE = 22_050


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own voices, not there yet."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return own_folder()


@pytest.fixture
def anna(tmp_path: Path) -> Path:
    """Two recordings of a hum of 200 Hz in noise, and one that is damaged."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    time = np.arange(2 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 200 * n * time) / n for n in range(1, 9))
    noise = np.random.default_rng(0).normal(0, 0.002, len(time))
    for name in "ab":
        sf.write(folder / f"{name}.wav", 0.1 * hum + noise, RATE)
    (folder / "c.wav").write_bytes(b"no audio")
    return folder


def made(anna: Path, name: str = "Anna") -> None:
    with pytest.warns(KnnvcWarning, match=r"skipped a recording: .*c\.wav"):
        add([anna], name, licence="CC0", sex="woman", accent="Scottish")


def test_recordings_become_a_voice(anna: Path, own: Path) -> None:
    made(anna)
    voice = find("Anna")
    assert voice.own
    assert voice.path == own / "Anna.flac"
    assert (voice.card.licence, voice.card.sex, voice.card.accent) == ("CC0", "woman", "Scottish")
    assert voice.card.sentences == 2
    assert voice.card.pitch == pytest.approx(200, abs=2)
    recorded = sf.info(str(voice.path))
    assert recorded.samplerate == RATE
    assert recorded.duration == pytest.approx(voice.card.seconds, abs=0.1)
    assert 3 < recorded.duration < 4.3


@pytest.mark.parametrize(
    "name", ["", "..", ".anna", "a/b", "a\\b", "anna:0.5", "anna.", "a" * 65, "a\nb", " anna"]
)
def test_a_name_stays_in_its_folder(anna: Path, own: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a voice"):
        add([anna], name)
    assert not own.exists()


def test_a_name_that_is_taken_needs_force_or_another(anna: Path) -> None:
    made(anna)
    with pytest.raises(UsageError, match="you have a voice Anna"):
        add([anna / "a.wav"], "anna")
    with pytest.raises(UsageError, match="there is a ready voice emma"):
        add([anna / "a.wav"], "Emma", force=True)
    add([anna / "a.wav"], "Anna", force=True)
    assert find("Anna").card.sentences == 1


def test_renaming_and_removing(anna: Path, own: Path) -> None:
    made(anna)
    card = find("Anna").card
    assert rename("anna", "Berta").card == card
    assert "Anna" not in list_voices()
    assert find("Berta").card == card
    remove("Berta")
    assert "Berta" not in list_voices()
    assert [path.name for path in own.iterdir()] == ["cards.json"]
    assert (anna / "a.wav").exists()
    for change in (lambda: rename("emma", "other"), lambda: remove("emma")):
        with pytest.raises(UsageError, match="emma is no voice of your own"):
            change()


def test_another_case_is_another_name_of_the_same_voice(anna: Path) -> None:
    made(anna)
    rename("Anna", "ANNA")
    assert [name for name, voice in list_voices().items() if voice.own] == ["ANNA"]


def test_an_archive_brings_voices_elsewhere(
    anna: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(anna)
    before = find("Anna")
    sound = before.path.read_bytes()
    assert len(export(["anna", "emma"], tmp_path / "two.zip")) == 2
    with pytest.raises(UsageError, match="already exists"):
        export(["emma"], tmp_path / "two.zip")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    with pytest.warns(KnnvcWarning, match="skipped emma: a voice of that name is there"):
        added = add_archive(tmp_path / "two.zip")
    assert [voice.name for voice in added] == ["Anna"]
    assert find("Anna").card == before.card
    assert find("Anna").path.read_bytes() == sound


def archive(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


CARD = {"source": "s", "licence": "CC0", "seconds": 1.0}


def test_an_archive_writes_nowhere_else(anna: Path, tmp_path: Path, own: Path) -> None:
    sf.write(tmp_path / "sound.flac", np.zeros(8000), 16_000)
    sound = (tmp_path / "sound.flac").read_bytes()
    table = json.dumps({"../../evil": CARD, "good": CARD}).encode()
    evil = dict.fromkeys(["../../evil.flac", "/tmp/evil.flac", "sub/good.flac"], sound)
    path = archive(tmp_path / "evil.zip", {"cards.json": table, "good.flac": sound, **evil})
    with pytest.warns(KnnvcWarning, match="evil"):
        assert [voice.name for voice in add_archive(path)] == ["good"]
    assert {one.name for one in own.iterdir()} == {"cards.json", "good.flac"}
    assert not list(tmp_path.rglob("evil.flac"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "holds no cards.json"),
        ({"cards.json": b"{"}, "is damaged"),
        ({"cards.json": b"\xff"}, "is no text"),
        (
            {"cards.json": json.dumps({"x": CARD}).encode(), "x.flac": b"no sound"},
            "x.flac in the archive is no recording",
        ),
    ],
)
def test_a_damaged_archive_is_one_sentence(
    tmp_path: Path, own: Path, entries: dict[str, bytes], message: str
) -> None:
    with pytest.raises(KnnvcError, match=message):
        add_archive(archive(tmp_path / "a.zip", entries))
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(KnnvcError, match="cannot be read as a zip file"):
        add_archive(tmp_path / "b.zip")
    assert not own.exists() or not list(own.iterdir())


def test_a_preview_is_the_beginning(anna: Path, tmp_path: Path, own: Path) -> None:
    made(anna)
    out = preview("Anna", tmp_path / "out.wav", 1.0)
    heard, rate = sf.read(out)
    whole, _ = sf.read(own / "Anna.flac")
    assert rate == RATE
    assert len(heard) == RATE
    assert np.abs(heard[: RATE // 2] - whole[: RATE // 2]).max() < 1e-3
    with pytest.raises(UsageError, match="already exists"):
        preview("Anna", out)


def test_own_voices_come_before_others_of_their_name(own: Path) -> None:
    own.mkdir(parents=True)
    sf.write(own / "emma.flac", np.zeros(8000), 16_000)
    write_cards(own, {"emma": find("emma").card})
    assert find("emma").path == own / "emma.flac"
