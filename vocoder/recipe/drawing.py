"""Training batches, drawn beside the training: by a thread, or by processes.

An accelerator is done with a batch long before one core has drawn the next. Processes are forked
off, so that they see the corpus without a copy of it; they compute on the CPU alone.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from knnvc.errors import KnnvcError

Batch: TypeAlias = tuple[Any, ...]  # of tensors and None
Draw: TypeAlias = Callable[[np.random.Generator], Batch]
AHEAD = 2  # batches that every process has in hand

_draw: Draw | None = None  # what forked processes draw with


class Batches:
    """What `draw` gives, batch after batch; a context, which ends threads and processes.

    Args:
        draw: makes a batch of CPU tensors.
        rng: what it draws with, where no processes do.
        seed: of what it draws with otherwise, together with the number of the batch.
        first: number of the first batch.
        workers: processes; 0 has none.
        thread: without processes, whether a thread draws the next batch meanwhile.
    """

    def __init__(
        self,
        draw: Draw,
        rng: np.random.Generator,
        seed: int,
        first: int,
        workers: int = 0,
        thread: bool = False,
    ) -> None:
        self._draw, self._rng, self._seed, self._next = draw, rng, seed, first
        self._workers, self._thread = workers, thread
        self._drawn: deque[Future[Batch]] = deque()
        self._helpers: Executor | None = None

    def __enter__(self) -> Batches:
        global _draw
        if self._workers > 0:
            _draw = self._draw
            context = multiprocessing.get_context("fork")
            self._helpers = ProcessPoolExecutor(self._workers, context, _begin)
            for _ in range(AHEAD * self._workers):
                self._ask()
        elif self._thread:
            self._helpers = ThreadPoolExecutor(1)
            self._ask()
        return self

    def __exit__(self, *_: object) -> None:
        if self._helpers is not None:
            self._helpers.shutdown(cancel_futures=True)

    def __next__(self) -> Batch:
        """The next batch, on the CPU."""
        if self._helpers is None:
            return self._draw(self._rng)
        try:
            batch = self._drawn.popleft().result()
        except BrokenProcessPool as error:
            raise KnnvcError(
                "a process that draws batches has died: ask for fewer --workers"
            ) from error
        self._ask()
        return tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in batch)

    def _ask(self) -> None:
        assert self._helpers is not None
        if self._workers > 0:
            self._drawn.append(self._helpers.submit(_drawn, self._seed, self._next))
        else:
            self._drawn.append(self._helpers.submit(self._draw, self._rng))
        self._next += 1


def moved(batch: Batch, device: torch.device) -> Batch:
    """The tensors of a batch on `device`."""
    return tuple(x.to(device) if isinstance(x, Tensor) else x for x in batch)


def _begin() -> None:
    torch.set_num_threads(1)


def _drawn(seed: int, number: int) -> Batch:
    """Batch `number`, as arrays: these travel through a pipe and take no shared memory."""
    assert _draw is not None
    torch.manual_seed(seed + number)
    batch = _draw(np.random.default_rng([seed, number]))
    return tuple(x.numpy() if isinstance(x, Tensor) else x for x in batch)
