"""Whisper's encoder as `mini`'s begins with it: weights out of CTranslate2's file format.

The format (CTranslate2, `python/ctranslate2/specs/model_spec.py`, MIT): version, name and revision
of the model, then each variable with its name, shape, type and bytes; integers are little-endian.
Matrices of 8 bits have a scale for each row, by which they are divided.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import PhoneEncoder, PhoneEncoderConfig
from knnvc.tensors import write_tensors
from knnvc.training.aligned import read_alignments
from recipe import teacher
from recipe.data import MINI_ENCODER

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
NEWEST = 6  # version of the format
FITTED = 60  # recordings by which spectra are brought near to Whisper's

Array = npt.NDArray[np.float32]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return int(value)

    def text(self) -> str:
        size = self.number("H")
        self.at += size
        return self.data[self.at - size : self.at].rstrip(b"\0").decode("ascii")

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]


def variables(model: Path) -> dict[str, Array]:
    """Every variable of CTranslate2's `model` (model.bin) as float32, scales multiplied in.

    Raises:
        KnnvcError: the file has another format.
    """
    reader = _Reader(model.read_bytes())
    version = reader.number("I")
    if not 4 <= version <= NEWEST:
        raise KnnvcError(f"{model} has format version {version}, which is not known")
    reader.text()
    reader.number("I")
    stored = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind = reader.number("B")
        blob = reader.take(reader.number("I"))
        if kind in TYPES:
            stored[name] = np.frombuffer(blob, TYPES[kind]).reshape(shape).astype(np.float32)
    out = {}
    for name, values in stored.items():
        if name.endswith("_scale"):
            continue
        scale = stored.get(name + "_scale")
        if scale is not None and values.ndim > 1:
            values = values / scale.reshape(-1, *[1] * (values.ndim - 1))
        out[name] = values
    return out


def encoder_weights(model: Path, layers: int) -> dict[str, Tensor]:
    """The convolutions and the first `layers` of Whisper's encoder, named as in `PhoneEncoder`."""
    found = variables(model)
    names = {
        f"conv{n}.{kind}": f"encoder/conv{n}/{kind}" for n in (1, 2) for kind in ("weight", "bias")
    }
    for layer in range(layers):
        here, there = f"layers.{layer}", f"encoder/layer_{layer}"
        for ours, theirs in (
            ("attention_norm", "self_attention/layer_norm"),
            ("feed_norm", "ffn/layer_norm"),
        ):
            names[f"{here}.{ours}.weight"] = f"{there}/{theirs}/gamma"
            names[f"{here}.{ours}.bias"] = f"{there}/{theirs}/beta"
        for ours, theirs in (
            ("inwards", "self_attention/linear_0"),
            ("outwards", "self_attention/linear_1"),
            ("widen", "ffn/linear_0"),
            ("narrow", "ffn/linear_1"),
        ):
            for kind in ("weight", "bias"):
                names[f"{here}.{ours}.{kind}"] = f"{there}/{theirs}/{kind}"
    missing = [theirs for theirs in names.values() if theirs not in found]
    if missing:
        raise KnnvcError(f"{model} lacks {missing[0]}: it is no Whisper model of CTranslate2")
    return {ours: torch.from_numpy(found[theirs].copy()) for ours, theirs in names.items()}


def fit_spectra(network: PhoneEncoder, waves: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """`gain` and `offset` [mels] that bring `network`'s spectra nearest to Whisper's.

    By least squares in each band, over `waves` [S] at 16 kHz.
    """
    from faster_whisper.feature_extractor import FeatureExtractor

    extract = FeatureExtractor(feature_size=network.config.mels)
    ours, theirs = [], []
    for wave in waves:
        with torch.inference_mode():
            mel = network.log_mel(torch.from_numpy(wave)[None])[0].reshape(-1, network.config.mels)
        heard = torch.from_numpy(extract(wave)[:, : len(mel)].T.astype(np.float32))
        ours.append(mel[: len(heard)])
        theirs.append(heard)
    mine, wanted = torch.cat(ours), torch.cat(theirs)
    centred = mine - mine.mean(0)
    gain = (centred * (wanted - wanted.mean(0))).mean(0) / centred.square().mean(0).clamp(min=1e-6)
    return gain, wanted.mean(0) - gain * mine.mean(0)


def begun(corpus: Path, parts: Path, out: Path) -> Path:
    """`out/start.safetensors` with Whisper base's weights, which are downloaded to `parts`."""
    start = out / "start.safetensors"
    if not start.exists():
        out.mkdir(parents=True, exist_ok=True)
        records = read_alignments(corpus)
        chosen = records[:: max(1, len(records) // FITTED)]
        waves = [sf.read(corpus / record["file"], dtype="float32")[0] for record in chosen]
        begin(teacher.fetch(parts) / "model.bin", waves, start, MINI_ENCODER)
    return start


def begin(model: Path, waves: Sequence[Array], out: Path, config: PhoneEncoderConfig) -> Path:
    """Write an encoder that begins with Whisper's weights, its heads untrained; returns `out`."""
    network = PhoneEncoder(config)
    state = network.state_dict() | encoder_weights(model, config.layers)
    network.load_state_dict(state)
    gain, offset = fit_spectra(network, waves)
    network.load_state_dict(network.state_dict() | {"gain": gain, "offset": offset})
    write_tensors(out, network.state_dict(), {"begun_with": "Whisper base (MIT)"})
    return out
