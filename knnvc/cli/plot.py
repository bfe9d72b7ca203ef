"""`knnvc plot`: pictures of what happens between a source and a reference."""

from __future__ import annotations

from collections.abc import Callable
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
    existing,
    reference,
    say,
    say_path,
)
from knnvc.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from knnvc.converters.matching_set import MatchingSet
    from knnvc.pipeline import VoiceConverter

REF = click.option(
    "--ref",
    required=True,
    metavar="PATH",
    help="Recordings of the target speaker: a folder, a file, a saved matching set, or voice:NAME.",
)


Command = Callable[..., Any]


def output(default: str) -> Callable[[Command], Command]:
    """The option -o of a picture."""
    return click.option(
        "-o",
        "--output",
        default=default,
        show_default=True,
        metavar="FILE.png",
        help="The picture.",
    )


@click.group()
def plot() -> None:
    """Draw what happens: frames, matching, spectrograms.

    \b
    knnvc plot frames anna/ ben/
    knnvc plot matching talk.wav --ref anna/
    knnvc plot spectrograms talk.wav --ref anna/
    """


@plot.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@output("frames.png")
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="Of projection.",
)
@click.option("--frames", "most", default=2000, show_default=True, help="At most, of each speaker.")
@click.option(
    "--link",
    "linked",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Join so many frames of A with their nearest frame of B by lines.",
)
@click.option("--seed", default=0, show_default=True, help="Of drawing frames.")
@PRESET
@TRIM
@DEVICE
@FORCE
def frames(
    a: str,
    b: str,
    output: str,
    method: str,
    most: int,
    linked: int,
    seed: int,
    preset: str,
    trim: bool,
    device: str,
    force: bool,
) -> None:
    """Project the frames of two speakers A and B to three dimensions.

    A and B are folders, recordings, saved matching sets, or voice:NAME. Writes a PNG and, beside
    it, an HTML page in which the cloud can be turned. With a preset that hears phones, as mini
    does, both say how often the nearest frame of the other speaker has the same phone.
    """
    picture = _picture(output, force)
    turned = picture.with_suffix(".html")
    check_free(turned, force)
    if most < 1:
        raise UsageError(f"--frames is {most}: give 1 or more")
    paths = [reference(a), reference(b)]
    _require(*(["umap"] if method == "umap" else []))
    with Progress() as progress:
        from knnvc.evaluation.cloud import write_cloud
        from knnvc.evaluation.figures import save_png
        from knnvc.evaluation.plots import (
            frames_caption,
            frames_figure,
            links_between,
            project,
            same_phone,
        )
        from knnvc.pipeline import VoiceConverter

        converter = VoiceConverter.from_preset(preset, device)
        sets = [converter.matching_set(path, trim=trim, progress=progress) for path in paths]
        names = [_name(one.info.speaker, path) for one, path in zip(sets, paths, strict=True)]
        if names[0] == names[1]:
            names = [f"{name} ({which})" for name, which in zip(names, "AB", strict=True)]
        voices = dict(zip(names, sets, strict=True))
        found = project(converter, voices, method, most, seed)
        share = same_phone(converter, voices)
        links = links_between(converter, voices, found, linked)
        title = f"Frames of {names[0]} and {names[1]} as {converter.name} compares them"
        caption = frames_caption(share, len(links))
        save_png(frames_figure(found, title, caption, links), picture, force=force)
        write_cloud(found.points, found.axes, title, caption, links, turned, force=force)
    say(caption)
    say_path(picture)
    say_path(turned)


@plot.command()
@click.argument("source", metavar="SRC")
@REF
@output("matching.png")
@click.option("--k", type=int, help="Neighbours of each frame.  [default: the preset's]")
@PRESET
@TRIM
@DEVICE
@FORCE
def matching(
    source: str,
    ref: str,
    output: str,
    k: int | None,
    preset: str,
    trim: bool,
    device: str,
    force: bool,
) -> None:
    """Draw distances between SRC and --ref, and the neighbours chosen."""
    check_numbers(None, k, None)
    picture, path, target = _checked(source, ref, output, force)
    with Progress() as progress:
        from knnvc.audio import SAMPLE_RATE
        from knnvc.evaluation.figures import save_png
        from knnvc.evaluation.plots import matching as match
        from knnvc.evaluation.plots import matching_figure

        wave, converter, voice = _loaded(path, target, preset, device, trim, progress)
        found = match(converter, converter.encode((wave, SAMPLE_RATE), progress), voice, k)
        name = _name(voice.info.speaker, target)
        save_png(matching_figure(found, wave.numpy(), path.stem, name), picture, force=force)
    say_path(picture)


@plot.command()
@click.argument("source", metavar="SRC")
@REF
@output("spectrograms.png")
@click.option("--lam", type=float, help="0 to 2, see `knnvc convert`.  [default: the preset's]")
@click.option("--k", type=int, help="Neighbours averaged.  [default: the preset's]")
@PRESET
@TRIM
@DEVICE
@FORCE
def spectrograms(
    source: str,
    ref: str,
    output: str,
    lam: float | None,
    k: int | None,
    preset: str,
    trim: bool,
    device: str,
    force: bool,
) -> None:
    """Draw spectrograms and pitch of SRC, of its conversion, and of --ref."""
    check_numbers(lam, k, None)
    picture, path, target = _checked(source, ref, output, force)
    with Progress() as progress:
        from knnvc.audio import SAMPLE_RATE, find_audio, load_audio, resample
        from knnvc.converters.matching_set import SUFFIX
        from knnvc.evaluation.figures import save_png
        from knnvc.evaluation.plots import spectrograms_figure
        from knnvc.options import ConvertOptions

        wave, converter, voice = _loaded(path, target, preset, device, trim, progress)
        options = ConvertOptions(lam=lam, k=k, trim=trim)
        made, rate = converter.convert((wave, SAMPLE_RATE), voice, options, progress)
        converted = resample(made, rate, SAMPLE_RATE)
        name = _name(voice.info.speaker, target)
        if target.suffix == SUFFIX:
            # There are no recordings in a set; its first frames are heard through the vocoder.
            shown = converter.vocode(voice.synth[: len(wave) // 320 + 1])
            heard = resample(shown, converter.sample_rate, SAMPLE_RATE)
            about = f"{name} (reference, rebuilt from the matching set)"
        else:
            lengths = [load_audio(one) for one in find_audio(target)]
            heard = max(lengths, key=lambda one: min(len(one), len(wave)))[: len(wave)]
            about = f"{name} (reference)"
        waves = [
            (f"{path.stem} (source)", wave.numpy()),
            (f"converted to {name}", converted.numpy()),
            (about, heard.numpy()),
        ]
        save_png(spectrograms_figure(waves), picture, force=force)
    say_path(picture)


def _checked(source: str, ref: str, output: str, force: bool) -> tuple[Path, Path, Path]:
    """The picture, the source and the reference, once all that is cheap is checked."""
    picture = _picture(output, force)
    path, target = existing(source, "source"), reference(ref)
    _require()
    return picture, path, target


def _loaded(
    path: Path, target: Path, preset: str, device: str, trim: bool, progress: Progress
) -> tuple[Tensor, VoiceConverter, MatchingSet]:
    """The source [S] at 16 kHz, the converter, and the target's set."""
    from knnvc.audio import load_audio, require_audio
    from knnvc.pipeline import VoiceConverter

    wave = require_audio(load_audio(path), str(path))
    converter = VoiceConverter.from_preset(preset, device)
    return wave, converter, converter.matching_set(target, trim=trim, progress=progress)


def _picture(output: str, force: bool) -> Path:
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise UsageError(f"cannot write {path}: pictures are PNG, so end it in .png")
    check_free(path, force)
    return path


def _require(*modules: str) -> None:
    """Say what is missing before anything is loaded."""
    from knnvc.extras import require

    require(("matplotlib", *modules))


def _name(speaker: str, path: Path) -> str:
    return speaker or path.stem
