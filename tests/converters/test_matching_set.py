from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from knnvc.converters.matching_set import MatchingSet, SetInfo, load, merge
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.tensors import checksum

INFO = SetInfo(
    preset="mini",
    encoder="0123456789abcdef" * 4,
    hop=320,
    sample_rate=16_000,
    speaker="Zoë",
    files=("a.wav", "b/ä.flac"),
    seconds=(0.08, 0.12),
    licence="CC0-1.0",
)


def make(frames: int = 10, *, own_match: bool = True, **info: Any) -> MatchingSet:
    generator = torch.Generator().manual_seed(frames)
    synth = torch.randn(frames, 6, generator=generator)
    return MatchingSet(
        match=torch.randn(frames, 4, generator=generator) if own_match else synth,
        synth=synth,
        frame_start=torch.tensor([0, 4]),
        info=dataclasses.replace(INFO, **info),
    )


@pytest.mark.parametrize("own_match", [True, False])
def test_a_saved_set_is_read_back(tmp_path: Path, own_match: bool) -> None:
    original = make(own_match=own_match)
    original.save(tmp_path / "voice.safetensors")
    read = load(tmp_path / "voice.safetensors")
    assert read.info == original.info
    assert torch.equal(read.match, original.match.half().float())
    assert torch.equal(read.synth, original.synth.half().float())
    assert torch.equal(read.frame_start, original.frame_start)
    assert (read.match is read.synth) != own_match
    assert read.seconds == pytest.approx(0.2)


def test_the_file_is_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    make(own_match=False).save(path)
    with safe_open(path, "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        entry = json.loads(file.metadata()["matching_set"])
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "synth": torch.float16,
        "frame_start": torch.int64,
    }
    assert entry["format_version"] == 2
    assert entry["match_is_synth"] is True
    assert entry["speaker"] == "Zoë"
    assert entry["files"] == ["a.wav", "b/ä.flac"]


def test_equal_copies_are_stored_once(tmp_path: Path) -> None:
    same = make(own_match=False)
    dataclasses.replace(same, match=same.synth.clone()).save(tmp_path / "voice.safetensors")
    read = load(tmp_path / "voice.safetensors")
    assert read.match is read.synth


def test_values_beyond_float16_are_kept_in_float32(tmp_path: Path) -> None:
    original = make()
    original.synth[0, 0] = -65_536.5
    original.match[0, 0] = 65_504
    original.save(tmp_path / "voice.safetensors")
    read = load(tmp_path / "voice.safetensors")
    assert torch.equal(read.synth, original.synth)
    assert torch.equal(read.match, original.match.half().float())


def test_file_names_that_are_not_utf8_are_made_printable(tmp_path: Path) -> None:
    make(files=("caf\udce9.wav", "b.wav")).save(tmp_path / "voice.safetensors")
    assert load(tmp_path / "voice.safetensors").info.files == ("caf?.wav", "b.wav")


def test_save_overwrites_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    make(10).save(path)
    with pytest.raises(UsageError, match="--force"):
        make(20).save(path)
    assert len(load(path).match) == 10
    make(20).save(path, force=True)
    assert len(load(path).match) == 20
    assert list(tmp_path.iterdir()) == [path]


def test_save_wants_the_suffix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"NAME\.safetensors"):
        make().save(tmp_path / "voice.pt")
    assert not list(tmp_path.iterdir())


def test_another_encoder_is_refused_by_name() -> None:
    matching_set = make()
    matching_set.check_encoder(INFO.encoder, "renamed")
    with pytest.raises(KnnvcError, match=r"Zoë.*'mini' \(0123.*'wavlm-large' \(ffff") as caught:
        matching_set.check_encoder("f" * 64, "wavlm-large")
    assert "--preset mini" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"match": torch.zeros(9, 4)}, "differ in frames"),
        ({"match": torch.zeros(0, 4), "synth": torch.zeros(0, 4)}, "no frames"),
        ({"match": torch.zeros(10)}, "no float32 matrix"),
        ({"synth": torch.zeros(10, 6).double()}, "no float32 matrix"),
        ({"synth": torch.full((10, 6), math.nan)}, "NaN"),
        ({"frame_start": torch.tensor([1, 4])}, "does not rise"),
        ({"frame_start": torch.tensor([0, 11])}, "does not rise"),
        ({"frame_start": torch.tensor([0])}, "differ in number"),
        ({"frame_start": torch.tensor([0.0, 4.0])}, "no list of frames"),
    ],
)
def test_tensors_have_to_fit(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(KnnvcError, match=problem):
        dataclasses.replace(make(), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"hop": 0},
        {"hop": True},
        {"sample_rate": 16e3},
        {"speaker": None},
        {"files": "ab"},
        {"files": (1, 2)},
        {"seconds": (1.0,)},
        {"seconds": (1.0, math.nan)},
        {"seconds": (1.0, -1.0)},
        {"files": (), "seconds": ()},
    ],
)
def test_info_has_to_make_sense(change: dict[str, Any]) -> None:
    with pytest.raises(KnnvcError, match="invalid"):
        dataclasses.replace(INFO, **change)


def test_merge_joins_frames_and_names(tmp_path: Path) -> None:
    one, two = make(10), make(30, speaker="Ada", files=("c.wav", "d.wav"), licence="CC0-1.0")
    merged = merge([one, two])
    assert torch.equal(merged.match, torch.cat([one.match, two.match]))
    assert torch.equal(merged.synth, torch.cat([one.synth, two.synth]))
    assert merged.frame_start.tolist() == [0, 4, 10, 14]
    assert merged.info.files == ("a.wav", "b/ä.flac", "c.wav", "d.wav")
    assert merged.info.speaker == "Zoë; Ada"
    assert merged.info.licence == "CC0-1.0"
    merged.save(tmp_path / "both.safetensors")
    assert load(tmp_path / "both.safetensors").info == merged.info


def test_merge_keeps_one_tensor_one() -> None:
    merged = merge([make(10, own_match=False), make(20, own_match=False)])
    assert merged.match is merged.synth


@pytest.mark.parametrize("own_match", [True, False])
def test_a_recording_counts_once(tmp_path: Path, own_match: bool) -> None:
    """Twice it would be its own nearest neighbour, and a set longer than the speech in it."""
    one, two = make(10, own_match=own_match), make(30, own_match=own_match)
    one.save(tmp_path / "one.safetensors")  # as float16
    with pytest.warns(KnnvcWarning, match=r"a\.wav and 1 more is there twice: it counts once"):
        merged = merge([one, two, load(tmp_path / "one.safetensors")])
    assert torch.equal(merged.synth, torch.cat([one.synth, two.synth]))
    assert torch.equal(merged.match, torch.cat([one.match, two.match]))
    assert (merged.match is merged.synth) != own_match
    assert merged.frame_start.tolist() == [0, 4, 10, 14]
    assert merged.info.files == one.info.files * 2
    other = make(20, own_match=own_match, speaker="Ada")
    with pytest.warns(KnnvcWarning, match="is there twice"):
        again = merge([merge([one, other]), one])
    assert again.info.speaker == "Zoë; Ada"


def test_merge_refuses_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="nothing to merge"):
        merge([])
    with pytest.raises(KnnvcError, match="encoder of preset 'other'"):
        merge([make(), make(encoder="f" * 64, preset="other")])
    for other in (make(own_match=False), make(hop=160)):
        with pytest.raises(KnnvcError, match="differ in"):
            merge([make(), other])


def entry(**changes: Any) -> dict[str, str]:
    """Metadata of a set with one stored tensor, altered."""
    values = dataclasses.asdict(INFO) | {"match_is_synth": True}
    return {"matching_set": json.dumps(values | changes)}


def sealed(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> dict[str, str]:
    """The metadata with the checksum that belongs to it."""
    if "matching_set" not in metadata:
        return metadata
    return metadata | {"sha256": checksum(tensors, metadata["matching_set"])}


STORED = {"synth": torch.ones(10, 6).half(), "frame_start": torch.tensor([0, 4])}


@pytest.mark.parametrize(
    ("tensors", "metadata", "problem"),
    [
        (STORED, {}, "no matching set: make one with `knnvc set build`"),
        (STORED, {"matching_set": "{"}, "metadata is damaged"),
        (STORED, {"matching_set": "[" * 100_000}, "metadata is damaged"),
        (STORED, {"matching_set": "[]"}, "no object"),
        (STORED, entry(speaker="\ud800"), "metadata is damaged"),
        (STORED, entry(format_version=3), "newer knnvc; upgrade"),
        (STORED, entry(format_version=1), "older knnvc.*build it again"),
        (STORED, entry(format_version="1"), "format '1' is unknown"),
        (STORED, entry(match_is_synth=None), "no true or false"),
        (STORED, entry(match_is_synth=False), "other tensors"),
        (STORED, entry(colour="red"), "other fields"),
        (STORED, entry(seconds=[10**400, math.inf]), "impossible value"),
        (STORED | {"extra": torch.ones(1)}, entry(), "other tensors"),
        (STORED | {"match": torch.ones(10, 6)}, entry(), "other tensors"),
        (STORED | {"synth": torch.ones(10, 6).int()}, entry(), "stored as torch.int32"),
        (STORED | {"synth": torch.ones(10, 6).to(torch.float8_e5m2)}, entry(), "stored as"),
    ],
)
def test_odd_files_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], problem: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path, sealed(tensors, metadata))
    with pytest.raises(KnnvcError, match=problem) as caught:
        load(path)
    assert str(path) in caught.value.full


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(KnnvcError) as caught:
            load(path)
        assert str(path) in caught.value.full


VALID = save(STORED, sealed(STORED, entry()))

damaged = st.one_of(
    st.binary(max_size=300),
    # A plausible length of the header, so that the bytes after it are looked at.
    st.binary(max_size=300).map(lambda data: len(data).to_bytes(8, "little") + data),
    st.integers(0, len(VALID) - 1).map(lambda end: VALID[:end]),
    st.integers(0, 8 * len(VALID) - 1).map(
        lambda bit: (int.from_bytes(VALID, "little") ^ 1 << bit).to_bytes(len(VALID), "little")
    ),
    st.tuples(st.integers(0, len(VALID)), st.binary(min_size=1, max_size=8)).map(
        lambda patch: VALID[: patch[0]] + patch[1] + VALID[patch[0] + len(patch[1]) :]
    ),
)


@given(damaged)
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_refused_or_harmless(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    try:
        read = load(path)
    except KnnvcError as error:
        message = error.full
    else:  # it is another way to write the same, with a blank more or less
        assert read.info == INFO
        assert torch.equal(read.synth, STORED["synth"].float())
        assert torch.equal(read.frame_start, STORED["frame_start"])
        return
    assert str(path) in message
    assert "\n" not in message


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    make().save(path)
    data, truth = path.read_bytes(), load(path)
    for bit in range(0, 8 * len(data), 7):
        damaged_data = bytearray(data)
        damaged_data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged_data)
        try:
            read = load(path)
        except KnnvcError:
            continue
        assert read.info == truth.info
        assert torch.equal(read.match, truth.match)
        assert torch.equal(read.synth, truth.synth)
        assert torch.equal(read.frame_start, truth.frame_start)


@pytest.mark.parametrize("metadata", [entry(), entry() | {"sha256": "0" * 64}])
def test_a_set_without_its_checksum_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file(STORED, tmp_path / "x.safetensors", metadata)
    with pytest.raises(KnnvcError, match=r"bytes have changed.*build it again"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("weights", [torch.randn(5, 6).half(), torch.full((2, 2), math.nan)])
def test_older_sets_load_without_their_speaker_adaptations(
    tmp_path: Path, weights: torch.Tensor
) -> None:
    tensors = STORED | {"adaptation.refiner": weights, "adaptation.vocoder": weights.clone()}
    metadata = entry(adaptations={"refiner": "f", "vocoder": "g"})
    save_file(tensors, tmp_path / "older.safetensors", sealed(tensors, metadata))
    read = load(tmp_path / "older.safetensors")
    assert torch.equal(read.synth, STORED["synth"].float())
    assert read.info == INFO
    read.save(tmp_path / "newer.safetensors")
    assert set(load_file(tmp_path / "newer.safetensors")) == {"synth", "frame_start"}
    assert load(tmp_path / "newer.safetensors").info == INFO
