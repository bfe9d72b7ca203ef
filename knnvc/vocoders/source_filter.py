"""A small pitch-aware vocoder: harmonic and noise sources through a learned time-varying filter.

The preset `mini` has to learn to speak in hours on two CPU cores. A plain HiFi-GAN spends most of
that time on inventing pitch, so here pitch is given: a band-limited pulse train at the wanted f0
and white noise are shaped, frame by frame in the STFT domain, by magnitudes and phases that a
ConvNeXt network predicts from the features. Training is HiFi-GAN's (least-squares adversarial,
feature matching and spectral losses).

Sources: the source-filter idea of neural source-filter models (Wang et al. 2019,
https://arxiv.org/abs/1904.12088) and of HiFTNet (Li et al. 2023, https://arxiv.org/abs/2309.09493);
the network and the inverse STFT head of Vocos (Siuzdak 2023, https://arxiv.org/abs/2306.00814).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio.pitch import VOICED
from knnvc.kernels import accelerate
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, read_tensors
from knnvc.vocoders.chunked import ChunkedVocoder

NYQUIST_MARGIN = 0.96  # harmonics stop here, as a share of half the sample rate
NOISE_SECONDS = 60  # the noise repeats after this long
STATE_COLUMNS = 4  # what prepare() appends: phase, f0 at both frame edges, frame number
SCALE = 3.0  # of log magnitudes and phases against what the network writes


@dataclass(frozen=True)
class SourceFilterConfig(PartConfig, what="source-filter vocoder"):
    """Dimensions of a `SourceFilterVocoder`.

    Features of one frame are `mels · substeps` log-mel values (`substeps` spectra a frame, oldest
    first), then log2 of f0 in Hz, then the probability of voicing.

    Attributes:
        mels: bands of a spectrum.
        substeps: spectra in a frame.
        channels: columns of the network.
        layers: of the network.
        kernel: taps of its convolutions.
        expansion: of its feed-forward layers.
        filter_hop: samples from one filter to the next.
        filter_size: samples: window and FFT length.
        sample_rate: Hz.
        hop: samples of a frame.
    """

    mels: int = setting(80, "Bands.", "whole", least=1, most=512)
    substeps: int = setting(2, "Spectra in a frame.", "whole", least=1, most=16)
    channels: int = setting(320, "Columns.", "whole", least=1, most=4096)
    layers: int = setting(8, "Layers.", "whole", least=1, most=64)
    kernel: int = setting(7, "Taps.", "whole", least=1, most=63)
    expansion: int = setting(3, "Expansion.", "whole", least=1, most=16)
    filter_hop: int = setting(80, "Samples.", "whole", least=8, most=4096)
    filter_size: int = setting(320, "Samples.", "whole", least=16, most=8192)
    sample_rate: int = setting(16_000, "Hz.", "whole", least=8000, most=96_000)
    hop: int = setting(320, "Samples of a frame.", "whole", least=16, most=8192)

    @property
    def dim(self) -> int:
        """Columns of one frame of features."""
        return self.mels * self.substeps + 2


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, then a pointwise bottleneck, with a residual connection."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, channels * expansion)
        self.narrow = nn.Linear(channels * expansion, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.2))

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> [B, T, C]."""
        mixed = self.depthwise(hidden.float().transpose(1, 2)).transpose(1, 2)
        mixed = self.narrow(functional.gelu(self.widen(self.norm(mixed))))
        scaled: Tensor = hidden + self.scale * mixed
        return scaled


class SourceFilterVocoder(nn.Module):
    """Features with pitch -> waveform; B batch, T frames, D = `config.dim`."""

    noise: Tensor
    window: Tensor

    def __init__(self, config: SourceFilterConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.hop, self.sample_rate = config.dim, config.hop, config.sample_rate
        half = config.kernel // 2
        network_steps = half * (config.layers + 1)
        filter_steps = -(-config.filter_size // (config.hop // config.substeps))
        # Context that a frame's sound depends on: the convolutions', then the overlapping filters'.
        self.context_frames = -(-(network_steps + filter_steps) // config.substeps) + 2
        self.bins = config.filter_size // 2 + 1
        self.filters_per_step = config.hop // config.substeps // config.filter_hop
        self.read = nn.Conv1d(
            config.mels + 2, config.channels, config.kernel, padding=config.kernel // 2
        )
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.kernel, config.expansion)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.write = nn.Linear(config.channels, self.filters_per_step * 4 * self.bins)
        if not self.write.weight.is_meta:  # for which normal_ imports torch's compiler
            nn.init.normal_(self.write.weight, std=0.01)
            nn.init.zeros_(self.write.bias)
        generator = torch.Generator().manual_seed(0)
        with torch.device("cpu"):  # real even where the rest is built without memory
            window = torch.hann_window(config.filter_size)
            noise = torch.randn(NOISE_SECONDS * config.sample_rate, generator=generator)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    @torch.no_grad()
    def prepare(self, features: Tensor, start_phase: float = 0.0, start_frame: int = 0) -> Tensor:
        """Append what depends on all earlier frames, so that `forward` is local and can be chunked.

        `features` [T, D] -> [T, D + 4]: the phase of the pulse train at the frame's start in
        cycles, f0 in Hz at its start and end, and the frame's number (which noise it gets).
        """
        # Running sums in double precision; not every device has that, so on the CPU.
        pitch, voicing = features[:, -2].cpu().double(), features[:, -1].cpu()
        filled = _fill_unvoiced(pitch, voicing > VOICED)
        edges = torch.cat([filled[:1], (filled[1:] + filled[:-1]) / 2, filled[-1:]])
        f0 = torch.exp2(edges).clamp(20.0, 2000.0)
        cycles = (f0[1:] + f0[:-1]) / 2 * (self.hop / self.sample_rate)
        phase = (start_phase + torch.cumsum(cycles, 0) - cycles).remainder(1.0)
        number = start_frame + torch.arange(len(features))
        state = torch.stack([phase, f0[:-1], f0[1:], number.double()], dim=1)
        return torch.cat([features, state.to(features)], dim=1)

    def export_graph(self) -> tuple[str, list[int], list[str]]:
        """For ONNX: the method, the shape of an example, the names of its outputs."""
        return "shape", [1, 40, self.dim], ["shapes"]

    def forward(self, prepared: Tensor) -> Tensor:
        """`prepared` [B, T, D + 4] from `prepare` -> waveform [B, 1, T · hop]."""
        return self.sound(prepared, self.shape(prepared[..., : self.dim]))

    def sound(self, prepared: Tensor, shapes: Tensor) -> Tensor:
        """Waveform [B, 1, T · hop] of the sources through filters of these `shapes`."""
        harmonic, noise = self.sources(prepared[..., self.dim - 1], prepared[..., self.dim :])
        gains = _filters(shapes)
        shaped = gains[0] * self._stft(harmonic) + gains[1] * self._stft(noise)
        samples = prepared.shape[1] * self.hop
        wave = torch.istft(
            shaped,
            self.config.filter_size,
            self.config.filter_hop,
            window=self.window,
            center=True,
            length=samples,
        )
        return wave[:, None]

    def shape(self, features: Tensor) -> Tensor:
        """The network alone: features [B, T, D] to two log magnitudes, two phases [B, ·, 4, bins].

        Scaled to about unit variance; there are T · substeps · filters_per_step of them.
        """
        batch, frames, _ = features.shape
        config = self.config
        steps = frames * config.substeps
        mels = features[..., : config.mels * config.substeps].reshape(batch, steps, config.mels)
        pitch = features[..., -2:].repeat_interleave(config.substeps, dim=1)
        # Unvoiced frames carry no meaningful pitch: hide it. 7.2 is log2 of about 150 Hz.
        pitch = torch.stack([(pitch[..., 0] - 7.2) * pitch[..., 1], pitch[..., 1]], dim=-1)
        hidden = self.read(torch.cat([mels, pitch], dim=-1).transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden)
        out: Tensor = self.write(self.norm(hidden)).float()
        return out.reshape(batch, steps * self.filters_per_step, 4, self.bins)

    @torch.no_grad()
    def sources(self, voicing: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Pulse train and noise [B, T · hop], unit power; `voicing` [B, T], `state` [B, T, 4]."""
        batch, frames, _ = state.shape
        phase, low, high, number = state.float().unbind(-1)
        at = torch.arange(self.hop, device=state.device, dtype=torch.float32)
        # f0 is linear inside a frame, so its phase is a closed formula instead of a running sum.
        slope = (high - low)[..., None] / self.hop
        f0 = low[..., None] + slope * at
        turns = phase[..., None] + (low[..., None] * at + slope * at * at / 2) / self.sample_rate
        turns = turns.remainder(1.0)
        count = torch.floor(NYQUIST_MARGIN * self.sample_rate / 2 / f0)
        pulse = _pulse_train(turns, count)
        inside = functional.pad(voicing[:, None], (1, 1), mode="replicate")[:, 0]
        left, right = (inside[:, :-2] + inside[:, 1:-1]) / 2, (inside[:, 1:-1] + inside[:, 2:]) / 2
        ramp = at / self.hop
        voiced = left[..., None] * (1 - ramp) + right[..., None] * ramp
        start = (number.long() * self.hop).remainder(len(self.noise))
        index = (start[..., None] + torch.arange(self.hop, device=state.device)) % len(self.noise)
        noise = self.noise[index]
        flat = (batch, frames * self.hop)
        return (pulse * voiced).reshape(flat), noise.reshape(flat)

    def _stft(self, wave: Tensor) -> Tensor:
        return torch.stft(
            wave,
            self.config.filter_size,
            self.config.filter_hop,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )


def load(spec: PartSpec, context: Context) -> ChunkedVocoder:
    """The vocoder that a preset describes."""
    assert spec.weights is not None
    config = SourceFilterConfig.from_dict(spec.config)
    with torch.device("meta"):  # real random weights take longer than reading these
        network = SourceFilterVocoder(config)
    network.load_state_dict(as_single(read_tensors(spec.weights)[0]), assign=True)
    identity = fingerprint(network)  # of the weights as they are stored
    if context.fast and (context.device.type == "cpu" or context.precision != "float32"):
        accelerate(network, context.precision, keep=("read", "write"))
    return ChunkedVocoder(network, device=context.device, identity=identity)


def _filters(shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Complex gains [B, bins, steps] of the harmonic and of the noise source."""
    # istft with center=True wants one spectrum more than hops; repeat the last.
    out = torch.cat([shapes, shapes[:, -1:]], dim=1).permute(2, 0, 3, 1) * SCALE
    magnitude = torch.exp(out[:2].clamp(-12.0, 6.0))
    return torch.polar(magnitude[0], out[2]), torch.polar(magnitude[1], out[3])


def _pulse_train(turns: Tensor, count: Tensor) -> Tensor:
    """Sum of cos(2πn·turns) for n = 1…count, scaled to unit power, by the Dirichlet kernel."""
    half = torch.sin(torch.pi * turns)
    safe = torch.where(half.abs() < 1e-4, torch.full_like(half, 1e-4), half)
    total = (torch.sin((2 * count + 1) * torch.pi * turns) / safe - 1) / 2
    total = torch.where(half.abs() < 1e-4, count, total)
    return total * torch.sqrt(2 / count.clamp(min=1.0))


def _fill_unvoiced(pitch: Tensor, voiced: Tensor) -> Tensor:
    """Interpolate `pitch` [T] linearly across frames that are not `voiced` [T]."""
    known = torch.nonzero(voiced)[:, 0]
    if len(known) == 0:
        return torch.full_like(pitch, 7.2)
    at = torch.arange(len(pitch), device=pitch.device)
    after = torch.searchsorted(known, at).clamp(max=len(known) - 1)
    before = (torch.searchsorted(known, at, right=True) - 1).clamp(min=0)
    left, right = known[before], known[after]
    share = ((at - left).double() / (right - left).clamp(min=1)).clamp(0.0, 1.0)
    return pitch[left] * (1 - share) + pitch[right] * share
