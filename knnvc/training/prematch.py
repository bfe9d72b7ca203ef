"""Prematching: replace every frame by its own speaker's nearest other frames, as kNN-VC trains on.

The search leaves out the utterance that a frame comes from. Published kNN-VC pools one LibriSpeech
chapter; here the pool is all other utterances of the speaker.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from safetensors.numpy import load_file, save_file

from knnvc.acoustic_space import AcousticSpace
from knnvc.encoder import Encoder
from knnvc.matching import search, select, weigh
from knnvc.training.kokoro import HELD_OUT, read_alignments


def prematch(
    corpus: Path, encoder: Encoder, out: Path, k: int = 4, space: AcousticSpace | None = None
) -> None:
    """Write matched synthesis features of all training speakers to `out` (safetensors, float16).

    Tensors are named after the audio files and hold [T, Ds]. With an acoustic `space` the frames
    are selected and finished as in a conversion, the utterance's own speaker being the target.
    """
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for record in read_alignments(corpus):
        if record["speaker"] not in HELD_OUT:
            by_speaker[record["speaker"]].append(record["file"])
    columns = encoder.columns
    tensors: dict[str, npt.NDArray[np.float16]] = {}
    for number, (speaker, files) in enumerate(sorted(by_speaker.items()), 1):
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
        for index, file in enumerate(files):
            others = [other for other in range(len(files)) if other != index]
            if sum(len(vectors[other]) for other in others) < k:
                continue
            pool = torch.cat([vectors[other] for other in others])
            distances, indices = search(vectors[index], pool, k)
            frames = torch.cat([synth[other] for other in others])
            chosen = select(frames, indices, weigh(distances, "mean"))
            if space and statistics:
                chosen = space.finish(chosen, synth[index], statistics, statistics)
            tensors[file] = chosen.half().numpy()
        print(f"prematched {number} of {len(by_speaker)} speakers ({speaker})", flush=True)
    temporary = out.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(out)


def read_prematched(path: Path) -> dict[str, np.ndarray]:
    """Matched features [T, Ds] by audio file."""
    return load_file(path)
