"""Our wavlm-large pipeline against the steps of published kNN-VC, with the same random weights.

The shapes are those of WavLM-Large (up to layer 6) and of the kNN-VC HiFi-GAN; time and memory do
not depend on the values. One run of this script measures both sides, each size in a process of its
own so that peaks of memory are separate, one after the other on the same threads:

- reference: what github.com/bshall/knn-vc does, restated: every recording whole, in float32;
  WavLM by transformers, layers 1 to 6, whose attention forms whole [heads, T, T] matrices as the
  published one does; `torch.cdist` over all frames; HiFi-GAN over all frames.
- ours: `VoiceConverter` over a preset folder with these weights, loaded by the usual loaders, once
  in float32 and once in bfloat16.

"By CPU time" compares the processor seconds of both sides, which other work on a busy machine
changes far less than it changes wall time.

The reference audio is one recording of the length given, or with --utterances recordings of so
many seconds. Peak memory is the largest resident set of the process. A size that the memory limit
does not allow is reported as "does not fit".

    python benchmarks/against_reference.py --sizes 10 60 300 600 --out against_reference
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SIDES = ("reference", "ours float32", "ours bfloat16")
RATE = 16_000
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


def speech(seconds: float, seed: int) -> Tensor:
    """Noise with a syllable's envelope [S]; what it says does not matter to the time."""
    samples = round(seconds * RATE)
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * (1.2 + torch.sin(torch.arange(samples) * (2 * math.pi * 4 / RATE)))


def build_preset(folder: Path) -> None:
    """A preset folder with random weights of the published shapes."""
    from knnvc.encoders.wavlm import WavLM, WavLMConfig
    from knnvc.presets.search import PUBLISHED
    from knnvc.tensors import write_tensors
    from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

    torch.manual_seed(0)
    published = PUBLISHED["wavlm-large"]
    write_tensors(folder / "encoder.safetensors", WavLM(WavLMConfig.from_dict(LARGE)).state_dict())
    vocoder = HifiGanConfig.from_dict(published.vocoder_config)
    write_tensors(folder / "vocoder.safetensors", HifiGan(vocoder).state_dict())
    content = {
        "format_version": 2,
        "name": "random-large",
        "description": "Random weights of the published shapes.",
        "sample_rate": RATE,
        "encoder": {
            "type": "wavlm",
            "weights": "encoder.safetensors",
            "config": LARGE,
            "match_layer": 6,
            "synth_layer": 6,
        },
        "converter": {"type": "knn", "config": {"k": 4, "weighting": "mean", "lam": 1.0}},
        "vocoder": {
            "type": "hifigan",
            "weights": "vocoder.safetensors",
            "config": dict(published.vocoder_config),
        },
        "text_front_end": None,
        "licence": "none",
        "licences": {},
        "provenance": {},
    }
    (folder / "preset.json").write_text(json.dumps(content), encoding="utf-8")


class Reference:
    """The published steps, restated plainly."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from transformers import WavLMConfig, WavLMModel

        from knnvc.presets.search import PUBLISHED
        from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

        self.wavlm = WavLMModel(WavLMConfig(**LARGE, mask_time_prob=0.0, layerdrop=0.0)).eval()
        self.wavlm.load_state_dict(load_file(folder / "encoder.safetensors"))
        self.hifigan = HifiGan(
            HifiGanConfig.from_dict(PUBLISHED["wavlm-large"].vocoder_config)
        ).eval()
        self.hifigan.load_state_dict(load_file(folder / "vocoder.safetensors"))

    def features(self, waveform: Tensor, trim: bool) -> Tensor:
        """Features [T, D] of the whole waveform [S] at once."""
        if trim:
            from knnvc.audio import trim_silence

            waveform = trim_silence(waveform)
        taken: list[Tensor] = []
        last = self.wavlm.encoder.layers[-1]
        hook = last.register_forward_hook(lambda _m, _a, output: taken.append(output[0]))
        self.wavlm(waveform[None])
        hook.remove()
        return taken[0][0]

    @torch.inference_mode()
    def convert(self, source: Tensor, references: list[Tensor], lap: Any) -> Tensor:
        """Waveform [S] of the source in the target's voice."""
        from knnvc.audio import normalize_loudness

        target = torch.cat([self.features(one, trim=True) for one in references])
        lap("references")
        query = self.features(source, trim=False)
        lap("source")
        squared = torch.cdist(query[None], target[None])[0] ** 2
        norms = query.norm(dim=1)[:, None], target.norm(dim=1)[None]
        cosine = (norms[0] ** 2 + norms[1] ** 2 - squared) / 2 / (norms[0] * norms[1])
        nearest = (1 - cosine).topk(4, largest=False).indices
        matched = target[nearest].mean(1)
        lap("matching")
        waveform = normalize_loudness(self.hifigan(matched[None])[0, 0], RATE)
        lap("vocoding")
        return waveform


class Ours:
    """The pipeline of this package."""

    def __init__(self, folder: Path, precision: str) -> None:
        from knnvc.pipeline import VoiceConverter

        self.converter = VoiceConverter.from_preset(folder, "cpu", precision=precision)

    def convert(self, source: Tensor, references: list[Tensor], lap: Any) -> Tensor:
        """Waveform [S] of the source in the target's voice."""
        from knnvc.audio import normalize_loudness

        converter = self.converter
        voice = converter.matching_set([(one, RATE) for one in references])
        lap("references")
        query = converter.encode((source, RATE))
        lap("source")
        matched = converter.match(query, voice)
        lap("matching")
        waveform = normalize_loudness(converter.vocode(matched), RATE)
        lap("vocoding")
        return waveform


def measure(pipe: Any, side: str, folder: str, seconds: float, options: dict[str, Any]) -> None:
    """Convert once and send seconds by stage and the peak of memory, in a process of its own."""
    limit = int(options["memory_gb"] * 1e9)
    torch.set_num_threads(options["threads"])
    try:
        base = Path(folder)
        runner: Any = Reference(base) if side == "reference" else Ours(base, side.split()[1])
        source = speech(options["source"], 1)
        whole = speech(seconds, 2)
        references = list(whole.split(round((options["utterances"] or seconds) * RATE)))
        resident = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        used = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (resident - used + limit, -1))
        runner.convert(source[:RATE], [source[:RATE]], lambda _: None)  # lazy set-up
        stages: dict[str, float] = {}
        last = began = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal last
            now = time.perf_counter()
            stages[name] = now - last
            last = now

        cpu = time.process_time()
        runner.convert(source, references, lap)
        result: dict[str, Any] = {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "stages": stages,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    except (RuntimeError, MemoryError) as error:
        result = {"does_not_fit": str(error).splitlines()[0][:120]}
    pipe.send(result)
    pipe.close()


def run(side: str, folder: str, seconds: float, options: dict[str, Any]) -> dict[str, Any]:
    """`measure` in a new process; what kills it is a result as well."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(send, side, folder, seconds, options))
    child.start()
    send.close()
    try:
        result: dict[str, Any] = receive.recv()
    except EOFError:
        result = {"does_not_fit": "the process was killed"}
    child.join()
    return {"side": side, "reference_seconds": seconds, **result}


def multiplication_rates(threads: int) -> dict[str, float]:
    """GFLOP/s of matrix products of 2048 x 2048 here: the limit that speeds are held against.

    By CPU time, so that other work on the machine counts little; of all threads together.
    """
    from knnvc.kernels import linear

    torch.set_num_threads(threads)
    rates = {}
    matrix = torch.randn(2048, 2048)
    with torch.inference_mode():
        for name, one, product in (
            ("float32, torch", matrix, functional.linear),
            ("float32, ours", matrix, linear),
            ("bfloat16", matrix.bfloat16(), linear),
        ):
            best = math.inf
            for _ in range(6):
                began = time.process_time()
                product(one, one)
                best = min(best, (time.process_time() - began) / threads)
            rates[name] = 2 * 2048**3 / best / 1e9
    return rates


def exponent(points: list[tuple[float, float]]) -> float | None:
    """Slope of a straight line through the logarithms; 1 is linear growth."""
    if len(points) < 2:
        return None
    x = torch.tensor([math.log(one) for one, _ in points])
    y = torch.tensor([math.log(two) for _, two in points])
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Seconds and megabytes over the reference's length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for axis, key, label in zip(
        axes, ("seconds", "peak_mb"), ("seconds", "peak memory, MB"), strict=True
    ):
        for side in SIDES:
            rows = [one for one in results if one["side"] == side and key in one]
            axis.plot(
                [one["reference_seconds"] for one in rows],
                [one[key] for one in rows],
                "o-",
                label=side,
            )
        axis.set(xscale="log", yscale="log", xlabel="reference, seconds", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print the table, write JSON and plot."""
    # long: a script, read from top to bottom
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[10, 60, 300, 600])
    parser.add_argument("--source", type=float, default=10.0, help="seconds")
    parser.add_argument("--utterances", type=float, help="seconds of each reference recording")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory-gb", type=float, default=12.0, help="a process may take")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--out", type=Path, default=Path("against_reference"))
    args = parser.parse_args()
    options = {key: vars(args)[key] for key in ("source", "utterances", "threads", "memory_gb")}
    rates = multiplication_rates(args.threads)
    print(f"torch {torch.__version__}, {options}")
    print("GFLOP/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()))

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        build_preset(Path(folder))
        for seconds in args.sizes:
            for side in args.sides:
                row = run(side, folder, seconds, options)
                base = next(
                    (
                        one
                        for one in results
                        if one["side"] == "reference"
                        and one["reference_seconds"] == seconds
                        and "seconds" in one
                    ),
                    None,
                )
                text = f"{seconds:6.0f} s  {side:<14} "
                if "seconds" in row:
                    text += f"{row['seconds']:8.1f} s {row['cpu_seconds']:8.1f} s of CPU "
                    text += f"{row['peak_mb']:8.0f} MB"
                    if base:
                        row["times_as_fast"] = base["seconds"] / row["seconds"]
                        row["times_as_fast_cpu"] = base["cpu_seconds"] / row["cpu_seconds"]
                        row["of_its_memory"] = row["peak_mb"] / base["peak_mb"]
                        text += f"  {row['times_as_fast']:5.2f} x as fast "
                        text += f"({row['times_as_fast_cpu']:.2f} by CPU time), "
                        text += f"{row['of_its_memory']:.2f} of the memory"
                else:
                    text += f"does not fit {args.memory_gb:g} GB"
                print(text, flush=True)
                results.append(row)

    growth = {
        side: {
            key: exponent(
                [
                    (one["reference_seconds"], one[key])
                    for one in results
                    if one["side"] == side and key in one and one["reference_seconds"] >= 60
                ]
            )
            for key in ("seconds", "cpu_seconds", "peak_mb")
        }
        for side in args.sides
    }
    print("growth with the reference, exponent from 60 s on:", json.dumps(growth))
    content = {"options": options, "gflops": rates, "results": results, "growth": growth}
    args.out.with_suffix(".json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    plot(results, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
