"""Encoders: which layer is which, how chunks compare with the whole, and every family."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from knnvc.audio import SAMPLE_RATE, find_audio, load_audio
from knnvc.encoders.chunked import HOP, WINDOW, ChunkedEncoder
from knnvc.encoders.ssl import SslNetwork, load_huggingface
from knnvc.errors import KnnvcError, UsageError
from knnvc.mini.encoder import MiniEncoder, PhoneEncoder, PhoneEncoderConfig
from knnvc.pipeline import VoiceConverter
from knnvc.presets.schema import FILE_NAME, FORMAT_VERSION
from knnvc.registry import Context, PartSpec, find
from knnvc.tensors import fingerprint, write_tensors
from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio" / "target"
DIM, LAYERS = 48, 4
COMMON: dict[str, Any] = {
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.0,
}
PRE_NORM: dict[str, Any] = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
FAMILY: dict[str, Callable[[], Any]] = {
    "wavlm": lambda: transformers.WavLMModel(transformers.WavLMConfig(**COMMON)),
    "wavlm, pre-norm": lambda: transformers.WavLMModel(
        transformers.WavLMConfig(**COMMON, **PRE_NORM)
    ),
    "hubert": lambda: transformers.HubertModel(transformers.HubertConfig(**COMMON)),
    "hubert, pre-norm": lambda: transformers.HubertModel(
        transformers.HubertConfig(**COMMON, **PRE_NORM)
    ),
    "wav2vec2": lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**COMMON)),
    "data2vec-audio": lambda: transformers.Data2VecAudioModel(
        transformers.Data2VecAudioConfig(
            **COMMON | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 7}
        )
    ),
}


def build(family: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = FAMILY[family]()
    return model.eval()


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every family, saved by save_pretrained."""
    saved = {}
    for number, family in enumerate(FAMILY):
        saved[family] = tmp_path_factory.mktemp("checkpoints") / str(number)
        build(family).save_pretrained(saved[family])
    return saved


@pytest.fixture(scope="module")
def mini() -> MiniEncoder:
    encoder = VoiceConverter.from_preset("mini", device="cpu").encoder
    assert isinstance(encoder, MiniEncoder)
    return encoder


# Families -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(FAMILY))
def test_any_family_and_layer(folders: dict[str, Path], family: str) -> None:
    waveform = noise(8000)
    with torch.inference_mode():
        expected = build(family)(waveform[None], output_hidden_states=True).hidden_states
    for layer in range(LAYERS):  # of the last one transformers reports the layer norm's output
        encoder = ChunkedEncoder(load_huggingface(folders[family], layer, layer))
        features = encoder.encode(waveform)
        assert features.shape == (24, DIM)
        assert (features - expected[layer][0]).abs().max() < 1e-5
    both = ChunkedEncoder(load_huggingface(folders[family], match_layer=3, synth_layer=1))
    features = both.encode(waveform)
    assert (features[:, both.columns.match] - expected[3][0]).abs().max() < 1e-5
    assert (features[:, both.columns.synth] - expected[1][0]).abs().max() < 1e-5


def test_the_last_layer_comes_without_the_final_norm(folders: dict[str, Path]) -> None:
    model = build("wavlm, pre-norm")
    waveform = noise(4000)
    layer = load_huggingface(folders["wavlm, pre-norm"], LAYERS, LAYERS)
    features = ChunkedEncoder(layer).encode(waveform)
    with torch.inference_mode():
        normed = model(waveform[None]).last_hidden_state[0]
        assert (model.encoder.layer_norm(features) - normed).abs().max() < 1e-5
    assert (features - normed).abs().max() > 1e-2


def test_only_the_layers_needed_are_kept(folders: dict[str, Path]) -> None:
    network = load_huggingface(folders["hubert"], 2, 1)
    assert len(network.model.encoder.layers) == 2
    with pytest.raises(KnnvcError, match="layer 5 is not in this encoder, which has 0 to 4"):
        load_huggingface(folders["hubert"], 5, 1)


def test_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(KnnvcError, match=r"is a bert model; encoders can be wavlm, [^\n]+$"):
        load_huggingface(tmp_path, 1, 1)


@pytest.mark.parametrize("what", ["no config", "damaged config", "no weights"])
def test_a_folder_that_is_no_checkpoint(
    folders: dict[str, Path], tmp_path: Path, what: str
) -> None:
    if what == "damaged config":
        (tmp_path / "config.json").write_text("{")
    if what == "no weights":
        config = (folders["wavlm"] / "config.json").read_text()
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(KnnvcError, match=r"\Acannot read the encoder [^\n]*model.safetensors"):
        load_huggingface(tmp_path, 1, 1)


@pytest.mark.parametrize("family", [None, "hubert"])
def test_a_model_that_brings_code_is_refused_and_nobody_is_asked(
    tmp_path: Path, folders: dict[str, Path], family: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family:
        shutil.copytree(folders[family], tmp_path, dirs_exist_ok=True)
    values = json.loads((tmp_path / "config.json").read_text()) if family else {}
    values["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    values.setdefault("model_type", "evil")
    (tmp_path / "config.json").write_text(json.dumps(values))
    mark = tmp_path / "exploded"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: pass\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(KnnvcError, match="code of its own") as caught:
        load_huggingface(tmp_path, 1, 1)
    assert len(str(caught.value)) <= 200
    assert not mark.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_of_a_repository_is_refused(
    tmp_path: Path, folders: dict[str, Path], key: str
) -> None:
    """transformers fetches one that a configuration names, and runs what is in it."""
    shutil.copytree(folders["hubert"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    given = json.loads(path.read_text())
    path.write_text(json.dumps(given | {key: "somebody/kernel"}))
    with pytest.raises(KnnvcError, match="never fetched and run"):
        load_huggingface(tmp_path, 1, 1)
    path.write_text(json.dumps(given | {key: "eager"}))
    load_huggingface(tmp_path, 1, 1)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_older_weights_are_read_as_tensors_alone(tmp_path: Path, folders: dict[str, Path]) -> None:
    """facebook/hubert-base-ls960 and others have nothing but a pickle."""
    shutil.copytree(folders["hubert"], tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    made = load_huggingface(tmp_path, 1, 2).eval()(noise(8000)[None])
    expected = load_huggingface(folders["hubert"], 1, 2).eval()(noise(8000)[None])
    assert torch.equal(made, expected)
    mark = tmp_path / "exploded"
    torch.save(state | {"more": Bomb(mark)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(KnnvcError, match=r"model\.safetensors"):
        load_huggingface(tmp_path, 1, 1)
    assert not mark.exists()


def test_fingerprint_tells_layers_and_weights_apart(folders: dict[str, Path]) -> None:
    folder = folders["wavlm"]
    prints = [fingerprint(load_huggingface(folder, *layers)) for layers in ((2, 2), (1, 2), (2, 1))]
    assert fingerprint(load_huggingface(folder, 2, 2)) == prints[0]
    prints.append(fingerprint(SslNetwork(build("wavlm", seed=1), 2, 2)))
    prints.append(fingerprint(load_huggingface(folders["wavlm, pre-norm"], 2, 2)))
    assert len(set(prints)) == len(prints)
    assert all(len(one) == 64 for one in prints)


@pytest.mark.parametrize("inside", [True, False])
def test_a_preset_around_a_huggingface_encoder(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: bool,
) -> None:
    """From preset.json to a conversion; the encoder lies in the preset's folder or elsewhere."""
    name = str(folders["hubert"])
    if inside:
        build("hubert").save_pretrained(tmp_path / "hubert-tiny")
        name = "hubert-tiny"
    write_preset(tmp_path, name, dim=DIM)
    monkeypatch.chdir(tmp_path.parent)
    converter = VoiceConverter.from_preset(tmp_path, device="cpu")
    source = noise(16_000)
    made, rate = converter.convert((source, SAMPLE_RATE), (noise(24_000, 1), SAMPLE_RATE))
    assert (made.shape, rate) == ((16_000,), 16_000)
    target = converter.matching_set((noise(24_000, 1), SAMPLE_RATE), trim=False)
    assert target.match.shape == (74, DIM)
    assert target.match.shape == target.synth.shape
    assert not torch.equal(target.match, target.synth)  # of different layers


def test_transformers_is_quiet_on_the_command_line(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """It draws bars into whatever stderr is, and logs there."""
    write_preset(tmp_path, str(folders["hubert"]), dim=DIM)
    clip = find_audio(EXAMPLES)[0]
    command = [sys.executable, "-m", "knnvc.cli.main", "convert", clip, "--ref", clip]
    options = ["--preset", tmp_path, "--no-loudness", "--no-trim", "-o", tmp_path / "out.wav"]
    result = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path / 'out.wav'}\n"


def test_a_preset_whose_parts_do_not_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    write_preset(tmp_path, str(folders["hubert"]), dim=32)
    with pytest.raises(KnnvcError, match="gives 48 columns every 20 ms, but its vocoder reads 32"):
        VoiceConverter.from_preset(tmp_path, device="cpu")


def test_an_encoder_with_other_frames(tmp_path: Path) -> None:
    config = transformers.HubertConfig(**COMMON | {"conv_stride": (5, 2, 2, 2, 2, 2, 1)})
    transformers.HubertModel(config).save_pretrained(tmp_path / "encoder")
    write_preset(tmp_path, "encoder", dim=DIM)
    with pytest.raises(
        KnnvcError, match="48 columns every 10 ms, but its vocoder reads 48 every 20"
    ):
        VoiceConverter.from_preset(tmp_path, device="cpu")
    content = json.loads((tmp_path / FILE_NAME).read_text())
    (tmp_path / FILE_NAME).write_text(json.dumps(content | {"vocoder": None}))
    alone = VoiceConverter.from_preset(tmp_path, device="cpu")
    assert (alone.encoder.hop, alone.encoder.sample_rate) == (160, SAMPLE_RATE)
    features = alone.encode(noise(SAMPLE_RATE), sample_rate=SAMPLE_RATE)
    assert features.shape == (98, 2 * DIM)
    voice = alone.matching_set((noise(SAMPLE_RATE, 1), SAMPLE_RATE), trim=False)
    assert voice.seconds == pytest.approx(0.98)


def write_preset(folder: Path, encoder: str, dim: int) -> None:
    """A preset.json around a Hugging Face encoder, with a random HiFi-GAN."""
    config = HifiGanConfig(
        hubert_dim=dim,
        hifi_dim=16,
        upsample_initial_channel=16,
        upsample_rates=(10, 8, 4),
        upsample_kernel_sizes=(20, 16, 8),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    )
    write_tensors(folder / "vocoder.safetensors", HifiGan(config).state_dict(), {})
    content = {
        "format_version": FORMAT_VERSION,
        "name": "own",
        "description": "A test.",
        "sample_rate": 16_000,
        "encoder": {
            "type": "huggingface",
            "config": {"name": encoder},
            "match_layer": 3,
            "synth_layer": 1,
        },
        "converter": {"type": "knn", "config": {"k": 4, "weighting": "mean", "lam": 1.0}},
        "vocoder": {
            "type": "hifigan",
            "weights": "vocoder.safetensors",
            "config": config.to_dict(),
        },
        "text_front_end": None,
        "licence": "MIT",
        "licences": {},
        "provenance": {},
    }
    (folder / FILE_NAME).write_text(json.dumps(content))


# Frames and chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 16_000, 16_080, 50_001])
def test_number_of_frames(mini: MiniEncoder, folders: dict[str, Path], samples: int) -> None:
    frames = max(1, (samples - WINDOW) // HOP + 1)
    tiny = ChunkedEncoder(load_huggingface(folders["wavlm, pre-norm"], 1, 1))
    chunked = ChunkedEncoder(tiny.network, chunk_seconds=0.5, context_seconds=0.2)
    for encoder in (mini, tiny, chunked):
        features = encoder.encode(noise(samples))
        assert len(features) == frames
        assert torch.isfinite(features).all()
        assert features.dtype == torch.float32


def test_audio_shorter_than_a_window_is_padded(mini: MiniEncoder) -> None:
    short = noise(100)
    padded = torch.cat([short, torch.zeros(WINDOW - 100)])
    assert torch.equal(mini.encode(short), mini.encode(padded))


def test_progress_counts_frames(mini: MiniEncoder) -> None:
    encoder = MiniEncoder(mini.network, chunk_seconds=1.0, context_seconds=0.5)
    told: list[tuple[int, int]] = []
    features = encoder.encode(
        noise(5 * SAMPLE_RATE), lambda done, total: told.append((done, total))
    )
    assert [done for done, _ in told] == [50, 100, 150, 200, 249]
    assert {total for _, total in told} == {len(features)}


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """Four clips of the example target in a row, 26 s."""
    return torch.cat([load_audio(path) for path in find_audio(EXAMPLES)[:4]])


def chunked_and_whole(
    kind: type[ChunkedEncoder], network: nn.Module, waveform: Tensor
) -> tuple[Tensor, Tensor]:
    chunked = kind(network, chunk_seconds=5.0, context_seconds=2.0).encode(waveform)
    whole = kind(network, chunk_seconds=1000.0).encode(waveform)
    return chunked, whole


def test_chunks_of_a_pre_norm_encoder_equal_the_whole(
    folders: dict[str, Path], speech: Tensor
) -> None:
    """Measured on 97 s: a relative difference of 0.3 % with 5 s chunks, 0.17 % with 30 s."""
    network = load_huggingface(folders["wavlm, pre-norm"], 3, 3)
    chunked, whole = chunked_and_whole(ChunkedEncoder, network, speech)
    assert (chunked - whole).norm() < 0.01 * whole.norm()
    assert ((chunked - whole).norm(dim=1) / whole.norm(dim=1)).max() < 0.03


def test_chunks_of_mini_equal_the_whole(mini: MiniEncoder, speech: Tensor) -> None:
    """What is synthesised from is the same; matching sees attention to another surrounding.

    Measured on 2026-11-29: posteriors have a mean cosine distance of 0.029, content columns one of
    0.070, where one frame and the next are 0.22 and 0.19 apart. Weights differ, so the tolerance is
    relative to that.
    """
    chunked, whole = chunked_and_whole(MiniEncoder, mini.network, speech)
    mels = slice(0, mini.columns.pitch)
    assert (chunked[:, mels] - whole[:, mels]).abs().max() < 1e-5

    def distance(one: Tensor, other: Tensor, columns: slice) -> float:
        return float((1 - torch.cosine_similarity(one[:, columns], other[:, columns])).mean())

    for name, most in (("posteriors", 0.25), ("content", 0.5)):
        columns = mini.network.named_columns[name]
        apart = distance(whole[1:], whole[:-1], columns)
        assert distance(chunked, whole, columns) < most * apart, name


def test_the_chunk_length_changes_next_to_nothing(mini: MiniEncoder, speech: Tensor) -> None:
    """docs/large-sets.md has the difference between 30 s and 120 s, measured on longer speech."""
    one, other = (
        MiniEncoder(mini.network, chunk_seconds=seconds).encode(speech) for seconds in (4.0, 7.0)
    )
    mels = slice(0, mini.columns.pitch)
    assert (one[:, mels] - other[:, mels]).abs().max() < 1e-5
    posteriors = mini.network.named_columns["posteriors"]
    away = torch.ones(len(one), dtype=torch.bool)
    for chunk in (200, 350):  # frames; nearer than half a second to a seam does not count
        at = torch.arange(len(one)) % chunk
        away &= (at >= 25) & (at < chunk - 25)
    alike = torch.cosine_similarity(one[:, posteriors], other[:, posteriors])[away]
    apart = torch.cosine_similarity(one[1:, posteriors], one[:-1, posteriors])
    assert (1 - alike).mean() < 0.15 * (1 - apart).mean()


def test_pitch_is_made_exact_in_stretches(
    mini: MiniEncoder, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pitch = mini.columns.pitch
    assert pitch is not None
    whole = mini.encode(speech)
    monkeypatch.setattr("knnvc.mini.encoder.PITCH_FRAMES", 130)
    parts = mini.encode(speech)
    voiced = whole[:, pitch + 1] > 0.5
    apart = (whole[:, pitch] - parts[:, pitch]).abs()
    assert voiced.sum() > 300
    assert (apart[voiced] < 0.01).float().mean() > 0.99
    apart_from_pitch = torch.arange(whole.shape[1]) != pitch
    assert torch.equal(parts[:, apart_from_pitch], whole[:, apart_from_pitch])


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_chunk_holds_a_frame(mini: MiniEncoder, seconds: float) -> None:
    with pytest.raises(UsageError, match="the chunk is"):
        MiniEncoder(mini.network, chunk_seconds=seconds)


# mini's encoder -----------------------------------------------------------------------------------

SMALL = PhoneEncoderConfig(
    mels=20, hidden=32, layers=2, heads=2, feed_forward=32, pitch_layer=1, head=16, content=8
)


def test_the_columns_of_the_phone_encoder() -> None:
    network = PhoneEncoder(SMALL).eval()
    encoder, columns = ChunkedEncoder(network), network.columns
    features = encoder.encode(noise(8000))
    assert features.shape == (24, 20 * 2 + 2 + SMALL.states + SMALL.content)
    assert features[:, columns.synth].shape[1] == 42
    assert columns.pitch == 40
    assert not columns.together
    posteriors = features[:, columns.match][:, 2 : 2 + SMALL.states].square()
    assert torch.allclose(posteriors.sum(1), torch.ones(24), atol=1e-4)
    assert ((features[:, 41] >= 0) & (features[:, 41] <= 1)).all()


def test_mel_frames_stand_where_they_say() -> None:
    """A click in the middle of frame 10 is loudest there."""
    click = torch.zeros(20 * HOP)
    click[10 * HOP + HOP // 2] = 1.0
    mel = PhoneEncoder(SMALL).log_mel(click[None])[0]
    assert mel.shape == (20, 40)
    assert int(mel.mean(dim=1).argmax()) == 10


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    weights = tmp_path / "encoder.safetensors"
    write_tensors(weights, PhoneEncoder(SMALL).state_dict())

    def load(type_: str, config: dict[str, Any]) -> Any:
        layers = {"match_layer": 2, "synth_layer": 2}
        spec = PartSpec("encoder", type_, config, weights, settings=layers)
        return find("encoder", type_).make(spec, Context("own", torch.device("cpu")))

    assert load("mini", SMALL.to_dict()).columns.pitch == 40
    with pytest.raises(KnnvcError, match="of preset 'own' does not fit its configuration"):
        load("mini", {**SMALL.to_dict(), "hidden": 64})
    with pytest.raises(KnnvcError, match="do not fit its configuration"):
        load("wavlm", {**COMMON, **PRE_NORM})
    with pytest.raises(KnnvcError, match="unknown mini encoder settings: depth"):
        load("mini", {"depth": 3})
    with pytest.raises(KnnvcError, match="unknown encoder type 'wavenet': valid types are mini"):
        load("wavenet", {})


@pytest.mark.parametrize("stride", [0.5, True, 0, 2**31, "2"])
def test_a_stride_is_a_whole_number(stride: object) -> None:
    from knnvc.encoders.wavlm import WavLMConfig

    with pytest.raises(ValueError, match="no whole number"):
        WavLMConfig.from_dict({"conv_stride": [5, 2, 2, 2, 2, 2, stride]})
