"""Copy-synthesis measured: what each vocoder makes of recordings that nothing was done to.

Naturalness by DistillMOS and DNSMOS, words by Whisper, the distance of log spectra, and speed.
Everything is compared at 16 kHz, where the instruments listen.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE, load_audio, require_audio, resample, write_audio
from knnvc.audio.loudness import measure_loudness, normalize
from knnvc.evaluation.instruments import Wave, errors, plain
from knnvc.evaluation.statistics import Estimate, bootstrap
from knnvc.files import atomic_path
from knnvc.presets.copying import Copier

RECORDING = "recording"
REPORT = "copies"
_SIZE, _HOP = 1024, 256  # samples of the spectra that are compared
_RANGE = 80.0  # dB below the recording's loudest bin, where spectra end
_SEED = 0  # of the bootstrap

Tell = Callable[[str, int, int], None]


class Ears(Protocol):
    """What a report needs of `knnvc.evaluation.instruments.Instruments`."""

    def names(self) -> dict[str, str]:
        """What is measured: the instrument and its version."""

    def listen(self, wave: Wave, words: bool = True) -> object:
        """Measure a waveform [S] at 16 kHz."""


@dataclass(frozen=True)
class Measured:
    """One recording made again by one vocoder.

    Attributes:
        vocoder: its name, or "recording" for the original.
        source: name of the recording.
        seconds: of it.
        distillmos: predicted mean opinion score, 1 to 5.
        dnsmos: the same by another model.
        words: that were said.
        word_errors: against the transcript, else against what is heard in the recording.
        distance: of log spectra, in dB.
        compute_seconds: that encoding and vocoding took.
    """

    vocoder: str
    source: str
    seconds: float
    distillmos: float
    dnsmos: float
    words: int
    word_errors: int
    distance: float
    compute_seconds: float


@dataclass(frozen=True)
class Row:
    """One line of the table: means over recordings with 95 % bootstrap intervals."""

    vocoder: str
    recordings: int
    distillmos: Estimate | None
    dnsmos: Estimate | None
    wer: Estimate | None
    distance: Estimate | None
    speed: Estimate | None


def log_spectral_distance(one: Wave, other: Wave) -> float:
    """Root mean square difference of log spectra in dB, mean over frames (Rabiner and Juang 1993).

    Hann windows of 64 ms every 16 ms. What lies 80 dB below the loudest bin of `one` counts as
    that. Both are [S] at 16 kHz, cut to the shorter.
    """
    length = min(len(one), len(other))
    window = torch.hann_window(_SIZE)

    def powers(wave: Wave) -> Tensor:
        padded = torch.nn.functional.pad(torch.from_numpy(wave[:length].copy()), (_SIZE, _SIZE))
        made = torch.stft(padded, _SIZE, _HOP, window=window, center=False, return_complex=True)
        return made.abs().square()

    first, second = powers(one), powers(other)
    floor = max(float(first.max()) * 10 ** (-_RANGE / 10), 1e-20)
    difference = 10 * (first.clamp(min=floor).log10() - second.clamp(min=floor).log10())
    return float(difference.square().mean(0).sqrt().mean())


def measure_copies(
    sources: Sequence[Path],
    copiers: Sequence[Copier],
    ears: Ears,
    folder: Path | None = None,
    progress: Tell | None = None,
) -> list[Measured]:
    """Make every recording again by every vocoder, and listen.

    Args:
        sources: recordings; NAME.txt beside NAME.wav is what is said in it.
        copiers: the vocoders.
        ears: the instruments.
        folder: where the results go as VOCODER/NAME.flac; None keeps none.
        progress: called with ("copying", done, total).

    Raises:
        KnnvcError: a recording cannot be used, or a result not written.
    """
    made: list[Measured] = []
    total = len(sources) * (len(copiers) + 1)
    for number, source in enumerate(sources):
        original = require_audio(load_audio(source), str(source))
        level = measure_loudness(original, SAMPLE_RATE)
        heard = ears.listen(original.numpy())
        beside = source.with_suffix(".txt")
        said = plain(beside.read_text(encoding="utf-8-sig")) if beside.is_file() else ""
        known = bool(said)
        said = said or heard.words  # type: ignore[attr-defined]
        made.append(_one(RECORDING, source, original, original, heard, said, 0.0, known))
        for place, copier in enumerate(copiers):
            if progress is not None:
                progress("copying", number * (len(copiers) + 1) + place + 1, total)
            waveform = load_audio(source, copier.given_rate)
            if number == 0:
                copier.copy(waveform[: copier.given_rate])  # the first call pays for imports
            began = time.perf_counter()
            result = copier.copy(waveform)
            took = time.perf_counter() - began
            result = normalize(result, copier.sample_rate, level)
            if folder is not None:
                target = folder / copier.name.replace("/", "_") / f"{source.stem}.flac"
                write_audio(target, result, copier.sample_rate, force=True)
            wave = resample(result, copier.sample_rate, SAMPLE_RATE)
            listened = ears.listen(wave.numpy())
            made.append(_one(copier.name, source, original, wave, listened, said, took, True))
    if progress is not None:
        progress("copying", total, total)
    return made


def _one(
    name: str,
    source: Path,
    original: Tensor,
    wave: Tensor,
    heard: object,
    said: str,
    took: float,
    counted: bool,
) -> Measured:
    found = errors(said, heard.words)  # type: ignore[attr-defined]
    return Measured(
        vocoder=name,
        source=source.name,
        seconds=len(original) / SAMPLE_RATE,
        distillmos=heard.distillmos,  # type: ignore[attr-defined]
        dnsmos=heard.dnsmos,  # type: ignore[attr-defined]
        # A recording without a transcript is not compared with itself.
        words=found.words if counted else 0,
        word_errors=found.word_errors if counted else 0,
        distance=log_spectral_distance(original.numpy(), wave.numpy()),
        compute_seconds=took,
    )


def rows(measured: Sequence[Measured]) -> list[Row]:
    """The table: one row a vocoder, in the order of the measurements."""
    made = []
    for name in dict.fromkeys(one.vocoder for one in measured):
        own = [one for one in measured if one.vocoder == name]
        groups = [one.source for one in own]

        def mean(values: Sequence[float], groups: list[str] = groups) -> Estimate | None:
            return bootstrap(values, [1.0] * len(values), groups, _SEED)

        words = [one.words for one in own]
        took = [one.compute_seconds for one in own]
        real = name == RECORDING
        made.append(
            Row(
                name,
                len(own),
                mean([one.distillmos for one in own]),
                mean([one.dnsmos for one in own]),
                bootstrap([one.word_errors for one in own], words, groups, _SEED),
                None if real else mean([one.distance for one in own]),
                None if real else bootstrap([one.seconds for one in own], took, groups, _SEED),
            )
        )
    return made


_HEAD = ("vocoder", "DistillMOS", "DNSMOS", "WER %", "LSD dB", "speed × real time")


def _cells(row: Row) -> tuple[str, ...]:
    def cell(value: Estimate | None, digits: int, factor: float = 1.0) -> str:
        if value is None:
            return "–"
        low, high = factor * value.low, factor * value.high
        return f"{factor * value.value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"

    return (
        row.vocoder,
        cell(row.distillmos, 2),
        cell(row.dnsmos, 2),
        cell(row.wer, 1, 100),
        cell(row.distance, 1),
        cell(row.speed, 1),
    )


def markdown(table: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(_cells(row)) + " |" for row in table)]) + "\n"


def text(table: Sequence[Row]) -> str:
    """The table for a terminal."""
    cells = [_HEAD, *map(_cells, table)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def write_report(
    folder: Path, measured: Sequence[Measured], about: dict[str, str], absent: Sequence[str]
) -> list[Path]:
    """Write copies.json, copies.csv and copies.md into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    table = rows(measured)
    content = {
        "instruments": about,
        "not on this machine": list(absent),
        "table": [asdict(row) for row in table],
        "recordings": [asdict(one) for one in measured],
    }
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(asdict(measured[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in measured)
    texts = {
        ".json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        ".csv": lines.getvalue(),
        ".md": markdown(table),
    }
    written = []
    for suffix, written_text in texts.items():
        path = folder / f"{REPORT}{suffix}"
        with atomic_path(path) as temporary:
            temporary.write_text(written_text, encoding="utf-8")
        written.append(path)
    return written
