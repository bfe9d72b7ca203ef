"""`knnvc speak`: text in the voice of --ref."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.common import (
    DEVICE,
    FORCE,
    PRESET,
    TRIM,
    Progress,
    check_free,
    check_numbers,
    check_references_kept,
    is_audio,
    label,
    parse_references,
    say_path,
    table,
)
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import AUDIO_OUTPUT

if TYPE_CHECKING:
    from knnvc.text.lexicon import Lexicon

MOST_BYTES = 100_000_000  # of a text: more is no text but a mistake


def _languages(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from knnvc.text.espeak import languages

    # A Windows console or a pipe may know nothing but ASCII.
    table([(code, name.encode("ascii", "replace").decode()) for code, name in languages().items()])
    context.exit()


@click.command()
@click.argument("text", required=False)
@click.option("-f", "--file", metavar="FILE", help="Read the text from a UTF-8 file; - is stdin.")
@click.option(
    "--ref",
    "refs",
    multiple=True,
    metavar="PATH[:WEIGHT]",
    help="Recordings of the target speaker, as for `knnvc convert`; not needed with --lam 0.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3).  [default: speech_as_REF.wav here]",
)
@PRESET
@click.option(
    "--lam",
    type=float,
    help="0 to 2: 1 is nothing but the target's frames, 0 the front end's own voice, more than 1 "
    "goes past the target.  [default: the preset's, 1 for mini]",
)
@click.option("--k", type=int, help="Neighbours averaged per frame.  [default: the preset's, 4]")
@click.option("--speed", default=1.0, show_default=True, help="0.25 to 4: 2 is twice as fast.")
@click.option(
    "--noise", default=0.667, show_default=True, help="0 to 2: how freely the speech varies."
)
@click.option("--seed", default=0, show_default=True, help="Another number, another reading.")
@click.option(
    "--language",
    metavar="CODE",
    help="Language of the text, any that espeak-ng speaks.  [default: the front end's]",
)
@click.option(
    "--languages",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_languages,
    help="List the languages and exit.",
)
@click.option(
    "--lexicon",
    metavar="FILE",
    help="Your own pronunciations: lines of WORD, a tab and IPA, or WORD = spelling; or JSON.",
)
@click.option(
    "--loudness/--no-loudness", default=True, show_default=True, help="Normalise to -16 LUFS."
)
@TRIM
@DEVICE
@FORCE
def speak(
    text: str | None,
    file: str | None,
    refs: tuple[str, ...],
    output: str | None,
    preset: str,
    lam: float | None,
    k: int | None,
    speed: float,
    noise: float,
    seed: int,
    language: str | None,
    lexicon: str | None,
    loudness: bool,
    trim: bool,
    device: str,
    force: bool,
) -> None:
    """Say TEXT in the voice of --ref; - reads the text from stdin.

    \b
    knnvc speak "Good morning." --ref voices/anna/ -o morning.wav
    knnvc speak -f article.txt --ref voice:emma --speed 1.1
    """
    check_numbers(lam, k, None)
    _check_range("--speed", speed, 0.25, 4)
    _check_range("--noise", noise, 0, 2)
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed is {seed}: give a whole number from 0")
    if not refs and lam != 0:
        raise UsageError("--ref is missing; name recordings of a speaker, or give --lam 0")
    wanted: list[Any] | None = parse_references(refs) if refs else None
    target = _output(output, "own_voice" if wanted is None else f"as_{label(wanted)}", force)
    if wanted is not None:
        check_references_kept([(target, target)], wanted)
    own = _lexicon(lexicon)
    text = _text(text, file)
    from knnvc.presets.search import find_preset
    from knnvc.text.lines import read

    found = find_preset(preset)
    if found.text_front_end is None:
        raise UsageError(
            f"preset {found.name!r} has no text front end, so it cannot speak; choose another "
            "--preset (see `knnvc preset list`)"
        )
    # The first line tells whether there is one, before weights are loaded; it warns later.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        next(read(text, language or found.text_front_end.settings["language"], own))
    with Progress() as progress:
        from knnvc.options import SpeakOptions
        from knnvc.pipeline import VoiceConverter

        options = SpeakOptions(
            lam=lam,
            k=k,
            speed=speed,
            noise=noise,
            seed=seed,
            language=language,
            lexicon=own,
            loudness=loudness,
            trim=trim,
        )
        converter = VoiceConverter.from_preset(preset, device)
        converter.speak_file(text, wanted, target, options, force=force, progress=progress)
    say_path(target)


def _check_range(option: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{option} is {value}: give a number from {least:g} to {most:g}")


def _output(output: str | None, suffix: str, force: bool) -> Path:
    if output is not None and not output:
        raise UsageError("the output has an empty name; name a file")
    target = Path(f"speech_{suffix}.wav") if output is None else Path(output)
    if not is_audio(target):
        raise UsageError(f"cannot write {target}: end it in {', '.join(AUDIO_OUTPUT)}")
    check_free(target, force)
    return target


def _lexicon(path: str | None) -> Lexicon | None:
    if path is None:
        return None
    from knnvc.text.lexicon import Lexicon

    return Lexicon.load(path)


def _text(text: str | None, file: str | None) -> str:
    """The text to speak, from the command line, a file or stdin."""
    if text is not None and file is not None:
        raise UsageError("there are a TEXT and a --file; give one of them")
    if text is None and file is None:
        raise UsageError('there is no text; give it in quotes, as -f FILE, or "-" for stdin')
    if text is not None and text != "-":
        return text
    name = "stdin" if "-" in (text, file) else str(file)
    if name == "stdin":
        content = sys.stdin.buffer.read(MOST_BYTES + 1)
    else:
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"the text {name or repr(name)} does not exist or is no file")
        if path.stat().st_size > MOST_BYTES:
            raise KnnvcError(f"{name} is larger than {MOST_BYTES:,} bytes; split it")
        content = path.read_bytes()
    if len(content) > MOST_BYTES:
        raise KnnvcError(f"{name} is larger than {MOST_BYTES:,} bytes; split it")
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise KnnvcError(f"{name} is no UTF-8 text; save it as UTF-8") from error
