"""What the steps of the recipe can be told; without torch, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusOptions:
    """How much to synthesise."""

    hours: float = 8.0
    workers: int = 2  # one single-threaded process each
    seed: int = 7
    voice: str = ""  # one of Kokoro's, to speak all of it; empty: 128 speakers
    bf16: bool = True  # where OpenVINO and AMX are there: 1.6 times as fast, but some voices suffer


@dataclass(frozen=True)
class TwinsOptions:
    """How to speak a corpus again."""

    workers: int = 2  # one single-threaded process each
    seed: int = 7  # of the choice of voices
    new_voices: int = 0  # that never were, each to speak five utterances
    bf16: bool = True  # as of the corpus


@dataclass(frozen=True)
class RecordingsOptions:
    """How to train the teacher that names the phones of recordings. A frame is 20 ms."""

    utterances: int = 1400  # of the corpus that it learns from, some 1.6 h
    steps: int = 3500
    batch: int = 32
    rate: float = 1e-3
    seed: int = 0
    report_every: int = 500
    threads: int = 2


@dataclass(frozen=True)
class PeopleOptions:
    """How to align real readers."""

    threads: int = 2


@dataclass(frozen=True)
class EncoderOptions:
    """How to train the encoder. A frame is 20 ms."""

    steps: int = 3000
    batch: int = 16
    frames: int = 200
    rate: float = 1e-3  # of the heads
    trunk_rate: float = 0.3  # of that, for what Whisper has learnt before
    warmup: int = 150  # steps
    masked_share: float = 0.3  # of the batches
    recorded_share: float = 0.6  # of the crops, where the corpus has recordings
    average: float = 0.998  # decay of the weight average that is published
    seed: int = 0
    report_every: int = 100
    bf16: bool = False  # pays only where the CPU has AMX or AVX512-BF16
    threads: int = 1
    minutes: float = 0.0  # of training, instead of steps; 0 leaves it to these
    device: str = "cpu"  # of the networks
    workers: int = 0  # processes that draw batches; 0 draws them where it trains


@dataclass(frozen=True)
class VocoderOptions:
    """How to train the vocoder. A frame is 20 ms."""

    steps: int = 20_000
    adversarial_from: int = 6_000  # step at which the discriminators come in
    batch: int = 8
    frames: int = 36
    rate: float = 5e-4
    spectral_weight: float = 15.0
    matching_weight: float = 2.0
    prematched_share: float = 0.6
    channels: int = 16  # of the discriminators
    average: float = 0.998
    seed: int = 0
    report_every: int = 100
    bf16: bool = False  # pays only where the CPU has AMX or AVX512-BF16
    threads: int = 1
    minutes: float = 0.0  # of training, instead of steps; 0 leaves it to these
    device: str = "cpu"  # of the networks
    workers: int = 0  # processes that draw batches; 0 draws them where it trains


@dataclass(frozen=True)
class RefinerOptions:
    """How to train the refiner. A frame is 20 ms."""

    steps: int = 8000
    adversarial_from: int = 3000  # step at which the discriminator comes in
    batch: int = 16
    frames: int = 120
    rate: float = 1e-3
    spectral_weight: float = 20.0
    matching_weight: float = 4.0
    degraded_share: float = 0.5  # of the batches: the source is noisy, reverberant or coloured
    recorded_share: float = 0.5  # of the pieces, where the corpus has recordings
    converted_share: float = 0.5  # of those: the source was converted by the refiner begun with
    crossed_share: float = 0.0  # of the pieces: another spoke the source, and no truth is known
    likeness_weight: float = 15.0  # of what CAM++ says of these
    said_weight: float = 12.0  # of the phones that the encoder mishears in these
    twin_share: float = 0.7  # of the other pieces, where the corpus has twins
    hidden_share: float = 0.4  # of the pieces: the source's envelope is hidden
    smooth_share: float = 0.6  # of the pieces: frames are selected to join well
    misheard_share: float = 0.5  # of the pieces: some phones are taken for others
    known_share: float = 0.2  # of the pieces: the phones are known, as in speech from text
    heard_weight: float = 4.0  # of what the encoder hears otherwise; 0 does without
    channels: int = 32  # of the discriminator
    average: float = 0.998
    seed: int = 0
    report_every: int = 100
    bf16: bool = False
    threads: int = 1
    minutes: float = 0.0  # of training, instead of steps; 0 leaves it to these
    device: str = "cpu"  # of the networks
    workers: int = 0  # processes that draw batches; 0 draws them where it trains


@dataclass(frozen=True)
class TextFrontendOptions:
    """How to train the text front end. A frame is 20 ms."""

    steps: int = 20_000
    adversarial_from: int = 4_000  # step at which the discriminator comes in
    batch: int = 16
    frames: int = 128  # of each utterance, whose text is read as a whole
    rate: float = 1e-3
    spectral_weight: float = 20.0
    prosody_weight: float = 2.0  # of durations, pitch and voicing
    matching_weight: float = 4.0
    channels: int = 32  # of the discriminator
    average: float = 0.998
    seed: int = 0
    report_every: int = 100
    bf16: bool = False  # pays only where the CPU has AMX or AVX512-BF16
    threads: int = 1
    minutes: float = 0.0  # of training, instead of steps; 0 leaves it to these
