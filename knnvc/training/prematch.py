"""Prematching: replace every frame by its own speaker's nearest other frames, as kNN-VC trains on.

The search leaves out the utterance that a frame comes from. Published kNN-VC pools one LibriSpeech
chapter; here the pool is all other utterances of the speaker.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from knnvc.audio import find_audio, load_audio
from knnvc.converters.knn import select, weigh
from knnvc.converters.search import search
from knnvc.encoders.base import Encoder
from knnvc.errors import KnnvcError
from knnvc.tensors import write_tensors


def prematch_folder(corpus: Path, encoder: Encoder, out: Path, k: int = 4) -> None:
    """Write matched features of any corpus to `out`, one file beside another as in `corpus`.

    The corpus has one folder for each speaker, with recordings at any depth. Each becomes
    SPEAKER/…/NAME.safetensors with the tensor `matched` [T, Ds] float16; its metadata say how often
    a frame comes, as `sample_rate` and `hop` of the encoder. A speaker whose files are
    all there is skipped, so a run goes on where it stopped.

    Raises:
        KnnvcError: there is no speaker with enough speech.
    """
    columns = encoder.columns
    about = {"sample_rate": str(encoder.sample_rate), "hop": str(encoder.hop)}
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for file in find_audio(corpus):
        by_speaker[file.relative_to(corpus).parts[0]].append(file)
    written = 0
    for number, (speaker, files) in enumerate(by_speaker.items(), 1):
        targets = [matched_path(corpus, file, out) for file in files]
        if not all(path.exists() for path in targets):
            features = [encoder.encode(load_audio(file, encoder.sample_rate)) for file in files]
            match = [one[:, columns.match] for one in features]
            synth = [one[:, columns.synth] for one in features]
            for index, path in enumerate(targets):
                chosen = from_others(match, synth, index, k)
                if chosen is not None:
                    write_tensors(path, {"matched": chosen.half()}, about)
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
