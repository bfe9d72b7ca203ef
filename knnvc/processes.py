"""Processes that end with the one that started them, and the danger of forking.

A process that computed with several threads must not be forked: the child has none of them, but
torch waits for them, for ever. In such a child, everything here that computes is refused in one
sentence. Start processes by multiprocessing's "spawn" or "forkserver", or set one thread before
the first computation (`torch.set_num_threads(1)`), or, in the child, before anything else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait

from knnvc.errors import KnnvcError

_threads = 1  # the most that this process, or those that it was forked from, has computed with
_orphaned = False  # whether they are lost, as this process was forked


def computing() -> None:
    """Say that torch is about to compute here; call it at each entrance that computes.

    Raises:
        KnnvcError: it would hang, as this process was forked after computing.
    """
    global _threads
    torch = sys.modules.get("torch")
    if torch is None:
        return
    threads = torch.get_num_threads()
    if _orphaned and threads > 1:
        raise KnnvcError(
            "this process was forked after its parent computed with several threads and would "
            'hang: start it by "spawn", or call torch.set_num_threads(1) in it first'
        )
    _threads = max(_threads, threads)


def _after_fork() -> None:
    global _orphaned
    _orphaned = _orphaned or _threads > 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def spared() -> Iterator[None]:
    """Processes that are started here never hear Ctrl-C, which goes to the whole group.

    Without it, one that is still importing would print a traceback. The signal is held back, not
    lost: who starts them hears it at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # which would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """From now on this process ends when the one that started it does, even by a kill."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
