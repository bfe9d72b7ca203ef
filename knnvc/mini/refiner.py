"""Smooths selected frames: a small network between the matching and the vocoder of `mini`.

Frames that were selected one by one jump from each to the next, in timbre and in position inside
the phone, which listeners and MOS predictors hear as roughness and recognisers as other words.
Published kNN-VC leaves that to a vocoder trained for days on prematched features. Here a network
that works on 50 frames a second learns it instead, for a hundredth of the cost: it reads the
selected frames together with what the source says (phone posteriors, normalised envelope,
level, pitch), and predicts the spectra that the target would have spoken. It reads spectra in units
of the target's own mean and spread, so that a voice which training never met looks to it like any;
or as they are, with the target's statistics beside them (`RefinerConfig.normed`). Beside the frames
it is to smooth it may see other views of the target at the same place (`RefinerConfig.views`): the
one frame chosen has the most of the voice, the mean of many the least noise.

It never sees the source's spectra, only what the matching sees: values normalised by the source
speaker's own statistics, so that no more of the source's voice gets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from knnvc.options import PartConfig, setting
from knnvc.text.phones import STATES
from knnvc.vocoders.source_filter import ConvNeXtBlock

PITCH_CENTRE = 7.2  # log2 of about 150 Hz
CHUNK = 3000  # frames (one minute) refined at once, which bounds the memory


@dataclass(frozen=True)
class RefinerConfig(PartConfig, what="refiner"):
    """Dimensions of a `Refiner`; `mels`, `substeps`, `bands` as of the acoustic space.

    `states` are the encoder's phone states, `encoded` its content columns. `normed` reads spectra
    in units of the target's mean and spread; without, it reads them as they are, and the target's
    statistics beside them (it keeps words better, and voices that training did not meet worse).
    `views` are the numbers of nearest neighbours whose means it sees, too.
    """

    mels: int = setting(80, "Bands of a spectrum.", "whole", least=1, most=512)
    substeps: int = setting(2, "Spectra in a frame.", "whole", least=1, most=16)
    states: int = setting(STATES, "Phone states.", "whole", least=2, most=10_000)
    encoded: int = setting(0, "Content columns.", "whole", least=0, most=4096)
    bands: int = setting(20, "Envelope bands.", "whole", least=1, most=512)
    channels: int = setting(256, "Columns.", "whole", least=1, most=4096)
    layers: int = setting(8, "Layers.", "whole", least=1, most=64)
    kernel: int = setting(7, "Taps.", "whole", least=1, most=63)
    expansion: int = setting(3, "Expansion.", "whole", least=1, most=16)
    normed: bool = setting(True, "Whether spectra are read in the target's units.", "flag")
    views: tuple[int, ...] = setting((), "Neighbours.", "numbers", least=1, most=1000)

    @property
    def width(self) -> int:
        """Spectral columns of one frame."""
        return self.mels * self.substeps

    @property
    def content(self) -> int:
        """Columns of what the source says: √posteriors, the encoder's content, envelope, level."""
        return self.states + self.encoded + self.bands + 1

    @property
    def statistics(self) -> int:
        """Columns of the target's statistics: envelope mean and spread, level mean and spread."""
        return 0 if self.normed else 2 * self.bands + 2


class Refiner(nn.Module):
    """Selected frames and the source's words -> smooth frames of the target.

    B batch, T frames; its output at a frame depends on `context_frames` on either side.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        self.context_frames = (config.layers + 1) * (config.kernel // 2)
        columns = config.width * (1 + len(config.views)) + config.content + config.statistics + 2
        self.read = nn.Conv1d(columns, config.channels, config.kernel, padding=config.kernel // 2)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.kernel, config.expansion)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.write = nn.Linear(config.channels, config.width)
        nn.init.zeros_(self.write.weight)  # starts as the identity
        nn.init.zeros_(self.write.bias)

    def in_units(self, spectra: Tensor, spectrum: Tensor) -> Tensor:
        """`spectra` [B, T, width] in units of the speaker's spread, around the speaker's mean."""
        mean, spread = spectrum.repeat(1, 1, self.config.substeps)[:, :, None].unbind(1)
        return (spectra - mean) / spread

    def forward(
        self,
        selected: Tensor,
        content: Tensor,
        spectrum: Tensor,
        statistics: Tensor | None = None,
        views: Tensor | None = None,
    ) -> Tensor:
        """Refined frames [B, T, width + 2]; pitch and voicing are left as they are.

        Args:
            selected: [B, T, width + 2] log-mel, then log2 f0 and voicing of the output.
            content: [B, T, content] what the source says, see `AcousticSpace.content`.
            spectrum: [B, 2, mels] mean and spread of the target's bands, see `Statistics.spectrum`.
            statistics: [B, statistics] further statistics, for one that is not `normed`, see
                `Statistics.statistics`.
            views: [B, T, len(config.views) · width] spectra of the views, one after the other.
        """
        width = self.config.width
        spectra, pitch = selected[..., :width], selected[..., width:]
        hidden = self.hidden(selected, content, spectrum, statistics, views)
        change = self.write(hidden)
        refined = spectra + (self.unit(spectrum) * change).to(spectra.dtype)
        return torch.cat([refined, pitch], dim=-1)

    def hidden(
        self,
        selected: Tensor,
        content: Tensor,
        spectrum: Tensor,
        statistics: Tensor | None = None,
        views: Tensor | None = None,
    ) -> Tensor:
        """What the last layer reads [B, T, channels]; arguments as of `forward`."""
        width = self.config.width
        spectra, pitch = selected[..., :width], selected[..., width:]
        # Unvoiced frames carry no meaningful pitch: hide it.
        shown = torch.stack([(pitch[..., 0] - PITCH_CENTRE) * pitch[..., 1], pitch[..., 1]], dim=-1)
        seen: list[Tensor] = []
        if self.config.views:
            assert views is not None
            seen = list(torch.split(views, width, dim=-1))
        if self.config.normed:
            seen = [self.in_units(view, spectrum) for view in seen]
            read = [self.in_units(spectra, spectrum), content]
        else:
            assert statistics is not None
            read = [spectra, content, statistics[:, None].expand(-1, selected.shape[1], -1)]
        columns = torch.cat([*read, shown, *seen], dim=-1)
        hidden = self.read(columns.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden)
        normed: Tensor = self.norm(hidden)
        return normed

    def unit(self, spectrum: Tensor) -> Tensor:
        """What the last layer's output is counted in, to be multiplied with [B, T, width]."""
        if self.config.normed:
            return spectrum[:, 1].repeat(1, self.config.substeps)[:, None]
        return torch.ones((), device=spectrum.device)

    @torch.no_grad()  # not inference mode: what comes out is blended in place
    def refine(
        self,
        selected: Tensor,
        content: Tensor,
        spectrum: Tensor,
        statistics: Tensor | None = None,
        views: Sequence[Tensor] = (),
    ) -> Tensor:
        """Refine a whole recording on the CPU tensors of the matching: [T, ...] -> [T, width + 2].

        It is done in chunks with context, so the result does not depend on them. `views` [T, ...]
        are those of `forward`, joined or one by one.
        """
        made = []
        for start in range(0, len(selected), CHUNK):
            first = max(0, start - self.context_frames)
            last = start + CHUNK + self.context_frames
            frames, says, *near = (part[first:last] for part in (selected, content, *views))
            given = self.batch_of_one(frames, says, spectrum, statistics, near)
            piece = self(*given)[0]
            made.append(piece[start - first :][:CHUNK].to(selected))
        return torch.cat(made) if made else selected

    def batch_of_one(
        self,
        selected: Tensor,
        content: Tensor,
        spectrum: Tensor,
        statistics: Tensor | None,
        views: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """What `forward` takes, on its device, of one piece as `refine` takes it."""
        place = next(self.parameters()).device
        speaker = None if statistics is None else statistics[None].to(place)
        seen = torch.cat([view.to(place) for view in views], dim=1)[None] if views else None
        frames, content, bands = (part[None].to(place) for part in (selected, content, spectrum))
        return frames, content, bands, speaker, seen
