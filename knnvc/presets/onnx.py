"""Encoders and vocoders as ONNX graphs, for other programs.

B batch, T frames, S samples; B is 1, T and S are dynamic, all is float32. The graphs:

- SSL encoders: waveform [B, S] -> features [B, T, D].
- mel-wavlm: log-mel spectra [B, T, mels · substeps] -> phone logits [B, T, states] and pitch
  [B, T, 2]. The spectra themselves stay in torch, which costs next to nothing.
- HiFi-GAN: features [B, T, D] -> waveform [B, 1, T · hop].
- source-filter: features [B, T, D] -> what the filters are made of [B, steps, 4, bins], and what
  the last layer reads [B, T · substeps, channels], for what corrects it for a voice. The sources
  and the inverse STFT, with its complex numbers, stay in torch.

Needs the extra `onnx`.
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from knnvc.audio import HOP
from knnvc.encoders.encoder import WINDOW, MelWavLM, SslNetwork
from knnvc.encoders.wavlm import WavLM
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path
from knnvc.vocoders.hifigan import HifiGan
from knnvc.vocoders.source_filter import SourceFilterVocoder

OPSET = 18
_EXTRA = "the export needs onnx and onnxscript: run `pip install 'knnvc[onnx]'`"


class _Graph(nn.Module):
    """A method of a network as a network, which is what can be exported."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, values: Tensor) -> Any:
        return getattr(self.network, self.method)(values)


def _part(network: nn.Module) -> tuple[str, list[int], list[str]]:
    """The method that a graph stands for, the shape of an example, the names of its outputs."""
    if isinstance(network, MelWavLM):
        width = network.config.mels * network.config.substeps
        return "predict", [1, 80, width], ["logits", "pitch"]
    if isinstance(network, SslNetwork) and isinstance(network.model, WavLM):
        return "forward", [1, 79 * HOP + WINDOW], ["features"]
    if isinstance(network, HifiGan):
        return "forward", [1, 40, network.dim], ["waveform"]
    if isinstance(network, SourceFilterVocoder):
        return "shape", [1, 40, network.dim], ["shapes", "hidden"]
    raise KnnvcError("only encoders of the types mel-wavlm and wavlm can be exported")


def export(network: nn.Module, path: Path, *, force: bool = True) -> Path:
    """Write the graph of an encoder or vocoder to `path`, weights included.

    Raises:
        UsageError: `path` exists and `force` is False.
        KnnvcError: the network is none of the above, the extra is missing, or writing failed.
    """
    method, shape, outputs = _part(network)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise KnnvcError(_EXTRA) from error
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    length = torch.export.Dim("length", min=2 * WINDOW if len(shape) == 2 else 4)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # The exporter reports what it does; what goes wrong, it raises.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Graph(network.eval(), method),
            (example,),
            input_names=["input"],
            output_names=outputs,
            dynamic_shapes={"values": {1: length}},
            opset_version=OPSET,
            dynamo=True,
        )
    assert program is not None
    with atomic_path(path, force=force) as temporary:
        program.save(temporary, external_data=False)
    return path
