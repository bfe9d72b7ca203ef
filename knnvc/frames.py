"""What a converter hands to a vocoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of the target and all that a vocoder must know of the voice.

    Attributes:
        values: [T, Ds] float32.
    """

    values: Tensor

    def __len__(self) -> int:
        """The number of frames, T."""
        return len(self.values)
