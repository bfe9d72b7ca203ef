"""Presets of published files: what an import computes, refuses, and leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from knnvc.errors import KnnvcError, UsageError
from knnvc.presets import importing
from knnvc.presets.download import REGISTRY, Progress, RemoteFile
from knnvc.presets.importing import add_published_front_end, import_published, pull
from knnvc.presets.schema import Preset, load_preset
from knnvc.presets.search import (
    PUBLISHED,
    downloads_folder,
    find_preset,
)
from knnvc.tensors import read_pickle, read_tensors, write_tensors
from knnvc.text.glow import GlowConfig, GlowTts
from knnvc.vocoders.hifigan import HifiGan, HifiGanConfig

Minimal = Callable[..., Path]
PARITY = Path(__file__).parents[1] / "assets" / "parity"
WAVLM = PARITY / "wavlm_tiny.pt"
HIFIGAN = PARITY / "hifigan_tiny.pt"
CONFIG = PARITY / "hifigan_tiny.json"
GLOW = (PARITY / "glow" / "glow_tts_ssl_tiny.pth", PARITY / "glow" / "config.json")

pytestmark = pytest.mark.usefixtures("own_places")


def import_tiny(out: Path, layer: int = 6, **options: Any) -> Preset:
    return import_published(WAVLM, layer, HIFIGAN, CONFIG, out, **options)


def sentence(error: KnnvcError) -> str:
    """Return the message in full, after making sure that it is one line."""
    assert str(error)
    assert "\n" not in str(error)
    return error.full


# Import -----------------------------------------------------------------------------------------


def test_imported_preset_computes_what_was_published(tmp_path: Path) -> None:
    from transformers import WavLMConfig, WavLMModel

    made = import_tiny(tmp_path / "new" / "tiny", licence="MIT", licences={"encoder": "MIT"})
    assert made == load_preset(tmp_path / "new" / "tiny")
    assert (made.name, made.sample_rate, made.licence) == ("tiny", 16_000, "MIT")
    assert made.defaults == {"k": 4, "weighting": "mean", "lam": 1.0}
    assert made.provenance["encoder"]["sha256"] == hashlib.sha256(WAVLM.read_bytes()).hexdigest()
    names = {path.name for path in made.folder.iterdir()}
    assert names == {"preset.json", "encoder.safetensors", "vocoder.safetensors"}

    expected = load_file(PARITY / "expected.safetensors")
    assert made.encoder.weights is not None
    model: Any = WavLMModel(WavLMConfig(**made.encoder.config))
    model.eval()
    model.load_state_dict(read_tensors(made.encoder.weights)[0], strict=True)
    assert (
        len(model.encoder.layers) == made.encoder.settings["match_layer"] == 6
    )  # the others never run
    raw = []
    model.encoder.layers[5].register_forward_hook(lambda _m, _a, output: raw.append(output[0][0]))
    config = HifiGanConfig.from_dict(made.vocoder.config)
    vocoder = HifiGan.from_state(config, read_tensors(made.vocoder.weights)[0])
    with torch.inference_mode():
        model(expected["waveform"][None])
        waveform = vocoder(expected["converted_features"][None])[0, 0]
    assert (raw[0] - expected["layer_6"]).abs().max() < 1e-5
    assert (waveform - expected["waveform_out"]).abs().max() < 1e-6


def test_import_refuses_what_is_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    import_tiny(out, layer=1)
    with pytest.raises(UsageError, match="--force"):
        import_tiny(out, layer=2)
    assert load_preset(out).encoder.settings["match_layer"] == 1
    assert import_tiny(out, layer=2, force=True, name="other").name == "other"
    assert load_preset(out).encoder.settings["match_layer"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]

    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="holds other files"):
        import_tiny(photos, force=True)
    with pytest.raises(UsageError, match="is a file"):
        import_tiny(photos / "holiday.jpg", force=True)
    assert [path.name for path in photos.iterdir()] == ["holiday.jpg"]
    (tmp_path / "empty").mkdir()
    assert import_tiny(tmp_path / "empty", layer=1).name == "empty"


@pytest.mark.parametrize("layer", [0, 9, -1, True])
def test_layer_must_exist(tmp_path: Path, layer: int) -> None:
    with pytest.raises(UsageError, match="layers 1 to 8"):
        import_tiny(tmp_path / "out", layer=layer)
    assert list(tmp_path.iterdir()) == []


def drop_tensor(content: dict[str, Any]) -> None:
    del content["model"]["encoder.layers.0.fc1.bias"]


def reshape_tensor(content: dict[str, Any]) -> None:
    content["model"]["encoder.layers.0.fc1.bias"] = torch.zeros(3)


def odd_heads(content: dict[str, Any]) -> None:
    content["cfg"]["encoder_attention_heads"] = 7


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_tensor, "intermediate_dense.bias is missing"),
        (reshape_tensor, "is [3] instead of [192]"),
        (odd_heads, "divisible"),
    ],
)
def test_encoder_that_does_not_fit_its_config(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = read_pickle(WAVLM)
    damage(content)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(KnnvcError) as caught:
        import_published(tmp_path / "bad.pt", 6, HIFIGAN, CONFIG, tmp_path / "new" / "out")
    assert words in sentence(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hifi_dim": 50}, "published together"),
        ({"upsample_rate": 1}, "unknown keys"),
        ({"upsample_rates": [10, 8, 2]}, "equally long"),
        ({"sampling_rate": 24000}, "20 ms"),
    ],
)
def test_vocoder_that_does_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = {**json.loads(CONFIG.read_text()), **change}
    with pytest.raises(KnnvcError) as caught:
        import_published(WAVLM, 6, HIFIGAN, config, tmp_path / "out")
    assert words in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_vocoder_of_another_encoder(tmp_path: Path) -> None:
    config = HifiGanConfig.from_dict({**json.loads(CONFIG.read_text()), "hubert_dim": 100})
    torch.save({"generator": HifiGan(config).state_dict()}, tmp_path / "g.pt")
    with pytest.raises(KnnvcError, match="100 columns and the encoder gives 96"):
        import_published(WAVLM, 6, tmp_path / "g.pt", config.to_dict(), tmp_path / "out")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_failed_import_leaves_nothing_half_written(
    minimal: Minimal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existing: bool,
    error: BaseException,
) -> None:
    out = tmp_path / "new" / "tiny"
    if existing:
        minimal(out)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    write = write_tensors

    def fail_at_the_second(path: Path, *args: Any, **options: Any) -> None:
        if path.name == "vocoder.safetensors":
            raise error
        write(path, *args, **options)

    monkeypatch.setattr(importing, "write_tensors", fail_at_the_second)
    expected = KnnvcError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        import_tiny(out, force=True)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    if expected is KnnvcError:
        assert "the disk is full" in sentence(caught.value)
    if existing:
        assert load_preset(out).encoder.type == "mini"


def test_old_preset_comes_back_when_the_swap_fails(
    minimal: Minimal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = minimal(tmp_path / "tiny")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KnnvcError, match="permission"):
        import_tiny(out, force=True)
    assert load_preset(out).encoder.type == "mini"
    assert list(tmp_path.iterdir()) == [out]


# Pull -------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `wavlm-large` mean the parity files, at an address where nobody answers."""
    config = json.loads(CONFIG.read_text())
    known = PUBLISHED["wavlm-large"]
    monkeypatch.setitem(PUBLISHED, known.name, replace(known, vocoder_config=config))
    assert known.text_front_end is not None
    frontend = zip(known.text_front_end, GLOW, strict=True)
    for name, path in ((known.encoder, WAVLM), (known.vocoder, HIFIGAN), *frontend):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        remote = RemoteFile(name, "http://127.0.0.1:9/" + name, len(content), digest, "MIT")
        monkeypatch.setitem(REGISTRY, name, remote)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.usefixtures("tiny_release")
def test_pull_uses_files_put_there_by_hand() -> None:
    with pytest.raises(KnnvcError) as caught:
        pull("wavlm-large")
    message = sentence(caught.value)
    assert str(downloads_folder() / "WavLM-Large.pt") in message
    downloads_folder().mkdir(parents=True, exist_ok=True)
    (downloads_folder() / "WavLM-Large.pt").write_bytes(WAVLM.read_bytes())
    (downloads_folder() / "prematch_g_02500000.pt").write_bytes(HIFIGAN.read_bytes())
    pulled = pull("wavlm-large")
    assert pulled.name == "wavlm-large"
    assert pulled.licence == "MIT"
    assert find_preset("wavlm-large") == pulled
    (downloads_folder() / "WavLM-Large.pt").unlink()
    assert pull("wavlm-large") == pulled  # it is there: nothing is fetched


@pytest.mark.usefixtures("tiny_release")
def test_pull_downloads_and_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"WavLM-Large.pt": WAVLM, "prematch_g_02500000.pt": HIFIGAN}
    sources |= dict(zip(PUBLISHED["wavlm-large"].text_front_end or (), GLOW, strict=True))
    reports = []

    def fake(remote: RemoteFile, folder: Path, *, progress: Progress | None) -> Path:
        assert progress is not None
        assert folder == downloads_folder()
        progress(1, 2)
        return sources[remote.name]

    monkeypatch.setattr(importing, "download", fake)
    pulled = pull("wavlm-large", progress=lambda *report: reports.append(report))
    assert reports == [(name, 1, 2) for name in sources]
    assert pulled.text_front_end is not None
    assert pulled.text_front_end.type == "glow-tts"
    assert pulled.text_front_end.settings["language"] == "en-us"
    assert pulled.licences["text front end"] == "MIT (idiap/kNN-TTS)"
    state, _ = read_tensors(pulled.folder / "text_front_end.safetensors")
    network = GlowTts(GlowConfig.from_dict(pulled.text_front_end.config))
    network.load_state_dict(state)
    original = GlowTts.from_checkpoint(GLOW[1], GLOW[0])
    spoken = [model.eval().features("həlˈoʊ", noise=0.0) for model in (network, original)]
    assert torch.equal(*spoken)


@pytest.mark.usefixtures("tiny_release")
def test_a_text_front_end_that_is_out_of_reach_does_not_stop_the_conversion() -> None:
    downloads_folder().mkdir(parents=True, exist_ok=True)
    known = PUBLISHED["wavlm-large"]
    for name, path in ((known.encoder, WAVLM), (known.vocoder, HIFIGAN)):
        (downloads_folder() / name).write_bytes(path.read_bytes())
    problems: list[str] = []
    assert pull("wavlm-large", warn=problems.append).text_front_end is None
    assert len(problems) == 1
    assert "best_model_646135.pth" in problems[0]
    assert find_preset("wavlm-large").text_front_end is None
    # Put there by hand, it is added to what is there already.
    for name, path in zip(known.text_front_end or (), GLOW, strict=True):
        (downloads_folder() / name).write_bytes(path.read_bytes())
    assert pull("wavlm-large", warn=problems.append).text_front_end is not None
    assert len(problems) == 1


def test_a_front_end_for_another_encoder_is_refused(tmp_path: Path) -> None:
    made = import_tiny(tmp_path / "p")
    made.encoder.config["hidden_size"] = 64
    with pytest.raises(KnnvcError, match="96 columns and the encoder of p gives 64"):
        add_published_front_end(made, *GLOW)
    assert load_preset(made.folder).text_front_end is None


def test_only_known_presets_can_be_pulled(minimal: Minimal, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose from wavlm-large"):
        pull("nothing")
    bundled = minimal(tmp_path / "bundled" / "mini")
    assert pull("mini").folder == bundled


def test_published_config_is_the_published_one() -> None:
    assert HifiGanConfig.from_dict(PUBLISHED["wavlm-large"].vocoder_config) == HifiGanConfig()
    for known in PUBLISHED.values():
        assert {known.encoder, known.vocoder} <= set(REGISTRY)


def test_a_file_name_that_is_no_utf8_is_written_readably(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"w\xff.pt")
    odd.write_bytes(WAVLM.read_bytes())
    made = import_published(odd, 6, HIFIGAN, CONFIG, tmp_path / "out")
    assert made.provenance["encoder"]["file"] == "w?.pt"
    assert load_preset(tmp_path / "out") == made
