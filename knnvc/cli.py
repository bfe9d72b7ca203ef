"""The command line. Heavy modules are imported inside the commands: `--help` must be instant."""

from __future__ import annotations

import os
import sys
import time
import warnings
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
AUDIO_OUTPUT = (".wav", ".flac", ".ogg", ".mp3")
QUIET_SECONDS = 1.0  # no progress bar before this
# click 8.1 does not have it and shows the help by itself.
NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
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
        except NO_ARGUMENTS as error:
            click.echo(error.format_message())
            code = 2
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            code = _complain(*reason)
        except KeyboardInterrupt:
            code = _complain("interrupted; nothing half-written was left behind", 130)
        sys.exit(code if isinstance(code, int) else 0)


def _reason(error: Exception) -> tuple[str, int] | None:
    """What to say about a failure and the exit code; None for a bug, which keeps its traceback."""
    if isinstance(error, KnnvcError):
        return str(error), error.exit_code
    if isinstance(error, click.Abort):
        return "interrupted; nothing half-written was left behind", 130
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    # torch reports memory as RuntimeError, in these words on the CPU and on a GPU.
    memory = ("out of memory", "can't allocate memory")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in memory)
    ):
        return "out of memory; use shorter recordings, a smaller preset or --device cpu", 1
    if isinstance(error, OSError):
        name = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{name}; check the path", 1
    return None


def _complain(message: str, code: int) -> int:
    click.echo("Error: " + " ".join(message.split()), err=True)
    return code


def _say_path(path: Path | str) -> None:
    # Bytes in a name that are no UTF-8 cannot be printed as they are.
    click.echo(click.format_filename(path))


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
    """What is said on stderr during work: a bar for each stage, and warnings, one line each.

    Bars are for people (stderr is a terminal), appear once the command has run for a second, and
    go when their stage is done. Of warnings, only this package's own are for the person.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stage: tuple[str, int | None] | None = None
        self._bar: Any = None
        self._done = 0
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> Progress:
        """From now on, say warnings in the manner of the command line."""
        self._warnings.__enter__()
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"knnvc\.", category=UserWarning)
        others = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any
        ) -> None:
            if category.__module__.startswith("knnvc."):
                self.close()
                click.echo("Warning: " + " ".join(str(message).split()), err=True)
            else:
                others(message, category, filename, lineno, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away, whatever happened."""
        self.close()
        self._warnings.__exit__(None, None, None)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report `done` of `total` units of a stage."""
        if not sys.stderr.isatty() or time.monotonic() - self._began < QUIET_SECONDS:
            return
        if not total:  # a download of unknown size: a bar would say nothing
            return
        if (stage, total) != self._stage or done < self._done:
            self.close()
            self._stage, self._done = (stage, total), 0
            self._bar = click.progressbar(length=total, label=f"{stage:<10}", file=sys.stderr)
            self._bar.__enter__()
        self._bar.update(done - self._done)
        self._done = done

    def close(self) -> None:
        """Take away the current bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)  # shows the cursor again and ends the line
            self._bar, self._stage = None, None
            if sys.platform != "win32" and os.environ.get("TERM") != "dumb":
                click.echo("\033[1A\033[2K", nl=False, err=True)  # up, and clear that line


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
    "more recordings of one speaker; with weights, each --ref is a voice and they are blended "
    "(a --ref without one then counts 1).",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3), or a folder; the folders inside a SRC folder are "
    "kept in it.  [default: SRC_as_REF.wav here]",
)
@PRESET
@click.option(
    "--lam",
    type=float,
    help="0 to 2: 1 is pure kNN-VC, less mixes the source's own frames back in, 0 only rebuilds "
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
    plan = _plan(sources, output, force, "_as_" + _label(wanted))
    _check_references_kept(plan, wanted)
    with Progress() as progress:
        from knnvc.pipeline import ConvertOptions, VoiceConverter

        options = ConvertOptions(lam, k, weighting, seconds, loudness, trim)
        converter = VoiceConverter.from_preset(preset, device)
        voices = converter.voices(wanted, trim=trim, k=k or converter.k, progress=progress)
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
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output file (.wav, .flac, .ogg, .mp3), or a folder.  [default: IN_VOCODER.wav here]",
)
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
    with Progress() as progress:
        from knnvc.pipeline import VoiceConverter, resynthesize

        converter = VoiceConverter.from_preset(preset, device) if vocoder == "preset" else None
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


def _exists(path: str, what: str) -> Path:
    # Path("") is the current folder, which nobody means by an unset shell variable.
    if not path or not Path(path).exists():
        raise UsageError(f"the {what} {path or repr(path)} does not exist; check the path")
    return Path(path)


def _references(refs: tuple[str, ...]) -> list[Any]:
    """Paths, or (path, weight) pairs if any of `refs` carries a weight; all of them exist."""
    parsed = [_split_weight(ref) for ref in refs]
    for path, weight in parsed:
        _exists(path, "reference")
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


def _paths(wanted: list[Any]) -> list[Path]:
    """The paths of what `_references` returns."""
    return [Path(ref[0] if isinstance(ref, tuple) else ref).resolve() for ref in wanted]


def _label(wanted: list[Any]) -> str:
    """What default names call the references: the voices of a blend, else the first one."""
    names = [path.name if path.is_dir() else path.stem for path in _paths(wanted)]
    return "+".join(names) if isinstance(wanted[0], tuple) else names[0]


def _plan(
    sources: tuple[str, ...], output: str | None, force: bool, suffix: str
) -> list[tuple[Path, Path]]:
    """Pairs of source and output; everything cheap is checked before a model is loaded."""
    found: list[tuple[Path, Path]] = []  # and its path below the source folder
    for source in sources:
        path = _exists(source, "source")
        if path.is_dir():
            from knnvc.audio import find_audio

            found += [(one, one.relative_to(path)) for one in find_audio(path)]
        else:
            found.append((path, Path(path.name)))
    several = len(found) > 1 or Path(sources[0]).is_dir()
    if output is None:
        pairs = [(path, Path(f"{path.stem}{suffix}.wav")) for path, _ in found]
    elif not output:
        raise UsageError("the output has an empty name; name a file or a folder")
    elif several or output.endswith(("/", os.sep)) or Path(output).is_dir():
        if Path(output).exists() and not Path(output).is_dir():
            raise UsageError(f"{output} is a file; name a folder for the output of several sources")
        if several and not Path(output).is_dir() and _is_audio(Path(output)):
            raise UsageError(f"there are {len(found)} sources; name a folder instead of {output}")
        pairs = [(path, Path(output) / below.with_suffix(".wav")) for path, below in found]
    else:
        if not _is_audio(Path(output)):
            raise UsageError(
                f"cannot write {output}: end it in {', '.join(AUDIO_OUTPUT)}, or in / for a folder"
            )
        pairs = [(found[0][0], Path(output))]
    _check_pairs(pairs, force)
    return pairs


def _check_pairs(pairs: list[tuple[Path, Path]], force: bool) -> None:
    targets: dict[Path, Path] = {}
    inputs = {source.resolve() for source, _ in pairs}
    for source, target in pairs:
        if target in targets:
            raise UsageError(
                f"{targets[target]} and {source} would both become {target}; "
                "convert them into different folders"
            )
        targets[target] = source
        if target.exists() and target.resolve() in inputs:
            raise UsageError(f"{target} is itself a source; choose another output")
        _check_free(target, force)


def _check_free(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise UsageError(f"{target} exists; choose another output or overwrite it with --force")
    folder = next((p for p in target.absolute().parents if p.exists()), Path("/"))
    if not folder.is_dir():
        raise UsageError(f"cannot write {target}: {folder} is a file; choose another folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {target}: permission denied; choose another folder")


def _check_references_kept(plan: list[tuple[Path, Path]], wanted: list[Any]) -> None:
    """--force is not meant for the recordings of the target speaker."""
    references = _paths(wanted)
    for _, target in plan:
        if target.exists() and any(
            path == target.resolve() or path in target.resolve().parents for path in references
        ):
            raise UsageError(f"{target} is one of the references; choose another output")


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_OUTPUT


def _each(
    plan: list[tuple[Path, Path]], work: Callable[[Path, Path], Any], progress: Progress
) -> None:
    """Do every file; a failure is reported and the rest goes on, but the exit code tells."""
    failed = False
    for source, target in plan:
        try:
            work(source, target)
            progress.close()
            _say_path(target)
        except Exception as error:
            progress.close()
            reason = _reason(error)
            if reason is None or len(plan) == 1:
                raise
            _complain(*reason)
            failed = True
    if failed:
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
    wanted = [_exists(ref, "reference") for ref in refs]
    _check_set_output(output, force)
    with Progress() as progress:
        from knnvc.pipeline import VoiceConverter

        converter = VoiceConverter.from_preset(preset, device)
        built = converter.matching_set(
            wanted, trim=trim, speaker=speaker, licence=licence, progress=progress
        )
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
    _check_free(Path(output), force)


def _describe(one: MatchingSet, path: str, files: bool = False) -> None:
    info = one.info
    _say_path(path)
    rows = [
        ("speaker", info.speaker or "not named"),
        ("speech", f"{one.seconds:.1f} s, {len(one.match)} frames, from {len(info.files)} files"),
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
    _say_path(found.folder)
    encoder, vocoder = found.encoder, found.vocoder
    layers = f"match layer {encoder['match_layer']}, synth layer {encoder['synth_layer']}"
    rows = [
        ("name", found.name),
        ("about", found.description),
        ("encoder", f"{encoder['type']}, {layers}"),
        ("matching", ", ".join(f"{key} {value}" for key, value in found.matching.items())),
        ("vocoder", vocoder["type"]),
        ("text", "none" if found.text_frontend is None else found.text_frontend.get("type", "?")),
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
    _say_path(made.folder)


@preset.command("pull")
@click.argument("name", default="wavlm-large")
@FORCE
def preset_pull(name: str, force: bool) -> None:
    """Download a published preset and convert it, once; needs a network."""
    from knnvc.preset import pull

    with Progress() as progress:
        made = pull(name, force=force, progress=progress)
    _say_path(made.folder)


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
