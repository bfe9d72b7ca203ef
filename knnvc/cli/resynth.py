"""`knnvc resynth` and `knnvc vocoders`: copy-synthesis by any vocoder, and which there are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from knnvc.cli.common import (
    COMPUTING,
    FORCE,
    PRESET,
    Progress,
    check_free,
    each,
    load,
    plan_outputs,
    say,
    say_path,
    set_threads,
)
from knnvc.cli.derive import collect, options
from knnvc.errors import UsageError
from knnvc.options import ConvertOptions, LoadOptions

_ALL = "all"


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.option(
    "--vocoder",
    default="preset",
    show_default=True,
    metavar="NAME|all",
    help="A name of `knnvc vocoders`, a preset, or a published vocoder's file. preset: the one "
    "of --preset. all: every one whose files are here; needs --report.",
)
@click.option(
    "--vocoder-config",
    metavar="FILE",
    help="config.json or config.yaml of a vocoder's file.  [default: the one beside it]",
)
@click.option("--encoder", metavar="NAME", help="Whose features a vocoder's file reads.")
@click.option("--layer", type=int, metavar="L", help="Of that encoder; -1 is the last, normed.")
@click.option(
    "--report",
    is_flag=True,
    help="Measure: DistillMOS, DNSMOS, word errors, log-spectral distance, speed. The table is "
    "printed, and written to --output, a folder, as copies.md, .csv and .json beside the audio. "
    "NAME.txt beside NAME.wav is what is said in it.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3), or a folder.  [default: IN_VOCODER.wav here]",
)
@PRESET
@options(ConvertOptions, "loudness")
@COMPUTING
@FORCE
def resynth(
    sources: tuple[str, ...],
    vocoder: str,
    vocoder_config: str | None,
    encoder: str | None,
    layer: int | None,
    report: bool,
    output: str | None,
    loudness: str,
    force: bool,
    **given: Any,
) -> None:
    """Take IN apart and put it together again, to hear what a vocoder loses.

    \b
    knnvc resynth talk.wav --vocoder world
    knnvc resynth talk.wav --vocoder ssl-hubert-base -o copy.wav
    knnvc resynth recordings/ --vocoder all --report -o copies/
    """
    loaded = collect(LoadOptions, given)
    if report:
        _report(sources, vocoder, output, force, loaded)
        return
    if vocoder == _ALL:
        raise UsageError("--vocoder all makes a table: add --report")
    level = collect(ConvertOptions, {"loudness": loudness}).loudness
    suffix = "_" + (Path(vocoder).stem if Path(vocoder).exists() else vocoder)
    plan = plan_outputs(sources, output, force, suffix)
    with Progress() as progress:
        from knnvc.pipeline import resynthesize

        chosen: Any = vocoder
        if vocoder == "preset":
            chosen = load(loaded, progress)
        else:
            from knnvc.presets.copying import COPIES, open_copier

            set_threads(loaded.threads)
            if vocoder not in COPIES:
                chosen = open_copier(
                    vocoder,
                    loaded.device,
                    encoder=encoder,
                    layer=layer,
                    config=None if vocoder_config is None else Path(vocoder_config),
                    progress=progress,
                )
        each(
            plan,
            lambda source, target: resynthesize(
                source, target, chosen, loudness=level, force=force, progress=progress
            ),
            progress,
        )


def _report(
    sources: tuple[str, ...], vocoder: str, output: str | None, force: bool, loaded: LoadOptions
) -> None:
    if output is not None and Path(output).is_file():
        raise UsageError(f"{output} is a file; name a folder for the report")
    folder = None if output is None else Path(output)
    if folder is not None:
        for suffix in (".json", ".csv", ".md"):
            check_free(folder / f"copies{suffix}", force)
    plan = plan_outputs(sources, f"{output or 'copies'}/", True, "")
    with Progress() as progress:
        from knnvc.evaluation.copies import measure_copies, rows, text, write_report
        from knnvc.evaluation.instruments import Instruments
        from knnvc.presets.copying import here, open_copier

        ears = Instruments()
        set_threads(loaded.threads)
        present, absent = here()
        one = str(loaded.preset) if vocoder == "preset" else vocoder
        wanted = present if vocoder == _ALL else [one]
        copiers = [open_copier(name, loaded.device, progress=progress) for name in wanted]
        found = [source for source, _ in plan]
        measured = measure_copies(found, copiers, ears, folder, progress)
    say(text(rows(measured)))
    if vocoder == _ALL and absent:
        say(f"Not on this machine: {', '.join(absent)}.", error=True)
    if folder is not None:
        for path in write_report(folder, measured, ears.names(), absent):
            say_path(path)
    sys.stdout.flush()


@click.command()
def vocoders() -> None:
    """List the vocoders by name: what they are, and whether their files are here."""
    from knnvc.presets.catalogue import VOCODERS

    width = max(map(len, VOCODERS))
    for known in VOCODERS.values():
        state = "here" if not known.missing else "not here"
        say(f"{known.name:<{width}}  {state:<8}  {known.summary}")
    say("\nFiles are downloaded when they are first used; what they are, and on which terms:")
    say("docs/vocoders.md. Presets and published files are vocoders, too.")
