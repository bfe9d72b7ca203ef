"""Prematching: replace every frame by its own speaker's nearest other frames, as kNN-VC trains on.

The search leaves out the utterance that a frame comes from. Published kNN-VC pools one LibriSpeech
chapter; here the pool is all other utterances of the speaker.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from safetensors.numpy import load_file, save_file

from knnvc.encoder import Encoder
from knnvc.matching import search, select, weigh
from knnvc.pitch import pitch_space, pitch_statistics
from knnvc.training.kokoro import HELD_OUT, read_alignments


def prematch(
    corpus: Path,
    encoder: Encoder,
    out: Path,
    k: int = 4,
    pitch_weight: float = 0.15,
    voicing_weight: float = 0.3,
) -> None:
    """Write matched synthesis features of all training speakers to `out` (safetensors, float16).

    Tensors are named after the audio files and hold [T, Ds]; where the encoder hears pitch, the
    pitch and voicing columns stay the utterance's own, because conversion moves the source's
    contour instead of averaging the neighbours'.
    """
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for record in read_alignments(corpus):
        if record["speaker"] not in HELD_OUT:
            by_speaker[record["speaker"]].append(record["file"])
    columns = encoder.columns
    tensors: dict[str, np.ndarray] = {}
    for number, (speaker, files) in enumerate(sorted(by_speaker.items()), 1):
        encoded = []
        for file in files:
            wave, _ = sf.read(corpus / file, dtype="float32")
            encoded.append(encoder.encode(torch.from_numpy(wave)))
        match = [features[:, columns.match] for features in encoded]
        if columns.pitch is not None:
            statistics = pitch_statistics(torch.cat(match))
            match = [pitch_space(m, statistics, pitch_weight, voicing_weight) for m in match]
        synth = [features[:, columns.synth] for features in encoded]
        for index, file in enumerate(files):
            others = [other for other in range(len(files)) if other != index]
            if sum(len(match[other]) for other in others) < k:
                continue
            pool = torch.cat([match[other] for other in others])
            source = torch.cat([synth[other] for other in others])
            distances, indices = search(match[index], pool, k)
            chosen = select(source, indices, weigh(distances, "mean"))
            if columns.pitch is not None:
                at = columns.pitch
                chosen[:, at : at + 2] = synth[index][:, at : at + 2]
            tensors[file] = chosen.half().numpy()
        print(f"prematched {number} of {len(by_speaker)} speakers ({speaker})", flush=True)
    temporary = out.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(out)


def read_prematched(path: Path) -> dict[str, np.ndarray]:
    """Matched features [T, Ds] by audio file."""
    return load_file(path)
