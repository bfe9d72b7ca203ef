"""Features of any encoder, without a converter and a vocoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from knnvc.audio import load_audio, require_audio
from knnvc.audio.batches import mono_batch, stacked
from knnvc.encoders.base import ALL, Encoder
from knnvc.errors import KnnvcError, UsageError
from knnvc.options import DEFAULT_PRESET
from knnvc.presets.named import open_encoder
from knnvc.progress import Progress, Tell, stage
from knnvc.tensors import write_tensors

FORMAT = "knnvc features 1"
POOLS = ("none", "mean", "max", "mean+max")


def features(
    audio: Any,
    layer: int | str | None = None,
    *,
    encoder: str | Path = DEFAULT_PRESET,
    sample_rate: int | None = None,
    device: str = "auto",
    weights: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    pool: str = "none",
) -> Any:
    """Features of a path or samples, by any encoder.

    Args:
        audio: a path, or samples [S] or a batch [B, S].
        layer: of a transformer or of wav2vec: 0 for the first one's input, n for what layer n
            returns, −1 for the last one with the final layer norm, or "all"; None is the encoder's
            own.
        encoder: a name of docs/encoders.md; a preset's name or folder; a published file; a folder
            saved by `save_pretrained`, or a hub name, of a WavLM, HuBERT, wav2vec 2.0 or
            data2vec-audio model.
        sample_rate: of samples, in Hz.
        device: "auto", "cpu", "cuda" or "mps".
        weights: the published file of an encoder whose licence lets nobody pass it on.
        config: settings of the encoder, such as BYOL-A's `mean` and `std`.
        pool: one vector of all frames: "mean", "max", or "mean+max", their sum (BYOL-A's).

    Returns:
        [T, D] float32; with layer "all" [L, T, D], layer 0 first; of a batch, B of them. With
        `pool` T is missing. An array for arrays, else a tensor.

    Raises:
        UsageError: there is no such encoder or layer, or samples come without their rate.
        KnnvcError: the audio or the encoder cannot be used.
    """
    if pool not in POOLS:
        raise UsageError(f"pool is {str(pool)[:20]!r}: choose one of {', '.join(POOLS)}")
    settings = tuple(sorted((config or {}).items()))
    path = None if weights is None else str(weights)
    chosen = _encoder(str(encoder), layer, device, path, settings)
    rate = chosen.sample_rate
    if isinstance(audio, str | Path):
        signals = [load_audio(audio, rate)]
    else:
        signals = mono_batch(audio, rate, sample_rate)
    made = [pooled(encode_layers(chosen, one, layer), pool) for one in signals]
    return stacked(made, audio)


def encode_layers(
    encoder: Encoder, waveform: Tensor, layer: int | str | None, progress: Tell | None = None
) -> Tensor:
    """Features [T, D] of a waveform [S], or [L, T, D] where `layer` is "all".

    Raises:
        KnnvcError: layers differ in width, so that they do not stand side by side.
    """
    made = encoder.encode(waveform, progress)[:, encoder.columns.synth]
    if layer != ALL:
        return made
    network = getattr(encoder, "network", None)
    widths = getattr(network, "widths", None) or (made.shape[1] // layers_of(encoder),)
    if len(set(widths)) > 1:
        raise KnnvcError(f"the layers of this encoder differ in width ({widths}): choose one")
    return made.reshape(len(made), -1, widths[0]).transpose(0, 1).contiguous()


def layers_of(encoder: Encoder) -> int:
    """How many layers stand side by side in the features of an encoder opened with "all"."""
    network = getattr(encoder, "network", None)
    depth = getattr(network, "depth", 0)
    wanted = getattr(network, "wanted", ())
    return depth + 1 if len(wanted) == depth + 1 and depth else 1


def pooled(made: Tensor, pool: str) -> Tensor:
    """One vector [..., D] of features [..., T, D], or all of them."""
    if pool == "none":
        return made
    mean, most = made.mean(-2), made.amax(-2)
    return {"mean": mean, "max": most, "mean+max": mean + most}[pool]


def write_features(
    source: Path,
    target: Path,
    encoder: Encoder,
    layer: int | str | None,
    about: Mapping[str, str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the features of a recording as safetensors; the file appears whole or not at all.

    Args:
        source: the recording.
        target: the file to write; its tensor `features` is [T, D] or [L, T, D] float32, or without
            T if pooled.
        encoder: see `knnvc.presets.named.open_encoder`.
        layer: that it was opened with.
        about: what stands in the metadata besides; `pool` as of `features`.
        force: overwrite `target`.
        progress: called with frames.

    Raises:
        KnnvcError: the recording cannot be used, or the file not written.
    """
    waveform = load_audio(source, encoder.sample_rate)
    waveform = require_audio(waveform, str(source), sample_rate=encoder.sample_rate)
    frames = max(1, len(waveform) // encoder.hop)
    made = encode_layers(encoder, waveform, layer, stage(progress, "encoding", frames))
    metadata = {
        **about,
        "format": FORMAT,
        "sample_rate": str(encoder.sample_rate),
        "hop": str(encoder.hop),
        "frames_a_second": f"{encoder.sample_rate / encoder.hop:g}",
        "fingerprint": encoder.fingerprint,
        "source": source.name.encode("utf-8", "replace").decode(),
        "seconds": f"{len(waveform) / encoder.sample_rate:.3f}",
    }
    made = pooled(made, about.get("pool", "none"))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(target, {"features": made}, metadata, force=force)
    return target


@lru_cache(maxsize=2)
def _encoder(
    name: str,
    layer: int | str | None,
    device: str,
    weights: str | None = None,
    config: tuple[tuple[str, Any], ...] = (),
) -> Encoder:
    """Loading takes longer than encoding a short clip, so repeated calls share an encoder."""
    return open_encoder(name, layer, device, weights=weights, config=dict(config))
