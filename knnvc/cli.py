"""The command line. Heavy modules are imported inside the commands: `--help` must be instant."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc import __version__
from knnvc.errors import KnnvcError, UsageError

if TYPE_CHECKING:
    from knnvc.matching_set import MatchingSet

PRESET_HELP = "Preset name or folder; see `knnvc preset list`."
DEVICE_CHOICES = ("auto", "cpu", "cuda", "mps")
QUIET_SECONDS = 1.0  # no progress bar before this
FORCE = click.option("--force", is_flag=True, help="Overwrite existing output.")
PRESET = click.option("--preset", default="mini", show_default=True, help=PRESET_HELP)
DEVICE = click.option(
    "--device",
    type=click.Choice(DEVICE_CHOICES),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU if there is one.",
)
TRIM = click.option(
    "--trim/--no-trim",
    default=True,
    show_default=True,
    help="Cut silence off the references' ends.",
)


class OneSentence(click.Group):
    """A command group whose errors are one sentence on stderr: exit code 2 for usage, else 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and turn every expected failure into a sentence and an exit code."""
        run: Callable[..., Any] = super().main
        if not kwargs.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **kwargs)
        try:
            code = run(*args, standalone_mode=False, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            code = 2
        except click.ClickException as error:
            code = _complain(error.format_message(), error.exit_code)
        except KnnvcError as error:
            code = _complain(str(error), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            code = _complain("interrupted; nothing half-written was left behind", 130)
        except MemoryError:
            code = _complain("out of memory; use shorter recordings or a smaller preset", 1)
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> int:
    click.echo("Error: " + " ".join(message.split()), err=True)
    return code


@click.group(
    cls=OneSentence,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="knnvc")
def cli() -> None:
    """Convert any voice into any other with nearest neighbours (kNN-VC).

    \b
    knnvc convert me.wav --ref their_recordings/ -o them.wav
    """


class Progress:
    """A progress bar on stderr for each stage, shown only once the work has taken a second."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stage = ""
        self._bar: Any = None
        self._done = 0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report `done` of `total` units of a stage."""
        if not sys.stderr.isatty() or time.monotonic() - self._began < QUIET_SECONDS:
            return
        if stage != self._stage:
            self.close()
            self._stage, self._done = stage, 0
            self._bar = click.progressbar(
                length=total or 0, label=f"{stage:<10}", file=sys.stderr, show_pos=False
            )
            self._bar.__enter__()
        self._bar.update(done - self._done)
        self._done = done

    def close(self) -> None:
        """Finish the line of the current bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar, self._stage = None, ""


# Converting ---------------------------------------------------------------------------------------


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option(
    "--ref",
    "refs",
    multiple=True,
    required=True,
    metavar="PATH[:WEIGHT]",
    help="Recordings of the target speaker: a folder, a file, or a saved matching set. Repeat for "
    "more recordings of one speaker; with weights, each --ref is a voice and they are blended.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3), or a folder. [default: SRC_as_REF.wav here]",
)
@PRESET
@click.option(
    "--lam",
    type=float,
    help="λ, 0 to 2: 1 is pure kNN-VC, less mixes the source's own frames back in, 0 only rebuilds "
    "the source, more goes past the target.  [default: the preset's, 1 for mini]",
)
@click.option("--k", type=int, help="Neighbours averaged per frame.  [default: the preset's, 4]")
@click.option(
    "--weighting",
    type=click.Choice(["mean", "distance"]),
    help="How neighbours are averaged.  [default: the preset's, mean]",
)
@click.option("--seconds", type=float, help="Stretch the result to this duration.")
@click.option(
    "--loudness/--no-loudness", default=True, show_default=True, help="Normalise to -16 LUFS."
)
@TRIM
@DEVICE
@FORCE
def convert(
    sources: tuple[str, ...],
    refs: tuple[str, ...],
    output: str | None,
    preset: str,
    lam: float | None,
    k: int | None,
    weighting: str | None,
    seconds: float | None,
    loudness: bool,
    trim: bool,
    device: str,
    force: bool,
) -> None:
    """Say what SRC says in the voice of --ref.

    \b
    knnvc convert talk.wav --ref voices/anna/
    knnvc convert talk.wav --ref anna/:0.7 --ref ben/:0.3 -o blend.wav
    knnvc convert takes/*.wav --ref anna.safetensors -o converted/
    """
    _check_numbers(lam, k, seconds)
    wanted = _references(refs)
    plan = _plan(sources, output, force, "_as_" + _label(refs[0]))
    from knnvc.pipeline import ConvertOptions, VoiceConverter

    options = ConvertOptions(lam, k, weighting, seconds, loudness, trim)
    converter = VoiceConverter.from_preset(preset, device)
    progress = Progress()
    voices = converter.voices(wanted, trim=trim, progress=progress)
    progress.close()
    _each(
        plan,
        lambda source, target: converter.convert_file(
            source, voices, target, options, force=force, progress=progress
        ),
        progress,
    )


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.option(
    "--vocoder",
    type=click.Choice(["preset", "world", "griffin-lim"]),
    default="preset",
    show_default=True,
    help="preset: the preset's encoder and vocoder, without matching.",
)
@click.option("-o", "--output", metavar="PATH", help="[default: IN_VOCODER.wav here]")
@PRESET
@click.option(
    "--loudness/--no-loudness", default=True, show_default=True, help="Normalise to -16 LUFS."
)
@DEVICE
@FORCE
def resynth(
    sources: tuple[str, ...],
    vocoder: str,
    output: str | None,
    preset: str,
    loudness: bool,
    device: str,
    force: bool,
) -> None:
    """Take IN apart and put it together again, to hear what a vocoder loses."""
    plan = _plan(sources, output, force, "_" + vocoder)
    from knnvc.pipeline import VoiceConverter, resynthesize

    converter = VoiceConverter.from_preset(preset, device) if vocoder == "preset" else None
    progress = Progress()
    _each(
        plan,
        lambda source, target: resynthesize(
            source,
            target,
            converter or vocoder,
            loudness=loudness,
            force=force,
            progress=progress,
        ),
        progress,
    )


def _check_numbers(lam: float | None, k: int | None, seconds: float | None) -> None:
    """What `ConvertOptions` checks too, before torch is imported."""
    if lam is not None and not 0 <= lam <= 2:
        raise UsageError(f"--lam is {lam}: give a number from 0 (source) to 2")
    if k is not None and k < 1:
        raise UsageError(f"--k is {k}: give a whole number of neighbours, 1 or more")
    if seconds is not None and not 0.02 <= seconds <= 86_400:
        raise UsageError(f"--seconds is {seconds}: give a duration from 0.02 to 86400 seconds")


def _references(refs: tuple[str, ...]) -> list[Any]:
    """Paths, or (path, weight) pairs if any of `refs` carries a weight; all of them exist."""
    parsed = [_split_weight(ref) for ref in refs]
    for path, weight in parsed:
        if not Path(path).exists():
            raise UsageError(f"the reference {path} does not exist; check the path")
        if weight is not None and not 0 < weight < float("inf"):
            raise UsageError(f"the weight {weight} of {path} must be a positive number")
    if all(weight is None for _, weight in parsed):
        return [path for path, _ in parsed]
    return [(path, 1.0 if weight is None else weight) for path, weight in parsed]


def _split_weight(ref: str) -> tuple[str, float | None]:
    """ "anna/:0.7" -> ("anna/", 0.7); a path that exists with the colon in it is left whole."""
    path, colon, weight = ref.rpartition(":")
    if not colon or Path(ref).exists():
        return ref, None
    try:
        return path, float(weight)
    except ValueError:
        return ref, None


def _label(ref: str) -> str:
    path, _ = _split_weight(ref)
    return Path(path).resolve().stem


def _plan(
    sources: tuple[str, ...], output: str | None, force: bool, suffix: str
) -> list[tuple[Path, Path]]:
    """Pairs of source and output; everything cheap is checked before a model is loaded."""
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise UsageError(f"the source {path} does not exist; check the path")
        if path.is_dir():
            from knnvc.audio import find_audio

            found += find_audio(path)
        else:
            found.append(path)
    if output is None:
        pairs = [(path, Path(f"{path.stem}{suffix}.wav")) for path in found]
    elif len(found) > 1 or output.endswith("/") or Path(output).is_dir():
        if Path(output).exists() and not Path(output).is_dir():
            raise UsageError(f"{output} is a file; name a folder for the output of several sources")
        if len(found) > 1 and Path(output).suffix in (".wav", ".flac", ".ogg", ".mp3"):
            raise UsageError(f"there are {len(found)} sources; name a folder instead of {output}")
        pairs = [(path, Path(output) / f"{path.stem}.wav") for path in found]
    else:
        pairs = [(found[0], Path(output))]
    targets: dict[Path, Path] = {}
    for source_path, target in pairs:
        if target in targets:
            raise UsageError(
                f"{targets[target]} and {source_path} would both become {target}; "
                "convert them into different folders"
            )
        targets[target] = source_path
        if target.suffix.lower() not in (".wav", ".flac", ".ogg", ".mp3"):
            raise UsageError(f"cannot write {target}: end it in .wav, .flac, .ogg or .mp3")
        if target.exists() and target.resolve() == source_path.resolve():
            raise UsageError(f"{target} is the source itself; choose another output")
        if target.exists() and not force:
            raise UsageError(f"{target} exists; choose another output or overwrite with --force")
    return pairs


def _each(
    plan: list[tuple[Path, Path]], work: Callable[[Path, Path], Any], progress: Progress
) -> None:
    """Do every file; a failure is reported and the rest goes on, but the exit code tells."""
    failed: KnnvcError | None = None
    for source, target in plan:
        try:
            work(source, target)
            progress.close()
            click.echo(str(target))
        except KnnvcError as error:
            progress.close()
            if len(plan) == 1:
                raise
            _complain(str(error), error.exit_code)
            failed = error
    if failed is not None:
        sys.exit(1)


# Matching sets ------------------------------------------------------------------------------------


@cli.group("set")
def set_group() -> None:
    """Save the voice of a speaker as a matching set, to convert without encoding it again."""


@set_group.command("build")
@click.argument("refs", nargs=-1, required=True, metavar="REFS...")
@click.option("-o", "--output", required=True, metavar="NAME.safetensors")
@PRESET
@click.option("--speaker", default="", help="Whose voice it is.  [default: the folder's name]")
@click.option("--licence", default="", help="On what terms the recordings may be used.")
@TRIM
@DEVICE
@FORCE
def set_build(
    refs: tuple[str, ...],
    output: str,
    preset: str,
    speaker: str,
    licence: str,
    trim: bool,
    device: str,
    force: bool,
) -> None:
    """Encode recordings of one speaker into a matching set."""
    wanted = _references(refs)
    _check_set_output(output, force)
    from knnvc.pipeline import VoiceConverter

    converter = VoiceConverter.from_preset(preset, device)
    progress = Progress()
    built = converter.matching_set(
        wanted, trim=trim, speaker=speaker, licence=licence, progress=progress
    )
    progress.close()
    built.save(output, force=force)
    _describe(built, output)


@set_group.command("info")
@click.argument("path", metavar="SET")
def set_info(path: str) -> None:
    """Tell what a matching set holds."""
    from knnvc.matching_set import load

    _describe(load(path), path, files=True)


@set_group.command("merge")
@click.argument("paths", nargs=-1, required=True, metavar="SETS...")
@click.option("-o", "--output", required=True, metavar="NAME.safetensors")
@FORCE
def set_merge(paths: tuple[str, ...], output: str, force: bool) -> None:
    """Join matching sets of one encoder into one."""
    _check_set_output(output, force)
    from knnvc.matching_set import load, merge

    merged = merge([load(path) for path in paths])
    merged.save(output, force=force)
    _describe(merged, output)


def _check_set_output(output: str, force: bool) -> None:
    if Path(output).suffix != ".safetensors":
        raise UsageError(f"a matching set is saved as NAME.safetensors, not {output}")
    if Path(output).exists() and not force:
        raise UsageError(f"{output} exists; choose another name or overwrite with --force")


def _describe(one: MatchingSet, path: str, files: bool = False) -> None:
    info = one.info
    click.echo(str(path))
    rows = [
        ("speaker", info.speaker or "not named"),
        ("speech", f"{one.seconds:.1f} s in {len(info.files)} files, {len(one.match)} frames"),
        ("preset", f"{info.preset} (encoder {info.encoder[:12]})"),
        ("licence", info.licence or "not stated"),
        ("created", info.created),
    ]
    if one.pitch is not None:
        rows.insert(2, ("pitch", f"{2 ** float(one.pitch[0]):.0f} Hz"))
    if files:
        rows += [
            ("file", f"{name}  {seconds:.1f} s")
            for name, seconds in zip(info.files, info.seconds, strict=True)
        ]
    _table(rows)


def _table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"  {name:<{width}}  {value}")


# Presets ------------------------------------------------------------------------------------------


@cli.group()
def preset() -> None:
    """List, inspect, download and import presets (encoder + vocoder)."""


@preset.command("list")
def preset_list() -> None:
    """List the presets that are there and those that can be downloaded."""
    from knnvc.preset import list_presets

    for entry in list_presets():
        click.echo(f"{entry.name:<14} {entry.status:<11} {entry.description}")


@preset.command("info")
@click.argument("name", metavar="NAME_OR_FOLDER")
def preset_info(name: str) -> None:
    """Tell what a preset is made of, and on what terms."""
    from knnvc.checkpoints import REGISTRY
    from knnvc.preset import PUBLISHED, find_preset

    try:
        found = find_preset(name)
    except UsageError:
        if name not in PUBLISHED:
            raise
        click.echo(f"{name} (not downloaded: `knnvc preset pull {name}`)")
        _table([("about", PUBLISHED[name].description), ("licence", PUBLISHED[name].licence)])
        for remote in (REGISTRY[PUBLISHED[name].encoder], REGISTRY[PUBLISHED[name].vocoder]):
            size = f"{remote.size:,} bytes" if remote.size else "size unknown"
            rows = [("file", f"{remote.name}, {size}"), ("from", remote.url)]
            rows += [("sha256", remote.sha256 or "unknown")]
            rows += [("note", remote.note)] if remote.note else []
            _table(rows)
        return
    click.echo(str(found.folder))
    encoder, vocoder = found.encoder, found.vocoder
    layers = f"match layer {encoder['match_layer']}, synth layer {encoder['synth_layer']}"
    rows = [
        ("name", found.name),
        ("about", found.description),
        ("encoder", f"{encoder['type']}, {layers}"),
        ("matching", ", ".join(f"{key} {value}" for key, value in found.matching.items())),
        ("vocoder", vocoder["type"]),
        ("text", "none" if found.text_frontend is None else found.text_frontend["type"]),
        ("output", f"{found.sample_rate} Hz"),
        ("licence", found.licence),
    ]
    rows += [(f"{part} licence", text) for part, text in found.licences.items()]
    rows += [(key, str(value)) for key, value in found.provenance.items()]
    _table(rows)


@preset.command("import")
@click.option("--encoder", required=True, metavar="WavLM-Large.pt", help="Published WavLM file.")
@click.option("--layer", default=6, show_default=True, help="Transformer layer to match in.")
@click.option("--vocoder", required=True, metavar="prematch_g.pt", help="HiFi-GAN checkpoint.")
@click.option("--vocoder-config", required=True, metavar="config.json", help="Its configuration.")
@click.option("--name", help="Name of the preset.  [default: the folder's name]")
@FORCE
@click.argument("folder", metavar="DIR")
def preset_import(
    encoder: str,
    layer: int,
    vocoder: str,
    vocoder_config: str,
    name: str | None,
    force: bool,
    folder: str,
) -> None:
    """Turn published checkpoint files into a preset folder DIR."""
    for path in (encoder, vocoder, vocoder_config):
        if not Path(path).is_file():
            raise UsageError(f"{path} does not exist or is no file; check the path")
    from knnvc.preset import import_published

    made = import_published(
        Path(encoder),
        layer,
        Path(vocoder),
        Path(vocoder_config),
        Path(folder),
        force=force,
        name=name,
    )
    click.echo(str(made.folder))


@preset.command("pull")
@click.argument("name", default="wavlm-large")
@FORCE
def preset_pull(name: str, force: bool) -> None:
    """Download a published preset and convert it, once; needs a network."""
    from knnvc.preset import pull

    progress = Progress()
    try:
        made = pull(name, force=force, progress=progress)
    finally:
        progress.close()
    click.echo(str(made.folder))


def main() -> None:
    """Entry point of the `knnvc` command."""
    cli(prog_name="knnvc")


if __name__ == "__main__":
    main()
