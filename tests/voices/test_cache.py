"""Encoded references, kept on disk: the same to the bit, shared, bounded, and never trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc import MatchingSet, VoiceConverter
from knnvc.cli.main import cli
from knnvc.converters.matching_set import SetInfo
from knnvc.errors import KnnvcWarning, UsageError
from knnvc.voices.cache import DEFAULT_LIMIT, SetCache, limit_from_environment, set_key

RATE = 16_000


def noise(path: Path, seconds: float = 1.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.05 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    sf.write(path, samples, RATE)
    return path


def matching_set(frames: int = 8, separate: bool = True) -> MatchingSet:
    synth = torch.randn(frames, 6) * 1e-6 + torch.rand(frames, 6)  # more digits than float16 has
    return MatchingSet(
        match=torch.randn(frames, 4) if separate else synth,
        synth=synth,
        frame_start=torch.tensor([0]),
        info=SetInfo(
            preset="p",
            encoder="e",
            hop=320,
            sample_rate=RATE,
            files=("a\udcff.wav",),  # a name that is no UTF-8
            seconds=(0.16,),
        ),
    )


def same(one: MatchingSet, other: MatchingSet) -> bool:
    return (
        torch.equal(one.match, other.match)
        and torch.equal(one.synth, other.synth)
        and torch.equal(one.frame_start, other.frame_start)
        and one.info == other.info
    )


def never() -> Any:
    pytest.fail("it is in the cache")


@pytest.mark.parametrize("separate", [True, False])
def test_what_comes_back_is_what_was_made(tmp_path: Path, separate: bool) -> None:
    cache = SetCache(tmp_path / "deep" / "cache", 10**9)
    made = (matching_set(separate=separate), [(3, "bad")])
    assert cache.fetch("key", lambda: made) is made
    found, skipped = cache.fetch("key", never)
    assert same(found, made[0])
    assert (found.match is found.synth) is not separate
    assert skipped == [(3, "bad")]
    assert cache.clear() == 1
    assert cache.sets() == []
    assert cache.fetch("key", lambda: made) is made


def test_the_longest_unused_go_first_and_the_last_stays(tmp_path: Path) -> None:
    cache = SetCache(tmp_path, 10**9)
    for number in range(4):
        cache.fetch(str(number), lambda: (matching_set(1000), []))
        os.utime(tmp_path / f"{number}.safetensors", (number + 1, number + 1))
    size = cache.sets()[0].size
    assert [entry.path.stem for entry in cache.sets()] == ["0", "1", "2", "3"]
    cache.fetch("0", never)  # now the last one used
    small = SetCache(tmp_path, 3 * size + 10)
    small.fetch("4", lambda: (matching_set(1000), []))
    assert {entry.path.stem for entry in small.sets()} == {"3", "0", "4"}
    SetCache(tmp_path, 0).fetch("5", lambda: (matching_set(1000), []))
    assert [entry.path.stem for entry in small.sets()] == ["5"]


@pytest.mark.parametrize("damage", [b"", b"not a set", None])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    cache, made = SetCache(tmp_path, 10**9), matching_set()
    cache.fetch("key", lambda: (made, []))
    path = tmp_path / "key.safetensors"
    path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    again = matching_set()
    assert cache.fetch("key", lambda: (again, []))[0] is again
    assert same(cache.fetch("key", never)[0], again)


def test_a_flipped_bit_anywhere_has_the_set_made_again(tmp_path: Path) -> None:
    cache, made = SetCache(tmp_path, 10**9), matching_set()
    cache.fetch("key", lambda: (made, [(0, "why")]))
    path = tmp_path / "key.safetensors"
    data = path.read_bytes()
    again = matching_set()
    for bit in range(0, 8 * len(data), 11):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found, skipped = cache.fetch("key", lambda: (again, []))
        if found is not again:  # another way to write the same
            assert same(found, made)
            assert skipped == [(0, "why")]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    made = matching_set()
    assert SetCache(tmp_path / "file" / "cache", 10**9).fetch("k", lambda: (made, []))[0] is made


def test_one_process_makes_it_while_the_others_wait(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_cache import SetCache, matching_set
def make():
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write("made ")
    time.sleep(0.5)
    return matching_set(), []
found, _ = SetCache(Path({str(tmp_path / "cache")!r}), 10**9).fetch("key", make)
print(float(found.synth.double().sum()))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    sums = {process.communicate(timeout=240)[0] for process in processes}
    assert len(sums) == 1
    assert (tmp_path / "log").read_text() == "made "


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, size in (("", DEFAULT_LIMIT), ("500MB", 5 * 10**8), ("1.5 g", 1_500_000_000)):
        monkeypatch.setenv("KNNVC_CACHE_LIMIT", text)
        assert limit_from_environment() == size
    monkeypatch.setenv("KNNVC_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match="such as 500MB"):
        SetCache()


def test_the_key_holds_everything_that_decides_the_bytes() -> None:
    files, cpu = [("a.wav", "1" * 64, True)], torch.device("cpu")
    settings = ("encoder", "1500", "100", "float32")
    keys = {
        set_key(settings, True, files, cpu),
        set_key(("other", *settings[1:]), True, files, cpu),
        set_key((*settings, "more"), True, files, cpu),
        set_key(settings, False, files, cpu),
        set_key(settings, True, [("a.wav", "2" * 64, True)], cpu),
        set_key(settings, True, [("b.wav", "1" * 64, True)], cpu),
        set_key(settings, True, files * 2, cpu),
    }
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        keys.add(set_key(settings, True, files, cpu))
    finally:
        torch.set_num_threads(threads)
    assert len(keys) == 8
    assert set_key(settings, True, files, cpu) in keys


def test_a_converter_encodes_references_once(
    tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = VoiceConverter.from_preset(preset, "cpu")
    anna = noise(tmp_path / "anna" / "a.wav", 0.6).parent
    sf.write(anna / "mute.wav", np.zeros(RATE), RATE)
    cache = SetCache(tmp_path / "cache", 10**9)
    with pytest.warns(KnnvcWarning, match=r"anna/mute.wav is entirely silent"):
        plain = converter.matching_set(anna)
    with pytest.warns(KnnvcWarning, match=r"anna/mute.wav is entirely silent"):
        made = converter.matching_set(anna, cache=cache)

    def refuse(*_: Any) -> None:
        pytest.fail("it was encoded before")

    with monkeypatch.context() as patch:
        patch.setattr(converter.encoder, "encode", refuse)
        moved = anna.rename(tmp_path / "ben")
        with pytest.warns(KnnvcWarning, match=r"ben/mute.wav is entirely silent"):
            found = converter.matching_set(moved, cache=cache, licence="mine")
    assert torch.equal(plain.synth, made.synth)
    assert torch.equal(plain.synth, found.synth)
    assert (found.info.speaker, found.info.licence) == ("ben", "mine")  # as it is called now
    noise(moved / "a.wav", 0.6, 1)
    with pytest.warns(KnnvcWarning):
        other = converter.matching_set(moved, cache=cache)
    assert not torch.equal(other.synth, found.synth)


def test_the_cache_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path))
    cache = SetCache()
    cache.fetch("key", lambda: (matching_set(1000), []))

    def run(*args: str) -> str:
        cli.main(list(args), standalone_mode=False)
        return capsys.readouterr().out

    said = run("cache", "info")
    assert said.splitlines()[0] == str(tmp_path / "matching_sets")
    assert "sets       1\n" in said
    assert "limit      2000 MB" in said
    assert run("cache", "clear") == "removed 1 matching set and 0 indices\n"
    assert cache.sets() == []
