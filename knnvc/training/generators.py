"""Which network training makes: what it reads, and how often, follows from the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.tensors import read_tensors
from knnvc.training.options import HifiGanOptions
from knnvc.vocoders.bigvgan import BigVgan, BigVganConfig
from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

STAGES = 4  # of upsampling, as the published generators for such hops have
LARGEST_RATE = 32  # of one stage
_PUBLISHED = {  # samples of a frame: upsampling rates
    256: (8, 8, 2, 2),  # HiFi-GAN v1
    320: (10, 8, 2, 2),  # kNN-VC
    441: (7, 7, 3, 3),  # ssl-vocoders
    512: (8, 8, 4, 2),
}
Config = HifiGanConfig | BigVganConfig


@dataclass(frozen=True)
class FeatureFacts:
    """What prematched features are: columns, and the encoder's rate in Hz and hop in samples."""

    width: int
    sample_rate: int
    hop: int


def facts_of(matched: Path) -> FeatureFacts:
    """What a file that `prematch_folder` wrote holds; older ones are of 16 kHz and 20 ms.

    Raises:
        KnnvcError: it is damaged.
    """
    tensors, about = read_tensors(matched)
    features = tensors.get("matched")
    if features is None or features.ndim != 2:
        raise KnnvcError(f"{matched} holds no matched features: make them with `train prematch`")
    try:
        rate, hop = int(about.get("sample_rate", 16_000)), int(about.get("hop", 320))
    except ValueError as error:
        raise KnnvcError(f"{matched} is damaged: make it again with `train prematch`") from error
    return FeatureFacts(features.shape[1], rate, hop)


def generator_for(
    facts: FeatureFacts, values: Mapping[str, Any], options: HifiGanOptions
) -> Config:
    """The generator that reads features of this kind.

    Args:
        facts: of the features.
        values: sizes that the user chose, under the names of a published config.json; the rest is
            HiFi-GAN v1's, and upsampling is split into stages so that it fits.
        options: `generator` and `sampling_rate`.

    Raises:
        UsageError: what was chosen does not fit the features.
        KnnvcError: the values describe no network.
    """
    values = dict(values)
    bigvgan = options.generator == "bigvgan"
    columns = "num_mels" if bigvgan else "hubert_dim"
    told = values.setdefault(columns, facts.width)
    if told != facts.width:
        raise UsageError(
            f"{columns} of the generator is {told}, but the prematched features have "
            f"{facts.width} columns: leave it out, or prematch with another preset"
        )
    rate = options.sampling_rate or values.get("sampling_rate") or facts.sample_rate
    if not isinstance(rate, int) or rate * facts.hop % facts.sample_rate:
        raise UsageError(
            f"at {rate} Hz a frame of {1000 * facts.hop / facts.sample_rate:g} ms is no whole "
            "number of samples: choose another --sampling-rate"
        )
    hop = rate * facts.hop // facts.sample_rate
    values["sampling_rate"] = rate
    if "upsample_rates" not in values:
        rates = stages(hop)
        values["upsample_rates"] = rates
        # An odd rate takes an odd kernel, so that a stage makes so many samples exactly.
        values["upsample_kernel_sizes"] = [2 * one + one % 2 for one in rates]
    made: Config = (BigVganConfig if bigvgan else HifiGanConfig).from_dict(values)
    shape = made.generator if isinstance(made, BigVganConfig) else made
    if shape.hop != hop:
        raise UsageError(
            f"upsample_rates of the generator make {shape.hop} samples of a frame, but at {rate} "
            f"Hz it has {hop}: leave them out, or choose others"
        )
    return made


def stages(hop: int) -> list[int]:
    """Upsampling rates whose product is `hop`, the largest first.

    Raises:
        UsageError: it has too large a factor.
    """
    if hop in _PUBLISHED:
        return list(_PUBLISHED[hop])
    found, rest = [], hop
    for factor in range(2, LARGEST_RATE + 1):
        while rest % factor == 0:
            found.append(factor)
            rest //= factor
    if rest > 1 or hop < 2:
        raise UsageError(
            f"a frame has {hop} samples, which no stages of up to {LARGEST_RATE} make: choose "
            "another --sampling-rate"
        )
    rates = [1] * min(STAGES, len(found))
    for factor in sorted(found, reverse=True):
        rates[rates.index(min(rates))] *= factor
    return sorted(rates, reverse=True)


def network_of(config: Config) -> HifiGan | BigVgan:
    """The generator with random weights."""
    return BigVgan(config) if isinstance(config, BigVganConfig) else HifiGan(config)
