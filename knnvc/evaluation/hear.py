"""HEAR's functions, so that its official kit can judge any encoder of ours.

HEAR 2021 (Turian et al. 2022, https://arxiv.org/abs/2203.03022) asks a module for `load_model`,
`get_scene_embeddings` and `get_timestamp_embeddings`. With its kit installed:

    python -m heareval.embeddings.runner knnvc.evaluation.hear --tasks-dir tasks
        --model-options '{"model_file_path": "mini@4"}'

(its --model takes files only). The model is named as everywhere: a preset, an encoder by name, or
a checkpoint of transformers; "NAME@6" takes layer 6, "NAME@posteriors" columns that an encoder
names. Without a layer it is what the encoder gives as features.

N sounds, S samples, T frames, D columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from knnvc.errors import UsageError
from knnvc.evaluation.probing.layers import FEATURES, Hearing, every_layer
from knnvc.evaluation.probing.named import encoder_of
from knnvc.options import DEFAULT_PRESET
from knnvc.presets.named import open_encoder


class HearModel(nn.Module):
    """A frozen encoder as HEAR wants it.

    Attributes:
        sample_rate: Hz of the sounds that it takes.
        scene_embedding_size: D of a whole sound.
        timestamp_embedding_size: D of a frame.
    """

    sample_rate: int
    scene_embedding_size: int
    timestamp_embedding_size: int

    def __init__(self, hearing: Hearing, layer: str = FEATURES) -> None:
        super().__init__()
        self.hearing = hearing
        self.layer = layer
        network = getattr(hearing.encoder, "network", None)
        if isinstance(network, nn.Module):
            self.network = network  # so that .to(device) reaches it
        self.sample_rate = int(hearing.sample_rate)
        heard = every_layer(hearing.encoder, torch.zeros(self.sample_rate))
        if layer not in heard:
            raise UsageError(
                f"{hearing.name} has no {layer}: choose among {', '.join(heard)}, without the word "
                '"layer"'
            )
        self.scene_embedding_size = self.timestamp_embedding_size = int(heard[layer].shape[1])

    def forward(self, audio: Tensor) -> Tensor:
        """Frames [N, T, D] of `audio` [N, S]."""
        encoder: Any = self.hearing.encoder
        weights = next(self.parameters(), None)
        if weights is not None and hasattr(encoder, "device"):
            encoder.device = weights.device
        made = []
        for one in audio.detach().float().cpu():
            if self.layer == FEATURES:
                made.append(encoder.encode(one))
            else:
                made.append(every_layer(encoder, one)[self.layer])
        return torch.stack(made).float().to(audio.device)


def load_model(model_file_path: str = "") -> HearModel:
    """The encoder called `model_file_path`, by default the preset `mini`'s.

    Raises:
        UsageError: there is no such encoder or layer.
        KnnvcError: it cannot be read.
    """
    name, _, layer = (model_file_path or DEFAULT_PRESET).partition("@")
    wanted = f"layer {layer}" if layer.isdecimal() else layer or FEATURES
    encoder = encoder_of(name, "cpu") if layer else open_encoder(name, None, "cpu")
    return HearModel(Hearing(encoder, name), wanted)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Frames of sounds and their times.

    Args:
        audio: [N, S] at `model.sample_rate`, full scale at ±1.
        model: of `load_model`.

    Returns:
        Embeddings [N, T, `timestamp_embedding_size`] float32, and the middles of the frames [N, T]
        in milliseconds.

    Raises:
        UsageError: `audio` has another shape.
    """
    if audio.ndim != 2:
        raise UsageError(f"HEAR's audio is [sounds, samples]: give that, not {list(audio.shape)}")
    frames = model(audio)
    times = 1000.0 * model.hearing.times(frames.shape[1])
    return frames, times.to(audio.device).expand(len(audio), -1).contiguous()


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """One embedding [N, `scene_embedding_size`] float32 for each sound: the mean of its frames.

    Args:
        audio: [N, S] at `model.sample_rate`, full scale at ±1.
        model: of `load_model`.

    Raises:
        UsageError: `audio` has another shape.
    """
    frames, _ = get_timestamp_embeddings(audio, model)
    return frames.mean(1)
