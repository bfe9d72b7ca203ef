"""What a training needs of a corpus, in one file that is small enough to be sent to an accelerator.

The file is a ZIP archive. Encoder and refiner read spectra: these are packed in steps of 1/32 of
their unit. The vocoder needs waveforms: these, and spectra that would not fit, are packed as Opus,
at the highest rate that fits. What does not fit at the lowest rate is left out, evenly over the
corpus. Pitch, texts and alignments come along, and the weights to begin with, in 8 bits.

`unpack` makes a folder of it that the trainings read like any corpus.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path, sha256_file
from knnvc.mini.encoder import PhoneEncoder
from knnvc.mini.format import HOP
from knnvc.tensors import pack as in_8_bits
from knnvc.tensors import read_tensors, write_tensors
from knnvc.text.phones import FRAME
from knnvc.training.aligned import read_table
from recipe.data import MINI_ENCODER, spectra_of
from recipe.learner import CONTENT
from recipe.prematch import read_prematched, write_prematched
from recipe.speakers import SPEAKERS

PARTS = ("encoder", "refiner", "vocoder")
LARGEST = 60_000_000  # bytes of the whole file
STEPS = 32  # of a packed spectrum, in its unit
SPECTRA_BYTES = 5_200  # a second of packed spectra, somewhat more than was measured
OPUS = (16.0, 64.0)  # kbit/s: least and most
OGG_BYTES = 1_000  # a file
MARGIN = 0.96  # of the room that is aimed at
CLOSER = 0.98  # a further try takes so much of what should fit
TABLES = ("alignments-*.jsonl", "twins-*.jsonl", "recordings-*.jsonl")
FACTS, WEIGHTS = "pack.json", "weights"
START, ENCODER, PREMATCHED = "start.safetensors", "encoder.safetensors", "prematched.safetensors"

Record = dict[str, Any]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Form:
    """How speech is packed: as spectra, or as Opus of `kilobits`; and which share of it."""

    kilobits: float | None
    share: float = 1.0
    matched: float = 1.0  # share of the prematched utterances

    def keeps(self, index: int, share: float | None = None) -> bool:
        """Whether utterance `index` is packed: those are spread evenly."""
        share = self.share if share is None else share
        return int((index + 1) * share) > int(index * share)


def pack_corpus(
    part: str,
    corpus: Path,
    out: Path,
    weights: Mapping[str, Path] | None = None,
    prematched: Path | None = None,
    largest: int = LARGEST,
) -> dict[str, Any]:
    """Write what training `part` needs of `corpus` to `out`; what was written, as `pack.json` says.

    Args:
        part: one of `PARTS`.
        corpus: its folder.
        out: the file to write.
        weights: files by the names that they get, `START` and `ENCODER`.
        prematched: for the vocoder, see `recipe.prematch`.
        largest: bytes of `out`.

    Raises:
        KnnvcError: the corpus holds nothing, or the weights alone are too large.
    """
    tables = {pattern: read_table(corpus, pattern) for pattern in _tables(part)}
    seconds = sum(_frames(corpus, r) for records in tables.values() for r in records) * FRAME
    if not seconds:
        raise KnnvcError(f"{corpus} holds no speech to pack: make it with `vocoder/mini.py corpus`")
    matched = read_prematched(prematched) if prematched else {}
    files = sum(map(len, tables.values()))
    with atomic_path(out) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_LZMA) as archive:
            _add_weights(archive, weights or {}, out.parent)
        room = MARGIN * (largest - temporary.stat().st_size)
        if room <= 0:
            raise KnnvcError(f"the weights alone take more than {largest / 1e6:g} MB")
        begun = temporary.read_bytes()
        form = _form(part, seconds, files, matched, room)
        while True:
            temporary.write_bytes(begun)
            with zipfile.ZipFile(temporary, "a", zipfile.ZIP_LZMA) as archive:
                facts: dict[str, Any] = {"part": part, "kilobits": form.kilobits}
                facts |= _add_speech(archive, corpus, tables, form)
                facts["matched"] = _add_matched(archive, matched, form)
                archive.writestr(FACTS, json.dumps(facts))
            size = temporary.stat().st_size
            if size <= largest:
                break
            fewer = CLOSER * largest / size
            form = Form(form.kilobits, form.share * fewer, form.matched * fewer)
    return facts | {"bytes": size, "left_out": files - facts["utterances"]}


def unpack_corpus(packed: Path, folder: Path) -> dict[str, Any]:
    """Make a corpus of what `pack_corpus` wrote, with weights in `folder/weights`; its facts.

    What was unpacked before is kept, if it was the same file.

    Raises:
        KnnvcError: the file is no such archive.
    """
    done, digest = folder / "unpacked", sha256_file(packed)
    try:
        with zipfile.ZipFile(packed) as archive:
            facts: dict[str, Any] = json.loads(archive.read(FACTS))
            if done.exists() and done.read_text() == digest:
                return facts
            speech: dict[str, tuple[str, bytes, npt.NDArray[np.float32]]] = {}
            for name in archive.namelist():
                kind, _, rest = name.partition("/")
                if not _inside(rest):
                    raise KnnvcError(f"{packed} names a file outside its folder: pack it again")
                if kind in ("mel", "opus"):
                    f0 = np.frombuffer(archive.read(f"f0/{rest}"), np.float16).astype(np.float32)
                    speech[rest] = (kind, archive.read(name), f0)
                elif kind in ("tables", "heard", WEIGHTS):
                    where = folder / (name if kind == WEIGHTS else rest)
                    with atomic_path(where) as temporary:
                        temporary.write_bytes(archive.read(name))
            matched = dict(_matched_in(archive))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise KnnvcError(f"{packed} is no packed corpus, or damaged: pack it again") from error
    network = PhoneEncoder(MINI_ENCODER).eval()

    def write(file: str) -> None:
        _write_speech(folder / file, *speech[file], network)

    with ThreadPoolExecutor(os.cpu_count()) as helpers:
        list(helpers.map(write, speech))
    if matched:
        write_prematched(folder / WEIGHTS / PREMATCHED, matched)
    done.write_text(digest)
    return facts


def _tables(part: str) -> Sequence[str]:
    return TABLES[:1] if part == "vocoder" else TABLES


def _frames(corpus: Path, record: Record) -> int:
    audio = corpus / record["file"]
    if audio.exists():
        return int(sf.info(audio).frames) // HOP
    with np.load(audio.with_suffix(".npz")) as saved:
        return len(saved["f0"])


def _form(
    part: str, seconds: float, files: int, matched: Mapping[str, Floats], room: float
) -> Form:
    """The best form in which so many seconds of speech fit into `room` bytes."""
    share = 1.0
    if matched:
        wanted = SPECTRA_BYTES * FRAME * sum(map(len, matched.values()))
        share = min(1.0, room / 2 / wanted)
        room -= share * wanted
    if part != "vocoder" and SPECTRA_BYTES * seconds <= room:
        return Form(None)
    kilobits = 8 * (room - OGG_BYTES * files) / seconds / 1000
    least, most = OPUS
    fits = max(0.001, min(1.0, kilobits / least))
    return Form(min(most, max(least, kilobits)), fits, share)


def _add_weights(archive: zipfile.ZipFile, weights: Mapping[str, Path], folder: Path) -> None:
    files = dict(weights)
    start = weights.get(START)
    for beside in (CONTENT, SPEAKERS):
        if start is not None and (start.parent / beside).exists():
            files[beside] = start.parent / beside
    for name, path in files.items():
        state, metadata = read_tensors(path)
        small = folder / f".{name}.packing"
        try:
            write_tensors(small, in_8_bits(state), metadata)
            archive.write(small, f"{WEIGHTS}/{name}", zipfile.ZIP_STORED)
        finally:
            small.unlink(missing_ok=True)


def _add_speech(
    archive: zipfile.ZipFile, corpus: Path, tables: Mapping[str, Sequence[Record]], form: Form
) -> dict[str, Any]:
    network = PhoneEncoder(MINI_ENCODER).eval()
    index = frames = packed = 0
    known: set[str] = set()
    for pattern, records in tables.items():
        kept = []
        for record in records:
            index += 1
            if not form.keeps(index - 1):
                continue
            packed += 1
            kept.append(json.dumps(record) + "\n")
            file = record["file"]
            if file in known:
                continue
            known.add(file)
            mel, f0 = spectra_of(corpus / file, network)
            frames += len(f0)
            archive.writestr(f"f0/{file}", f0.astype(np.float16).tobytes())
            if form.kilobits is None:
                archive.writestr(f"mel/{file}", _in_steps(mel).tobytes())
            else:
                opus = _as_opus(corpus / file, form.kilobits)
                archive.writestr(f"opus/{file}", opus, zipfile.ZIP_STORED)
            heard = corpus / record.get("posteriors", "nothing")
            if heard.is_file():
                archive.writestr(f"heard/{record['posteriors']}", _rounded(heard))
        if kept:
            archive.writestr(f"tables/{pattern.replace('*', 'packed')}", "".join(kept))
    return {"utterances": packed, "hours": round(frames * FRAME / 3600, 3)}


def _add_matched(archive: zipfile.ZipFile, matched: Mapping[str, Floats], form: Form) -> int:
    count = 0
    for index, (file, frames) in enumerate(sorted(matched.items())):
        if form.keeps(index, form.matched):
            count += 1
            archive.writestr(f"matched/{file}", _in_steps(frames[:, :-2]).tobytes())
            archive.writestr(f"pitch/{file}", frames[:, -2:].astype(np.float16).tobytes())
    return count


def _matched_in(archive: zipfile.ZipFile) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
    for name in archive.namelist():
        kind, _, file = name.partition("/")
        if kind == "matched":
            pitch = np.frombuffer(archive.read(f"pitch/{file}"), np.float16).reshape(-1, 2)
            yield file, np.concatenate([_from_steps(archive.read(name), len(pitch)), pitch], 1)


def _in_steps(spectra: Floats) -> npt.NDArray[np.int8]:
    """Spectra [L, columns] in whole steps, each row as its difference from the one before."""
    steps = np.round(spectra.astype(np.float32) * STEPS).clip(-127, 127).astype(np.int8)
    first = np.zeros_like(steps[:1])
    return np.diff(steps, axis=0, prepend=first)  # in 8 bits, where sums wrap back


def _from_steps(data: bytes, rows: int) -> npt.NDArray[np.float16]:
    steps = np.frombuffer(data, np.int8).reshape(rows, -1).cumsum(0, dtype=np.int8)
    return (steps.astype(np.float32) / STEPS).astype(np.float16)


def _as_opus(audio: Path, kilobits: float) -> bytes:
    if not audio.exists():
        raise KnnvcError(f"{audio} is missing: a corpus without its recordings cannot be packed")
    wave, rate = sf.read(audio, dtype="float32")
    packed = io.BytesIO()
    level = 1 - (kilobits - 6) / 250  # libsndfile goes from 256 kbit/s at 0 to 6 at 1
    sf.write(packed, wave, rate, format="OGG", subtype="OPUS", compression_level=level)
    return packed.getvalue()


def _rounded(posteriors: Path) -> bytes:
    """A teacher's posteriors in 255 steps: most are zero then, and take no room."""
    with np.load(posteriors) as saved:
        arrays = dict(saved)
    heard = np.round(arrays["posteriors"].astype(np.float32) * 255) / 255
    made = io.BytesIO()
    np.savez(made, **(arrays | {"posteriors": heard.astype(np.float16)}))
    return made.getvalue()


def _write_speech(
    audio: Path, kind: str, data: bytes, f0: npt.NDArray[np.float32], network: PhoneEncoder
) -> None:
    """Spectra and pitch as `recipe.data` reads them; beside them the waveform, if there is one."""
    audio.parent.mkdir(parents=True, exist_ok=True)
    substeps = network.config.substeps
    if kind == "mel":
        mel = _from_steps(data, substeps * len(f0))
    else:
        wave, _ = sf.read(io.BytesIO(data), dtype="float32")
        wave = np.pad(wave, (0, max(0, HOP * len(f0) - len(wave))))
        with atomic_path(audio) as temporary:
            sf.write(temporary, wave, SAMPLE_RATE, format="FLAC")
        with torch.inference_mode():
            spectra = network.log_mel(torch.from_numpy(wave)[None])[0, : len(f0)]
        mel = spectra.reshape(substeps * len(f0), -1).half().numpy()
    with atomic_path(audio.with_suffix(".npz")) as temporary:
        np.savez(temporary, mel=mel, f0=f0)


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts
