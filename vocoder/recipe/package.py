"""Put trained weights together as a preset folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from knnvc.errors import UsageError
from knnvc.files import sha256_file
from knnvc.mini.acoustic_space import RECORDINGS, AcousticSpace
from knnvc.mini.encoder import (
    CHUNK_SECONDS,
    CONTEXT_SECONDS,
    MiniEncoder,
    PhoneEncoderConfig,
    build,
)
from knnvc.mini.refiner import RefinerConfig
from knnvc.pipeline import VoiceConverter
from knnvc.presets.schema import FORMAT_VERSION, Preset, load_preset
from knnvc.tensors import as_single, pack, read_tensors, write_tensors
from knnvc.training.frontends import add_trained_frontend
from knnvc.vocoders.source_filter import SourceFilterConfig
from recipe import recordings
from recipe.data import MINI_ENCODER, MINI_REFINER, MINI_VOCODER
from recipe.learner import Learner, average_contents, earlier_learner
from recipe.refiner import average_refiners
from recipe.speakers import prior_beside

LICENCE = "Apache-2.0"  # of the weights
MATCHING: dict[str, Any] = {"k": 4, "weighting": "mean", "lam": 1.0}
PACKED = ("refiner", "speech_refiner")  # in 8 bits, as the text front end is


def mini_encoder(weights: Path, config: PhoneEncoderConfig = MINI_ENCODER) -> MiniEncoder:
    """`mini`'s encoder with weights that `train_encoder` wrote."""
    return MiniEncoder(build(config, as_single(read_tensors(weights)[0])))


def preset_encoder(preset: str) -> MiniEncoder:
    """The encoder of a preset of `mini`'s kind.

    Raises:
        UsageError: it is of another kind.
    """
    encoder = VoiceConverter.from_preset(preset, "cpu").encoder
    if not isinstance(encoder, MiniEncoder):
        raise UsageError(f"preset {preset!r} has another encoder than mini's")
    return encoder


def mini_space(refiner: Path | None = None) -> AcousticSpace:
    """The space that `mini` searches in for recordings, with the prior of a `refiner`'s weights."""
    prior = None if refiner is None else prior_beside(refiner)
    return AcousticSpace(RECORDINGS, MINI_ENCODER.mels, MINI_ENCODER.substeps, prior=prior)


def mini_learner(weights: Path) -> Learner:
    """`mini`'s refiner and bottleneck with weights that `train_refiner` wrote."""
    return earlier_learner(MINI_REFINER, MINI_ENCODER.content_inputs, weights).eval()


def package_mini(
    encoder: Path,
    vocoder: Path,
    out: Path,
    name: str = "mini",
    encoder_config: PhoneEncoderConfig = MINI_ENCODER,
    vocoder_config: SourceFilterConfig = MINI_VOCODER,
    refiner: Sequence[Path] = (),
    refiner_config: RefinerConfig = MINI_REFINER,
    text_frontend: Path | None = None,
    speech_refiner: Path | None = None,
) -> Preset:
    """Write `out` with `preset.json` and the weights of encoder, vocoder, refiner, front end.

    Of several `refiner`s, of which one began with the other, the preset gets the mean of the
    weights, see `average_refiners`.
    The last one's prior of speakers goes along.
    `speech_refiner` serves for text instead of `refiner`; by default the same does for both. A
    model card is drafted where there is none; what was measured has to be added by hand.

    Raises:
        KnnvcError: a weights file is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    provenance: dict[str, Any] = {"corpus": "Kokoro-82M speech (Apache-2.0), English"}
    parts: dict[str, Sequence[Path]] = {"encoder": [encoder], "vocoder": [vocoder]}
    if refiner:
        parts["refiner"] = refiner
        if speech_refiner is not None:
            parts["speech_refiner"] = [speech_refiner]
    for part, sources in parts.items():
        if part == "encoder":
            state, metadata = read_tensors(encoder)
            if refiner:
                state |= {name: x.half() for name, x in average_contents(refiner).items()}
            write_tensors(out / "encoder.safetensors", pack(state), metadata)
        elif part in PACKED:
            state, metadata = average_refiners(sources, refiner_config)
            prior = prior_beside(sources[-1])
            state |= {} if prior is None else prior.tensors()
            write_tensors(out / f"{part}.safetensors", pack(state), metadata)
        else:
            _, metadata = read_tensors(sources[0])
            shutil.copyfile(sources[0], out / f"{part}.safetensors")
        provenance |= {f"{part}_{key}": value for key, value in metadata.items()}
        provenance[f"{part}_sha256"] = sha256_file(out / f"{part}.safetensors")
    values = _preset(name, encoder_config, vocoder_config, parts, provenance)
    if refiner:
        values["licences"]["refiner"] = LICENCE
        values["converter"] = _converter("recordings", "refiner", refiner_config)
        own = "refiner" if speech_refiner is None else "speech_refiner"
        values["speech_converter"] = _converter("text", own, refiner_config)
    (out / "preset.json").write_text(json.dumps(values, indent=1) + "\n")
    card = out / "MODEL_CARD.md"
    if not card.exists():
        card.write_text(_card(name, values), encoding="utf-8")
    made = load_preset(out)
    return made if text_frontend is None else add_own_front_end(made, text_frontend)


def add_own_front_end(preset: Preset, weights: Path) -> Preset:
    """Give a preset the text front end that this recipe trained."""
    corpus = "one voice of Kokoro-82M"
    return add_trained_frontend(preset, weights, licence=LICENCE, corpus=corpus, eight_bits=True)


def _preset(
    name: str,
    encoder: PhoneEncoderConfig,
    vocoder: SourceFilterConfig,
    parts: Iterable[str],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """What preset.json says of a preset without a refiner."""
    learnt = [part for part in parts if f"{part}_recorded_hours" in provenance]
    speech = "; ".join([LICENCE, *(f"{part}: also {recordings.LICENCE}" for part in learnt)])
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "description": "Small and offline: English, 16 kHz, trained from scratch on Kokoro speech.",
        "sample_rate": 16_000,
        "encoder": {
            "type": "mini",
            "weights": "encoder.safetensors",
            "config": encoder.to_dict(),
            "chunk_seconds": CHUNK_SECONDS,
            "context_seconds": CONTEXT_SECONDS,
        },
        "converter": {"type": "knn", "config": MATCHING},
        "vocoder": {
            "type": "source-filter",
            "weights": "vocoder.safetensors",
            "config": vocoder.to_dict(),
        },
        "text_front_end": None,
        "licence": LICENCE,
        "licences": {"encoder": LICENCE, "vocoder": LICENCE, "training speech": speech},
        "provenance": provenance,
    }


def _converter(source: str, weights: str, config: RefinerConfig) -> dict[str, Any]:
    """The converter of a preset with a refiner, for a `source` of "recordings" or "text"."""
    return {
        "type": "mini",
        "weights": f"{weights}.safetensors",
        "config": MATCHING | {"source": source, "refiner": config.to_dict()},
    }


def _card(name: str, values: dict[str, Any]) -> str:
    rows = [*values["provenance"].items()]
    rows += [(f"licence of the {part}", text) for part, text in values["licences"].items()]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return (
        f"# {name}\n\n{values['description']}\n\n| what | value |\n|---|---|\n{table}\n\n"
        "Nothing is measured yet: `knnvc evaluate` does it.\n"
    )
