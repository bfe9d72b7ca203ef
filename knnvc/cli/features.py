"""`knnvc features` and `knnvc encoders`: what encoders make of recordings, and which there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from knnvc.cli.common import FORCE, Progress, check_free, each, existing, say, set_threads
from knnvc.cli.derive import collect, options
from knnvc.errors import UsageError
from knnvc.files import list_folder
from knnvc.options import DEFAULT_PRESET, LoadOptions

_SUFFIX = ".safetensors"


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="AUDIO...")
@click.option(
    "--encoder",
    default=DEFAULT_PRESET,
    show_default=True,
    metavar="NAME",
    help="A name of `knnvc encoders`, a preset, a published file, or a folder or hub name of a "
    "model of transformers.",
)
@click.option(
    "--layer",
    metavar="L",
    help="0 to the number of layers, -1 for the last one with the final layer norm, or all.  "
    "[default: the encoder's own]",
)
@click.option("--weights", metavar="FILE", help="The encoder's published file, if you bring it.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the encoder, such as mean=-5.5 for BYOL-A. Repeat for more.",
)
@click.option(
    "--pool",
    type=click.Choice(["none", "mean", "max", "mean+max"]),
    default="none",
    show_default=True,
    help="One vector of all frames.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output NAME.safetensors, or a folder; the folders inside an AUDIO folder are kept in "
    "it.  [default: AUDIO.safetensors here]",
)
@options(LoadOptions, "device", "threads", "chunk")
@FORCE
def features(
    sources: tuple[str, ...],
    encoder: str,
    layer: str | None,
    weights: str | None,
    settings: tuple[str, ...],
    pool: str,
    output: str | None,
    force: bool,
    **given: Any,
) -> None:
    """Write what an encoder makes of AUDIO: a tensor `features`, [T, D] or [L, T, D].

    The file's metadata say which encoder and layer, its rate and hop, and how many frames a second.

    \b
    knnvc features talk.wav --encoder hubert-base --layer 9 -o talk.safetensors
    knnvc features corpus/ --encoder wavlm-large --layer all -o features/
    """
    loaded = collect(LoadOptions, given)
    chosen = parse_layer(layer)
    config = dict(_setting(one) for one in settings)
    plan = _plan(sources, output, force)
    with Progress() as progress:
        set_threads(loaded.threads)
        from knnvc.encoding import write_features
        from knnvc.presets.named import open_encoder

        made = open_encoder(
            encoder,
            chosen,
            loaded.device,
            weights=weights,
            config=config,
            chunk=loaded.chunk,
            progress=progress,
        )
        about = {"encoder": encoder, "layer": "own" if layer is None else layer, "pool": pool}
        each(
            plan,
            lambda source, target: write_features(
                source, target, made, chosen, about, force=force, progress=progress
            ),
            progress,
        )


def parse_layer(text: str | None) -> int | str | None:
    """The number of a layer, or "all".

    Raises:
        UsageError: it is neither.
    """
    if text is None or text == "all":
        return text
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"--layer is {text[:20]!r}: give a whole number, or all") from error


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text[:40]!r} says nothing: give KEY=VALUE")
    for kind in (int, float):
        try:
            return name.strip(), kind(value)
        except ValueError:
            continue
    words = {"true": True, "false": False, "none": None}
    return name.strip(), words.get(value.strip().lower(), value)


def _plan(sources: tuple[str, ...], output: str | None, force: bool) -> list[tuple[Path, Path]]:
    """Pairs of recording and output, checked before anything is loaded."""
    found: list[tuple[Path, Path]] = []
    for source in sources:
        path = existing(source, "source")
        if path.is_dir():
            listing = list_folder(path)
            found += [(one, one.relative_to(path)) for one in listing.audio]
            if (sentence := listing.warning()) is not None:
                say(f"Warning: {sentence}.", error=True)
        else:
            found.append((path, Path(path.name)))
    one_file = output is not None and output.endswith(_SUFFIX)
    if one_file and len(found) > 1:
        raise UsageError(f"there are {len(found)} recordings; name a folder instead of {output}")
    if output is not None and not one_file and Path(output).is_file():
        raise UsageError(f"{output} is a file; name a folder, or NAME{_SUFFIX}")
    pairs = [
        (path, Path(output) if one_file and output else Path(output or ".") / _named(below))
        for path, below in found
    ]
    taken: dict[Path, Path] = {}
    for source_path, target in pairs:
        if target in taken:
            raise UsageError(
                f"{taken[target]} and {source_path} would both become {target}; do them apart"
            )
        taken[target] = source_path
        check_free(target, force)
    return pairs


def _named(below: Path) -> Path:
    return below.with_name(below.stem + _SUFFIX)


@click.command()
def encoders() -> None:
    """List the encoders by name: what they are, and whether their files are here."""
    from knnvc.presets.catalogue import ENCODERS

    width = max(map(len, ENCODERS))
    for known in ENCODERS.values():
        state = "here" if not known.missing else "not here"
        say(f"{known.name:<{width}}  {state:<8}  {known.summary}")
    say("\nFiles are downloaded when they are first used; what they are, and on which terms:")
    say("docs/encoders.md. Presets, published files and models of transformers are encoders, too.")
