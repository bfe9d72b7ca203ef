"""The recipe of `mini`, one resumable command a step: `python -m knnvc.training --help`.

corpus, encoder, prematch, vocoder, package. The options of a step are the fields of its dataclass;
`--config` reads them from a JSON file with one object for each step, and what stands on the command
line wins.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from knnvc.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.checkpoints import read_tensors
from knnvc.encoder import Encoder, load_network
from knnvc.errors import KnnvcError, UsageError
from knnvc.training import kokoro
from knnvc.training.data import MINI_ENCODER
from knnvc.training.encoder import EncoderOptions, train_encoder
from knnvc.training.package import MINI_MATCHING, package_mini
from knnvc.training.prematch import prematch
from knnvc.training.vocoder import VocoderOptions, train_vocoder

Options = TypeVar("Options")
Command = Callable[..., Any]
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
CORPUS = click.option("--corpus", type=FOLDER, default=Path("corpus"), show_default=True)


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
    """How much to synthesise."""

    hours: float = 8.0
    workers: int = 2  # one single-threaded process each
    seed: int = 7


def _options(kind: type[Any]) -> Callable[[Command], Command]:
    """Give a command `--config` and one option for each field of the dataclass `kind`."""

    def add(command: Command) -> Command:
        for field in reversed(dataclasses.fields(kind)):
            name, default = "--" + field.name.replace("_", "-"), field.default
            flag = f"{name}/--no-{name[2:]}" if isinstance(default, bool) else name
            help_text = f"[default: {default}]"
            command = click.option(
                flag, field.name, type=type(default), default=None, help=help_text
            )(command)
        return click.option("--config", type=FILE, help="JSON file with the options.")(command)

    return add


def _chosen(kind: type[Options], step: str, config: Path | None, given: dict[str, Any]) -> Options:
    """`kind` from the object `step` of a configuration file, overridden by what was `given`."""
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = json.loads(config.read_text(encoding="utf-8")).get(step, {})
        except (ValueError, AttributeError) as error:
            raise UsageError(f"{config} is no JSON object: {error}") from error
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{config}, {step}: {str(error).split(') ')[-1]}") from error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def recipe() -> None:
    """Train the preset `mini` from nothing. Run a step again to resume it."""


@recipe.command()
@CORPUS
@click.option("--parts", type=FOLDER, help="Where downloads go.  [default: CORPUS/parts]")
@_options(CorpusOptions)
def corpus(corpus: Path, parts: Path | None, config: Path | None, **given: Any) -> None:
    """Synthesise speech with exact phone alignments (needs a network once)."""
    chosen = _chosen(CorpusOptions, "corpus", config, given)
    kokoro.synthesize_corpus(
        kokoro.fetch(parts or corpus / "parts"), corpus, chosen.hours, chosen.workers, chosen.seed
    )


@recipe.command()
@CORPUS
@click.option("--out", type=FOLDER, default=Path("runs/encoder"))
@_options(EncoderOptions)
def encoder(corpus: Path, out: Path, config: Path | None, **given: Any) -> None:
    """Train the encoder; writes OUT/encoder.safetensors."""
    click.echo(train_encoder(corpus, out, _chosen(EncoderOptions, "encoder", config, given)))


@recipe.command("prematch")
@CORPUS
@click.option("--encoder", type=FILE, default=Path("runs/encoder/encoder.safetensors"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/matched.safetensors"))
def prematch_command(corpus: Path, encoder: Path, out: Path) -> None:
    """Replace every training frame by its speaker's nearest other frames."""
    state, _ = read_tensors(encoder)
    network = load_network(
        "mel-wavlm",
        MINI_ENCODER.to_dict(),
        {name: tensor.float() for name, tensor in state.items()},
        MINI_ENCODER.layers,
        0,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    options = AcousticSpaceOptions.from_dict(MINI_MATCHING["space"])
    space = AcousticSpace(options, MINI_ENCODER.mels, MINI_ENCODER.substeps)
    prematch(corpus, Encoder(network), out, MINI_MATCHING["k"], space)
    click.echo(out)


@recipe.command()
@CORPUS
@click.option("--prematched", type=FILE, help="What `prematch` wrote; without it, own frames only.")
@click.option("--out", type=FOLDER, default=Path("runs/vocoder"))
@_options(VocoderOptions)
def vocoder(
    corpus: Path, prematched: Path | None, out: Path, config: Path | None, **given: Any
) -> None:
    """Train the vocoder; writes OUT/vocoder.safetensors."""
    chosen = _chosen(VocoderOptions, "vocoder", config, given)
    click.echo(train_vocoder(corpus, out, chosen, prematched))


@recipe.command()
@click.option("--encoder", type=FILE, default=Path("runs/encoder/encoder.safetensors"))
@click.option("--vocoder", type=FILE, default=Path("runs/vocoder/vocoder.safetensors"))
@click.option("--out", type=FOLDER, default=Path("runs/mini"))
def package(encoder: Path, vocoder: Path, out: Path) -> None:
    """Put trained weights together as a preset folder, for `knnvc convert --preset OUT`."""
    click.echo(package_mini(encoder, vocoder, out).folder)


def main() -> None:
    """Run, and turn what a person can mend into one sentence and an exit code."""
    try:
        recipe(prog_name="python -m knnvc.training")
    except KnnvcError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        click.echo(f"Error: {error.name} is missing: pip install '.[train]'", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
