"""What a worker process or actor does: load a preset once, then convert file after file."""

from __future__ import annotations

import os
import time
import traceback
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc import __version__
from knnvc.batch.engine import Result, WorkerSettings
from knnvc.batch.journal import Stamp
from knnvc.batch.plan import PART_FOLDER, Task, Voice, voice_digest
from knnvc.errors import KnnvcError, explain
from knnvc.voices.cache import SetCache

if TYPE_CHECKING:
    from knnvc.converters.matching_set import MatchingSet

_HELD_BYTES = 10**9  # of matching sets that a worker keeps in memory; the one in use stays

Progress = Callable[[str, int, int], None]


class Worker:
    """Converts files, one at a time.

    Args:
        settings: of all workers.
        number: of this one, from 0: several GPUs are dealt out by it.

    Raises:
        KnnvcError: the preset cannot be loaded, or this is another version of knnvc.
    """

    def __init__(self, settings: WorkerSettings, number: int = 0) -> None:
        if settings.version != __version__:
            raise KnnvcError(
                f"a worker has knnvc {__version__} and the batch was started by "
                f"{settings.version}: install one version on all machines"
            )
        quiet_libraries(settings.threads)
        import faiss
        import torch

        from knnvc.pipeline import VoiceConverter

        # Sums are split among threads: their number decides the last bits.
        torch.set_num_threads(settings.threads)
        faiss.omp_set_num_threads(settings.threads)
        device, gpus = settings.device, torch.cuda.device_count()
        if device in ("auto", "cuda") and gpus > 1:
            device = f"cuda:{number % gpus}"
        self._settings = settings
        self._cache = SetCache(settings.cache_folder, settings.cache_limit)
        self._converter = VoiceConverter.from_preset(
            settings.preset, device, chunk_seconds=settings.chunk, precision=settings.precision
        )
        self._voices: OrderedDict[str, list[tuple[MatchingSet, float]] | KnnvcError] = OrderedDict()

    def convert(self, task: Task, progress: Progress | None = None) -> Result:
        """Make one file; whatever goes wrong is in the result."""
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", module=r"knnvc\.", category=UserWarning)
            try:
                seconds, source, output = self._convert(task, progress)
                result = Result(task.number, seconds=seconds, source=source, output=output)
            except Exception as error:
                reason = explain(error)
                if reason is not None:
                    result = Result(task.number, error=_clean(reason, task))
                else:
                    reason = f"a bug of knnvc: {type(error).__name__}: {error}"
                    bug = traceback.format_exc()
                    result = Result(task.number, error=_clean(reason, task), traceback=bug)
        said = tuple(
            _clean(str(one.message), task)
            for one in caught
            if one.category.__module__.startswith("knnvc.")
        )
        return Result(
            **vars(result) | {"compute_seconds": time.perf_counter() - began, "warnings": said}
        )

    def _convert(self, task: Task, progress: Progress | None) -> tuple[float, Stamp, Stamp]:
        import soundfile

        from knnvc.options import ConvertOptions

        source, output = Path(task.source), Path(task.output)
        stamp = Stamp.of(source)
        voices = self._voice(task.voice, task.k, progress)
        settings = self._settings
        options = ConvertOptions(
            lam=task.lam,
            k=task.k,
            weighting=task.weighting,
            loudness=settings.loudness,
            trim=settings.trim,
            index=settings.index,
        )
        # In a folder of its own, so that what a killed worker leaves can be told from everything
        # else; beside the output, so that it can be renamed.
        part = output.parent / PART_FOLDER / f"{uuid.uuid4().hex[:12]}{output.suffix}"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            self._converter.convert_file(source, voices, part, options, progress=progress)
            made = Stamp.of(part)
            info = soundfile.info(str(part))
            if not stamp.matches(source):
                raise KnnvcError(f"{source} changed while it was converted; run the batch again")
            # The same content is this task's own, done by a worker that died before it said so.
            if not task.replaces and os.path.lexists(output) and not made.matches(output):
                raise KnnvcError(f"{output} appeared meanwhile; move it, or pass --force")
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)
        return info.frames / info.samplerate, stamp, made

    def _voice(
        self, voice: Voice, k: int | None, progress: Progress | None
    ) -> list[tuple[MatchingSet, float]]:
        """The voice's matching sets; encoded by one worker, and read by the others."""
        held = self._voices.get(voice.digest)
        if held is None:
            try:
                held = self._load(voice, progress)
            except KnnvcError as error:
                held = error  # so is it for the next file
            self._voices[voice.digest] = held
            self._forget()
        self._voices.move_to_end(voice.digest)
        if isinstance(held, KnnvcError):
            raise held
        frames = min(len(one.match) for one, _ in held)
        if k is not None and k > frames:
            raise KnnvcError(
                f"the references hold {frames} frames of speech but k is {k}: "
                "give longer references or a smaller k"
            )
        return held

    def _load(self, voice: Voice, progress: Progress | None) -> list[tuple[MatchingSet, float]]:
        if voice_digest(voice.refs) != voice.digest:
            raise KnnvcError("the references changed after the batch began; run it again")
        blended = any(weight is not None for _, weight in voice.refs)
        refs: list[Any] = (
            [(path, 1.0 if weight is None else weight) for path, weight in voice.refs]
            if blended
            else [path for path, _ in voice.refs]
        )
        return self._converter.voices(
            refs, trim=self._settings.trim, progress=progress, cache=self._cache
        )

    def _forget(self) -> None:
        while len(self._voices) > 1 and sum(map(_bytes, self._voices.values())) > _HELD_BYTES:
            self._voices.popitem(last=False)


def quiet_libraries(threads: int) -> None:
    """Set what libraries read from the environment when they are first imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _bytes(voices: list[tuple[MatchingSet, float]] | KnnvcError) -> int:
    if isinstance(voices, KnnvcError):
        return 0
    # Twice the searched features: the index holds them again.
    return sum(2 * one.match.nbytes + one.synth.nbytes for one, _ in voices)


def _clean(message: str, task: Task) -> str:
    """A message in one line, about the output instead of the temporary file."""
    output = Path(task.output)
    words = []
    for word in message.split():
        if PART_FOLDER in word:
            tail = word[-1] if word[-1] in ":;,." else ""
            word = str(output) + tail
        words.append(word)
    return " ".join(words)
