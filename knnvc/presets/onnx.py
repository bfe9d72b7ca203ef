"""Encoders and vocoders as ONNX graphs, and running them by ONNX Runtime on the CPU.

B batch, T frames, S samples; B is 1, T and S are dynamic, all is float32. The graphs:

- SSL encoders: waveform [B, S] -> features [B, T, D].
- mel-wavlm: log-mel spectra [B, T, mels · substeps] -> phone logits [B, T, states] and pitch
  [B, T, 2]. The spectra themselves stay in torch, which costs next to nothing.
- HiFi-GAN: features [B, T, D] -> waveform [B, 1, T · hop].
- source-filter: features [B, T, D] -> what the filters are made of [B, steps, 4, bins], and what
  the last layer reads [B, T · substeps, channels], for what corrects it for a voice. The sources
  and the inverse STFT, with its complex numbers, stay in torch.

Needs the extra `onnx`: onnxruntime to run, onnx and onnxscript to export.
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

from knnvc.errors import KnnvcError
from knnvc.files import atomic_path
from knnvc.presets.loading import load_parts
from knnvc.presets.search import find_preset

OPSET = 18
_EXTRA = "ONNX export needs onnx and onnxscript: run `pip install knnvc[onnx]`"


class _Graph(nn.Module):
    """A method of a network as a network, which is what can be exported."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, values: Tensor) -> Any:
        return getattr(self.network, self.method)(values)


def _part(network: nn.Module) -> tuple[str, list[int], list[str]]:
    """The method that a graph stands for, the shape of an example, the names of its outputs."""
    declared = getattr(network, "export_graph", None)
    if declared is None:
        raise KnnvcError(f"{type(network).__name__} cannot be exported as ONNX")
    found: tuple[str, list[int], list[str]] = declared()
    return found


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
    length = torch.export.Dim("length", min=800 if len(shape) == 2 else 4)
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


def export_preset(
    name_or_folder: str | Path, folder: Path, *, force: bool = False
) -> tuple[Path, Path]:
    """Write a preset's encoder.onnx and vocoder.onnx into `folder`.

    Raises:
        UsageError: there is no such preset, or a file is in the way and `force` is False.
        KnnvcError: the preset is damaged, cannot be exported, or the extra `onnx` is missing.
    """
    preset = find_preset(name_or_folder)
    parts = load_parts(preset, "cpu", fast=False)
    made = []
    for name, part in (("encoder", parts.encoder), ("vocoder", parts.vocoder)):
        network = getattr(part, "network", None)
        if not isinstance(network, nn.Module):
            raise KnnvcError(f"the {name} of preset {preset.name!r} has no network to export")
        made.append(export(network, folder / f"{name}.onnx", force=force))
    return made[0], made[1]
