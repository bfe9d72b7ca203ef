"""Presets of any encoder and any vocoder: `knnvc preset new`, and import by family.

What is written is self-contained: the encoder's weights up to the layer that is used, and the
vocoder's, as safetensors, with what `preset.json` says of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.encoders.base import LAST, frames_a_second
from knnvc.errors import KnnvcError, UsageError
from knnvc.presets.catalogue import ENCODERS, VOCODERS, Progress, find_known
from knnvc.presets.checkpoints import Read, is_wavlm
from knnvc.presets.copying import scaled_input
from knnvc.presets.importing import check_out, import_published, replace_folder
from knnvc.presets.loading import choose_device
from knnvc.presets.named import encoder_files, verify, with_layer
from knnvc.presets.schema import FORMAT_VERSION, Preset, load_preset, save_json
from knnvc.presets.vocoder_files import ReadVocoder, read_vocoder
from knnvc.registry import Context, PartSpec, find
from knnvc.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_LAYER = 6  # kNN-VC's
# Of transformers' configurations, what says nothing of the network.
_NOT_SIZES = frozenset(
    {"architectures", "transformers_version", "torch_dtype", "dtype", "model_type"}
    | {"_name_or_path", "_attn_implementation", "auto_map"}
)


def new_preset(
    encoder: str | Path | None,
    layer: int | None,
    out: Path,
    *,
    vocoder: str | Path | None = None,
    vocoder_config: Path | None = None,
    weights: Path | None = None,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Preset:
    """Make a preset folder out of an encoder and, if there is one, a vocoder.

    Args:
        encoder: see `knnvc.presets.named.open_encoder`; None for the mel spectra of the vocoder.
        layer: of the encoder; None is its own.
        out: the folder to make.
        vocoder: a name of `knnvc.presets.catalogue.VOCODERS`, or a published file; None makes a
            preset that encodes and matches, to train a vocoder for.
        vocoder_config: of a vocoder's file; by default the one beside it.
        weights: the encoder's published file, where the user brings it.
        config: settings of the encoder.
        name: of the preset; the folder's by default.
        force: replace `out` if it is a preset.
        progress: of downloads.

    Raises:
        UsageError: a part does not exist, or `out` is in the way.
        KnnvcError: a file is missing or damaged, or the parts do not fit each other.
    """
    check_out(out, force)
    if name is not None and not name.strip():
        raise UsageError("the name of a preset must not be empty: give another --name")
    read = None if vocoder is None else _vocoder(vocoder, vocoder_config, progress)
    known = None if vocoder is None else find_known(VOCODERS, str(vocoder))
    if encoder is None and known is not None and known.encoder:
        encoder, layer = known.encoder
    if encoder is not None and read is not None and config is None:
        config = scaled_input(encoder, read)
    if encoder is None:
        if read is None or read.mel is None:
            raise UsageError("name the --encoder whose features the preset is to match")
        spec, state = read.mel, None
    else:
        files = encoder_files(encoder, weights=weights, config=config, progress=progress)
        known_encoder = find_known(ENCODERS, str(encoder))
        if layer is None and known_encoder is not None:
            layer = known_encoder.layer
        spec, state = _self_contained((with_layer(files[0], layer, str(encoder)), files[1]))
    label = name or out.resolve().name
    content = _content(label, spec, state, read) | {
        "description": f"{encoder or 'log-mel spectra'} {_layer_words(spec)}"
        f"{'without a vocoder' if read is None else f'and {vocoder}'}.",
        "licences": _licences(encoder, vocoder),
        "provenance": {"encoder": str(encoder or ""), "vocoder": str(vocoder or "")},
    }
    with replace_folder(out) as folder:
        folder.mkdir()
        if state is not None:
            write_tensors(folder / "encoder.safetensors", state)
        if read is not None:
            write_tensors(folder / "vocoder.safetensors", read.state)
        save_json(folder, content)
        load_preset(folder)
    return load_preset(out)


def import_any(
    encoder: str,
    layer: int | None,
    vocoder: str,
    vocoder_config: str | None,
    out: Path,
    **more: Any,
) -> Preset:
    """A preset of published files of any family; of WavLM and HiFi-GAN as kNN-VC published them.

    Raises:
        UsageError: a file is missing, the layer does not exist, or `out` is in the way.
        KnnvcError: a file is damaged, or the two do not fit each other.
    """
    config = None if vocoder_config is None else Path(vocoder_config)
    if config is not None and Path(encoder).is_file() and is_wavlm(Path(encoder)):
        layer = PUBLISHED_LAYER if layer is None else layer
        return import_published(Path(encoder), layer, Path(vocoder), config, out, **more)
    return new_preset(encoder, layer, out, vocoder=vocoder, vocoder_config=config, **more)


def _vocoder(name: str | Path, config: Path | None, progress: Progress | None) -> ReadVocoder:
    known = find_known(VOCODERS, str(name))
    if known is None:
        return read_vocoder(Path(name).expanduser(), config)
    if not known.files:
        raise UsageError(f"{known.name} reads waveforms, not features: no preset can have it")
    folder = known.fetch(progress)
    verify(known)
    return read_vocoder(folder)


def _self_contained(read: Read) -> Read:
    """The encoder with the weights of the layers that are used in memory."""
    spec, state = read
    if spec.type == "huggingface":
        spec, state = _of_transformers(spec)
    elif state is None and spec.weights is not None:
        state = read_tensors(spec.weights)[0]
    layers = spec.layers if isinstance(spec.layers, tuple) else ()
    if state is None or LAST in layers or "num_hidden_layers" not in spec.config:
        return spec, state
    from knnvc.encoders.ssl import first_layers

    count = max(1, *layers)
    depth = int(spec.config["num_hidden_layers"])
    if max(layers) > depth:
        raise UsageError(f"the encoder has the layers 0 to {depth}, not {max(layers)}")
    return (
        replace(spec, config={**spec.config, "num_hidden_layers": count}),
        first_layers(state, count),
    )


def _of_transformers(spec: PartSpec) -> tuple[PartSpec, dict[str, Tensor]]:
    from dataclasses import fields

    from knnvc.encoders.ssl import read_huggingface
    from knnvc.encoders.wavlm import WavLMConfig

    model: Any = read_huggingface(spec.folder / str(spec.config["name"]))
    kind = model.config.model_type
    if kind == "wavlm":
        values = {one.name: getattr(model.config, one.name) for one in fields(WavLMConfig)}
    else:
        told = model.config.to_diff_dict()
        values = {key: one for key, one in told.items() if key not in _NOT_SIZES}
        values["num_hidden_layers"] = model.config.num_hidden_layers
    values["normalize"] = bool(spec.config.get("normalize", False))
    state = {key: one.detach().clone() for key, one in model.state_dict().items()}
    return replace(spec, type=kind, config=values), state


def _content(
    name: str, spec: PartSpec, state: dict[str, Tensor] | None, read: ReadVocoder | None
) -> dict[str, Any]:
    """What preset.json says; the parts are built once, which checks that they fit each other."""
    context = Context(name, choose_device("cpu"))
    made = find("encoder", spec.type).make(spec, context, state)
    vocoder, rate = None, made.sample_rate
    if read is not None:
        part = find("vocoder", read.spec.type).make(read.spec, context, read.state)
        given, rates = made.columns.width, (frames_a_second(made), frames_a_second(part))
        if given != part.dim or rates[0] != rates[1]:
            raise KnnvcError(
                f"the vocoder reads {part.dim} columns {float(rates[1]):g} times a second and the "
                f"encoder gives {given}, {float(rates[0]):g} times: use parts that belong together"
            )
        rate = part.sample_rate
        vocoder = {
            "type": read.spec.type,
            "weights": "vocoder.safetensors",
            "config": dict(read.spec.config),
        }
    encoder: dict[str, Any] = {"type": spec.type, "config": dict(spec.config), **spec.settings}
    if state is not None:
        encoder["weights"] = "encoder.safetensors"
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "licence": "see licences",
        "sample_rate": rate,
        "encoder": encoder,
        "converter": {"type": "knn", "config": {"k": 4, "weighting": "mean", "lam": 1.0}},
        "vocoder": vocoder,
        "text_front_end": None,
    }


def _layer_words(spec: PartSpec) -> str:
    layers = spec.layers
    if not isinstance(layers, tuple):
        return ""
    return "last layer " if layers == (LAST,) else f"layer {layers[0]} "


def _licences(encoder: str | Path | None, vocoder: str | Path | None) -> dict[str, str]:
    found = {"encoder": "unknown"} if encoder else {}
    for kind, table, name in (("encoder", ENCODERS, encoder), ("vocoder", VOCODERS, vocoder)):
        known = None if name is None else find_known(table, str(name))
        if name is not None:
            found[kind] = "unknown" if known is None else known.licence
    return found
