"""What is put right after `mini`'s refiner: formants, mean and covariance become the target's.

Networks that learn from the mean error make spectra that are smoother than speech, and vary
otherwise.

M frames, as of `knnvc.mini.acoustic_space`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from knnvc.mini.acoustic_space import FLAT, AcousticSpace, Statistics, spoken_blocks
from knnvc.mini.covariance import cepstra_of, mean_and_covariance, transport
from knnvc.mini.sharpening import BLOCK, balanced, sharpened

MOST_MISSING = 3.0  # of contrast, against what there is
BELIEVED = 60  # frames of speech whose mean and covariance are half believed, see `combine`


class Correction:
    """Makes refined frames more like the target's speech, as the options of a `space` say."""

    def __init__(self, space: AcousticSpace) -> None:
        self.space = space
        self.width = space.mels * space.substeps
        self.cepstra = cepstra_of(space.mels)

    def combine(
        self,
        selected: Tensor,
        refined: Tensor,
        match: Tensor,
        target: Statistics,
        deviations: Tensor | None = None,
    ) -> Tensor:
        """`refined` frames [M, Ds] made more like the target's speech.

        They get its formants, the mean of the `selected` frames and its covariance, see
        `sharpen_formants`, `balance` and `follow_covariance`. `match` [M, Dm] is the source's,
        `target` are the statistics of the voice. `deviations` [M, bands] are the selected frames':
        where the voice has not said a phone, others were selected, and by these they differ from
        it.
        """
        silence = match[:, 2]
        made = self.sharpen_formants(refined, silence, target.contrast)
        if self.space.options.balanced:
            wanted, own = selected, self.space.deviations(match)
            if deviations is not None and own is not None:
                missing = own - deviations
                # The level of what was selected is the source's already.
                wanted = self.space.raised(selected, missing - missing.mean(1, keepdim=True))
            made = made.lerp(self.balance(made, wanted), _believed(target.frames))
        return self.follow_covariance(made, silence, target)

    def sharpen_formants(self, frames: Tensor, silence: Tensor, contrast: Tensor) -> Tensor:
        """Refined `frames` [M, Ds] with formants as marked as the target's, of that `contrast`.

        Networks that learn from the mean error flatten peaks and valleys, for which statistical
        speech synthesis has its postfilters and compares variances with those of speech (Yoshimura
        et al. 2005; Toda and Tokuda 2007). Here what differs from the mean of the bands around is
        raised in every band by what it lacks against the target, `options.postfilter` times.
        `silence` [M] and `contrast` [mels] are as of `AcousticSpace.contrast`.
        """
        if self.space.options.postfilter == 0:
            return frames
        with torch.no_grad():
            present = self.space.contrast(frames, silence).clamp(min=FLAT)
            missing = (contrast / present).sqrt().sub(1).clamp(0, MOST_MISSING)
            gain = (self.space.options.postfilter * missing).to(frames)
        return sharpened(frames, gain, self.width)

    def balance(self, refined: Tensor, selected: Tensor) -> Tensor:
        """`refined` [M, Ds] with the mean spectrum of `selected` [M, Ds].

        Frame by frame a refiner knows better than what was selected; in the mean over seconds it is
        the selected frames that are the target's. Means are over `options.balanced` frames before
        and after each one, as far as there are.
        """
        reach, width = self.space.options.balanced, self.width
        return balanced(refined, selected, reach, width) if reach else refined

    def follow_covariance(self, frames: Tensor, silence: Tensor, target: Statistics) -> Tensor:
        """Refined `frames` [M, Ds] that vary as the `target`'s, around their mean.

        Frames count by how much they are speech, as √posteriors of `silence` [M] tell. Of few
        frames, on either side, neither covariance is known well: then less is changed.
        """
        options, width = self.space.options, self.width
        if options.expansion == options.contraction == 0:
            return frames
        spoken = spoken_blocks(frames, silence)
        own = sum(map(len, spoken))
        known = own * target.frames / max(1, own + target.frames)
        mean, present = mean_and_covariance(map(self.space.spectra, spoken), self.cepstra)
        if not torch.isfinite(present).all():
            return frames  # of broken weights; whoever makes sound of it says so
        wanted = present.lerp(target.covariance, _believed(known))
        moved = transport(present, wanted, options.expansion, options.contraction)
        change = moved - torch.eye(len(moved)).double()
        spectral = (self.cepstra.T @ change @ self.cepstra).to(frames)
        centre = (mean @ self.cepstra).to(frames)
        done = frames.clone()
        for start in range(0, len(frames), BLOCK):
            block = self.space.spectra(frames[start : start + BLOCK])
            more = ((block - centre) @ spectral).reshape(-1, width)
            speech = 1 - silence[start : start + BLOCK, None].to(frames).square()
            done[start : start + len(more), :width] += speech * more
        return done


def _believed(frames: float) -> float:
    """How much of what so many frames tell is believed, from 0 to 1."""
    return frames / (frames + BELIEVED)
