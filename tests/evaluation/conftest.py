"""Speakers of tones, a stand-in for the instruments, and records with something everywhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from knnvc import VoiceConverter
from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.evaluation.instruments import Heard
from knnvc.evaluation.measure import Evaluation, slug
from knnvc.evaluation.plan import Condition, Job, conditions, folder_jobs, parse_sweeps
from knnvc.evaluation.records import CONVERTED, COPY, SOURCE, Likeness, Recognised, Record

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Listening:
    """Hears a fixed text, and a voice that depends on the spectrum; counts what it heard.

    Its second recogniser hears one word less, its second verifier only half of the spectrum.
    """

    def __init__(self, second: bool = False) -> None:
        self.heard = 0
        self.second = second

    def names(self) -> dict[str, str]:
        return {"words, whisper": "a stand-in"}

    def listen(self, wave: np.ndarray, words: bool = True) -> Heard:
        self.heard += 1
        texts = {"whisper": "what it says" if words else ""}
        if self.second:
            texts["other"] = "what it" if words else ""
        return Heard(texts, self.embed(wave), 3.0, 2.0)

    def embed(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        found = np.abs(np.fft.rfft(wave, SAMPLE_RATE))[: 256 * 8].reshape(256, 8).sum(1)
        made = {"resemblyzer": found} | ({"other": found[:128]} if self.second else {})
        return {name: (one / np.linalg.norm(one)).astype(np.float32) for name, one in made.items()}


@pytest.fixture
def listening() -> type[Listening]:
    return Listening


@pytest.fixture
def tone() -> Callable[..., Path]:
    """Write a tone of some seconds and hertz as a recording."""

    def write(path: Path, seconds: float = 2.5, hertz: float = 200.0) -> Path:
        at = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        write_audio(path, 0.3 * torch.sin(2 * np.pi * hertz * at), SAMPLE_RATE)
        return path

    return write


@pytest.fixture
def speakers(tmp_path: Path, tone: Callable[..., Path]) -> Path:
    """Two targets of six and of two recordings."""
    for name, count in (("anna", 6), ("ben", 2)):
        for number in range(count):
            tone(tmp_path / "targets" / name / f"{number}.flac", hertz=150 + 20 * number)
    return tmp_path / "targets"


@pytest.fixture
def jobs(tmp_path: Path, speakers: Path) -> list[Job]:
    """One second of real speech, to two targets, at two values of λ."""
    piece = load_audio(EXAMPLES / "source.wav")[SAMPLE_RATE : 2 * SAMPLE_RATE]
    write_audio(tmp_path / "talks/one & only.wav", piece, SAMPLE_RATE)
    settings = conditions(Condition(k=1, seconds=4), parse_sweeps(["lam=0.5,1"]))
    return folder_jobs([tmp_path / "talks"], speakers, settings)


def silent(*_: object) -> None:
    """No progress."""


@pytest.fixture
def measured(mini: VoiceConverter, jobs: list[Job], tmp_path: Path) -> Evaluation:
    """An evaluation that ran."""
    made = Evaluation(mini, Listening(), tmp_path / "results", 0, [SOURCE, COPY])
    made.run(jobs, silent)
    return made


@pytest.fixture
def record() -> Callable[..., Record]:
    """A record of a system, source and target; further values as they are given."""

    def make(
        system: str,
        source: str,
        target: str,
        *,
        errors: int = 0,
        words: int = 10,
        of_source: int = 0,
        like: float = 0.9,
        scores: tuple[float, ...] = (0.5, 0.6),
        asked: float = 300.0,
        **values: object,
    ) -> Record:
        heard = Recognised("<b>five five</b>", words, errors, 40, 0, of_source, 0)
        facts: dict[str, object] = {
            "condition": f"{asked:g} s" if system == CONVERTED else "",
            "settings": {"seconds": asked} if system == CONVERTED else {},
            "speaker": source,
            "group": "real → real",
            "audio": f"audio/{slug(system)}/{target}/{source}.flac",
            "said": "five five",
            "recognised": {"whisper": heard},
            "likeness": {"resemblyzer": Likeness(like, 0.5, 0.4, list(scores))},
            "distillmos": 4.0,
            "dnsmos": 3.0,
            "pitch": None,
            "seconds": 4.0,
            "reference_seconds": asked if system == CONVERTED else None,
            "compute_seconds": 0.5,
        }
        return Record(system=system, source=source, target=target, **{**facts, **values})  # type: ignore[arg-type]

    return make


@pytest.fixture
def load_benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
