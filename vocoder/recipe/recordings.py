"""Real speech for the corpus: what Debian carries under licences that let weights be shipped.

A network that has only met synthetic voices mishears real ones: `mini`'s encoder had 15 % of the
phones wrong in unseen voices of Kokoro, and 35 to 41 % in people. Two adventure games with
actors' voices and the recordings of a Russian unit selection voice are what a Debian mirror has in
quantity: eight and a half hours, dozens of speakers. They come without alignments, and mostly
without a speaker's name; `recipe.teacher` names phones, and voices that sound alike are
taken for one speaker.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path
from knnvc.training.aligned import read_table
from recipe import downloads, rnc

FOLDER = "recordings"
SHORTEST, LONGEST = 0.8, 28.0  # seconds
LEVEL = 0.07  # root mean square of what is not silence
AUDIBLE = 0.02  # amplitude
SAME_VOICE = 0.2  # cosine distance of speaker embeddings, on average, within one speaker
SPEAKER_FROM = 1.8  # seconds that tell a speaker
LEAST_SPOKEN = 40.0  # seconds of a speaker, else it stays unnamed

LICENCE = (
    "Flight of the Amazon Queen and Beneath a Steel Sky (their licences let them and modified "
    "versions be given away), festvox-ru (BSD-like)"
)
FIRST_SPEECH = 50_000  # number of a file of Beneath a Steel Sky

Floats = npt.NDArray[np.float32]
Clip = tuple[str, Floats, int]  # name, samples [S], Hz


def queen(folder: Path) -> Iterator[Clip]:
    """*Flight of the Amazon Queen* (1995), 4.6 h: MP3 files in one archive with a table."""
    data = (folder / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c").read_bytes()
    if data[:4] != b"QTBL":
        raise KnnvcError("flight-of-the-amazon-queen is packed in another way than expected")
    (count,) = struct.unpack(">H", data[13:15])
    for at in range(15, 15 + 21 * count, 21):
        name = data[at : at + 12].split(b"\0")[0].decode("ascii")
        start, size = struct.unpack(">II", data[at + 13 : at + 21])
        if name.endswith(".SB"):
            wave, rate = sf.read(io.BytesIO(data[start : start + size]), dtype="float32")
            yield name[:-3], wave, rate


def sky(folder: Path) -> Iterator[Clip]:
    """*Beneath a Steel Sky* (1994), 2.2 h: packed 8 bit samples."""
    game = folder / "usr/share/scummvm/beneath-a-steel-sky"
    table, data = (game / "sky.dnr").read_bytes(), (game / "sky.dsk").read_bytes()
    (count,) = struct.unpack("<I", table[:4])
    for at in range(4, 4 + 8 * count, 8):
        number = int.from_bytes(table[at : at + 2], "little")
        start = int.from_bytes(table[at + 2 : at + 5], "little")
        size = int.from_bytes(table[at + 5 : at + 8], "little") & 0x3FFFFF
        if start >> 23:
            start = (start & 0x7FFFFF) << 4
        packed = data[start + 22 : start + size]  # after a header
        if number >= FIRST_SPEECH and packed[:4] == rnc.MAGIC:
            yield str(number), rnc.samples(packed), 11025


def msu(folder: Path) -> Iterator[Clip]:
    """The Russian recordings of the Festival voice msu_ru_nsh, 1.6 h of one man."""
    voice = folder / "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav"
    for path in sorted(voice.glob("*.wav")):
        wave, rate = sf.read(path, dtype="float32")
        yield path.stem, wave, rate


SOURCES = {
    "queen": ("flight-of-the-amazon-queen", queen),
    "sky": ("beneath-a-steel-sky", sky),
    "msu": ("festvox-ru", msu),
}
ONE_SPEAKER = ("msu",)


def fetch(folder: Path) -> dict[str, Path]:
    """Download the Debian packages into `folder`, what is there is kept; name -> where it lies.

    Raises:
        KnnvcError: a package manager fails.
    """
    found = {}
    for name, (package, _) in SOURCES.items():
        found[name] = folder / package
        if not (found[name] / "usr").exists():
            downloads.from_debian((package,), found[name])
    return found


def collect(found: dict[str, Path], corpus: Path) -> None:
    """Write `corpus/recordings/SOURCE/*.flac` at 16 kHz and `corpus/recordings-SOURCE.jsonl`.

    A source whose table is there is skipped. Speakers are told apart by Resemblyzer's embeddings.
    """
    for source, folder in found.items():
        table = corpus / f"recordings-{source}.jsonl"
        if table.exists():
            continue
        records, waves = [], []
        for name, wave, rate in SOURCES[source][1](folder):
            ready = prepare(wave, rate)
            if ready is None:
                continue
            file = f"{FOLDER}/{source}/{name}.flac"
            with atomic_path(corpus / file) as temporary:
                sf.write(temporary, ready, SAMPLE_RATE, format="FLAC")
            heard = f"{FOLDER}/{source}/{name}.posteriors.npz"
            records.append({"file": file, "speaker": source, "posteriors": heard})
            waves.append(ready)
        if source not in ONE_SPEAKER:
            for record, speaker in zip(records, tell_apart(waves, source), strict=True):
                record["speaker"] = speaker
        with atomic_path(table) as temporary:
            temporary.write_text(
                "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8"
            )
        hours = sum(map(len, waves)) / SAMPLE_RATE / 3600
        speakers = len({record["speaker"] for record in records} - {""})
        print(
            f"{source}: {len(records)} recordings, {hours:.2f} h, {speakers} speakers", flush=True
        )


def prepare(wave: Floats, rate: int) -> Floats | None:
    """One channel at 16 kHz and the usual level, cut to 28 s; None if there is nothing in it."""
    import soxr

    mono = wave if wave.ndim == 1 else wave.mean(axis=1)
    mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)
    loud = np.abs(mono) > AUDIBLE
    if len(mono) < SHORTEST * SAMPLE_RATE or not loud.any():
        return None
    level = max(1e-3, float(np.sqrt(np.mean(mono[loud] ** 2))))
    ready: Floats = np.clip(mono * (LEVEL / level), -1, 1)[: int(LONGEST * SAMPLE_RATE)]
    return ready


def tell_apart(waves: list[Floats], prefix: str) -> list[str]:
    """A speaker's name for every wave; "" for short ones and for those who say little."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Resemblyzer imports what is deprecated
        from resemblyzer import VoiceEncoder
    from scipy.cluster.hierarchy import fcluster, linkage

    long = [i for i, wave in enumerate(waves) if len(wave) > SPEAKER_FROM * SAMPLE_RATE]
    names = [""] * len(waves)
    if len(long) < 2:
        return names
    encoder = VoiceEncoder("cpu", verbose=False)
    embeddings = np.stack([encoder.embed_utterance(waves[i]) for i in long])
    clusters = fcluster(linkage(embeddings, "average", "cosine"), SAME_VOICE, "distance")
    spoken: dict[int, float] = defaultdict(float)
    for index, cluster in zip(long, clusters, strict=True):
        spoken[cluster] += len(waves[index]) / SAMPLE_RATE
    for index, cluster in zip(long, clusters, strict=True):
        if spoken[cluster] >= LEAST_SPOKEN:
            names[index] = f"{prefix}{cluster:03d}"
    return names


def read_recordings(corpus: Path) -> list[dict[str, Any]]:
    """The records (`file`, `speaker`, `posteriors`) of the corpus' real speech, sorted by file."""
    return read_table(corpus, "recordings-*.jsonl")
