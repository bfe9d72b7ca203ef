"""Approximate search for very large matching sets, and the files that keep its indices.

Exact search (`knnvc.converters.search.Index`) compares every source frame with every frame of the
matching set. Past `AUTO_FRAMES` frames an index that looks at a part of them pays:

- `ivf`: frames are sorted into cells around k-means centroids, and a search reads the cells nearest
  to the query (Sivic and Zisserman 2003, doi:10.1109/ICCV.2003.1238663);
- `hnsw`: a graph of near neighbours is walked (Malkov and Yashunin 2016,
  https://arxiv.org/abs/1603.09320).

Both are faiss's, over unit vectors in float16 (its scalar quantiser), with fixed seeds. Building
HNSW runs on one thread, since its graph depends on the order in which threads add to it.

An index belongs to the matching set it was derived from, and lies beside it: `anna.safetensors` has
`anna.ivf.faiss`. The file is faiss's own format and then 72 bytes: b"KNNVCIX1", the sha256 of what
it was derived from (`content_hash`), and an HMAC-SHA256 of both under a key that never leaves this
user's cache folder. faiss parses such files in C++ without defence against malice, so a file is
handed to it only if the HMAC proves that this user's knnvc wrote it. Anything else, be it stale,
damaged or from elsewhere, is built anew.

M source frames, N frames in the matching set, D columns, k neighbours.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from knnvc.converters.search import check_match, check_query, unit_blocks
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, cache_dir, os_reason

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
_MAGIC = b"KNNVCIX1"
_HASH_BYTES = 32
_TRAILER = len(_MAGIC) + 2 * _HASH_BYTES
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


def index_path(matching_set: Path, kind: str) -> Path:
    """Where the index of a saved matching set lies: NAME.safetensors -> NAME.KIND.faiss."""
    return matching_set.with_name(f"{matching_set.stem}.{kind}.faiss")


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


def save(index: ApproximateIndex, path: Path, content: bytes) -> None:
    """Write an index, whole or not at all, replacing what is there.

    Raises:
        KnnvcError: the file, or this user's key, cannot be written.
    """
    import faiss

    mac = hmac.new(_key(), content, hashlib.sha256)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        failure: list[OSError] = []

        def write(block: bytes) -> int:
            try:
                mac.update(block)
                return handle.write(block)
            except OSError as error:  # faiss would lose its reason
                failure.append(error)
                return 0

        try:
            faiss.write_index(index.faiss, faiss.PyCallbackIOWriter(write, _READ_BYTES))
        except RuntimeError as error:
            raise (failure[0] if failure else error) from error
        handle.write(_MAGIC + content + mac.digest())


def load(path: Path, kind: str, content: bytes) -> ApproximateIndex | None:
    """Read an index that `save` wrote for the same `content`; None if there is none to be trusted.

    Raises:
        KnnvcError: this user's key cannot be read or made.
    """
    try:
        with path.open("rb") as handle:
            if not _is_ours(handle, content):
                return None
            return _parse(handle, kind)
    except OSError:
        return None


def _is_ours(handle: BinaryIO, content: bytes) -> bool:
    """Whether this user's knnvc wrote the open file, from `content`; leaves it at its start."""
    body = handle.seek(0, os.SEEK_END) - _TRAILER
    if body <= 0:
        return False
    handle.seek(body)
    trailer = handle.read(_TRAILER)
    stated, seal = trailer[:-_HASH_BYTES], trailer[-_HASH_BYTES:]
    if stated != _MAGIC + content:
        return False
    mac = hmac.new(_key(), content, hashlib.sha256)
    handle.seek(0)
    while body and (block := handle.read(min(body, _READ_BYTES))):
        mac.update(block)
        body -= len(block)
    handle.seek(0)
    return hmac.compare_digest(mac.digest(), seal)


def _parse(handle: BinaryIO, kind: str) -> ApproximateIndex | None:
    """Read the open file by the very handle that was verified, so that it cannot be exchanged."""
    import faiss

    try:
        index = faiss.read_index(faiss.PyCallbackIOReader(handle.read, _READ_BYTES))
    except RuntimeError:  # of another version of faiss
        return None
    expected = {"hnsw": faiss.IndexHNSWSQ, "ivf": faiss.IndexIVFScalarQuantizer}[kind]
    return ApproximateIndex(kind, index) if isinstance(index, expected) else None


def _key() -> bytes:
    """This user's key for index files, made at first use.

    Raises:
        KnnvcError: the cache folder cannot be read or written.
    """
    path = cache_dir() / "index.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f".{secrets.token_hex(6)}.key")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as handle:
                    handle.write(secrets.token_bytes(_HASH_BYTES))
                # link, unlike replace, keeps the key of a process that was faster.
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, path)
            finally:
                fresh.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise KnnvcError(
            f"cannot keep the key for index files in {path.parent} ({os_reason(error)}): "
            "name another folder in KNNVC_CACHE"
        ) from error
    if len(key) != _HASH_BYTES:
        raise KnnvcError(f"{path} is damaged: delete it, and indices are built anew")
    return key


def open_index(
    kind: str,
    vectors: Callable[[], Tensor],
    *,
    frames: int,
    saved: Path | None,
    content: Callable[[], bytes],
    progress: Progress | None = None,
    refused: Callable[[KnnvcError], None] | None = None,
) -> ApproximateIndex:
    """The index of a matching set: read if one is there, else built and, if possible, kept.

    Args:
        kind: one of `APPROXIMATE`.
        vectors: makes the vectors [N, D] to search in; not called if an index is read.
        frames: N.
        saved: the matching set's file, beside which the index lies; None keeps it in memory only.
        content: makes the `content_hash`.
        progress: of building.
        refused: told why the index could not be kept.
    """
    if saved is None:
        return build(vectors(), kind, progress)
    path, key = index_path(saved, kind), content()
    problem: KnnvcError | None = None
    found: ApproximateIndex | None = None
    try:
        found = load(path, kind, key)
    except KnnvcError as error:
        problem = error
    if found is not None and found.frames == frames:
        return found
    built = build(vectors(), kind, progress)
    if problem is None:
        try:
            save(built, path, key)
        except KnnvcError as error:
            problem = error
    if problem is not None and refused:
        refused(problem)
    return built
