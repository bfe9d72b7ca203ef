"""The engine past one machine: Ray Data over a pool of actors (`pip install knnvc[ray]`).

Every actor holds a `Worker`, so models are loaded once each; what a row of the dataset carries is
one task. Source, reference and output folders, and the cache, have to lie where all machines see
them. Ray restarts an actor that dies and gives its file to another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from knnvc.batch.engine import Event, Result, WorkerSettings
from knnvc.batch.journal import Stamp
from knnvc.batch.plan import Task, Voice
from knnvc.errors import KnnvcError, UsageError, explain

ATTEMPTS = 3  # at a file whose actor dies, before it is given up
_MOST_BLOCKS = 10_000  # of the dataset; each is scheduled, and handed back, as a whole


class RayEngine:
    """Actors on a Ray cluster.

    Args:
        workers: actors; None is one per GPU of the cluster, or 1.
        threads: CPUs of each.
        address: of the cluster ("auto", "10.0.0.1:6379", "ray://..."), None starts one here.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, workers: int | None, threads: int, address: str | None) -> None:
        _quiet_environment()
        try:
            import ray.data  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "the engine ray needs Ray, which is not installed: pip install 'knnvc[ray]'"
            ) from error
        self._workers = workers
        self._threads = threads
        self._address = address

    def stop(self) -> bool:
        """Ray hands out files on its own: what is in hand is dropped."""
        return False

    def run(self, tasks: Sequence[Task], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Engine.run`."""
        import ray

        terminate = signal.getsignal(signal.SIGTERM)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._connect()
                if signal.getsignal(signal.SIGTERM) is not terminate:
                    signal.signal(signal.SIGTERM, terminate)  # Ray has put its own there
                yield from self._results(tasks, settings)
            finally:
                ray.shutdown()

    def _connect(self) -> None:
        import ray

        here: dict[str, Any] = {"include_dashboard": False} if self._address is None else {}
        if self._address is None and self._workers:
            # Ray counts the cores of this machine, and waits for ever if there are too few.
            here["num_cpus"] = max(os.cpu_count() or 1, self._workers * self._threads)
        try:
            with _no_stderr():
                ray.init(
                    # "local": RAY_ADDRESS in the environment is for those who ask for "auto".
                    address=self._address or "local",
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    **here,
                )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = self._address or "on this machine"
            raise KnnvcError(
                f"there is no Ray cluster {where} ({str(error).splitlines()[0]}): start one with "
                "`ray start --head`, or check --ray-address"
            ) from error

    def _results(self, tasks: Sequence[Task], settings: WorkerSettings) -> Iterator[Event]:
        import ray
        import ray.data

        gpus = int(ray.cluster_resources().get("GPU", 0)) if settings.device != "cpu" else 0
        workers = min(self._workers or max(1, gpus), len(tasks))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # A file that kills its actors costs its own row, not the whole job.
        context.max_errored_blocks = -1
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        rows = [{"task": _pack(task)} for task in tasks]
        dataset = ray.data.from_items(
            rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)
        ).map_batches(
            _Actor,
            fn_constructor_args=(_pack(settings),),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=self._threads,
            num_gpus=min(1.0, gpus / workers),
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )
        missing = {task.number for task in tasks}
        try:
            for row in dataset.iter_rows():
                result = _unpack_result(str(row["result"]))
                missing.discard(result.number)
                yield result
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise KnnvcError(f"Ray gave up ({lines[-1]}); see the logs of the cluster") from error
        for number in sorted(missing):
            reason = f"its worker died {ATTEMPTS} times; see whether memory is short, try it alone"
            yield Result(number, error=reason)


class _Actor:
    """What Ray Data calls with batches of one row."""

    def __init__(self, settings: str) -> None:
        values = json.loads(settings)
        values["cache_folder"] = Path(values["cache_folder"])
        self._broken: str | None = None
        try:
            from knnvc.batch.worker import Worker

            self._worker = Worker(WorkerSettings(**values))
        except Exception as error:
            self._broken = explain(error)
            if self._broken is None:
                raise

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        results = []
        for text in batch["task"]:
            values = json.loads(str(text))
            voice = values["voice"]
            refs = tuple((path, weight) for path, weight in voice["refs"])
            values["voice"] = Voice(refs, voice["digest"])
            task = Task(**values)
            if self._broken is not None:
                results.append(_pack(Result(task.number, error=self._broken)))
            else:
                results.append(_pack(self._worker.convert(task)))
        return {"result": results}


def _pack(value: Any) -> str:
    """A dataclass as JSON, which the rows of a dataset can hold, whatever names are in it."""
    return json.dumps(dataclasses.asdict(value), default=str)


def _unpack_result(text: str) -> Result:
    values = json.loads(text)
    for name in ("source", "output"):
        if values[name] is not None:
            values[name] = Stamp(**values[name])
    return Result(**values | {"warnings": tuple(values["warnings"])})


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's C++ part announces there that it has found the level of logging that was asked for."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _quiet_environment() -> None:
    """What Ray reads when it is imported; actors inherit it."""
    for name, value in {
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        # It prints on stdout, where the names of the results go, that a worker has died.
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
        # Of a cluster that is started here. By default workers give way to everything else on the
        # machine: beside a training run they hardly get to run at all.
        "RAY_worker_niceness": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # new behaviour, and no warning about the old
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }.items():
        os.environ.setdefault(name, value)
