"""The engine of one machine: worker processes, started afresh (spawn) and fed through pipes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from knnvc.batch.engine import Event, Result, Stage, WorkerSettings
from knnvc.batch.plan import Task
from knnvc.errors import KnnvcError, explain
from knnvc.processes import end_with_parent, spared

ATTEMPTS = 3  # at a file whose worker dies, before it is given up
_TICK = 0.25  # seconds between looks at whether to stop
_TELL_SECONDS = 0.2  # between reports of progress within a file


@dataclass
class _Hand:
    """A worker process as its employer sees it."""

    number: int
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    task: Task | None = None


class LocalEngine:
    """Worker processes on this machine.

    A worker that dies (killed, out of memory) is replaced, and its file tried again, `ATTEMPTS`
    times in all. Workers end with the process that started them, even if that is killed.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._stopping = False
        self._started = 0

    def stop(self) -> bool:
        """Begin no further task; those in hand will be finished."""
        self._stopping = True
        return True

    def run(self, tasks: Sequence[Task], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Engine.run`."""
        pending = deque(tasks)
        attempts: Counter[int] = Counter()
        hands: list[_Hand] = []
        try:
            while True:
                if self._stopping:
                    pending.clear()
                busy = [hand for hand in hands if hand.task]
                if not pending and not busy:
                    break
                while len(hands) < min(self._workers, len(pending) + len(busy)):
                    hands.append(self._start(settings))
                for hand in hands:
                    if pending and hand.ready and hand.task is None:
                        self._give(hand, pending)
                wait([one for h in hands for one in (h.pipe, h.process.sentinel)], timeout=_TICK)
                for hand in list(hands):
                    yield from self._hear(hand)
                    if not hand.process.is_alive():
                        # What it said last, which may be the result, has arrived by now.
                        yield from self._hear(hand)
                        hands.remove(hand)
                        yield from self._bury(hand, pending, attempts)
        finally:
            self._dismiss(hands)

    def _start(self, settings: WorkerSettings) -> _Hand:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        number, self._started = self._started, self._started + 1
        process = context.Process(
            target=_work, args=(theirs, settings, number), name=f"knnvc-{number}", daemon=True
        )
        with spared():
            process.start()
        theirs.close()  # so that its end of the pipe dies with the worker
        return _Hand(number, process, ours)

    def _give(self, hand: _Hand, pending: deque[Task]) -> None:
        try:
            hand.pipe.send(pending[0])
        except OSError:  # it is dead, which is found out below
            return
        hand.task = pending.popleft()

    def _hear(self, hand: _Hand) -> Iterator[Event]:
        with contextlib.suppress(EOFError, OSError):
            while hand.pipe.poll():
                said = hand.pipe.recv()
                if isinstance(said, Result):
                    hand.task = None
                    yield said
                elif isinstance(said, str):
                    raise KnnvcError(said)
                elif said is None:
                    hand.ready = True
                elif hand.task is not None:
                    yield Stage(hand.number, hand.task, *said)

    def _bury(self, hand: _Hand, pending: deque[Task], attempts: Counter[int]) -> Iterator[Event]:
        hand.process.join()
        hand.pipe.close()
        code, task = hand.process.exitcode or 0, hand.task
        if not hand.ready and code > 0:
            raise KnnvcError(
                f"a worker process could not start (exit code {code}, see above); in a script of "
                'your own, convert below `if __name__ == "__main__":`'
            )
        # Killed before it took anything up: that, too, must end some time.
        number = -1 if task is None else task.number
        attempts[number] += 1
        if attempts[number] < (ATTEMPTS if task else 10 * ATTEMPTS):
            if task is not None:
                pending.appendleft(task)
            return
        died = f"signal {-code}" if code < 0 else f"exit code {code}"
        reason = f"the worker process died ({died}) {attempts[number]} times"
        if task is None:
            raise KnnvcError(f"{reason} before it could begin; see whether memory is short")
        yield Result(
            task.number, error=f"{reason} at this file; see whether memory is short, try it alone"
        )

    def _dismiss(self, hands: list[_Hand]) -> None:
        for hand in hands:
            # One with a task in hand is here because the run is being abandoned.
            if hand.task is None and hand.ready:
                with contextlib.suppress(OSError):
                    hand.pipe.send(None)
            else:
                hand.process.kill()
        deadline = time.monotonic() + 5
        for hand in hands:
            hand.process.join(max(0.0, deadline - time.monotonic()))
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.pipe.close()


def _work(pipe: Connection, settings: WorkerSettings, number: int) -> None:
    """The life of a worker process."""
    # Ctrl-C goes to the whole group; the employer decides what becomes of the file in hand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    from knnvc.batch.worker import Worker, quiet_libraries

    quiet_libraries(settings.threads)
    try:
        worker = Worker(settings, number)
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        pipe.send(reason)
        return
    last = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _TELL_SECONDS:
            last = now
            pipe.send((stage, done, total))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(None)
        while (task := pipe.recv()) is not None:
            pipe.send(worker.convert(task, tell))
