"""`knnvc voices`: the ready voices that `--ref voice:NAME` understands."""

from __future__ import annotations

import click

from knnvc.cli.common import say


@click.command()
def voices() -> None:
    """List the ready voices, for --ref voice:NAME.

    \b
    knnvc convert talk.wav --ref voice:emma
    """
    from knnvc.voices.ready import FOLDER_VARIABLE, folders, list_voices

    found = list_voices()
    if not found:
        where = ", ".join(str(folder) for folder in folders())
        say(f"no ready voices in {where}; name a folder that has some in {FOLDER_VARIABLE}")
        return
    width = max(map(len, found))
    for name, (_, card) in found.items():
        quality = "" if card.distillmos is None else f", DistillMOS {card.distillmos:.1f}"
        say(
            f"{name:<{width}}  {card.sex}, {card.accent}, {card.pitch:.0f} Hz{quality}; "
            f"{card.seconds:.0f} s for preset {card.preset}; {card.source}, {card.licence}"
        )
