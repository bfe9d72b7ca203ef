"""The converter of published kNN-VC: what its frames are, of one voice and of several."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from knnvc import VoiceConverter
from knnvc.converters.matching_set import merge
from knnvc.converters.search import search
from knnvc.errors import KnnvcError, UsageError

Source = tuple[Any, int]


def test_frames_are_the_mean_of_the_nearest(
    tiny: VoiceConverter, source: Source, anna: Path
) -> None:
    features, target = torch.from_numpy(tiny.encode(source)), tiny.matching_set(anna)
    _, indices = search(features, target.match, 3)
    expected = target.synth[indices].mean(dim=1)
    made = tiny.match(features, target, k=3, lam=1.0)
    assert (made.values - expected).abs().max() < 1e-5


def test_lam_mixes_the_source_in_linearly(tiny: VoiceConverter, source: Source, anna: Path) -> None:
    features, target = torch.from_numpy(tiny.encode(source)), tiny.matching_set(anna)
    pure = tiny.match(features, target, lam=1.0).values
    assert torch.equal(tiny.match(features, target, lam=0.0).values, features)
    for lam in (0.25, 0.7, 1.6):
        expected = lam * pure + (1 - lam) * features
        assert (tiny.match(features, target, lam=lam).values - expected).abs().max() < 1e-5


def test_a_blend_is_the_weighted_sum_of_voices(
    tiny: VoiceConverter, source: Source, anna: Path, ben: Path
) -> None:
    features = torch.from_numpy(tiny.encode(source))
    alone = [tiny.match(features, tiny.matching_set(refs)).values for refs in (anna, ben)]
    expected = 0.7 * alone[0] + 0.3 * alone[1]
    for weights in ((0.7, 0.3), (7, 3)):  # weights are relative
        voices = tiny.voices([(anna, weights[0]), (ben, weights[1])])
        assert sum(weight for _, weight in voices) == pytest.approx(1.0)
        assert (tiny.match(features, voices).values - expected).abs().max() < 1e-5
    mixed = tiny.match(features, tiny.voices([(anna, 1), (ben, 1)]), lam=0.5).values
    assert (mixed - ((alone[0] + alone[1]) / 4 + features / 2)).abs().max() < 1e-5
    with pytest.raises(UsageError, match="weights of references must be positive"):
        tiny.voices([(anna, 1.0), (ben, 0.0)])
    with pytest.raises(UsageError, match="weights of references must be positive"):
        tiny.voices([(anna, 1.0), (ben, math.nan)])


def test_several_references_are_one_voice(
    tiny: VoiceConverter, source: Source, anna: Path, ben: Path
) -> None:
    (joined, weight), *others = tiny.voices([anna, ben])
    assert (weight, others) == (1.0, [])
    assert joined.info.files == ("a.wav", "b.wav", "ben.wav")
    features = tiny.encode(source)
    both = merge([tiny.matching_set(anna), tiny.matching_set(ben)])
    found, expected = tiny.match(features, joined), tiny.match(features, both)
    assert torch.equal(found.values, expected.values)


def test_a_set_of_another_encoder_is_not_prepared(
    tiny: VoiceConverter, mini: VoiceConverter, ben: Path
) -> None:
    foreign = mini.matching_set(ben, trim=False)
    with pytest.raises(KnnvcError, match="fits the encoder of preset 'mini'"):
        tiny.converter.prepare(foreign)


def test_frames_are_compared_by_the_columns_to_match(tiny: VoiceConverter, source: Source) -> None:
    features = torch.from_numpy(tiny.encode(source))
    assert torch.equal(tiny.converter.compared(features), features[:, tiny.encoder.columns.match])


def test_a_set_with_other_columns_than_the_encoder_gives_is_refused(
    tiny: VoiceConverter, anna: Path
) -> None:
    whole = tiny.matching_set(anna)
    cut = whole.match[:, :-1].contiguous()
    for one in (
        dataclasses.replace(whole, match=cut, synth=cut),
        dataclasses.replace(whole, match=cut),
        dataclasses.replace(whole, synth=torch.cat([whole.synth, whole.synth], 1)),
    ):
        with pytest.raises(KnnvcError, match=f"its encoder gives {whole.synth.shape[1]}"):
            tiny.prepare(one)
