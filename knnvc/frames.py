"""What a converter hands to a vocoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of the target and all that a vocoder must know of the voice.

    Attributes:
        values: [T, Ds] float32.
        adaptation: [C, W] speaker adaptation of the vocoder, if it takes one and the voice has one;
            a blend of voices has the weighted sum of theirs.
    """

    values: Tensor
    adaptation: Tensor | None = None

    def __len__(self) -> int:
        """The number of frames, T."""
        return len(self.values)
