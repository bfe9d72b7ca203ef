"""`knnvc train`: published recipes on any corpus, one resumable command for each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from knnvc.cli.common import DEVICE, say_path
from knnvc.cli.configuration import FILE, START, chosen, need, options_of, out_to, read_config
from knnvc.errors import UsageError
from knnvc.extras import require
from knnvc.training.options import GlowTtsOptions, HifiGanOptions

PRESET = click.option(
    "--preset",
    default="wavlm-large",
    show_default=True,
    help="Whose encoder makes the features: a name or a folder.",
)


def need_corpus(corpus: Path) -> None:
    """Refuse what is no folder.

    Raises:
        UsageError: it is missing, or a file.
    """
    if not corpus.is_dir():
        raise UsageError(f"{corpus} is no folder with recordings; check the path")


@click.group()
def train() -> None:
    """Train a vocoder or a text front end for a preset; run a step again to resume it.

    \b
    knnvc train prematch       features of each recording from its speaker's others
    knnvc train vocoder        HiFi-GAN or BigVGAN on them: features to waveforms
    knnvc train text-frontend  Glow-TTS: phonemes to features

    The recipe of the preset `mini` is in the repository's folder vocoder/.
    """


@train.command()
@click.option(
    "--corpus",
    type=FILE,
    required=True,
    help="Folder with one sub-folder for each speaker, recordings at any depth below it.",
)
@PRESET
@click.option(
    "--k", type=click.IntRange(1), default=4, show_default=True, help="Neighbours averaged."
)
@DEVICE
@out_to("runs/prematched", "Folder for the features.")
def prematch(corpus: Path, preset: str, k: int, device: str, out: Path) -> None:
    """Replace every training frame by its speaker's nearest other frames, as kNN-VC does."""
    need_corpus(corpus)
    from knnvc.pipeline import VoiceConverter
    from knnvc.training.prematch import prematch_folder

    prematch_folder(corpus, VoiceConverter.from_preset(preset, device).encoder, out, k)
    say_path(out)


@train.command()
@click.option("--corpus", type=FILE, required=True, help="What `prematch` was given.")
@click.option(
    "--prematched",
    type=FILE,
    default=Path("runs/prematched"),
    show_default=True,
    help="What `prematch` wrote.",
)
@out_to("runs/vocoder")
@options_of(HifiGanOptions)
def vocoder(corpus: Path, prematched: Path, out: Path, config: Path | None, **given: Any) -> None:
    """Train a vocoder on prematched features; writes OUT/g_STEPS.pt and OUT/config.json.

    What it reads, and how often, follows from the features; the rest is HiFi-GAN v1's as published
    for kNN-VC, unless the object `generator` of the configuration file says otherwise. `knnvc
    preset new --encoder PRESET --vocoder OUT/g_STEPS.pt` makes a preset of it.

    \b
    knnvc train vocoder --config vocoder/configs/wavlm-large.json --corpus LibriSpeech/
    """
    options = chosen(HifiGanOptions, "vocoder", config, given)
    need_corpus(corpus)
    need(prematched, f"knnvc train prematch --corpus {corpus} --out {prematched}")
    require(("accelerate",), "train")
    from knnvc.training.generators import facts_of, generator_for
    from knnvc.training.published import find_examples, train_hifigan

    examples, _ = find_examples(corpus, prematched)
    generator = generator_for(facts_of(examples[0][1]), read_config(config, "generator"), options)
    say_path(train_hifigan(corpus, prematched, out, options, generator))


@train.command("text-frontend")
@click.option(
    "--corpus",
    type=FILE,
    required=True,
    help="Folder with recordings of one speaker and lines `file|text` in its metadata.csv.",
)
@PRESET
@click.option("--language", default="en-us", show_default=True, help="Of the transcripts.")
@out_to("runs/text-frontend")
@START
@options_of(GlowTtsOptions)
def text_frontend(
    corpus: Path,
    preset: str,
    language: str,
    out: Path,
    start: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Train Glow-TTS on transcribed recordings; writes OUT/text_frontend.safetensors.

    Durations are found by monotonic alignment search. `knnvc preset add-text-frontend` gives the
    weights to a preset.

    \b
    knnvc train text-frontend --corpus LJSpeech-1.1 --preset wavlm-large
    """
    options = chosen(GlowTtsOptions, "text-frontend", config, given)
    need_corpus(corpus)
    if start is not None:
        need(start, "knnvc train text-frontend")
    from knnvc.text.espeak import find_language

    language = find_language(language)
    from knnvc.pipeline import VoiceConverter
    from knnvc.training.glow import train_glow

    converter = VoiceConverter.from_preset(preset, "cpu")
    encoder, fingerprint = converter.encoder, converter.encoder.fingerprint
    say_path(train_glow(corpus, encoder, fingerprint, out, options, language, start))
