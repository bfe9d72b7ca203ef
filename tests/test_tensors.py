"""Weights and settings on disk: what is written comes back, and what is damaged is said."""

from __future__ import annotations

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from knnvc.errors import KnnvcError, UsageError
from knnvc.tensors import (
    LARGEST_LIST,
    as_float32,
    as_single,
    checksum,
    pack,
    read_json,
    read_pickle,
    read_tensors,
    write_tensors,
)

PARITY = Path(__file__).parent / "assets" / "parity"


def sentence(error: BaseException) -> str:
    """Return the message, after making sure that it is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) <= 200
    return text


# Pickles ----------------------------------------------------------------------------------------


class Bomb:
    """Unpickled without protection, this makes the file `target`."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_with_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "bomb.pt", tmp_path / "exploded"
    content = {"generator": {"x": torch.zeros(1), "y": Bomb(mark)}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(KnnvcError, match="carries code") as caught:
        read_pickle(path)
    sentence(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"hello world", b"<html>log in</html>", b"\x80\x04\x95"])
def test_damaged_pickle_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(KnnvcError, match="damaged") as caught:
        read_pickle(path)
    sentence(caught.value)


def test_truncated_pickle_and_wrong_content(tmp_path: Path) -> None:
    whole = (PARITY / "hifigan_tiny.pt").read_bytes()
    path = tmp_path / "part.pt"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KnnvcError, match="damaged"):
        read_pickle(path)
    torch.save([1, 2], path)
    with pytest.raises(KnnvcError, match="no dict"):
        read_pickle(path)
    with pytest.raises(UsageError, match="there is no file"):
        read_pickle(tmp_path / "nowhere.pt")
    with pytest.raises(UsageError, match="is a folder"):
        read_pickle(tmp_path)


def changed_archive(path: Path, change: Any) -> None:
    """A checkpoint whose files went through `change(name, content) -> content, compression`."""
    held = io.BytesIO()
    torch.save({"model": {"x": torch.zeros(10)}}, held)
    with zipfile.ZipFile(held) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content, how = change(name, source.read(name))
            target.writestr(name, content, how)


def test_an_archive_that_would_grow_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    zeros = bytes(50_000_000)

    def pack_zeros(name: str, content: bytes) -> tuple[bytes, int]:
        return (zeros, zipfile.ZIP_DEFLATED) if name.endswith("data/0") else (content, 0)

    changed_archive(path, pack_zeros)
    with pytest.raises(KnnvcError, match="would grow") as caught:
        read_pickle(path)
    sentence(caught.value)


def test_a_list_that_never_ends_is_not_read(tmp_path: Path) -> None:
    path, deep = tmp_path / "deep.pt", b"\x80\x02" + b"]" * LARGEST_LIST + b"."
    changed_archive(path, lambda name, old: (deep if name.endswith("data.pkl") else old, 0))
    with pytest.raises(KnnvcError, match="too much besides tensors") as caught:
        read_pickle(path)
    sentence(caught.value)


def sparse(size: int) -> torch.Tensor:
    at = torch.zeros(2, 1, dtype=torch.int64)
    return torch.sparse_coo_tensor(at, torch.ones(1), (size, size), check_invariants=True)


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (sparse(3), "sparse"),
        (sparse(2**31), "sparse"),
        (torch.ones(1).expand(2**40), "larger than its content"),
        (torch.ones(3, device="meta"), "without content"),
        (torch.ones(3, dtype=torch.cfloat), "unusual"),
        (torch.tensor([1.0, math.nan]), "not finite"),
        ("text", "something else than tensors"),
    ],
)
def test_odd_tensors_are_refused_by_name(tmp_path: Path, tensor: Any, problem: str) -> None:
    path = tmp_path / "odd.pt"
    torch.save({"fine": torch.ones(2), "odd": tensor}, path)
    with pytest.raises(KnnvcError, match=problem) as caught:
        as_float32(read_pickle(path), path)
    assert "odd" in sentence(caught.value)


def test_one_tensor_under_a_thousand_names_is_refused(tmp_path: Path) -> None:
    path, one = tmp_path / "many.pt", torch.ones(100_000).half()
    torch.save({"model": {f"w{number}": one for number in range(1000)}}, path)
    with pytest.raises(KnnvcError, match="larger than its content"):
        as_float32(read_pickle(path)["model"], path)


def test_a_scale_of_another_shape_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"w": torch.ones(40_000, 1), "w:scale": torch.ones(1, 40_000)})
    with pytest.raises(KnnvcError, match="damaged"):
        read_tensors(path)


def test_the_checksum_is_of_everything() -> None:
    one = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    others = [
        {**one, "a": torch.arange(6.0).reshape(2, 3)},
        {**one, "a": torch.arange(6.0).int()},
        {**one, "b": torch.ones(2).half()},
        {"c": one["a"], "b": one["b"]},
        {"a": one["a"]},
    ]
    found = {checksum(tensors) for tensors in (one, *others)} | {checksum(one, "about")}
    assert len(found) == 7
    assert checksum(dict(reversed(list(one.items())))) == checksum(one)


# safetensors and JSON ---------------------------------------------------------------------------


def test_tensors_round_trip_even_when_they_share_memory(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    tensors = {
        "whole": base,
        "columns": base[:, ::2],
        "rows": base[1:3],
        "row_of_another": torch.randn(5, 2)[2:4],
        "half": base.half(),
        "count": torch.arange(3),
        "nothing": torch.zeros(0, 4),
    }
    path = tmp_path / "new" / "x.safetensors"
    write_tensors(path, tensors, {"speaker": "Ada"})
    read, metadata = read_tensors(path)
    assert metadata == {"speaker": "Ada"}
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_packed_weights_come_back_nearly_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "matrix": torch.randn(64, 80, generator=generator) * torch.logspace(-3, 1, 64)[:, None],
        "kernel": torch.randn(32, 16, 9, generator=generator),
        "empty": torch.zeros(64, 80),
        "bias": torch.randn(80, generator=generator),
        "small": torch.randn(4, 4, generator=generator),
    }
    path = tmp_path / "w.safetensors"
    write_tensors(path, pack(weights), {"steps": "1"})
    found, metadata = read_tensors(path)
    assert metadata == {"steps": "1"}
    assert found.keys() == weights.keys()
    for name in ("matrix", "kernel", "empty"):
        largest = weights[name].flatten(1).abs().amax(1)
        off = (found[name] - weights[name]).flatten(1).abs().amax(1)
        assert (off <= largest / 253).all()
    for name in ("bias", "small"):
        assert torch.equal(found[name], weights[name].half())
    assert path.stat().st_size < 1.2 * sum(w.numel() for w in weights.values()) + 2000


def test_a_scale_without_its_tensor_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"lost:scale": torch.ones(1)})
    with pytest.raises(KnnvcError, match="safetensors"):
        read_tensors(path)


def test_written_tensors_are_as_readable_as_other_files(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_existing_tensors_are_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(1)})
    with pytest.raises(UsageError, match="--force"):
        write_tensors(path, {"x": torch.ones(1)}, force=False)
    assert read_tensors(path)[0]["x"] == 0
    write_tensors(path, {"x": torch.ones(1)})
    assert read_tensors(path)[0]["x"] == 1


@pytest.mark.parametrize("content", [b"", b"not tensors at all", b"\xff" * 64])
def test_damaged_tensors_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(KnnvcError, match="damaged") as caught:
        read_tensors(path)
    sentence(caught.value)


def test_truncated_tensors_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(KnnvcError, match="damaged"):
        read_tensors(path)
    with pytest.raises(UsageError, match="there is no file"):
        read_tensors(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(KnnvcError) as caught:
        read_json(path)
    assert sentence(caught.value)
    assert str(path) in caught.value.full


def test_safetensors_failure_to_write_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(KnnvcError) as caught:
        write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    assert "No space left" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_complex_weights_are_refused() -> None:
    with pytest.raises(KnnvcError, match="complex numbers"):
        as_single({"a": torch.zeros(2, dtype=torch.complex64)})
