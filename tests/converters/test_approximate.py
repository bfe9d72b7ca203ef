"""Approximate search: what it finds, and which index files are believed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from knnvc.cli.main import cli
from knnvc.converters import approximate as indices
from knnvc.converters.matching_set import MatchingSet, load
from knnvc.converters.search import search
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.kept import KeptFiles, kept_indices
from knnvc.mini.converter import MiniConverter
from knnvc.options import ConvertOptions
from knnvc.pipeline import VoiceConverter

Speech = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for every test."""
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clusters() -> Speech:
    """300 queries and 4000 frames around the same 60 places, 24 columns."""
    generator = torch.Generator().manual_seed(5)
    places = torch.randn(60, 24, generator=generator)

    def around(count: int) -> Tensor:
        at = torch.randint(60, (count,), generator=generator)
        return places[at] + 0.5 * torch.randn(count, 24, generator=generator)

    return around(300), around(4000)


def shared(one: Tensor, other: Tensor) -> float:
    """The share of the rows `one` [M, k] that stand in `other` [M, k], too."""
    return float((one[:, :, None] == other[:, None, :]).any(dim=2).float().mean())


@pytest.mark.parametrize("kind", indices.APPROXIMATE)
def test_most_of_the_nearest_are_found(kind: str, clusters: Speech) -> None:
    query, match = clusters
    told: list[tuple[int, int]] = []
    index = indices.build(match, kind, lambda done, total: told.append((done, total)))
    distances, rows = index.search(query, 4)
    exact, expected = search(query, match, 4)
    assert shared(rows, expected) > 0.95
    assert (rows[:, 0] == expected[:, 0]).float().mean() > 0.95
    assert (distances.diff(dim=1) >= 0).all()
    same = rows == expected
    assert (distances - exact)[same].abs().max() < 1e-3  # float16
    assert told[-1] == (4000, 4000)
    assert (distances.dtype, rows.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("kind", indices.APPROXIMATE)
def test_all_neighbours_can_be_asked_for(kind: str, clusters: Speech) -> None:
    """More than the cells or the part of the graph that is looked at hold."""
    query, match = clusters
    rows = indices.build(match[:700], kind).search(query[:3], 700)[1]
    assert (rows.sort(dim=1).values == torch.arange(700)).all()


@pytest.mark.parametrize("kind", indices.APPROXIMATE)
def test_the_index_of_a_set_is_always_the_same(kind: str, clusters: Speech) -> None:
    cache = indices.IndexCache()
    for content in (b"1" * 32, b"2" * 32):
        cache.save(indices.build(clusters[1], kind), content)
    one, other = (entry.path.read_bytes() for entry in cache.kept.files())
    assert one == other


@pytest.mark.parametrize("kind", indices.APPROXIMATE)
def test_what_cannot_be_indexed_or_searched(kind: str) -> None:
    with pytest.raises(KnnvcError, match="the matching set has shape"):
        indices.build(torch.ones(0, 3), kind)
    with pytest.raises(KnnvcError, match="NaN or infinite"):
        indices.build(torch.full((3, 3), torch.nan), kind)
    index = indices.build(torch.eye(3), kind)
    with pytest.raises(KnnvcError, match="hold 3 frames of speech but k is 4"):
        index.search(torch.ones(1, 3), 4)
    with pytest.raises(KnnvcError, match=r"\[frames, 3\]"):
        index.search(torch.ones(1, 2), 1)
    with pytest.raises(KnnvcError, match="the source has features that are NaN"):
        index.search(torch.full((1, 3), torch.nan), 1)


def test_auto_goes_by_size() -> None:
    assert indices.choose("auto", indices.AUTO_FRAMES - 1) == "flat"
    assert indices.choose("auto", indices.AUTO_FRAMES) == indices.AUTO_KIND
    assert indices.choose("flat", 10 * indices.AUTO_FRAMES) == "flat"
    assert indices.choose("hnsw", 10) == "hnsw"
    with pytest.raises(UsageError, match="choose one of flat, hnsw, ivf, auto"):
        indices.choose("annoy", 10)


# Files --------------------------------------------------------------------------------------------


CONTENT = bytes(range(32))


@pytest.fixture(params=indices.APPROXIMATE)
def kept(request: pytest.FixtureRequest, clusters: Speech, cache: Path) -> tuple[str, Path]:
    kind: str = request.param
    indices.IndexCache().save(indices.build(clusters[1], kind), CONTENT)
    return kind, cache / "indices" / f"{CONTENT.hex()}.faiss"


def test_a_saved_index_is_read_back(kept: tuple[str, Path], clusters: Speech) -> None:
    kind, path = kept
    read = indices.IndexCache().load(kind, CONTENT)
    assert read is not None
    built = indices.build(clusters[1], kind)
    for found, expected in zip(
        read.search(clusters[0], 4), built.search(clusters[0], 4), strict=True
    ):
        assert torch.equal(found, expected)
    assert faiss.read_index(str(path)).ntotal == 4000  # the format is faiss's own


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:50],
        lambda data: data[:-1],
        lambda data: data[:-32],  # what faiss alone would have written
        lambda data: data + b"\0",
        lambda data: flip(data, 8),
        lambda data: flip(data, len(data) // 2),
        lambda data: flip(data, len(data) - 1),
        lambda data: flip(data, len(data) - 40),
    ],
)
def test_a_changed_file_never_reaches_faiss(
    kept: tuple[str, Path], change: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, path = kept
    path.write_bytes(change(path.read_bytes()))
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("it was parsed"))
    assert indices.IndexCache().load(kind, CONTENT) is None


def test_an_index_that_came_with_a_set_is_never_read(
    tiny: VoiceConverter, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("anna.ivf.faiss", "anna.faiss"):
        saved.with_name(name).write_bytes(b"IwSQ of a stranger")
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("it was parsed"))
    one = load(saved)
    assert torch.isfinite(tiny.match(one.match[:5], one, index="ivf").values).all()
    assert saved.with_name("anna.ivf.faiss").read_bytes() == b"IwSQ of a stranger"


def test_an_index_of_another_kind_or_set_is_not_used(kept: tuple[str, Path]) -> None:
    kind, _ = kept
    other = next(k for k in indices.APPROXIMATE if k != kind)
    assert indices.IndexCache().load(other, CONTENT) is None
    assert indices.IndexCache().load(kind, b"1" * 32) is None


def test_the_longest_unused_go_first(clusters: Speech, tmp_path: Path) -> None:
    index = indices.build(clusters[1], "ivf")
    size = len(faiss.serialize_index(index.faiss)) + 32
    cache = indices.IndexCache(KeptFiles(tmp_path / "x", ".faiss", 2 * size))
    for number in range(2):
        cache.save(index, bytes([number]) * 32)
        os.utime(cache.path(bytes([number]) * 32), (number + 1, number + 1))
    assert cache.load("ivf", bytes(32)) is not None  # now the last one used
    cache.save(index, bytes([2]) * 32)
    assert {entry.path.name[:2] for entry in cache.kept.files()} == {"00", "02"}


def test_the_content_is_all_that_an_index_is_derived_from() -> None:
    match = torch.arange(12.0).reshape(4, 3)
    base = indices.content_hash("ivf", [match], "space")
    assert base == indices.content_hash("ivf", [match.clone()], "space")
    others = [
        indices.content_hash("hnsw", [match], "space"),
        indices.content_hash("ivf", [match + 1e-6], "space"),
        indices.content_hash("ivf", [match.reshape(3, 4)], "space"),
        indices.content_hash("ivf", [match, match], "space"),
        indices.content_hash("ivf", [match], "other"),
    ]
    assert len({base, *others}) == 6


# In the pipeline ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(preset: Path) -> VoiceConverter:
    return VoiceConverter.from_preset(preset, device="cpu")


@pytest.fixture
def saved(tiny: VoiceConverter, tmp_path: Path) -> Path:
    noise = 0.05 * torch.randn(3 * 16_000, generator=torch.Generator().manual_seed(1))
    tiny.matching_set((noise, 16_000), trim=False).save(tmp_path / "anna.safetensors")
    return tmp_path / "anna.safetensors"


@pytest.mark.parametrize("kind", indices.APPROXIMATE)
def test_an_index_is_kept_and_used_again(
    tiny: VoiceConverter, saved: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = load(saved)
    features = one.match[:40] + 0.01
    # All cells and much of the graph are read, so even noise finds its nearest.
    converted = tiny.match(features, one, index=kind).values
    exact = tiny.match(features, one, index="flat").values
    assert (converted - exact).norm() < 0.05 * converted.norm()
    (path,) = (entry.path for entry in kept_indices().files())
    before = path.stat().st_ino  # another file would have another
    with monkeypatch.context() as patch:
        patch.setattr(indices, "build", lambda *_: pytest.fail("it was built again"))
        assert torch.equal(tiny.match(features, load(saved), index=kind).values, converted)
    assert path.stat().st_ino == before
    path.write_bytes(flip(path.read_bytes(), 100))  # damaged: built again, without a word
    assert torch.equal(tiny.match(features, load(saved), index=kind).values, converted)
    content = indices.content_hash(kind, [one.match], "")
    assert indices.IndexCache().load(kind, content) is not None
    assert list(saved.parent.glob("*.faiss")) == []


def test_another_set_of_the_same_name_has_another_index(tiny: VoiceConverter, saved: Path) -> None:
    one = load(saved)
    tiny.match(one.match[:5], one, index="ivf")
    turned = one.match.flip(0).contiguous()
    dataclasses.replace(one, match=turned, synth=turned).save(saved, force=True)
    converted = tiny.match(turned[:5], load(saved), k=1, index="ivf").values
    assert (converted - turned[:5]).norm() < 1e-2 * converted.norm()
    assert len(kept_indices().files()) == 2


def test_an_index_that_cannot_be_kept_is_told(
    tiny: VoiceConverter, saved: Path, cache: Path
) -> None:
    cache.mkdir()
    (cache / "indices").write_text("in the way")
    one = load(saved)
    with pytest.warns(KnnvcWarning, match="the index is not kept: "):
        assert tiny.prepare(one, "ivf") == "ivf"
    assert torch.isfinite(tiny.match(one.match[:5], one, index="ivf").values).all()


def test_a_set_in_memory_keeps_its_index_there(tiny: VoiceConverter, saved: Path) -> None:
    one = dataclasses.replace(load(saved), origin=None)
    tiny.match(one.match[:5], one, index="ivf")
    assert not kept_indices().files()


def test_mini_searches_its_acoustic_space(
    mini: VoiceConverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = 0.05 * torch.randn(2 * 16_000, generator=torch.Generator().manual_seed(2))
    one = mini.matching_set((noise, 16_000), trim=False)
    seen: list[Tensor] = []

    def build(match: Tensor, kind: str, progress: object) -> indices.ApproximateIndex:
        seen.append(match)
        return indices.ApproximateIndex(kind, real(match, kind).faiss)

    real = indices.build
    monkeypatch.setattr(indices, "build", build)
    mini.match(mini.encode((noise, 16_000)), one, index="ivf")
    assert isinstance(mini.converter, MiniConverter)
    space = mini.converter.space
    statistics = space.statistics(one.synth, one.match)
    assert torch.equal(seen[0], space.vectors(one.synth, one.match, statistics, one.frame_start))


def test_the_command_line_builds_and_uses_an_index(
    preset: Path, saved: Path, tmp_path: Path
) -> None:
    import soundfile as sf

    noise = np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    sf.write(tmp_path / "voice.wav", noise, 16_000, subtype="FLOAT")
    target = tmp_path / "ben.safetensors"

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(cli, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    build = ("set", "build", tmp_path / "voice.wav", "-o", target, "--preset", preset)
    run(*build, "--index", "ivf")
    (written,) = kept_indices().files()
    output = tmp_path / "out.wav"
    run("convert", saved.parent / "voice.wav", "--ref", target, "-o", output, "--preset", preset,
        "--index", "ivf", "--chunk", "5")  # fmt: skip
    assert sf.info(str(output)).frames == 32_000
    assert [entry.path for entry in kept_indices().files()] == [written.path]
    assert "indices  1\n" in run("cache", "info")
    run(*build, "--force")  # auto: this small set needs none, and the old one is of the same frames
    assert isinstance(load(target), MatchingSet)
    refused = CliRunner().invoke(cli, ["convert", "a", "--ref", "b", "--index", "annoy"])
    assert refused.exit_code == 2
    assert ConvertOptions().index == "auto"
