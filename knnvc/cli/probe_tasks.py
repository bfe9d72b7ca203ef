"""`knnvc probe run`, `tasks` and `leaderboard`: encoders in the manner of SUPERB and HEAR."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from knnvc.cli.common import DEVICE, FORCE, Progress, say, say_path
from knnvc.errors import UsageError

FORMATS = ("text", "csv", "markdown", "latex")
SOUNDFONTS = ("/usr/share/sounds/sf2/TimGM6mb.sf2", "/usr/share/sounds/sf2/default-GM.sf2")
SAMPLES = "/usr/share/sonic-pi/samples"
FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Of the table that is printed and written.",
)


@click.command("run")
@click.argument("tasks", nargs=-1, metavar="[TASK...]")
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    default=("mini",),
    show_default=True,
    metavar="NAME",
    help="A preset, an encoder by name, or a checkpoint of transformers (hub name, or folder). "
    "Repeat to compare.",
)
@click.option(
    "--speech",
    default="../shared/speech",
    show_default=True,
    metavar="DIR",
    help="Folder with train/ and eval/, each with a manifest.csv (speaker, file, seconds, text).",
)
@click.option("--soundfont", metavar="FILE.sf2", help="For notes.  [default: Debian's, if there]")
@click.option(
    "--sounds",
    metavar="DIR",
    help="Short sounds named after their kind, as bd_808.flac.  [default: Debian's "
    "sonic-pi-samples, if there]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often parts are dealt and heads learn.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first of them.")
@click.option(
    "--most",
    type=click.IntRange(min=0),
    default=0,
    help="About so many examples of a task, for a quick look.  [default: all]",
)
@click.option(
    "-o",
    "--output",
    default="probes",
    show_default=True,
    metavar="DIR",
    help="Folder of the results.",
)
@FORMAT
@DEVICE
@FORCE
def run(
    tasks: tuple[str, ...],
    encoders: tuple[str, ...],
    speech: str,
    soundfont: str | None,
    sounds: str | None,
    seeds: int,
    seed: int,
    most: int,
    output: str,
    form: str,
    device: str,
    force: bool,
) -> None:
    """Ask frozen encoders what they know, as SUPERB and HEAR do.

    TASK is a task (`knnvc probe tasks` lists them), superb, hear or all, or a file of your own: a
    .csv with columns such as file and label, or a .py that defines TASK. Every layer gets a small
    head, and one more learns how much of each layer it takes.

    Results go into DIR, one file for each encoder and task, with a leaderboard of all that is
    there. A run that was stopped goes on when it is called again.

    \b
    knnvc probe run superb --encoder mini --encoder mfcc
    knnvc probe run emotions.csv --encoder mini -o emotions/
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the results")
    if len(set(encoders)) < len(encoders):
        raise UsageError("an --encoder is named twice")
    with Progress() as progress:
        from knnvc.evaluation.probing.base import Places
        from knnvc.evaluation.probing.named import check_name, hearing_of
        from knnvc.evaluation.probing.report import write
        from knnvc.evaluation.probing.run import (
            Options,
            choose_tasks,
            probe_all,
            read_results,
        )
        from knnvc.extras import require

        require(("matplotlib", "jiwer", "sklearn", "scipy"))
        chosen = choose_tasks(tasks)
        for name in encoders:
            check_name(name)
        places = Places(
            Path(speech),
            _first(soundfont, SOUNDFONTS),
            _first(sounds, (SAMPLES,)),
            most,
        )
        loaders = [(name, lambda name=name: hearing_of(name, device)) for name in encoders]

        def skipped(sentence: str) -> None:
            progress.close()
            say(f"Warning: {sentence}", error=True)

        probe_all(chosen, loaders, places, folder, Options(seeds, seed, force), progress, skipped)
        results = read_results(folder)
        text = write(results, folder, form)
    click.echo(text, nl=False)
    _say_files(folder, form)


@click.command("tasks")
def list_tasks() -> None:
    """List the tasks: what they ask, their data, and how they differ from the benchmark."""
    from knnvc.evaluation.probing.kinds import KINDS
    from knnvc.evaluation.probing.run import TASKS

    for task in TASKS.values():
        say(f"{task.name} ({task.benchmark}, {KINDS[task.kind].metric})")
        for name, told in (("", task.about), ("data: ", task.data), ("differs: ", task.deviations)):
            for line in textwrap.wrap(name + told, 94):
                say(f"    {line}")


@click.command()
@click.argument("folder", metavar="DIR", default="probes")
@FORMAT
def leaderboard(folder: str, form: str) -> None:
    """Print what DIR holds of all encoders: a leaderboard, and layers by tasks."""
    from knnvc.evaluation.probing.report import write
    from knnvc.evaluation.probing.run import read_results
    from knnvc.extras import require

    require(("matplotlib",))
    text = write(read_results(Path(folder)), Path(folder), form)
    click.echo(text, nl=False)
    _say_files(Path(folder), form)


def _say_files(folder: Path, form: str) -> None:
    from knnvc.evaluation.probing.report import BOARD, JSON, PLOT
    from knnvc.evaluation.tables import FORMATS as WRITERS

    for name in (JSON, PLOT, f"{BOARD}{WRITERS[form][0] or '.txt'}"):
        say_path(folder / name)


def _first(given: str | None, usual: tuple[str, ...]) -> Path | None:
    """What was named, or the first of the usual places that is there."""
    if given is not None:
        if not Path(given).exists():
            raise UsageError(f"{given} does not exist; check the path")
        return Path(given)
    return next((Path(one) for one in usual if Path(one).exists()), None)
