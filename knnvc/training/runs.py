"""What every training loop needs: checkpoints that survive a kill, and a log to plot."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from knnvc.checkpoints import read_tensors, write_tensors

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 180.0


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


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float, step: int) -> None:
    """Move `averaged` towards `network`; early on faster than `decay`, to forget the start."""
    decay = min(decay, (step + 1) / (step + 10))
    for old, new in zip(averaged.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def begin_with(network: torch.nn.Module, weights: Path | None) -> None:
    """Load published `weights` (safetensors) into a network that is to be trained further."""
    if weights is not None:
        network.load_state_dict(read_tensors(weights)[0])


class Run:
    """A folder that one training run lives in; run the same command again to resume.

    `parts` are objects with `state_dict` and `load_state_dict` (networks, optimisers).
    `step` counts finished steps, `seconds` the wall time of all sessions together.
    """

    def __init__(self, folder: Path, parts: dict[str, Any]) -> None:
        self.folder = folder
        self.parts = parts
        self.step = 0
        self.seconds = 0.0
        self._began = self._saved = time.monotonic()
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)

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

    def save(self) -> None:
        """Write a checkpoint atomically."""
        now = time.monotonic()
        self.seconds += now - self._began
        self._began = self._saved = now
        state = {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.folder / (CHECKPOINT + ".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def publish(self, network: torch.nn.Module, name: str) -> Path:
        """Checkpoint, and write the weights of `network` in half precision; returns the file."""
        self.save()
        out = self.folder / f"{name}.safetensors"
        state = {key: value.half().contiguous() for key, value in network.state_dict().items()}
        metadata = {"steps": str(self.step), "hours": f"{self.seconds / 3600:.2f}"}
        write_tensors(out, state, metadata)
        return out

    def finish_step(self, **losses: float) -> None:
        """Count a step, remember its losses, and checkpoint every few minutes."""
        self.step += 1
        self._count += 1
        for name, value in losses.items():
            self._sums[name] += value
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def report(self, **more: float) -> None:
        """Append the means since the last report, and `more`, to the log and the terminal."""
        hours = (self.seconds + time.monotonic() - self._began) / 3600
        row: dict[str, float] = {"step": self.step, "hours": round(hours, 4)}
        row |= {name: round(total / self._count, 5) for name, total in self._sums.items()}
        row |= {name: round(value, 5) for name, value in more.items()}
        self._sums.clear()
        self._count = 0
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
