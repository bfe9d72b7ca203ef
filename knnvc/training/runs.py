"""What every training loop needs: checkpoints that survive a kill, logs to plot, a model card."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import click
import numpy as np
import torch
import torchaudio
from torch import Tensor

from knnvc.tensors import check_shapes, read_tensors, write_tensors

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 180.0
LONGEST_WARMUP = 0.05  # of a training's time
SCALE = 1_000_000  # steps that a share of the time is counted in
ERASE_LINE = "\r\033[K"


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch and return the generator that the data is drawn with."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def cosine_rate(
    step: int, steps: int, peak: float, warmup: int = 300, floor: float = 0.02
) -> float:
    """Learning rate after a linear warm-up, on half a cosine down to `floor · peak`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def learn(
    network: torch.nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor, largest: float
) -> None:
    """One step of the `optimiser` down `loss`; gradients have no larger norm than `largest`."""
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), largest)
    optimiser.step()


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float, step: int) -> None:
    """Move `averaged` towards `network`; early on faster than `decay`, to forget the start."""
    decay = min(decay, (step + 1) / (step + 10))
    for old, new in zip(averaged.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def begin_with(network: torch.nn.Module, weights: Path | None) -> None:
    """Load published `weights` (safetensors) into a network that is to be trained further.

    Raises:
        KnnvcError: the file is damaged, or belongs to another network.
    """
    if weights is not None:
        state, _ = read_tensors(weights)
        check_shapes(weights, network.state_dict(), state)
        network.load_state_dict(state)


class Options(Protocol):
    """The options of a step: a dataclass that says how many steps there are."""

    @property
    def steps(self) -> int:
        """When the training is done."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Run:
    """A folder that one training run lives in; run the same command again to resume.

    `parts` are objects with `state_dict` and `load_state_dict` (networks, optimisers). `step`
    counts finished steps, `seconds` the wall time of all sessions together. In training on several
    GPUs, all processes but the `leader` count along and write nothing.

    The folder holds `checkpoint.pt`, `log.jsonl`, and, with TensorBoard installed, `tensorboard/`;
    when the training is done, the weights and their MODEL_CARD.md.

    With `minutes` the training ends after so much wall time instead of `options.steps`, which then
    only say how late in the training something happens, see `reached`.
    """

    def __init__(
        self,
        folder: Path,
        parts: dict[str, Any],
        options: Options,
        leader: bool = True,
        minutes: float = 0.0,
    ) -> None:
        self.folder = folder
        self.parts = parts
        self.options = options
        self.leader = leader
        self.minutes = minutes
        self.step = 0
        self.seconds = 0.0
        self._began = self._saved = time.monotonic()
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._last: dict[str, float] = {}
        self._board: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        if leader and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard")

    def resume(self) -> bool:
        """Load the newest checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return False
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            if name in saved["parts"]:
                part.load_state_dict(saved["parts"][name])
        self.step, self.seconds = saved["step"], saved["seconds"]
        return True

    def begin(self) -> None:
        """Training begins here: the time before it, for reading the corpus, does not count."""
        self._began = self._saved = time.monotonic()

    @property
    def share(self) -> float:
        """How much of the training is done, from 0 to 1: of its minutes, or of its steps."""
        if self.minutes > 0:
            seconds = self.seconds + time.monotonic() - self._began
            return min(1.0, seconds / (60 * self.minutes))
        return min(1.0, self.step / max(1, self.options.steps))

    @property
    def done(self) -> bool:
        """Whether the training is to end."""
        return self.share >= 1

    def reached(self, step: int) -> bool:
        """Whether `step` of `options.steps` is reached; with `minutes`, the same share of them."""
        if self.minutes > 0:
            return self.share * self.options.steps >= step
        return self.step >= step

    def rate(self, peak: float, warmup: int = 300, floor: float = 0.02, after: int = 0) -> float:
        """Learning rate at this step, see `cosine_rate`; with `minutes`, at this share of them.

        Then the warm-up takes no more than `LONGEST_WARMUP` of the time. The rate is 0, and the
        warm-up waits, until step `after` is reached, see `reached`.
        """
        if self.minutes <= 0 and after == 0:
            return cosine_rate(self.step, self.options.steps, peak, warmup, floor)
        if not self.reached(after):
            return 0.0
        share = self.share
        by_steps = (self.step - after + 1) / max(1, warmup)
        by_time = (share - after / self.options.steps) / LONGEST_WARMUP
        # Of a share of the time nobody knows at which step it was reached.
        warm = by_time if after else max(by_steps, by_time)
        if self.minutes <= 0:
            warm = by_steps
        return min(1.0, warm) * cosine_rate(round(SCALE * share), SCALE, peak, 0, floor)

    def save(self) -> None:
        """Write a checkpoint atomically."""
        now = time.monotonic()
        self.seconds += now - self._began
        self._began = self._saved = now
        if not self.leader:
            return
        state = {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.folder / (CHECKPOINT + ".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def publish(self, network: torch.nn.Module, name: str, **facts: str) -> Path:
        """Checkpoint, and write the weights of `network` in half precision; returns the file.

        `facts` are kept with the weights, beside the steps and hours of the training.
        """
        out = self.folder / f"{name}.safetensors"
        self.finish(out)
        state = {key: value.half().contiguous() for key, value in network.state_dict().items()}
        metadata = {"steps": str(self.step), "hours": f"{self.seconds / 3600:.2f}"}
        write_tensors(out, state, metadata | facts)
        return out

    def finish(self, weights: Path) -> None:
        """Checkpoint, close the logs, and write the model card of `weights`."""
        self.save()
        if self._board is not None:
            self._board.close()
        if not self.leader:
            return
        rows = {
            "steps": self.step,
            "hours": f"{self.seconds / 3600:.2f}",
            "torch": torch.__version__,
        }
        rows |= {f"option {k}": v for k, v in dataclasses.asdict(self.options).items()}
        rows |= {f"last {k}": v for k, v in self._last.items() if k not in ("step", "hours")}
        table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
        (self.folder / "MODEL_CARD.md").write_text(
            f"# {weights.name}\n\nTrained with knnvc. The losses on the way stand in "
            f"`log.jsonl`.\n\n| what | value |\n|---|---|\n{table}\n",
            encoding="utf-8",
        )

    def finish_step(self, **losses: float) -> None:
        """Count a step, remember its losses, and checkpoint every few minutes."""
        self.step += 1
        self._count += 1
        for name, value in losses.items():
            self._sums[name] += value
        if self.leader and sys.stderr.isatty():
            self._draw()
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def report(self, **more: float) -> None:
        """Append the means since the last report, and `more`, to the logs and the terminal."""
        hours = (self.seconds + time.monotonic() - self._began) / 3600
        row: dict[str, float] = {"step": self.step, "hours": round(hours, 4)}
        row |= {name: round(total / self._count, 5) for name, total in self._sums.items()}
        row |= {name: round(value, 5) for name, value in more.items()}
        self._sums.clear()
        self._count = 0
        self._last = row
        if not self.leader:
            return
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        if sys.stderr.isatty():
            click.echo(ERASE_LINE, nl=False, err=True)
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, self.step)

    def listen(self, name: str, wave: Tensor, rate: int) -> None:
        """Put a waveform [S] and its spectrogram into TensorBoard."""
        if self._board is None:
            return
        wave = wave.detach().float().cpu().clamp(-1, 1)
        self._board.add_audio(name, wave[None], self.step, rate)
        mel = torchaudio.transforms.MelSpectrogram(rate, 1024, 400, hop_length=160, n_mels=80)
        decibels = 10 * torch.log10(mel(wave) + 1e-6)
        image = ((decibels + 60) / 100).clamp(0, 1).flip(0)
        self._board.add_image(f"{name} spectrogram", image[None], self.step)

    def _draw(self) -> None:
        share = self.share
        bar = ("#" * round(30 * share)).ljust(30, "-")
        whole = f"{self.minutes:g} minutes" if self.minutes > 0 else str(self.options.steps)
        text = f"{ERASE_LINE}[{bar}] step {self.step} of {whole}"
        click.echo(text, nl=share >= 1, err=True)
