"""Which parts there are: a name for each encoder, converter, vocoder and text front end.

A part is one file and one `register` call, or one line of the table below. From it follow what a
`preset.json` may name, the command line's choices, import, training, ONNX export and the tables of
the docs. Nothing is imported until a part is loaded; this module imports no torch.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError

if TYPE_CHECKING:
    from knnvc.encoders.base import Encoder
    from knnvc.text.base import TextFrontEnd
    from knnvc.vocoders.base import Vocoder

KINDS = ("encoder", "converter", "vocoder", "text_front_end")


@dataclass(frozen=True)
class PartSpec:
    """What a preset says of one of its parts.

    Attributes:
        kind: one of `KINDS`.
        type: name in the registry.
        config: for the part's config class.
        weights: its safetensors file, if it has one.
        assets: further files by name.
        folder: of the preset.
        settings: the other entries of the part, such as an encoder's layers.
    """

    kind: str
    type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    assets: Mapping[str, Path] = field(default_factory=dict)
    folder: Path = Path()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...] | str | None:
        """An encoder's layers: the one to synthesise from, and the one to search in if another.

        "all" is all of them, side by side; None means that nothing is said.
        """
        if "layers" in self.settings:
            return str(self.settings["layers"])
        if "synth_layer" not in self.settings:
            return None
        synth, match = int(self.settings["synth_layer"]), int(self.settings["match_layer"])
        return (synth,) if synth == match else (synth, match)

    def seconds(self, name: str, chosen: float | None, usual: float) -> float:
        """The setting NAME_seconds, unless the user has `chosen` another."""
        return float(self.settings.get(f"{name}_seconds", usual) if chosen is None else chosen)


@dataclass
class Context:
    """What a part may ask for while it is loaded: where to compute, and the parts before it.

    Parts are loaded in the order encoder, vocoder, converter, text front end.

    Attributes:
        preset: name, for messages.
        device: a `torch.device`.
        precision: one of `knnvc.options.PRECISIONS`.
        chunk: seconds of the pieces that long audio is encoded in; None is the part's own.
        fast: whether layers are swapped for ones that compute faster (`knnvc.kernels`).
        encoder: loaded already, or None.
        vocoder: loaded already, or None.
        front_end: makes the preset's text front end, for converters of text.
    """

    preset: str
    device: Any
    precision: str = "float32"
    chunk: float | None = None
    fast: bool = True
    encoder: Encoder | None = None
    vocoder: Vocoder | None = None
    front_end: Callable[[], TextFrontEnd] | None = None


@dataclass(frozen=True)
class Entry:
    """One kind of part by name.

    Attributes:
        kind: one of `KINDS`.
        name: in `preset.json` and on the command line.
        load: "module:function", called as `load(spec, context)`, or the function itself; it returns
            the part.
        config: "module:Class" of a dataclass, or the class, that checks a part's `config`.
        summary: one sentence for tables.
        weights: whether the part has a safetensors file.
        settings: further keys that the part's JSON may have.
        build: "module:function", called as `build(spec, state, context)` with the weights in
            memory; for parts that `knnvc.presets` reads from published files.
    """

    kind: str
    name: str
    load: str | Callable[[PartSpec, Context], Any]
    config: str | type | None = None
    summary: str = ""
    weights: bool = True
    settings: tuple[str, ...] = ()
    build: str | None = None

    def check(self, config: Mapping[str, Any]) -> Any:
        """The part's config object.

        Raises:
            KnnvcError: a key is unknown, or a value not allowed.
        """
        if self.config is None:
            return dict(config)
        kind = _resolve(self.config)
        return kind.from_dict(config)

    def make(self, spec: PartSpec, context: Context, state: Mapping[str, Any] | None = None) -> Any:
        """Load the part, or build it around weights that were read already.

        Raises:
            KnnvcError: its files are damaged, or do not fit its configuration.
        """
        if state is not None and self.build is None:
            raise KnnvcError(f"the {self.kind} {self.name} cannot be taken out of its preset")
        load: Callable[..., Any] = _resolve(self.load if state is None else self.build)
        try:
            return load(spec, context) if state is None else load(spec, state, context)
        except (KnnvcError, MemoryError):
            raise
        except Exception as error:  # of every type, some of them transformers' own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:120]
            raise KnnvcError(
                f"the {self.kind.replace('_', ' ')} of preset {context.preset!r} does not fit its "
                f"configuration ({reason}): get the preset again"
            ) from error


_ENTRIES: dict[tuple[str, str], Entry] = {}


def register(entry: Entry) -> None:
    """Add a part, or replace the one of the same kind and name.

    Raises:
        KnnvcError: there is no such kind.
    """
    if entry.kind not in KINDS:
        raise KnnvcError(f"there is no kind of part {entry.kind!r}: {', '.join(KINDS)}")
    _ENTRIES[entry.kind, entry.name] = entry


def names(kind: str) -> list[str]:
    """The names of all parts of a kind, in the order of registration."""
    return [name for of, name in _ENTRIES if of == kind]


def entries(kind: str) -> list[Entry]:
    """All parts of a kind, in the order of registration."""
    return [entry for (of, _), entry in _ENTRIES.items() if of == kind]


def find(kind: str, name: str) -> Entry:
    """The part of this kind and name.

    Raises:
        KnnvcError: there is none; the message lists those that there are.
    """
    entry = _ENTRIES.get((kind, name)) if isinstance(name, str) else None
    if entry is None:
        known = names(kind)
        close = difflib.get_close_matches(str(name)[:40].lower(), known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise KnnvcError(
            f"unknown {kind.replace('_', ' ')} type {str(name)[:40]!r}{hint}: valid types are "
            f"{', '.join(known)}"
        )
    return entry


def _resolve(where: Any) -> Any:
    if not isinstance(where, str):
        return where
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


_LAYERS = ("match_layer", "synth_layer", "chunk_seconds", "context_seconds")
_PIECES = ("chunk_seconds", "context_seconds")
_TABLE = (
    Entry(
        "encoder",
        "mini",
        "knnvc.mini.encoder:load",
        "knnvc.mini.encoder:PhoneEncoderConfig",
        "log-mel spectra into layers of Whisper, with phones and exact pitch",
        settings=_PIECES,
    ),
    *(
        Entry(
            "encoder",
            name,
            "knnvc.encoders.ssl:load",
            None,
            summary,
            settings=_LAYERS,
            build="knnvc.encoders.ssl:build",
        )
        for name, summary in (
            ("wavlm", "WavLM (Chen et al. 2022), one transformer layer"),
            ("hubert", "HuBERT (Hsu et al. 2021), one transformer layer"),
            ("wav2vec2", "wav2vec 2.0 (Baevski et al. 2020), one transformer layer"),
            ("data2vec-audio", "data2vec (Baevski et al. 2022), one transformer layer"),
        )
    ),
    Entry(
        "encoder",
        "huggingface",
        "knnvc.encoders.ssl:load_named",
        None,
        "a WavLM, HuBERT, wav2vec 2.0 or data2vec checkpoint in the format of transformers",
        weights=False,
        settings=_LAYERS,
    ),
    Entry(
        "encoder",
        "wav2vec",
        "knnvc.encoders.wav2vec:load",
        "knnvc.encoders.wav2vec:Wav2VecConfig",
        "wav2vec (Schneider et al. 2019), the aggregator or one of its layers",
        settings=_LAYERS,
        build="knnvc.encoders.wav2vec:build",
    ),
    Entry(
        "encoder",
        "byol-a",
        "knnvc.encoders.byol:load",
        "knnvc.encoders.byol:ByolConfig",
        "BYOL-A (Niizumi et al. 2021, 2023), a frame every 80 or 40 ms",
        settings=_PIECES,
        build="knnvc.encoders.byol:build",
    ),
    Entry(
        "encoder",
        "log-mel",
        "knnvc.encoders.mel:load",
        "knnvc.encoders.mel:MelConfig",
        "log-mel spectra, as the vocoder that reads them was trained on",
        weights=False,
        settings=_PIECES,
    ),
    Entry(
        "encoder",
        "mfcc",
        "knnvc.encoders.mel:load_mfcc",
        "knnvc.encoders.mel:MfccConfig",
        "mel-frequency cepstral coefficients with their slopes",
        weights=False,
        settings=_PIECES,
    ),
    Entry(
        "converter",
        "knn",
        "knnvc.converters.knn:load",
        "knnvc.converters.knn:KnnConfig",
        "published kNN-VC: the mean of the k nearest frames by cosine",
        weights=False,
    ),
    Entry(
        "converter",
        "mini",
        "knnvc.mini.converter:load",
        "knnvc.mini.converter:MiniConfig",
        "mini's: phones, envelope and pitch, unit selection, a refiner",
    ),
    Entry(
        "vocoder",
        "hifigan",
        "knnvc.vocoders.hifigan:load",
        "knnvc.vocoders.hifigan:HifiGanConfig",
        "HiFi-GAN (Kong et al. 2020) on SSL features, as in published kNN-VC, or on mel spectra",
        build="knnvc.vocoders.hifigan:build",
    ),
    Entry(
        "vocoder",
        "bigvgan",
        "knnvc.vocoders.bigvgan:load",
        "knnvc.vocoders.bigvgan:BigVganConfig",
        "BigVGAN (Lee et al. 2023): periodic activations without aliasing",
        build="knnvc.vocoders.bigvgan:build",
    ),
    Entry(
        "vocoder",
        "vocos",
        "knnvc.vocoders.vocos:load",
        "knnvc.vocoders.vocos:VocosConfig",
        "Vocos (Siuzdak 2024): spectra by ConvNeXt blocks, then an inverse Fourier transform",
        build="knnvc.vocoders.vocos:build",
    ),
    Entry(
        "vocoder",
        "source-filter",
        "knnvc.vocoders.source_filter:load",
        "knnvc.vocoders.source_filter:SourceFilterConfig",
        "harmonics and noise through filters that a small network predicts",
    ),
    Entry(
        "text_front_end",
        "mini-tts",
        "knnvc.mini.text_frontend:load",
        "knnvc.mini.text_frontend:TextFrontendConfig",
        "mini's: durations, pitch by flow matching, spectra",
        settings=("language",),
    ),
    Entry(
        "text_front_end",
        "glow-tts",
        "knnvc.text.glow:load",
        "knnvc.text.glow:GlowConfig",
        "Glow-TTS (Kim et al. 2020), as in published kNN-TTS",
        settings=("language",),
    ),
)
for _entry in _TABLE:
    register(_entry)
