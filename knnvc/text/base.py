"""What a text front end is: phonemes to the features that an encoder gives for speech."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from knnvc.errors import KnnvcError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TextFrontEnd(Protocol):
    """Predicts features from phonemes."""

    @property
    def language(self) -> str:
        """The voice of espeak-ng that it was trained on, like "en-us"."""

    @property
    def symbols(self) -> frozenset[str]:
        """The IPA signs and punctuation that it knows."""

    def features(
        self,
        phonemes: str,
        *,
        speed: float = 1.0,
        noise: float = 0.667,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Features [T, D] float32 of one sentence, as the preset's encoder gives them for speech.

        Args:
            phonemes: in nothing but `symbols`.
            speed: 2 speaks twice as fast.
            noise: how freely the speech varies; 0 always gives the same.
            generator: where the noise comes from.

        Raises:
            KnnvcError: there are no phonemes, or a sign is unknown.
        """


def numbers_of(phonemes: str, numbers: Mapping[str, int]) -> list[int]:
    """The token number of every sign of `phonemes`.

    Raises:
        KnnvcError: there is nothing to speak, or a sign that has no token.
    """
    if not phonemes.strip():
        raise KnnvcError("there are no phonemes to speak: give a text with words in it")
    if unknown := sorted(set(phonemes) - numbers.keys()):
        signs = " ".join(ascii(sign) if sign.isspace() else sign for sign in unknown)
        raise KnnvcError(f"the text front end does not know {signs}: leave it out of the text")
    return [numbers[sign] for sign in phonemes]
