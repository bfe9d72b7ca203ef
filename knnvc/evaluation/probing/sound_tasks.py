"""HEAR-style tasks on sounds that are no speech: synthesised notes, and short samples by kind.

HEAR: Turian et al. 2022, https://arxiv.org/abs/2203.03022. Notes are played by a soundfont through
tinysoundfont (Debian's timgm6mb-soundfont, say); nothing is downloaded.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from knnvc.errors import UsageError
from knnvc.evaluation.probing.base import (
    CLASSIFY,
    EVENTS,
    HEAR,
    PARTS,
    Event,
    Example,
    Floats,
    Places,
    Task,
    dealt,
)
from knnvc.extras import need
from knnvc.files import AUDIO_SUFFIXES

RATE = 44_100  # Hz, of synthesised sound
NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
LOWEST, HIGHEST = 48, 71  # MIDI numbers, C3 to B4: two octaves
# General MIDI: piano, celesta, vibraphone, organ, accordion, guitar, bass, violin, cello, strings,
# choir, trumpet, brass, saxophone, oboe, clarinet, flute, recorder, synth lead, sitar.
PROGRAMS = (0, 8, 11, 16, 21, 24, 32, 40, 42, 48, 52, 56, 61, 65, 68, 71, 73, 74, 80, 104)
NOTE_SECONDS = 1.2
MELODY_NOTES = 16
MELODIES = 60
LEAST_SAMPLES = 8  # sounds of a kind
MOST_SAMPLE_SECONDS = 6.0


def note_examples(places: Places, seed: int) -> list[Example]:
    """Single notes of many instruments; the test has other instruments."""
    parts = dealt([str(one) for one in PROGRAMS], seed)
    rng = np.random.default_rng(seed)
    made = []
    for program, part in zip(PROGRAMS, parts, strict=True):
        for pitch in range(LOWEST, HIGHEST + 1):
            if places.most and rng.random() > places.most / (24 * len(PROGRAMS)):
                continue
            played = _play(places.soundfont, ((0.0, 0.9, pitch, 100),), program, NOTE_SECONDS)
            name = f"program {program}, note {pitch}"
            made.append(Example(name, (played, RATE), NAMES[pitch % 12], part, str(program)))
    return made


def melody_examples(places: Places, seed: int) -> list[Example]:
    """Melodies, now and then two notes at once; the test has other instruments."""
    parts = dealt([str(one) for one in PROGRAMS], seed)
    rng = np.random.default_rng(0)  # the same melodies whatever the parts
    count = min(MELODIES, max(3 * 3, places.most)) if places.most else MELODIES
    made = []
    for number in range(count):
        program = PROGRAMS[number % len(PROGRAMS)]
        notes, at = [], 0.1
        for _ in range(MELODY_NOTES):
            length = float(rng.choice([0.2, 0.3, 0.45]))
            for pitch in rng.choice(range(LOWEST, HIGHEST + 1), 1 + (rng.random() < 0.25), False):
                notes.append((at, at + length - 0.02, int(pitch), 100))
            at += length
        played = _play(places.soundfont, tuple(notes), program, at + 0.3)
        events = tuple(Event(start, end, str(pitch)) for start, end, pitch, _ in notes)
        part = parts[PROGRAMS.index(program)]
        made.append(Example(f"melody {number}", (played, RATE), events, part))
    return made


def sample_examples(places: Places, seed: int) -> list[Example]:
    """Short sounds by the first word of their file's name."""
    folder = places.samples
    if folder is None or not folder.is_dir():
        raise UsageError(
            f"there is no folder of sounds {folder or ''}: name one with --sounds (Debian's "
            "sonic-pi-samples has some)"
        )
    files = sorted(one for one in folder.iterdir() if one.suffix.lower() in AUDIO_SUFFIXES)
    files = [one for one in files if "_" in one.stem and _seconds(one) <= MOST_SAMPLE_SECONDS]
    counts = Counter(one.stem.split("_")[0] for one in files)
    made = []
    for label in sorted(label for label, count in counts.items() if count >= LEAST_SAMPLES):
        own = [one for one in files if one.stem.split("_")[0] == label]
        parts = dealt([one.stem for one in own], seed)
        made += [Example(one.stem, one, label, part) for one, part in zip(own, parts, strict=True)]
    if not made or {one.part for one in made} != set(PARTS):
        raise UsageError(f"{folder} has too few sounds: {LEAST_SAMPLES} of a kind are needed")
    return made


def _seconds(path: Path) -> float:
    info: Any = need("soundfile").info(str(path))
    return float(info.frames / info.samplerate)


Note = tuple[float, float, int, int]
"""Start and end in seconds, MIDI number and velocity."""


@lru_cache(maxsize=2048)
def _play(soundfont: Path | None, notes: tuple[Note, ...], program: int, seconds: float) -> Floats:
    """Samples [S] of some notes at `RATE`.

    Raises:
        UsageError: there is no soundfont, or tinysoundfont is not installed.
    """
    if soundfont is None or not soundfont.is_file():
        raise UsageError(
            f"there is no soundfont {soundfont or ''}: name an .sf2 file with --soundfont "
            "(Debian's timgm6mb-soundfont has one)"
        )
    synth, preset = _synth(soundfont)
    synth.sounds_off(0)
    synth.program_select(0, preset, 0, program)
    changes = sorted(
        [(start, 1, pitch, speed) for start, _, pitch, speed in notes]
        + [(end, 0, pitch, 0) for _, end, pitch, _ in notes]
    )
    pieces, done = [], 0
    for at, on, pitch, speed in changes:
        pieces.append(_more(synth, round(at * RATE) - done))
        done = max(done, round(at * RATE))
        if on:
            synth.noteon(0, pitch, speed)
        else:
            synth.noteoff(0, pitch)
    pieces.append(_more(synth, round(seconds * RATE) - done))
    mono: Floats = np.concatenate(pieces)
    loudest = np.abs(mono).max()
    return mono * np.float32(0.5 / loudest) if loudest > 0 else mono


def _more(synth: Any, samples: int) -> Floats:
    if samples <= 0:
        return np.zeros(0, np.float32)
    stereo = np.frombuffer(bytes(synth.generate(samples)), np.float32).reshape(-1, 2)
    mono: Floats = stereo.mean(1)
    return mono


@lru_cache(maxsize=1)
def _synth(soundfont: Path) -> tuple[Any, int]:
    try:
        package = need("tinysoundfont")
    except UsageError as error:
        raise UsageError("this needs tinysoundfont: run `pip install --no-deps tinysoundfont`") \
            from error  # fmt: skip
    synth = package.Synth(samplerate=RATE, gain=0)
    try:
        return synth, synth.sfload(str(soundfont))
    except Exception as error:
        raise UsageError(f"{soundfont} is no soundfont: give an .sf2 file") from error


SOUND_TASKS = (
    Task(
        "notes", HEAR, CLASSIFY,
        "pitch class of a note (as HEAR's NSynth Pitch)",
        f"two octaves on {len(PROGRAMS)} instruments of a General MIDI soundfont; instruments of "
        "the test are not heard before",
        "12 pitch classes on synthesised notes instead of 88 pitches; one hidden layer of 256 "
        "instead of a search",
        note_examples,
        hidden=256,
    ),
    Task(
        "melodies", HEAR, EVENTS,
        "which note begins when (time-stamped, as HEAR's MAESTRO)",
        f"{MELODIES} random melodies, now and then two notes at once, on the same instruments",
        "synthesised melodies over two octaves instead of piano concerts; one hidden layer of 256",
        melody_examples,
        hidden=256,
    ),
    Task(
        "samples", HEAR, CLASSIFY,
        "kind of a short sound (as HEAR's Mridangam Stroke and FSD50K)",
        "drums, tabla, electronics, loops: a folder of samples named after their kind",
        "about 130 sounds instead of thousands, so intervals are wide; music rather than "
        "environment",
        sample_examples,
        hidden=256,
    ),
)  # fmt: skip
