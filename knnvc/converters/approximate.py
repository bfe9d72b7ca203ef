"""Approximate search for very large matching sets, and the files that keep its indices.

Exact search (`knnvc.converters.search.Index`) compares every source frame with every frame of the
matching set. Past `AUTO_FRAMES` frames an index that looks at a part of them pays:

- `ivf`: frames are sorted into cells around k-means centroids, and a search reads the cells nearest
  to the query (Sivic and Zisserman 2003, doi:10.1109/ICCV.2003.1238663);
- `hnsw`: a graph of near neighbours is walked (Malkov and Yashunin 2016,
  https://arxiv.org/abs/1603.09320).

Both are faiss's, over unit vectors in float16 (its scalar quantiser), with fixed seeds. Building
HNSW runs on one thread, since its graph depends on the order in which threads add to it.

The index of a saved matching set is kept in this user's cache folder (`IndexCache`), under the
sha256 of what it was derived from (`content_hash`). The file is faiss's own format and then the
sha256 of that: one with damage is built anew. faiss parses files in C++ without defence against
malice, so none that came with a matching set is ever read: only what this user wrote is.

M source frames, N frames in the matching set, D columns, k neighbours.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from knnvc.converters.search import check_match, check_query, unit_blocks
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path
from knnvc.kept import KeptFiles, kept_indices

APPROXIMATE = ("hnsw", "ivf")
KINDS = ("flat", *APPROXIMATE, "auto")
AUTO_FRAMES = 200_000
AUTO_KIND = "ivf"

HNSW_LINKS = 32  # of a frame to others, twice as many in the lowest layer
HNSW_BUILD_BEAM = 80  # candidates held while a frame is added
HNSW_SEARCH_BEAM = 128  # candidates held while searching
IVF_CELLS_PER_ROOT = 4.0  # cells = 4 · √N, from the range of 4 to 16 that faiss's guide gives
IVF_PROBES = 64  # cells read
IVF_TRAINING = 64  # frames a cell that k-means sees; 39 is faiss's least
IVF_ITERATIONS = 10
SEED = 1234

_BLOCK = 16_384  # rows that are scaled and added, or searched, at a time
_HASH_BYTES = 32
_READ_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Called as `progress(frames_done, frames_total)`."""


class ApproximateIndex:
    """A faiss index over one matching set; `build` or `load` makes it.

    Of the true k nearest frames it finds most (docs/large-sets.md states the recall). Distances are
    those of vectors rounded to float16: right to about 1e-3.
    """

    def __init__(self, kind: str, index: Any) -> None:
        self.kind = kind
        self.frames = int(index.ntotal)
        self.dim = int(index.d)
        self.faiss = index

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find about the `k` nearest frames; arguments and results as of `Index.search`."""
        check_query(query, k, self.frames, self.dim)
        distances = torch.empty(len(query), k)
        indices = torch.empty(len(query), k, dtype=torch.int64)
        start = 0
        for block in unit_blocks(query, "the source", _BLOCK):
            end = start + len(block)
            scores, rows = self._nearest(block, k)
            distances[start:end] = self._to_distances(scores).clamp_(0, 2)
            indices[start:end] = rows
            start = end
        return distances, indices

    def _nearest(self, block: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """faiss's scores and rows [m, k] for unit vectors [m, D]."""
        scores, rows = self._search(block, k, self._parameters(k))
        missing = (rows < 0).any(dim=1).nonzero()[:, 0]
        if len(missing):  # the part that was looked at holds fewer than k frames: look at all
            scores[missing], rows[missing] = self._search(block[missing], k, None)
        return scores, rows

    def _search(self, block: Tensor, k: int, parameters: Any) -> tuple[Tensor, Tensor]:
        import faiss

        index = self.faiss
        if parameters is None and self.kind == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=index.nlist)
        elif parameters is None:
            index = faiss.downcast_index(index.storage)
        scores, rows = index.search(block.numpy(), k, params=parameters)
        return torch.from_numpy(scores), torch.from_numpy(rows)

    def _parameters(self, k: int) -> Any:
        import faiss

        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(HNSW_SEARCH_BEAM, 2 * k))
        return faiss.SearchParametersIVF(nprobe=min(IVF_PROBES, self.faiss.nlist))

    def _to_distances(self, scores: Tensor) -> Tensor:
        # HNSW walks by squared Euclidean distance, which is 2 (1 - cos) between unit vectors.
        return scores / 2 if self.kind == "hnsw" else 1 - scores


def choose(kind: str, frames: int) -> str:
    """The kind of index for `frames` frames: `kind` itself, or what "auto" takes.

    Raises:
        UsageError: `kind` is none of `KINDS`.
    """
    check_kind(kind)
    if kind != "auto":
        return kind
    return AUTO_KIND if frames >= AUTO_FRAMES else "flat"


def check_kind(kind: str) -> None:
    """Raise UsageError unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise UsageError(f"index is {kind!r}: choose one of {', '.join(KINDS)}")


def build(match: Tensor, kind: str, progress: Progress | None = None) -> ApproximateIndex:
    """Index `match` [N, D], any floating dtype, which is not kept.

    Raises:
        UsageError: `kind` is not one of `APPROXIMATE`.
        KnnvcError: as `knnvc.converters.search.Index`.
    """
    if kind not in APPROXIMATE:
        raise UsageError(f"index is {kind!r}: choose one of {', '.join(APPROXIMATE)}")
    check_match(match)
    index = _empty_hnsw(match) if kind == "hnsw" else _trained_ivf(match)
    done = 0
    with _one_thread() if kind == "hnsw" else contextlib.nullcontext():
        for block in unit_blocks(match, "the matching set", _BLOCK):
            index.add(block.numpy())
            done += len(block)
            if progress:
                progress(done, len(match))
    return ApproximateIndex(kind, index)


def _empty_hnsw(match: Tensor) -> Any:
    import faiss

    index = faiss.IndexHNSWSQ(match.shape[1], faiss.ScalarQuantizer.QT_fp16, HNSW_LINKS)
    index.hnsw.efConstruction = HNSW_BUILD_BEAM
    return index


def _trained_ivf(match: Tensor) -> Any:
    import faiss

    frames, dim = match.shape
    cells = max(1, min(frames // IVF_TRAINING, round(IVF_CELLS_PER_ROOT * frames**0.5)))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        cells,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,  # frames themselves, not what is left after their centroid
    )
    index.cp.seed = SEED
    index.cp.niter = IVF_ITERATIONS
    index.cp.spherical = True
    generator = torch.Generator().manual_seed(SEED)
    sample = torch.randperm(frames, generator=generator)[: cells * IVF_TRAINING]
    training = torch.cat(list(unit_blocks(match[sample.sort().values], "the matching set", _BLOCK)))
    # Small sets have too few frames a cell for faiss's taste, and it says so on stdout.
    index.cp.min_points_per_centroid = 1
    index.train(training.numpy())
    return index


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


# Files --------------------------------------------------------------------------------------------


def content_hash(kind: str, tensors: list[Tensor], settings: str) -> bytes:
    """The sha256 of all that an index is derived from: 32 bytes.

    Args:
        kind: one of `APPROXIMATE`.
        tensors: of the matching set, on the CPU.
        settings: how the vectors to search in are made from them.
    """
    parameters = {
        "hnsw": (HNSW_LINKS, HNSW_BUILD_BEAM),
        "ivf": (IVF_CELLS_PER_ROOT, IVF_TRAINING, IVF_ITERATIONS, SEED),
    }
    digest = hashlib.sha256(repr((kind, parameters[kind], settings)).encode())
    for tensor in tensors:
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        for block in torch.split(tensor.detach(), _BLOCK):
            digest.update(block.contiguous().numpy().data)
    return digest.digest()


class IndexCache:
    """The indices in this user's cache folder, each under its `content_hash`."""

    def __init__(self, files: KeptFiles | None = None) -> None:
        self.kept = files or kept_indices()

    def path(self, content: bytes) -> Path:
        """Where the index of this `content_hash` lies, if there is one."""
        return self.kept.folder / f"{content.hex()}{self.kept.suffix}"

    def load(self, kind: str, content: bytes) -> ApproximateIndex | None:
        """Read the index of a `content_hash`; None if there is none that is whole."""
        path = self.path(content)
        try:
            with path.open("rb") as handle:
                if not _is_whole(handle):
                    return None
                found = _parse(handle, kind)
            os.utime(path)
        except OSError:
            return None
        return found

    def save(self, index: ApproximateIndex, content: bytes) -> None:
        """Write the index of a `content_hash`, whole or not at all.

        Raises:
            KnnvcError: it cannot be written.
        """
        import faiss

        path, digest = self.path(content), hashlib.sha256()
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            failure: list[OSError] = []

            def write(block: bytes) -> int:
                try:
                    digest.update(block)
                    return handle.write(block)
                except OSError as error:  # faiss would lose its reason
                    failure.append(error)
                    return 0

            try:
                faiss.write_index(index.faiss, faiss.PyCallbackIOWriter(write, _READ_BYTES))
            except RuntimeError as error:
                raise (failure[0] if failure else error) from error
            handle.write(digest.digest())
        self.kept.evict(path)


def _is_whole(handle: BinaryIO) -> bool:
    """Whether the open file has the bytes that were written; leaves it at its start."""
    body = handle.seek(0, os.SEEK_END) - _HASH_BYTES
    if body <= 0:
        return False
    digest = hashlib.sha256()
    handle.seek(0)
    while body and (block := handle.read(min(body, _READ_BYTES))):
        digest.update(block)
        body -= len(block)
    whole = digest.digest() == handle.read(_HASH_BYTES)
    handle.seek(0)
    return whole


def _parse(handle: BinaryIO, kind: str) -> ApproximateIndex | None:
    """Read the open file by the very handle that was checked, so that it cannot be exchanged."""
    import faiss

    try:
        index = faiss.read_index(faiss.PyCallbackIOReader(handle.read, _READ_BYTES))
    except RuntimeError:  # of another version of faiss
        return None
    expected = {"hnsw": faiss.IndexHNSWSQ, "ivf": faiss.IndexIVFScalarQuantizer}[kind]
    return ApproximateIndex(kind, index) if isinstance(index, expected) else None


def open_index(
    kind: str,
    vectors: Callable[[], Tensor],
    *,
    frames: int,
    keep: bool,
    content: Callable[[], bytes],
    progress: Progress | None = None,
    refused: Callable[[KnnvcError], None] | None = None,
) -> ApproximateIndex:
    """The index of a matching set: read if one is in the cache, else built and, if possible, kept.

    Args:
        kind: one of `APPROXIMATE`.
        vectors: makes the vectors [N, D] to search in; not called if an index is read.
        frames: N.
        keep: use the cache; without it the index is in memory only.
        content: makes the `content_hash`.
        progress: of building.
        refused: told why the index could not be kept.
    """
    if not keep:
        return build(vectors(), kind, progress)
    cache, key = IndexCache(), content()
    found = cache.load(kind, key)
    if found is not None and found.frames == frames:
        return found
    built = build(vectors(), kind, progress)
    try:
        cache.save(built, key)
    except KnnvcError as error:
        if refused:
            refused(error)
    return built
