"""The recipe of `mini` from nothing, shortened, on speech-like sounds of two made-up speakers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner
from knnvc.presets.preset import find_preset, import_published
from torch import Tensor, nn
from torch.nn import functional

from knnvc.audio.pitch import f0_track
from knnvc.cli.main import cli
from knnvc.encoders.ssl import Columns, Encoder, MelWavLM, MelWavLMConfig, load_network
from knnvc.errors import KnnvcError
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.phones import IGNORED, PHONES, assure, segments
from knnvc.mini.refiner import Refiner, RefinerConfig
from knnvc.pipeline import ConvertOptions, VoiceConverter
from knnvc.tensors import read_tensors, write_tensors
from knnvc.training import campplus, kokoro, package, twins
from knnvc.training import refiner as refiner_module
from knnvc.training.augmentation import roughen
from knnvc.training.data import MINI_ENCODER, frame_states, load_corpus, load_twins, split
from knnvc.training.discriminators import PublishedDiscriminators
from knnvc.training.encoder import draw_batch, train_encoder
from knnvc.training.options import EncoderOptions, HifiGanOptions, RefinerOptions, VocoderOptions
from knnvc.training.package import package_mini
from knnvc.training.prematch import from_others, prematch, prematch_folder, read_prematched
from knnvc.training.published import find_examples, train_hifigan
from knnvc.training.refiner import (
    Pieces,
    average_refiners,
    earlier_refiner,
    prematch_refined,
    train_refiner,
    train_verifier,
    with_a_voice,
)
from knnvc.training.runs import begin_with, cosine_rate, seed_everything
from knnvc.training.verifier import Verifier, verification_loss
from knnvc.training.vocoder import train_vocoder
from knnvc.vocoders.hifigan import HifiGanConfig
from knnvc.vocoders.source_filter import SourceFilterConfig

RATE = 16_000
ENCODER = MelWavLMConfig(
    hidden=32,
    layers=2,
    heads=2,
    feed_forward=64,
    pitch_layer=1,
    states=MINI_ENCODER.states,
)
VOCODER = SourceFilterConfig(channels=16, layers=1)
REFINER = RefinerConfig(states=ENCODER.states, channels=16, layers=1)
SPEAKERS = {"high": 220.0, "low": 110.0, "af_nova": 180.0}  # the last is one of those held out


def sing(f0: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Harmonics with a moving spectrum, between two stretches of near silence."""
    at = np.arange(int(seconds * RATE)) / RATE
    formant = 700 + 500 * np.sin(2 * np.pi * at * rng.uniform(1, 3))
    wave = sum(
        np.exp(-(((n * f0 - formant) / 900) ** 2)) * np.sin(2 * np.pi * n * f0 * at)
        for n in range(1, 16)
    )
    wave = wave * ((at > 0.2) & (at < seconds - 0.2)) + 1e-3 * rng.normal(size=len(at))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def alignment(name: str, speaker: str, seconds: float) -> dict[str, object]:
    """Silence, three vowels, silence, in Kokoro's 25 ms units."""
    vowel = int((seconds - 0.4) / 0.025 / 3)
    return {
        "file": name,
        "speaker": speaker,
        "text": "aou",
        "phones": ["a", "ˈ", "o", "ː", "u"],
        "durations": [8, vowel, 1, vowel - 2, 1, vowel, 8],
        "seconds": seconds,
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    records = []
    for speaker, f0 in SPEAKERS.items():
        (folder / speaker).mkdir()
        for number in range(3 if speaker != "af_nova" else 1):
            name, seconds = f"{speaker}/{speaker}_{number:03d}.flac", 1.6 + 0.2 * number
            sf.write(folder / name, sing(f0, seconds, rng), RATE)
            records.append(alignment(name, speaker, seconds))
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "alignments-0.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    return folder


@pytest.fixture(scope="module")
def trained_encoder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    options = EncoderOptions(steps=2, batch=2, frames=40, report_every=1)
    return train_encoder(corpus, folder, options, ENCODER)


def load_encoder(path: Path) -> Encoder:
    state, _ = read_tensors(path)
    single = {name: tensor.float() for name, tensor in state.items()}
    return Encoder(load_network("mel-wavlm", ENCODER.to_dict(), single, ENCODER.layers, 0))


def test_segments_give_stress_and_length_to_their_phones() -> None:
    phones = ["h", "ˈ", "i", "ː", " ", "d", "!"]
    durations = [4, 2, 1, 3, 2, 1, 2, 5, 6]
    units = [
        (phone, round(seconds / 0.025)) for phone, seconds in segments(phones, durations, 0.025)
    ]
    assert units == [
        ("sil", 4),  # padding at the start
        ("h", 2),
        ("i", 6),  # with the stress before it and the length mark after it
        (None, 1),  # a space falls inside speech: its frames say nothing
        ("d", 2),
        ("sil", 5),
        ("sil", 6),
    ]


def test_frame_states_of_a_hand_made_example() -> None:
    # 75 ms silence, 150 ms of "a", 50 ms space, 25 ms of an unknown sign, 75 ms silence.
    record = {"phones": ["a", " ", "@"], "durations": [3, 6, 2, 1, 3]}
    first = 1 + 3 * PHONES.index("a")
    # A frame belongs to where its centre falls (10, 30, 50 ms...); a phone has three states.
    expected = [0] * 4  # up to 75 ms: 10, 30, 50, 70
    expected += [first] * 2  # up to 125 ms: 90, 110
    expected += [first + 1] * 3  # up to 175 ms: 130, 150, 170
    expected += [first + 2] * 2  # up to 225 ms: 190, 210
    expected += [IGNORED] * 4  # up to 300 ms: 230, 250, 270, 290
    expected += [0] * 4  # up to 375 ms: 310, 330, 350, 370
    states = frame_states(record, 19)
    assert states.tolist() == expected


def test_frame_states_stop_where_the_audio_does() -> None:
    states = frame_states({"phones": ["a"], "durations": [2, 6, 2]}, 4)
    assert len(states) == 4
    assert (states != IGNORED).all()


def test_known_states_count_more_than_heard_ones() -> None:
    heard = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).sqrt()
    mixed = assure(heard, torch.tensor([2, IGNORED])).square()
    assert mixed[0].tolist() == pytest.approx([0.05, 0.05, 0.9])
    assert mixed[1].tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_load_corpus_caches_what_it_computes(corpus: Path) -> None:
    network = MelWavLM(ENCODER)
    utterances = load_corpus(corpus, network)
    assert [u.speaker for u in utterances] == ["af_nova", *["high"] * 3, *["low"] * 3]
    for utterance in utterances:
        frames = len(utterance.f0)
        assert utterance.mel.shape == (2 * frames, ENCODER.mels)
        assert utterance.states.shape == (frames,)
        voiced = utterance.f0[utterance.f0 > 0]
        assert np.median(voiced) == pytest.approx(SPEAKERS[utterance.speaker], rel=0.02)
        assert utterance.states[frames // 2] // 3 == (1 + 3 * PHONES.index("o")) // 3
        assert (corpus / utterance.file).with_suffix(".npz").exists()
    again = load_corpus(corpus, network)
    assert all(np.array_equal(a.mel, b.mel) for a, b in zip(utterances, again, strict=True))


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="no aligned speech"):
        train_encoder(tmp_path, tmp_path / "run", EncoderOptions(steps=1), ENCODER)


def test_training_the_encoder_writes_a_log_and_weights(trained_encoder: Path) -> None:
    rows = [json.loads(x) for x in (trained_encoder.parent / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["phone"]) and 0 <= row["held_out_phone"] <= 1 for row in rows)
    _, metadata = read_tensors(trained_encoder)
    assert metadata["steps"] == "2"
    features = load_encoder(trained_encoder).encode(torch.zeros(RATE))
    assert features.shape == (49, 2 * ENCODER.mels + 2 + ENCODER.states)


def test_the_verifier_learns_to_tell_two_voices_apart(corpus: Path, trained_encoder: Path) -> None:
    network = load_encoder(trained_encoder).network
    assert isinstance(network, MelWavLM)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    utterances, _ = split(load_corpus(corpus, network))
    pieces = Pieces(utterances, network, space, False)
    rng = seed_everything(0)
    verifier = Verifier(ENCODER.mels, channels=16, size=8)

    def loss() -> float:
        with torch.inference_mode():
            pairs = [pieces.same_voices(2, 40, np.random.default_rng(n)) for n in range(8)]
            made = [
                [verifier(side.reshape(2, -1, ENCODER.mels)) for side in pair] for pair in pairs
            ]
            return float(np.mean([float(verification_loss(*pair)) for pair in made]))

    before = loss()
    options = RefinerOptions(verifier_steps=40, batch=1, frames=40, rate=3e-3)
    train_verifier(verifier, pieces, options, rng)
    assert loss() < 0.7 * before


def test_recordings_of_known_speakers_become_pieces(corpus: Path) -> None:
    network = MelWavLM(ENCODER)
    spoken = load_corpus(corpus, network)
    unknown = [dataclasses.replace(u, speaker="", states=0 * u.states + IGNORED) for u in spoken]
    real = [dataclasses.replace(u, speaker="actor") for u in unknown]
    kept = with_a_voice([*unknown, *real])
    assert [u.speaker for u in kept] == ["actor"] * len(real)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    pieces = Pieces(spoken, network, space, False, None, kept)
    rng = np.random.default_rng(0)
    options = RefinerOptions(batch=8, frames=40, recorded_share=1.0)
    assert all(task.source.speaker == "actor" for task, _ in pieces._choose(options, rng))
    few = dataclasses.replace(options, recorded_share=0.0)
    assert all(task.source.speaker != "actor" for task, _ in pieces._choose(few, rng))
    made = pieces.batch(options, rng)
    assert all(bool(torch.isfinite(column).all()) for column in made)


def test_recordings_are_converted_and_are_to_be_brought_back(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that begins with an earlier refiner, which knew fewer views."""
    encoder = load_encoder(trained_encoder)
    assert isinstance(encoder.network, MelWavLM)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    spoken = load_corpus(corpus, encoder.network)
    real = [dataclasses.replace(u, speaker="actor") for u in spoken if u.speaker == "low"]
    torch.manual_seed(0)
    earlier = Refiner(REFINER)
    torch.nn.init.normal_(earlier.write.weight, std=0.1)
    weights = tmp_path / "earlier.safetensors"
    write_tensors(weights, dict(earlier.state_dict()), {})

    config = dataclasses.replace(REFINER, views=(1, 3))
    pieces = Pieces(spoken, encoder.network, space, False, None, real, config.views)
    pieces.convert_recordings(earlier_refiner(config, weights), np.random.default_rng(1))
    assert 0 < len(pieces.converted_tasks) <= len(real)  # not into its own voice
    for task in pieces.converted_tasks:
        assert task.source.speaker in {"high", "low"}
        assert task.voice.utterances[0].speaker == "actor"
        (recording,) = (u for u in real if u.file == task.source.file)
        assert task.source.mel.shape == recording.mel.shape
        assert not np.allclose(task.source.mel, recording.mel, atol=0.1)
        width = ENCODER.mels * ENCODER.substeps
        truth = torch.from_numpy(recording.mel.astype(np.float32)).reshape(-1, width)
        assert torch.equal(task.truth[:, :width], truth)

    monkeypatch.setattr(refiner_module, "load_recordings", lambda *_: real)
    options = RefinerOptions(
        steps=1, batch=2, frames=40, channels=2, verifier_steps=0, converted_share=1.0
    )
    folder = tmp_path / "refiner"
    trained = train_refiner(corpus, encoder, space, folder, options, config, weights)
    read = read_tensors(trained)[0]["read.weight"]
    assert read.shape[1] == earlier.read.in_channels + 2 * config.width

    with pytest.raises(KnnvcError, match="does not fit its configuration"):
        earlier_refiner(dataclasses.replace(config, channels=8), weights)
    with pytest.raises(KnnvcError, match="is missing"):
        earlier_refiner(config, trained_encoder)

    mean, noted = average_refiners([weights, trained], config)
    half = (earlier.write.weight + read_tensors(trained)[0]["write.weight"]) / 2
    assert torch.allclose(mean["write.weight"].float(), half, atol=1e-3)
    assert mean["read.weight"].shape == read.shape
    assert noted["steps"] == "?, 1"


def test_labels_follow_what_a_crop_goes_through(corpus: Path) -> None:
    utterances = [u for u in load_corpus(corpus, MelWavLM(ENCODER)) if u.speaker == "low"]
    mel, states, f0 = draw_batch(utterances, 16, 40, np.random.default_rng(0))
    assert mel.shape == (16, 40, 2 * ENCODER.mels)
    assert bool(torch.isfinite(mel).all())
    assert f0.shape == (16, 40)
    # What is known is certain, and outside a recording there is silence.
    assert states.shape == (16, 40, ENCODER.states)
    sums = states.sum(-1)
    assert bool(((sums == 0) | (sums == 1)).all())
    assert float(sums.mean()) > 0.9
    assert bool((states[..., 0] == 1).any())
    heard = f0[f0 > 0]
    # Pitch moves with the spectrum: by up to 32 % with the tempo, and 12 % besides.
    assert 110 / 1.32 / 1.2 < float(heard.min()) < 105
    assert 115 < float(heard.max()) < 110 * 1.32 * 1.2


def test_roughening_keeps_the_level_and_can_be_repeated() -> None:
    mel = torch.randn(12, 50, 80, generator=torch.Generator().manual_seed(0)) + 3
    torch.manual_seed(1)
    one = roughen(mel.clone(), np.random.default_rng(2))
    torch.manual_seed(1)
    assert torch.equal(one, roughen(mel.clone(), np.random.default_rng(2)))
    assert not torch.equal(one, mel)
    assert float((one.mean((1, 2)) - mel.mean((1, 2))).abs().max()) < 0.1


def test_training_resumes_from_the_checkpoint(corpus: Path, tmp_path: Path) -> None:
    def train(steps: int, seed: int = 0) -> dict[str, Tensor]:
        options = EncoderOptions(steps=steps, batch=2, frames=40, report_every=1, seed=seed)
        return read_tensors(train_encoder(corpus, tmp_path, options, ENCODER))[0]

    first = train(2)
    # Nothing left to do, and another seed does not matter: the weights are those of the checkpoint.
    unchanged = train(2, seed=1)
    assert all(torch.equal(first[name], unchanged[name]) for name in first)
    third = train(3)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    rows = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3]


class Loudness(nn.Module):
    """Every frame's feature is its mean amplitude, and all frames are equally near."""

    columns = Columns(synth=slice(0, 1), match=slice(1, 3))

    def forward(self, waveform: Tensor) -> Tensor:
        frames = waveform[:, :-80].reshape(1, -1, 320).mean(2)[..., None]
        return torch.cat([frames, torch.ones(*frames.shape[:2], 2)], dim=2)


def test_prematching_leaves_the_utterance_out(tmp_path: Path) -> None:
    amplitude = {"a/0.flac": 0.1, "a/1.flac": 0.3, "b/0.flac": 0.5, "b/1.flac": 0.7}
    amplitude["c/0.flac"] = 0.9  # alone: there is nothing to match it with
    lines = []
    for name, level in amplitude.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / name, np.full(3280, level), RATE)
        lines.append(json.dumps(alignment(name, name[0], 0.2)))
    (tmp_path / "alignments-0.jsonl").write_text("\n".join(lines))
    prematch(tmp_path, Encoder(Loudness()), tmp_path / "matched.safetensors", k=2)
    matched = read_prematched(tmp_path / "matched.safetensors")
    # Every frame comes from the other utterance of the same speaker.
    other = {"a/0.flac": 0.3, "a/1.flac": 0.1, "b/0.flac": 0.7, "b/1.flac": 0.5}
    assert matched.keys() == other.keys()
    for name, level in other.items():
        assert matched[name].shape == (10, 1)
        assert matched[name] == pytest.approx(level, abs=1e-3)


def test_prematching_goes_on_where_it_stopped(
    corpus: Path, trained_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, out = load_encoder(trained_encoder), tmp_path / "matched.safetensors"
    asked: list[int] = []

    def counting(vectors: list[Tensor], synth: list[Tensor], index: int, k: int) -> Tensor | None:
        asked.append(index)
        if len(asked) == 5:  # in the second speaker
            raise KeyboardInterrupt
        return from_others(vectors, synth, index, k)

    monkeypatch.setattr("knnvc.training.prematch.from_others", counting)
    with pytest.raises(KeyboardInterrupt):
        prematch(corpus, encoder, out)
    assert not out.exists()
    prematch(corpus, encoder, out)
    assert len(asked) == 5 + 3  # the first speaker's three utterances are not asked for again
    assert len(read_prematched(out)) == 6
    assert list(tmp_path.iterdir()) == [out]


def test_the_recipe_from_prematching_to_a_converted_voice(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    matched = tmp_path / "matched.safetensors"
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    prematch(corpus, encoder, matched, space=space)
    found = read_prematched(matched)
    assert sorted(found) == [f"{who}/{who}_00{n}.flac" for who in ("high", "low") for n in range(3)]
    own = encoder.encode(torch.from_numpy(sf.read(corpus / "low/low_000.flac")[0]).float())
    pitch = encoder.columns.pitch
    assert pitch is not None
    kept = torch.from_numpy(found["low/low_000.flac"]).float()[:, pitch : pitch + 2]
    assert torch.allclose(kept, own[:, pitch : pitch + 2], atol=0.01)  # stored in half precision

    options = VocoderOptions(
        steps=2,
        adversarial_from=1,
        batch=2,
        frames=36,
        prematched_share=1.0,
        channels=2,
        report_every=1,
    )
    vocoder = train_vocoder(corpus, tmp_path / "vocoder", options, matched, VOCODER)
    rows = [json.loads(x) for x in (tmp_path / "vocoder/log.jsonl").read_text().splitlines()]
    assert rows[0].keys() < rows[1].keys()
    assert {"critics", "adversarial", "matching"} <= rows[1].keys()  # from the second step on
    assert all(np.isfinite(value) for row in rows for value in row.values())

    preset = package_mini(trained_encoder, vocoder, tmp_path / "preset", "tiny", ENCODER, VOCODER)
    assert preset.provenance["encoder_steps"] == preset.provenance["vocoder_steps"] == "2"
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    waveform, rate = converter.convert(corpus / "low/low_002.flac", corpus / "high")
    assert rate == RATE
    assert abs(len(waveform) - 2 * RATE) <= 2 * 320
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() > 0.01


def test_encoder_and_refiner_learn_from_twins(
    corpus: Path, trained_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One utterance of either voice is the other's twin, as they all say the same."""
    both = tmp_path / "corpus"
    shutil.copytree(corpus, both)
    names = ("high/high_000.flac", "low/low_000.flac")
    lines = [
        json.dumps(alignment(there, there.split("/")[0], 1.6) | {"original": here})
        for here, there in (names, names[::-1])
    ]
    (both / "twins-0.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    encoder = load_encoder(trained_encoder)
    assert isinstance(encoder.network, MelWavLM)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    training, _ = split(load_corpus(both, encoder.network))
    pieces = Pieces(training, encoder.network, space, False, load_twins(both, encoder.network))
    found = {(task.source.file, task.without) for task in pieces.twin_tasks}
    # Either way: to a twin (nothing of its voice is the truth), and back to the original.
    assert found == {(names[0], None), (names[1], None), (names[1], 0), (names[0], 0)}
    for task in pieces.twin_tasks:
        assert task.source.speaker != task.voice.utterances[0].speaker
        assert len(task.truth) == len(task.source.f0)

    learning = EncoderOptions(steps=1, batch=4, frames=40, report_every=1)
    train_encoder(both, tmp_path / "encoder", learning, ENCODER)
    # Both twins stand for recordings that the corpus has already: they do not count twice.
    assert f"{len(training)} utterances" in capsys.readouterr().out

    options = RefinerOptions(steps=1, batch=2, frames=40, channels=2, bf16=True, verifier_steps=0)
    weights = train_refiner(both, encoder, space, tmp_path / "refiner", options, REFINER)
    assert read_tensors(weights)[1]["steps"] == "1"


def test_the_refiner_learns_from_disguised_speech_and_the_preset_uses_it(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(trained_encoder)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    options = RefinerOptions(
        steps=2,
        adversarial_from=1,
        batch=2,
        frames=40,
        channels=2,
        verifier_steps=2,
        report_every=1,
    )
    weights = train_refiner(corpus, encoder, space, tmp_path / "refiner", options, REFINER)
    rows = [json.loads(x) for x in (tmp_path / "refiner/log.jsonl").read_text().splitlines()]
    assert {"critics", "adversarial", "matching"} <= rows[1].keys() - rows[0].keys()
    assert all(np.isfinite(row["spectral"]) for row in rows)

    refiner = Refiner(REFINER)
    begin_with(refiner, weights)
    matched = tmp_path / "refined.safetensors"
    prematch_refined(corpus, encoder, space, refiner, matched)
    found = read_prematched(matched)
    assert sorted(found) == [f"{who}/{who}_00{n}.flac" for who in ("high", "low") for n in range(3)]
    wave, _ = sf.read(corpus / "low/low_000.flac")
    assert found["low/low_000.flac"].shape == (len(wave) // 320, 2 * ENCODER.mels + 2)

    vocoder = train_vocoder(
        corpus, tmp_path / "vocoder", VocoderOptions(steps=1, batch=2), matched, VOCODER
    )
    preset = package_mini(
        trained_encoder, vocoder, tmp_path / "preset", "tiny", ENCODER, VOCODER, [weights], REFINER
    )
    assert preset.matching["space"]["envelope_transfer"] == 0.0
    assert preset.for_speech.matching["k"] == 4
    assert preset.for_speech.refiner == preset.refiner
    converter = VoiceConverter.from_preset(tmp_path / "preset", device="cpu")
    assert converter.refiner is not None
    waveform, _ = converter.convert(corpus / "low/low_002.flac", corpus / "high")
    assert np.isfinite(waveform).all()
    # Pure source frames pass it by.
    source = converter.encode(corpus / "low/low_002.flac")
    same = converter.match(source, converter.matching_set(corpus / "high"), lam=0.0)
    assert torch.equal(same, source[:, converter.encoder.columns.synth])


def test_too_short_utterances_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="no utterance is longer"):
        train_vocoder(corpus, tmp_path, VocoderOptions(steps=1, frames=500), config=VOCODER)


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [cosine_rate(step, 1000, 1.0, warmup=100, floor=0.1) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[99] == 1.0
    assert rates[1000] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any corpus")
    rng = np.random.default_rng(1)
    for speaker, f0 in (("anna", 210.0), ("ben", 120.0)):
        (folder / speaker / "chapter").mkdir(parents=True)
        for number in range(2):
            wave = sing(f0, 1.0 + 0.1 * number, rng)
            sf.write(folder / speaker / "chapter" / f"{number}.flac", wave, RATE)
    sf.write(folder / "lonely.flac", np.zeros(RATE, dtype=np.float32), RATE)  # no speaker
    return folder


@pytest.fixture(scope="module")
def prematched(speakers: Path, preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("matched")
    prematch_folder(speakers, VoiceConverter.from_preset(preset, "cpu").encoder, out)
    return out


class TestPublishedRecipe:
    """HiFi-GAN v1 as published, with tiny networks."""

    OPTIONS = HifiGanOptions(
        steps=1,
        batch_size=2,
        segment_size=3840,
        discriminator_width=1 / 64,
        num_workers=0,
        report_every=1,
    )

    def test_prematching_averages_the_speakers_other_utterances(
        self, speakers: Path, preset: Path, prematched: Path
    ) -> None:
        written = sorted(str(p.relative_to(prematched)) for p in prematched.rglob("*.safetensors"))
        assert written == [
            f"{who}/chapter/{n}.flac.safetensors" for who in ("anna", "ben") for n in range(2)
        ]
        encoder = VoiceConverter.from_preset(preset, "cpu").encoder
        query, pool = (
            encoder.encode(torch.from_numpy(sf.read(speakers / f"ben/chapter/{n}.flac")[0]).float())
            for n in range(2)
        )
        cosine = functional.normalize(query, dim=1) @ functional.normalize(pool, dim=1).T
        expected = pool[cosine.topk(4).indices].mean(1)
        found = read_tensors(prematched / "ben/chapter/0.flac.safetensors")[0]["matched"].float()
        assert torch.allclose(found, expected, atol=2e-3, rtol=2e-3)

    def test_one_step_writes_what_preset_import_reads_and_resumes(
        self, speakers: Path, prematched: Path, parity: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("accelerate")
        config = HifiGanConfig.from_dict(json.loads((parity / "hifigan_tiny.json").read_text()))
        run = tmp_path / "run"
        first = train_hifigan(speakers, prematched, run, self.OPTIONS, config)
        assert first.name == "g_00000001.pt"
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert {"mel", "critics", "adversarial", "matching", "held_out_mel"} <= rows[0].keys()
        assert all(np.isfinite(value) for value in rows[0].values())
        assert "option learning_rate | 0.0002" in (run / "MODEL_CARD.md").read_text()

        more = dataclasses.replace(self.OPTIONS, steps=3)
        second = train_hifigan(speakers, prematched, run, more, config)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2, 3]
        weights = [torch.load(p, weights_only=True)["generator"] for p in (first, second)]
        published = torch.load(parity / "hifigan_tiny.pt", weights_only=True)["generator"]
        assert weights[1].keys() == published.keys()
        assert not torch.equal(weights[0]["conv_post.weight_v"], weights[1]["conv_post.weight_v"])

        folder = tmp_path / "preset"
        import_published(parity / "wavlm_tiny.pt", 6, second, run / "config.json", folder)
        converter = VoiceConverter.from_preset(folder, device="cpu")
        waveform, _ = converter.convert(
            speakers / "anna/chapter/0.flac", speakers / "ben", ConvertOptions(loudness=False)
        )
        assert np.isfinite(waveform).all()

    def test_without_features_it_says_how_to_make_them(
        self, speakers: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(KnnvcError, match="knnvc train prematch"):
            find_examples(speakers, tmp_path)

    def test_the_discriminators_have_the_published_sizes(self) -> None:
        with torch.device("meta"):
            critics = PublishedDiscriminators()
        sizes = [sum(p.numel() for p in part.parameters()) for part in critics.parts]
        # What the published layers' shapes add up to, gains of the weight norm included.
        assert sum(sizes[:5]) == pytest.approx(41.1e6, rel=0.01)
        assert sum(sizes[5:]) == pytest.approx(29.6e6, rel=0.01)
        scores, inner = PublishedDiscriminators(1 / 64)(torch.randn(1, 4000))
        assert len(scores) == 8
        assert sum(map(len, inner)) == critics.activations


class Phonemizer:
    """Spells instead of pronouncing."""

    def phonemize(self, texts: list[str]) -> list[str]:
        return [text.lower() for text in texts]


class Hum:
    """Speaks every token for 50 ms as a hum, and 100 ms of it before and after."""

    def __init__(self, _model: Path, _bf16: bool) -> None:
        pass

    def speak(
        self,
        tokens: list[int],
        style: np.ndarray,
        speed: float,
        timbre: np.ndarray | None = None,
        pitch: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The style's first number is the pitch; one that comes from a timbre adds an overtone."""
        durations = np.array([4, *[2] * len(tokens), 4])
        at = np.arange(600 * durations.sum()) / 24_000
        wave = sum(np.sin(2 * np.pi * n * style[0] * pitch * at) / n for n in range(1, 9))
        if timbre is not None:
            wave = wave + np.sin(2 * np.pi * 20 * timbre[0] * at)
        return wave.astype(np.float32), durations


@pytest.fixture
def spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[kokoro.Ingredients, Path]:
    """What a corpus is made from, and a corpus of 10 s made by `Hum`."""
    voices, texts = tmp_path / "voices", tmp_path / "texts"
    voices.mkdir()
    texts.mkdir()
    for name, f0 in (("af_one", 200.0), ("bm_two", 100.0), ("ff_three", 250.0)):
        np.full((510, 1, 256), f0, dtype=np.float32).tofile(voices / f"{name}.bin")
    words = "Some words that are nothing but letters."
    (texts / "quotes.u8").write_text("\n%\n".join(f"{w} {words}" for w in ("All", "Do", "Put")))
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({"vocab": {c: i for i, c in enumerate("adehilnorstuw ", 1)}}))
    monkeypatch.setattr(kokoro, "Engine", Hum)
    monkeypatch.setattr(
        kokoro, "_phonemizers", lambda: {"en-us": Phonemizer(), "en-gb": Phonemizer()}
    )
    monkeypatch.setattr(kokoro, "prepare", lambda _model: None)
    parts = kokoro.Ingredients(tmp_path / "no.onnx", vocabulary, voices, texts)
    out = tmp_path / "corpus"
    out.mkdir()
    kokoro._work(parts, out, 10 / 3600, 0, 1, 7)
    return parts, out


def test_a_corpus_is_spoken_with_its_alignments(spoken: tuple[kokoro.Ingredients, Path]) -> None:
    parts, out = spoken
    records = list(kokoro.read_alignments(out))
    assert sum(record["seconds"] for record in records) >= 10
    for record in records:
        wave, rate = sf.read(out / record["file"])
        assert rate == RATE
        assert len(wave) / RATE == pytest.approx(sum(record["durations"]) * 0.025, abs=1e-3)
        assert len(record["phones"]) == len(record["durations"]) - 2
    # What is there stays, and the hours count it.
    before = (out / "alignments-0.jsonl").read_text()
    kokoro._work(parts, out, 10 / 3600, 0, 1, 7)
    assert (out / "alignments-0.jsonl").read_text() == before
    assert load_corpus(out, MelWavLM(ENCODER))
    kokoro.write_card(out, 7)
    assert f"| utterances | {len(records)} |" in (out / "CARD.md").read_text()


def test_twins_keep_the_timing_and_change_the_voice(
    spoken: tuple[kokoro.Ingredients, Path],
) -> None:
    parts, corpus = spoken
    originals = {record["file"]: record for record in kokoro.read_alignments(corpus)}
    twins._work(parts, corpus, 0, 1, 7, False)
    made = {record["original"]: record for record in twins.read_twins(corpus)}
    assert made.keys() == originals.keys()
    pitch = twins.speaker_pitch(corpus)
    for name, twin in made.items():
        assert twin["speaker"] != originals[name]["speaker"]
        assert twin["durations"] == originals[name]["durations"]
        wave, _ = sf.read(corpus / twin["file"])
        assert len(wave) == len(sf.read(corpus / name)[0])
        f0 = f0_track(wave.astype(np.float32), len(wave) // 320)
        # In the range of the voice that it is to sound like.
        assert np.log(np.median(f0[f0 > 0])) == pytest.approx(pitch[twin["speaker"]], abs=0.05)
    # What is there stays; twins are not part of the corpus itself.
    before = (corpus / "twins-0.jsonl").read_text()
    twins._work(parts, corpus, 0, 1, 7, False)
    assert (corpus / "twins-0.jsonl").read_text() == before
    network = MelWavLM(ENCODER)
    assert len(load_corpus(corpus, network)) == len(originals)
    for name, utterance in load_twins(corpus, network).items():
        assert utterance.speaker == made[name]["speaker"]


def test_new_voices_speak_and_join_the_corpus(spoken: tuple[kokoro.Ingredients, Path]) -> None:
    parts, corpus = spoken
    network = MelWavLM(ENCODER)
    originals = {utterance.file: utterance for utterance in load_corpus(corpus, network)}
    twins._speak_new(parts, corpus, 0, 1, 7, False, 2)
    new = [u for u in load_corpus(corpus, network) if u.file not in originals]
    assert sorted(u.speaker for u in new) == ["new000"] * 5 + ["new001"] * 5
    pairs = load_twins(corpus, network)
    for utterance in new:
        original = originals[pairs[utterance.file].file]
        assert np.array_equal(utterance.states, original.states)
        assert not np.array_equal(utterance.mel, original.mel)
    # What is there stays.
    before = (corpus / "alignments-new-0.jsonl").read_text()
    twins._speak_new(parts, corpus, 0, 1, 7, False, 2)
    assert (corpus / "alignments-new-0.jsonl").read_text() == before


def test_the_weights_of_a_new_voice_sum_to_one() -> None:
    pitch = {"a": 4.8, "b": 5.1, "mix": 5.4}
    blends = {"a": [("a", 1.0)], "b": [("b", 1.0)], "mix": [("a", 0.3), ("c", 0.7)]}
    for number in range(20):
        record, usual = twins.new_voice(number, blends, pitch, 7)
        assert sum(weight for _, weight in record["blend"]) == pytest.approx(1)
        assert 4.4 < usual < 5.8
        assert twins.new_voice(number, blends, pitch, 7) == (record, usual)


def test_twins_of_another_model_are_refused(spoken: tuple[kokoro.Ingredients, Path]) -> None:
    parts, corpus = spoken
    table = corpus / "alignments-0.jsonl"
    records = [json.loads(line) for line in table.read_text().splitlines()]
    records[0]["durations"][1] += 1
    table.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(KnnvcError, match="durations differ"):
        twins._work(parts, corpus, 0, 1, 7, False)


def test_a_corpus_that_cannot_be_spoken_again_is_refused(corpus: Path, tmp_path: Path) -> None:
    parts = kokoro.Ingredients(tmp_path, tmp_path, tmp_path, tmp_path)
    with pytest.raises(KnnvcError, match="knnvc train corpus"):
        twins.speak_twins(parts, corpus)


def test_the_recipe_sets_what_the_bundled_preset_is_set_to() -> None:
    bundled = find_preset("mini")
    space = package.MINI_MATCHING["space"] | package.REFINED_MATCHING
    for preset, wanted in (bundled, space), (bundled.for_speech, space | package.SPEECH_MATCHING):
        found = AcousticSpaceOptions.from_dict(preset.matching["space"])
        assert found == AcousticSpaceOptions.from_dict(wanted)


def test_the_commands_lead_from_a_corpus_to_a_preset(corpus: Path, tmp_path: Path) -> None:
    """Mini's own dimensions, hardly any steps."""

    def run(*args: str | Path) -> None:
        done = CliRunner().invoke(cli, ["train", *map(str, args)])
        assert done.exit_code == 0, done.output

    encoder, refiner = tmp_path / "e/encoder.safetensors", tmp_path / "r/refiner.safetensors"
    matched, vocoder = tmp_path / "matched.safetensors", tmp_path / "v/vocoder.safetensors"
    given = ("--corpus", corpus, "--steps", 1, "--batch", 1)
    run("encoder", *given, "--frames", 40, "--out", encoder.parent)
    # A further step begins where the last run ended.
    run("encoder", *given, "--frames", 40, "--out", encoder.parent, "--steps", 2)
    assert read_tensors(encoder)[1]["steps"] == "2"
    assert "| option frames | 40 |" in (encoder.parent / "MODEL_CARD.md").read_text()
    given = (*given, "--frames", 36)
    run("refiner", *given, "--verifier-steps", 1, "--encoder", encoder, "--out", refiner.parent)
    run("prematch", "--corpus", corpus, "--encoder", encoder, "--out", tmp_path / "plain.st")
    assert list(tmp_path.glob("plain.*")) == [tmp_path / "plain.st"]
    parts = ("--encoder", encoder, "--refiner", refiner)
    run("prematch", "--corpus", corpus, *parts, "--out", matched)
    run("vocoder", *given, "--prematched", matched, "--channels", 2, "--out", vocoder.parent)
    tuned, downloads = tmp_path / "t/refiner.safetensors", tmp_path / "downloads"
    judge = downloads / campplus.WEIGHTS
    judge.parent.mkdir(parents=True)
    torch.save(campplus.CamPlusPlus().state_dict(), judge)
    made = ("--encoder", encoder, "--vocoder", vocoder, "--start", refiner, "--parts", downloads)
    run("tune", *given, *made, "--known", 1, "--adversarial-from", 0, "--out", tuned.parent)
    parts = ("--encoder", encoder, "--refiner", tuned, "--speech-refiner", refiner)
    run("package", *parts, "--vocoder", vocoder, "--out", tmp_path / "preset")
    assert (tmp_path / "preset/speech_refiner.safetensors").exists()
    assert "encoder_steps | 2" in (tmp_path / "preset/MODEL_CARD.md").read_text()
    out = tmp_path / "converted.wav"
    source, target = corpus / "low/low_002.flac", corpus / "high"
    args = ("convert", source, "--ref", target, "--preset", tmp_path / "preset", "-o", out)
    done = CliRunner().invoke(cli, list(map(str, args)))
    assert done.exit_code == 0, done.output
    assert sf.info(out).frames == pytest.approx(2 * RATE, abs=640)


def test_tensorboard_gets_losses_sound_and_spectrograms(corpus: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = VocoderOptions(steps=1, batch=1, report_every=1, adversarial_from=9)
    train_vocoder(corpus, tmp_path, options, config=VOCODER)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    tags = events.Reload().Tags()
    assert {"spectral", "held_out_spectral"} <= set(tags["scalars"])
    assert set(tags["audio"]) == {"made", "real"}
    assert set(tags["images"]) == {"made spectrogram", "real spectrogram"}
