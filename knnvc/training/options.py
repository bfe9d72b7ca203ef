"""What the training steps can be told; without torch, so that the command line can list it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knnvc.options import Checked, setting

PRECISIONS = ("no", "bf16", "fp16")
GENERATORS = ("hifigan", "bigvgan")


def count(default: int, text: str, least: int = 1) -> Any:
    """A field of whole numbers, with its default, what `--help` says of it, and its least value."""
    return setting(default, text, "whole", least=least)


def amount(default: float, text: str) -> Any:
    """A field of numbers, 0 or more."""
    return setting(default, text, "number", least=0)


def share(default: float, text: str, most: float = 1.0) -> Any:
    """A field of numbers from 0 to `most`."""
    return setting(default, text, "number", least=0, most=most)


@dataclass(frozen=True)
class StepOptions(Checked):
    """What a training takes that follows no published file."""

    average: float = share(0.998, "Decay of the mean of weights that is written.")
    seed: int = count(0, "Of weights and batches.", least=0)
    report_every: int = count(100, "Steps from one report to the next.")
    threads: int = count(1, "Of the CPU.")


@dataclass(frozen=True)
class GlowTtsOptions(StepOptions):
    """How to train Glow-TTS; `width`, `layers` and `blocks` are the paper's."""

    steps: int = count(100_000, "How long.")
    batch: int = count(16, "Utterances in a step.")
    rate: float = amount(1e-3, "Learning rate at its highest.")
    width: int = count(192, "Channels of encoder and decoder.")
    layers: int = count(6, "Of the transformer.")
    blocks: int = count(12, "Of the flow.")
    noise: float = amount(0.05, "Standard deviation of what is added to the features.")
    clip: float = amount(5.0, "Largest norm of the gradients.")


@dataclass(frozen=True)
class HifiGanOptions(Checked):
    """How a vocoder is trained for kNN-VC; with the names and values of the published files.

    `batch_size` counts all GPUs together, `segment_size`, `n_fft`, `hop_size` and `win_size`
    are in samples; an epoch goes once through the utterances.
    """

    generator: str = setting("hifigan", "The network.", "choice", choices=GENERATORS)
    sampling_rate: int = count(0, "Of the waveforms, in Hz; 0 is the encoder's.", least=0)
    steps: int = count(2_500_000, "How long.")
    batch_size: int = count(16, "Segments in a step, on all GPUs together.")
    segment_size: int = count(7040, "Samples of a segment, rounded to whole frames.")
    learning_rate: float = amount(2e-4, "Of both networks, at first.")
    adam_b1: float = share(0.8, "Of AdamW: decay of the gradient's mean.", most=0.9999)
    adam_b2: float = share(0.99, "Of AdamW: decay of its square's mean.", most=0.9999)
    lr_decay: float = share(0.999, "Of the learning rate, per epoch.")
    num_mels: int = count(80, "Bands of the spectra that are compared.")
    n_fft: int = count(1024, "Their Fourier transform, in samples.")
    hop_size: int = count(320, "Their hop, in samples.")
    win_size: int = count(1024, "Their window, in samples.")
    mel_weight: float = amount(45.0, "How much their difference counts.")
    matching_weight: float = amount(2.0, "How much the discriminators' inner activations count.")
    discriminator_width: float = amount(1.0, "Factor on their channels, to try things on a CPU.")
    mixed_precision: str = setting("no", "Of the networks.", "choice", choices=PRECISIONS)
    num_workers: int = count(4, "Processes that read recordings.", least=0)
    seed: int = count(1234, "Of weights and segments.", least=0)
    report_every: int = count(1000, "Steps from one report to the next.")
    threads: int = count(1, "Of the CPU.")
