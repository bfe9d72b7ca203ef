"""How a batch scales from one worker to two, against a `knnvc convert` for each file.

python benchmarks/batch.py --files 24 --seconds 10 --workers 1 2 --singles 3

Each run starts from nothing but the cached reference. Scaling is the ratio of rates while files are
being converted: between the first and the last finished file, so that loading the preset, which
happens once however long the batch is, does not count; the whole with it is printed as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from audio import SOURCE, TARGET, repeated

from knnvc.audio import SAMPLE_RATE, write_audio

COMMAND = [sys.executable, "-m", "knnvc.cli.main"]


def batch(sources: Path, output: Path, workers: int) -> tuple[float, list[float]]:
    """Seconds of the whole command, and of the finished files, counted from its start."""
    began, finished = time.perf_counter(), []
    arguments = ["batch", str(sources), str(output), "--ref", str(TARGET)]
    with subprocess.Popen(
        [*COMMAND, *arguments, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        for _ in process.stdout:
            finished.append(time.perf_counter() - began)
    assert process.returncode == 0
    return time.perf_counter() - began, finished


def padding() -> tuple[float, float]:
    """What padding a short recording to a longer one's length does to its features.

    Returns:
        The largest difference of a match feature over the frames of the short one, and the time of
        a padded batch of four relative to four single calls, in one thread.
    """
    from knnvc.pipeline import VoiceConverter

    torch.set_num_threads(1)
    network = VoiceConverter.from_preset("mini", "cpu").encoder.network
    speech = repeated(SOURCE, 10.0)
    clips = [speech[: SAMPLE_RATE * seconds] for seconds in (7, 8, 9, 10)]
    padded = torch.stack([torch.nn.functional.pad(c, (0, len(speech) - len(c))) for c in clips])
    times: dict[str, float] = {"single": float("inf"), "batch": float("inf")}
    with torch.inference_mode():
        for _ in range(3):
            began = time.perf_counter()
            single = [network(clip[None])[0] for clip in clips]
            times["single"] = min(times["single"], time.perf_counter() - began)
            began = time.perf_counter()
            together = network(padded)
            times["batch"] = min(times["batch"], time.perf_counter() - began)
    columns = network.columns.match  # type: ignore[union-attr]
    alone, beside = single[0][:, columns], together[0, : len(single[0]), columns]
    return float((alone - beside).abs().max()), times["batch"] / times["single"]


def main() -> None:
    """Run it."""
    # long: a script, read from top to bottom
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each file")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--singles", type=int, default=3, help="calls of `knnvc convert`")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}\n")
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KNNVC_CACHE"] = str(folder / "cache")
        for number in range(args.files):
            # The order of work is by length: as good as equal, and no two the same.
            speech = repeated(SOURCE, args.seconds + number / 1000)
            (folder / "in").mkdir(exist_ok=True)
            write_audio(folder / "in" / f"{number}.wav", speech, SAMPLE_RATE)
        (folder / "one").mkdir()
        shutil.copy(folder / "in" / "0.wav", folder / "one")
        batch(folder / "one", folder / "warm", 1)  # encodes the reference
        audio = args.files * args.seconds
        rates: dict[int, float] = {}
        for workers in sorted(set(args.workers)):
            for repeat in range(args.repeats):
                whole, finished = batch(folder / "in", folder / f"{workers}-{repeat}", workers)
                # The first file of each worker is where counting begins.
                steady = finished[workers - 1 :]
                rate = (len(steady) - 1) / (steady[-1] - steady[0])
                rates[workers] = max(rates.get(workers, 0.0), rate)
                print(
                    f"{workers} workers: {rate * 60:6.1f} files a minute "
                    f"({rate * args.seconds:5.1f} x real time), whole command {whole:6.1f} s "
                    f"({audio / whole:5.1f} x real time)"
                )
                results[f"whole {workers}"] = min(results.get(f"whole {workers}", 1e9), whole)
            results[f"rate {workers}"] = rates[workers]
        for one, other in pairwise(sorted(rates)):
            share = rates[other] / rates[one] * one / other
            results[f"scaling {one} to {other}"] = share
            print(f"{one} -> {other} workers: {share:.0%} of linear")
        if args.singles:
            began = time.perf_counter()
            for number in range(args.singles):
                arguments = [str(folder / "in" / f"{number}.wav"), "--ref", str(TARGET)]
                arguments += ["-o", str(folder / f"single-{number}.wav")]
                subprocess.run(
                    [*COMMAND, "convert", *arguments], check=True, stdout=subprocess.DEVNULL
                )
            single = (time.perf_counter() - began) / args.singles
            results["single"] = single
            most = max(rates)
            print(
                f"`knnvc convert`, once a file: {single:.1f} s each; {most} workers are "
                f"{single * rates[most]:.1f} times as fast"
            )
    results["padding difference"], results["padding time"] = padding()
    print(
        f"padding 7 to 10 s changes match features by up to {results['padding difference']:.1e} "
        f"and a padded batch of four takes {results['padding time']:.2f} of the time of four calls"
    )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
