"""The single steps, on samples of every kind, and where the parts lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from knnvc.audio import find_audio, load_audio
from knnvc.audio.joining import to_length
from knnvc.errors import KnnvcError, UsageError
from knnvc.options import ConvertOptions
from knnvc.pipeline import VoiceConverter
from knnvc.presets.loading import choose_device

HOP, SAMPLE_RATE = 320, 16_000
EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
Source = tuple[Any, int]


def noise(seconds: float, seed: int = 0, level: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(round(seconds * SAMPLE_RATE), generator=generator)


# The method reads as it runs ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_four_lines_are_the_whole_method(
    request: pytest.FixtureRequest, name: str, anna: Path, ben: Path
) -> None:
    """The bytes of `convert`, of one voice and of two, with every other option, too."""
    whole: VoiceConverter = request.getfixturevalue(name)
    encoder, converter, vocoder = whole.encoder, whole.converter, whole.vocoder
    waveform = load_audio(find_audio(EXAMPLES / "target")[0])[: 2 * SAMPLE_RATE]
    one, other = whole.matching_set(anna), whole.matching_set(ben)
    for targets, options in (
        ([(one, 1.0)], ConvertOptions(loudness=False)),
        ([(one, 0.75), (other, 0.25)], ConvertOptions(loudness=False, lam=0.7, k=3)),
        ([(other, 1.0)], ConvertOptions(loudness=False, lam=1.5, weighting="distance")),
    ):
        expected, rate = whole.convert((waveform, SAMPLE_RATE), targets, options)

        features = encoder.encode(waveform)
        voices = [(converter.prepare(target), weight) for target, weight in targets]
        frames = converter.convert(features, voices, options)
        made = vocoder(frames)

        assert torch.equal(torch.cat(list(vocoder.stream(frames))), made)
        assert len(made) == len(features) * HOP
        made = to_length(made, len(waveform))  # all that `convert` adds
        assert rate == vocoder.sample_rate == SAMPLE_RATE
        assert made.dtype == torch.float32
        assert torch.equal(made, expected)


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_the_steps_on_paths_and_samples_are_convert(
    request: pytest.FixtureRequest, name: str, anna: Path
) -> None:
    whole: VoiceConverter = request.getfixturevalue(name)
    path = find_audio(EXAMPLES / "target")[0]
    expected, _ = whole.convert(path, anna, ConvertOptions(loudness=False))
    frames = whole.match(whole.encode(path), whole.matching_set(anna))
    assert np.array_equal(to_length(whole.vocode(frames), len(expected)).numpy(), expected)


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_lam_0_rebuilds_the_source(
    request: pytest.FixtureRequest, name: str, source: Source, ben: Path
) -> None:
    converter: VoiceConverter = request.getfixturevalue(name)
    made, _ = converter.convert(source, ben, ConvertOptions(lam=0.0, loudness=False))
    copy = converter.vocode(converter.encode(source))
    copy = to_length(torch.from_numpy(copy), len(made)).numpy()
    assert np.abs(made - copy).max() < 1e-6


def test_features_with_the_columns_to_match_can_be_vocoded(mini: VoiceConverter) -> None:
    features = mini.encode((noise(0.3), SAMPLE_RATE))
    synth = features[:, mini.encoder.columns.synth]
    assert features.shape[1] > synth.shape[1]
    assert torch.equal(mini.vocode(features), mini.vocode(synth))


# Samples: kind in, kind out -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tensor", "array"])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 22_050])
def test_what_comes_back_is_of_the_kind_given(
    tiny: VoiceConverter, ben: Path, kind: str, rate: int
) -> None:
    batch = torch.stack([noise(0.5, 1), noise(0.5, 2), noise(0.5, 3)])
    given: Any = batch if kind == "tensor" else batch.numpy()
    wanted = Tensor if kind == "tensor" else np.ndarray
    voice = tiny.matching_set(ben)

    features = tiny.encode(given, sample_rate=rate)
    made, made_rate = tiny.convert(given, voice, sample_rate=rate)
    waves = tiny.vocode(features)
    assert made_rate == SAMPLE_RATE
    for found, shape in ((features, (3, None, 96)), (made, (3, None)), (waves, (3, None))):
        assert isinstance(found, wanted)
        assert len(found.shape) == len(shape)
        assert found.shape[0] == 3
        assert str(found.dtype).endswith("float32")
    frames = tiny.match(features, voice)
    assert [len(one) for one in frames] == [features.shape[1]] * 3
    # A batch equals its rows, and a row with its rate beside it is the same.
    for number in range(3):
        row = given[number]
        for alone in (tiny.encode(row, sample_rate=rate), tiny.encode((row, rate))):
            assert isinstance(alone, wanted)
            assert np.array_equal(np.asarray(alone), np.asarray(features[number]))
        alone, _ = tiny.convert(row, voice, sample_rate=rate)
        assert isinstance(alone, wanted)
        assert alone.ndim == 1
        assert np.array_equal(np.asarray(alone), np.asarray(made[number]))
        wave = tiny.vocode(features[number])
        assert isinstance(wave, wanted)
        assert np.allclose(np.asarray(wave), np.asarray(waves[number]), atol=1e-5)
        assert torch.equal(frames[number].values, tiny.match(features[number], voice).values)


def test_a_batch_of_references_is_one_voice(tiny: VoiceConverter) -> None:
    rows = [noise(0.5, 1), noise(0.5, 2)]
    batch = tiny.matching_set(torch.stack(rows), sample_rate=SAMPLE_RATE, trim=False)
    listed = tiny.matching_set([(row, SAMPLE_RATE) for row in rows], trim=False)
    assert torch.equal(batch.match, listed.match)
    assert torch.equal(batch.frame_start, listed.frame_start)


@pytest.mark.parametrize("make", [np.ones, torch.ones])
@pytest.mark.parametrize(
    ("shape", "rate", "words"),
    [
        ((8000,), None, "without their sampling rate: give sample_rate="),
        ((2, 8000), None, "without their sampling rate: give sample_rate="),
        ((8000, 2), SAMPLE_RATE, "are ambiguous"),
        ((1, 2, 8000), SAMPLE_RATE, "shape"),
        ((), SAMPLE_RATE, "shape"),
    ],
)
def test_samples_are_never_guessed_at(
    tiny: VoiceConverter, ben: Path, make: Any, shape: tuple[int, ...], rate: int, words: str
) -> None:
    for call in (
        lambda: tiny.convert(make(shape), ben, sample_rate=rate),
        lambda: tiny.encode(make(shape), sample_rate=rate),
        lambda: tiny.matching_set(make(shape), sample_rate=rate),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


# Parts and devices --------------------------------------------------------------------------------


def test_to_and_repr(preset: Path, source: Source) -> None:
    converter = VoiceConverter.from_preset(preset, device="cpu")
    before = converter.encode(source)
    assert converter.to("cpu") is converter
    assert np.array_equal(converter.encode(source), before)
    assert repr(converter) == "VoiceConverter('tiny', KnnConverter, 16000 Hz, cpu)"
    with pytest.raises(UsageError, match="device 'tpu' is unknown"):
        converter.to("tpu")
    own = VoiceConverter(converter.encoder, converter.converter, converter.vocoder, name="own")
    assert repr(own) == "VoiceConverter('own', KnnConverter, 16000 Hz, cpu)"
    with pytest.raises(UsageError, match="build them on the device"):
        own.to("cpu")


def test_without_a_vocoder_it_encodes_and_matches(
    tiny: VoiceConverter, source: Source, ben: Path, tmp_path: Path
) -> None:
    silent = VoiceConverter(tiny.encoder, tiny.converter, name="silent")
    assert "no vocoder" in repr(silent)
    features = silent.encode(source)
    frames = silent.match(features, silent.matching_set(ben))
    expected = tiny.match(features, tiny.matching_set(ben))
    assert torch.equal(frames.values, expected.values)
    for call in (
        lambda: silent.vocode(frames),
        lambda: silent.convert(source, ben),
        lambda: silent.sample_rate,
    ):
        with pytest.raises(UsageError, match="has no vocoder: it encodes and matches") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="has no text front end"):
        silent.speak("hello", ben)


def test_parts_have_to_fit(tiny: VoiceConverter, mini: VoiceConverter) -> None:
    with pytest.raises(KnnvcError, match="gives 96 columns every 20 ms, but its vocoder reads 162"):
        VoiceConverter(tiny.encoder, tiny.converter, mini.vocoder)


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
    monkeypatch.setattr("knnvc.presets.loading.choose_device", lambda _: torch.device("meta"))
    converter = VoiceConverter.from_preset(preset)
    for network in (converter.encoder.network, converter.vocoder.network):
        assert {p.device.type for p in network.parameters()} == {"meta"}
        assert {b.device.type for b in network.buffers()} <= {"meta"}
    assert converter.encoder.device == torch.device("meta")


def test_a_preset_knows_the_length_of_its_pieces(
    mini: VoiceConverter, tiny: VoiceConverter
) -> None:
    frames = SAMPLE_RATE // HOP
    assert mini.encoder.chunk / frames == pytest.approx(16.0)
    assert mini.encoder.context / frames == pytest.approx(2.0)
    assert (tiny.encoder.chunk, tiny.encoder.context) == (30 * frames, 2 * frames)
    assert VoiceConverter.from_preset("mini", "cpu", chunk_seconds=8.0).encoder.chunk == 8 * frames
