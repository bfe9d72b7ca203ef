"""`mini`'s text front end: phonemes -> synthesis columns, one frame every 20 ms, all at once.

A transformer with convolutions reads the phonemes; how long each of them lasts is predicted, the
phonemes are spread over the frames by time, and two networks speak them: the prosody (pitch and
voicing), and the spectra for it. The pitch contour is drawn by conditional flow matching (Lipman
et al. 2022, https://arxiv.org/abs/2210.02747) around its mean, so that it is neither flat nor
always the same; the spectra come in one step, trained against a critic.

B batch, N tokens, T frames, C channels; `mels · substeps` spectral columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from knnvc.errors import KnnvcError, UsageError
from knnvc.mini.encoder import MiniEncoder
from knnvc.options import PartConfig, setting
from knnvc.registry import Context, PartSpec
from knnvc.tensors import as_single, read_tensors
from knnvc.text.base import numbers_of
from knnvc.text.lines import fit, read
from knnvc.text.phones import IGNORED, STATES, states_of_frames
from knnvc.vocoders.source_filter import ConvNeXtBlock

FRAME = 0.02  # seconds
PITCH_CENTRE = 7.2  # log2 of about 150 Hz
PADDING, START, END = 0, 1, 2  # tokens before those of the signs
# The front end's own voice is measured on these: one sentence tells too little of its pitch.
MEASURED = (
    "The sun had set behind the hills, and a cool wind came up from the river. Have you ever asked "
    "yourself why they chose that house? Nobody knew the answer, but everyone had an opinion! "
    "Six months later the work was done, and the whole village gathered to celebrate. "
    "We should leave before it gets dark, he said, or we will never find the way."
)
CERTAINTY = 0.9  # of a state that is known: the encoder itself is never surer for long
LEAST_UNITS = 0.4  # the shortest duration, in units
PACE_RANGE = 0.25  # natural logarithm of the tempi heard in training; beyond, time is stretched


@dataclass(frozen=True)
class TextFrontendConfig(PartConfig, what="text front end"):
    """Dimensions of a `TextFrontend`.

    Attributes:
        symbols: the signs that have a token, in order; the first has token 3.
        unit: seconds of one unit of duration.
        mels: bands of a spectrum.
        substeps: spectra in a frame.
        channels: columns.
        heads: of attention.
        encoder_layers: that read phonemes.
        decoder_layers: that write spectra.
        flow_channels: columns of the network that draws pitch.
        flow_layers: of it.
        flow_steps: Euler steps in drawing the pitch contour.
        kernel: taps.
        pitch_spread: octaves by which the pitch strays about its predicted mean.
    """

    symbols: str = setting("", "Signs.", "text")
    unit: float = setting(0.025, "Seconds.", "number", least=0.001, most=1)
    mels: int = setting(80, "Bands.", "whole", least=1, most=512)
    substeps: int = setting(2, "Spectra in a frame.", "whole", least=1, most=16)
    channels: int = setting(256, "Columns.", "whole", least=1, most=4096)
    heads: int = setting(4, "Heads.", "whole", least=1, most=64)
    encoder_layers: int = setting(4, "Layers.", "whole", least=0, most=64)
    decoder_layers: int = setting(6, "Layers.", "whole", least=0, most=64)
    flow_channels: int = setting(128, "Columns.", "whole", least=1, most=4096)
    flow_layers: int = setting(4, "Layers.", "whole", least=0, most=64)
    flow_steps: int = setting(8, "Steps.", "whole", least=1, most=1000)
    kernel: int = setting(7, "Taps.", "whole", least=1, most=63)
    pitch_spread: float = setting(0.1, "Octaves.", "number", least=0, most=4)

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise UsageError("symbols must be text without a sign twice")
        if self.channels % self.heads:
            raise UsageError(f"{self.heads} heads do not divide {self.channels} channels")

    @property
    def columns(self) -> int:
        """Columns that it predicts: spectra, then log2 f0 and voicing."""
        return self.width + 2

    @property
    def width(self) -> int:
        """Spectral columns of one frame."""
        return self.mels * self.substeps

    @property
    def tokens(self) -> int:
        """How many different tokens there are."""
        return len(self.symbols) + END + 1


class Attention(nn.Module):
    """Self-attention with rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.read = nn.Linear(channels, 3 * channels)
        self.write = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        """`hidden` [B, N, C]; `real` [B, N] says which tokens are no padding."""
        batch, tokens, channels = hidden.shape
        parts = self.read(self.norm(hidden)).reshape(batch, tokens, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        # Written out: on a CPU torch's fused attention is several times slower backwards.
        scores = _rotate(query) @ _rotate(key).transpose(-1, -2) * query.shape[-1] ** -0.5
        scores = scores.float().masked_fill(~real[:, None, None, :], -torch.inf)
        mixed = torch.softmax(scores, -1).to(value.dtype) @ value
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, channels)
        added: Tensor = hidden + self.write(mixed)
        return added


def _rotate(vectors: Tensor) -> Tensor:
    """Turn pairs of columns of [..., N, E] by angles that grow with the position."""
    tokens, width = vectors.shape[-2:]
    half = width // 2
    at = torch.arange(tokens, device=vectors.device, dtype=torch.float32)
    rates = 1000.0 ** (-torch.arange(half, device=vectors.device, dtype=torch.float32) / half)
    angles = at[:, None] * rates
    cosine, sine = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    left, right = vectors[..., :half], vectors[..., half:]
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=-1)


class PitchFlow(nn.Module):
    """The velocity that turns noise into a pitch contour, around the mean and in units of spread.

    Dilated convolutions, because a contour is drawn as a whole, over half a second and more.
    """

    def __init__(self, channels: int, layers: int, given: int) -> None:
        super().__init__()
        self.given = nn.Linear(given, channels)
        self.read = nn.Conv1d(1, channels, 3, padding=1)
        self.time = nn.Linear(2 * TIME_FEATURES, channels)
        self.mixers = nn.ModuleList(
            nn.Conv1d(channels, channels, 5, padding=2 * 2**i, dilation=2**i, groups=channels)
            for i in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.wideners = nn.ModuleList(nn.Linear(channels, 3 * channels) for _ in range(layers))
        self.narrowers = nn.ModuleList(nn.Linear(3 * channels, channels) for _ in range(layers))
        self.write = nn.Linear(channels, 1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, state: Tensor, time: Tensor, given: Tensor) -> Tensor:
        """`state` [B, T] at `time` [B] in [0, 1], `given` [B, T, C] -> velocity [B, T]."""
        waves = time[:, None] * math.pi * torch.arange(1, TIME_FEATURES + 1, device=time.device)
        moment = self.time(torch.cat([waves.sin(), waves.cos()], dim=-1))
        constant = self.given(given) + moment[:, None]
        hidden = self.read(state[:, None]).transpose(1, 2)
        layers = zip(self.mixers, self.norms, self.wideners, self.narrowers, strict=True)
        for mixer, norm, widener, narrower in layers:
            mixed = mixer((hidden + constant).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + narrower(functional.gelu(widener(norm(mixed))))
        velocity: Tensor = self.write(hidden)[..., 0]
        return velocity


TIME_FEATURES = 6


class TextFrontend(nn.Module):
    """Phonemes -> log-mel spectra, log2 f0 and voicing, as `mini`'s encoder would hear them.

    `usual` [tokens] is the mean duration of each token in units, 0 for signs that training did not
    meet. The pace of an utterance is the natural logarithm of how much longer it is than the sum
    of those; the network reads it, so that faster speech is more than compressed speech.
    """

    usual: Tensor

    def __init__(self, config: TextFrontendConfig, language: str = "en-us") -> None:
        super().__init__()
        self.config = config
        self.language = language
        channels, kernel = config.channels, config.kernel
        self.embed = nn.Embedding(config.tokens, channels)
        self.pace = nn.Linear(1, channels)
        self.attentions = nn.ModuleList(
            Attention(channels, config.heads) for _ in range(config.encoder_layers)
        )
        self.encoders = nn.ModuleList(
            ConvNeXtBlock(channels, kernel, 2) for _ in range(config.encoder_layers)
        )
        self.dropout = nn.Dropout(0.1)
        self.encoder_norm = nn.LayerNorm(channels)
        self.duration_block = ConvNeXtBlock(channels, kernel, 2)
        self.duration = nn.Linear(channels, 1)
        nn.init.zeros_(self.duration.weight)
        nn.init.zeros_(self.duration.bias)
        self.place = nn.Linear(4, channels)
        self.prosody_blocks = nn.ModuleList(ConvNeXtBlock(channels, kernel, 2) for _ in range(2))
        self.prosody = nn.Linear(channels, 2)
        self.flow = PitchFlow(config.flow_channels, config.flow_layers, channels + 2)
        self.sing = nn.Linear(2, channels)
        self.decoders = nn.ModuleList(
            ConvNeXtBlock(channels, kernel, 3) for _ in range(config.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(channels)
        self.write = nn.Linear(channels, config.width)
        self.register_buffer("usual", torch.zeros(config.tokens))
        self._numbers = {sign: END + 1 + i for i, sign in enumerate(config.symbols)}

    @property
    def symbols(self) -> frozenset[str]:
        """The signs that training met."""
        met = self.usual[END + 1 :] > 0
        return frozenset(s for s, ok in zip(self.config.symbols, met.tolist(), strict=True) if ok)

    def tokens(self, phonemes: str) -> Tensor:
        """Token numbers [N] of `phonemes`, with one for the silence at either end.

        Raises:
            KnnvcError: there is nothing, or a sign that the front end does not know.
        """
        return torch.tensor([START, *numbers_of(phonemes, self._numbers), END])

    def encode(self, tokens: Tensor, pace: Tensor) -> Tensor:
        """`tokens` [B, N], 0 after the end, and `pace` [B] -> hidden [B, N, C]."""
        real = tokens != PADDING
        shown = real[..., None].to(torch.float32)
        hidden = self.embed(tokens) + self.pace(pace[:, None, None])
        for attention, block in zip(self.attentions, self.encoders, strict=True):
            hidden = attention(self.dropout(block(hidden * shown)), real)
        normed: Tensor = self.encoder_norm(hidden) * shown
        return normed

    def durations(self, hidden: Tensor, tokens: Tensor, pace: Tensor) -> Tensor:
        """Natural logarithm of the expected duration of each token, in units [B, N]."""
        change = self.duration(self.duration_block(hidden))[..., 0].float()
        expected: Tensor = self.usual[tokens].clamp(min=0.5).log() + pace[:, None] + change
        return expected

    def spread(self, hidden: Tensor, durations: Tensor, times: Tensor) -> Tensor:
        """What `hidden` [B, N, C] says at `times` [B, T] in seconds -> [B, T, C].

        `durations` [B, N] are in units, 0 for padding.
        """
        ends = torch.cumsum(durations.double() * self.config.unit, dim=1)
        index = torch.searchsorted(ends, times.double(), right=True)
        last = (durations > 0).sum(1, keepdim=True) - 1
        index = torch.minimum(index, last)
        end = ends.gather(1, index)
        length = durations.double().gather(1, index) * self.config.unit
        after, before = times - (end - length), end - times
        place = torch.stack([after / length, 8 * after, 8 * before, length.log() + 3], -1)
        chosen = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
        placed: Tensor = chosen + self.place(place.clamp(-4, 4).float())
        return placed

    def melody(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean log2 f0 above the centre [B, T], voicing logits [B, T], and what the flow reads."""
        hidden = frames
        for block in self.prosody_blocks:
            hidden = block(hidden)
        mean, voicing = self.prosody(hidden).float().unbind(-1)
        given = torch.cat([hidden, torch.stack([mean, voicing], -1).detach()], -1)
        return mean, voicing, given

    def draw(self, given: Tensor, noise: Tensor) -> Tensor:
        """How far the pitch strays from its mean, in octaves [B, T], out of `noise` [B, T]."""
        state, steps = noise, self.config.flow_steps
        for step in range(steps):
            time = torch.full((len(state),), step / steps, device=state.device)
            state = state + self.flow(state, time, given).float() / steps
        return state * self.config.pitch_spread

    def spectra(self, frames: Tensor, pitch: Tensor, voicing: Tensor) -> Tensor:
        """Log-mel columns [B, T, width]; `pitch` is log2 f0 above the centre, both [B, T]."""
        # Unvoiced frames carry no meaningful pitch: hide it.
        hidden = frames + self.sing(torch.stack([2 * pitch * voicing, voicing], -1))
        for block in self.decoders:
            hidden = block(hidden)
        columns: Tensor = self.write(self.decoder_norm(hidden))
        return columns

    @torch.inference_mode()
    def utter(
        self,
        phonemes: str,
        *,
        speed: float = 1.0,
        noise: float = 0.667,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Spectra and phone states, both on the CPU, one row for each frame of 20 ms.

        Synthesis columns [T, width + 2] float32 (log-mel, log2 f0, voicing), and the phone states
        [T] that the columns stand for, see `knnvc.text.phones`.

        Args:
            phonemes: One sentence in the signs of `symbols`.
            speed: 2 speaks twice as fast.
            noise: How freely the pitch moves; 0 always gives the same.
            generator: Where the noise comes from.

        Raises:
            KnnvcError: there are no phonemes, or a sign is unknown.
        """
        device = self.usual.device
        tokens = self.tokens(phonemes).to(device)[None]
        wanted = -math.log(speed)
        pace = torch.tensor([max(-PACE_RANGE, min(PACE_RANGE, wanted))], device=device)
        hidden = self.encode(tokens, pace)
        units = self.durations(hidden, tokens, pace).exp() * math.exp(wanted - float(pace))
        units = units.clamp(min=LEAST_UNITS)
        count = max(1, round(float(units.sum()) * self.config.unit / FRAME))
        times = (torch.arange(count, device=device)[None] + 0.5) * FRAME
        frames = self.spread(hidden, units, times)
        mean, logits, given = self.melody(frames)
        start = noise * torch.randn(1, count, generator=generator)
        pitch = mean + self.draw(given, start.to(device))
        voicing = torch.sigmoid(logits)
        columns = [self.spectra(frames, pitch, voicing), pitch[..., None] + PITCH_CENTRE]
        synth = torch.cat([*columns, voicing[..., None]], -1)[0].float().cpu()
        states = states_of_frames(phonemes, units[0].tolist(), self.config.unit, count)
        return synth, torch.from_numpy(states)


def with_known_states(posteriors: Tensor, states: Tensor) -> Tensor:
    """√posteriors [..., states] given the `states` [...] that are known; IGNORED keeps them.

    What a state is known to be counts CERTAINTY, what the encoder hears the rest.
    """
    known = states != IGNORED
    chosen = functional.one_hot(states.clamp(min=0).long(), posteriors.shape[-1])
    mixed = (CERTAINTY * chosen + (1 - CERTAINTY) * posteriors.square()).sqrt()
    return torch.where(known[..., None], mixed, posteriors)


class MiniFrontEnd:
    """A text front end (`knnvc.text.base`) of `mini`'s features.

    It predicts spectra and pitch; the encoder then names their phones, and the states that are
    known from the text count more than what the encoder finds.

    Args:
        network: predicts spectra.
        encoder: completes them.
    """

    def __init__(self, network: TextFrontend, encoder: MiniEncoder) -> None:
        self.network = network
        self.encoder = encoder
        self.language = network.language

    @property
    def symbols(self) -> frozenset[str]:
        """The signs that have a token."""
        return self.network.symbols

    def features(
        self,
        phonemes: str,
        *,
        speed: float = 1.0,
        noise: float = 0.667,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Features [T, D]; see `TextFrontEnd.features`."""
        synth, states = self.network.utter(phonemes, speed=speed, noise=noise, generator=generator)
        features, width = self.encoder.complete(synth), synth.shape[1]
        before, posteriors, after = features.tensor_split((width, width + STATES), dim=1)
        return torch.cat([before, with_known_states(posteriors, states), after], dim=1)

    def speaker_features(self) -> Tensor:
        """Features [T, D] that show the front end's own range of pitch and timbre."""
        generator = torch.Generator().manual_seed(0)
        lines = list(read(MEASURED, self.language))
        spoken = (fit(line.phonemes, self.symbols)[0] for line in lines)
        return torch.cat([self.features(one, generator=generator) for one in spoken])


def load(spec: PartSpec, context: Context) -> MiniFrontEnd:
    """The front end that a preset describes.

    Raises:
        KnnvcError: the preset's encoder is another than mini's, or gives other columns.
    """
    assert spec.weights is not None
    config, encoder = TextFrontendConfig.from_dict(spec.config), context.encoder
    given = None if encoder is None else encoder.columns.width
    if not isinstance(encoder, MiniEncoder) or given != config.columns:
        raise KnnvcError(
            f"the text front end of preset {context.preset!r} predicts {config.columns} columns of "
            f"mini's features, but its encoder gives {given}: use one that was trained on it"
        )
    network = TextFrontend(config, spec.settings["language"])
    network.load_state_dict(as_single(read_tensors(spec.weights)[0]))
    return MiniFrontEnd(network.eval().to(context.device), encoder)
