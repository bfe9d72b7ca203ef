"""Train `mini`'s text front end on one voice whose phoneme durations are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knnvc.errors import KnnvcError
from knnvc.mini.encoder import MiniEncoder as Encoder
from knnvc.mini.text_frontend import (
    END,
    FRAME,
    PADDING,
    PITCH_CENTRE,
    START,
    TextFrontend,
    TextFrontendConfig,
)
from knnvc.text.phones import LENGTHENING, PHONES, PUNCTUATION, STRESS
from knnvc.training.aligned import DURATION_UNIT, read_alignments
from knnvc.training.frontends import cached_features, is_held_out, write_settings
from knnvc.training.runs import begin_with, seed_everything
from recipe.options import TextFrontendOptions
from recipe.spectrograms import SpectrogramTraining

# In a fixed order, so that a longer corpus never renumbers the tokens of a trained front end.
SYMBOLS = " " + "".join([*sorted(PUNCTUATION), *sorted(STRESS | LENGTHENING), *PHONES])
MINI_TEXT_FRONTEND = TextFrontendConfig(symbols=SYMBOLS, unit=DURATION_UNIT)
LEAST_SEEN = 5  # times a sign must occur to count as known
VALIDATION = 24  # utterances that losses are measured on


@dataclass(frozen=True)
class Spoken:
    """One utterance: `tokens` [N], `durations` [N] in units, `features` [T, width + 2] float16."""

    file: str
    text: str
    phones: str
    tokens: npt.NDArray[np.int64]
    durations: npt.NDArray[np.float32]
    features: npt.NDArray[np.float16]


@dataclass(frozen=True)
class Batch:
    """B utterances and a piece of F frames of each.

    Shapes: `tokens` [B, N] with 0 for padding, `durations` [B, N] in units, `pace` [B], `times`
    [B, F] in seconds, `features` [B, F, width + 2], `inside` [B, F] 0 after an utterance's end.
    """

    tokens: Tensor
    durations: Tensor
    pace: Tensor
    times: Tensor
    features: Tensor
    inside: Tensor


def load_spoken(corpus: Path, encoder: Encoder, fingerprint: str) -> list[Spoken]:
    """Every aligned utterance with the synthesis columns that the encoder hears, cached as .npy.

    Raises:
        KnnvcError: there is none.
    """
    numbers = {sign: END + 1 + i for i, sign in enumerate(SYMBOLS)}
    out, skipped = [], 0
    for record in read_alignments(corpus):
        phones = "".join(record["phones"])
        if not set(phones) <= numbers.keys():
            skipped += 1
            continue
        cache = cached_features(corpus / record["file"], encoder, fingerprint)
        out.append(
            Spoken(
                record["file"],
                record["text"],
                phones,
                np.array([START, *(numbers[sign] for sign in phones), END]),
                np.array(record["durations"], np.float32),
                np.load(cache),
            )
        )
    if skipped:
        print(f"left out {skipped} utterances with signs that have no token", flush=True)
    if not out:
        raise KnnvcError(f"{corpus} holds no aligned speech: make it with `vocoder/mini.py corpus`")
    return out


def usual_durations(utterances: list[Spoken], tokens: int) -> Tensor:
    """Mean duration of each token in units [tokens]; 0 for those that hardly occur."""
    seen, total = np.zeros(tokens), np.zeros(tokens)
    for utterance in utterances:
        np.add.at(seen, utterance.tokens, 1)
        np.add.at(total, utterance.tokens, utterance.durations)
    known = seen >= min(LEAST_SEEN, len(utterances))
    return torch.from_numpy(np.where(known, total / np.maximum(seen, 1), 0.0)).float()


def collate(
    utterances: list[Spoken], starts: list[int], frames: int, usual: npt.NDArray[np.float32]
) -> Batch:
    """Pieces of `frames` frames from `starts` on, with the whole texts that they belong to."""
    longest = max(len(u.tokens) for u in utterances)
    width = utterances[0].features.shape[1]
    tokens = np.full((len(utterances), longest), PADDING)
    durations = np.zeros((len(utterances), longest), np.float32)
    features = np.zeros((len(utterances), frames, width), np.float32)
    inside = np.zeros((len(utterances), frames), np.float32)
    pace = np.zeros(len(utterances), np.float32)
    for row, (utterance, start) in enumerate(zip(utterances, starts, strict=True)):
        count = len(utterance.tokens)
        tokens[row, :count], durations[row, :count] = utterance.tokens, utterance.durations
        piece = utterance.features[start : start + frames]
        features[row, : len(piece)], inside[row, : len(piece)] = piece, 1.0
        # The silences at either end say nothing about the tempo.
        spoken, expected = utterance.durations[1:-1].sum(), usual[utterance.tokens[1:-1]].sum()
        pace[row] = np.log(max(1.0, spoken) / max(1.0, expected))
    times = (np.array(starts)[:, None] + np.arange(frames) + 0.5) * FRAME
    return Batch(*(torch.from_numpy(a) for a in (tokens, durations, pace, times, features, inside)))


class Reader:
    """Draws batches: every utterance once, in random order, then again."""

    def __init__(
        self, utterances: list[Spoken], usual: Tensor, options: TextFrontendOptions
    ) -> None:
        self.utterances = utterances
        self.usual = usual.numpy()
        self.options = options
        self._waiting: list[int] = []

    def batch(self, rng: np.random.Generator) -> Batch:
        """`options.batch` utterances, a piece of each."""
        chosen, starts = [], []
        for _ in range(self.options.batch):
            if not self._waiting:
                self._waiting = rng.permutation(len(self.utterances)).tolist()
            utterance = self.utterances[self._waiting.pop()]
            room = len(utterance.features) - self.options.frames
            chosen.append(utterance)
            starts.append(int(rng.integers(room + 1)) if room > 0 else 0)
        return collate(chosen, starts, self.options.frames, self.usual)


def losses_of(network: TextFrontend, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of a batch by name, and the spectra that were made [B, F, width]."""
    width = network.config.width
    real = (batch.tokens != PADDING).float()
    mel = batch.features[..., :width]
    pitch, voicing = batch.features[..., width] - PITCH_CENTRE, batch.features[..., width + 1]
    hidden = network.encode(batch.tokens, batch.pace)
    log_units = network.durations(hidden, batch.tokens, batch.pace)
    # Poisson's likelihood: its optimum is the mean, so that pauses and sentences keep their length.
    duration = log_units.exp() - batch.durations * log_units
    frames = network.spread(hidden, batch.durations, batch.times)
    mean, logits, given = network.melody(frames)
    weight = batch.inside * (voicing > 0.5)
    apart = (pitch - mean) / network.config.pitch_spread
    time = torch.rand(len(mel))
    noise = torch.randn_like(apart)
    goal = apart.detach().clamp(-3, 3)  # unvoiced frames may be anywhere
    state = noise + time[:, None] * (goal - noise)
    velocity = network.flow(state, time, given).float()
    # Unvoiced frames count a little: their state is what voiced neighbours see while drawing.
    drawn = batch.inside * (0.05 + 0.95 * (voicing > 0.5))
    made = network.spectra(frames, pitch, voicing).float()
    losses = {
        "duration": _mean(duration, real),
        "pitch": _mean(functional.smooth_l1_loss(apart, 0 * apart, reduction="none"), weight),
        "voicing": _mean(
            functional.binary_cross_entropy_with_logits(logits, voicing, reduction="none"),
            batch.inside,
        ),
        "flow": _mean((velocity - (goal - noise)).square(), drawn),
        "spectral": _mean((made - mel).abs().mean(-1), batch.inside),
    }
    return losses, made


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def train_text_frontend(
    corpus: Path,
    encoder: Encoder,
    fingerprint: str,
    folder: Path,
    options: TextFrontendOptions,
    config: TextFrontendConfig = MINI_TEXT_FRONTEND,
    start: Path | None = None,
) -> Path:
    """Train, or resume, in `folder`; writes `text_frontend.safetensors` and returns its path.

    A new training begins with the weights in `start`, if given. `fingerprint` tells encoders
    apart, so that cached features are not those of another.

    Raises:
        KnnvcError: the corpus holds no aligned speech, or nothing to train on.
    """
    torch.set_num_threads(options.threads)
    rng = seed_everything(options.seed)
    everything = load_spoken(corpus, encoder, fingerprint)
    training = [u for u in everything if not is_held_out(u.file)]
    held_out = [u for u in everything if is_held_out(u.file)][:VALIDATION]
    if not training:
        raise KnnvcError("every utterance of the corpus is held out: make a longer corpus")
    network = TextFrontend(config)
    write_settings(folder, "mini-tts", config.to_dict(), network.language)
    begin_with(network, start)
    usual = usual_durations(training, config.tokens)
    network.usual.copy_(usual)
    weights = {"adversarial": 1.0, "matching": options.matching_weight}
    trained = SpectrogramTraining(network, folder, options, config.mels, weights)
    run, averaged = trained.run, trained.averaged
    if run.resume():
        rng = np.random.default_rng(options.seed + run.step)
        torch.manual_seed(options.seed + run.step)
        # The corpus may have grown since.
        network.usual.copy_(usual)
        averaged.usual.copy_(usual)
    hours = sum(len(u.features) for u in training) * FRAME / 3600
    print(
        f"{len(training)} utterances ({hours:.2f} h) to train on, {len(held_out)} held out",
        flush=True,
    )
    reader = Reader(training, usual, options)
    while trained.begin_step():
        batch = reader.batch(rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            losses, made = losses_of(network, batch)
        total = options.spectral_weight * losses["spectral"]
        for name in ("duration", "pitch", "voicing", "flow"):
            total = total + options.prosody_weight * losses[name]
        mel = batch.features[..., : config.width]
        losses |= trained.judge(torch.where(batch.inside[..., None] > 0, made, mel), mel)
        if trained.finish_step(total, losses):
            run.report(**evaluate(averaged, held_out))
    return run.publish(averaged, "text_frontend")


@torch.inference_mode()
def evaluate(network: TextFrontend, utterances: list[Spoken]) -> dict[str, float]:
    """Errors on held-out utterances.

    `held_out` is the mean L1 of log-mel values and `pitch_error` that of the mean contour in
    semitones, both with the true durations; `movement` is the standard deviation of the drawn
    contour over that of the true one; `duration_error` is in ms for each token, `length` the
    predicted length of the speech over the true one, at the utterance's own pace.
    """
    if not utterances:
        return {}
    rows: dict[str, list[float]] = {}
    usual = network.usual.numpy()
    width = network.config.width
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    for utterance in utterances:
        batch = collate([utterance], [0], len(utterance.features), usual)
        hidden = network.encode(batch.tokens, batch.pace)
        units = network.durations(hidden, batch.tokens, batch.pace).exp()
        frames = network.spread(hidden, batch.durations, batch.times)
        mean, _, given = network.melody(frames)
        drawn = mean + network.draw(given, 0.667 * torch.randn_like(mean))
        pitch, voicing = batch.features[..., width] - PITCH_CENTRE, batch.features[..., width + 1]
        made = network.spectra(frames, pitch, voicing)
        voiced = voicing > 0.5
        row = {
            "held_out": (made - batch.features[..., :width]).abs().mean(),
            "pitch_error": 12 * (mean - pitch)[voiced].abs().mean(),
            "movement": drawn[voiced].std() / pitch[voiced].std(),
            "duration_error": (units - batch.durations)[:, 1:-1].abs().mean()
            * (1000 * network.config.unit),
            "length": units[:, 1:-1].sum() / batch.durations[:, 1:-1].sum(),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(float(value))
    torch.set_rng_state(torch_state)
    return {name: float(np.mean(values)) for name, values in rows.items()}
