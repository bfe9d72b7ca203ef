"""A new encoder gives a refiner the content columns that it learnt with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import MiniEncoder, PhoneEncoder
from knnvc.tensors import read_tensors
from recipe.contents import fit_content
from recipe.learner import LAYER
from tiny import ENCODER, load_encoder


def test_the_same_encoder_finds_its_own_content(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    out = tmp_path / "made" / "content.safetensors"
    assert fit_content(corpus, encoder, encoder, out) == pytest.approx(1, abs=0.01)
    fitted = read_tensors(out)[0][LAYER]
    assert fitted.shape == (ENCODER.content, ENCODER.content_inputs)


def test_another_encoder_comes_as_near_as_it_can(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    other = MiniEncoder(PhoneEncoder(ENCODER))
    out = tmp_path / "content.safetensors"
    explained = fit_content(corpus, other, load_encoder(trained_encoder), out)
    assert explained < 0.99
    again = fit_content(corpus, other, load_encoder(trained_encoder), out)
    assert again == explained


def test_an_encoder_without_content_is_refused(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    bare = MiniEncoder(PhoneEncoder(dataclasses.replace(ENCODER, content=0)))
    with pytest.raises(KnnvcError, match="no content columns"):
        fit_content(corpus, load_encoder(trained_encoder), bare, tmp_path / "content.safetensors")
    assert not (tmp_path / "content.safetensors").exists()
