"""Time each stage and the whole, and compare variants within the same run.

python benchmarks/stages.py --preset mini --seconds 60 --reference-seconds 300
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import faiss
import torch
from audio import SOURCE, TARGET, repeated
from torch import Tensor
from torch.nn import functional

from knnvc.converters.matching_set import MatchingSet, load
from knnvc.converters.search import Index
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.pipeline import VoiceConverter
from knnvc.vocoders.chunked import ChunkedVocoder

Result = TypeVar("Result")
RATE = 16_000  # Hz
ALIKE = 0.9999  # cosine above which two frames count as the same


def timed(work: Callable[[], Result], repeats: int) -> tuple[Result, float]:
    """The result of `work`, and the seconds of the fastest of `repeats` calls."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return result, best


def brute_force(query: Tensor, match: Tensor, k: int) -> Tensor:
    """The yardstick of the search in blocks: all distances at once, [M, N], the k smallest."""
    distances = torch.cdist(functional.normalize(query), functional.normalize(match))
    return distances.topk(k, largest=False).indices


def row(name: str, seconds: float, audio: float, note: str = "") -> None:
    """One line: seconds of compute, and seconds of audio for each of them."""
    print(f"{name:<34} {seconds:8.2f} s {audio / seconds:9.1f} x real time  {note}".rstrip())


def frames_of(voice: MatchingSet, converter: VoiceConverter) -> Tensor:
    """The set's frames as features [N, D]."""
    columns = converter.encoder.columns
    features = torch.zeros(len(voice.synth), max(columns.synth.stop, columns.match.stop))
    features[:, columns.synth], features[:, columns.match] = voice.synth, voice.match
    return features


def main() -> None:
    """Run all stages."""
    # long: a script, read from top to bottom
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the source")
    parser.add_argument("--reference-seconds", type=float, default=300.0)
    parser.add_argument("--chunk-seconds", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {vars(args)}\n")

    began = time.perf_counter()
    converter = VoiceConverter.from_preset(args.preset, args.device)
    print(f"{'load the preset':<34} {time.perf_counter() - began:8.2f} s")
    source, reference = repeated(SOURCE, args.seconds), repeated(TARGET, args.reference_seconds)
    converter.encode((source[:16_000], RATE))  # the first call pays for lazy set-up

    # Encoding, whole and in chunks
    device, network = converter.encoder.device, converter.encoder.network
    whole = ChunkedEncoder(network, device, chunk_seconds=2 * args.seconds)
    chunked = ChunkedEncoder(network, device, chunk_seconds=args.chunk_seconds)
    features, encode_whole = timed(lambda: whole.encode(source), args.repeats)
    pieces, encode_chunked = timed(lambda: chunked.encode(source), args.repeats)
    row("encode, whole", encode_whole, args.seconds)
    row(
        "encode, in chunks",
        encode_chunked,
        args.seconds,
        f"{encode_chunked / encode_whole:.2f} of the whole's time",
    )

    # The matching set: encoded, and loaded from disk
    voice, build = timed(lambda: converter.matching_set((reference, RATE), trim=False), 1)
    row("reference, encode", build, args.reference_seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "voice.safetensors")
        voice.save(path)
        size = path.stat().st_size / 1e6
        _, load_seconds = timed(lambda: load(path), args.repeats)
    note = f"{size:.1f} MB as float16, {load_seconds / build:.4f} of the encoding's time"
    row("reference, load the saved set", load_seconds, args.reference_seconds, note)

    # Matching: in blocks, by brute force and by faiss's exact index, on the same vectors
    compared, k = converter.converter.compared, converter.k
    query, searched = compared(features), compared(frames_of(voice, converter), voice.frame_start)
    index, index_seconds = timed(lambda: Index(searched), args.repeats)
    row("match, build the index", index_seconds, args.reference_seconds)
    (_, found), search = timed(lambda: index.search(query, k), args.repeats)
    expected, brute = timed(lambda: brute_force(query, searched, k), args.repeats)
    # The reference repeats itself, so equally near frames come in any order: compare what they say.
    means = searched[found].mean(1), searched[expected].mean(1)
    same = float((functional.cosine_similarity(*means) > ALIKE).float().mean())
    note = f"{search / brute:.2f} of brute force's time, the same neighbours: {same:.1%}"
    row("match, in blocks", search, args.seconds, note)
    matrix = 4 * len(query) * len(voice.match) / 1e6
    row("match, torch.cdist", brute, args.seconds, f"needs a matrix of {matrix:.0f} MB")
    faiss.omp_set_num_threads(torch.get_num_threads())
    flat, unit = faiss.IndexFlatIP(query.shape[1]), functional.normalize(query).numpy()
    flat.add(functional.normalize(searched).numpy())
    _, by_faiss = timed(lambda: flat.search(unit, k), args.repeats)
    note = f"in blocks takes {search / by_faiss:.2f} of its time; faiss {faiss.__version__}"
    row("match, faiss flat", by_faiss, args.seconds, note)

    # Vocoding, whole and in chunks
    matched = converter.match(features, voice)
    frames = round(args.chunk_seconds * 50)
    network_ = converter.vocoder.network
    vocode_all = ChunkedVocoder(network_, len(matched))
    vocode_pieces = ChunkedVocoder(network_, frames)
    wave, vocode_whole = timed(lambda: vocode_all(matched), args.repeats)
    wave_pieces, vocode_chunked = timed(lambda: vocode_pieces(matched), args.repeats)
    row("vocode, whole", vocode_whole, args.seconds)
    row(
        "vocode, in chunks",
        vocode_chunked,
        args.seconds,
        f"{vocode_chunked / vocode_whole:.2f} of the whole's time",
    )

    # Everything but loading the preset and encoding the reference
    _, everything = timed(lambda: converter.convert((source, RATE), voice), args.repeats)
    row("convert, source to waveform", everything, args.seconds)

    print("\nWhat working in chunks changes")
    columns = converter.encoder.columns.match
    difference = (pieces[:, columns] - features[:, columns]).norm(dim=1)
    relative = difference / features[:, columns].norm(dim=1)
    at = torch.arange(len(relative)) % frames
    inside = (at >= 50) & (at < frames - 50)  # a second or more away from any seam
    for where, values in (("anywhere", relative), ("1 s or more from a seam", relative[inside])):
        print(
            f"  features, {where}: relative difference, median {float(values.median()):.1e}, "
            f"99th percentile {float(values.quantile(0.99)):.1e}, largest {float(values.max()):.1e}"
        )
    _, again = index.search(compared(pieces), k)
    means = searched[found].mean(1), searched[again].mean(1)
    near = functional.cosine_similarity(*means)
    print(f"  mean of the {k} neighbours: the same for {float((near > ALIKE).float().mean()):.1%}")
    print(f"  waveform: largest difference {float((wave - wave_pieces).abs().max()):.1e}")


if __name__ == "__main__":
    main()
