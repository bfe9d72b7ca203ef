"""What the training steps can be told; without torch, so that the command line can list it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from knnvc.errors import UsageError

PRECISIONS = ("no", "bf16", "fp16")
GENERATORS = ("hifigan", "bigvgan")


def told(default: Any, text: str) -> Any:
    """A field with its default and what `--help` says of it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class GlowTtsOptions:
    """How to train Glow-TTS; `width`, `layers` and `blocks` are the paper's."""

    steps: int = 100_000
    batch: int = 16
    rate: float = 1e-3
    width: int = 192  # channels of encoder and decoder
    layers: int = 6  # of the transformer
    blocks: int = 12  # of the flow
    noise: float = 0.05  # standard deviation of what is added to the features
    clip: float = 5.0  # largest norm of the gradients
    average: float = 0.998
    seed: int = 0
    report_every: int = 100
    threads: int = 1


@dataclass(frozen=True)
class HifiGanOptions:
    """How a vocoder is trained for kNN-VC; names and values are those of the published files.

    `batch_size` is that of all GPUs together, `segment_size`, `n_fft`, `hop_size` and `win_size`
    are in samples; an epoch goes once through the utterances.
    """

    generator: str = told("hifigan", "The network: hifigan, or bigvgan.")
    sampling_rate: int = told(0, "Of the waveforms, in Hz; 0 is the encoder's.")
    steps: int = told(2_500_000, "How long.")
    batch_size: int = told(16, "Segments in a step, on all GPUs together.")
    segment_size: int = told(7040, "Samples of a segment, rounded to whole frames.")
    learning_rate: float = told(2e-4, "Of both networks, at first.")
    adam_b1: float = told(0.8, "Of AdamW: decay of the gradient's mean.")
    adam_b2: float = told(0.99, "Of AdamW: decay of its square's mean.")
    lr_decay: float = told(0.999, "Of the learning rate, per epoch.")
    num_mels: int = told(80, "Bands of the spectra that are compared.")
    n_fft: int = told(1024, "Their Fourier transform, in samples.")
    hop_size: int = told(320, "Their hop, in samples.")
    win_size: int = told(1024, "Their window, in samples.")
    mel_weight: float = told(45.0, "How much their difference counts.")
    matching_weight: float = told(2.0, "How much the discriminators' inner activations count.")
    discriminator_width: float = told(1.0, "Factor on their channels, to try things on a CPU.")
    mixed_precision: str = told("no", "no, bf16 or fp16.")
    num_workers: int = told(4, "Processes that read recordings.")
    seed: int = told(1234, "Of weights and segments.")
    report_every: int = told(1000, "Steps from one report to the next.")
    threads: int = told(1, "Of the CPU.")

    def __post_init__(self) -> None:
        """Check what would fail late.

        Raises:
            UsageError: the precision or the generator is unknown.
        """
        if self.mixed_precision not in PRECISIONS:
            raise UsageError(
                f"mixed_precision is {self.mixed_precision!r}: choose {', '.join(PRECISIONS)}"
            )
        if self.generator not in GENERATORS:
            raise UsageError(f"generator is {self.generator!r}: choose {', '.join(GENERATORS)}")
