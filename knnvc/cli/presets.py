"""`knnvc preset new` and `knnvc preset import`: presets of any encoder and any vocoder."""

from __future__ import annotations

from pathlib import Path

import click

from knnvc.cli.common import FORCE, Progress, say, say_path
from knnvc.errors import UsageError

_CONFIG = click.option(
    "--vocoder-config",
    metavar="FILE",
    help="config.json or config.yaml of the vocoder.  [default: the one beside it]",
)
_NAME = click.option("--name", help="Name of the preset.  [default: the folder's name]")


@click.command("import")
@click.option(
    "--encoder",
    required=True,
    metavar="FILE",
    help="Published file (WavLM-Large.pt, wav2vec_large.pt, ...), a folder of transformers, or a "
    "name of `knnvc encoders`.",
)
@click.option(
    "--layer",
    type=int,
    metavar="L",
    help="To match in; -1 is the last, normed.  [default: 6 of WavLM, else the encoder's own]",
)
@click.option(
    "--vocoder",
    required=True,
    metavar="FILE",
    help="Published file of HiFi-GAN, BigVGAN, ssl-vocoders or Vocos.",
)
@_CONFIG
@_NAME
@FORCE
@click.argument("folder", metavar="DIR")
def preset_import(
    encoder: str,
    layer: int | None,
    vocoder: str,
    vocoder_config: str | None,
    name: str | None,
    force: bool,
    folder: str,
) -> None:
    """Turn published checkpoint files into a preset folder DIR."""
    from knnvc.presets.catalogue import ENCODERS, find_known

    named = find_known(ENCODERS, encoder) is not None or Path(encoder).is_dir()
    for path in (None if named else encoder, vocoder, vocoder_config):
        if path is not None and not Path(path).is_file():
            raise UsageError(f"{path} does not exist or is no file; check the path")
    from knnvc.presets.building import import_any

    with Progress():
        made = import_any(
            encoder, layer, vocoder, vocoder_config, Path(folder), force=force, name=name
        )
    say_path(made.folder)


@click.command("new")
@click.option(
    "--encoder",
    metavar="NAME",
    help="A name of `knnvc encoders`, a preset, a published file, or a model of transformers.  "
    "[default: what the vocoder reads]",
)
@click.option("--layer", type=int, metavar="L", help="Of the encoder; -1 is the last, normed.")
@click.option("--weights", metavar="FILE", help="The encoder's published file, if you bring it.")
@click.option(
    "--vocoder",
    metavar="NAME",
    help="A name of `knnvc vocoders`, or a published file. Without one the preset encodes and "
    "matches, and you train a vocoder for it.",
)
@_CONFIG
@_NAME
@FORCE
@click.argument("folder", metavar="DIR")
def preset_new(
    encoder: str | None,
    layer: int | None,
    weights: str | None,
    vocoder: str | None,
    vocoder_config: str | None,
    name: str | None,
    force: bool,
    folder: str,
) -> None:
    """Make a preset folder DIR of an encoder and, if there is one, a vocoder.

    \b
    knnvc preset new --encoder hubert-base --layer 9 my-hubert
    knnvc train prematch --preset my-hubert --corpus LibriSpeech/train-clean-100
    knnvc train vocoder --corpus LibriSpeech/train-clean-100 --out runs/hubert
    knnvc preset new --encoder my-hubert --vocoder runs/hubert/g_02500000.pt my-preset
    """
    from knnvc.presets.building import new_preset

    with Progress() as progress:
        made = new_preset(
            encoder,
            layer,
            Path(folder),
            vocoder=vocoder,
            vocoder_config=None if vocoder_config is None else Path(vocoder_config),
            weights=None if weights is None else Path(weights),
            name=name,
            force=force,
            progress=progress,
        )
    say_path(made.folder)
    if made.vocoder is None:
        say(
            f"It has no vocoder yet: `knnvc train prematch --preset {folder}`, then "
            "`knnvc train vocoder`.",
            error=True,
        )
