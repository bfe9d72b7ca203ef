"""Convert a long source with a long reference on the command line: wall time and peak memory.

    python benchmarks/long_audio.py convert --minutes 60 --reference-minutes 60
    python benchmarks/long_audio.py chunks --minutes 10 --chunks 30 120

`convert` makes the recordings by repeating those of examples/audio, converts one into the voice of
the other with `knnvc convert` in a process of its own, and watches that process. `chunks` encodes,
matches and vocodes one source with two chunk lengths and says what is different.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from audio import SOURCE, TARGET, repeated
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.pipeline import VoiceConverter

SEAM_FRAMES = 50  # nearer than a second to a seam counts as at it

# Runs `knnvc` and then tells the most memory it held, in bytes.
WATCHED = """
import json, resource, sys, time
from knnvc.cli.main import cli
began = time.process_time()
try:
    cli.main(sys.argv[2:], prog_name="knnvc")
except SystemExit as done:
    code = done.code
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak *= 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
json.dump({"peak": peak, "cpu": time.process_time() - began}, open(sys.argv[1], "w"))
sys.exit(code)
"""


def watched(folder: Path, *arguments: str | Path) -> dict[str, float]:
    """Run `knnvc` with these arguments: seconds of wall and CPU, most memory in bytes."""
    report = folder / "report.json"
    command = [sys.executable, "-c", WATCHED, str(report), *map(str, arguments)]
    began = time.monotonic()
    subprocess.run(command, check=True)
    return {"wall": time.monotonic() - began, **json.loads(report.read_text())}


def convert(args: argparse.Namespace) -> None:
    """Write the recordings, convert them, report; --save-set encodes the reference apart."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, reference = folder / "source.wav", folder / "reference.wav"
        output = folder / "converted.wav"
        write_audio(source, repeated(SOURCE, 60 * args.minutes), SAMPLE_RATE)
        write_audio(reference, repeated(TARGET, 60 * args.reference_minutes), SAMPLE_RATE)
        common = ("--preset", args.preset, "--chunk", str(args.chunk), "--index", args.index)
        steps = {}
        if args.save_set:
            saved = folder / "reference.safetensors"
            steps["set build"] = watched(folder, "set", "build", reference, "-o", saved, *common)
            reference = saved
        steps["convert"] = watched(
            folder, "convert", source, "--ref", reference, "-o", output, *common
        )
        made = len(load_audio(output)) / SAMPLE_RATE
    for step, told in steps.items():
        print(
            f"{step}: {args.minutes:g} min of source, {args.reference_minutes:g} min of reference, "
            f"preset {args.preset}, index {args.index}, chunks of {args.chunk:g} s, "
            f"{torch.get_num_threads()} threads: {told['wall']:.0f} s, {told['cpu']:.0f} s of CPU, "
            f"peak memory {told['peak'] / 1e9:.2f} GB"
        )
    print(f"{made:.1f} s written")


def chunks(args: argparse.Namespace) -> None:
    """What another chunk length changes, stage by stage."""
    source = repeated(SOURCE, 60 * args.minutes)
    if args.source:
        source = load_audio(args.source)[: round(60 * args.minutes * SAMPLE_RATE)]
    features: list[Tensor] = []
    for seconds in args.chunks:
        converter = VoiceConverter.from_preset(args.preset, "cpu", chunk_seconds=seconds)
        features.append(converter.encode((source, SAMPLE_RATE)))
    at = torch.arange(len(features[0]))
    far = torch.ones(len(at), dtype=torch.bool)
    for seconds in args.chunks:
        chunk = round(seconds * 50)
        far &= (at < SEAM_FRAMES) | ((at + SEAM_FRAMES) % chunk >= 2 * SEAM_FRAMES)
    columns = converter.encoder.columns
    one, other = features
    print(f"{len(at)} frames, {int(far.sum())} of them a second or more from any seam")
    # The pitch of unvoiced frames says nothing but is large: compare what is searched by instead.
    searched = [converter.converter.compared(each) for each in features]
    spectra = columns.synth if columns.pitch is None else slice(0, columns.pitch)
    kinds = {"spectra": (one[:, spectra], other[:, spectra]), "searched vectors": searched}
    for name, (some, others) in kinds.items():
        difference = (some - others).norm(dim=1) / some.norm(dim=1)
        for place, mask in (("anywhere", far | True), ("away from seams", far)):
            values = difference[mask]
            print(
                f"  {name}, {place}: the same to the bit in "
                f"{float((values == 0).float().mean()):.2%} of the frames, relative difference "
                f"median {float(values.median()):.1e}, 99th percentile "
                f"{float(values.quantile(0.99)):.1e}, largest {float(values.max()):.1e}"
            )
    if args.encode_only:
        return
    voice = converter.matching_set(TARGET)
    frames = [converter.match(one, voice) for one in features]
    waves = [converter.vocode(one) for one in frames]
    matched = [one.values for one in frames]
    same = torch.cosine_similarity(*matched, dim=1)
    relative = (matched[0] - matched[1]).norm(dim=1) / matched[0].norm(dim=1)
    error = (waves[0] - waves[1]).reshape(len(at), -1)[far]
    level = waves[0].reshape(len(at), -1)[far]
    print(
        f"  converted frames, away from seams: relative difference median "
        f"{float(relative[far].median()):.1e}, 99th percentile "
        f"{float(relative[far].quantile(0.99)):.1e}; cosine {float(same[far].mean()):.5f}"
    )
    print(
        f"  waveform, away from seams: difference {float(error.norm() / level.norm()):.1e} of the "
        f"level, largest {float(error.abs().max()):.1e}"
    )


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(required=True)
    task = tasks.add_parser("convert")
    task.add_argument("--minutes", type=float, default=60.0, help="of the source")
    task.add_argument("--reference-minutes", type=float, default=60.0)
    task.add_argument("--index", choices=("flat", "hnsw", "ivf", "auto"), default="auto")
    task.add_argument("--chunk", type=float, default=30.0, help="seconds encoded at a time")
    task.add_argument("--save-set", action="store_true", help="encode the reference beforehand")
    task.set_defaults(work=convert)
    other = tasks.add_parser("chunks")
    other.add_argument("--minutes", type=float, default=10.0)
    other.add_argument("--source", help="a recording; by default that of examples/audio, repeated")
    other.add_argument("--chunks", type=float, nargs=2, default=(30.0, 120.0), metavar="SECONDS")
    other.add_argument("--encode-only", action="store_true", help="stop after the features")
    other.set_defaults(work=chunks)
    for one in (task, other):
        one.add_argument("--preset", default="mini")
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
