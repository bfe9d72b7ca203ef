"""Sound through pipes: `-` is standard input or output, WAV or, with --raw, samples alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.common import Progress, check_free, check_references_kept, is_audio, load, say_path
from knnvc.errors import UsageError
from knnvc.files import AUDIO_OUTPUT
from knnvc.options import ConvertOptions, LoadOptions
from knnvc.sound_options import RawFormat, parse_raw

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

STREAM = "-"
RAW = click.option(
    "--raw",
    metavar="RATE:FORMAT[:CHANNELS]",
    help="Standard input and output hold samples without a header, such as 16000:s16le; else any "
    "format goes in and WAV comes out.",
)


def raw_of(raw: str | None) -> RawFormat | None:
    """What `--raw` says; None without it.

    Raises:
        UsageError: it says nothing that is known.
    """
    return None if raw is None else parse_raw(raw)


def writes_pipe(output: str | None, raw: str | None) -> bool:
    """Whether sound goes to standard output.

    Raises:
        UsageError: that is a terminal, or `raw` is given and it goes elsewhere.
    """
    if output != STREAM:
        if raw is not None:
            raise UsageError("--raw describes standard input and output: give -o -, too")
        return False
    _check_no_terminal()
    return True


def through_pipes(sources: tuple[str, ...], output: str | None, raw: str | None) -> bool:
    """Whether a conversion reads standard input or writes standard output.

    Raises:
        UsageError: there are more sources than one, or `raw` is given without a pipe.
    """
    if STREAM not in sources and output != STREAM:
        if raw is not None:
            raise UsageError("--raw describes standard input and output: name one of them as -")
        return False
    if len(sources) > 1 or Path(sources[0]).is_dir():
        raise UsageError("a pipe holds one recording: give one SRC alone with -")
    return True


def convert_stream(
    sources: tuple[str, ...],
    output: str | None,
    raw: str | None,
    wanted: list[Any],
    chosen: ConvertOptions,
    loaded: LoadOptions,
    *,
    cache: bool,
    force: bool,
) -> None:
    """Convert one recording from or to a pipe; without -o, what was piped in is piped out."""
    (source,) = sources
    form = raw_of(raw)
    target = None if output in (None, STREAM) else _file(str(output), source, wanted, force)
    if target is None:
        _check_no_terminal()
    elif source != STREAM:
        raise AssertionError("neither end is a pipe")
    with Progress() as progress:
        from knnvc.audio import load_audio, read_stream, require_audio, write_audio

        # The encoder's rate is known once the preset is loaded, and the pipe is read before.
        rate = 16_000
        if source == STREAM:
            if sys.stdin is None or sys.stdin.isatty():
                raise UsageError("no sound comes through standard input: pipe a recording into it")
            waveform = read_stream(sys.stdin.buffer, rate, raw=form)
            name = "standard input"
        else:
            if not Path(source).exists():
                raise UsageError(f"the source {source} does not exist; check the path")
            waveform, name = load_audio(source, rate), source
        require_audio(waveform, name, sample_rate=rate)
        converter = load(loaded, progress)
        voices = converter.voices(
            wanted, trim=chosen.trim, k=chosen.k or converter.k, progress=progress, cache=cache
        )
        made, out_rate = converter.convert((waveform, rate), voices, chosen, progress)
        progress.close()
        if target is None:
            write_sound(made, out_rate, form)
            return
        import torch

        from knnvc.pipeline import limited

        ready = limited(torch.as_tensor(made), out_rate, str(target))
        write_audio(target, ready, out_rate, force=force)
    say_path(target)


def write_sound(waveform: npt.NDArray[np.float32], sample_rate: int, raw: RawFormat | None) -> None:
    """Write `waveform` [S] at `sample_rate` Hz to standard output."""
    import torch

    from knnvc.audio import write_stream
    from knnvc.pipeline import limited

    ready = limited(torch.as_tensor(waveform), sample_rate, "the result")
    write_stream(sys.stdout.buffer, ready, sample_rate, raw=raw)


def _check_no_terminal() -> None:
    if sys.stdout is None or sys.stdout.isatty():
        raise UsageError("standard output is a terminal: pipe the sound on, or name a file with -o")


def _file(output: str, source: str, wanted: list[Any], force: bool) -> Path:
    target = Path(output)
    if target.is_dir() or output.endswith("/"):
        target = target / "stdin.wav"
    if not is_audio(target):
        raise UsageError(f"cannot write {target}: end it in {', '.join(AUDIO_OUTPUT)}")
    check_free(target, force)
    check_references_kept([(Path(source), target)], wanted)
    return target
