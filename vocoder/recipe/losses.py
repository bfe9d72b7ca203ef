"""Distances of spectra, and of what an encoder hears in them."""

from __future__ import annotations

import copy

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from knnvc.mini.encoder import PhoneEncoder
from knnvc.text.phones import IGNORED

RESOLUTIONS = ((256, 40), (512, 60), (1024, 80), (2048, 100))  # (FFT length in samples, mel bands)


class SpectralLoss(nn.Module):
    """Distance of log-mel and log-magnitude spectra at several resolutions.

    Several resolutions at once keep both time and frequency detail (Yamamoto et al. 2020, Parallel
    WaveGAN, https://arxiv.org/abs/1910.11480).
    """

    def __init__(
        self, sample_rate: int, resolutions: tuple[tuple[int, int], ...] = RESOLUTIONS
    ) -> None:
        super().__init__()
        self.sizes = [size for size, _ in resolutions]
        for size, mels in resolutions:
            bank = torchaudio.functional.melscale_fbanks(
                size // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, mel_scale="slaney"
            )
            self.register_buffer(f"bank{size}", bank, persistent=False)
            self.register_buffer(f"window{size}", torch.hann_window(size), persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean over resolutions of L1 on log-mel, plus a third of L1 on log magnitudes."""
        total = made.new_zeros(())
        for size in self.sizes:
            window, bank = getattr(self, f"window{size}"), getattr(self, f"bank{size}")
            pair = [
                torch.stft(wave, size, size // 4, window=window, return_complex=True).abs()
                for wave in (made, real)
            ]
            mel = [torch.log(spectrum.transpose(1, 2) @ bank + 0.01) for spectrum in pair]
            log = [torch.log(spectrum + 0.01) for spectrum in pair]
            total = total + (mel[0] - mel[1]).abs().mean() + (log[0] - log[1]).abs().mean() / 3
        return total / len(self.sizes)


def frozen(encoder: PhoneEncoder, device: torch.device) -> PhoneEncoder:
    """A copy that hears and does not learn."""
    return copy.deepcopy(encoder).eval().requires_grad_(False).to(device)


def _hear(encoder: PhoneEncoder, frames: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
    """The last layer [B, T, hidden] and the phone logits [B, T, states] of log-mel frames."""
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=bf16):
        last = encoder.hidden(frames).last
        return last.float(), encoder.phone_logits(last).float()


def misheard(encoder: PhoneEncoder, made: Tensor, states: Tensor, bf16: bool) -> Tensor:
    """The cross entropy of the phone `states` [B, T] that `encoder` hears in `made` frames.

    It is 0 where none is known: recordings of unknown words have none.
    """
    _, logits = _hear(encoder, made, bf16)
    total = functional.cross_entropy(
        logits.flatten(0, 1), states.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (states != IGNORED).sum().clamp(min=1)


def heard_apart(encoder: PhoneEncoder, made: Tensor, mel: Tensor, bf16: bool) -> Tensor:
    """How differently `encoder` hears two batches of log-mel frames [B, T, width].

    The difference of its last layer, relative to the true one's size, and the divergence of the
    phone states: a perceptual loss (Johnson et al. 2016, https://arxiv.org/abs/1603.08155), as mean
    errors of spectra say little about which of them a listener needs.
    """
    with torch.no_grad():
        true, known = _hear(encoder, mel, bf16)
    last, said = _hear(encoder, made, bf16)
    apart = (last - true).abs().mean() / true.abs().mean()
    diverging = functional.kl_div(
        said.log_softmax(-1), known.log_softmax(-1), log_target=True, reduction="none"
    )
    return apart + diverging.sum(-1).mean()
