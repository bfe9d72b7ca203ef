"""Copy-synthesis by name: an encoder and the vocoder that reads its features, nothing between."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from knnvc.audio.joining import to_length
from knnvc.encoders.base import Encoder, frames_a_second
from knnvc.errors import KnnvcError, UsageError
from knnvc.frames import Frames
from knnvc.presets.catalogue import ENCODERS, VOCODERS, Progress, find_known
from knnvc.presets.loading import choose_device, load_parts
from knnvc.presets.named import is_preset, open_encoder, verify
from knnvc.presets.search import find_preset, list_presets
from knnvc.presets.vocoder_files import ReadVocoder, read_vocoder
from knnvc.progress import Progress as Stages
from knnvc.progress import stage
from knnvc.registry import Context, find
from knnvc.vocoders.base import Vocoder
from knnvc.vocoders.classical import griffin_lim, griffin_lim_mfcc, world

COPIES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "world": world,
    "griffin-lim": griffin_lim,
    "griffin-lim-mfcc": griffin_lim_mfcc,
}
_CLASSICAL_RATE = 16_000  # Hz


@dataclass
class Copier:
    """Takes a recording apart and puts it together again.

    Attributes:
        name: of the vocoder.
        encoder: that the vocoder reads; None for classical ones, which take waveforms.
        vocoder: frames to a waveform, or a function of a waveform [S] and its rate.
    """

    name: str
    encoder: Encoder | None
    vocoder: Vocoder | Callable[[Tensor, int], Tensor]

    @property
    def given_rate(self) -> int:
        """Hz of the waveforms that it takes."""
        return _CLASSICAL_RATE if self.encoder is None else self.encoder.sample_rate

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that it makes."""
        return _CLASSICAL_RATE if self.encoder is None else self.vocoder.sample_rate  # type: ignore[union-attr]

    def copy(self, waveform: Tensor, progress: Stages | None = None) -> Tensor:
        """A waveform [S] at `given_rate` made again, as long, at `sample_rate`."""
        if self.encoder is None:
            return self.vocoder(waveform, self.given_rate)  # type: ignore[arg-type]
        count = max(1, len(waveform) // self.encoder.hop)
        features = self.encoder.encode(waveform, stage(progress, "encoding", count))
        frames = Frames(features[:, self.encoder.columns.synth])
        made: Tensor = self.vocoder(frames, stage(progress, "vocoding", len(frames)))  # type: ignore[arg-type]
        return to_length(made, round(len(waveform) * self.sample_rate / self.given_rate))


def open_copier(
    name: str | Path,
    device: str = "auto",
    *,
    encoder: str | None = None,
    layer: int | None = None,
    config: Path | None = None,
    progress: Progress | None = None,
) -> Copier:
    """Load a vocoder with the encoder that it reads.

    Args:
        name: of `knnvc.presets.catalogue.VOCODERS`; a preset's name or folder; a published
            vocoder's file or folder.
        device: "auto", "cpu", "cuda" or "mps".
        encoder: whose features a vocoder out of a file reads, if not mel spectra.
        layer: of that encoder.
        config: of a vocoder out of a file; by default the one beside it.
        progress: of downloads, see `Known.fetch`.

    Raises:
        UsageError: there is no such vocoder, or nobody says what it reads.
        KnnvcError: its files are missing or damaged, or it does not fit the encoder.
    """
    text = str(name)
    if text in COPIES:
        return Copier(text, None, COPIES[text])
    known = find_known(VOCODERS, text)
    if known is None and is_preset(text):
        parts = load_parts(find_preset(text), device)
        if parts.vocoder is None:
            raise UsageError(f"the preset {text!r} has no vocoder: choose another one")
        return Copier(text, parts.encoder, parts.vocoder)
    if known is not None:
        folder = known.fetch(progress)
        verify(known)
        read = read_vocoder(folder)
        if known.encoder and encoder is None:
            encoder, layer = known.encoder
    elif Path(text).expanduser().exists():
        read = read_vocoder(Path(text).expanduser(), config)
    else:
        raise _unknown(text)
    return _with_encoder(text, read, device, encoder, layer, progress)


def _with_encoder(
    name: str,
    read: ReadVocoder,
    device: str,
    encoder: str | None,
    layer: int | None,
    progress: Progress | None,
) -> Copier:
    context = Context(name, choose_device(device))
    vocoder: Vocoder = find("vocoder", read.spec.type).make(read.spec, context, read.state)
    if encoder is not None:
        config = scaled_input(encoder, read)
        reads = open_encoder(encoder, layer, device, config=config, progress=progress)
    elif read.mel is not None:
        reads = find("encoder", read.mel.type).make(read.mel, context)
    else:
        hint = f" (it says {read.features})" if read.features else ""
        raise UsageError(f"{name} reads an encoder's features{hint}: name --encoder and --layer")
    given, rates = reads.columns.width, (frames_a_second(reads), frames_a_second(vocoder))
    if given != vocoder.dim or rates[0] != rates[1]:
        raise KnnvcError(
            f"{name} reads {vocoder.dim} columns {float(rates[1]):g} times a second and its "
            f"encoder gives {given}, {float(rates[0]):g} times: use files that belong together"
        )
    return Copier(name, reads, vocoder)


def scaled_input(encoder: str | Path, read: ReadVocoder) -> dict[str, Any] | None:
    """Settings of the encoder that a vocoder of ssl-vocoders reads.

    They were trained on what transformers' feature extractor gives; WavLM large, which here hears
    recordings as they come, must hear them scaled.
    """
    ssl = read.spec.config.get("hifi_dim", 0) is None and read.mel is None
    return {"normalize": True} if ssl and str(encoder) == "wavlm-large" else None


def _unknown(text: str) -> UsageError:
    names = [*VOCODERS, *(entry.name for entry in list_presets())]
    close = difflib.get_close_matches(text.lower(), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return UsageError(
        f"there is no vocoder {text[:40]!r}{hint}: give a name of `knnvc vocoders`, a preset, or "
        "a published file"
    )


def here() -> tuple[list[str], list[str]]:
    """Names of the vocoders whose files are on this machine with their encoders', and the others.

    Presets with a vocoder come first.
    """
    present, absent = [], []
    for entry in list_presets():
        if entry.folder is None or entry.status == "damaged":
            absent.append(entry.name)
        elif find_preset(entry.name).vocoder is not None:
            present.append(entry.name)
    for known in VOCODERS.values():
        needed = [known, *([ENCODERS[known.encoder[0]]] if known.encoder else [])]
        (absent if any(one.missing for one in needed) else present).append(known.name)
    return present, absent
