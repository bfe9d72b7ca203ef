"""Speech to features: one frame every 20 ms, by a published SSL encoder or by `mini`'s own.

Every encoder returns one tensor `[T, D]`. `Columns` says which of the D columns the vocoder reads
(`synth`), which the neighbours are searched in (`match`), and where log2 f0 and voicing stand,
if the encoder hears pitch. For published kNN-VC all three questions have the same answer: all of
them, the output of transformer layer 6.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio import HOP, SAMPLE_RATE
from knnvc.audio.pitch import refine_pitch
from knnvc.encoders.wavlm import Transformer, WavLM, WavLMConfig
from knnvc.errors import KnnvcError, UsageError
from knnvc.processes import computing

WINDOW = 400  # samples: what the published convolutions need for their first frame
CHUNK_SECONDS = 30.0
CONTEXT_SECONDS = 2.0
PITCH_FRAMES = 3000  # whose pitch is made exact at once, which bounds the memory
PITCH_CONTEXT = 50  # frames heard before and after them
FAMILIES = ("wavlm", "hubert", "wav2vec2", "data2vec-audio")


@dataclass(frozen=True)
class Columns:
    """Which columns of the features `[T, D]` serve what."""

    synth: slice
    match: slice
    pitch: int | None = None  # column of log2 f0 in Hz; voicing stands in the next one

    @property
    def together(self) -> bool:
        """Whether neighbours are searched in the very columns that are synthesised from."""
        return self.synth == self.match


class Network(Protocol):
    """What `Encoder` needs of a network: waveforms [B, S] -> features [B, T, D]."""

    columns: Columns

    def __call__(self, waveform: Tensor) -> Tensor: ...  # noqa: D102


class Encoder:
    """Runs a network over audio of any length, in overlapping chunks.

    Args:
        network: waveform [B, S] to features [B, T, D]; moved to `device`.
        chunk_seconds: longer audio is cut into pieces of this length, in seconds.
        context_seconds: real neighbouring audio given to each piece on both sides, then dropped.

    Attention sees the whole piece, so chunked features differ slightly from unchunked ones; the
    README states the measured difference.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        chunk_seconds: float = CHUNK_SECONDS,
        context_seconds: float = CONTEXT_SECONDS,
    ) -> None:
        if not HOP / SAMPLE_RATE <= chunk_seconds < float("inf"):
            raise UsageError(f"the chunk is {chunk_seconds!r} s: give 0.02 seconds or more")
        self.network = network.eval().to(device)
        self.device = torch.device(device)
        self.chunk = max(1, round(chunk_seconds * SAMPLE_RATE / HOP))  # frames
        self.context = max(0, round(context_seconds * SAMPLE_RATE / HOP))  # frames

    @property
    def columns(self) -> Columns:
        """Which feature columns are synthesised from, matched in, and carry pitch."""
        columns: Columns = self.network.columns  # type: ignore[assignment]
        return columns

    @torch.inference_mode()
    def encode(
        self, waveform: Tensor, progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Encode `waveform` [S] at 16 kHz to features [T, D] float32 on the CPU.

        T = (S − 400) // 320 + 1, as the published encoders have it; audio under 400 samples is
        padded with silence to one frame. `progress(done, total)` is called with frames.
        """
        computing()
        if waveform.numel() < WINDOW:
            waveform = functional.pad(waveform, (0, WINDOW - waveform.numel()))
        frames = (waveform.numel() - WINDOW) // HOP + 1
        features: Tensor | None = None
        step = frames if frames <= self.chunk + 2 * self.context else self.chunk
        for start in range(0, frames, step):
            stop = min(frames, start + step)
            first, last = max(0, start - self.context), min(frames, stop + self.context)
            end = (last - 1) * HOP + WINDOW if last < frames else None
            piece = self._run(waveform[first * HOP : end])
            if features is None:
                features = torch.empty(frames, piece.shape[1])
            features[start:stop] = piece[start - first : stop - first]
            if progress:
                progress(stop, frames)
        assert features is not None
        self._refine_pitch(waveform, features)
        return features

    def _run(self, waveform: Tensor) -> Tensor:
        """Features of one piece."""
        features: Tensor = self.network(waveform[None].to(self.device))[0].float().cpu()
        return features

    def _refine_pitch(self, waveform: Tensor, features: Tensor) -> None:
        """Make the pitch in `features` [T, D] exact, in place, if there is any."""
        pitch = self.columns.pitch
        if pitch is None:
            return
        for start in range(0, len(features), PITCH_FRAMES):
            stop = min(len(features), start + PITCH_FRAMES)
            first, last = max(0, start - PITCH_CONTEXT), min(len(features), stop + PITCH_CONTEXT)
            sound = waveform[first * HOP : (last - 1) * HOP + WINDOW]
            told = features[first:last, pitch : pitch + 2]
            wanted = slice(start - first, stop - first)
            features[first:last, pitch] = refine_pitch(sound, told, wanted)


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
        match_layer: whose output is searched in.
        synth_layer: whose output is synthesised from.
    """

    def __init__(self, model: nn.Module, match_layer: int = 6, synth_layer: int = 6) -> None:
        super().__init__()
        layers = model.encoder.layers  # type: ignore[union-attr]
        depth = len(layers)  # type: ignore[arg-type]
        for layer in (match_layer, synth_layer):
            if not 0 <= layer <= depth:
                raise KnnvcError(f"layer {layer} is not in this encoder, which has 0 to {depth}")
        self.model = model
        self.wanted = (synth_layer, match_layer)
        # Keep one layer at least: transformers reads attributes of the first.
        model.encoder.layers = layers[: max(1, *self.wanted)]  # type: ignore[union-attr,index]
        dim = int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]
        same = synth_layer == match_layer
        self.columns = Columns(
            synth=slice(0, dim), match=slice(0, dim) if same else slice(dim, 2 * dim)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> [B, T, D], or [B, T, 2 · D] where the two layers differ."""
        synth, match = self._layers(waveform)
        return synth if self.columns.together else torch.cat([synth, match], dim=-1)

    def _layers(self, waveform: Tensor) -> list[Tensor]:
        if isinstance(self.model, WavLM):
            taken: list[Tensor] = self.model(waveform, self.wanted)
            return taken
        heard: dict[int, Tensor] = {}
        layers = self.model.encoder.layers  # type: ignore[union-attr]
        with listen(layers, self.wanted, heard):  # type: ignore[arg-type]
            self.model(waveform)
        return [heard[number] for number in self.wanted]


@dataclass(frozen=True)
class MelWavLMConfig:
    """Dimensions of `mini`'s encoder: log-mel spectra into a small WavLM transformer."""

    mels: int = 80
    substeps: int = 2  # spectra a frame, so one every 10 ms
    fft: int = 1024  # samples
    window: int = 320  # samples: short enough that harmonics blur into the envelope
    floor: float = 0.01  # added to mel magnitudes before the logarithm; about -78 dB full scale
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 1024
    pitch_layer: int = 2
    states: int = 130  # phone states: 3 for each phone, 1 for silence

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MelWavLMConfig:
        """Build from a preset's JSON; unknown keys are errors."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise KnnvcError(f"unknown mel-wavlm encoder settings: {', '.join(sorted(unknown))}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)


class MelWavLM(nn.Module):
    """`mini`'s encoder: [log-mel | log2 f0, voicing | √phone posteriors], every 20 ms.

    A WavLM-architecture transformer reads log-mel spectra instead of the raw waveform, because on
    two CPU cores the convolutions spend most of the training on learning a filter bank. Matching is
    done on the square roots of the phone-state posteriors, so that a dot product is the
    Bhattacharyya coefficient. Synthesis is done on the log-mel input itself, which no training of
    the encoder can move, so that encoder and vocoder improve independently of each other.
    """

    filter_bank: Tensor
    window: Tensor

    def __init__(self, config: MelWavLMConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Transformer(
            WavLMConfig(
                hidden_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feed_forward,
                do_stable_layer_norm=True,
                num_conv_pos_embeddings=64,
                num_conv_pos_embedding_groups=8,
                num_buckets=80,
                max_bucket_distance=400,
            )
        )
        width = config.mels * config.substeps
        self.read = nn.Sequential(
            nn.Conv1d(width, config.hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(config.hidden, config.hidden, 3, padding=1),
        )
        self.phones = nn.Linear(config.hidden, config.states)
        self.pitch = nn.Linear(config.hidden, 2)
        with torch.device("cpu"):  # real even where the rest is built without memory
            bank = torchaudio.functional.melscale_fbanks(
                config.fft // 2 + 1, 0.0, SAMPLE_RATE / 2, config.mels, SAMPLE_RATE, None, "slaney"
            )
            window = torch.hann_window(config.window)
            self.mask = nn.Parameter(torch.randn(config.hidden) * 0.02)  # instead of masked frames
        self.register_buffer("filter_bank", bank, persistent=False)
        self.register_buffer("window", window, persistent=False)
        self.columns = Columns(
            synth=slice(0, width + 2),
            match=slice(width, width + 2 + config.states),
            pitch=width,
        )

    def log_mel(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> log-mel spectra [B, S // 320, mels · substeps], about unit scale.

        Frame t covers samples 320·t to 320·(t+1); its spectra are centred inside it.
        """
        step = HOP // self.config.substeps
        pad = (self.config.fft - step) // 2
        spectrum = torch.stft(
            functional.pad(waveform, (pad, pad)),
            self.config.fft,
            step,
            win_length=self.config.window,
            window=self.window,
            center=False,
            return_complex=True,
        ).abs()
        mel = torch.log(spectrum.transpose(1, 2) @ self.filter_bank + self.config.floor)
        frames = waveform.shape[1] // HOP
        mel = mel[:, : frames * self.config.substeps]
        return (mel.reshape(len(mel), frames, -1) - MEL_SHIFT) / MEL_SCALE

    def predict(self, mel: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is said, for `said`, and [log2(f0/150), voicing logit] [B, T, 2].

        `mel` is [B, T, mels · substeps], `masked` [B, T] marks frames to hide in training.
        """
        hidden = self.read(mel.transpose(1, 2)).transpose(1, 2)
        if masked is not None:
            hidden = torch.where(masked[..., None], self.mask.to(hidden.dtype), hidden)
        last, low = self.encoder(hidden, (-1, self.config.pitch_layer))
        return self.phones(last), self.pitch(low)

    def said(self, outputs: Tensor) -> Tensor:
        """√phone posteriors [B, T, states], of what `predict` gives."""
        return torch.softmax(outputs.float(), dim=-1).sqrt()

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> features [B, T, mels · substeps + 2 + states]."""
        mel = self.log_mel(waveform)
        # As many frames as the published encoders make of the same audio.
        frames = (waveform.shape[1] - WINDOW) // HOP + 1
        outputs, pitch = self.predict(mel)
        log_f0 = pitch[..., :1].float() + PITCH_CENTRE
        voicing = torch.sigmoid(pitch[..., 1:].float())
        return torch.cat([mel, log_f0, voicing, self.said(outputs)], dim=-1)[:, :frames]


MEL_SHIFT, MEL_SCALE = 0.5, 2.5  # bring log magnitudes of speech to about unit scale
PITCH_CENTRE = 7.2288  # log2 of 150 Hz: what the pitch head predicts around


def load_network(
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    match_layer: int,
    synth_layer: int,
) -> nn.Module:
    """Build the network that a preset describes and load its weights.

    The network takes over the tensors of `state`; they are not copied.

    Raises:
        KnnvcError: if the type is unknown or the weights do not fit the configuration.
    """
    try:
        if kind == "mel-wavlm":
            # Without memory at first: drawing random weights takes longer than reading real ones.
            with torch.device("meta"):
                network = MelWavLM(MelWavLMConfig.from_dict(config))
            network.load_state_dict(state, assign=True)
            network.encoder.freeze()
            return network
        if kind in FAMILIES:
            count = max(1, match_layer, synth_layer)
            model = _build_transformer(kind, config)
            model.encoder.layers = model.encoder.layers[:count]  # type: ignore[union-attr,index]
            missing, unexpected = model.load_state_dict(
                first_layers(state, count), strict=False, assign=isinstance(model, WavLM)
            )
            # Masking and the last layer norm are no part of the features: a preset may lack them.
            missing = [k for k in missing if k not in ("masked_spec_embed", *_final_norm(missing))]
            unexpected = [name for name in unexpected if name != "masked_spec_embed"]
            if missing or unexpected:
                raise RuntimeError(f"{[*missing, *unexpected][0]}")
            if isinstance(model, WavLM):
                model.encoder.freeze()
            return SslNetwork(model, match_layer, synth_layer)
    except (RuntimeError, TypeError, ValueError) as error:
        detail = str(error).splitlines()[-1].strip()
        raise KnnvcError(
            f"the encoder's weights do not fit its configuration ({detail}); "
            "get, import or train the preset again"
        ) from error
    valid = ", ".join(("mel-wavlm", *FAMILIES))
    raise KnnvcError(f"unknown encoder type {kind!r}; valid types are {valid}")


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
    return SslNetwork(_read_huggingface(name_or_folder), match_layer, synth_layer)


def load_every_layer(name_or_folder: str | Path) -> SslNetwork:
    """As `load_huggingface`, with all layers kept; the features are the last one's.

    Raises:
        KnnvcError: if it cannot be read or is of another family.
    """
    model = _read_huggingface(name_or_folder)
    depth = len(model.encoder.layers)  # type: ignore[union-attr,arg-type]
    return SslNetwork(model, depth, depth)


def _read_huggingface(name_or_folder: str | Path) -> nn.Module:
    import transformers

    name = str(name_or_folder)
    try:
        with _no_questions():
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            _check_huggingface(name, config)
            model: nn.Module = transformers.AutoModel.from_pretrained(
                name, config=config, trust_remote_code=False, use_safetensors=True
            )
    except KnnvcError:
        raise
    except Exception as error:  # settings of any kind reach constructors of any kind
        lines = str(error).splitlines() or [type(error).__name__]
        if "trust_remote_code" in str(error):
            raise _carries_code(name) from error
        raise KnnvcError(
            f"cannot read the encoder {name} ({lines[0][:80]}): give a folder with "
            "model.safetensors, or a hub name while there is a network"
        ) from error
    return model


def _check_huggingface(name: str, config: Any) -> None:
    """Raise KnnvcError unless a model is of a family known here and brings no code of its own."""
    if getattr(config, "auto_map", None):
        raise _carries_code(name)
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


def fingerprint(network: nn.Module) -> str:
    """The sha256 of an encoder's weights and layers; features of equal ones can be mixed."""
    digest = hashlib.sha256()
    digest.update(repr(getattr(network, "wanted", "")).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
