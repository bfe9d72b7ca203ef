"""Matching and finishing for encoders that give spectra, pitch and phone posteriors (`mini`).

Posteriors alone say which phone a frame is, not how it is spoken: neighbours chosen by them jump in
level, timbre and position inside the phone, and the result is unintelligible. Three things mend
that, each normalised by the statistics of either speaker, so that the voice itself does not count:

- the vectors compared also hold the phones around a frame, its coarse spectral envelope, its pitch;
- the level of the selected frames is moved to the source's, and their envelope, where a preset says
  so, a part of the way (per-speaker mean and variance normalisation, as in speech recognition);
- the pitch is the source's contour, with every pitch as frequent as the target has it, and the
  voicing is the source's, in part.

Published kNN-VC does none of this; WavLM's features carry their context themselves.

N or M frames. Synthesis columns: `substeps · mels` log-mel values, log2 f0, voicing. Match columns:
log2 f0, voicing, √posterior of silence, √posteriors of three states for each phone, and the
encoder's content columns, which are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from knnvc.audio.pitch import (
    VOICED,
    move_pitch,
    pitch_quantiles,
    pitch_statistics,
    smooth_pitch,
)
from knnvc.errors import KnnvcError
from knnvc.mini.covariance import cepstra_of, mean_and_covariance
from knnvc.mini.sharpening import BLOCK as _BLOCK
from knnvc.mini.sharpening import moments, peaks
from knnvc.mini.speaker_prior import SpeakerPrior
from knnvc.text.phones import STATES

LEAST_SPEECH = 25  # frames (0.5 s): with fewer, statistics are of those that are silence least
LEAST_SPREAD = 0.1  # of an envelope band, in units of the log-mel

LEVEL_IN_JOINS = 0.5  # against the whole envelope
FLAT = 1e-6  # mean square contrast that is none


@dataclass(frozen=True)
class AcousticSpaceOptions:
    """What counts in the distance, and how far the selected frames follow the source.

    Attributes:
        pitch_weight: of the normalised pitch of voiced frames.
        voicing_weight: of the probability of voicing.
        envelope_weight: of the normalised envelope; the posteriors weigh 1.
        context: (offset in frames, weight) of the neighbouring frames' phones.
        envelope_transfer: 0 keeps the selected envelope, 1 takes the source's, normalised.
        energy_transfer: the same for the level.
        pitch_smoothing: standard deviation, in frames, of the Gaussian that smooths the contour.
        voicing_transfer: 0 keeps the selected frames' voicing, 1 takes the source's.
        bands: of the envelope.
        kept: neighbours whose mean has the spectrum that `balanced` gives back; 0 is all k.
        balanced: frames on either side over which the mean spectrum of what the refiner makes is
            that of the selected frames; 0 leaves it as the refiner has it. For this and the next
            three see `knnvc.mini.correction`.
        postfilter: how many times the contrast that refined spectra lack against the target's is
            given to them; more than once, as the selected frames beside them and the vocoder blur
            it, too.
        expansion: how far refined spectra take on the target's covariance where its speech varies
            more; 0 leaves them as they are.
        contraction: the same where its speech varies less.
        candidates: neighbours among which each frame's is chosen so that they join well; 1 takes
            the nearest.
        join_weight: of a bad join, against distance.
        frames_each: of speech, for each of k neighbours; where there are fewer, and k is the
            preset's, fewer neighbours are averaged. 0 averages k always.
    """

    pitch_weight: float = 0.15
    voicing_weight: float = 0.3
    envelope_weight: float = 4.0
    context: tuple[tuple[int, float], ...] = ((-4, 0.5), (-2, 0.7), (2, 0.7), (4, 0.5))
    envelope_transfer: float = 0.35
    energy_transfer: float = 1.0
    pitch_smoothing: float = 0.0
    voicing_transfer: float = 1.0
    bands: int = 20
    kept: int = 0
    balanced: int = 0
    postfilter: float = 0.0
    expansion: float = 0.0
    contraction: float = 0.0
    candidates: int = 1
    join_weight: float = 0.1
    frames_each: int = 0


# What was measured for either is in docs/experiments/ (mini's matching).
RECORDINGS = AcousticSpaceOptions(
    envelope_weight=3.0,
    context=((-4, 0.7), (-2, 1.0), (2, 1.0), (4, 0.7)),
    envelope_transfer=0.0,
    pitch_smoothing=1.0,
    voicing_transfer=0.5,
    kept=1,
    balanced=100,
    postfilter=1.0,
    expansion=1.0,
    contraction=0.5,
    candidates=16,
    join_weight=0.3,
    frames_each=25,
)
TEXT = AcousticSpaceOptions(
    envelope_transfer=0.5,
    postfilter=2.0,
    expansion=1.0,
    contraction=0.5,
    join_weight=0.3,
)
SETTINGS = {"recordings": RECORDINGS, "text": TEXT}


@dataclass(frozen=True)
class Statistics:
    """What is taken out of one speaker's frames and put back for another's.

    `pitch` [2] as of `pitch_statistics`, `pitches` [33] as of `pitch_quantiles`; `mean`, `spread`
    [bands] of the envelope; `level` [2] mean and spread of the mean log-mel, `spectrum` [2, mels]
    those of every band, `contrast` [mels] see `AcousticSpace.contrast`, `covariance` [C, C] of
    the mel cepstra, see `knnvc.mini.covariance`, `content` [2, C] mean and spread of the encoder's
    content columns; all but pitch over frames of speech, of which there are `frames`.
    """

    pitch: Tensor
    pitches: Tensor
    mean: Tensor
    spread: Tensor
    level: Tensor
    spectrum: Tensor
    contrast: Tensor
    covariance: Tensor
    content: Tensor
    frames: int

    @property
    def vector(self) -> Tensor:
        """Mean and spread of the envelope, then of the level: [2 · bands + 2]."""
        return torch.cat([self.mean, self.spread, self.level])


class AcousticSpace:
    """Turns features into vectors to compare, and selected frames into frames to synthesise.

    Args:
        options: weights.
        mels: log-mel bands of one spectrum, a multiple of `options.bands`.
        substeps: spectra in one frame.
        states: phone states; match columns after their posteriors say how phones are spoken.
        prior: what is usual of speakers, for those of whom little is known; None goes without.
    """

    def __init__(
        self,
        options: AcousticSpaceOptions,
        mels: int,
        substeps: int,
        states: int = STATES,
        prior: SpeakerPrior | None = None,
    ) -> None:
        if mels % options.bands:
            raise KnnvcError(f"{options.bands} envelope bands do not divide {mels} mel bands")
        self.options = options
        self.mels = mels
        self.substeps = substeps
        self.prior = prior
        self._said = slice(2, 2 + states)
        self._told = slice(2 + states, None)

    def statistics(self, synth: Tensor, match: Tensor) -> Statistics:
        """Statistics of one speaker, from `synth` [N, Ds] and `match` [N, Dm]."""
        blocks = spoken_blocks(synth, match[:, 2])
        envelopes = [self.envelope(block) for block in blocks]
        envelope = torch.cat(envelopes)
        level = torch.cat([self._level(block) for block in blocks])
        mean, centre = envelope.mean(0), level.mean()
        if self.prior is not None:
            said = spoken_blocks(match[:, self._said], match[:, 2])
            rest = [
                self.prior.without_phones(part, heard.float().square())
                for part, heard in zip(envelopes, said, strict=True)
            ]
            mean = self.prior.mean(torch.cat(rest).mean(0), len(envelope))
            centre = mean.mean()
        return Statistics(
            pitch=pitch_statistics(match),
            pitches=pitch_quantiles(match),
            mean=mean,
            spread=envelope.std(0, correction=0).clamp(min=LEAST_SPREAD),
            level=torch.stack([centre, level.std(correction=0).clamp(min=LEAST_SPREAD)]),
            spectrum=self._spectrum(blocks),
            contrast=self._contrast(blocks),
            covariance=mean_and_covariance(map(self.spectra, blocks), cepstra_of(self.mels))[1],
            content=_mean_and_spread(match[:, self._told].float(), match[:, 2]),
            frames=len(envelope),
        )

    def vectors(
        self,
        synth: Tensor,
        match: Tensor,
        statistics: Statistics,
        starts: Tensor | None = None,
        span: tuple[int, int] | None = None,
    ) -> Tensor:
        """Vectors [N, Dv] to compare by cosine.

        `starts` [F] are the first frames of the recordings that were joined: phones do not count
        as context across such a seam. None means one recording. `span` (first, last) asks for the
        vectors of the frames from `first` to before `last` only, the same as among all.
        """
        recording = torch.zeros(len(match), dtype=torch.int32)
        if starts is not None:
            recording[starts[(starts > 0) & (starts < len(match))]] = 1
            recording = recording.cumsum(0, dtype=torch.int32)
        first, last = span or (0, len(match))
        out: Tensor | None = None
        for start in range(first, last, _BLOCK):
            stop = min(last, start + _BLOCK)
            made = self._vectors(synth, match, statistics, recording, start, stop)
            if out is None:
                out = torch.empty(last - first, made.shape[1])
            out[start - first : stop - first] = made
        assert out is not None
        return out

    def _vectors(
        self,
        synth: Tensor,
        match: Tensor,
        statistics: Statistics,
        recording: Tensor,
        start: int,
        stop: int,
    ) -> Tensor:
        """Vectors of the frames from `start` to before `stop`; `recording` [N] numbers theirs."""
        reach = max((abs(offset) for offset, _ in self.options.context), default=0)
        low, high = max(0, start - reach), min(len(match), stop + reach)
        phones = _phones(self._posteriors(match[low:high]))
        recording = recording[low:high]
        frames = torch.arange(start - low, stop - low)
        parts = [self._posteriors(match[start:stop])]
        for offset, weight in self.options.context:
            at = (frames + offset).clamp(0, high - low - 1)
            inside = (at == frames + offset) & (recording[at] == recording[frames])
            at = torch.where(inside, at, frames)
            parts.append(weight * phones[at])
        options = self.options
        envelope = (self.envelope(synth[start:stop]) - statistics.mean) / statistics.spread
        parts.append(envelope.clamp(-4, 4) * (options.envelope_weight / options.bands**0.5))
        pitch = pitch_space(
            match[start:stop, :2], statistics.pitch, options.pitch_weight, options.voicing_weight
        )
        return torch.cat([*parts, pitch], dim=1)

    def joins(self, synth: Tensor, statistics: Statistics) -> Tensor:
        """What must not jump from frame to frame, for `matching.follow`: [N, bands + 1].

        Envelope and level, in units of the speaker's spread.
        """
        out = torch.empty(len(synth), self.options.bands + 1)
        for start in range(0, len(synth), _BLOCK):
            block = synth[start : start + _BLOCK]
            envelope = (self.envelope(block) - statistics.mean) / statistics.spread
            level = (self._level(block) - statistics.level[0]) / statistics.level[1]
            out[start : start + len(block), :-1] = envelope / self.options.bands**0.5
            out[start : start + len(block), -1] = LEVEL_IN_JOINS * level
        return out

    def finish(
        self,
        selected: Tensor,
        source: Tensor,
        own: Statistics,
        target: Statistics,
    ) -> Tensor:
        """Let `selected` [M, Ds] follow `source` [M, Ds] in pitch, level and, in part, envelope.

        `own` and `target` are the statistics of the source's and of the target's speaker.
        """
        follow = self.options.envelope_transfer
        if follow:
            selected = self._follow_envelope(follow, selected, source, own, target)
        done = self.follow_level(selected, source, own, target)
        self.follow_pitch(done, source, own, target)
        return done

    def _follow_envelope(
        self, share: float, selected: Tensor, source: Tensor, own: Statistics, target: Statistics
    ) -> Tensor:
        """Move the envelope of `selected` [M, Ds] by `share` to the source's, normalised."""
        wanted = (self.envelope(source) - own.mean) / own.spread * target.spread + target.mean
        shift = share * (wanted - self.envelope(selected))
        return self.raised(selected, shift)

    def raised(self, frames: Tensor, by: Tensor) -> Tensor:
        """`frames` [M, Ds] with their envelope raised `by` [M, bands]."""
        shift = by.repeat_interleave(self.mels // self.options.bands, dim=1)
        done = frames.clone()
        done[:, : self.mels * self.substeps] += shift.repeat(1, self.substeps)
        return done

    def follow_level(
        self, selected: Tensor, source: Tensor, own: Statistics, target: Statistics
    ) -> Tensor:
        """Move the level of `selected` [M, Ds] to the source's, in the target's range."""
        width = self.mels * self.substeps
        level = (self._level(source) - own.level[0]) / own.level[1] * target.level[1]
        level = level + target.level[0] - self._level(selected)
        done = selected.clone()
        done[:, :width] += self.options.energy_transfer * level[:, None]
        return done

    def follow_pitch(
        self, selected: Tensor, source: Tensor, own: Statistics, target: Statistics
    ) -> None:
        """Give `selected` [M, Ds] the source's pitch, in the target's range, in place."""
        width = self.mels * self.substeps
        selected[:, width] = move_pitch(source[:, width], own.pitches, target.pitches)
        selected[:, width + 1] = source[:, width + 1]

    def soften_prosody(self, frames: Tensor, voicing: Tensor) -> None:
        """Smooth the pitch of finished `frames` [M, Ds] in place, and change their voicing.

        `voicing` [M] is that of the frames that were selected for them.
        """
        width = self.mels * self.substeps
        pitch, own = frames[:, width], frames[:, width + 1]
        frames[:, width] = smooth_pitch(pitch, own > VOICED, self.options.pitch_smoothing)
        frames[:, width + 1] = voicing.lerp(own, self.options.voicing_transfer)

    def content(self, synth: Tensor, match: Tensor, own: Statistics) -> Tensor:
        """Content conditioning for a `Refiner`, the source without its voice.

        [M, states + content + bands + 1]: √posteriors, then the encoder's content columns,
        envelope and level, each normalised by the speaker's `own` statistics.
        """
        mean, spread = own.content
        told = (match[:, self._told].float() - mean) / spread
        envelope = (self.envelope(synth) - own.mean) / own.spread
        level = (self._level(synth) - own.level[0]) / own.level[1]
        columns = [self._posteriors(match), told, envelope.clamp(-4, 4), level[:, None]]
        return torch.cat(columns, dim=1)

    def hide_envelope(self, content: Tensor) -> None:
        """Set the envelope in what `content` gives [M, ...] to the speaker's mean, in place."""
        content[:, -1 - self.options.bands : -1] = 0

    def deviations(self, match: Tensor) -> Tensor | None:
        """`SpeakerPrior.deviations` of frames with these `match` columns [N, Dm], if known."""
        if self.prior is None:
            return None
        blocks = torch.split(match, _BLOCK)
        return torch.cat([self.prior.deviations(self._posteriors(b).square()) for b in blocks])

    def contrast(self, frames: Tensor, silence: Tensor) -> Tensor:
        """How high peaks and valleys are in `frames` [N, ≥ width]: mean squares [mels].

        Of what differs from the mean of the bands around, `sharpening.BANDS` wide, over frames of
        speech as √posteriors of `silence` [N] tell them.
        """
        return self._contrast(spoken_blocks(frames, silence))

    def _spectrum(self, blocks: list[Tensor]) -> Tensor:
        """Mean and spread [2, mels] of the log-mel bands of all frames in `blocks`."""
        mean, squares = moments(map(self.spectra, blocks), self.mels)
        spread = (squares - mean.square()).clamp(min=0).sqrt()
        return torch.stack([mean, spread.clamp(min=LEAST_SPREAD)]).float()

    def _contrast(self, blocks: list[Tensor]) -> Tensor:
        """Mean square [mels] of the `peaks` of all frames in `blocks`."""
        return moments((peaks(self.spectra(block)) for block in blocks), self.mels)[1].float()

    def spectra(self, frames: Tensor) -> Tensor:
        """The log-mel spectra in `frames` [N, ≥ width]: [N · substeps, mels]."""
        return frames[:, : self.mels * self.substeps].reshape(-1, self.mels)

    def envelope(self, synth: Tensor) -> Tensor:
        """Coarse log-mel envelope [N, bands] of `synth` [N, ≥ width], mean over the frame."""
        spectra = synth[:, : self.mels * self.substeps].float()
        pooled = functional.avg_pool1d(spectra[:, None], self.mels // self.options.bands)[:, 0]
        return pooled.reshape(len(synth), self.substeps, self.options.bands).mean(1)

    def _level(self, synth: Tensor) -> Tensor:
        """Mean log-mel [N]."""
        return synth[:, : self.mels * self.substeps].float().mean(1)

    def _posteriors(self, match: Tensor) -> Tensor:
        """√posteriors [N, states]."""
        return match[:, self._said].float()


def are_speech(silence: Tensor) -> Tensor:
    """Bool [..., N], the frames that are speech by √posteriors of `silence` [..., N].

    Where hardly any are, those count that are silence least: a word in long silence has a level of
    its own, and silence would move it out of all bounds.
    """
    speech = silence.square() < 0.5
    few = speech.sum(-1, keepdim=True) < LEAST_SPEECH
    order = silence.argsort(dim=-1, stable=True)[..., :LEAST_SPEECH]
    return torch.where(few, torch.zeros_like(speech).scatter(-1, order, True), speech)


def spoken_blocks(frames: Tensor, silence: Tensor) -> list[Tensor]:
    """Blocks of those `frames` [N, ...] that `are_speech` by √posteriors of `silence` [N]."""
    blocks = torch.split(are_speech(silence), _BLOCK)
    parts = zip(torch.split(frames, _BLOCK), blocks, strict=True)
    return [block[rows] for block, rows in parts]


def _mean_and_spread(columns: Tensor, silence: Tensor) -> Tensor:
    """Mean and spread [2, C] of `columns` [N, C] over frames of speech, see `spoken_blocks`."""
    spoken = torch.cat(spoken_blocks(columns, silence))
    mean = spoken.mean(0)
    return torch.stack([mean, (spoken - mean).square().mean(0).sqrt().clamp(min=FLAT)])


def _phones(posteriors: Tensor) -> Tensor:
    """√posteriors of silence and of every phone [N, 1 + phones], summed over a phone's states."""
    probability = posteriors.square()
    phones = probability[:, 1:].reshape(len(posteriors), -1, 3).sum(2)
    return torch.cat([probability[:, :1], phones], dim=1).clamp(min=0).sqrt()


def pitch_space(
    match: Tensor, statistics: Tensor, pitch_weight: float, voicing_weight: float
) -> Tensor:
    """Scale the pitch columns of `match` [N, Dm] to what they shall count in the distance.

    `statistics` [2] are those of the speaker of `match`; z-scores beyond ±3 are clipped.
    """
    voicing = match[:, 1:2].float()
    if torch.isfinite(statistics).all():
        z = ((match[:, :1].float() - statistics[0]) / statistics[1]).clamp(-3.0, 3.0)
    else:
        z = torch.zeros_like(voicing)
    return torch.cat(
        [pitch_weight * z * voicing, voicing_weight * voicing, match[:, 2:].float()], 1
    )
