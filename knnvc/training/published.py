"""Train HiFi-GAN, or BigVGAN's generator, on prematched features of any encoder and corpus.

Kong et al. 2020 (https://arxiv.org/abs/2010.05646), with the settings of Baas et al. 2023
(https://arxiv.org/abs/2305.18975). Runs on one or more GPUs through accelerate: start it with
`accelerate launch -m knnvc.cli.main train vocoder ...` to use several.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from knnvc.audio import find_audio, load_audio
from knnvc.errors import KnnvcError
from knnvc.tensors import read_tensors
from knnvc.training.discriminators import PublishedDiscriminators, contest
from knnvc.training.generators import Config, facts_of, network_of
from knnvc.training.losses import MelLoss
from knnvc.training.options import HifiGanOptions
from knnvc.training.prematch import matched_path
from knnvc.training.runs import Run
from knnvc.vocoders.bigvgan import BigVgan, BigVganConfig
from knnvc.vocoders.hifigan import TRAINING_KEYS, HifiGan

HELD_OUT_SHARE = 100  # one utterance in so many is kept for listening, at least one


def train_hifigan(
    corpus: Path,
    prematched: Path,
    folder: Path,
    options: HifiGanOptions,
    config: Config,
) -> Path:
    """Train, or resume, in `folder`; returns the checkpoint `g_STEPS.pt` in the published format.

    `prematched` is what `prematch_folder` wrote for `corpus`, `config` what `generator_for` makes
    of it. Beside the checkpoint lies its `config.json`: `knnvc preset new` reads both.

    Raises:
        KnnvcError: accelerate is missing, there is nothing to train on, or the generator reads
            other features.
    """
    accelerator = _accelerator(options)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    training, held_out = find_examples(corpus, prematched)
    device, generator = accelerator.device, network_of(config)
    width = facts_of(training[0][1]).width
    if width != generator.dim:
        raise KnnvcError(
            f"the generator reads {generator.dim} columns and {prematched} has {width}: leave its "
            "width out of the configuration"
        )
    rate, critics = generator.sample_rate, PublishedDiscriminators(options.discriminator_width)
    generator.add_weight_norm()
    betas = (options.adam_b1, options.adam_b2)
    makers = torch.optim.AdamW(generator.parameters(), options.learning_rate, betas=betas)
    judges = torch.optim.AdamW(critics.parameters(), options.learning_rate, betas=betas)
    parts = {"generator": generator, "critics": critics, "makers": makers, "judges": judges}
    run = Run(folder, parts, options, leader=accelerator.is_main_process)
    run.resume()
    # After loading, so that every process has the checkpoint's weights on its own device.
    generator, critics, makers, judges = accelerator.prepare(generator, critics, makers, judges)
    mel_loss = MelLoss(
        rate, options.n_fft, options.hop_size, options.win_size, options.num_mels
    ).to(device)
    frames = max(1, round(options.segment_size / generator.hop))
    segments = Segments(training, frames, generator.hop, rate)
    loader = accelerator.prepare(_loader(segments, options, accelerator.num_processes))
    if run.leader:
        print(f"{len(training)} utterances to train on, {len(held_out)} held out")
    for epoch, features, real in _batches(loader, run.step):
        if run.step >= options.steps:
            break
        for group in makers.param_groups + judges.param_groups:
            group["lr"] = options.learning_rate * options.lr_decay**epoch
        made = generator(features)[:, 0].float()
        losses = {"mel": mel_loss(made, real)}
        losses |= contest(critics, judges, made, real, backward=accelerator.backward)
        makers.zero_grad()
        activations = accelerator.unwrap_model(critics).activations
        accelerator.backward(_total(losses, options, activations))
        makers.step()
        run.finish_step(**{name: float(loss.detach()) for name, loss in losses.items()})
        if run.step % options.report_every == 0 and run.leader:
            _report(run, accelerator.unwrap_model(generator), held_out, mel_loss)
    out = folder / f"g_{run.step:08d}.pt"
    run.finish(out)
    if run.leader:
        _write_published(out, accelerator.unwrap_model(generator), options, config)
    accelerator.end_training()
    return out


def _accelerator(options: HifiGanOptions) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ModuleNotFoundError as error:
        raise KnnvcError("the published recipe needs `pip install 'knnvc[train]'`") from error
    # The buffers of spectral norm change in every forward pass and must not be overwritten.
    settings = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision=options.mixed_precision, kwargs_handlers=[settings])


def _total(losses: dict[str, Tensor], options: HifiGanOptions, activations: int) -> Tensor:
    total = options.mel_weight * losses["mel"] + losses["adversarial"]
    # As published, the sum over the activations and not their mean.
    return total + options.matching_weight * activations * losses["matching"]


Example = tuple[Path, Path]  # recording, its matched features


def find_examples(corpus: Path, prematched: Path) -> tuple[list[Example], list[Example]]:
    """Recordings with matched features, to train on and to listen to.

    Raises:
        KnnvcError: there are not even two.
    """
    found = [(file, matched_path(corpus, file, prematched)) for file in find_audio(corpus)]
    found = [pair for pair in found if pair[1].exists()]
    if len(found) < 2:
        raise KnnvcError(
            f"{prematched} holds no matched features of {corpus}: make them with "
            f"`knnvc train prematch --preset NAME --corpus {corpus} --out {prematched}`"
        )
    # Spread over all speakers, and the same in every run.
    every = min(HELD_OUT_SHARE, len(found))
    return [p for i, p in enumerate(found) if i % every], found[::every]


class Segments(Dataset[tuple[Tensor, Tensor]]):
    """A random stretch of each recording: features [T, D] and samples [T · hop]."""

    def __init__(self, examples: list[Example], frames: int, hop: int, rate: int) -> None:
        self.examples = examples
        self.frames = frames
        self.hop = hop
        self.rate = rate

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features, wave = read_example(self.examples[index], self.rate)
        room = len(features) - self.frames
        start = int(torch.randint(room + 1, ())) if room > 0 else 0
        features = features[start : start + self.frames]
        wave = wave[start * self.hop : (start + self.frames) * self.hop]
        padding = (0, 0, 0, self.frames - len(features))
        return (
            torch.nn.functional.pad(features, padding),
            torch.nn.functional.pad(wave, (0, self.frames * self.hop - len(wave))),
        )


def read_example(example: Example, rate: int) -> tuple[Tensor, Tensor]:
    """Features [T, D] float32 and samples [S] at `rate` Hz."""
    return read_tensors(example[1])[0]["matched"].float(), load_audio(example[0], rate)


def _loader(
    segments: Segments, options: HifiGanOptions, processes: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(
        segments,
        max(1, min(options.batch_size, len(segments)) // processes),
        shuffle=True,
        drop_last=True,
        num_workers=options.num_workers,
        persistent_workers=options.num_workers > 0,
    )


def _batches(loader: Any, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Epoch by epoch without end, the first one being that of `step`."""
    epoch = step // len(loader)
    while True:
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(epoch)
        for features, real in loader:
            yield epoch, features, real
        epoch += 1


@torch.inference_mode()
def _report(
    run: Run, generator: HifiGan | BigVgan, held_out: list[Example], mel_loss: MelLoss
) -> None:
    generator.eval()
    rate = generator.sample_rate
    device = next(generator.parameters()).device
    losses = []
    for index, example in enumerate(held_out[:8]):
        features, wave = read_example(example, rate)
        features = features[: 5 * rate // generator.hop].to(device)  # five seconds
        real = wave[: len(features) * generator.hop].to(device)
        made = generator(features[None])[0, 0][: len(real)]
        losses.append(float(mel_loss(made[None], real[None])))
        if index == 0:
            run.listen("made", made, rate)
            run.listen("real", real, rate)
    generator.train()
    run.report(held_out_mel=float(np.mean(losses)))


def _write_published(
    path: Path, generator: HifiGan | BigVgan, options: HifiGanOptions, config: Config
) -> None:
    """`{'generator': state}` with the names of the published files, and `config.json` beside it."""
    published = {
        name.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): tensor.detach().cpu()
        for name, tensor in generator.state_dict().items()
    }
    temporary = path.with_suffix(".tmp")
    torch.save({"generator": published}, temporary)
    os.replace(temporary, path)
    trained = {k: v for k, v in dataclasses.asdict(options).items() if k in TRAINING_KEYS}
    if isinstance(config, BigVganConfig):  # whose num_mels is what it reads; no spectra are
        for name in ("num_mels", "n_fft", "hop_size", "win_size"):
            trained.pop(name)
    values = config.to_dict() | trained
    (path.parent / "config.json").write_text(json.dumps(values, indent=1) + "\n")
