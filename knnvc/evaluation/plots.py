"""Three pictures of a conversion: frames of two speakers, the matching, spectrograms."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knnvc.audio import SAMPLE_RATE
from knnvc.audio.pitch import f0_track
from knnvc.converters.matching_set import MatchingSet
from knnvc.converters.search import Index
from knnvc.errors import KnnvcError
from knnvc.evaluation.figures import INK, MARKERS, PALETTE, figure, literal, style
from knnvc.evaluation.vectors import of_features, of_set, principal_components
from knnvc.extras import need
from knnvc.pipeline import VoiceConverter

FRAME = 0.02  # seconds
LEAST_FRAMES = 4  # a projection to three dimensions needs more than three
MOST_BINS = 400  # rows of the heat map
RANGE = 70.0  # decibels that a spectrogram shows
HIGHEST = 8.0  # kHz
POSTERIORS = "posteriors"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """Frames of several speakers in three dimensions.

    Attributes:
        points: [N, 3] by name.
        axes: their titles.
        rows: [N] which frames of each voice were drawn.
    """

    points: dict[str, Floats]
    axes: tuple[str, str, str]
    rows: dict[str, Tensor]


@dataclass(frozen=True)
class PhoneShare:
    """Share of spoken frames whose nearest frame of the other speaker has the same phone, [0, 1].

    `chance` is what frames drawn at random would give.
    """

    value: float
    chance: float


def project(
    converter: VoiceConverter,
    voices: Mapping[str, MatchingSet],
    method: str = "pca",
    most: int = 2000,
    seed: int = 0,
) -> Projection:
    """Project the vectors that matching compares to three dimensions, all speakers together.

    Args:
        converter: its preset says what is compared.
        voices: matching sets by name.
        method: "pca", or "umap" (McInnes et al., 2018), with cosine distance.
        most: frames of each speaker, drawn at random where there are more.
        seed: of the draw, and of UMAP.

    Raises:
        KnnvcError: there are too few frames.
        UsageError: UMAP is not installed.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn, rows = {}, {}
    for name, one in voices.items():
        vectors = of_set(converter, one)
        rows[name] = torch.randperm(len(vectors), generator=generator)[:most].sort().values
        drawn[name] = vectors[rows[name]]
    joined = torch.cat(list(drawn.values()))
    if len(joined) < LEAST_FRAMES:
        raise KnnvcError(f"there are {len(joined)} frames: give longer recordings")
    if method == "umap":
        points, axes = _umap(joined, seed), ("UMAP 1", "UMAP 2", "UMAP 3")
    else:
        found, shares = principal_components(joined)
        points = found.numpy()
        first, second, third = (
            f"component {n} ({100 * share:.0f} %)" for n, share in enumerate(shares.tolist(), 1)
        )
        axes = (first, second, third)
    ends = np.cumsum([len(one) for one in drawn.values()])
    parts = np.split(points, ends[:-1])
    return Projection(dict(zip(drawn, parts, strict=True)), axes, rows)


def _umap(vectors: Tensor, seed: int) -> Floats:
    package = need("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed keeps it to one thread
        reducer = package.UMAP(n_components=3, metric="cosine", random_state=seed)
        made: Floats = reducer.fit_transform(vectors.numpy()).astype(np.float32)
    return made


def same_phone(converter: VoiceConverter, voices: Mapping[str, MatchingSet]) -> PhoneShare | None:
    """How often a frame of the first voice is nearest to a frame of the same phone in the second.

    The vectors are those that matching compares, all of them, not their projection. Phones are what
    the encoder itself hears, in presets whose encoder names the columns "posteriors": so this tells
    how well matching agrees with the encoder, and not how often the encoder is right. None for
    other presets, and where nobody says anything.
    """
    network = getattr(converter.encoder, "network", None)
    named = (getattr(network, "named_columns", None) or {}).get(POSTERIORS)
    if named is None:
        return None
    columns = converter.encoder.columns
    first = int(columns.match.start or 0)
    heard, vectors = [], []
    for one in voices.values():
        told = one.match[:, named.start - first : named.stop - first]
        if told.shape[1] != named.stop - named.start:
            return None  # they are not among the columns that a set keeps
        states = told.argmax(1)
        heard.append(torch.where(states > 0, 1 + (states - 1) // 3, 0))  # 0 is silence
        vectors.append(of_set(converter, one))
    rows = torch.nonzero(heard[0] > 0)[:, 0]
    if not len(rows):
        return None
    _, nearest = Index(vectors[1]).search(vectors[0][rows], 1)
    phones = heard[0][rows]
    right = (heard[1][nearest[:, 0]] == phones).float().mean()
    shares = torch.bincount(heard[1], minlength=int(phones.max()) + 1) / len(heard[1])
    return PhoneShare(float(right), float(shares[phones].mean()))


def links_between(
    converter: VoiceConverter, voices: Mapping[str, MatchingSet], found: Projection, count: int
) -> list[tuple[int, int]]:
    """Drawn frames of the first voice, and of the second the drawn frame that is nearest to each.

    `count` links, spread evenly over the first voice; near is what matching calls so.
    """
    one, other = (
        of_set(converter, voice)[found.rows[name]] for name, voice in list(voices.items())[:2]
    )
    count = min(count, len(one))
    if count < 1:
        return []
    rows = torch.linspace(0, len(one) - 1, count).round().long()
    _, nearest = Index(other).search(one[rows], 1)
    return list(zip(rows.tolist(), nearest[:, 0].tolist(), strict=True))


def frames_caption(share: PhoneShare | None, links: int) -> str:
    """What to look for in the picture, in sentences."""
    told = (
        "Each dot is 20 ms of speech. Look whether the two colours lie in each other: then frames "
        "of one voice find near ones of the other, which is what matching lives on. Colours that "
        "lie side by side mean that the vectors tell voices, not phones."
    )
    if share is not None:
        told += (
            f" Of the spoken frames of the first voice, {100 * share.value:.0f} % have a nearest "
            "frame of the second with the same phone, as the encoder hears them (by chance "
            f"{100 * share.chance:.0f} %)."
        )
    if links:
        told += f" {links} lines join frames with the nearest drawn frame of the other speaker."
    return told


def frames_figure(
    projection: Projection,
    title: str,
    caption: str = "",
    links: Sequence[tuple[int, int]] = (),
) -> Any:
    """The projection in space, and from the side of its first two axes; both fill their panels."""
    everything = np.concatenate(list(projection.points.values()))
    with style():
        made = figure(11, 6.4 if caption else 5.6)
        space = made.add_subplot(1, 2, 1, projection="3d")
        plane = made.add_subplot(1, 2, 2)
        for number, (name, points) in enumerate(projection.points.items()):
            look = {
                "color": PALETTE[number % len(PALETTE)],
                "marker": MARKERS[number % len(MARKERS)],
                "s": 7,
                "alpha": 0.45,
                "linewidths": 0,
            }
            space.scatter(*points.T, depthshade=False, **look)
            plane.scatter(*points.T[:2], label=literal(f"{name} ({len(points)} frames)"), **look)
        clouds = list(projection.points.values())
        for one, other in links:
            line = np.stack([clouds[0][one], clouds[1][other]]).T
            space.plot(*line, color=INK, lw=0.5, alpha=0.5)
            plane.plot(*line[:2], color=INK, lw=0.5, alpha=0.5)
        for axis, name, values in zip("xyz", projection.axes, everything.T, strict=True):
            space.locator_params(axis=axis, nbins=4)
            space.tick_params(axis=axis, labelsize=8, pad=0)
            getattr(space, f"set_{axis}label")(name, fontsize=9, labelpad=2)
            ends = _frame_of(values)
            getattr(space, f"set_{axis}lim")(*ends)
            if axis != "z":
                getattr(plane, f"set_{axis}lim")(*ends)
        space.view_init(elev=22, azim=-60)
        space.set_box_aspect(None, zoom=0.8)  # so that labels stay inside
        plane.set(xlabel=projection.axes[0], ylabel=projection.axes[1])
        handles, labels = plane.get_legend_handles_labels()
        told = "\n".join(map(literal, textwrap.wrap(caption, 125)))
        legend = made.legend(
            handles, labels, loc="outside lower center", ncols=2, frameon=False,
            title=told or None, title_fontsize=9,
        )  # fmt: skip
        legend.get_title().set_multialignment("left")
        for handle in legend.legend_handles:
            handle.set(alpha=1.0, sizes=[40])
        made.suptitle(literal(title), fontsize=12)
        return made


def _frame_of(values: Floats) -> tuple[float, float]:
    """Both ends of an axis that shows all of `values` [N], with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


# Matching -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matching:
    """What matching saw.

    Attributes:
        distances: [R, T] smallest cosine distance to T source frames within each of R stretches of
            the reference.
        neighbours: [T, k] the frames chosen.
        chosen: [T, k] their distances.
        frames: of the reference.
        starts: [F] first frames of the reference's recordings.
    """

    distances: Floats
    neighbours: npt.NDArray[np.int64]
    chosen: Floats
    frames: int
    starts: npt.NDArray[np.int64]


def matching(
    converter: VoiceConverter, features: Tensor, voice: MatchingSet, k: int | None = None
) -> Matching:
    """Distances of source `features` [T, D] to all frames of `voice`, and the chosen ones.

    Raises:
        KnnvcError: there are fewer frames than k.
    """
    query, target = of_features(converter, features), of_set(converter, voice)
    chosen, neighbours = Index(target).search(query, k or converter.k)
    bins = torch.tensor_split(target, min(MOST_BINS, len(target)))
    nearest = torch.stack([(1 - block @ query.T).min(0).values for block in bins])
    return Matching(
        nearest.clamp(min=0).numpy(),
        neighbours.numpy(),
        chosen.numpy(),
        len(target),
        voice.frame_start.numpy(),
    )


def matching_figure(found: Matching, wave: Floats, source: str, target: str) -> Any:
    """Heat map of distances with the chosen neighbours, under the source's spectrogram."""
    length = found.distances.shape[1] * FRAME
    with style():
        made = figure(11, 8)
        top, middle, bottom = made.subplots(
            3, 1, sharex=True, gridspec_kw={"height_ratios": [1.2, 4, 0.9]}
        )
        _spectrogram(top, wave)
        top.set_title(literal(f"{source} (source)"), loc="left")
        seconds = found.frames * FRAME
        image = middle.imshow(
            found.distances,
            origin="lower",
            aspect="auto",
            extent=(0, length, 0, seconds),
            cmap="cividis",
            interpolation="nearest",
            vmin=0,
            vmax=1,
        )
        times = (np.arange(len(found.neighbours)) + 0.5) * FRAME
        for column in found.neighbours.T:
            middle.plot(times, (column + 0.5) * FRAME, ls="", marker="o", ms=3.2, mfc="#FF4D00",
                        mec="white", mew=0.4)  # fmt: skip
        for start in found.starts[1:]:
            middle.axhline(start * FRAME, color="white", lw=0.4, alpha=0.6)
        k = found.neighbours.shape[1]
        middle.set_title(
            literal(f"{target} (reference): the {k} neighbours chosen for each frame"), loc="left"
        )
        middle.set_ylabel("time in the reference (s)")
        middle.grid(visible=False)
        made.colorbar(
            image, ax=[top, middle, bottom], label="cosine distance", fraction=0.03, aspect=40
        )
        bottom.fill_between(times, found.chosen.min(1), found.chosen.max(1), color=PALETTE[5], lw=0)
        bottom.plot(times, found.chosen.mean(1), color=PALETTE[0], lw=1.2)
        bottom.set_title("distance of the chosen: mean, smallest to largest", loc="left")
        bottom.set(xlabel="time in the source (s)", ylabel="distance", xlim=(0, length))
        bottom.set_ylim(bottom=0)
        return made


# Spectrograms -------------------------------------------------------------------------------------


def spectrograms_figure(waves: Sequence[tuple[str, Floats]]) -> Any:
    """Spectrograms of waveforms [S] at 16 kHz under each other, on one scale, with their pitch."""
    longest = max(len(wave) for _, wave in waves) / SAMPLE_RATE
    with style():
        made = figure(11, 2.5 * len(waves) + 0.6)
        panels = made.subplots(len(waves), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for panel, (name, wave) in zip(panels, waves, strict=True):
            image = _spectrogram(panel, wave)
            f0 = f0_track(wave, round(len(wave) / SAMPLE_RATE / FRAME))
            times = (np.arange(len(f0)) + 0.5) * FRAME
            other = panel.twinx()
            other.plot(times, np.where(f0 > 0, f0, np.nan), color="#35D0FF", lw=1.8)
            other.set(ylim=(50, 600), yscale="log", ylabel="pitch (Hz)")
            other.set_yticks([50, 100, 200, 400], ["50", "100", "200", "400"])
            other.minorticks_off()
            other.grid(visible=False)
            other.spines["right"].set(visible=True, color="#0A9ACB")
            panel.set_title(literal(name), loc="left", color=INK)
        panels[-1].set(xlabel="time (s)", xlim=(0, longest))
        made.colorbar(
            image, ax=panels, label="level (dB below the loudest)", fraction=0.03, pad=0.01
        )
        return made


def _spectrogram(panel: Any, wave: Floats) -> Any:
    """Draw the magnitudes of windows of 32 ms every 5 ms, in dB."""
    size, step = 512, 80
    padded = np.pad(wave, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(wave) : step]
    magnitudes = np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)).T
    levels = 20 * np.log10(np.maximum(magnitudes, 1e-7))
    panel.set(ylim=(0, HIGHEST), ylabel="frequency (kHz)")
    panel.grid(visible=False)
    return panel.imshow(
        levels - levels.max(),
        origin="lower",
        aspect="auto",
        extent=(0, len(wave) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000),
        cmap="magma",
        vmin=-RANGE,
        vmax=0,
    )
