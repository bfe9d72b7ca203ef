"""Plain baselines: log-mel spectra as vocoders read them, and MFCC.

Every vocoder on mel spectra was trained on its own kind of them: published implementations differ
in the scale of the bands, the edges, and what stands under the logarithm. `MelConfig` says which.

B batch, S samples, T frames.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from knnvc.encoders.base import layer_columns
from knnvc.encoders.chunked import CHUNK_SECONDS, CONTEXT_SECONDS, ChunkedEncoder
from knnvc.errors import KnnvcError
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec

SCALES = ("slaney", "htk")
MFCC_RATE = 16_000  # Hz
MFCC_WINDOW, MFCC_HOP = 400, 160  # samples: 25 ms every 10 ms
_INT16 = 32_768.0  # Kaldi's samples are whole numbers of 16 bits
_DELTA_WINDOW = 5  # frames, torchaudio's and Kaldi's default


@dataclass(frozen=True)
class MelConfig(PartConfig, what="log-mel"):
    """What one kind of log-mel spectrum is; with the names of HiFi-GAN's config.json.

    The defaults are HiFi-GAN's computation at 16 kHz, every 10 ms.

    Attributes:
        sampling_rate: Hz.
        n_fft: samples of the Fourier transform.
        win_size: samples of the Hann window.
        hop_size: samples from one frame to the next.
        num_mels: bands.
        fmin: Hz, the lower edge of the first band.
        fmax: Hz, the upper edge of the last band; None is half the rate.
        center: whether the first frame's middle is sample 0; else its window's hop begins there.
        power: 1 for magnitudes, 2 for energies.
        scale: "slaney" or "htk".
        norm: whether bands have equal area (Slaney's) instead of equal height.
        under_root: added to the energy before its root is taken.
        floor: the least value of a band.
        added: what is added to every band before the logarithm.
    """

    sampling_rate: int = setting(16_000, "Hz.", "whole", least=1000, most=768_000)
    n_fft: int = setting(1024, "Samples.", "whole", least=16, most=1 << 16)
    win_size: int = setting(1024, "Samples.", "whole", least=16, most=1 << 16)
    hop_size: int = setting(160, "Samples.", "whole", least=1, most=1 << 16)
    num_mels: int = setting(80, "Bands.", "whole", least=1, most=2048)
    fmin: float = setting(0.0, "Hz.", "number", least=0, most=384_000)
    fmax: float | None = setting(None, "Hz.", "number", least=1, most=384_000)
    center: bool = setting(False, "Edges.", "flag")
    power: int = setting(1, "1 or 2.", "whole", least=1, most=2)
    scale: str = setting("slaney", "Scale.", "choice", choices=SCALES)
    norm: bool = setting(True, "Area.", "flag")
    under_root: float = setting(1e-9, "Energy.", "number", least=0, most=1)
    floor: float = setting(1e-5, "Least.", "number", least=0, most=1)
    added: float = setting(0.0, "Added.", "number", least=0, most=1)

    def __post_init__(self) -> None:
        """Check every field, and how they fit each other."""
        super().__post_init__()
        top = self.sampling_rate / 2 if self.fmax is None else self.fmax
        if self.win_size > self.n_fft or self.hop_size > self.n_fft or not self.fmin < top:
            raise KnnvcError(
                "the mel settings are damaged: win_size and hop_size are at most n_fft, and fmin "
                "is below fmax"
            )
        if not self.floor + self.added > 0:
            raise KnnvcError("the mel settings are damaged: floor or added must be above 0")

    @property
    def padding(self) -> int:
        """Samples that are mirrored at either end."""
        return self.n_fft // 2 if self.center else (self.n_fft - self.hop_size) // 2


class Mel(nn.Module):
    """Waveforms [B, S] to log-mel spectra [B, T, num_mels]."""

    bands: Tensor
    window: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop = config.sampling_rate, config.hop_size
        self.window_samples = config.n_fft - 2 * config.padding
        self.columns = layer_columns([config.num_mels])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about bands that are narrower than a bin
            bands = torchaudio.functional.melscale_fbanks(
                config.n_fft // 2 + 1,
                config.fmin,
                config.sampling_rate / 2 if config.fmax is None else config.fmax,
                config.num_mels,
                config.sampling_rate,
                "slaney" if config.norm else None,
                config.scale,
            )
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("window", torch.hann_window(config.win_size), persistent=False)

    def frames(self, samples: int) -> int:
        """How many frames `samples` samples make, at least 1."""
        return max(1, (samples - self.window_samples) // self.hop + 1)

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, T, num_mels]."""
        config, samples = self.config, waveform.shape[1]
        missing = config.padding + 1 - samples  # what is mirrored must be there
        if missing > 0:
            waveform = functional.pad(waveform, (0, missing))
        mirrored = functional.pad(waveform[:, None], (config.padding,) * 2, mode="reflect")[:, 0]
        spectra = torch.stft(
            mirrored,
            config.n_fft,
            config.hop_size,
            config.win_size,
            window=self.window,
            center=False,
            return_complex=True,
        )
        energy = spectra.real.square() + spectra.imag.square()
        if config.power == 1:
            energy = (energy + config.under_root).sqrt()
        bands: Tensor = energy.transpose(1, 2) @ self.bands
        bands = bands[:, : self.frames(samples)]
        return (bands.clamp(min=config.floor) + config.added).log()


@dataclass(frozen=True)
class MfccConfig(PartConfig, what="MFCC"):
    """MFCC as Kaldi computes them; the defaults are those that HuBERT's first targets come from.

    Attributes:
        coefficients: of each frame, the first one included.
        bands: of the mel spectrum.
        slopes: how many times the slope over five frames is appended: 2 for Δ and ΔΔ.
    """

    coefficients: int = setting(13, "Coefficients.", "whole", least=1, most=80)
    bands: int = setting(23, "Bands.", "whole", least=4, most=128)
    slopes: int = setting(2, "Slopes.", "whole", least=0, most=3)

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.coefficients > self.bands:
            raise KnnvcError("the MFCC settings are damaged: more coefficients than bands")


class Mfcc(nn.Module):
    """Waveforms [B, S] at 16 kHz to MFCC with their slopes [B, T, D], 25 ms every 10 ms.

    Hsu et al. 2021 (https://arxiv.org/abs/2106.07447, section 4.2): 13 coefficients, first and
    second slopes, 39 columns.
    """

    def __init__(self, config: MfccConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.window_samples = MFCC_RATE, MFCC_HOP, MFCC_WINDOW
        self.columns = layer_columns([config.coefficients * (config.slopes + 1)])

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, T, D]."""
        return torch.stack([self._one(row) for row in waveform])

    def _one(self, waveform: Tensor) -> Tensor:
        made: Tensor = torchaudio.compliance.kaldi.mfcc(
            waveform[None] * _INT16,
            num_ceps=self.config.coefficients,
            num_mel_bins=self.config.bands,
            sample_frequency=MFCC_RATE,
            use_energy=False,
        ).T
        taken = [made]
        for _ in range(self.config.slopes):
            taken.append(torchaudio.functional.compute_deltas(taken[-1], _DELTA_WINDOW))
        return torch.cat(taken).T


def load(spec: PartSpec, context: Context) -> ChunkedEncoder:
    """The encoder of log-mel spectra that a preset describes."""
    config = MelConfig.from_dict(spec.config)
    return _encoder(Mel(config), f"log-mel {config}", spec, context)


def load_mfcc(spec: PartSpec, context: Context) -> ChunkedEncoder:
    """The encoder of MFCC that a preset describes."""
    config = MfccConfig.from_dict(spec.config)
    return _encoder(Mfcc(config), f"mfcc {config}", spec, context)


def _encoder(network: nn.Module, identity: str, spec: PartSpec, context: Context) -> ChunkedEncoder:
    return ChunkedEncoder(
        network,
        context.device,
        spec.seconds("chunk", context.chunk, CHUNK_SECONDS),
        spec.seconds("context", None, CONTEXT_SECONDS),
        identity=identity,
    )
