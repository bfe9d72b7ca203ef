"""Converting, end to end: what it takes, what it gives, and what it refuses."""

from __future__ import annotations

import inspect
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

import knnvc
from knnvc.audio import find_audio, load_audio
from knnvc.cli.main import cli
from knnvc.converters.matching_set import load
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.frames import Frames
from knnvc.options import DEFAULT_PRESET, ConvertOptions
from knnvc.pipeline import VoiceConverter, convert, resynthesize, stretch

HOP, SAMPLE_RATE = 320, 16_000
EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
Source = tuple[Any, int]


def noise(seconds: float, seed: int = 0, level: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(round(seconds * SAMPLE_RATE), generator=generator)


def record(path: Path, waveform: Tensor, rate: int = SAMPLE_RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, waveform.numpy(), rate, subtype="FLOAT")
    return path


# What it takes ------------------------------------------------------------------------------------


def test_sources_of_every_kind_agree(
    tiny: VoiceConverter, source: Source, ben: Path, tmp_path: Path
) -> None:
    samples = source[0]
    path = record(tmp_path / "source.wav", torch.from_numpy(samples))
    expected, _ = tiny.convert(source, ben)
    for same in (path, str(path), (samples.tolist(), SAMPLE_RATE), (samples[None], SAMPLE_RATE)):
        assert np.array_equal(np.squeeze(tiny.convert(same, ben)[0]), expected)
    assert np.array_equal(tiny.convert(samples, ben, sample_rate=SAMPLE_RATE)[0], expected)
    double = np.repeat(samples, 2)  # 32 kHz of the same duration
    assert len(tiny.convert((double, 32_000), ben)[0]) == len(expected)


def test_references_of_every_kind_agree(
    tiny: VoiceConverter, source: Source, ben: Path, tmp_path: Path
) -> None:
    waveform = load_audio(ben)
    ready = tiny.matching_set(ben)
    ready.save(tmp_path / "ben.safetensors")
    expected, _ = tiny.convert(source, ben)
    for same in (
        str(ben),
        [ben],
        (path for path in [ben]),
        (waveform, SAMPLE_RATE),
        (waveform.numpy(), SAMPLE_RATE),
        (waveform.tolist(), SAMPLE_RATE),
        [(waveform, SAMPLE_RATE)],
        ready,
        [ready],
        [(ben, 0.3)],
        [((waveform, SAMPLE_RATE), 5.0)],
        [(ready, 2)],
    ):
        assert np.array_equal(tiny.convert(source, same)[0], expected)
    for same in (waveform, waveform.numpy(), [waveform], waveform[None]):
        made, _ = tiny.convert(source[0], same, sample_rate=SAMPLE_RATE)
        assert np.array_equal(made, expected)
    # On disk it is float16.
    saved, _ = tiny.convert(source, tmp_path / "ben.safetensors")
    assert np.abs(saved - expected).max() < 0.02 * np.abs(expected).max()


def test_a_saved_set_equals_its_folder_up_to_float16(
    tiny: VoiceConverter, source: Source, anna: Path, tmp_path: Path
) -> None:
    built = tiny.matching_set(anna, licence="CC0")
    assert (built.info.speaker, built.info.licence) == ("anna", "CC0")
    built.save(tmp_path / "anna.safetensors")
    saved = load(tmp_path / "anna.safetensors")
    assert saved.info == built.info
    features = tiny.encode(source)
    wanted, found = (tiny.match(features, one).values for one in (built, saved))
    assert (wanted - found).norm() < 2e-3 * wanted.norm()
    renamed = tiny.matching_set(tmp_path / "anna.safetensors", speaker="A.", licence="MIT")
    assert (renamed.info.speaker, renamed.info.licence) == ("A.", "MIT")
    assert renamed.info.files == built.info.files


def test_references_are_trimmed_and_the_source_is_not(tiny: VoiceConverter, source: Source) -> None:
    clip = load_audio(find_audio(EXAMPLES / "target")[0])[: 3 * SAMPLE_RATE]
    padded = torch.cat([torch.zeros(16_000), clip])
    trimmed, whole = (tiny.matching_set((padded, SAMPLE_RATE), trim=trim) for trim in (True, False))
    assert len(whole.match) == (len(padded) - 400) // HOP + 1
    assert len(trimmed.match) < len(whole.match) - 30
    quiet = np.concatenate([np.zeros(16_000), source[0]])
    made, _ = tiny.convert(quiet, clip, sample_rate=SAMPLE_RATE)
    assert len(made) == len(quiet)


@pytest.mark.parametrize("seconds", [0.02, 0.3, 0.7, 1.55])
def test_seconds_is_the_duration(
    tiny: VoiceConverter, source: Source, ben: Path, seconds: float
) -> None:
    made, rate = tiny.convert(source, ben, ConvertOptions(seconds=seconds))
    assert abs(len(made) / rate - seconds) <= 0.02 + 1e-9


@pytest.mark.parametrize("frames", [1, 7, 49, 93, 98])
def test_one_frame_is_left_of_any_length(tiny: VoiceConverter, frames: int) -> None:
    """49 · (1 / 49) is less than 1 in floating point."""
    assert stretch(torch.ones(frames, 3), 0.02, tiny.encoder).shape == (1, 3)
    assert stretch(torch.ones(frames, 3), 2.0, tiny.encoder).shape[0] in (99, 100)


def test_loudness_is_normalised_unless_turned_off(
    tiny: VoiceConverter, source: Source, ben: Path
) -> None:
    loud, _ = tiny.convert(source, ben)
    plain, _ = tiny.convert(source, ben, ConvertOptions(loudness=False))
    sounds = plain != 0
    gain = loud[sounds] / plain[sounds]
    assert np.std(gain) < 1e-4 * np.mean(gain)
    assert abs(np.mean(gain) - 1) > 1e-3


# The function, and agreement with the command line -----------------------------------------------


def test_the_function_converts(preset: Path, source: Source, anna: Path, ben: Path) -> None:
    made, rate = knnvc.convert(source, anna, lam=0.7, preset=preset, device="cpu", k=2)
    own = VoiceConverter.from_preset(preset, device="cpu")
    expected, _ = own.convert(source, anna, ConvertOptions(lam=0.7, k=2))
    assert rate == SAMPLE_RATE
    assert np.array_equal(made, expected)
    blended, _ = convert(source, [(anna, 0.5), (ben, 0.5)], preset=preset, device="cpu")
    assert blended.shape == made.shape
    with pytest.raises(UsageError, match="unknown option 'lamb': choose from lam, k, weighting"):
        convert(source, ben, preset=preset, lamb=0.3)


def test_command_line_and_function_agree_on_defaults(preset: Path) -> None:
    flags = {parameter.name: parameter.default for parameter in cli.commands["convert"].params}
    function = inspect.signature(convert).parameters
    for name in ("preset", "device", "lam"):
        default = flags[name] if isinstance(flags[name], str) else None
        assert default == function[name].default
    options = ConvertOptions()
    assert flags["trim"] is options.trim is True
    assert options.target_loudness == -16.0
    assert not isinstance(flags["loudness"], bool | float | str)  # unset: the option's default
    for name in ("k", "weighting", "seconds", "lam"):
        assert getattr(options, name) is None
        assert not isinstance(flags[name], int | float | str)  # unset: the preset decides
    assert flags["preset"] == DEFAULT_PRESET


def test_the_presets_recommend_pure_knn_vc(tiny: VoiceConverter, mini: VoiceConverter) -> None:
    for converter in (tiny, mini):
        assert converter.preset is not None
        assert converter.preset.defaults == {"k": 4, "lam": 1.0, "weighting": "mean"}
        assert converter.k == 4


@pytest.mark.parametrize(
    "options",
    [
        {"lam": -0.1},
        {"lam": 2.01},
        {"lam": math.nan},
        {"k": 0},
        {"k": 2.5},
        {"weighting": "median"},
        {"seconds": 0.0},
        {"seconds": math.nan},
        {"seconds": 1e9},
    ],
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ConvertOptions(**options)  # type: ignore[arg-type]


# What it refuses ----------------------------------------------------------------------------------


def test_unusable_sources(tiny: VoiceConverter, ben: Path, tmp_path: Path) -> None:
    for reason, bad in {
        "silent": torch.zeros(16_000),
        "only": noise(0.01),
        "no samples": torch.zeros(0),
        "not finite": torch.full((16_000,), math.nan),
        "does not exist": tmp_path / "missing.wav",
    }.items():
        with pytest.raises(KnnvcError, match=reason):
            tiny.convert(bad, ben, sample_rate=SAMPLE_RATE)
    with pytest.raises(KnnvcError, match="not finite"):
        tiny.encode(torch.full((16_000,), math.nan), sample_rate=SAMPLE_RATE)


def test_a_reference_shorter_than_k(tiny: VoiceConverter, source: Source) -> None:
    short = (noise(0.065), SAMPLE_RATE)
    assert len(tiny.matching_set(short, trim=False).match) == 3
    with pytest.raises(KnnvcError, match="hold 3 frames of speech but k is 4"):
        tiny.convert(source, short, ConvertOptions(trim=False))
    made, _ = tiny.convert(source, short, ConvertOptions(k=3, trim=False))
    assert np.isfinite(made).all()


@pytest.mark.parametrize("refs", [[], iter(()), 5, None, "missing"])
def test_no_references(tiny: VoiceConverter, source: Source, refs: object) -> None:
    with pytest.raises(KnnvcError):
        tiny.convert(source, refs)


def test_a_set_of_another_encoder(
    tiny: VoiceConverter, mini: VoiceConverter, source: Source, ben: Path
) -> None:
    foreign = mini.matching_set(ben, trim=False)
    with pytest.raises(KnnvcError, match=r"preset 'mini' .* and not 'tiny'"):
        tiny.convert(source, foreign)
    with pytest.raises(KnnvcError, match=r"preset 'mini' "):
        tiny.match(tiny.encode(source), foreign)


def test_a_bad_recording_in_a_folder_is_skipped(
    tiny: VoiceConverter, anna: Path, tmp_path: Path
) -> None:
    good = tmp_path / "mixed" / "good.wav"
    record(good, load_audio(anna / "b.wav"))
    record(tmp_path / "mixed" / "silent.wav", torch.zeros(8000))
    (tmp_path / "mixed" / "damaged.flac").write_bytes(b"fLaC\0\0\0\x22" + bytes(20))
    with pytest.warns(KnnvcWarning) as caught:
        built = tiny.matching_set(tmp_path / "mixed")
    said = sorted(one.message.full for one in caught if isinstance(one.message, KnnvcWarning))
    texts = [one for one in said if one.startswith("skipped")]
    assert len(texts) == 2
    assert texts[0].startswith(f"skipped a reference: {tmp_path / 'mixed' / 'damaged.flac'} ")
    assert texts[1].startswith(f"skipped a reference: {tmp_path / 'mixed' / 'silent.wav'} ")
    assert built.info.files == ("good.wav",)
    assert torch.equal(built.match, tiny.matching_set(good).match)


@pytest.mark.parametrize(
    ("name", "samples", "said"),
    [
        ("short.wav", noise(0.1), "the references hold only 0.08 s of speech: give 30 s or more"),
        ("noise.wav", noise(2.0), "noise.wav hardly changes, as a noise, a hum or a tone does"),
        ("tone.wav", torch.sin(torch.arange(32_000) / 5), "tone.wav hardly changes, as a noise"),
        ("click.wav", torch.eye(1, 32_000)[0].roll(9000), "there is only 0.0"),
    ],
)
def test_what_is_hardly_a_voice_is_said_with_every_use(
    tiny: VoiceConverter, tmp_path: Path, name: str, samples: torch.Tensor, said: str
) -> None:
    path = record(tmp_path / name, samples)
    for cache in (False, True, True):  # made, made and kept, and found
        with pytest.warns(KnnvcWarning) as caught:
            tiny.voices(path, cache=cache)
        assert [one for one in caught if said in str(one.message)]
    with pytest.warns(KnnvcWarning, match=said):
        tiny.matching_set(samples, sample_rate=SAMPLE_RATE) if "only" in said else tiny.voices(path)


def test_a_bad_recording_by_name_fails(tiny: VoiceConverter, anna: Path, tmp_path: Path) -> None:
    silent = record(tmp_path / "silent.wav", torch.zeros(8000))
    with pytest.raises(KnnvcError, match=r"silent.wav is entirely silent"):
        tiny.matching_set([anna, silent])
    with pytest.raises(KnnvcError, match=r"reference 2 is entirely silent"):
        tiny.matching_set([noise(0.5), torch.zeros(8000)], sample_rate=SAMPLE_RATE)


def test_a_folder_of_bad_recordings_fails(tiny: VoiceConverter, tmp_path: Path) -> None:
    record(tmp_path / "bad" / "1.wav", torch.zeros(8000))
    with pytest.raises(KnnvcError, match=r"1\.wav is entirely silent"):
        tiny.matching_set(tmp_path / "bad")
    (tmp_path / "bad" / "2.wav").write_bytes(b"no audio")
    with pytest.raises(KnnvcError, match=r"none of the 2 recordings in .* can be used: .*1\.wav"):
        tiny.matching_set(tmp_path / "bad")


# Files --------------------------------------------------------------------------------------------


def test_file_to_file(tiny: VoiceConverter, source: Source, ben: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "source.wav", torch.from_numpy(source[0]))
    output = tmp_path / "new" / "out.flac"
    plain = ConvertOptions(loudness=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KnnvcWarning)  # random weights may be loud
        assert tiny.convert_file(path, ben, output, plain) == output
        with pytest.raises(UsageError, match="exists; choose another output"):
            tiny.convert_file(path, ben, output, plain)
        tiny.convert_file(path, ben, output, plain, force=True)
    assert len(load_audio(output)) == len(tiny.convert(path, ben, plain)[0])
    with pytest.raises(UsageError, match="cannot write"):
        tiny.convert_file(path, ben, tmp_path / "out.xyz", plain)


class Spike:
    """A vocoder (`knnvc.vocoders.base`) whose every sound peaks at twice full scale."""

    sample_rate, hop, dim, fingerprint = SAMPLE_RATE, HOP, 96, "spike"

    def stream(self, frames: Frames, progress: object = None) -> Any:
        yield self(frames)

    def __call__(self, frames: Frames, progress: object = None) -> Tensor:
        waveform = torch.zeros(len(frames) * self.hop)
        waveform[100] = 2.0
        return waveform


def test_peaks_that_do_not_fit_are_told(
    tiny: VoiceConverter, source: Source, ben: Path, tmp_path: Path
) -> None:
    loud = VoiceConverter(tiny.encoder, tiny.converter, Spike())
    path = record(tmp_path / "source.wav", torch.from_numpy(source[0]))
    with pytest.warns(KnnvcWarning, match=r"\.wav has .* LUFS instead of .* it cannot be louder"):
        loud.convert_file(path, ben, tmp_path / "out.wav", ConvertOptions(loudness=False))
    assert 0.8 < load_audio(tmp_path / "out.wav").max() < 1.0  # below full scale


def test_copy_synthesis(tiny: VoiceConverter, tmp_path: Path) -> None:
    path = record(tmp_path / "in.wav", noise(0.4, level=0.02))
    for vocoder in (tiny, "world", "griffin-lim"):
        output = resynthesize(path, tmp_path / "out.wav", vocoder, loudness=False, force=True)
        assert abs(len(load_audio(output)) - 6400) < 2 * HOP
    with pytest.raises(UsageError, match="exists"):
        resynthesize(path, tmp_path / "out.wav", tiny)
    with pytest.raises(UsageError, match="vocoder 'lpc' is unknown: use world, griffin-lim"):
        resynthesize(path, tmp_path / "other.wav", "lpc")


# Progress -----------------------------------------------------------------------------------------


def test_progress_rises_to_its_total(tiny: VoiceConverter, source: Source, anna: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    tiny.convert(
        source,
        anna,
        progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
        cache=False,
    )
    assert list(told) == ["references", "encoding", "matching", "vocoding"]
    for steps in told.values():
        assert len({total for _, total in steps}) == 1
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
