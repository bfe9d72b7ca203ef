"""Three pictures of a conversion: frames of two speakers, the matching, spectrograms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from knnvc.evaluation.figures import INK, MARKERS, PALETTE, figure, literal, look_for, style
from knnvc.evaluation.vectors import of_features, of_set, principal_components
from knnvc.extras import need
from knnvc.files import atomic_path
from knnvc.pipeline import VoiceConverter

FRAME = 0.02  # seconds
LEAST_FRAMES = 4  # a projection to three dimensions needs more than three
MOST_BINS = 400  # rows of the heat map
RANGE = 70.0  # decibels that a spectrogram shows
HIGHEST = 8.0  # kHz

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """Frames of several speakers in three dimensions: `points` [N, 3] by name, `axes` titles."""

    points: dict[str, Floats]
    axes: tuple[str, str, str]


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
    drawn = {}
    for name, one in voices.items():
        vectors = of_set(converter, one)
        chosen = torch.randperm(len(vectors), generator=generator)[:most]
        drawn[name] = vectors[chosen.sort().values]
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
    return Projection(dict(zip(drawn, parts, strict=True)), axes)


def _umap(vectors: Tensor, seed: int) -> Floats:
    package = need("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed keeps it to one thread
        reducer = package.UMAP(n_components=3, metric="cosine", random_state=seed)
        made: Floats = reducer.fit_transform(vectors.numpy()).astype(np.float32)
    return made


def frames_figure(projection: Projection, title: str) -> Any:
    """The projection in space, and from the side of its first two axes."""
    with style():
        made = figure(11, 5.4)
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
        for axis, name in zip("xyz", projection.axes, strict=True):
            space.locator_params(axis=axis, nbins=4)
            space.tick_params(axis=axis, labelsize=8, pad=0)
            getattr(space, f"set_{axis}label")(name, fontsize=9, labelpad=2)
        space.view_init(elev=22, azim=-60)
        space.set_box_aspect(None, zoom=0.86)
        plane.set(xlabel=projection.axes[0], ylabel=projection.axes[1], aspect="equal")
        plane.set_adjustable("datalim")
        handles, labels = plane.get_legend_handles_labels()
        legend = made.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        for handle in legend.legend_handles:
            handle.set(alpha=1.0, sizes=[40])
        made.suptitle(literal(title), fontsize=12)
        return made


def write_frames_html(projection: Projection, title: str, path: Path, *, force: bool) -> Path:
    """The projection to turn and zoom in a browser, all in one file (about 5 MB).

    Raises:
        UsageError: plotly is missing, or the file exists and `force` is False.
    """
    graphs = need("plotly.graph_objects")
    first, second, third = projection.axes
    clouds = [
        graphs.Scatter3d(
            x=points[:, 0],
            y=points[:, 1],
            z=points[:, 2],
            name=name,
            mode="markers",
            marker={"size": 2, "opacity": 0.6, "color": PALETTE[number % len(PALETTE)]},
        )
        for number, (name, points) in enumerate(projection.points.items())
    ]
    scene = {
        f"{axis}axis": {"title": {"text": text}}
        for axis, text in zip("xyz", (first, second, third), strict=True)
    }
    made = graphs.Figure(
        clouds,
        {
            "title": {"text": title},
            "scene": scene | {"aspectmode": "data"},
            "legend": {"itemsizing": "constant"},
        },
    )
    with atomic_path(path, force=force) as temporary:
        made.write_html(str(temporary), include_plotlyjs=True)
    return path


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


LOOK_MATCHING = (
    "yellow columns are sounds that the reference hardly has; flat runs of dots were taken in one "
    "piece"
)
LOOK_SPECTROGRAMS = (
    "the conversion keeps the source's rhythm, with the pitch range and formants of the target"
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
        look_for(made, LOOK_MATCHING)
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
        look_for(made, LOOK_SPECTROGRAMS)
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
