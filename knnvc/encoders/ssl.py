"""Published SSL encoders: WavLM, HuBERT, wav2vec 2.0, data2vec-audio, any transformer layer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from knnvc.encoders.base import ALL, LAST, Columns
from knnvc.encoders.chunked import CHUNK_SECONDS, CONTEXT_SECONDS, SAMPLE_RATE, ChunkedEncoder
from knnvc.encoders.wavlm import WavLM, WavLMConfig
from knnvc.errors import KnnvcError
from knnvc.kernels import accelerate
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, read_json, read_tensors

PICKLED = "pytorch_model.bin"
FAMILIES = ("wavlm", "hubert", "wav2vec2", "data2vec-audio")


@contextlib.contextmanager
def listen(
    layers: nn.ModuleList, wanted: tuple[int, ...], heard: dict[int, Tensor]
) -> Iterator[None]:
    """While open, collect transformer layers' raw outputs by number (0: the first's input)."""

    def keep(number: int) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            heard[number] = output[0] if isinstance(output, tuple) else output

        return hook

    def keep_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        heard[0] = args[0] if args else kwargs["hidden_states"]

    hooks = [layers[n - 1].register_forward_hook(keep(n)) for n in set(wanted) - {0}]
    if 0 in wanted:
        hooks.append(layers[0].register_forward_pre_hook(keep_input, with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class SslNetwork(nn.Module):
    """The outputs of one or two transformer layers of a published speech encoder.

    Layer n is what the n-th transformer layer returns, n = 1…L, without the final layer norm that
    pre-norm models apply after their last layer: kNN-VC's "layer 6". Layer 0 is the input of the
    first transformer layer. Layers above the highest one wanted are dropped.

    Args:
        model: a `WavLM`, or a Hugging Face model of one of `FAMILIES`.
        match_layer: whose output is searched in. −1 is the last layer with the final layer norm.
        synth_layer: whose output is synthesised from.
        every: the outputs of all layers, 0 to L, side by side instead.
        normalize: each recording to zero mean and unit variance first, as transformers' feature
            extractor does where `do_normalize` is set.
    """

    def __init__(
        self,
        model: nn.Module,
        match_layer: int = 6,
        synth_layer: int = 6,
        *,
        every: bool = False,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        layers = model.encoder.layers  # type: ignore[union-attr]
        depth = len(layers)  # type: ignore[arg-type]
        for layer in (match_layer, synth_layer):
            if not LAST <= layer <= depth and not every:
                raise KnnvcError(f"layer {layer} is not in this encoder, which has 0 to {depth}")
        if getattr(model, "adapter", None) is not None:
            # Of a wav2vec 2.0 that was fine-tuned for text; it would halve the frames.
            model.adapter = None  # type: ignore[assignment]
        self.model = model
        self.normalize = normalize
        self.depth = depth
        self.wanted = tuple(range(depth + 1)) if every else (synth_layer, match_layer)
        if LAST not in self.wanted:
            # Keep one layer at least: transformers reads attributes of the first.
            model.encoder.layers = layers[: max(1, *self.wanted)]  # type: ignore[union-attr,index]
        dim = int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.sample_rate, self.hop, self.window_samples = (
            SAMPLE_RATE,
            *_hop_and_window(model.config),
        )
        if every:
            wide = slice(0, dim * len(self.wanted))
            self.columns = Columns(synth=wide, match=wide)
            return
        same = synth_layer == match_layer
        self.columns = Columns(
            synth=slice(0, dim), match=slice(0, dim) if same else slice(dim, 2 * dim)
        )

    @property
    def stack(self) -> nn.ModuleList:
        """The transformer layers that are kept."""
        layers: nn.ModuleList = self.model.encoder.layers  # type: ignore[union-attr,assignment]
        return layers

    def export_graph(self) -> tuple[str, list[int], list[str]]:
        """For ONNX: the method, the shape of an example, the names of its outputs.

        Raises:
            KnnvcError: the network is one of transformers', which do not export.
        """
        if not isinstance(self.model, WavLM):
            raise KnnvcError("of SSL encoders only WavLM can be exported as ONNX")
        return "forward", [1, 79 * self.hop + self.window_samples], ["features"]

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, T, D], or [B, T, 2 · D] where the two layers differ."""
        taken = self._layers(waveform)
        if self.columns.together and len(taken) == 2 and self.wanted[0] == self.wanted[1]:
            return taken[0]
        return torch.cat(taken, dim=-1)

    def _layers(self, waveform: Tensor) -> list[Tensor]:
        if isinstance(self.model, WavLM):
            taken: list[Tensor] = self.model(waveform, self.wanted)
            return taken
        heard: dict[int, Tensor] = {}
        layers = self.model.encoder.layers  # type: ignore[union-attr]
        raw = tuple(number for number in self.wanted if number != LAST)
        with listen(layers, raw, heard):  # type: ignore[arg-type]
            heard[LAST] = self.model(waveform).last_hidden_state
        return [heard[number] for number in self.wanted]


def load(spec: PartSpec, context: Context) -> ChunkedEncoder:
    """An encoder of one of `FAMILIES` from a preset's safetensors file.

    Raises:
        KnnvcError: the weights do not fit the configuration, or a layer does not exist.
    """
    assert spec.weights is not None
    return build(spec, as_single(read_tensors(spec.weights)[0]), context)


def build(spec: PartSpec, state: Mapping[str, Tensor], context: Context) -> ChunkedEncoder:
    """An encoder of one of `FAMILIES` with the weights `state`.

    Raises:
        KnnvcError: they do not fit the configuration, or a layer does not exist.
    """
    config = dict(spec.config)
    normalize = bool(config.pop("normalize", False))
    made = load_network(spec.type, config, state, *_layers_of(spec), normalize=normalize)
    return _encoder(made, spec, context)


def _layers_of(spec: PartSpec) -> tuple[int | str, int | str]:
    """The layers to search in and to synthesise from, or twice "all"."""
    if spec.layers == ALL:
        return ALL, ALL
    return int(spec.settings["match_layer"]), int(spec.settings["synth_layer"])


def load_named(spec: PartSpec, context: Context) -> ChunkedEncoder:
    """An encoder in the format of transformers: `config` has its `name`, a folder or a hub name."""
    name = str(spec.config["name"])
    # A folder inside the preset comes first: what a preset means must not depend on where one
    # stands.
    inside = spec.folder / name
    model = read_huggingface(inside if inside.is_dir() else name)
    network = _network(model, *_layers_of(spec), bool(spec.config.get("normalize", False)))
    return _encoder(network, spec, context)


def _encoder(network: SslNetwork, spec: PartSpec, context: Context) -> ChunkedEncoder:
    identity = fingerprint(network)  # of the weights as they are stored
    if network.normalize:
        identity = hashlib.sha256(f"{identity} normalized".encode()).hexdigest()
    if context.fast and (context.device.type == "cpu" or context.precision != "float32"):
        accelerate(network, context.precision)
    chunk = context.chunk
    return ChunkedEncoder(
        network,
        context.device,
        spec.settings.get("chunk_seconds", CHUNK_SECONDS) if chunk is None else chunk,
        spec.settings.get("context_seconds", CONTEXT_SECONDS),
        identity=identity,
        computed_with=context.precision,
    )


def load_network(
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    match_layer: int | str,
    synth_layer: int | str,
    *,
    normalize: bool = False,
) -> SslNetwork:
    """Build a network of one of `FAMILIES` and load its weights; layers may be "all".

    The network takes over the tensors of `state`; they are not copied.

    Raises:
        KnnvcError: the weights do not fit the configuration, or a layer does not exist.
    """
    try:
        model = _build_transformer(kind, config)
        count = len(model.encoder.layers)  # type: ignore[union-attr,arg-type]
        if isinstance(match_layer, int) and isinstance(synth_layer, int):
            whole = LAST in (match_layer, synth_layer)
            count = count if whole else max(1, match_layer, synth_layer)
        model.encoder.layers = model.encoder.layers[:count]  # type: ignore[union-attr,index]
        missing, unexpected = model.load_state_dict(
            first_layers(state, count), strict=False, assign=isinstance(model, WavLM)
        )
        # Masking and the last layer norm are no part of the features: a preset may lack them.
        missing = [k for k in missing if k not in ("masked_spec_embed", *_final_norm(missing))]
        unexpected = [name for name in unexpected if name != "masked_spec_embed"]
        if missing or unexpected:
            raise RuntimeError(f"{[*missing, *unexpected][0]}")
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        detail = str(error).splitlines()[-1].strip()[:120]
        raise KnnvcError(
            f"the encoder's weights do not fit its configuration ({detail}); "
            "get, import or train the preset again"
        ) from error
    if isinstance(model, WavLM):
        model.encoder.freeze()
    return _network(model, match_layer, synth_layer, normalize)


def _network(
    model: nn.Module, match_layer: int | str, synth_layer: int | str, normalize: bool
) -> SslNetwork:
    if isinstance(match_layer, str) or isinstance(synth_layer, str):
        return SslNetwork(model, every=True, normalize=normalize)
    return SslNetwork(model, match_layer, synth_layer, normalize=normalize)


def _hop_and_window(config: Any) -> tuple[int, int]:
    """Samples from one frame to the next, and of the first, of an encoder's convolutions."""
    window, stride = 1, 1
    for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
        window, stride = window + (kernel - 1) * stride, stride * step
    return stride, window


def _final_norm(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("encoder.layer_norm.")]


def first_layers(state: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Leave out the weights of all transformer layers after the first `count`."""
    prefix = "encoder.layers."
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(prefix) or int(name[len(prefix) :].split(".")[0]) < count
    }


def _build_transformer(kind: str, config: Mapping[str, Any]) -> nn.Module:
    if kind == "wavlm":
        with torch.device("meta"):
            return WavLM(WavLMConfig.from_dict(config))
    import transformers

    classes: dict[str, tuple[Any, Any]] = {
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "data2vec-audio": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel),
    }
    make_config, make_model = classes[kind]
    model: nn.Module = make_model(make_config(**dict(config)))
    return model


def load_huggingface(name_or_folder: str | Path, match_layer: int, synth_layer: int) -> SslNetwork:
    """Any WavLM, HuBERT, wav2vec 2.0 or data2vec-audio checkpoint of transformers.

    Args:
        name_or_folder: a hub name such as "microsoft/wavlm-large", or a folder saved by
            `save_pretrained`; a name is fetched by transformers and needs a network once.

    Raises:
        KnnvcError: if it cannot be read, is of another family, or lacks a layer.
    """
    return SslNetwork(read_huggingface(name_or_folder), match_layer, synth_layer)


def normalizes(name_or_folder: str | Path) -> bool:
    """Whether a folder's preprocessor_config.json asks for zero mean and unit variance.

    Raises:
        KnnvcError: the file is damaged.
    """
    path = Path(name_or_folder) / "preprocessor_config.json"
    return bool(read_json(path).get("do_normalize", False)) if path.is_file() else False


def load_every_layer(name_or_folder: str | Path) -> SslNetwork:
    """As `load_huggingface`, with all layers kept; the features are the last one's.

    Raises:
        KnnvcError: if it cannot be read or is of another family.
    """
    model = read_huggingface(name_or_folder)
    depth = len(model.encoder.layers)  # type: ignore[union-attr,arg-type]
    return SslNetwork(model, depth, depth)


# Of others, transformers takes the name for a repository with code in it.
_ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def read_huggingface(name_or_folder: str | Path) -> nn.Module:
    """A model of one of `FAMILIES` as transformers has it.

    Raises:
        KnnvcError: it cannot be read, or is of another family.
    """
    import transformers

    name = str(name_or_folder)
    try:
        with _no_questions():
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            _check_huggingface(name, config)
            model: nn.Module = transformers.AutoModel.from_pretrained(
                name,
                config=config,
                trust_remote_code=False,
                # Of older models there is only a pickle, which transformers opens as tensors alone.
                use_safetensors=not (Path(name) / PICKLED).is_file()
                or (Path(name) / "model.safetensors").is_file(),
            )
    except KnnvcError:
        raise
    except Exception as error:  # settings of any kind reach constructors of any kind
        lines = str(error).splitlines() or [type(error).__name__]
        if "trust_remote_code" in str(error):
            raise _carries_code(name) from error
        raise KnnvcError(
            f"cannot read the encoder {name} ({lines[0][:80]}): give a folder with config.json and "
            "model.safetensors or pytorch_model.bin, or a hub name while there is a network"
        ) from error
    return model


def _check_huggingface(name: str, config: Any) -> None:
    """Raise KnnvcError unless a model is of a family known here and brings no code of its own."""
    if getattr(config, "auto_map", None):
        raise _carries_code(name)
    attention = getattr(config, "_attn_implementation", None)
    if attention is not None and attention not in _ATTENTIONS:
        raise KnnvcError(
            f"{name} names a kernel for its attention, which is never fetched and run: take "
            "attn_implementation out of its config.json"
        )
    if config.model_type not in FAMILIES:
        raise KnnvcError(
            f"{name} is a {config.model_type} model; encoders can be {', '.join(FAMILIES)}"
        )


def _carries_code(name: str) -> KnnvcError:
    return KnnvcError(
        f"{name} brings code of its own (auto_map), which is never run: give a model that "
        "transformers knows"
    )


@contextlib.contextmanager
def _no_questions() -> Iterator[None]:
    """Whatever a library asks, nobody answers: stdin is empty here."""
    kept = sys.stdin
    with open(os.devnull, encoding="utf-8") as empty:  # noqa: PTH123
        sys.stdin = empty
        try:
            yield
        finally:
            sys.stdin = kept
