"""Convert a long source with a long reference on the command line: wall time and peak memory.

python benchmarks/long_audio.py --minutes 60 --reference-minutes 60
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from audio import SOURCE, TARGET, repeated

from knnvc.audio import SAMPLE_RATE, load_audio, write_audio


def main() -> None:
    """Write the recordings, convert them in a process of its own, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of the source")
    parser.add_argument("--reference-minutes", type=float, default=60.0)
    parser.add_argument("--preset", default="mini")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, reference = Path(folder, "source.wav"), Path(folder, "reference.wav")
        output = Path(folder, "converted.wav")
        write_audio(source, repeated(SOURCE, 60 * args.minutes), SAMPLE_RATE)
        write_audio(reference, repeated(TARGET, 60 * args.reference_minutes), SAMPLE_RATE)
        command = [sys.executable, "-m", "knnvc.cli", "convert", source, "--ref", reference]
        began = time.monotonic()
        subprocess.run([*command, "--preset", args.preset, "-o", output], check=True)
        seconds = time.monotonic() - began
        made = len(load_audio(output)) / SAMPLE_RATE
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    audio = 60 * (args.minutes + args.reference_minutes)
    print(
        f"{args.minutes:g} min of source, {args.reference_minutes:g} min of reference, preset "
        f"{args.preset}, {torch.get_num_threads()} threads: {seconds:.1f} s, "
        f"{audio / seconds:.1f} s of audio read for each second, peak memory {peak / 1e9:.2f} GB, "
        f"{made:.1f} s written"
    )


if __name__ == "__main__":
    main()
