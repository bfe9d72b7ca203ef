"""Text to speech: text → features → the same path as a recording's (kNN-TTS).

El Hajal et al., "kNN Retrieval for Simple and Effective Zero-Shot Multi-speaker Text-to-Speech",
NAACL 2025, https://arxiv.org/abs/2408.10771.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knnvc.audio import loudness_gain
from knnvc.audio.joining import Spool, silence, trim_edges
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.frames import Frames
from knnvc.options import SpeakOptions
from knnvc.presets.loading import Parts
from knnvc.progress import Progress, stage
from knnvc.text.base import TextFrontEnd
from knnvc.text.documents import kind_of, read_document
from knnvc.text.lexicon import Lexicon
from knnvc.text.lines import Line, fit, says_something
from knnvc.text.subtitles import place


LEAST_SPEED, MOST_SPEED = 0.25, 4.0  # of all factors together


class Speaker:
    """Speaks text in a voice.

    Args:
        parts: encoder, converter, vocoder and text front end.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def check(self, options: SpeakOptions) -> None:
        """Raise UsageError if the parts cannot speak at all."""
        if self.parts.make_front_end is None or self.parts.vocoder is None:
            _ = self.parts.front_end
            raise UsageError(f"preset {self.parts.name!r} has no vocoder: it makes no sound")

    def speak(
        self,
        text: str,
        voices: Sequence[tuple[Any, float]] | None,
        options: SpeakOptions | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """The waveform [S] of `text` at the vocoder's rate; arguments as of `spoken`."""
        with self.spoken(text, voices, options, progress) as waveform:
            return waveform.clone()

    @contextmanager
    def spoken(
        self,
        text: str,
        voices: Sequence[tuple[Any, float]] | None,
        options: SpeakOptions | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """The waveform [S] of `text`, on disk while the block runs; spoken sentence by sentence.

        Args:
            text: one word or a book.
            voices: what the speech converter prepared, with shares; None is the front end's own
                voice, for λ = 0.
            options: how.
            progress: see `knnvc.progress`.

        Raises:
            UsageError: there are no voices and λ is not 0.
            KnnvcError: the text has nothing to say, or the preset has no text front end.
        """
        options = options or SpeakOptions()
        self.check(options)
        converter, vocoder = self.parts.speech_converter, self.parts.vocoder
        assert vocoder is not None
        front_end, rate = self.parts.front_end, vocoder.sample_rate
        kind = options.kind or kind_of("", text)
        language = options.language or front_end.language
        lines = list(fitted(read_document(text, kind, language, _lexicon(options)), front_end))
        lam = getattr(converter.config, "lam", 1.0) if options.lam is None else options.lam
        if voices is None and lam != 0:
            raise UsageError("there are no references: name some, or speak with lam 0")
        slots = self._slots(lines, options)
        generator = torch.Generator().manual_seed(options.seed)
        tell = stage(progress, "speaking", len(lines))
        with Spool() as spool:
            for number, line in enumerate(lines):
                at, faster = slots[number] if slots else (None, 1.0)
                before = line.before / options.speed if at is None else at - spool.samples / rate
                spool.append(silence(max(0.0, before), rate))
                features = self._features(line, options, generator, faster)
                frames = (
                    Frames(features[:, self.parts.encoder.columns.synth])
                    if voices is None
                    else converter.convert(features, voices, options)
                )
                spool.append(trim_edges(vocoder(frames), rate))
                if number < len(lines) - 1 and at is None:
                    spool.append(silence(line.pause / options.speed, rate))
                if tell:
                    tell(number + 1, len(lines))
            waveform = spool.waveform()
            level = options.target_loudness
            if isinstance(level, float):
                waveform.mul_(loudness_gain(waveform, rate, level))
            yield waveform

    def _features(
        self, line: Line, options: SpeakOptions, generator: torch.Generator, faster: float = 1.0
    ) -> Tensor:
        speed = min(max(options.speed * line.speed * faster, LEAST_SPEED), MOST_SPEED)
        return self.parts.front_end.features(
            line.phonemes, speed=speed, noise=options.noise, generator=generator
        )

    def _slots(
        self, lines: Sequence[Line], options: SpeakOptions
    ) -> list[tuple[float, float]] | None:
        """When each line of subtitles begins, in seconds, and how much faster it is spoken.

        None for text that has no times. Cues that cannot keep theirs are told of in a warning.
        """
        if all(line.start is None for line in lines):
            return None
        # The features tell how long each takes; they are made again with the speed that it needs.
        generator = torch.Generator().manual_seed(options.seed)
        frame = self.parts.encoder.hop / self.parts.encoder.sample_rate
        durations = [frame * len(self._features(line, options, generator)) for line in lines]
        schedule = place(lines, durations)
        if schedule.warning:
            warnings.warn(schedule.warning, KnnvcWarning, stacklevel=4)
        return [(slot.at, slot.speed) for slot in schedule.slots]


def fitted(lines: Iterable[Line], front_end: TextFrontEnd) -> Iterator[Line]:
    """`lines` in signs that the front end knows; warns about the ones that it does not.

    Raises:
        KnnvcError: of one line nothing is left.
    """
    symbols, lost = front_end.symbols, set[str]()
    for line in lines:
        phonemes, unknown = fit(line.phonemes, symbols)
        if not says_something(phonemes):
            raise KnnvcError(
                f"the text front end, which was trained on {front_end.language}, knows none of the "
                f"sounds of {line.text[:40]!r}: choose another --language"
            )
        if unknown - lost:
            shown = " ".join(sorted(unknown - lost))
            warnings.warn(
                f"the text front end, which was trained on {front_end.language}, leaves out the "
                f"sounds that it does not know: {shown}",
                KnnvcWarning,
                stacklevel=3,
            )
            lost |= unknown
        yield replace(line, phonemes=phonemes)


def _lexicon(options: SpeakOptions) -> Lexicon | None:
    lexicon = options.lexicon
    return Lexicon.load(lexicon) if isinstance(lexicon, str | Path) else lexicon
