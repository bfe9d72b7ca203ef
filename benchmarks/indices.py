"""Exact and approximate search in large matching sets: recall, time, memory.

    python benchmarks/indices.py encode --reference DIR --source DIR   # once: real frames
    python benchmarks/indices.py run --frames 100000 --kind ivf        # one row; add more at will
    python benchmarks/indices.py report                                # table and plot

Frames are those of real speech, encoded by a preset in the space that it searches. There are
hours, not days, of it at hand, so a set is grown to the wanted size: every further frame lies at a
random place between a real frame and the next one of its recording, plus noise of --noise of each
column's spread. Queries are real frames of another speaker, as they are. Each kind is run in a
process of its own, so that the peak of its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import faiss
import torch
from torch import Tensor

from knnvc.audio import find_audio, load_audio
from knnvc.converters import approximate as indices
from knnvc.converters.search import Index
from knnvc.pipeline import VoiceConverter

HERE = Path(__file__).parent
K = 4
BLOCK = 100_000


def encode(args: argparse.Namespace) -> None:
    """Vectors of the real frames of a reference and of a source speaker, and where files end."""
    converter = VoiceConverter.from_preset(args.preset)
    saved: dict[str, Tensor] = {}
    for name in ("reference", "source"):
        spoken, ends = [], 0
        for path in find_audio(getattr(args, name)):
            waveform = load_audio(path)
            if len(waveform) > 16_000:
                spoken.append(converter.encode((waveform, 16_000)))
                ends += len(spoken[-1])
            if ends > 50 * 60 * args.minutes:
                break
        # One speaker, so that its statistics are over everything.
        saved[name] = converter.converter.compared(torch.cat(spoken))
        print(f"{name}: {ends} frames of {saved[name].shape[1]} columns")
    torch.save(saved, args.cache)


def grown(real: Tensor, frames: int, noise: float, dtype: torch.dtype) -> Tensor:
    """`frames` vectors: the real ones first, then as many between them as are wanted."""
    generator = torch.Generator().manual_seed(0)
    out = torch.empty(frames, real.shape[1], dtype=dtype)
    out[: len(real)] = real[:frames]
    spread = noise * real.std(0)
    for start in range(len(real), frames, BLOCK):
        count = min(BLOCK, frames - start)
        at = torch.randint(len(real) - 1, (count,), generator=generator)
        share = torch.rand(count, 1, generator=generator)
        between = real[at] * (1 - share) + real[at + 1] * share
        out[start : start + count] = between + spread * torch.randn(
            between.shape, generator=generator
        )
    return out


def peak() -> float:
    """The most memory in MB that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


def searched(index: indices.ApproximateIndex | Index, query: Tensor) -> tuple[Tensor, float]:
    """Rows found, and seconds of CPU, which other processes lengthen less than seconds of wall."""
    began = time.process_time()
    rows = index.search(query, K)[1]
    return rows, time.process_time() - began


def run(args: argparse.Namespace) -> None:
    """One kind at one size: build, search with several settings, append to the results."""
    # long: a script, read from top to bottom
    saved = torch.load(args.cache, weights_only=True)
    query = saved["source"][:: max(1, len(saved["source"]) // args.queries)][: args.queries].clone()
    real = min(len(saved["reference"]), args.frames)
    if args.columns:  # a random projection onto orthogonal directions nearly keeps the cosines
        directions = torch.randn(
            query.shape[1], args.columns, generator=torch.Generator().manual_seed(0)
        )
        directions = torch.linalg.qr(directions)[0]
        query, saved["reference"] = query @ directions, saved["reference"] @ directions
    dtype = torch.float16 if args.half else torch.float32
    match = grown(saved["reference"], args.frames, args.noise, dtype)
    del saved
    before = peak()
    exact = Index(match)
    truth = args.cache.with_name(f"{args.cache.stem}-{args.frames}-{args.queries}.pt")
    row = {
        "kind": args.kind,
        "frames": args.frames,
        "real_frames": real,
        "columns": match.shape[1],
        "queries": len(query),
        "threads": torch.get_num_threads(),
        "faiss": faiss.__version__,
        "torch": torch.__version__,
    }
    rows = []
    if args.kind == "flat":
        found, seconds = searched(exact, query)
        torch.save(found, truth)
        row |= {"setting": "", "build_s": 0.0, "search_s": seconds, "recall": 1.0}
        rows.append(row | {"index_mb": 0.0, "peak_mb": peak()})
    else:
        expected = torch.load(truth, weights_only=True)
        indices.IVF_CELLS_PER_ROOT = args.cells_per_root
        began = time.process_time()
        index = indices.build(match, args.kind)
        build_s = time.process_time() - began
        most = peak()
        size = index_bytes(index)
        name = {"ivf": "IVF_PROBES", "hnsw": "HNSW_SEARCH_BEAM"}[args.kind]
        for value in args.settings or [getattr(indices, name)]:
            setattr(indices, name, value)
            found, seconds = searched(index, query)
            recall = float((found[:, :, None] == expected[:, None, :]).any(2).float().mean())
            # Another frame almost as near is as good: how much further away are those found?
            cosines = [nearness(query, match, rows_) for rows_ in (found, expected)]
            rows.append(
                row
                | {
                    "setting": f"{'probes' if args.kind == 'ivf' else 'beam'} {value}",
                    "build_s": build_s,
                    "search_s": seconds,
                    "recall": recall,
                    "cosine_lost": float((cosines[1] - cosines[0]).mean()),
                    "index_mb": size / 1e6,
                    "peak_mb": most,
                    "cells": getattr(index.faiss, "nlist", None),
                }
            )
    with args.results.open("a") as handle:
        for one in rows:
            one["set_mb"] = match.numel() * match.element_size() / 1e6
            one["before_mb"] = before
            handle.write(json.dumps(one) + "\n")
            print(json.dumps(one))


def nearness(query: Tensor, match: Tensor, rows: Tensor) -> Tensor:
    """Mean cosine of every query to the frames found for it."""
    return torch.nn.functional.cosine_similarity(query[:, None], match[rows].float(), dim=2).mean(1)


def index_bytes(index: indices.ApproximateIndex) -> int:
    """Size of the index as it would be written."""
    count = 0

    def write(block: bytes) -> int:
        nonlocal count
        count += len(block)
        return len(block)

    faiss.write_index(index.faiss, faiss.PyCallbackIOWriter(write, 1 << 20))
    return count


def report(args: argparse.Namespace) -> None:
    """The results as a Markdown table, and as a plot."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from knnvc.evaluation.figures import PALETTE

    rows = [json.loads(line) for line in args.results.read_text().splitlines()]
    rows.sort(key=lambda r: (r["frames"], ["flat", "ivf", "hnsw"].index(r["kind"]), r["search_s"]))
    print(
        "| frames × columns | index | recall@4 | cosine lost | build | search | index | process |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['frames']:,} × {r['columns']} | {r['kind']} {r['setting']} "
            f"| {100 * r['recall']:.1f} % | {r.get('cosine_lost', 0):.5f} | {r['build_s']:.1f} s "
            f"| {1000 * r['search_s'] / r['queries']:.3f} ms | {r['index_mb']:.0f} MB "
            f"| {r['peak_mb'] / 1000:.1f} GB |"
        )
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for (kind, marker), color in zip(
        (("flat", "o"), ("ivf", "s"), ("hnsw", "^")), PALETTE, strict=False
    ):
        look = {"marker": marker, "color": color}  # the same on the left and on the right
        name = {"ivf": f"probes {indices.IVF_PROBES}", "hnsw": f"beam {indices.HNSW_SEARCH_BEAM}"}
        mine = [r for r in rows if r["kind"] == kind and r["setting"] == name.get(kind, "")]
        sizes = [r["frames"] for r in mine]
        label = f"{kind} {name.get(kind, '')}"
        milliseconds = [1000 * r["search_s"] / r["queries"] for r in mine]
        left.plot(sizes, milliseconds, label=label, **look)
        if kind != "flat":
            right.plot(sizes, [100 * r["recall"] for r in mine], label=label, **look)
    left.axvline(indices.AUTO_FRAMES, color="grey", linestyle=":", label="--index auto changes")
    fewest, most = (f(rows, key=lambda r: r["frames"]) for f in (min, max))
    if most["columns"] != fewest["columns"]:
        left.set_title(f"the largest set has {most['columns']} columns, the others more", size=9)
    left.set(xscale="log", yscale="log", xlabel="frames in the matching set")
    left.set_ylabel("search, ms of CPU per source frame")
    right.set(xscale="log", xlabel="frames in the matching set", ylabel="recall@4 in per cent")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(args.plot, metadata={"Date": None})


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=HERE / "results/indices.jsonl")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/knnvc-indices.pt"))
    tasks = parser.add_subparsers(required=True)
    task = tasks.add_parser("encode")
    task.add_argument("--reference", required=True)
    task.add_argument("--source", required=True)
    task.add_argument("--preset", default="mini")
    task.add_argument("--minutes", type=float, default=60.0)
    task.set_defaults(work=encode)
    task = tasks.add_parser("run")
    task.add_argument("--frames", type=int, required=True)
    task.add_argument("--kind", choices=("flat", *indices.APPROXIMATE), required=True)
    task.add_argument("--queries", type=int, default=2000)
    task.add_argument("--settings", type=int, nargs="*", help="probes or beams to search with")
    task.add_argument("--columns", type=int, help="project the vectors to so many")
    task.add_argument("--half", action="store_true", help="hold the set in float16")
    task.add_argument("--cells-per-root", type=float, default=indices.IVF_CELLS_PER_ROOT)
    task.add_argument("--noise", type=float, default=0.05)
    task.set_defaults(work=run)
    task = tasks.add_parser("report")
    task.add_argument("--plot", type=Path, default=HERE.parent / "docs/indices.svg")
    task.set_defaults(work=report)
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    args.work(args)


if __name__ == "__main__":
    main()
