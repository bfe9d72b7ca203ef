"""Folders are searched; what cannot be read is named and never refuses the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import find_audio, list_folder, shown_path, told_apart


def fill(folder: Path, *names: str, content: bytes = b"sound") -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in names]


def reasons(folder: Path) -> dict[str, str]:
    return {
        one.path.relative_to(folder).as_posix(): one.reason for one in list_folder(folder).skipped
    }


def test_folders_are_searched(tmp_path: Path) -> None:
    wanted = fill(tmp_path, "a.WAV", "b/c.flac", "b/d/e.ogg", "f.m4a", "g.MP4", "h.webm", "z.mp3")
    fill(tmp_path, ".hidden.wav", ".git/f.wav", "notes.txt", "b/cover.jpg", "b/c.TextGrid")
    assert find_audio(tmp_path) == wanted
    assert find_audio(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    assert find_audio(tmp_path / ".git") == [tmp_path / ".git" / "f.wav"]


@pytest.mark.parametrize(
    "suffix", "aac amr 3gp mkv mov wma opus m4b avi caf mts ac3 weba qt".split()
)
def test_whatever_people_record_is_found(tmp_path: Path, suffix: str) -> None:
    wanted = fill(tmp_path, f"a.{suffix}")
    assert find_audio(tmp_path) == wanted


def test_the_content_tells_where_the_name_does_not(tmp_path: Path) -> None:
    fill(tmp_path, "one", "two.x", content=b"RIFF\0\0\0\0WAVEfmt ")
    fill(tmp_path, "film.xyz", content=b"\0\0\0\x20ftypisom")
    fill(tmp_path, "unknown.xyz", content=b"something else")
    listing = list_folder(tmp_path)
    assert [path.name for path in listing.audio] == ["film.xyz", "one", "two.x"]
    assert reasons(tmp_path) == {"unknown.xyz": "is not known as audio"}


def test_what_is_skipped_is_named_with_its_reason(tmp_path: Path) -> None:
    (good,) = fill(tmp_path, "good.wav")
    fill(tmp_path, "song.mid", "tape.raw", "book.aax")
    fill(tmp_path, "empty.wav", content=b"")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
    found = reasons(tmp_path)
    assert "MIDI" in found.pop("song.mid")
    assert "headerless" in found.pop("tape.raw")
    assert "protected" in found.pop("book.aax")
    assert found.pop("pipe.wav", "is no ordinary file") == "is no ordinary file"
    assert found == {
        "empty.wav": "is empty",
        "folder.wav": "is a folder",
        "gone.wav": "is a link to nothing",
        "loop.wav": "is a link to nothing",
    }
    with pytest.warns(
        KnnvcWarning, match=r"^[78] files were skipped: .*book\.aax is a protected.*, and [45] more"
    ) as told:
        assert find_audio(tmp_path) == [good]
    assert len(told) == 1


def test_sets_and_copies_do_not_vanish(tmp_path: Path) -> None:
    """A saved set is no recording, but may have been meant; a copy's name may say nothing."""
    fill(tmp_path, "a.wav")
    (tmp_path / "b.wav.bak").write_bytes(b"RIFF1234WAVE")
    (tmp_path / "voice.safetensors").write_bytes(b"weights")
    (tmp_path / "notes.bak").write_bytes(b"text")
    assert [path.name for path in list_folder(tmp_path).audio] == ["a.wav", "b.wav.bak"]
    assert "matching set" in reasons(tmp_path)["voice.safetensors"]


def test_a_folder_called_like_a_recording_is_searched(tmp_path: Path) -> None:
    wanted = fill(tmp_path, "take.wav/a.flac")
    assert list_folder(tmp_path).audio == tuple(wanted)
    assert not list_folder(tmp_path).skipped


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    (inside,) = fill(tmp_path, "here/a.wav")
    fill(tmp_path, "elsewhere/b.wav")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "round").symlink_to(tmp_path / "here")
    found = list_folder(tmp_path / "here")
    assert found.audio == (inside, tmp_path / "here" / "linked" / "b.wav")
    assert not found.skipped


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_what_may_not_be_read_is_skipped(tmp_path: Path) -> None:
    fill(tmp_path, "good.wav", "secret.wav", "closed/a.wav")
    (tmp_path / "secret.wav").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        found = reasons(tmp_path)
        with pytest.raises(KnnvcError, match="permission denied; check its permissions"):
            list_folder(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert found == dict.fromkeys(("secret.wav", "closed"), "cannot be read (permission denied)")


def test_nothing_to_find_is_an_error_that_names_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, "notes.txt")
    with pytest.raises(UsageError, match="holds no audio files; put"):
        find_audio(tmp_path)
    fill(tmp_path, "song.mid")
    with pytest.raises(
        UsageError, match=r"no audio files \(1 file was skipped: .*song\.mid is MIDI"
    ):
        find_audio(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        find_audio(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("voices/anna.wav", "voices/anna.wav"),
        ("Übung – 音声 🎙️👩\u200d🎤.wav", "Übung – 音声 🎙️👩\u200d🎤.wav"),
        ("a\x1b[31mred\x07.wav", r"a\x1b[31mred\x07.wav"),
        ("two\nlines\t.wav", r"two\nlines\t.wav"),
        ("c1\x9b31m", r"c1\x9b31m"),
        ("evil\u202egnp.wav", r"evil\u202egnp.wav"),
        ("line\u2028.wav", r"line\u2028.wav"),
        (os.fsdecode(b"z\xff.wav") if os.name == "posix" else "z\udcff.wav", r"z\xff.wav"),
        ("lone\ud800.wav", r"lone\ud800.wav"),
        ("nul\0", r"nul\x00"),
    ],
)
def test_shown_names_are_safe_to_print(name: str, expected: str) -> None:
    assert shown_path(name) == expected
    shown_path(name).encode("utf-8")


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
def test_names_of_any_bytes_are_listed(tmp_path: Path) -> None:
    names = [b"z\xff.wav", b"\x1b]0;owned\x07.wav", b"\x1b[2J.mid"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"sound")
    with pytest.warns(KnnvcWarning, match=r"\\x1b\[2J\.mid is MIDI") as told:
        assert len(find_audio(tmp_path)) == 2
    assert str(told[0].message).isprintable()


def test_outputs_of_sources_that_differ_in_their_format() -> None:
    names = ["a.mp4", "a.wav", "a.MP3", "b.wav", "c/a.wav"]
    pairs = [(Path("in", name), Path("out", name).with_suffix(".wav")) for name in names]
    made = [str(path.relative_to("out")) for path in told_apart(pairs)]
    assert made == ["a.mp4.wav", "a.wav", "a.MP3.wav", "b.wav", "c/a.wav"]
    same = [(Path("x/a.wav"), Path("a.wav")), (Path("y/a.wav"), Path("a.wav"))]
    assert told_apart(same) == [Path("a.wav"), Path("a.wav")]
