"""Features of any encoder, without a converter and a vocoder."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from knnvc.audio import load_audio
from knnvc.audio.batches import mono_batch, stacked
from knnvc.encoders.base import Encoder
from knnvc.errors import UsageError
from knnvc.options import DEFAULT_PRESET
from knnvc.presets.loading import choose_device
from knnvc.presets.search import find_preset
from knnvc.registry import Context, PartSpec, find


def features(
    audio: Any,
    layer: int | None = None,
    *,
    encoder: str | Path = DEFAULT_PRESET,
    sample_rate: int | None = None,
    device: str = "auto",
) -> Any:
    """Features of a path or samples, by the encoder of a preset or of transformers.

    Args:
        audio: a path, or samples [S] or a batch [B, S].
        layer: of a transformer, 0 for its input; None is the preset's own.
        encoder: a preset's name or folder; a folder saved by `save_pretrained`, or a hub name,
            of a WavLM, HuBERT, wav2vec 2.0 or data2vec-audio model.
        sample_rate: of samples, in Hz.
        device: "auto", "cpu", "cuda" or "mps".

    Returns:
        [T, D] float32, of a batch [B, T, D]; an array for arrays, else a tensor.

    Raises:
        UsageError: there is no such encoder or layer, or samples come without their rate.
        KnnvcError: the audio or the encoder cannot be used.
    """
    chosen = _encoder(str(encoder), layer, device)
    rate = chosen.sample_rate
    if isinstance(audio, str | Path):
        signals = [load_audio(audio, rate)]
    else:
        signals = mono_batch(audio, rate, sample_rate)
    made = [chosen.encode(one)[:, chosen.columns.synth] for one in signals]
    return stacked(made, audio)


@lru_cache(maxsize=2)
def _encoder(name: str, layer: int | None, device: str) -> Encoder:
    """Loading takes longer than encoding a short clip, so repeated calls share an encoder."""
    try:
        spec = find_preset(name).encoder
    except UsageError:
        if layer is None:
            raise
        spec = PartSpec("encoder", "huggingface", {"name": name})
    if layer is not None:
        if "match_layer" not in find("encoder", spec.type).settings:
            raise UsageError(f"the encoder of {name!r} has no layers to choose: leave layer out")
        layers = {"match_layer": layer, "synth_layer": layer}
        spec = replace(spec, settings={**spec.settings, **layers})
    made: Encoder = find("encoder", spec.type).make(spec, Context(name, choose_device(device)))
    return made
