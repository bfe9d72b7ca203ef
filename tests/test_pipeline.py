"""The pipeline: what convert computes, what it takes, and what it refuses."""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

import knnvc
from knnvc.audio import SAMPLE_RATE, find_audio, load_audio
from knnvc.audio.pitch import VOICED, move_pitch, pitch_quantiles
from knnvc.cli.main import cli
from knnvc.converters.matching_set import Adaptation, MatchingSet, load, merge
from knnvc.converters.search import search
from knnvc.encoders.chunked import HOP
from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.mini.acoustic_space import AcousticSpace
from knnvc.mini.encoder import MelWavLM
from knnvc.mini.refiner import Refiner
from knnvc.options import DEFAULT_PRESET, ConvertOptions
from knnvc.pipeline import VoiceConverter, convert, resynthesize, stretch
from knnvc.presets.loading import choose_device

EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"


def with_space(
    mini: VoiceConverter, refiner: Refiner | None, **options: float | None
) -> VoiceConverter:
    """As `mini`, but with these options of its acoustic space and this refiner."""
    space = mini.space
    assert space is not None
    made = VoiceConverter(mini.preset, mini.encoder, mini.vocoder, refiner)
    made.space = AcousticSpace(replace(space.options, **options), space.mels, space.substeps)
    return made


def noise(seconds: float, seed: int = 0, level: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(round(seconds * SAMPLE_RATE), generator=generator)


def record(path: Path, waveform: Tensor, rate: int = SAMPLE_RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, waveform.numpy(), rate, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def tiny(preset: Path) -> VoiceConverter:
    return VoiceConverter.from_preset(preset, device="cpu")


@pytest.fixture(scope="module")
def anna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two recordings, of which one lies deeper, and a text file."""
    folder = tmp_path_factory.mktemp("voices") / "anna"
    record(folder / "b.wav", noise(0.9, seed=1))
    record(folder / "a" / "a.wav", noise(0.8, seed=2))
    (folder / "notes.txt").write_text("recorded in May")
    return folder


@pytest.fixture(scope="module")
def ben(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("voices") / "ben.wav", noise(1.0, seed=3))


@pytest.fixture
def source() -> Tensor:
    return noise(0.7, seed=9)


# The method ---------------------------------------------------------------------------------------


def test_convert_is_encode_match_vocode(tiny: VoiceConverter, source: Tensor, anna: Path) -> None:
    plain = ConvertOptions(loudness=False)
    made, rate = tiny.convert(source, anna, plain)
    features = tiny.encode(source)
    converted = tiny.match(features, tiny.matching_set(anna))
    assert rate == SAMPLE_RATE
    assert made.dtype == np.float32
    assert np.array_equal(made, tiny.vocode(converted).numpy())
    assert len(made) == len(features) * HOP


def test_match_is_the_mean_of_the_nearest(tiny: VoiceConverter, source: Tensor, anna: Path) -> None:
    features, target = tiny.encode(source), tiny.matching_set(anna)
    _, indices = search(features, target.match, 3)
    expected = target.synth[indices].mean(dim=1)
    assert (tiny.match(features, target, k=3, lam=1.0) - expected).abs().max() < 1e-5


def test_lam_mixes_the_source_in_linearly(tiny: VoiceConverter, source: Tensor, anna: Path) -> None:
    features, target = tiny.encode(source), tiny.matching_set(anna)
    pure = tiny.match(features, target, lam=1.0)
    assert torch.equal(tiny.match(features, target, lam=0.0), features)
    for lam in (0.25, 0.7, 1.6):
        expected = lam * pure + (1 - lam) * features
        assert (tiny.match(features, target, lam=lam) - expected).abs().max() < 1e-5


def test_mini_blends_what_its_refiner_made(
    mini: VoiceConverter, source: Tensor, anna: Path, ben: Path
) -> None:
    voices = [mini.matching_set(folder) for folder in (anna, ben)]
    features = mini.encode(source)
    own = features[:, mini.encoder.columns.synth]
    one, other = (mini.match(features, voice) for voice in voices)
    half = mini.match(features, voices[0], lam=0.5)
    assert torch.allclose(half, 0.5 * one + 0.5 * own, atol=1e-5)
    both = mini.match(features, [(voices[0], 0.25), (voices[1], 0.75)])
    assert torch.allclose(both, 0.25 * one + 0.75 * other, atol=1e-5)


def test_mini_selects_frames_that_join_well(mini: VoiceConverter) -> None:
    """More of the frames follow each other in the reference; k > 1 adds the nearest others."""
    space = mini.space
    assert space is not None
    voice = mini.matching_set(EXAMPLES / "target")
    features = mini.encode(EXAMPLES / "source.wav")
    columns = mini.encoder.columns
    own = space.statistics(features[:, columns.synth], features[:, columns.match])
    vectors = space.vectors(features[:, columns.synth], features[:, columns.match], own)

    def rows(candidates: int, k: int) -> Tensor:
        converter = with_space(mini, None, candidates=candidates, join_weight=0.5)
        distances, found = converter._neighbours(converter._target(voice, "flat", None), vectors, k)
        assert distances.shape == found.shape == (len(features), k)
        assert (found.sort(dim=1).values.diff(dim=1) > 0).all()  # no frame twice
        return found

    def continued(found: Tensor) -> float:
        return float((found[1:, 0] == found[:-1, 0] + 1).float().mean())

    assert continued(rows(16, 1)) > continued(rows(1, 1))
    assert torch.equal(rows(16, 3)[:, 0], rows(16, 1)[:, 0])
    assert torch.equal(rows(3, 3).sort(dim=1).values, rows(1, 3).sort(dim=1).values)


def test_what_is_kept_is_not_what_the_refiner_reads(mini: VoiceConverter, anna: Path) -> None:
    """Unrefined, only the neighbours that are kept count; refined, only those that are read."""
    voice = mini.matching_set(anna)
    features = mini.encode(EXAMPLES / "source.wav")

    def matched(k: int, kept: int, refined: float) -> Tensor:
        chosen = {"kept": kept, "refined": refined, "roughness": 0.0, "balanced": 0}
        return with_space(mini, mini.refiner, **chosen).match(features, voice, k=k)

    assert torch.equal(matched(4, 1, 0.0), matched(1, 0, 0.0))
    assert torch.equal(matched(4, 1, 1.0), matched(4, 0, 1.0))
    assert not torch.allclose(matched(4, 1, 0.5), matched(4, 0, 0.5), atol=1e-3)
    assert torch.equal(matched(2, 4, 0.5), matched(2, 0, 0.5))  # no more can be kept than there are


def test_a_voice_without_correction_follows_the_source_the_more(
    mini: VoiceConverter, anna: Path
) -> None:
    refiner = mini.refiner
    assert refiner is not None
    short = mini.matching_set(anna)
    nothing = torch.zeros(refiner.config.channels + 1, refiner.config.width)
    corrected = replace(short, correction=Adaptation(nothing, mini.refiner_fingerprint))
    features = mini.encode(EXAMPLES / "source.wav")

    def matched(voice: MatchingSet, envelope: float, uncorrected: float | None) -> Tensor:
        chosen = {"envelope_transfer": envelope, "uncorrected_transfer": uncorrected}
        return with_space(mini, refiner, **chosen).match(features, voice)

    assert short.correction is None
    assert torch.equal(matched(corrected, 0.1, 0.7), matched(short, 0.1, None))
    assert torch.equal(matched(short, 0.1, 0.7), matched(corrected, 0.7, None))
    assert not torch.allclose(matched(short, 0.1, 0.7), matched(short, 0.1, None), atol=1e-3)


@pytest.mark.parametrize("ready", [True, False])
def test_minis_refiner_is_corrected_for_a_voice_of_which_there_is_enough(
    mini: VoiceConverter, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    """By way of the ready voices; where none fits the encoder, by its own with other formants."""
    *known, heard = find_audio(EXAMPLES / "target")
    assert mini.matching_set(known[:1]).correction is None
    voice = mini.matching_set(known)
    assert voice.correction is not None
    if not ready:
        by_others = voice.correction
        monkeypatch.setattr("knnvc.pipeline.packaged", list)
        voice = mini.matching_set(known)
        assert voice.correction is not None
        assert not torch.equal(by_others.weights, voice.correction.weights)
    assert voice.correction.network == mini.refiner_fingerprint
    # What it says of a recording that was not among them is nearer to what was spoken.
    features = mini.encode(heard)
    width = mini.encoder.columns.synth.stop - 2
    others = [replace(voice, correction=None)]
    others.append(replace(voice, correction=replace(voice.correction, network="another")))
    alone = with_space(mini, mini.refiner, balanced=0)
    spoken, made = features[:, :width], alone.match(features, voice)[:, :width]
    plain, unused = (alone.match(features, other)[:, :width] for other in others)
    assert torch.equal(plain, unused)
    assert (made - spoken).abs().mean() < 0.97 * (plain - spoken).abs().mean()
    # Two sets together are heard as one voice again.
    both = mini.matching_set([voice, mini.matching_set(heard)])
    assert both.correction is not None
    assert not torch.equal(both.correction.weights, voice.correction.weights)


def test_minis_vocoder_is_corrected_for_a_voice(mini: VoiceConverter) -> None:
    *known, heard = find_audio(EXAMPLES / "target")
    voice = mini.matching_set(known[:2])
    assert voice.vocoder_correction is not None
    assert voice.vocoder_correction.network == mini.vocoder_fingerprint
    # Its spectra of a recording that was not among them are nearer to what was spoken.
    network = mini.encoder.network
    assert isinstance(network, MelWavLM)
    features = mini.encode(heard)
    spoken = features[:, : mini.encoder.columns.synth.stop - 2]

    def missing(waveform: Tensor) -> float:
        return float((network.log_mel(waveform[None])[0] - spoken).abs().mean())

    plain, made = mini.vocode(features), mini.vocode(features, voices=voice)
    assert missing(made) < 0.995 * missing(plain)
    # It counts as much as the voice does.
    assert torch.equal(mini.vocode(features, voices=voice, lam=0.0), plain)
    half = mini.vocode(features, voices=voice, lam=0.5)
    assert torch.equal(mini.vocode(features, voices=[(voice, 0.5)]), half)
    assert torch.equal(mini.vocode(features, voices=voice, lam=2.0), made)
    assert not torch.equal(half, made)
    foreign = replace(voice.vocoder_correction, network="another")
    unused = replace(voice, vocoder_correction=foreign)
    assert torch.equal(mini.vocode(features, voices=unused), plain)
    # What is converted is spoken with it.
    options = ConvertOptions(loudness=False)
    converted, _ = mini.convert(heard, voice, options)
    assert np.array_equal(converted, mini.vocode(mini.match(features, voice), voices=voice).numpy())


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_lam_0_rebuilds_the_source(
    request: pytest.FixtureRequest, name: str, source: Tensor, ben: Path
) -> None:
    converter: VoiceConverter = request.getfixturevalue(name)
    made, _ = converter.convert(source, ben, ConvertOptions(lam=0.0, loudness=False))
    copy = converter.vocode(converter.encode(source))
    assert np.abs(made - copy.numpy()).max() < 1e-6


def test_a_blend_is_the_weighted_sum_of_voices(
    tiny: VoiceConverter, source: Tensor, anna: Path, ben: Path
) -> None:
    features = tiny.encode(source)
    alone = [tiny.match(features, tiny.matching_set(refs)) for refs in (anna, ben)]
    expected = 0.7 * alone[0] + 0.3 * alone[1]
    for weights in ((0.7, 0.3), (7, 3)):  # weights are relative
        voices = tiny.voices([(anna, weights[0]), (ben, weights[1])])
        assert sum(weight for _, weight in voices) == pytest.approx(1.0)
        assert (tiny.match(features, voices) - expected).abs().max() < 1e-5
    mixed = tiny.match(features, tiny.voices([(anna, 1), (ben, 1)]), lam=0.5)
    assert (mixed - (sum(alone) / 4 + features / 2)).abs().max() < 1e-5
    with pytest.raises(UsageError, match="weights of references must be positive"):
        tiny.voices([(anna, 1.0), (ben, 0.0)])
    with pytest.raises(UsageError, match="weights of references must be positive"):
        tiny.voices([(anna, 1.0), (ben, math.nan)])


def test_several_references_are_one_voice(
    tiny: VoiceConverter, source: Tensor, anna: Path, ben: Path
) -> None:
    (joined, weight), *others = tiny.voices([anna, ben])
    assert (weight, others) == (1.0, [])
    assert joined.info.files == ("a.wav", "b.wav", "ben.wav")
    features = tiny.encode(source)
    both = merge([tiny.matching_set(anna), tiny.matching_set(ben)])
    assert torch.equal(tiny.match(features, joined), tiny.match(features, both))


def test_mini_moves_pitch_into_the_target_range(mini: VoiceConverter) -> None:
    """The converted frames' pitch is the target's, their voicing the source's."""
    source = mini.encode(load_audio(EXAMPLES / "source.wav")[: 3 * SAMPLE_RATE])
    target = mini.matching_set(find_audio(EXAMPLES / "target")[:1], trim=False)
    at = mini.encoder.columns.pitch
    assert at is not None
    converted = mini.match(source, target)
    own = pitch_quantiles(source[:, at:])
    assert torch.isfinite(own).all()
    wanted = pitch_quantiles(target.match)
    assert torch.allclose(converted[:, at], move_pitch(source[:, at], own, wanted))
    voiced = source[:, at + 1] > VOICED
    assert torch.allclose(converted[voiced, at].median(), wanted[len(wanted) // 2], atol=0.02)
    assert torch.equal(converted[:, at + 1], source[:, at + 1])


def test_mini_converts_where_nothing_is_voiced(mini: VoiceConverter) -> None:
    hiss = noise(1.0)
    made, _ = mini.convert(hiss, (noise(1.0, seed=1), SAMPLE_RATE))
    assert np.isfinite(made).all()


# What it takes ------------------------------------------------------------------------------------


def test_sources_of_every_kind_agree(
    tiny: VoiceConverter, source: Tensor, ben: Path, tmp_path: Path
) -> None:
    path = record(tmp_path / "source.wav", source)
    expected, _ = tiny.convert(source, ben)
    for same in (path, str(path), source.numpy(), (source.numpy(), 16_000), source.tolist()):
        assert np.array_equal(tiny.convert(same, ben)[0], expected)
    double = np.repeat(source.numpy(), 2)  # 32 kHz of the same duration
    assert len(tiny.convert((double, 32_000), ben)[0]) == len(expected)


def test_references_of_every_kind_agree(
    tiny: VoiceConverter, source: Tensor, ben: Path, tmp_path: Path
) -> None:
    waveform = load_audio(ben)
    ready = tiny.matching_set(ben)
    ready.save(tmp_path / "ben.safetensors")
    expected, _ = tiny.convert(source, ben)
    for same in (
        str(ben),
        [ben],
        (path for path in [ben]),
        waveform,
        waveform.numpy(),
        waveform.tolist(),
        (waveform, SAMPLE_RATE),
        [(waveform, SAMPLE_RATE)],
        [waveform],
        ready,
        [ready],
        [(ben, 0.3)],
        [((waveform, SAMPLE_RATE), 5.0)],
        [(ready, 2)],
    ):
        assert np.array_equal(tiny.convert(source, same)[0], expected)
    # On disk it is float16.
    saved, _ = tiny.convert(source, tmp_path / "ben.safetensors")
    assert np.abs(saved - expected).max() < 0.02 * np.abs(expected).max()


def test_a_saved_set_equals_its_folder_up_to_float16(
    tiny: VoiceConverter, source: Tensor, anna: Path, tmp_path: Path
) -> None:
    built = tiny.matching_set(anna, licence="CC0")
    assert (built.info.speaker, built.info.licence) == ("anna", "CC0")
    built.save(tmp_path / "anna.safetensors")
    saved = load(tmp_path / "anna.safetensors")
    assert saved.info == built.info
    features = tiny.encode(source)
    wanted, found = tiny.match(features, built), tiny.match(features, saved)
    assert (wanted - found).norm() < 2e-3 * wanted.norm()
    renamed = tiny.matching_set(tmp_path / "anna.safetensors", speaker="A.", licence="MIT")
    assert (renamed.info.speaker, renamed.info.licence) == ("A.", "MIT")
    assert renamed.info.files == built.info.files


def test_references_are_trimmed_and_the_source_is_not(tiny: VoiceConverter, source: Tensor) -> None:
    clip = load_audio(find_audio(EXAMPLES / "target")[0])[: 3 * SAMPLE_RATE]
    padded = torch.cat([torch.zeros(16_000), clip])
    trimmed, whole = tiny.matching_set(padded), tiny.matching_set(padded, trim=False)
    assert len(whole.match) == (len(padded) - 400) // HOP + 1
    assert len(trimmed.match) < len(whole.match) - 30
    quiet = torch.cat([torch.zeros(16_000), source])
    assert len(tiny.convert(quiet, clip)[0]) == ((len(quiet) - 400) // HOP + 1) * HOP


@pytest.mark.parametrize("seconds", [0.02, 0.3, 0.7, 1.55])
def test_seconds_is_the_duration(
    tiny: VoiceConverter, source: Tensor, ben: Path, seconds: float
) -> None:
    made, rate = tiny.convert(source, ben, ConvertOptions(seconds=seconds))
    assert abs(len(made) / rate - seconds) <= 0.02 + 1e-9


@pytest.mark.parametrize("frames", [1, 7, 49, 93, 98])
def test_one_frame_is_left_of_any_length(frames: int) -> None:
    """49 · (1 / 49) is less than 1 in floating point."""
    assert stretch(torch.ones(frames, 3), 0.02).shape == (1, 3)
    assert stretch(torch.ones(frames, 3), 2.0).shape[0] in (99, 100)


def test_loudness_is_normalised_unless_turned_off(
    tiny: VoiceConverter, source: Tensor, ben: Path
) -> None:
    loud, _ = tiny.convert(source, ben)
    plain, _ = tiny.convert(source, ben, ConvertOptions(loudness=False))
    gain = loud / np.where(plain == 0, 1, plain)
    assert np.std(gain) < 1e-4 * np.mean(gain)
    assert abs(np.mean(gain) - 1) > 1e-3


def test_features_with_the_columns_to_match_can_be_vocoded(mini: VoiceConverter) -> None:
    features = mini.encode(noise(0.3))
    synth = features[:, mini.encoder.columns.synth]
    assert features.shape[1] > synth.shape[1]
    assert torch.equal(mini.vocode(features), mini.vocode(synth))


# The function, and agreement with the command line -----------------------------------------------


def test_the_function_converts(preset: Path, source: Tensor, anna: Path, ben: Path) -> None:
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
    for name in ("loudness", "trim"):
        assert flags[name] is getattr(options, name) is True
    for name in ("k", "weighting", "seconds", "lam"):
        assert getattr(options, name) is None
        assert not isinstance(flags[name], int | float | str)  # unset: the preset decides
    assert flags["preset"] == DEFAULT_PRESET


def test_the_presets_recommend_pure_knn_vc(tiny: VoiceConverter, mini: VoiceConverter) -> None:
    for converter in (tiny, mini):
        assert (converter.k, converter.lam, converter.weighting) == (4, 1.0, "mean")


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
            tiny.convert(bad, ben)
    with pytest.raises(KnnvcError, match="not finite"):
        tiny.encode(torch.full((16_000,), math.nan))


def test_a_reference_shorter_than_k(tiny: VoiceConverter, source: Tensor) -> None:
    short = noise(0.065)
    assert len(tiny.matching_set(short, trim=False).match) == 3
    with pytest.raises(KnnvcError, match="hold 3 frames of speech but k is 4"):
        tiny.convert(source, short, ConvertOptions(trim=False))
    made, _ = tiny.convert(source, short, ConvertOptions(k=3, trim=False))
    assert np.isfinite(made).all()


@pytest.mark.parametrize("refs", [[], iter(()), 5, None, "missing"])
def test_no_references(tiny: VoiceConverter, source: Tensor, refs: object) -> None:
    with pytest.raises(KnnvcError):
        tiny.convert(source, refs)


def test_a_set_of_another_encoder(
    tiny: VoiceConverter, mini: VoiceConverter, source: Tensor, ben: Path
) -> None:
    foreign = mini.matching_set(ben, trim=False)
    with pytest.raises(KnnvcError, match=r"preset 'mini' .* not by that of 'tiny'"):
        tiny.convert(source, foreign)
    with pytest.raises(KnnvcError, match=r"preset 'mini' .* not by that of 'tiny'"):
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
    texts = sorted(str(one.message) for one in caught)
    assert len(texts) == 2
    assert texts[0].startswith(f"skipped a reference: {tmp_path / 'mixed' / 'damaged.flac'} ")
    assert texts[1].startswith(f"skipped a reference: {tmp_path / 'mixed' / 'silent.wav'} ")
    assert built.info.files == ("good.wav",)
    assert torch.equal(built.match, tiny.matching_set(good).match)


def test_a_bad_recording_by_name_fails(tiny: VoiceConverter, anna: Path, tmp_path: Path) -> None:
    silent = record(tmp_path / "silent.wav", torch.zeros(8000))
    with pytest.raises(KnnvcError, match=r"silent.wav is entirely silent"):
        tiny.matching_set([anna, silent])
    with pytest.raises(KnnvcError, match=r"reference 2 is entirely silent"):
        tiny.matching_set([noise(0.5), torch.zeros(8000)])


def test_a_folder_of_bad_recordings_fails(tiny: VoiceConverter, tmp_path: Path) -> None:
    record(tmp_path / "bad" / "1.wav", torch.zeros(8000))
    with pytest.raises(KnnvcError, match=r"1\.wav is entirely silent"):
        tiny.matching_set(tmp_path / "bad")
    (tmp_path / "bad" / "2.wav").write_bytes(b"")
    with pytest.raises(KnnvcError, match=r"none of the 2 recordings in .* can be used: .*1\.wav"):
        tiny.matching_set(tmp_path / "bad")


# Files --------------------------------------------------------------------------------------------


def test_file_to_file(tiny: VoiceConverter, source: Tensor, ben: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "source.wav", source)
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


def test_peaks_that_do_not_fit_are_told(
    tiny: VoiceConverter, source: Tensor, ben: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spike = torch.zeros(16_000)
    spike[100] = 2.0
    monkeypatch.setattr(VoiceConverter, "vocode", lambda *_, **__: spike)
    path = record(tmp_path / "source.wav", source)
    with pytest.warns(KnnvcWarning, match=r"out.wav is 6\.0 dB quieter than asked"):
        tiny.convert_file(path, ben, tmp_path / "out.wav", ConvertOptions(loudness=False))
    assert load_audio(tmp_path / "out.wav").max() == pytest.approx(1.0, abs=1e-3)


def test_copy_synthesis(tiny: VoiceConverter, tmp_path: Path) -> None:
    path = record(tmp_path / "in.wav", noise(0.4, level=0.02))
    for vocoder in (tiny, "world", "griffin-lim"):
        output = resynthesize(path, tmp_path / "out.wav", vocoder, loudness=False, force=True)
        assert abs(len(load_audio(output)) - 6400) < 2 * HOP
    with pytest.raises(UsageError, match="exists"):
        resynthesize(path, tmp_path / "out.wav", tiny)
    with pytest.raises(UsageError, match="vocoder 'lpc' is unknown: use world, griffin-lim"):
        resynthesize(path, tmp_path / "other.wav", "lpc")


# Progress and devices -----------------------------------------------------------------------------


def test_progress_rises_to_its_total(tiny: VoiceConverter, source: Tensor, anna: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    tiny.convert(
        source,
        anna,
        progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
    )
    assert list(told) == ["references", "encoding", "matching", "vocoding"]
    for steps in told.values():
        assert len({total for _, total in steps}) == 1
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("device", ["tpu", "", "cpu:1", "cuda:x", "cuda:", "CPU"])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(UsageError, match="is unknown: choose one of auto, cpu, cuda, mps"):
        choose_device(device)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "cuda:0", "mps"):
        with pytest.raises(UsageError, match="is not available here: use --device auto"):
            choose_device(device)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="'cuda:2' is not available"):
        choose_device("cuda:2")


def test_everything_lies_on_the_device(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told with the meta device, which every machine has."""
    monkeypatch.setattr("knnvc.pipeline.choose_device", lambda _: torch.device("meta"))
    converter = VoiceConverter.from_preset(preset)
    for network in (converter.encoder.network, converter.vocoder.network):
        assert {p.device.type for p in network.parameters()} == {"meta"}
        assert {b.device.type for b in network.buffers()} <= {"meta"}
    assert converter.encoder.device == torch.device("meta")


def test_a_preset_knows_the_length_of_its_pieces(
    mini: VoiceConverter, tiny: VoiceConverter
) -> None:
    frames = SAMPLE_RATE // HOP
    assert (mini.encoder.chunk, mini.encoder.context) == (4 * frames, frames)
    assert (tiny.encoder.chunk, tiny.encoder.context) == (30 * frames, 2 * frames)
    assert VoiceConverter.from_preset("mini", "cpu", chunk_seconds=8.0).encoder.chunk == 8 * frames
