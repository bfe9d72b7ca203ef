"""What the training steps can be told; without torch, so that the command line can list it."""

from __future__ import annotations

from dataclasses import dataclass

from knnvc.errors import UsageError

PRECISIONS = ("no", "bf16", "fp16")


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
    """How HiFi-GAN v1 is trained for kNN-VC; with the names and values of the published files.

    `batch_size` counts all GPUs together, `segment_size`, `n_fft`, `hop_size` and `win_size`
    are in samples; an epoch goes once through the utterances.
    """

    steps: int = 2_500_000
    batch_size: int = 16
    segment_size: int = 7040
    learning_rate: float = 2e-4
    adam_b1: float = 0.8
    adam_b2: float = 0.99
    lr_decay: float = 0.999  # of the learning rate, per epoch
    num_mels: int = 80
    n_fft: int = 1024
    hop_size: int = 320
    win_size: int = 1024
    mel_weight: float = 45.0
    matching_weight: float = 2.0
    discriminator_width: float = 1.0  # factor on their channels, to try things out on a CPU
    mixed_precision: str = "no"  # or bf16, fp16
    num_workers: int = 4
    seed: int = 1234
    report_every: int = 1000
    threads: int = 1

    def __post_init__(self) -> None:
        """Check what would fail late.

        Raises:
            UsageError: the precision is unknown.
        """
        if self.mixed_precision not in PRECISIONS:
            raise UsageError(
                f"mixed_precision is {self.mixed_precision!r}: choose {', '.join(PRECISIONS)}"
            )
