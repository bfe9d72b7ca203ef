"""`knnvc speak`: text in the voice of --ref."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.batch import CACHE
from knnvc.cli.common import (
    COMPUTING,
    FORCE,
    PRESET,
    Progress,
    check_free,
    check_references_kept,
    is_audio,
    label,
    load,
    parse_references,
    say_path,
    table,
)
from knnvc.cli.derive import collect, options
from knnvc.cli.pipes import RAW, STREAM, raw_of, write_sound, writes_pipe
from knnvc.errors import KnnvcError, UsageError
from knnvc.files import AUDIO_OUTPUT
from knnvc.options import LoadOptions, SpeakOptions
from knnvc.voices.ready import DEFAULT

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
    help="Recordings of the target speaker, as for `knnvc convert`.  [default: "
    f"{DEFAULT}; with --lam 0 the front end's own voice]",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3); - is standard output.  "
    "[default: speech_as_REF.wav here]",
)
@RAW
@PRESET
@options(
    SpeakOptions,
    lam="0 to 2: 1 is nothing but the target's frames, 0 the front end's own voice, more than 1 "
    "goes past the target.",
)
@click.option(
    "--languages",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_languages,
    help="List the languages and exit.",
)
@COMPUTING
@CACHE
@FORCE
def speak(
    text: str | None,
    file: str | None,
    refs: tuple[str, ...],
    output: str | None,
    raw: str | None,
    lexicon: str | None,
    cache: bool,
    force: bool,
    **given: Any,
) -> None:
    """Say TEXT, or what comes through a pipe, in the voice of --ref.

    \b
    knnvc speak "Good morning."
    echo "Good morning." | knnvc speak --ref voice:george -o - | ffplay -
    knnvc speak "Good morning." --ref voices/anna/ -o morning.wav
    knnvc speak -f article.txt --ref voice:emma --speed 1.1
    knnvc speak -f film.srt --ref voice:emma
    """
    chosen, loaded = collect(SpeakOptions, given), collect(LoadOptions, given)
    if not refs and chosen.lam != 0:
        refs = (DEFAULT,)
    wanted: list[Any] | None = parse_references(refs) if refs else None
    to_pipe = writes_pipe(output, raw)
    form = raw_of(raw)
    target = Path(STREAM)
    if not to_pipe:
        target = _output(output, "own_voice" if wanted is None else f"as_{label(wanted)}", force)
        check_references_kept([(target, target)], wanted or [])
    own = _lexicon(lexicon)
    text = _text(text, file)
    from knnvc.presets.search import find_preset
    from knnvc.text.documents import kind_of, read_document

    found = find_preset(loaded.preset, configs=False)
    if found.text_front_end is None:
        raise UsageError(
            f"preset {found.name!r} has no text front end, so it cannot speak; choose another "
            "--preset (see `knnvc preset list`)"
        )
    name = "" if file in (None, "-") else str(file)
    chosen = replace(chosen, lexicon=own, kind=chosen.kind or kind_of(name, text))
    # Whether there is something to say is found out before weights are loaded; it warns later.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        language = chosen.language or found.text_front_end.settings["language"]
        read_document(text, str(chosen.kind), language, own)
    with Progress() as progress:
        converter = load(loaded, progress)
        if to_pipe:
            made, rate = converter.speak(text, wanted, chosen, progress, cache=cache)
            progress.close()
            write_sound(made, rate, form)
            return
        converter.speak_file(
            text, wanted, target, chosen, force=force, progress=progress, cache=cache
        )
    say_path(target)


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
    missing = UsageError("there is no text; give it in quotes, as -f FILE, or through a pipe")
    piped = text is None and file is None
    if piped and (sys.stdin is None or sys.stdin.isatty()):
        raise missing
    if text is not None and text != "-":
        return text
    name = "stdin" if piped or "-" in (text, file) else str(file)
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
    if piped and not content.strip():
        raise missing
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise KnnvcError(f"{name} is no UTF-8 text; save it as UTF-8") from error
