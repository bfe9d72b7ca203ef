"""What a vocoder's training takes from the features: width, hop and rate."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from knnvc.errors import KnnvcError, UsageError
from knnvc.presets.named import open_encoder
from knnvc.presets.vocoder_files import read_vocoder
from knnvc.registry import Context, find
from knnvc.training.generators import FeatureFacts, facts_of, generator_for, stages
from knnvc.training.options import HifiGanOptions
from knnvc.training.prematch import prematch_folder
from knnvc.training.published import find_examples, train_hifigan
from knnvc.vocoders.bigvgan import BigVganConfig
from knnvc.vocoders.hifigan import HifiGanConfig

OPTIONS = HifiGanOptions(
    steps=1, batch_size=2, segment_size=3840, discriminator_width=1 / 64, num_workers=0,
    report_every=1,
)  # fmt: skip


@pytest.mark.parametrize("hop", [80, 160, 256, 320, 441, 480, 882, 1280])
def test_stages_make_the_hop(hop: int) -> None:
    rates = stages(hop)
    assert math.prod(rates) == hop
    assert rates == sorted(rates, reverse=True)
    assert 1 <= len(rates) <= 4


def test_the_published_generator_follows_from_published_features() -> None:
    assert generator_for(FeatureFacts(1024, 16_000, 320), {}, HifiGanOptions()) == HifiGanConfig()


def test_other_features_make_another_generator() -> None:
    made = generator_for(FeatureFacts(39, 16_000, 160), {}, HifiGanOptions(sampling_rate=24_000))
    assert isinstance(made, HifiGanConfig)
    assert (made.hubert_dim, made.hop, made.sampling_rate) == (39, 240, 24_000)
    big = generator_for(FeatureFacts(768, 16_000, 320), {}, HifiGanOptions(generator="bigvgan"))
    assert isinstance(big, BigVganConfig)
    assert (big.generator.hubert_dim, big.generator.hop) == (768, 320)


def test_what_does_not_fit_is_said_before_training() -> None:
    facts = FeatureFacts(39, 16_000, 160)
    with pytest.raises(UsageError, match="1024, but the prematched features have 39"):
        generator_for(facts, {"hubert_dim": 1024}, OPTIONS)
    with pytest.raises(UsageError, match="is no whole number of samples"):
        generator_for(facts, {}, dataclasses.replace(OPTIONS, sampling_rate=22_050 + 1))
    with pytest.raises(UsageError, match="make 320 samples of a frame, but at 16000"):
        generator_for(facts, {"upsample_rates": [10, 8, 2, 2]}, OPTIONS)
    with pytest.raises(UsageError, match="no stages"):
        stages(2 * 37)
    with pytest.raises(UsageError, match="choose one of hifigan, bigvgan"):
        HifiGanOptions(generator="wavenet")


@pytest.mark.parametrize("generator", ["hifigan", "bigvgan"])
def test_a_step_on_mfcc_at_their_own_rate(tmp_path: Path, generator: str) -> None:
    """39 columns every 10 ms: from recordings to a vocoder that the public reader opens."""
    pytest.importorskip("accelerate")
    corpus, prematched = tmp_path / "corpus", tmp_path / "matched"
    for number in range(3):
        path = corpus / "anna" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(scale=0.05, size=8000)
        sf.write(path, noise, 16_000, subtype="FLOAT")
    prematch_folder(corpus, open_encoder("mfcc", device="cpu"), prematched)
    facts = facts_of(find_examples(corpus, prematched)[0][0][1])
    assert facts == FeatureFacts(39, 16_000, 160)
    sizes = {"upsample_initial_channel": 16, "resblock_kernel_sizes": [3]}
    sizes |= {"resblock_dilation_sizes": [[1, 3]]}
    options = dataclasses.replace(OPTIONS, generator=generator)
    config = generator_for(facts, sizes, options)
    made = train_hifigan(corpus, prematched, tmp_path / "run", options, config)
    read = read_vocoder(made)
    assert (read.spec.type, read.mel) == (generator, None)
    vocoder = find("vocoder", generator).make(
        read.spec, Context("x", torch.device("cpu")), read.state
    )
    assert (vocoder.dim, vocoder.hop, vocoder.sample_rate) == (39, 160, 16_000)
    wide = dataclasses.replace(config.generator if generator == "bigvgan" else config, hubert_dim=3)
    if generator == "hifigan":
        with pytest.raises(KnnvcError, match="reads 3 columns"):
            train_hifigan(corpus, prematched, tmp_path / "other", options, wide)
