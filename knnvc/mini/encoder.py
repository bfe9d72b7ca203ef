"""`mini`'s encoder: log-mel spectra into layers of Whisper, with phones and exact pitch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio.pitch import refine_pitch
from knnvc.encoders.base import Columns
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.errors import UsageError
from knnvc.kernels import accelerate
from knnvc.mini.format import HOP, MEL_SCALE, MEL_SHIFT, PITCH_CENTRE, SAMPLE_RATE, WINDOW
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, read_tensors
from knnvc.text.phones import STATES

CHUNK_SECONDS = 16.0  # in shorter pieces it names fewer phones rightly
CONTEXT_SECONDS = 2.0
PITCH_FRAMES = 3000  # whose pitch is made exact at once, which bounds the memory
PITCH_CONTEXT = 50  # frames listened to before and after them


@dataclass(frozen=True)
class PhoneEncoderConfig(PartConfig, what="mini encoder"):
    """Dimensions of `mini`'s encoder.

    Attributes:
        mels: bands of a spectrum.
        substeps: spectra in a frame, so one every 10 ms.
        fft: samples.
        window: samples; so short that harmonics blur into the envelope.
        floor: added to mel magnitudes before the logarithm; about −78 dB full scale.
        hidden: columns of the transformer.
        layers: of the transformer.
        heads: of its attention.
        feed_forward: columns between its feed-forward layers.
        pitch_layer: after which pitch and voicing are read.
        head: columns of the heads that read phones and pitch.
        states: phone states: 3 for each phone, 1 for silence.
        content: columns that say how the phones are spoken; 0 has none.
        content_layers: which these are made of, besides the last one.
    """

    mels: int = setting(80, "Bands of a spectrum.", "whole", least=1, most=512)
    substeps: int = setting(2, "Spectra in a frame.", "whole", least=2, most=2)
    fft: int = setting(1024, "Samples.", "whole", least=64, most=8192)
    window: int = setting(320, "Samples.", "whole", least=16, most=8192)
    floor: float = setting(0.01, "Least magnitude.", "number", least=1e-9, most=1)
    hidden: int = setting(512, "Columns.", "whole", least=8, most=4096)
    layers: int = setting(6, "Layers.", "whole", least=1, most=64)
    heads: int = setting(8, "Heads.", "whole", least=1, most=64)
    feed_forward: int = setting(2048, "Columns.", "whole", least=8, most=16384)
    pitch_layer: int = setting(1, "Layer.", "whole", least=0, most=64)
    head: int = setting(256, "Columns.", "whole", least=1, most=4096)
    states: int = setting(STATES, "Phone states.", "whole", least=2, most=10_000)
    content: int = setting(64, "Content columns.", "whole", least=0, most=4096)
    content_layers: tuple[int, ...] = setting((), "Layers.", "numbers", least=1, most=64)

    def __post_init__(self) -> None:
        """Check every field, and that the heads divide the columns."""
        super().__post_init__()
        if self.hidden % self.heads or self.hidden % 2:
            raise UsageError(f"{self.heads} heads do not divide {self.hidden} columns")
        if any(number > self.layers for number in self.content_layers):
            raise UsageError(f"content_layers names a layer beyond the {self.layers} there are")

    @property
    def content_inputs(self) -> int:
        """Columns that content is made of."""
        return self.hidden * (1 + len(self.content_layers))

    @property
    def columns(self) -> int:
        """Columns that are synthesised from: spectra, then log2 f0 and voicing."""
        return self.mels * self.substeps + 2


class Heard(NamedTuple):
    """What the layers make of spectra.

    `last` [B, T, hidden] is the last one's output, normalised; pitch is read from `low`
    [B, T, hidden], and content made of `content` [B, T, content_inputs].
    """

    last: Tensor
    low: Tensor
    content: Tensor


class EncoderLayer(nn.Module):
    """A transformer layer with its norms before attention and feed-forward: [B, T, C]."""

    def __init__(self, config: PhoneEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.hidden)
        self.inwards = nn.Linear(config.hidden, 3 * config.hidden)  # queries, keys, values
        self.outwards = nn.Linear(config.hidden, config.hidden)
        self.feed_norm = nn.LayerNorm(config.hidden)
        self.widen = nn.Linear(config.hidden, config.feed_forward)
        self.narrow = nn.Linear(config.feed_forward, config.hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, T, C] -> [B, T, C]."""
        batch, length, width = hidden.shape
        parts = self.inwards(self.attention_norm(hidden))
        parts = parts.reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.outwards(seen.transpose(1, 2).reshape(batch, length, width))
        change: Tensor = self.narrow(functional.gelu(self.widen(self.feed_norm(hidden))))
        return hidden + change


class PhoneEncoder(nn.Module):
    """`mini`'s encoder: [log-mel | log2 f0, voicing | √phone posteriors, content], every 20 ms.

    The layers of Whisper's encoder (Radford et al. 2022, https://arxiv.org/abs/2212.04356)
    read log-mel spectra; the last of them were trained further to name phones. Matching is done on
    the square roots of the phone-state posteriors, so that a dot product is the Bhattacharyya
    coefficient. Content columns say how the phones are spoken, which lower layers know better than
    the last one; a refiner reads them. Synthesis is done on the log-mel input itself, which no
    training of the encoder can move, so that encoder and vocoder improve independently of each
    other.
    """

    sample_rate = SAMPLE_RATE
    hop = HOP
    window_samples = WINDOW
    filter_bank: Tensor
    window: Tensor

    def __init__(self, config: PhoneEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.mels * config.substeps, config.hidden
        self.gain = nn.Parameter(torch.ones(config.mels))  # from mini's spectra to Whisper's
        self.offset = nn.Parameter(torch.zeros(config.mels))
        self.conv1 = nn.Conv1d(config.mels, hidden, 3, padding=1)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, stride=config.substeps, padding=1)
        self.mask = nn.Parameter(torch.zeros(hidden))  # instead of frames hidden in training
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(hidden)
        self.read_phones = nn.Conv1d(hidden, config.head, 5, padding=2)
        self.phones = nn.Linear(config.head, config.states)
        self.read_pitch = nn.Conv1d(hidden + width, config.head, 5, padding=2)
        self.pitch = nn.Linear(config.head, 2)
        self.content: nn.Module | None = None
        if config.content:
            self.content = nn.Linear(config.content_inputs, config.content, bias=False)
        with torch.device("cpu"):  # real even where the rest is built without memory
            bank = torchaudio.functional.melscale_fbanks(
                config.fft // 2 + 1, 0.0, SAMPLE_RATE / 2, config.mels, SAMPLE_RATE, None, "slaney"
            )
            window = torch.hann_window(config.window)
        self.register_buffer("filter_bank", bank, persistent=False)
        self.register_buffer("window", window, persistent=False)
        said = config.states + config.content
        self.columns = Columns(
            synth=slice(0, width + 2), match=slice(width, width + 2 + said), pitch=width
        )
        # What `knnvc probe` measures besides layers.
        self.named_columns = {
            "log-mel": slice(0, width),
            "posteriors": slice(width + 2, width + 2 + config.states),
            "content": slice(width + 2 + config.states, width + 2 + said),
        }

    @property
    def stack(self) -> nn.ModuleList:
        """The transformer layers."""
        return self.layers

    def export_graph(self) -> tuple[str, list[int], list[str]]:
        """For ONNX: the method, the shape of an example, the names of its outputs."""
        return "predict", [1, 80, self.config.mels * self.config.substeps], ["said", "pitch"]

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

    def hidden(self, mel: Tensor, masked: Tensor | None = None) -> Heard:
        """What the layers make of spectra.

        `mel` is [B, T, mels · substeps], `masked` [B, T] marks frames to hide in training.
        """
        batch, length, _ = mel.shape
        spectra = mel.reshape(batch, length * self.config.substeps, -1) * self.gain + self.offset
        hidden = functional.gelu(self.conv1(spectra.transpose(1, 2)))
        hidden = functional.gelu(self.conv2(hidden)).transpose(1, 2)
        if masked is not None:
            hidden = torch.where(masked[..., None], self.mask.to(hidden.dtype), hidden)
        hidden = hidden + positions(length, self.config.hidden, hidden)
        low, inner = hidden, []
        for number, layer in enumerate(self.layers, 1):
            hidden = layer(hidden)
            if number == self.config.pitch_layer:
                low = hidden
            if number in self.config.content_layers:
                inner.append(functional.layer_norm(hidden, hidden.shape[-1:]))
        last = self.norm(hidden)
        return Heard(last, low, torch.cat([*inner, last], dim=-1) if inner else last)

    def phone_logits(self, last: Tensor) -> Tensor:
        """Logits of the phone states [B, T, states] of what `hidden` gives of the last layer."""
        read = functional.gelu(self.read_phones(last.transpose(1, 2)).transpose(1, 2))
        logits: Tensor = self.phones(read)
        return logits

    def predict(self, mel: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Phone logits and content, for `posteriors`, and [log2(f0/150), voicing logit] [B, T, 2].

        Arguments as those of `hidden`.
        """
        last, low, told = self.hidden(mel, masked)
        said = self.phone_logits(last)
        if self.content is not None:
            said = torch.cat([said, self.content(told)], dim=-1)
        seen = torch.cat([mel.to(low.dtype), low], dim=-1)
        heard = functional.gelu(self.read_pitch(seen.transpose(1, 2)).transpose(1, 2))
        return said, self.pitch(heard)

    def posteriors(self, outputs: Tensor) -> Tensor:
        """√phone posteriors, then content: [B, T, states + content], of what `predict` gives."""
        said = outputs.float()
        posteriors = torch.softmax(said[..., : self.config.states], dim=-1).sqrt()
        return torch.cat([posteriors, said[..., self.config.states :]], dim=-1)

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` [B, S] -> features [B, T, mels · substeps + 2 + states + content]."""
        mel = self.log_mel(waveform)
        # As many frames as the published encoders make of the same audio.
        frames = (waveform.shape[1] - WINDOW) // HOP + 1
        outputs, pitch = self.predict(mel)
        log_f0 = pitch[..., :1].float() + PITCH_CENTRE
        voicing = torch.sigmoid(pitch[..., 1:].float())
        return torch.cat([mel, log_f0, voicing, self.posteriors(outputs)], dim=-1)[:, :frames]


def positions(length: int, width: int, like: Tensor) -> Tensor:
    """Whisper's sinusoids [length, width]: sines of falling frequency, then the cosines."""
    steps = torch.arange(width // 2, device=like.device, dtype=torch.float32)
    rates = torch.exp(-math.log(10_000.0) / (width // 2 - 1) * steps)
    angles = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)


class MiniEncoder(ChunkedEncoder):
    """`mini`'s encoder over audio of any length; it makes its own pitch exact.

    Args as of `ChunkedEncoder`; the network is a `PhoneEncoder`.
    """

    network: PhoneEncoder

    def finish(self, waveform: Tensor, features: Tensor) -> None:
        """Make the pitch in `features` [T, D] of `waveform` [S] exact, in place."""
        pitch = self.columns.pitch
        assert pitch is not None
        for start in range(0, len(features), PITCH_FRAMES):
            stop = min(len(features), start + PITCH_FRAMES)
            first, last = max(0, start - PITCH_CONTEXT), min(len(features), stop + PITCH_CONTEXT)
            sound = waveform[first * HOP : (last - 1) * HOP + WINDOW]
            told = features[first:last, pitch : pitch + 2]
            wanted = slice(start - first, stop - first)
            features[first:last, pitch] = refine_pitch(sound, told, wanted)

    @torch.inference_mode()
    def complete(self, synth: Tensor) -> Tensor:
        """Features [T, D] of predicted spectra and pitch, as `encode` gives them for audio.

        Args:
            synth: [T, mels · substeps + 2], log-mel in the encoder's scale, log2 f0, voicing.
        """
        # In pieces, as audio is encoded: attention grows with the square of the length.
        size = self.chunk + 2 * self.context
        match = []
        for piece in torch.split(synth[:, :-2], size):
            outputs, _ = self.network.predict(piece[None].to(self.device))
            match.append(self.network.posteriors(outputs)[0].cpu())
        return torch.cat([synth.float(), torch.cat(match)], dim=-1)


def build(config: PhoneEncoderConfig, state: Mapping[str, Tensor]) -> PhoneEncoder:
    """The network with these weights, which it takes over.

    Raises:
        RuntimeError: they do not fit.
    """
    # Without memory at first: drawing random weights takes longer than reading real ones.
    with torch.device("meta"):
        network = PhoneEncoder(config)
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False)
    return network


def load(spec: PartSpec, context: Context) -> MiniEncoder:
    """The encoder that a preset describes."""
    assert spec.weights is not None
    config = PhoneEncoderConfig.from_dict(spec.config)
    network = build(config, as_single(read_tensors(spec.weights)[0]))
    identity = fingerprint(network)  # of the weights as they are stored
    if context.fast and (context.device.type == "cpu" or context.precision != "float32"):
        accelerate(network, context.precision, keep=("phones", "pitch", "content"))
    chunk = context.chunk
    return MiniEncoder(
        network,
        context.device,
        spec.settings.get("chunk_seconds", CHUNK_SECONDS) if chunk is None else chunk,
        spec.settings.get("context_seconds", CONTEXT_SECONDS),
        identity=identity,
        computed_with=context.precision,
    )
