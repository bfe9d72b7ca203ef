"""`mini`'s encoder: log-mel spectra into a small WavLM transformer, with phones and exact pitch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio.pitch import refine_pitch
from knnvc.encoders.base import Columns
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.encoders.wavlm import Transformer, WavLMConfig
from knnvc.kernels import accelerate
from knnvc.mini.format import HOP, MEL_SCALE, MEL_SHIFT, PITCH_CENTRE, SAMPLE_RATE, WINDOW
from knnvc.options import Checked, from_dict, setting, to_dict
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, fingerprint, read_tensors
from knnvc.text.phones import STATES

CHUNK_SECONDS = 4.0  # as long as the pieces that it was trained on
CONTEXT_SECONDS = 1.0
PITCH_FRAMES = 3000  # whose pitch is made exact at once, which bounds the memory
PITCH_CONTEXT = 50  # frames listened to before and after them


@dataclass(frozen=True)
class MelWavLMConfig(Checked):
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
        states: phone states: 3 for each phone, 1 for silence.
    """

    mels: int = setting(80, "Bands of a spectrum.", "whole", least=1, most=512)
    substeps: int = setting(2, "Spectra in a frame.", "whole", least=1, most=16)
    fft: int = setting(1024, "Samples.", "whole", least=64, most=8192)
    window: int = setting(320, "Samples.", "whole", least=16, most=8192)
    floor: float = setting(0.01, "Least magnitude.", "number", least=1e-9, most=1)
    hidden: int = setting(256, "Columns.", "whole", least=8, most=4096)
    layers: int = setting(6, "Layers.", "whole", least=1, most=64)
    heads: int = setting(4, "Heads.", "whole", least=1, most=64)
    feed_forward: int = setting(1024, "Columns.", "whole", least=8, most=16384)
    pitch_layer: int = setting(2, "Layer.", "whole", least=0, most=64)
    states: int = setting(STATES, "Phone states.", "whole", least=2, most=10_000)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MelWavLMConfig:
        """Build from a preset's JSON.

        Raises:
            KnnvcError: a key is unknown, or a value not allowed.
        """
        return from_dict(cls, values, "mini encoder")

    @property
    def columns(self) -> int:
        """Columns that are synthesised from: spectra, then log2 f0 and voicing."""
        return self.mels * self.substeps + 2

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return to_dict(self)


class MelWavLM(nn.Module):
    """`mini`'s encoder: [log-mel | log2 f0, voicing | √phone posteriors], every 20 ms.

    A WavLM-architecture transformer reads log-mel spectra instead of the raw waveform, because on
    two CPU cores the convolutions spend most of the training on learning a filter bank. Matching is
    done on the square roots of the phone-state posteriors, so that a dot product is the
    Bhattacharyya coefficient. Synthesis is done on the log-mel input itself, which no training of
    the encoder can move, so that encoder and vocoder improve independently of each other.
    """

    sample_rate = SAMPLE_RATE
    hop = HOP
    window_samples = WINDOW
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
        # What `knnvc probe` measures besides layers.
        self.named_columns = {
            "log-mel": slice(0, width),
            "posteriors": slice(width + 2, width + 2 + config.states),
        }

    @property
    def stack(self) -> nn.ModuleList:
        """The transformer layers."""
        layers: nn.ModuleList = self.encoder.layers
        return layers

    def export_graph(self) -> tuple[str, list[int], list[str]]:
        """For ONNX: the method, the shape of an example, the names of its outputs."""
        return "predict", [1, 80, self.config.mels * self.config.substeps], ["logits", "pitch"]

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
        """Phone logits, for `posteriors`, and [log2(f0/150), voicing logit] [B, T, 2].

        `mel` is [B, T, mels · substeps], `masked` [B, T] marks frames to hide in training.
        """
        hidden = self.read(mel.transpose(1, 2)).transpose(1, 2)
        if masked is not None:
            hidden = torch.where(masked[..., None], self.mask.to(hidden.dtype), hidden)
        last, low = self.encoder(hidden, (-1, self.config.pitch_layer))
        return self.phones(last), self.pitch(low)

    def posteriors(self, outputs: Tensor) -> Tensor:
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
        return torch.cat([mel, log_f0, voicing, self.posteriors(outputs)], dim=-1)[:, :frames]


class MiniEncoder(ChunkedEncoder):
    """`mini`'s encoder over audio of any length; it makes its own pitch exact.

    Args as of `ChunkedEncoder`; the network is a `MelWavLM`.
    """

    network: MelWavLM

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


def build(config: MelWavLMConfig, state: Mapping[str, Tensor]) -> MelWavLM:
    """The network with these weights, which it takes over.

    Raises:
        RuntimeError: they do not fit.
    """
    # Without memory at first: drawing random weights takes longer than reading real ones.
    with torch.device("meta"):
        network = MelWavLM(config)
    network.load_state_dict(state, assign=True)
    network.encoder.freeze()
    return network


def load(spec: PartSpec, context: Context) -> MiniEncoder:
    """The encoder that a preset describes."""
    assert spec.weights is not None
    config = MelWavLMConfig.from_dict(spec.config)
    network = build(config, as_single(read_tensors(spec.weights)[0]))
    identity = fingerprint(network)  # of the weights as they are stored
    if context.fast and (context.device.type == "cpu" or context.precision != "float32"):
        accelerate(network, context.precision, keep=("phones", "pitch"))
    chunk = context.chunk
    return MiniEncoder(
        network,
        context.device,
        spec.settings.get("chunk_seconds", CHUNK_SECONDS) if chunk is None else chunk,
        spec.settings.get("context_seconds", CONTEXT_SECONDS),
        identity=identity,
        computed_with=context.precision,
    )
