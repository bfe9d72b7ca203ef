"""Put trained weights together as a preset folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from knnvc.encoders.base import Encoder
from knnvc.files import sha256_file
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.encoder import MelWavLMConfig, load_network
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.presets.schema import FORMAT_VERSION, Preset, load_preset
from knnvc.tensors import pack, read_tensors, write_tensors
from knnvc.training.frontends import LICENCE, add_trained_frontend
from knnvc.vocoders.source_filter import SourceFilterConfig
from recipe import recordings
from recipe.data import MINI_ENCODER, MINI_REFINER, MINI_VOCODER
from recipe.refiner import average_refiners, earlier_refiner

MINI_MATCHING: dict[str, Any] = {
    "k": 4,
    "weighting": "mean",
    "lam": 1.0,
    "space": dataclasses.asdict(AcousticSpaceOptions(candidates=16, join_weight=0.3)),
}
# The refiner knows the source's envelope; what it reads stays the target's own. That neighbours
# resemble the source's envelope the more keeps more of the voice, for as many words, than to have
# them follow it, except in a voice of few frames. Of what was selected, the path that joins best,
# about a fifth is kept: rougher than what the refiner makes, and more like the target.
REFINED_MATCHING: dict[str, Any] = {
    "context": ((-4, 0.7), (-2, 1.0), (2, 1.0), (4, 0.7)),
    "envelope_weight": 5.0,
    "envelope_transfer": 0.0,
    "uncorrected_transfer": 0.2,
    "roughness": 0.075,
    "kept": 1,
    "balanced": 100,
    "sharpened": 2.0,
}
# Text has no voice of its own to get rid of: what follows its front end closely loses fewer words.
SPEECH_MATCHING: dict[str, Any] = {
    "context": AcousticSpaceOptions.context,
    "envelope_weight": 4.0,
    "candidates": 1,
    "kept": 0,
    "roughness": 0.0,
    "balanced": 0,
    "envelope_transfer": 0.5,
    "uncorrected_transfer": None,
}
PACKED = ("refiner", "speech_refiner")  # in 8 bits, as the text front end is


def mini_encoder(weights: Path) -> Encoder:
    """`mini`'s encoder with weights that `train_encoder` wrote."""
    state, _ = read_tensors(weights)
    single = {name: tensor.float() for name, tensor in state.items()}
    config = MINI_ENCODER
    return Encoder(load_network("mel-wavlm", config.to_dict(), single, config.layers, 0))


def mini_space() -> AcousticSpace:
    """The space that `mini` searches in without a refiner."""
    options = AcousticSpaceOptions.from_dict(MINI_MATCHING["space"])
    config = MINI_ENCODER
    return AcousticSpace(options, config.mels, config.substeps)


def mini_refiner(weights: Path) -> Refiner:
    """`mini`'s refiner with weights that `train_refiner` wrote."""
    return earlier_refiner(MINI_REFINER, weights)


def package_mini(
    encoder: Path,
    vocoder: Path,
    out: Path,
    name: str = "mini",
    encoder_config: MelWavLMConfig = MINI_ENCODER,
    vocoder_config: SourceFilterConfig = MINI_VOCODER,
    refiner: Sequence[Path] = (),
    refiner_config: RefinerConfig = MINI_REFINER,
    text_frontend: Path | None = None,
    speech_refiner: Path | None = None,
) -> Preset:
    """Write `out` with `preset.json` and the weights of encoder, vocoder, refiner, front end.

    Of several `refiner`s, of which one began with the other, the preset gets the mean of the
    weights, see `average_refiners`.
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
        if part in PACKED:
            state, metadata = average_refiners(sources, refiner_config)
            write_tensors(out / f"{part}.safetensors", pack(state), metadata)
        else:
            _, metadata = read_tensors(sources[0])
            shutil.copyfile(sources[0], out / f"{part}.safetensors")
        provenance |= {f"{part}_{key}": value for key, value in metadata.items()}
        provenance[f"{part}_sha256"] = sha256_file(out / f"{part}.safetensors")
    values = _preset(name, encoder_config, vocoder_config, parts, provenance)
    if refiner:
        space = values["matching"]["space"] | REFINED_MATCHING
        values["matching"] = values["matching"] | {"space": space}
        values["refiner"] = {"weights": "refiner.safetensors", "config": refiner_config.to_dict()}
        values["licences"]["refiner"] = LICENCE
        values["speech"] = _speech(values, speech_refiner is not None)
    (out / "preset.json").write_text(json.dumps(values, indent=1) + "\n")
    card = out / "MODEL_CARD.md"
    if not card.exists():
        card.write_text(_card(name, values), encoding="utf-8")
    made = load_preset(out)
    return made if text_frontend is None else add_trained_frontend(made, text_frontend)


def _preset(
    name: str,
    encoder: MelWavLMConfig,
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
            "type": "mel-wavlm",
            "weights": "encoder.safetensors",
            "config": dataclasses.asdict(encoder),
            "match_layer": encoder.layers,
            "synth_layer": 0,
            # Attention over longer pieces than were trained on names fewer phones rightly.
            "chunk_seconds": 4.0,
            "context_seconds": 1.0,
        },
        "matching": MINI_MATCHING,
        "vocoder": {
            "type": "source-filter",
            "weights": "vocoder.safetensors",
            "config": dataclasses.asdict(vocoder),
        },
        "text_frontend": None,
        "licence": LICENCE,
        "licences": {"encoder": LICENCE, "vocoder": LICENCE, "training speech": speech},
        "provenance": provenance,
    }


def _speech(values: dict[str, Any], own_refiner: bool) -> dict[str, Any]:
    """How text is matched in the preset that `values` describe."""
    matching = values["matching"] | {"space": values["matching"]["space"] | SPEECH_MATCHING}
    speech: dict[str, Any] = {"matching": matching}
    if own_refiner:
        speech["refiner"] = values["refiner"] | {"weights": "speech_refiner.safetensors"}
    return speech


def _card(name: str, values: dict[str, Any]) -> str:
    rows = [*values["provenance"].items()]
    rows += [(f"licence of the {part}", text) for part, text in values["licences"].items()]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return (
        f"# {name}\n\n{values['description']}\n\n| what | value |\n|---|---|\n{table}\n\n"
        "Nothing is measured yet: `knnvc evaluate` does it.\n"
    )
