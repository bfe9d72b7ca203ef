"""Time-stamped tasks: from events to frames and back, and how onsets are counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from knnvc.evaluation.probing.base import Event, Example
from knnvc.evaluation.probing.encoded import Encoded
from knnvc.evaluation.probing.heads import Heads, Scaling

LABEL_LEAST = 0.05  # seconds that an onset may be off, as in HEAR's and MIREX's onset F-measure
SHORTEST = 0.06  # seconds: shorter events are not believed
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


class Tracks:
    """Labels of a task as columns [T, C] of frames."""

    def __init__(self, train: Sequence[Example], encoded: Encoded) -> None:
        self.labels = sorted({event.label for one in train for event in one.target})
        self.encoded = encoded

    def rows(self, one: Example) -> Tensor:
        """1 where a label sounds, [T, C]."""
        times = self.encoded.hearing.times(self.encoded.length(one))
        made = torch.zeros(len(times), len(self.labels))
        for event in one.target:
            if event.label in self.labels:
                sounding = (times >= event.start) & (times < event.end)
                made[sounding, self.labels.index(event.label)] = 1.0
        return made

    def decoded(self, likely: Tensor, threshold: float) -> list[Event]:
        """Events where a label's probability [T, C] stays above `threshold`."""
        frame = self.encoded.hearing.frame
        least = max(1, round(SHORTEST / frame))
        found = []
        for column, label in enumerate(self.labels):
            above = torch.cat([torch.zeros(1), (likely[:, column] > threshold).float(),
                               torch.zeros(1)])  # fmt: skip
            change = above.diff()
            starts, ends = (torch.nonzero(change == sign)[:, 0].tolist() for sign in (1, -1))
            found += [
                Event(start * frame, end * frame, label)
                for start, end in zip(starts, ends, strict=True)
                if end - start >= least
            ]
        return sorted(found, key=lambda event: event.start)

    def thresholds(
        self, heads: Heads, valid: Sequence[Example], scaling: Scaling, encoded: Encoded
    ) -> dict[str, float]:
        """The best threshold of every head on the part "valid"."""
        likely = [
            {name: torch.sigmoid(made) for name, made in heads(scaling(encoded[one.name])).items()}
            for one in valid
        ]
        return {
            name: max(THRESHOLDS, key=lambda at: self._f(valid, [one[name] for one in likely], at))
            for name in heads.all
        }

    def _f(self, examples: Sequence[Example], likely: Sequence[Tensor], at: float) -> float:
        counts = [
            onset_counts(one.target, self.decoded(own, at))
            for one, own in zip(examples, likely, strict=True)
        ]
        hits, wrong, missed = np.sum(counts, axis=0).tolist()
        return float(2 * hits / max(1, 2 * hits + wrong + missed))


def onset_counts(true: Sequence[Event], heard: Sequence[Event]) -> tuple[int, int, int]:
    """Onsets that were hit, invented and missed; each event counts once.

    Onsets of one label are matched from left to right, which finds as many pairs within a fixed
    distance as there can be.
    """
    hits = 0
    for label in {event.label for event in true}:
        ours = sorted(event.start for event in heard if event.label == label)
        theirs = sorted(event.start for event in true if event.label == label)
        i = j = 0
        while i < len(ours) and j < len(theirs):
            if abs(ours[i] - theirs[j]) <= LABEL_LEAST + 1e-9:
                hits, i, j = hits + 1, i + 1, j + 1
            elif ours[i] < theirs[j]:
                i += 1
            else:
                j += 1
    return hits, len(heard) - hits, len(true) - hits
