"""Prematching of an aligned corpus for `mini`'s vocoder, whose frames come from its own rules."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from safetensors.numpy import load_file, save_file

from knnvc.files import atomic_path
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.encoder import MiniEncoder as Encoder
from knnvc.training.aligned import is_held_out, read_alignments
from knnvc.training.prematch import from_others
from knnvc.training.runs import seed_everything
from recipe.data import load_corpus, split
from recipe.learner import Learner
from recipe.pieces import Pieces
from recipe.refiner import listening, parts_of


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
        if not is_held_out(record):
            by_speaker[record["speaker"]].append(record["file"])
    columns = encoder.columns
    # Finished speakers survive a kill; the name keeps those of another encoder apart.
    parts = out.with_suffix(f".{encoder.fingerprint[:8]}")
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
        write_prematched(part, tensors)
        print(f"prematched {number} of {len(by_speaker)} speakers ({speaker})", flush=True)
    write_prematched(
        out, {name: x for part in parts.iterdir() for name, x in read_prematched(part).items()}
    )
    shutil.rmtree(parts)


@torch.inference_mode()
def prematch_refined(
    corpus: Path,
    encoder: Encoder,
    space: AcousticSpace,
    learner: Learner,
    out: Path,
    seed: int = 0,
    bf16: bool = False,
) -> None:
    """Write refined frames of disguised utterances to `out`, in the format of `prematch`.

    A vocoder that trains on them learns to read what it is given in a conversion.

    Raises:
        KnnvcError: the encoder is not `mini`'s kind, or the corpus holds too little.
    """
    network = listening(encoder)
    rng = seed_everything(seed)
    training, _ = split(load_corpus(corpus, network))
    parts = parts_of(training)
    pieces = Pieces(parts, network, space, bf16, views=learner.refiner.config.views)
    refined: dict[str, list[npt.NDArray[np.float16]]] = defaultdict(list)
    for number, task in enumerate(pieces.tasks, 1):
        whole = pieces.examples([(task, 0)], len(task.source.f0), False, rng)[0]
        selected, guide, usual, manner, views = whole[:5]
        content = learner.bottleneck(guide[None])[0]
        made = learner.refiner.refine(selected, content, usual, manner, [views])
        refined[task.source.file].append(made.half().numpy())
        if number % 100 == 0 or number == len(pieces.tasks):
            print(f"refined {number} of {len(pieces.tasks)} parts of utterances", flush=True)
    write_prematched(out, {file: np.concatenate(made) for file, made in refined.items()})


def read_prematched(path: Path) -> dict[str, np.ndarray]:
    """Matched features [T, Ds] by audio file."""
    return load_file(path)


def write_prematched(path: Path, tensors: dict[str, npt.NDArray[np.float16]]) -> None:
    """Write matched features [T, Ds] by audio file."""
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
