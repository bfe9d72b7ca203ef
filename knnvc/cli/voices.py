"""`knnvc voices`: the ready voices that `--ref voice:NAME` understands, and those of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.common import FORCE, Progress, check_free, is_audio, say, say_path, table
from knnvc.errors import UsageError
from knnvc.files import AUDIO_OUTPUT

if TYPE_CHECKING:
    from knnvc.voices.ready import Card, Voice

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
ENOUGH = 40  # seconds of a voice, with fewer of which results sound less like it


@click.group(invoke_without_command=True)
@JSON
@click.pass_context
def voices(context: click.Context, as_json: bool) -> None:
    """List the ready voices, for --ref voice:NAME, and manage your own.

    \b
    knnvc convert talk.wav --ref voice:emma
    knnvc voices add recordings/ --name Anna
    """
    if context.invoked_subcommand is None:
        _say_list(as_json)


@voices.command("list")
@JSON
def list_command(as_json: bool) -> None:
    """List the ready voices with what is known about them."""
    _say_list(as_json)


def _say_list(as_json: bool) -> None:
    from knnvc.voices.ready import FOLDER_VARIABLE, folders, list_voices

    with Progress():
        found = list_voices()
    if as_json:
        say(json.dumps({name: _values(voice) for name, voice in found.items()}, indent=1))
        return
    if not found:
        where = ", ".join(str(folder) for folder in folders())
        say(f"no ready voices in {where}; name a folder that has some in {FOLDER_VARIABLE}")
        return
    width = max(map(len, found))
    for name, voice in found.items():
        say(f"{name:<{width}}  {_line(voice.card)}{' (yours)' if voice.own else ''}")


def _line(card: Card) -> str:
    """What is known, in one line."""
    sound = [card.sex, card.accent]
    sound += [] if card.pitch is None else [f"{card.pitch:.0f} Hz"]
    sound += [] if card.distillmos is None else [f"DistillMOS {card.distillmos:.1f}"]
    said = ", ".join(part for part in sound if part)
    return f"{said or 'not described'}; {card.seconds:.0f} s; {card.source}, {card.licence}"


def _values(voice: Voice) -> dict[str, Any]:
    """A voice for JSON."""
    import dataclasses

    return {**dataclasses.asdict(voice.card), "path": str(voice.path), "own": voice.own}


@voices.command()
@click.argument("name")
@JSON
def info(name: str, as_json: bool) -> None:
    """Tell all that is known about a voice."""
    from knnvc.voices.ready import find

    with Progress():
        voice = find(name)
    if as_json:
        say(json.dumps({"name": voice.name, **_values(voice)}, indent=1))
        return
    say_path(voice.path)
    card = voice.card
    rows = [
        ("voice", voice.name + (" (yours)" if voice.own else "")),
        ("sounds", ", ".join(part for part in (card.sex, card.accent) if part)),
        ("pitch", "" if card.pitch is None else f"{card.pitch:.0f} Hz"),
        ("speech", f"{card.seconds:.1f} s, {_size(voice.path)}"),
        ("sentences", "" if card.sentences is None else str(card.sentences)),
        ("source", card.source),
        ("licence", card.licence),
        ("DistillMOS", "" if card.distillmos is None else f"{card.distillmos:.2f}"),
        ("WER", "" if card.wer is None else f"{card.wer:.1f} %"),
    ]
    table([(key, value) for key, value in rows if value])


def _size(path: Path) -> str:
    import soundfile

    kilobytes = f"{path.stat().st_size / 1000:,.0f} kB"
    try:
        return f"{soundfile.info(str(path)).samplerate} Hz, {kilobytes}"
    except soundfile.SoundFileError:
        return f"{kilobytes}, damaged"


@voices.command()
@click.argument("name")
@click.option(
    "-o", "--output", metavar="PATH", help="Output file.  [default: NAME_preview.wav here]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=600),
    default=6.0,
    show_default=True,
    help="How much of the voice.",
)
@FORCE
def preview(name: str, output: str | None, seconds: float, force: bool) -> None:
    """Write a few seconds of a voice, to listen to."""
    from knnvc.voices.library import preview as write
    from knnvc.voices.ready import find

    with Progress():
        target = Path(output or f"{find(name).name}_preview.wav")
        if not is_audio(target):
            raise UsageError(f"cannot write {target}: end it in {', '.join(AUDIO_OUTPUT)}")
        check_free(target, force)
        say_path(write(name, target, seconds, force=force))


@voices.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECORDINGS...|FILE.zip")
@click.option("--name", help="Name of the voice.  [default: the folder's or file's name]")
@click.option("--licence", default="", help="On what terms the voice may be used.")
@click.option("--sex", type=click.Choice(["woman", "man"]), help="How the voice sounds.")
@click.option("--accent", default="", help="The speaker's accent or language.")
@FORCE
def add(
    sources: tuple[str, ...],
    name: str | None,
    licence: str,
    sex: str | None,
    accent: str,
    force: bool,
) -> None:
    """Add a voice of your own, made of recordings of one speaker.

    A FILE.zip that `knnvc voices export` wrote adds the voices in it. Add only voices whose
    speakers agreed.

    \b
    knnvc voices add anna/ --name Anna --licence "by consent, not to be passed on"
    knnvc voices add voices.zip
    """
    from knnvc.cli.common import existing
    from knnvc.voices.library import add as make
    from knnvc.voices.library import add_archive

    paths = [existing(source, "recording") for source in sources]
    archives = [path for path in paths if path.suffix.lower() == ".zip"]
    if archives and (len(archives) < len(paths) or name):
        raise UsageError("an archive has its own names: add it alone, without --name")
    with Progress() as progress:
        if archives:
            for archive in archives:
                for voice in add_archive(archive, force=force):
                    say(f"added voice:{voice.name}")
            return
        chosen = paths[0].resolve().stem if name is None and len(paths) == 1 else name
        if chosen is None:
            raise UsageError("give the voice a name with --name")
        voice = make(
            paths,
            chosen,
            licence=licence,
            sex=sex or "",
            accent=accent,
            force=force,
            progress=progress,
        )
        progress.close()
    say(f"added voice:{voice.name}, {voice.card.seconds:.0f} s")
    if voice.card.seconds < ENOUGH:
        say(f"Warning: with {ENOUGH} s or more, results sound more like it", error=True)


@voices.command()
@click.argument("old")
@click.argument("new")
def rename(old: str, new: str) -> None:
    """Give a voice of your own another name."""
    from knnvc.voices.library import rename as change

    with Progress():
        say(f"voice:{change(old, new).name}")


@voices.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a voice of your own; the recordings it was made of stay."""
    from knnvc.voices.library import remove as delete

    with Progress():
        say(f"removed voice:{delete(name).name}")


@voices.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.argument("output", metavar="FILE.zip")
@click.option("--all", "everything", is_flag=True, help="All voices instead of NAME.")
@FORCE
def export(names: tuple[str, ...], output: str, everything: bool, force: bool) -> None:
    """Write voices into FILE.zip, for `knnvc voices add` on another computer.

    \b
    knnvc voices export Anna anna.zip
    knnvc voices export --all voices.zip
    """
    from knnvc.voices.library import export as write
    from knnvc.voices.ready import list_voices

    target = Path(output)
    if target.suffix.lower() != ".zip":
        raise UsageError(f"voices are exported into a file named FILE.zip, not {output}")
    if bool(names) == everything:
        raise UsageError("name the voices to export, or pass --all")
    check_free(target, force)
    with Progress():
        write(list(list_voices()) if everything else names, target, force=force)
    say_path(target)
