"""What the steps of the recipe can be told; without torch, so that `--help` is quick.

A frame is 20 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knnvc.options import Checked, setting
from knnvc.training.options import StepOptions, amount, count, share


def switch(default: bool, text: str) -> Any:
    """A field that is true or false, with its default and what `--help` says of it."""
    return setting(default, text, "flag")


@dataclass(frozen=True)
class CorpusOptions(Checked):
    """How much to synthesise."""

    hours: float = amount(8.0, "How much speech.")
    workers: int = count(2, "Processes, of a single thread each.")
    seed: int = count(7, "Of the choice of sentences and voices.", least=0)
    voice: str = setting("", "One of Kokoro's, to speak all of it; empty: 128 speakers.", "text")
    bf16: bool = switch(
        True, "Compute in bfloat16 by OpenVINO and AMX: 1.6 times as fast, but some voices suffer."
    )


@dataclass(frozen=True)
class TwinsOptions(Checked):
    """How to speak a corpus again."""

    workers: int = count(2, "Processes, of a single thread each.")
    seed: int = count(7, "Of the choice of voices.", least=0)
    new_voices: int = count(
        0, "How many voices that never were are added, to speak five utterances each.", least=0
    )
    bf16: bool = switch(True, "Compute in bfloat16, as of the corpus.")


@dataclass(frozen=True)
class RecordingsOptions(Checked):
    """How to train the teacher that names the phones of recordings."""

    utterances: int = count(1400, "Of the corpus that it learns from, some 1.6 h.")
    steps: int = count(3500, "How long.")
    batch: int = count(32, "Pieces in a step.")
    rate: float = amount(1e-3, "Learning rate at its highest.")
    seed: int = count(0, "Of weights and batches.", least=0)
    report_every: int = count(500, "Steps from one report to the next.")
    threads: int = count(2, "Of the CPU.")


@dataclass(frozen=True)
class PeopleOptions(Checked):
    """How to align real readers."""

    threads: int = count(2, "Of the CPU.")


@dataclass(frozen=True)
class TrainingOptions(StepOptions):
    """What the trainings of networks have in common."""

    bf16: bool = switch(
        False, "Compute in bfloat16; pays only with AMX or AVX512-BF16, or on a GPU."
    )
    minutes: float = amount(0.0, "Of training, instead of steps; 0 leaves it to these.")


@dataclass(frozen=True)
class AcceleratedOptions(TrainingOptions):
    """And those that also run on an accelerator."""

    device: str = setting("cpu", "Of the networks.", "text")
    workers: int = count(0, "Processes that draw batches; 0 draws them where it trains.", least=0)


@dataclass(frozen=True)
class EncoderOptions(AcceleratedOptions):
    """How to train the encoder."""

    steps: int = count(3000, "How long.")
    batch: int = count(5, "Of the longest pieces in a step; of shorter ones there are more.")
    frames: int = count(600, "Of the longest pieces; others have a half and a quarter.")
    rate: float = amount(1e-3, "Learning rate of the heads at its highest.")
    trunk_rate: float = amount(0.03, "Share of it, for what Whisper has learnt before.")
    frozen_layers: int = count(3, "Of Whisper's, which stay as they are.", least=0)
    warmup: int = count(50, "Steps to the highest learning rate.")
    clean_share: float = share(0.4, "Of the steps: without noise, rooms and other damage.")
    masked_share: float = share(0.0, "Of the batches, some frames of which are hidden.")
    recorded_share: float = share(0.6, "Of the pieces, where the corpus has recordings.")


@dataclass(frozen=True)
class VocoderOptions(AcceleratedOptions):
    """How to train the vocoder."""

    steps: int = count(20_000, "How long.")
    adversarial_from: int = count(6_000, "Step at which the discriminators come in.", least=0)
    critic_warmup: int = count(0, "Steps at first in which only they learn.", least=0)
    batch: int = count(8, "Segments in a step.")
    frames: int = count(36, "Of a segment.")
    rate: float = amount(5e-4, "Learning rate at its highest.")
    judging_rate: float = amount(2e-3, "The same of the discriminators.")
    spectral_weight: float = amount(8.0, "Of the spectra's difference.")
    heard_weight: float = amount(4.0, "Of what an encoder hears otherwise, if one is given.")
    matching_weight: float = amount(1.0, "Of the discriminators' inner activations.")
    prematched_share: float = share(0.6, "Of the segments: their frames are prematched ones.")
    heard_pitch_share: float = share(
        0.6, "Of the other segments: their pitch is what such an encoder hears."
    )
    channels: int = count(16, "Of the discriminators.")
    judged_frames: int = count(16, "Of a segment, which the discriminators look at.")


@dataclass(frozen=True)
class RefinerOptions(AcceleratedOptions):
    """How to train the refiner."""

    steps: int = count(8000, "How long.")
    adversarial_from: int = count(3000, "Step at which the discriminator comes in.", least=0)
    critic_warmup: int = count(
        0, "Steps at first in which only it and the content columns learn.", least=0
    )
    batch: int = count(16, "Pieces in a step.")
    frames: int = count(120, "Of a piece.")
    rate: float = amount(1e-3, "Learning rate at its highest.")
    spectral_weight: float = amount(20.0, "Of the spectra's difference.")
    matching_weight: float = amount(4.0, "Of the discriminator's inner activations.")
    degraded_share: float = share(
        0.5, "Of the batches: the source is noisy, reverberant or coloured."
    )
    recorded_share: float = share(0.5, "Of the pieces, where the corpus has recordings.")
    converted_share: float = share(
        0.5, "Of those: the source was converted by the refiner begun with."
    )
    crossed_share: float = share(
        0.0, "Of the pieces: another spoke the source, and no truth is known.", most=0.9
    )
    likeness_weight: float = amount(15.0, "Of what CAM++ says of these.")
    said_weight: float = amount(12.0, "Of the phones that the encoder mishears in these.")
    short_share: float = share(0.0, "Of the pieces: less than three seconds of the target.")
    twin_share: float = share(0.7, "Of the other pieces, where the corpus has twins.")
    hidden_share: float = share(0.4, "Of the pieces: the source's envelope is hidden.")
    smooth_share: float = share(0.6, "Of the pieces: frames are selected to join well.")
    misheard_share: float = share(0.5, "Of the pieces: some phones are taken for others.")
    known_share: float = share(0.2, "Of the pieces: phones are known, as in speech from text.")
    heard_weight: float = amount(4.0, "Of what the encoder hears otherwise; 0 does without.")
    channels: int = count(32, "Of the discriminator.")


@dataclass(frozen=True)
class TextFrontendOptions(TrainingOptions):
    """How to train the text front end."""

    steps: int = count(20_000, "How long.")
    adversarial_from: int = count(4_000, "Step at which the discriminator comes in.", least=0)
    batch: int = count(16, "Utterances in a step.")
    frames: int = count(128, "Of each, whose text is read as a whole.")
    rate: float = amount(1e-3, "Learning rate at its highest.")
    spectral_weight: float = amount(20.0, "Of the spectra's difference.")
    prosody_weight: float = amount(2.0, "Of durations, pitch and voicing.")
    matching_weight: float = amount(4.0, "Of the discriminator's inner activations.")
    channels: int = count(32, "Of the discriminator.")
