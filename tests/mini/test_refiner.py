"""The network that smooths selected frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from knnvc.errors import KnnvcError
from knnvc.mini import refiner as module
from knnvc.mini.refiner import Refiner, RefinerConfig

CONFIG = RefinerConfig(mels=4, states=4, bands=2, channels=8, layers=2, kernel=3)


def inputs(frames: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(frames)
    return (
        torch.randn(frames, CONFIG.width + 2),
        torch.randn(frames, CONFIG.content),
        torch.stack([torch.randn(CONFIG.mels), torch.rand(CONFIG.mels) + 0.5]),
    )


def busy() -> Refiner:
    """One whose output layer is not zero any more."""
    torch.manual_seed(0)
    network = Refiner(CONFIG).eval()
    torch.nn.init.normal_(network.write.weight, std=0.5)
    return network


def test_it_starts_as_the_identity() -> None:
    selected, content, spectrum = inputs(20)
    assert torch.equal(Refiner(CONFIG).refine(selected, content, spectrum), selected)


def test_it_changes_spectra_but_neither_pitch_nor_voicing() -> None:
    selected, content, spectrum = inputs(20)
    refined = busy().refine(selected, content, spectrum)
    assert not torch.allclose(refined[:, : CONFIG.width], selected[:, : CONFIG.width])
    assert torch.equal(refined[:, CONFIG.width :], selected[:, CONFIG.width :])


def test_the_pitch_of_unvoiced_frames_is_not_looked_at() -> None:
    selected, content, spectrum = inputs(20)
    selected[:, -1] = 0.0
    other = selected.clone()
    other[:, -2] += 1.0
    network = busy()
    width = CONFIG.width
    first, second = (network.refine(x, content, spectrum)[:, :width] for x in (selected, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("frames", [1, 29, 64])
def test_chunks_do_not_change_the_result(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    selected, content, spectrum = inputs(frames)
    network = busy()
    whole = network.refine(selected, content, spectrum)
    monkeypatch.setattr(module, "CHUNK", 10)
    assert torch.allclose(network.refine(selected, content, spectrum), whole, atol=1e-5)


def test_nothing_in_nothing_out() -> None:
    selected, content, spectrum = inputs(0)
    assert busy().refine(selected, content, spectrum).shape == (0, CONFIG.width + 2)


def test_context_is_as_wide_as_it_says() -> None:
    selected, content, spectrum = inputs(40)
    network = busy()
    other = selected.clone()
    other[20, : CONFIG.width] += 1.0
    changed = (
        network.refine(other, content, spectrum) - network.refine(selected, content, spectrum)
    ).abs()
    touched = torch.nonzero(changed.sum(1) > 1e-6)[:, 0]
    assert touched.min() >= 20 - network.context_frames
    assert touched.max() <= 20 + network.context_frames


def test_another_microphone_only_moves_the_result() -> None:
    """Bands amplified and widened in the target's frames and statistics alike."""
    selected, content, spectrum = inputs(20)
    network, width = busy(), CONFIG.width
    gain, offset = torch.rand(CONFIG.mels) + 0.5, torch.randn(CONFIG.mels)
    other = selected.clone()
    other[:, :width] = selected[:, :width] * gain.repeat(2) + offset.repeat(2)
    moved = torch.stack([spectrum[0] * gain + offset, spectrum[1] * gain])
    plain = network.refine(selected, content, spectrum)[:, :width]
    again = network.refine(other, content, moved)[:, :width]
    assert torch.allclose(again, plain * gain.repeat(2) + offset.repeat(2), atol=1e-5)


def test_without_units_it_reads_the_targets_statistics() -> None:
    config = replace(CONFIG, normed=False)
    torch.manual_seed(0)
    network = Refiner(config).eval()
    selected, content, spectrum = inputs(20)
    statistics = torch.randn(config.statistics)
    assert torch.equal(network.refine(selected, content, spectrum, statistics), selected)
    torch.nn.init.normal_(network.write.weight, std=0.5)
    one = network.refine(selected, content, spectrum, statistics)
    assert not torch.allclose(one, network.refine(selected, content, spectrum, statistics + 1))
    assert torch.equal(one, network.refine(selected, content, spectrum + 1, statistics))


def test_unknown_settings_are_named() -> None:
    with pytest.raises(KnnvcError, match="colour"):
        RefinerConfig.from_dict({"colour": 1})


def test_views_of_the_target_are_seen() -> None:
    config = replace(CONFIG, views=(1, 16))
    torch.manual_seed(0)
    network = Refiner(config).eval()
    torch.nn.init.normal_(network.write.weight, std=0.5)
    selected, content, spectrum = inputs(20)
    views = torch.randn(20, 2 * config.width)
    one = network.refine(selected, content, spectrum, None, [views])
    for part in range(2):
        other = views.clone()
        other[:, part * config.width] += 1.0
        assert not torch.allclose(one, network.refine(selected, content, spectrum, None, [other]))
    apart = torch.split(views, config.width, dim=1)
    assert torch.equal(one, network.refine(selected, content, spectrum, None, apart))
    assert RefinerConfig.from_dict(config.to_dict() | {"views": [1, 16]}) == config
