"""The command line. Heavy modules are imported inside the commands: `--help` must be instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc import __version__
from knnvc.cli.anonymize import anonymize
from knnvc.cli.batch import CACHE, batch, cache
from knnvc.cli.common import (
    COMPUTING,
    FORCE,
    INDEX,
    PRESET,
    TRIM,
    OneSentence,
    Progress,
    check_free,
    check_references_kept,
    each,
    label,
    load,
    parse_references,
    plan_outputs,
    reference,
    say,
    say_path,
    table,
)
from knnvc.cli.completion import COMPLETION
from knnvc.cli.derive import collect, options
from knnvc.cli.doctor import doctor
from knnvc.cli.evaluate import evaluate
from knnvc.cli.features import encoders, features
from knnvc.cli.pipes import RAW, convert_stream, through_pipes
from knnvc.cli.plot import plot
from knnvc.cli.presets import preset_import, preset_new
from knnvc.cli.probe import probe
from knnvc.cli.resynth import resynth, vocoders
from knnvc.cli.speak import speak
from knnvc.cli.train import train
from knnvc.cli.voices import voices
from knnvc.errors import UsageError, shown
from knnvc.options import ConvertOptions, LoadOptions

if TYPE_CHECKING:
    from knnvc.converters.matching_set import MatchingSet
    from knnvc.registry import PartSpec


@click.group(
    cls=OneSentence,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@COMPLETION
@click.version_option(__version__, "-V", "--version", prog_name="knnvc")
def cli() -> None:
    """Convert any voice into any other with nearest neighbours (kNN-VC).

    \b
    knnvc convert me.wav --ref their_recordings/ -o them.wav
    """


# Converting ---------------------------------------------------------------------------------------


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option(
    "--ref",
    "refs",
    multiple=True,
    required=True,
    metavar="PATH[:WEIGHT]",
    help="Recordings of the target speaker: a folder, a file, a saved matching set, or voice:NAME "
    "(see `knnvc voices`). Repeat for more recordings of one speaker; with weights, each --ref is "
    "a voice and they are blended (a --ref without one then counts 1).",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3), or a folder; the folders inside a SRC folder are "
    "kept in it; - is standard output.  [default: SRC_as_REF.wav here]",
)
@RAW
@PRESET
@options(ConvertOptions)
@COMPUTING
@CACHE
@FORCE
def convert(
    sources: tuple[str, ...],
    refs: tuple[str, ...],
    output: str | None,
    raw: str | None,
    cache: bool,
    force: bool,
    **given: Any,
) -> None:
    """Say what SRC says in the voice of --ref; - as SRC reads sound from standard input.

    \b
    knnvc convert talk.wav --ref voices/anna/
    knnvc convert talk.wav --ref anna/:0.7 --ref ben/:0.3 -o blend.wav
    knnvc convert takes/*.wav --ref anna.safetensors -o converted/
    ffmpeg -i talk.mp4 -f wav - | knnvc convert - --ref voice:emma -o - | ffplay -
    """
    chosen, loaded = collect(ConvertOptions, given), collect(LoadOptions, given)
    wanted = parse_references(refs)
    if through_pipes(sources, output, raw):
        convert_stream(sources, output, raw, wanted, chosen, loaded, cache=cache, force=force)
        return
    plan = plan_outputs(sources, output, force, "_as_" + label(wanted))
    check_references_kept(plan, wanted)
    with Progress() as progress:
        if len(plan) == 1:  # a source without sound is found out before references are encoded
            from knnvc.audio import load_audio, require_audio

            require_audio(load_audio(plan[0][0]), str(plan[0][0]))
        converter = load(loaded, progress)
        k = chosen.k or converter.k
        voices = converter.voices(wanted, trim=chosen.trim, k=k, progress=progress, cache=cache)
        each(
            plan,
            lambda source, target: converter.convert_file(
                source, voices, target, chosen, force=force, progress=progress
            ),
            progress,
        )


# Matching sets ------------------------------------------------------------------------------------


SET_OUTPUT = click.option(
    "-o",
    "--output",
    required=True,
    metavar="NAME.safetensors",
    help="Where the matching set goes.",
)


@cli.group("set")
def set_group() -> None:
    """Save the voice of a speaker as a matching set, to convert without encoding it again."""


@set_group.command("build")
@click.argument("refs", nargs=-1, required=True, metavar="REFS...")
@SET_OUTPUT
@PRESET
@click.option("--speaker", default="", help="Whose voice it is.  [default: the folder's name]")
@click.option("--licence", default="", help="On what terms the recordings may be used.")
@TRIM
@INDEX
@COMPUTING
@FORCE
def set_build(
    refs: tuple[str, ...],
    output: str,
    speaker: str,
    licence: str,
    force: bool,
    **given: Any,
) -> None:
    """Encode recordings of one speaker into a matching set.

    With --index hnsw or ivf, or if auto takes one of them, the index is built and kept in the
    cache; else the first conversion that needs one does that.
    """
    chosen, loaded = collect(ConvertOptions, given), collect(LoadOptions, given)
    wanted = [reference(ref) for ref in refs]
    _check_set_output(output, force)
    with Progress() as progress:
        from knnvc.converters.approximate import choose
        from knnvc.converters.matching_set import load as load_set

        converter = load(loaded, progress)
        built = converter.matching_set(
            wanted, trim=chosen.trim, speaker=speaker, licence=licence, progress=progress
        )
        built.save(output, force=force)
        if choose(chosen.index, len(built.match)) != "flat":
            # Of the set as it was saved, in float16: that is what will be searched.
            built = load_set(output)
            converter.prepare(built, chosen.index, progress)
    _describe(built, output)


@set_group.command("info")
@click.argument("path", metavar="SET")
def set_info(path: str) -> None:
    """Tell what a matching set holds; voice:NAME is the set that mini makes of a ready voice."""
    from knnvc.converters.matching_set import load as load_set
    from knnvc.voices.ready import PREFIX, find

    if path.startswith(PREFIX) and not Path(path).exists():
        with Progress() as progress:
            voice = find(path.removeprefix(PREFIX))
            converter = load(LoadOptions(), progress)
            ((made, _),) = converter.voices([voice.path], progress=progress)
        _describe(made, str(voice.path), files=True)
        return
    _describe(load_set(path), path, files=True)


@set_group.command("merge")
@click.argument("paths", nargs=-1, required=True, metavar="SETS...")
@SET_OUTPUT
@FORCE
def set_merge(paths: tuple[str, ...], output: str, force: bool) -> None:
    """Join matching sets of one encoder into one."""
    _check_set_output(output, force)
    from knnvc.converters.matching_set import load, merge

    with Progress():  # which says warnings
        merged = merge([load(path) for path in paths])
    merged.save(output, force=force)
    _describe(merged, output)


def _check_set_output(output: str, force: bool) -> None:
    if Path(output).suffix != ".safetensors":
        raise UsageError(f"a matching set is saved as NAME.safetensors, not {output}")
    check_free(Path(output), force)


def _describe(one: MatchingSet, path: str, files: bool = False) -> None:
    info = one.info
    count = f"{len(info.files)} files" if len(info.files) != 1 else "1 file"
    say_path(path)
    rows = [
        ("speaker", info.speaker or "not named"),
        ("speech", f"{one.seconds:.1f} s, {len(one.match)} frames, from {count}"),
        ("preset", f"{info.preset} (encoder {info.encoder[:12]})"),
        ("licence", info.licence or "not stated"),
        ("created", info.created),
    ]
    if files:
        rows += [
            ("file", f"{name}  {seconds:.1f} s")
            for name, seconds in zip(info.files, info.seconds, strict=True)
        ]
    table(rows)


# Presets ------------------------------------------------------------------------------------------


@cli.group()
def preset() -> None:
    """List, inspect, download and import presets (encoder + vocoder)."""


@preset.command("list")
def preset_list() -> None:
    """List the presets that are there and those that can be downloaded."""
    from knnvc.presets.search import list_presets

    for entry in list_presets():
        say(
            f"{shown(entry.name, lines=False):<14} {entry.status:<11} "
            f"{shown(entry.description, lines=False)}"
        )


@preset.command("info")
@click.argument("name", metavar="NAME_OR_FOLDER")
def preset_info(name: str) -> None:
    """Tell what a preset is made of, and on what terms."""
    from knnvc.presets.download import REGISTRY
    from knnvc.presets.search import PUBLISHED, find_preset

    try:
        found = find_preset(name)
    except UsageError:
        if name not in PUBLISHED:
            raise
        say(f"{name} (not downloaded: `knnvc preset pull {name}`)")
        table([("about", PUBLISHED[name].description), ("licence", PUBLISHED[name].licence)])
        known = PUBLISHED[name]
        files = (known.encoder, known.vocoder, *(known.text_front_end or ()))
        for remote in (REGISTRY[file] for file in files):
            size = f"{remote.size:,} bytes" if remote.size else "size unknown"
            rows = [("file", f"{remote.name}, {size}"), ("from", remote.url)]
            rows += [("sha256", remote.sha256 or "unknown")]
            rows += [("note", remote.note)] if remote.note else []
            table(rows)
        return
    say_path(found.folder)
    parts = {
        "encoder": found.encoder,
        "converter": found.converter,
        "vocoder": found.vocoder,
        "text": found.text_front_end,
    }
    rows = [
        ("name", found.name),
        ("about", found.description),
        *((name, _part_line(part)) for name, part in parts.items()),
        ("defaults", ", ".join(f"{key} {value}" for key, value in found.defaults.items())),
        ("output", f"{found.sample_rate} Hz"),
        ("licence", found.licence),
    ]
    rows += [(f"{part} licence", text) for part, text in found.licences.items()]
    rows += [
        (key if name is None else f"{key} {name}", str(value))
        for key, given in found.provenance.items()
        for name, value in (given.items() if isinstance(given, dict) else [(None, given)])
    ]
    table(rows)


def _part_line(part: PartSpec | None) -> str:
    """A part's type and its layers, for `knnvc preset info`."""
    if part is None:
        return "none"
    return ", ".join([part.type, *(f"{key} {value}" for key, value in part.settings.items())])


@preset.command("add-text-frontend")
@click.argument("folder", metavar="PRESET_FOLDER")
@click.argument("weights", metavar="WEIGHTS")
def preset_add_text_frontend(folder: str, weights: str) -> None:
    """Give a preset's folder the text front end that `knnvc train text-frontend` wrote."""
    if not Path(weights).is_file():
        raise UsageError(f"{weights} does not exist; make it with `knnvc train text-frontend`")
    from knnvc.presets.schema import load_preset
    from knnvc.training.frontends import add_trained_frontend

    say_path(add_trained_frontend(load_preset(Path(folder)), Path(weights)).folder)


@preset.command("export-onnx")
@click.argument("name", metavar="PRESET")
@click.argument("folder", metavar="OUT")
@FORCE
def preset_export_onnx(name: str, folder: str, force: bool) -> None:
    """Write the encoder and the vocoder of PRESET as ONNX files into the folder OUT."""
    for target in ("encoder.onnx", "vocoder.onnx"):
        check_free(Path(folder) / target, force)
    from knnvc.presets.onnx import export_preset

    for path in export_preset(name, Path(folder), force=force):
        say_path(path)


@preset.command("pull")
@click.argument("name", default="wavlm-large")
@FORCE
def preset_pull(name: str, force: bool) -> None:
    """Download a published preset and convert it, once; needs a network."""
    from knnvc.presets.importing import pull

    problems: list[str] = []
    with Progress() as progress:
        made = pull(name, force=force, progress=progress, warn=problems.append)
    for problem in problems:
        say(f"Warning: {problem}", error=True)
    say_path(made.folder)


cli.add_command(anonymize)
cli.add_command(doctor)
cli.add_command(evaluate)
cli.add_command(features)
cli.add_command(encoders)
preset.add_command(preset_import)
preset.add_command(preset_new)
cli.add_command(resynth)
cli.add_command(vocoders)
cli.add_command(plot)
cli.add_command(probe)
cli.add_command(speak)
cli.add_command(batch)
cli.add_command(cache)
cli.add_command(train)
cli.add_command(voices)


def main() -> None:
    """Entry point of the `knnvc` command."""
    # Read when transformers is imported: its failures arrive as exceptions, and its bars, which it
    # draws into files too, are for terminals.
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    cli(prog_name="knnvc")


if __name__ == "__main__":
    main()
