"""Many channels into one: their mean, unless they cancel each other there.

A microphone wired the wrong way round, or a player's "surround" effect, makes one channel the
negative of another. Their mean is then silence, or what noise and codec left over. Such stretches
are found by comparing energies, and there the channels are added with the signs that make them
agree: of two channels that is half their difference.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_WINDOW_SECONDS = 0.5  # over which energies are compared
_FADE_SECONDS = 0.02  # from one way of adding to the other
# Hz, about: what is compared is the telephone band, free of hum and hiss, and then its lower end.
_HEARD_RATES = (8_000, 2_000)
# Energy of the mean, divided by what it would be if the channels had nothing in common. It is 1 for
# unrelated channels and C for C equal ones. Below the first value the channels cancel; above the
# second they do not any more. 0.4 is a correlation of -0.6, which no two ordinary microphones have.
_CANCELS, _AGREES = 0.4, 1.0
_LEANS = 0.95  # below which the lower end is asked, too
_LEAST_COMPARED = 160  # samples at 8 kHz, 20 ms: of fewer, noise may cancel by chance
_LEAST_HIGH = 1e-4  # energy of the second difference of speech at 8 kHz, of all; hum has 1e-5
_NOTHING = 1e-9  # of the channels' energy in their mean: they cancel to the last bit

Samples = npt.NDArray[np.float32]


class Mixer:
    """Adds up channels that come in blocks; the result does not depend on where blocks end.

    Args:
        channels: C, how many there are.
        sample_rate: Hz.
    """

    def __init__(self, channels: int, sample_rate: int) -> None:
        self._channels = channels
        self._window = max(1, round(_WINDOW_SECONDS * sample_rate))
        self._fade = min(self._window, max(1, round(_FADE_SECONDS * sample_rate)))
        self._steps = [max(1, round(sample_rate / rate)) for rate in _HEARD_RATES]
        self._pending: list[Samples] = []
        self._held = 0
        self._signs = np.ones(channels)  # how the channels were added last
        self._began = False

    def add(self, block: Samples) -> Samples:
        """Mix `block` [T, C]; what comes back, [T'], lags behind by less than a window."""
        if self._channels == 1:
            return block[:, 0]
        self._pending.append(block)
        self._held += len(block)
        whole = self._held // self._window * self._window
        if not whole:
            return np.zeros(0, np.float32)
        frames = np.concatenate(self._pending)
        self._pending, self._held = [frames[whole:]], self._held - whole
        return self._mix(frames[:whole])

    def finish(self) -> Samples:
        """What is left, [T']."""
        if self._channels == 1 or not self._held:
            return np.zeros(0, np.float32)
        rest, self._held = np.concatenate(self._pending), 0
        return self._mix(rest)

    def _mix(self, frames: Samples) -> Samples:
        # float64 only for the sum: two full-scale float32 samples must not overflow to infinity.
        with np.errstate(invalid="ignore", over="ignore"):  # infinity; the caller reports it
            mixed = frames.mean(axis=1, dtype=np.float64)
            for start in range(0, len(frames), self._window):
                part = frames[start : start + self._window]
                before, self._signs = self._signs, self._choose(part)
                if not self._began:
                    before, self._began = self._signs, True
                if (before > 0).all() and (self._signs > 0).all():
                    continue
                gains = np.broadcast_to(self._signs, (len(part), self._channels)).copy()
                ramp = np.linspace(0, 1, self._fade, endpoint=False)[: len(part), None]
                gains[: len(ramp)] = before + (self._signs - before) * ramp
                mixed[start : start + len(part)] = (part * gains).mean(axis=1, dtype=np.float64)
        result: Samples = mixed.astype(np.float32)
        return result

    def _choose(self, part: Samples) -> npt.NDArray[np.float64]:
        """The sign of each channel, [C], for a window [T, C] that follows the last one."""
        found = self._compare(part, self._steps[0])
        if found is None:
            return self._signs
        agreement, products = found
        if agreement < _LEANS and (lower := self._compare(part, self._steps[1])) is not None:
            # Of channels that are late by a fraction of a millisecond, only low sounds cancel.
            agreement, products = min(found, lower, key=lambda one: one[0])
        plain = (self._signs > 0).all()
        if agreement >= (_CANCELS if plain else _AGREES):
            return np.ones(self._channels)
        loudest = int(np.argmax(np.diag(products)))
        signs = np.where(products[loudest] < 0, -1.0, 1.0)
        # Either way round will do; the one nearer to the last leaves no seam.
        return signs if float(signs @ self._signs) >= 0 else -signs

    def _compare(self, part: Samples, step: int) -> tuple[float, npt.NDArray[np.float64]] | None:
        """How well channels agree, and their products [C, C]; None if there is nothing to tell.

        Args:
            part: [T, C].
            step: samples that are averaged before, which takes away what is higher.
        """
        groups = len(part) // step
        if groups < max(_LEAST_COMPARED * self._steps[0] // step, 20):
            return None
        heard = part[: groups * step].reshape(groups, step, -1).mean(1, dtype=np.float64)
        # An offset and hum are no speech, and their energy falls faster than that of speech.
        high, centred = np.diff(heard, axis=0), heard - heard.mean(0)
        products = high.T @ high
        apart = float(np.trace(products))
        higher = np.diff(high, axis=0)
        energy = np.square(centred).sum()
        speech = np.square(higher).sum() >= _LEAST_HIGH * energy
        speech |= np.square(centred.mean(1)).sum() <= _NOTHING * energy  # whatever it is, it is all
        if not np.isfinite(products).all() or apart <= 1e-12 * groups or not speech:
            return None
        return float(products.sum()) / apart, products


def mono(frames: Samples, sample_rate: int) -> Samples:
    """Mix `frames` [T, C] at `sample_rate` Hz into [T]."""
    mixer = Mixer(frames.shape[1], sample_rate)
    return np.concatenate([mixer.add(frames), mixer.finish()])


def mono_blocks(blocks: Iterator[Samples], channels: int, sample_rate: int) -> Iterator[Samples]:
    """Mix blocks [T, C] of one recording into blocks [T']."""
    mixer = Mixer(channels, sample_rate)
    for block in blocks:
        yield mixer.add(block)
    yield mixer.finish()
