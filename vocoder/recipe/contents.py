"""Content columns of a new encoder for a refiner that learnt with another one.

Each utterance is centred, as a converter centres a speaker's content: what stays the same in it
does not count. Training a refiner anew takes hours, this takes minutes.
"""

from __future__ import annotations

from pathlib import Path

import soundfile as sf
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import MiniEncoder, PhoneEncoder
from knnvc.tensors import write_tensors
from knnvc.training.aligned import is_held_out, read_alignments
from recipe.learner import LAYER

UTTERANCES = 500  # of the corpus, evenly: some 300,000 frames for 1,536 columns
SAMPLES = 16 * 16_000  # of an utterance at most
RIDGE = 1e-4  # of the mean square of a hidden column


def fit_content(corpus: Path, encoder: MiniEncoder, before: MiniEncoder, out: Path) -> float:
    """Write `out` with the projection of `encoder`'s layers nearest to `before`'s content.

    By least squares over the aligned utterances of `corpus`. Returns the share of the variance
    that it explains in the speakers held out, NaN without any.

    Raises:
        KnnvcError: `before` gives no content columns, or the corpus has nothing to learn from.
    """
    if before.network.content is None:
        raise KnnvcError("the encoder of before gives no content columns")
    inner = outer = torch.zeros(1, dtype=torch.float64)
    held_out: list[tuple[Tensor, Tensor]] = []
    records = read_alignments(corpus)
    for record in records[:: max(1, len(records) // UTTERANCES)]:
        wave = torch.from_numpy(sf.read(corpus / record["file"], dtype="float32")[0])[:SAMPLES]
        wanted = before.encode(wave)[:, before.network.named_columns["content"]].double()
        hidden = _told(encoder.network, wave)[: len(wanted)].double()
        wanted, hidden = wanted - wanted.mean(0), hidden - hidden.mean(0)
        if is_held_out(record):
            held_out.append((hidden, wanted))
        else:
            inner, outer = inner + hidden.T @ hidden, outer + hidden.T @ wanted
    if inner.ndim < 2:
        raise KnnvcError("every speaker of the corpus is held out: make a longer corpus")
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(inner), dtype=inner.dtype)
    weight = torch.linalg.solve(inner + ridge, outer)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(out, {LAYER: weight.T.float().contiguous()}, {})
    total = sum(float(wanted.square().sum()) for _, wanted in held_out)
    missed = sum(float((wanted - hidden @ weight).square().sum()) for hidden, wanted in held_out)
    return 1 - missed / total if total else float("nan")


@torch.inference_mode()
def _told(network: PhoneEncoder, wave: Tensor) -> Tensor:
    """What content is made of in an utterance: [T, content_inputs]."""
    return network.hidden(network.log_mel(wave[None])).content[0]
