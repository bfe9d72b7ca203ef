"""Prematching: replace every frame by its own speaker's nearest other frames, as kNN-VC trains on.

The search leaves out the utterance that a frame comes from. Published kNN-VC pools one LibriSpeech
chapter; here the pool is all other utterances of the speaker.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from knnvc.audio import find_audio, load_audio
from knnvc.converters.knn import search, select, weigh
from knnvc.encoders.ssl import Encoder, fingerprint
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.tensors import write_tensors
from knnvc.training.kokoro import HELD_OUT, read_alignments


def prematch(
    corpus: Path, encoder: Encoder, out: Path, k: int = 4, space: AcousticSpace | None = None
) -> None:
    """Write matched synthesis features of all training speakers to `out` (safetensors, float16).

    Tensors are named after the audio files and hold [T, Ds]. With an acoustic `space` the frames
    are selected and finished as in a conversion, the utterance's own speaker being the target.
    Run again after a kill, it goes on with the next speaker.
    """
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for record in read_alignments(corpus):
        if record["speaker"] not in HELD_OUT:
            by_speaker[record["speaker"]].append(record["file"])
    columns = encoder.columns
    # Finished speakers survive a kill; the name keeps those of another encoder apart.
    parts = out.with_suffix(f".{fingerprint(encoder.network)[:8]}")
    parts.mkdir(parents=True, exist_ok=True)
    for number, (speaker, files) in enumerate(sorted(by_speaker.items()), 1):
        part = parts / f"{speaker}.safetensors"
        if part.exists():
            continue
        match, synth = [], []
        for file in files:
            wave, _ = sf.read(corpus / file, dtype="float32")
            features = encoder.encode(torch.from_numpy(wave))
            match.append(features[:, columns.match])
            synth.append(features[:, columns.synth])
        vectors, statistics = match, None
        if space:
            statistics = space.statistics(torch.cat(synth), torch.cat(match))
            vectors = [space.vectors(*pair, statistics) for pair in zip(synth, match, strict=True)]
        tensors: dict[str, npt.NDArray[np.float16]] = {}
        for index, file in enumerate(files):
            chosen = from_others(vectors, synth, index, k)
            if chosen is None:
                continue
            if space and statistics:
                chosen = space.finish(chosen, synth[index], statistics, statistics)
            tensors[file] = chosen.half().numpy()
        _write(part, tensors)
        print(f"prematched {number} of {len(by_speaker)} speakers ({speaker})", flush=True)
    _write(out, {name: x for part in parts.iterdir() for name, x in read_prematched(part).items()})
    shutil.rmtree(parts)


def _write(path: Path, tensors: dict[str, npt.NDArray[np.float16]]) -> None:
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def prematch_folder(corpus: Path, encoder: Encoder, out: Path, k: int = 4) -> None:
    """Write matched features of any corpus to `out`, one file beside another as in `corpus`.

    The corpus has one folder for each speaker, with recordings at any depth. Each becomes
    SPEAKER/…/NAME.safetensors with the tensor `matched` [T, Ds] float16. A speaker whose files are
    all there is skipped, so a run goes on where it stopped.

    Raises:
        KnnvcError: there is no speaker with enough speech.
    """
    columns = encoder.columns
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for file in find_audio(corpus):
        by_speaker[file.relative_to(corpus).parts[0]].append(file)
    written = 0
    for number, (speaker, files) in enumerate(by_speaker.items(), 1):
        targets = [matched_path(corpus, file, out) for file in files]
        if not all(path.exists() for path in targets):
            features = [encoder.encode(load_audio(file)) for file in files]
            match = [one[:, columns.match] for one in features]
            synth = [one[:, columns.synth] for one in features]
            for index, path in enumerate(targets):
                chosen = from_others(match, synth, index, k)
                if chosen is not None:
                    write_tensors(path, {"matched": chosen.half()})
        written += sum(path.exists() for path in targets)
        print(f"prematched {number} of {len(by_speaker)} speakers ({speaker})", flush=True)
    if not written:
        raise KnnvcError(
            f"{corpus} has no folder with {k} frames of speech in two recordings: "
            "give a folder with one sub-folder for each speaker"
        )


def matched_path(corpus: Path, audio: Path, out: Path) -> Path:
    """Where `prematch_folder` puts the features of a recording of `corpus`."""
    below = audio.relative_to(corpus)
    return out / below.with_name(below.name + ".safetensors")


def from_others(vectors: list[Tensor], synth: list[Tensor], index: int, k: int) -> Tensor | None:
    """The mean of the k frames of the other utterances nearest to each of utterance `index`.

    `vectors` [T, Dv] are compared, `synth` [T, Ds] averaged; None if the others have too little.
    """
    others = [other for other in range(len(vectors)) if other != index]
    if sum(len(vectors[other]) for other in others) < k:
        return None
    distances, indices = search(vectors[index], torch.cat([vectors[o] for o in others]), k)
    return select(torch.cat([synth[o] for o in others]), indices, weigh(distances, "mean"))


def read_prematched(path: Path) -> dict[str, np.ndarray]:
    """Matched features [T, Ds] by audio file."""
    return load_file(path)
