"""The user's own voices: made of recordings or taken from an archive, renamed, removed, exported.

An archive is a zip file with cards.json and the audio of the voices on it. Nothing is unpacked but
those files, into the folder of the user's own voices.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.files import atomic_path, find_audio, os_reason
from knnvc.progress import Progress
from knnvc.voices.ready import (
    CARDS,
    MOST_BYTES,
    SUFFIXES,
    Card,
    Voice,
    cards_text,
    find,
    folder_cards,
    is_name,
    list_voices,
    own_folder,
    read_cards,
    write_cards,
)

if TYPE_CHECKING:
    from torch import Tensor

MOST_RATE = 48_000  # Hz; of recordings with more, nothing above 24 kHz is kept
PAUSE = 0.12  # seconds of silence between two recordings: a short one between sentences
MOST_AUDIO = 1 << 30  # of a voice in an archive
UNKNOWN = "not stated"


def add(
    recordings: Sequence[str | Path],
    name: str,
    *,
    licence: str = "",
    sex: str = "",
    accent: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> Voice:
    """Make a voice of one's own from recordings of one speaker.

    Silence at the ends of each recording is cut off. They become one FLAC file, in the highest
    sample rate among them, so that nothing is lost for any preset.

    Args:
        recordings: files, and folders, in which damaged files are skipped with a warning.
        name: of the voice.
        licence: on what terms it may be used.
        sex: "woman" or "man".
        accent: of the speaker.
        force: replace a voice of one's own with this name.
        progress: told of recordings in per cent, as "references".

    Raises:
        UsageError: the name is taken or no name, or there are no recordings.
        KnnvcError: a recording cannot be used, or the voice not be written.
    """
    _check_free(name, force)
    named = [Path(one) for one in recordings]
    paths = [(path, one.is_dir()) for one in named for path in find_audio(one)]
    waveform, rate, used = _joined(paths, progress)

    from knnvc.audio import write_audio

    folder = own_folder()
    card = Card(
        source=", ".join(dict.fromkeys(one.resolve().name for one in named)),
        licence=licence or UNKNOWN,
        seconds=round(len(waveform) / rate, 1),
        sex=sex,
        accent=accent,
        pitch=_median_pitch(waveform, rate),
        sentences=used,
    )
    path = folder / f"{name}.flac"
    write_audio(path, waveform, rate, force=True)
    for suffix in SUFFIXES:
        if suffix != path.suffix:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)  # what it replaces
    write_cards(folder, folder_cards(folder) | {name: card})
    return Voice(name, path, card, own=True)


def _joined(
    paths: Sequence[tuple[Path, bool]], progress: Progress | None
) -> tuple[Tensor, int, int]:
    """All recordings as one signal [S], its rate in Hz, and of how many it was made."""
    import torch

    from knnvc.audio import load_audio, require_audio, trim_silence

    rate = max(16_000, min(MOST_RATE, max(_rate_of(path) for path, _ in paths)))
    parts: list[Tensor] = []
    for number, (path, skippable) in enumerate(paths):
        if progress:
            progress("references", 100 * number, 100 * len(paths))
        try:
            waveform = require_audio(load_audio(path, rate), str(path), sample_rate=rate)
        except KnnvcError as error:
            if not skippable:
                raise
            warnings.warn(f"skipped a recording: {error}", KnnvcWarning, stacklevel=3)
            continue
        parts += [trim_silence(waveform, rate), torch.zeros(round(PAUSE * rate))]
    if progress:
        progress("references", 100 * len(paths), 100 * len(paths))
    if not parts:
        raise KnnvcError("none of the recordings can be used; the warnings say why")
    return torch.cat(parts[:-1]), rate, len(parts) // 2


def _rate_of(path: Path) -> int:
    """Hz; 0 if the file cannot be read; `load_audio` says why."""
    import soundfile

    try:
        return int(soundfile.info(str(path)).samplerate)
    except (soundfile.SoundFileError, OSError):
        return 0


def _median_pitch(waveform: Tensor, rate: int) -> float | None:
    """Of all voiced frames, in Hz."""
    import numpy as np

    from knnvc.audio import SAMPLE_RATE, resample
    from knnvc.audio.pitch import f0_track

    wave = resample(waveform, rate, SAMPLE_RATE).numpy()
    f0 = f0_track(wave, len(wave) // 320)
    voiced = f0[f0 > 0]
    return round(float(np.median(voiced)), 1) if len(voiced) else None


def rename(old: str, new: str) -> Voice:
    """Give a voice of one's own another name.

    Raises:
        UsageError: there is no such voice, it came with knnvc, or the new name is taken.
        KnnvcError: the folder refuses.
    """
    voice = _own(old)
    if new.casefold() != voice.name.casefold():
        _check_free(new, force=False)
    elif not is_name(new):
        _check_free(new, force=True)
    folder = voice.path.parent
    path = folder / f"{new}{voice.path.suffix}"
    cards = folder_cards(folder)
    # Both names at first: a card without audio does no harm, audio without a card is lost.
    write_cards(folder, cards | {new: voice.card})
    try:
        os.replace(voice.path, path)
    except OSError as error:
        write_cards(folder, cards)
        raise KnnvcError(f"cannot rename {voice.path}: {os_reason(error)}") from error
    if new != voice.name:
        write_cards(
            folder, {n: c for n, c in (cards | {new: voice.card}).items() if n != voice.name}
        )
    return replace(voice, name=new, path=path)


def remove(name: str) -> Voice:
    """Delete a voice of one's own: its audio and its card.

    Raises:
        UsageError: there is no such voice, or it came with knnvc.
        KnnvcError: the folder refuses.
    """
    voice = _own(name)
    folder = voice.path.parent
    try:
        voice.path.unlink()
    except OSError as error:
        raise KnnvcError(f"cannot remove {voice.path}: {os_reason(error)}") from error
    write_cards(folder, {n: c for n, c in folder_cards(folder).items() if n != voice.name})
    return voice


def preview(name: str, output: Path, seconds: float = 6.0, *, force: bool = False) -> Path:
    """Write the first seconds of a voice's audio.

    Raises:
        UsageError: there is no such voice, or the output exists and `force` is False.
        KnnvcError: the audio is damaged, or the output cannot be written.
    """
    import soundfile
    import torch

    from knnvc.audio import load_audio, write_audio

    voice = find(name)
    rate = _rate_of(voice.path) or 16_000
    try:
        wave, rate = soundfile.read(
            str(voice.path), round(seconds * rate), dtype="float32", always_2d=True
        )
    except soundfile.SoundFileError:
        load_audio(voice.path)  # says what is wrong
        raise
    waveform = torch.from_numpy(wave.mean(axis=1))
    fade = min(len(waveform), rate // 20)
    waveform[len(waveform) - fade :] *= torch.linspace(1, 0, fade)
    write_audio(output, waveform, rate, force=force)
    return output


# Archives -----------------------------------------------------------------------------------------


def export(names: Sequence[str], output: Path, *, force: bool = False) -> list[Voice]:
    """Write voices into a zip file, for `add_archive` elsewhere.

    Raises:
        UsageError: there is no such voice, or the file exists and `force` is False.
        KnnvcError: a file cannot be read or written.
    """
    voices = {voice.name: voice for voice in map(find, names)}
    with (
        atomic_path(output, force=force) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr(CARDS, cards_text({n: voice.card for n, voice in voices.items()}))
        for voice in voices.values():
            archive.write(voice.path, voice.path.name)
    return list(voices.values())


def add_archive(path: Path, *, force: bool = False) -> list[Voice]:
    """Add the voices of a zip file that `export` wrote; those that are there already stay.

    Args:
        path: of the file.
        force: replace voices of one's own that have the same name.

    Returns:
        The voices that were added.

    Raises:
        KnnvcError: the file is damaged or holds no voices, or the folder refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpack(archive, path, force)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; check the path") from error
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise KnnvcError(f"{path} cannot be read as a zip file of voices ({error})") from error


def _unpack(archive: zipfile.ZipFile, path: Path, force: bool) -> list[Voice]:
    """The voices on the table of an archive. Only files with the names of those are read."""
    held = {one.filename: one for one in archive.infolist()}
    if CARDS not in held:
        raise KnnvcError(f"{path} holds no {CARDS}; give a file that `knnvc voices export` wrote")
    if held[CARDS].file_size > MOST_BYTES:
        raise KnnvcError(f"{path} is damaged: its {CARDS} is too large")
    try:
        text = archive.read(CARDS).decode("utf-8")
    except UnicodeDecodeError as error:
        raise KnnvcError(f"{path} is damaged: its {CARDS} is no text") from error
    folder, there = own_folder(), list_voices()
    taken = {name.casefold(): voice for name, voice in there.items()}
    added = []
    for name, card in read_cards(text, path / CARDS).items():
        entry = next((held[name + end] for end in SUFFIXES if name + end in held), None)
        known = taken.get(name.casefold())
        if entry is None:
            warnings.warn(f"skipped {name}: {path} lacks its audio", KnnvcWarning, stacklevel=3)
            continue
        if known and not (known.own and force):
            warnings.warn(
                f"skipped {name}: a voice of that name is there", KnnvcWarning, stacklevel=3
            )
            continue
        target = folder / entry.filename
        _extract(archive, entry, target)
        if known and known.path != target:
            with contextlib.suppress(OSError):
                known.path.unlink()
        write_cards(folder, folder_cards(folder) | {name: card})
        added.append(Voice(name, target, card, own=True))
    return added


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """One recording out of an archive, if it is one."""
    import shutil

    import soundfile

    if entry.file_size > MOST_AUDIO:
        raise KnnvcError(f"{entry.filename} in the archive is larger than a voice may be")
    with atomic_path(target) as temporary:
        with archive.open(entry) as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        try:
            soundfile.info(str(temporary))
        except soundfile.SoundFileError as error:
            raise KnnvcError(f"{entry.filename} in the archive is no recording") from error


def _own(name: str) -> Voice:
    voice = find(name)
    if not voice.own:
        raise UsageError(f"{voice.name} is no voice of your own: it stays as it is")
    return voice


def _check_free(name: str, force: bool) -> None:
    """The name can become a voice's: it is one, and no other voice has it."""
    if not is_name(name):
        raise UsageError(
            f"{name!r} is no name for a voice: give letters, digits, spaces and . + - _ between "
            "them, 64 signs at most"
        )
    for voice in list_voices().values():
        if voice.name.casefold() != name.casefold():
            continue
        if not voice.own:
            raise UsageError(f"there is a ready voice {voice.name}; choose another name")
        if not force or voice.name != name:
            raise UsageError(
                f"you have a voice {voice.name}; choose another name or pass --force to replace it"
            )
