"""`knnvc anonymize`: a pseudo-voice for every speaker."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from knnvc.cli.common import (
    COMPUTING,
    FORCE,
    PRESET,
    Progress,
    check_pairs,
    each,
    existing,
    load,
    say,
)
from knnvc.cli.derive import collect
from knnvc.errors import UsageError
from knnvc.options import LoadOptions

PER = ("speaker", "utterance")
POOL = click.option(
    "--pool",
    "pools",
    multiple=True,
    default=("voices",),
    show_default=True,
    metavar="DIR",
    help="Where pseudo-voices come from: a folder with a folder or a recording for every voice, or "
    "voices for the ready ones. Repeat for more.",
)
BLEND = click.option(
    "--blend",
    type=click.IntRange(min=1),
    help="Voices in a pseudo-voice.  [default: 3, fewer with a small pool]",
)
PER_OPTION = click.option(
    "--per",
    type=click.Choice(PER),
    default="speaker",
    show_default=True,
    help="Whether a speaker keeps one pseudo-voice, or every recording gets another.",
)


def blend_of(blend: int | None, pool: int) -> int:
    """How many voices are blended: 3, or as many as a pool allows."""
    return blend if blend is not None else max(1, min(3, pool // 2))


@click.command()
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@PER_OPTION
@POOL
@BLEND
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="The key: the same one gives the same pseudo-voices, and lets a stopped run go on. Keep "
    "it secret.  [default: a new one, which nobody knows]",
)
@PRESET
@COMPUTING
@FORCE
def anonymize(
    source: str,
    output: str,
    per: str,
    pools: tuple[str, ...],
    blend: int | None,
    seed: int | None,
    force: bool,
    **given: Any,
) -> None:
    """Give every speaker in the folder IN another voice; the results go to the folder OUT.

    A pseudo-voice is a blend of voices that are unlike the speaker's own: of the pool, the half
    that is nearer to the speaker is left out. Speakers are the folders in IN (LibriSpeech and VCTK
    are read so); a folder without folders is one speaker.

    `knnvc evaluate --privacy` measures what an attacker still finds out.

    \b
    knnvc anonymize interviews/ hidden/
    knnvc anonymize interviews/ hidden/ --per utterance --pool LibriSpeech/dev-clean
    """
    folder, target = _folders(source, output)
    loaded = collect(LoadOptions, given)
    with Progress() as progress:
        from knnvc.evaluation.anonymising import UNPROTECTED, Anonymiser, find_pool, speakers_of

        speakers = speakers_of(folder)
        pool = find_pool(pools)
        todo = _todo(speakers, folder, target, force, seed is not None)
        from knnvc.evaluation.verifiers import Resemblyzer

        verifier = Resemblyzer()  # says what is missing before anything is loaded
        converter = load(loaded, progress)
        key = secrets.randbits(63) if seed is None else seed
        system = Anonymiser(converter, verifier, pool, key, blend_of(blend, len(pool)))
        _warn_of_few(pool, progress)
        who = {path: name for name, paths in speakers.items() for path in paths}
        voices: dict[str, Any] = {}

        def work(path: Path, made: Path) -> None:
            progress("anonymising", todo.index((path, made)), len(todo))
            single = per == "utterance"
            called = str(path.relative_to(folder)) if single else who[path]
            if called not in voices:
                heard = [path] if single else speakers[who[path]]
                voices[called] = system.choose(called, system.embedding(heard))
            system.convert_file(path, voices[called], made)

        each(todo, work, progress)
    say(UNPROTECTED)


def _folders(source: str, output: str) -> tuple[Path, Path]:
    """The folders of sources and results, which are two."""
    folder, target = existing(source, "source"), Path(output)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: name a folder of recordings")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; name a folder for the results")
    if target.resolve() == folder.resolve() or folder.resolve() in target.resolve().parents:
        raise UsageError(f"{target} lies in {folder}: name another folder for the results")
    return folder, target


def _todo(
    speakers: dict[str, list[Path]], folder: Path, target: Path, force: bool, keyed: bool
) -> list[tuple[Path, Path]]:
    """Recordings and what they become; with a key, what is there already is left."""
    pairs = [
        (path, target / path.relative_to(folder).with_suffix(".wav"))
        for paths in speakers.values()
        for path in paths
    ]
    left = [pair for pair in pairs if not pair[1].exists()]
    todo = left if keyed and not force else pairs
    check_pairs(todo, force)
    return todo


def _warn_of_few(pool: dict[str, Path], progress: Progress) -> None:
    from knnvc.evaluation.anonymising import FEW_VOICES

    if len(pool) < FEW_VOICES:
        progress.close()
        say(
            f"Warning: the pool has {len(pool)} voices, so pseudo-voices can be guessed: name more "
            "with --pool",
            error=True,
        )
