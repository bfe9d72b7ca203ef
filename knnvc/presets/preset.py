"""Presets: named folders that hold an encoder, a vocoder, and how to use them.

A preset folder has a `preset.json` and the weights as safetensors, and needs nothing outside
itself. `mini` is bundled; published kNN-VC (`wavlm-large`) is downloaded on demand. torch is
imported only when weights are converted, so that listing presets is fast.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.resources
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvc.errors import KnnvcError, UsageError
from knnvc.files import atomic_path, cache_dir, os_reason, sha256_file
from knnvc.presets.download import REGISTRY, Progress, download
from knnvc.presets.published import read_published_hifigan, read_published_wavlm
from knnvc.tensors import check_shapes, read_json, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from knnvc.vocoders.hifigan import HifiGanConfig

FORMAT_VERSION = 1
FILE_NAME = "preset.json"
ENCODER_TYPES = ("mel-wavlm", "wavlm", "hubert", "wav2vec2", "data2vec-audio", "huggingface")
VOCODER_TYPES = ("hifigan", "source-filter")
FRONTEND_TYPES = ("mini-tts", "glow-tts")
WEIGHTINGS = ("mean", "distance")
LARGEST_LAM = 2.0

_ENCODER_RATE = 16_000  # Hz: every supported encoder hears 16 kHz

_PIECES = frozenset({"chunk_seconds", "context_seconds"})  # of `knnvc.encoders.encoder.Encoder`
_ENCODER_KEYS = frozenset({"type", "weights", "config", "match_layer", "synth_layer"})
_MATCHING_KEYS = frozenset({"k", "weighting", "lam"})
_SPACE = "space"  # optional: options of knnvc.mini.acoustic_space
_VOCODER_KEYS = frozenset({"type", "weights", "config"})
_REFINER = "refiner"  # optional: what a knnvc.mini.refiner.Refiner is built from
_REFINER_KEYS = frozenset({"weights", "config"})
_SPEECH = "speech"  # optional: how text is matched, where that differs
_FRONTEND_KEYS = frozenset({"type", "weights", "config", "language"})


@dataclass(frozen=True)
class Preset:
    """What a `preset.json` says, checked; the weights themselves are not loaded.

    Attributes:
        folder: Where it lies.
        name: Its name, which matching sets remember.
        description: One sentence for `knnvc preset list`.
        sample_rate: Of the converted audio, in Hz.
        encoder: type, weights (file name), config, match_layer and synth_layer (transformer
            layers, 1 is the first). Type "huggingface" has no weights but a name in its config.
        matching: k (neighbours), weighting ("mean" or "distance") and lam (0 to 2), the defaults;
            space (`knnvc.mini.acoustic_space`) where the encoder gives what that needs.
        vocoder: type, weights (file name) and config.
        text_frontend: type, weights (file name), config and language (an espeak-ng voice) of the
            text front end, or None.
        refiner: weights and config of the network that smooths selected frames, or None.
        speech: matching, and maybe refiner, that serve for text, whose phones are known, instead
            of those above; or None.
        licence: Of the preset as a whole.
        licences: Of its parts, by name.
        provenance: Where the weights come from.
    """

    folder: Path
    name: str
    description: str
    sample_rate: int
    encoder: dict[str, Any]
    matching: dict[str, Any]
    vocoder: dict[str, Any]
    text_frontend: dict[str, Any] | None
    licence: str
    licences: dict[str, str]
    provenance: dict[str, Any]
    refiner: dict[str, Any] | None = None
    speech: dict[str, Any] | None = None

    @property
    def for_speech(self) -> Preset:
        """This preset with what serves for text in place of what serves for recordings."""
        if self.speech is None:
            return self
        refiner = self.speech.get(_REFINER, self.refiner)
        return replace(self, matching=self.speech["matching"], refiner=refiner, speech=None)

    @property
    def encoder_weights(self) -> Path | None:
        """The encoder's safetensors file; None for encoders that transformers fetches."""
        name = self.encoder.get("weights")
        return None if name is None else self.folder / name

    @property
    def vocoder_weights(self) -> Path:
        """The vocoder's safetensors file."""
        return self.folder / str(self.vocoder["weights"])

    @property
    def refiner_weights(self) -> Path | None:
        """The refiner's safetensors file, if the preset has one."""
        return None if self.refiner is None else self.folder / str(self.refiner["weights"])

    @property
    def text_frontend_weights(self) -> Path | None:
        """The text front end's safetensors file, if the preset has one."""
        frontend = self.text_frontend
        return None if frontend is None else self.folder / str(frontend["weights"])


@dataclass(frozen=True)
class PresetEntry:
    """One line of `knnvc preset list`; `status` is bundled, downloaded, available or damaged."""

    name: str
    status: str
    description: str
    licence: str
    folder: Path | None


@dataclass(frozen=True)
class PublishedPreset:
    """A preset that `pull` can make of files in the registry (named by `encoder`, `vocoder`).

    `text_frontend` names a Glow-TTS checkpoint and its config.json: an extra, without which the
    preset converts speech all the same.
    """

    name: str
    description: str
    encoder: str
    vocoder: str
    vocoder_config: Mapping[str, Any]
    layer: int
    licence: str
    licences: Mapping[str, str] = field(default_factory=dict)
    text_frontend: tuple[str, str] | None = None
    text_frontend_licence: str = "unknown"


PUBLISHED: dict[str, PublishedPreset] = {
    preset.name: preset
    for preset in (
        PublishedPreset(
            name="wavlm-large",
            description="Published kNN-VC: WavLM-Large, layer 6, and HiFi-GAN trained on "
            "prematched features.",
            encoder="WavLM-Large.pt",
            vocoder="prematch_g_02500000.pt",
            # hifigan/config_v1_wavlm.json of bshall/knn-vc, without its training settings.
            vocoder_config={
                "hubert_dim": 1024,
                "hifi_dim": 512,
                "upsample_rates": [10, 8, 2, 2],
                "upsample_kernel_sizes": [20, 16, 4, 4],
                "upsample_initial_channel": 512,
                "resblock": "1",
                "resblock_kernel_sizes": [3, 7, 11],
                "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
                "sampling_rate": 16_000,
            },
            layer=6,
            licence="MIT",
            licences={
                "encoder": "MIT (Microsoft unilm, mirrored by the bshall/knn-vc release)",
                "vocoder": "MIT (bshall/knn-vc)",
            },
            text_frontend=("best_model_646135.pth", "knn-tts-config.json"),
            text_frontend_licence="MIT (idiap/kNN-TTS)",
        ),
    )
}


# Finding and reading ----------------------------------------------------------------------------


def find_preset(name_or_folder: str | Path) -> Preset:
    """Find a preset: bundled with the package, then pulled into the cache, then a folder.

    Raises:
        UsageError: There is none; the message lists the valid names, or says how to get it.
        KnnvcError: It is damaged.
    """
    text = str(name_or_folder)
    for home in (bundled_folder(), presets_folder()):
        # A bare name only: ".." or "a/b" would step out of the folder of presets.
        if (
            text not in ("", "..")
            and Path(text).name == text
            and (home / text / FILE_NAME).is_file()
        ):
            return load_preset(home / text)
    folder = Path(name_or_folder).expanduser()
    if folder.name == FILE_NAME and folder.is_file():
        return load_preset(folder.parent)
    if (folder / FILE_NAME).is_file():
        return load_preset(folder)
    if text in PUBLISHED:
        raise UsageError(_not_pulled(PUBLISHED[text]))
    if folder.is_dir():
        raise UsageError(f"the folder {folder} is no preset: it has no {FILE_NAME}")
    names = [entry.name for entry in list_presets()]
    close = difflib.get_close_matches(text.lower(), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"there is no preset {text!r}{hint}: give one of {', '.join(names)}, or a preset's folder"
    )


def list_presets() -> list[PresetEntry]:
    """List the bundled presets, the pulled ones, then those that can be pulled.

    A damaged preset is listed with what is wrong as its description.
    """
    entries: dict[str, PresetEntry] = {}
    for status, home in (("bundled", bundled_folder()), ("downloaded", presets_folder())):
        folders = sorted(home.iterdir()) if home.is_dir() else []
        for folder in folders:
            if folder.name in entries or not (folder / FILE_NAME).is_file():
                continue
            try:
                preset = load_preset(folder)
            except KnnvcError as error:
                entry = PresetEntry(folder.name, "damaged", str(error), "unknown", folder)
            else:
                entry = PresetEntry(folder.name, status, preset.description, preset.licence, folder)
            entries[folder.name] = entry
    for known in PUBLISHED.values():
        if known.name not in entries:
            entries[known.name] = PresetEntry(
                known.name, "available", known.description, known.licence, None
            )
    return list(entries.values())


def bundled_folder() -> Path:
    """Return the folder of the presets inside the package; it need not exist."""
    return Path(str(importlib.resources.files("knnvc"))) / "presets"


def presets_folder() -> Path:
    """Return the folder that `pull` puts presets into; it need not exist."""
    return cache_dir() / "presets"


def downloads_folder() -> Path:
    """Return the folder that `pull` downloads into and looks for files put there by hand."""
    return cache_dir() / "downloads"


def load_preset(folder: Path) -> Preset:
    """Read and check the `preset.json` of a folder.

    Raises:
        UsageError: The folder has no preset.json.
        KnnvcError: The preset is damaged: unknown or missing keys, bad values, missing weights.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise UsageError(f"the folder {folder} is no preset: it has no {FILE_NAME}")
    values = read_json(folder / FILE_NAME)
    try:
        _check(values)
    except ValueError as error:
        raise KnnvcError(
            f"the preset {folder} is damaged ({error}): mend its {FILE_NAME}, or get it again"
        ) from error
    del values["format_version"]
    preset = Preset(folder=folder, **values)
    for weights in (
        preset.encoder_weights,
        preset.vocoder_weights,
        preset.refiner_weights,
        preset.for_speech.refiner_weights,
        preset.text_frontend_weights,
    ):
        if weights is not None and not weights.is_file():
            raise KnnvcError(
                f"the preset {folder} is damaged ({weights.name} is missing): get it again"
            )
    return preset


def _not_pulled(known: PublishedPreset) -> str:
    return (
        f"the preset {known.name} is not on this machine yet: run `knnvc preset pull {known.name}`"
        f", without network after putting {known.encoder} and {known.vocoder} into "
        f"{downloads_folder()}"
    )


def _check(values: dict[str, Any]) -> None:
    """Raise ValueError with what is wrong about the content of a preset.json."""
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"format_version is {version!r}, this knnvc reads {FORMAT_VERSION}")
    optional = {_REFINER, _SPEECH}
    keys = {entry.name for entry in fields(Preset)} - {"folder"} - optional | {"format_version"}
    _check_keys("preset", values, keys, optional)
    for key in ("name", "description", "licence"):
        _check_that(isinstance(values[key], str) and values[key], f"{key} must be text")
    _check_that(_is_whole(values["sample_rate"]), "sample_rate must be a whole number of Hz")
    for key in ("encoder", "matching", "vocoder", "licences", "provenance"):
        _check_that(isinstance(values[key], dict), f"{key} must be an object")
    frontend = values["text_frontend"]
    _check_that(frontend is None or isinstance(frontend, dict), "text_frontend must be an object")

    encoder, matching, vocoder = values["encoder"], values["matching"], values["vocoder"]
    fetched = encoder.get("type") == "huggingface"
    own = _ENCODER_KEYS - {"weights"} if fetched else _ENCODER_KEYS
    _check_keys("encoder", encoder, own, _PIECES)
    _check_keys("matching", matching, _MATCHING_KEYS, {_SPACE})
    _check_keys("vocoder", vocoder, _VOCODER_KEYS)
    _check_that(
        encoder["type"] in ENCODER_TYPES, f"encoder type must be one of {', '.join(ENCODER_TYPES)}"
    )
    _check_that(
        vocoder["type"] in VOCODER_TYPES, f"vocoder type must be one of {', '.join(VOCODER_TYPES)}"
    )
    parts = {"encoder": encoder, "vocoder": vocoder}
    if values.get(_REFINER) is not None:
        parts[_REFINER] = _check_refiner(_REFINER, values[_REFINER], matching)
    if values.get(_SPEECH) is not None:
        speech = values[_SPEECH]
        _check_that(isinstance(speech, dict), "speech must be an object")
        _check_keys(_SPEECH, speech, {"matching"}, {_REFINER})
        _check_that(isinstance(speech["matching"], dict), "speech matching must be an object")
        _check_keys("speech matching", speech["matching"], _MATCHING_KEYS, {_SPACE})
        if _REFINER in speech:
            name = "speech refiner"
            parts[name] = _check_refiner(name, speech[_REFINER], speech["matching"])
        _check_matching(speech["matching"])
    if frontend is not None:
        _check_keys("text_frontend", frontend, _FRONTEND_KEYS)
        _check_that(
            frontend["type"] in FRONTEND_TYPES,
            f"text_frontend type must be one of {', '.join(FRONTEND_TYPES)}",
        )
        language = frontend["language"]
        _check_that(isinstance(language, str) and language, "its language must be text")
        parts["text_frontend"] = frontend
    for name, part in parts.items():
        _check_that(isinstance(part["config"], dict), f"{name} config must be an object")
        if "weights" in part:
            weights = part["weights"]
            # A preset is self-contained: its weights lie beside its preset.json.
            plain = isinstance(weights, str) and weights == Path(weights).name
            _check_that(plain, f"{name} weights must be a file name without a folder")
    if fetched:
        name = encoder["config"].get("name")
        _check_that(isinstance(name, str), "encoder config must have the name of a model")
    for key in _PIECES & encoder.keys():
        _check_that(_is_number(encoder[key], 3600.0), f"{key} must be a number of seconds")
    for key in ("match_layer", "synth_layer"):
        _check_that(_is_whole(encoder[key], least=0), f"{key} must be a whole number from 0")
    _check_matching(matching)


def _check_refiner(where: str, refiner: Any, matching: Mapping[str, Any]) -> dict[str, Any]:
    """`refiner`, an object that fits the `matching` settings beside it."""
    _check_that(isinstance(refiner, dict), f"{where} must be an object")
    _check_that(_SPACE in matching, f"a {where} needs {_SPACE} in the matching settings")
    _check_keys(where, refiner, _REFINER_KEYS)
    checked: dict[str, Any] = refiner
    return checked


def _check_matching(matching: Mapping[str, Any]) -> None:
    """The values of matching settings whose keys are checked."""
    _check_that(_is_whole(matching["k"]), "k must be a whole number of at least 1")
    _check_that(
        matching["weighting"] in WEIGHTINGS, f"weighting must be one of {', '.join(WEIGHTINGS)}"
    )
    _check_that(_is_number(matching["lam"], LARGEST_LAM), "lam must be a number from 0 to 2")
    _check_that(isinstance(matching.get(_SPACE, {}), dict), f"{_SPACE} must be an object")


def _check_keys(
    where: str,
    values: Mapping[str, Any],
    keys: AbstractSet[str],
    optional: AbstractSet[str] = frozenset(),
) -> None:
    unknown = sorted(set(values) - keys - optional)
    _check_that(not unknown, f"unknown keys in {where}: {', '.join(unknown)}")
    missing = sorted(keys - set(values))
    _check_that(not missing, f"missing keys in {where}: {', '.join(missing)}")


def _check_that(good: object, problem: str) -> None:
    if not good:
        raise ValueError(problem)


def _is_number(value: object, most: float) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and 0 <= value <= most and math.isfinite(value)  # type: ignore[operator, arg-type]


def _is_whole(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


# Making -----------------------------------------------------------------------------------------


def import_published(
    encoder: Path,
    layer: int,
    vocoder: Path,
    vocoder_config: Path | Mapping[str, Any],
    out: Path,
    *,
    force: bool = False,
    name: str | None = None,
    description: str | None = None,
    licence: str = "unknown",
    licences: Mapping[str, str] | None = None,
) -> Preset:
    """Turn published kNN-VC files into the preset folder `out`, completely or not at all.

    Only the transformer layers up to `layer` are kept: the others never run.

    Args:
        encoder: WavLM checkpoint `{'cfg', 'model'}`.
        layer: Transformer layer whose output is matched and vocoded; 1 is the first.
        vocoder: HiFi-GAN checkpoint `{'generator'}`.
        vocoder_config: Its config.json, or the content of it.
        out: Folder to make.
        force: Replace `out` if it is a preset; any other folder with content is never replaced.
        name: Of the preset; the name of the folder by default.
        description: One sentence; made of the file names by default.
        licence: Of the weights.
        licences: Of the parts, by name.

    Raises:
        UsageError: A file is missing, the layer does not exist, or `out` is in the way.
        KnnvcError: A file is damaged or the two do not fit each other, or writing failed.
    """
    from knnvc.encoders.encoder import first_layers

    encoder, vocoder, out = Path(encoder), Path(vocoder), Path(out)
    _check_out(out, force)
    if name is not None and not name.strip():
        raise UsageError("the name of a preset must not be empty: give another --name")

    wavlm, encoder_state = read_published_wavlm(encoder)
    depth = wavlm["num_hidden_layers"]
    if not _is_whole(layer) or layer > depth:
        raise UsageError(f"{encoder} has the layers 1 to {depth}: choose one of them, not {layer}")
    wavlm["num_hidden_layers"] = layer
    encoder_state = first_layers(encoder_state, layer)
    _check_encoder(encoder, wavlm, encoder_state)

    values, vocoder_state = read_published_hifigan(vocoder, vocoder_config)
    hifigan = _check_vocoder(vocoder, values, vocoder_state)
    _check_fit(wavlm, hifigan)

    content = {
        "format_version": FORMAT_VERSION,
        "name": name or out.resolve().name,
        "description": description
        or f"Imported from {encoder.name} (layer {layer}) and {vocoder.name}.",
        "sample_rate": hifigan.sampling_rate,
        "encoder": {
            "type": "wavlm",
            "weights": "encoder.safetensors",
            "config": wavlm,
            "match_layer": layer,
            "synth_layer": layer,
        },
        "matching": {"k": 4, "weighting": "mean", "lam": 1.0},
        "vocoder": {
            "type": "hifigan",
            "weights": "vocoder.safetensors",
            "config": hifigan.to_dict(),
        },
        "text_frontend": None,
        "licence": licence,
        "licences": dict(licences or {}),
        "provenance": {
            "encoder": {"file": encoder.name, "sha256": sha256_file(encoder), "layers": depth},
            "vocoder": {"file": vocoder.name, "sha256": sha256_file(vocoder)},
        },
    }
    with _replace_folder(out) as folder:
        folder.mkdir()
        write_tensors(folder / "encoder.safetensors", encoder_state)
        write_tensors(folder / "vocoder.safetensors", vocoder_state)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        load_preset(folder)  # what is handed over can be read
    return load_preset(out)


def pull(
    name: str,
    *,
    force: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Preset:
    """Download a published preset into the cache, convert it, and return it.

    Files that lie in `downloads_folder()` already are checked and used; one that is there and
    whole is not fetched again. A preset that is on the machine is returned as it is, but for a
    text front end that is missing: it is tried again. Without it the preset converts speech.

    Args:
        name: One of PUBLISHED.
        force: Convert again and replace the pulled preset.
        progress: Called with (file name, bytes there, bytes in all or None).
        warn: Called with a sentence if the text front end could not be had.

    Raises:
        UsageError: Unknown name.
        KnnvcError: The download or the conversion failed; says what to do.
    """
    known = PUBLISHED.get(name)
    if known is None:
        if (bundled_folder() / name / FILE_NAME).is_file():
            return find_preset(name)
        raise UsageError(f"there is no preset {name!r} to pull: choose from {', '.join(PUBLISHED)}")
    target = presets_folder() / known.name
    if force or not (target / FILE_NAME).is_file():
        made = _pull_conversion(known, target, progress)
    else:
        made = load_preset(target)
    if known.text_frontend is None or made.text_frontend is not None:
        return made
    try:
        weights, config = _download(known.text_frontend, progress)
        return add_published_frontend(made, weights, config, known.text_frontend_licence)
    except KnnvcError as error:
        if warn is not None:
            warn(f"{known.name} converts speech but cannot speak text yet: {error}")
        return made


def _pull_conversion(
    known: PublishedPreset,
    target: Path,
    progress: Callable[[str, int, int | None], None] | None,
) -> Preset:
    encoder, vocoder = _download((known.encoder, known.vocoder), progress)
    return import_published(
        encoder,
        known.layer,
        vocoder,
        known.vocoder_config,
        target,
        force=True,
        name=known.name,
        description=known.description,
        licence=known.licence,
        licences=known.licences,
    )


def _download(
    names: tuple[str, str], progress: Callable[[str, int, int | None], None] | None
) -> tuple[Path, Path]:
    first, second = (
        download(
            REGISTRY[name],
            downloads_folder(),
            progress=None if progress is None else _named(progress, name),
        )
        for name in names
    )
    return first, second


def add_published_frontend(
    preset: Preset, weights: Path, config: Path, licence: str = "unknown"
) -> Preset:
    """Give a preset the Glow-TTS of a published checkpoint `{'model': state}`.

    Raises:
        UsageError: A file is missing.
        KnnvcError: A file is damaged, or its features are not those of the preset's encoder.
    """
    from knnvc.text.glow import GlowConfig, published_language, read_published_glow

    values = read_json(config)
    dimensions = GlowConfig.from_published(values)
    frontend = {
        "type": "glow-tts",
        "config": dimensions.to_dict(),
        "language": published_language(values),
    }
    origin = {"file": Path(weights).name, "sha256": sha256_file(Path(weights))}
    state = read_published_glow(weights, dimensions)
    columns = dimensions.out_channels
    return add_text_frontend(preset, frontend, columns, state, licence, origin)


def add_text_frontend(
    preset: Preset,
    frontend: Mapping[str, Any],
    columns: int,
    state: Mapping[str, Tensor],
    licence: str,
    provenance: Mapping[str, Any],
) -> Preset:
    """Write a text front end into a preset's folder; one that is there is replaced.

    Args:
        preset: It must lie where it can be written.
        frontend: type, config and language.
        columns: What it predicts for each frame.
        state: Its weights.
        licence: Its licence.
        provenance: Where it comes from.

    Raises:
        KnnvcError: Writing failed, the settings are no text front end's, or it predicts other
            columns than the preset's encoder gives.
    """
    settings = preset.encoder["config"]
    given = settings.get("hidden_size")
    if preset.encoder["type"] == "mel-wavlm":
        given = settings["mels"] * settings["substeps"] + 2  # spectra, then log2 f0 and voicing
    if columns != given:
        raise KnnvcError(
            f"the text front end predicts features of {columns} columns and the encoder of "
            f"{preset.name} gives {given}: use a front end that was trained on this encoder"
        )
    content = read_json(preset.folder / FILE_NAME)
    content["text_frontend"] = {**frontend, "weights": "text_frontend.safetensors"}
    content["licences"]["text front end"] = licence
    content["provenance"]["text_frontend"] = dict(provenance)
    try:
        _check(dict(content))
    except ValueError as error:
        raise KnnvcError(f"this text front end cannot be added ({error})") from error
    # The weights first: a preset.json never names a file that is not there.
    write_tensors(preset.folder / "text_frontend.safetensors", state)
    with atomic_path(preset.folder / FILE_NAME) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
    return load_preset(preset.folder)


def _named(progress: Callable[[str, int, int | None], None], name: str) -> Progress:
    return lambda done, total: progress(name, done, total)


def _check_out(out: Path, force: bool) -> None:
    if out.is_dir():
        content = [path.name for path in out.iterdir()]
        if content and FILE_NAME not in content:
            raise UsageError(f"the folder {out} holds other files: name a new folder")
        if content and not force:
            raise UsageError(f"{out} already exists: pass --force to replace it")
    elif out.exists() or out.is_symlink():
        raise UsageError(f"{out} is a file: name a folder")


@contextlib.contextmanager
def _replace_folder(out: Path) -> Iterator[Path]:
    """Yield the name of a folder to make; it becomes `out` when the block succeeds."""
    if not out.exists():
        with atomic_path(out) as folder:
            yield folder
        return
    try:
        with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=".") as staging:
            # A folder cannot be replaced by one that has content: the old one steps aside first.
            new, old = Path(staging, "new"), Path(staging, "old")
            yield new
            out.rename(old)
            try:
                new.rename(out)
            except BaseException:
                old.rename(out)
                raise
    except OSError as error:
        raise KnnvcError(f"cannot write {out}: {os_reason(error)}") from error


def _check_encoder(path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Raise KnnvcError unless the network has exactly these tensors."""
    import torch

    from knnvc.encoders.wavlm import WavLM, WavLMConfig

    try:
        with torch.device("meta"):  # shapes only: nothing is allocated or initialised
            expected = WavLM(WavLMConfig.from_dict(config)).state_dict()
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise KnnvcError(
            f"{path} has a WavLM configuration that cannot be used ({error}): "
            "give a published WavLM checkpoint such as WavLM-Large.pt"
        ) from error
    check_shapes(path, expected, state)


def _check_vocoder(
    path: Path, values: Mapping[str, Any], state: Mapping[str, Tensor]
) -> HifiGanConfig:
    """Return the configuration; raise KnnvcError unless the network has exactly these tensors."""
    import torch

    from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

    config = HifiGanConfig.from_dict(values)
    with torch.device("meta"):
        expected = HifiGan(config).state_dict()
    check_shapes(path, expected, state)
    return config


def _check_fit(wavlm: Mapping[str, Any], hifigan: HifiGanConfig) -> None:
    if hifigan.hubert_dim != wavlm["hidden_size"]:
        raise KnnvcError(
            f"the vocoder reads features of {hifigan.hubert_dim} columns and the encoder gives "
            f"{wavlm['hidden_size']}: use a vocoder that was trained on this encoder"
        )
    stride = math.prod(wavlm["conv_stride"])
    if hifigan.hop * _ENCODER_RATE != stride * hifigan.sampling_rate:
        raise KnnvcError(
            f"the vocoder makes {hifigan.hop} samples of a frame at {hifigan.sampling_rate} Hz, "
            f"but the encoder's frames are {stride / _ENCODER_RATE * 1000:g} ms long: "
            "use a vocoder that was trained on this encoder"
        )
