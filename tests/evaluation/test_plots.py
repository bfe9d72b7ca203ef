"""Plots and probes: the pictures are pictures, and show what the search found."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from knnvc import VoiceConverter
from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.cli.main import cli
from knnvc.converters.knn import Index
from knnvc.encoders.chunked import HOP, ChunkedEncoder
from knnvc.encoders.ssl import load_every_layer
from knnvc.errors import KnnvcError
from knnvc.evaluation.cloud import write_cloud
from knnvc.evaluation.plots import MOST_BINS, links_between, matching, project, same_phone
from knnvc.evaluation.probe import SILENCE, UNKNOWN, Spoken, layer_outputs, probe
from knnvc.evaluation.vectors import of_features, of_set, principal_components
from knnvc.extras import need
from knnvc.mini.converter import MiniConverter
from knnvc.mini.encoder import MiniEncoder
from knnvc.text.phones import STATES

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
SOURCE = EXAMPLES / "source.wav"
TARGETS = sorted((EXAMPLES / "target").glob("*.flac"))[:3]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def pixels(path: Path) -> np.ndarray:
    """[height, width, 4] of a PNG, checked to be of some size and to show something."""
    found: np.ndarray = need("matplotlib.image").imread(path)
    assert found.shape[0] > 500
    assert found.shape[1] > 1000
    assert found[..., :3].std() > 0.05
    return found


# Plots --------------------------------------------------------------------------------------------


def test_principal_components_agree_with_scikit_learn() -> None:
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(2)) * torch.arange(1, 7)
    found, shares = principal_components(vectors)
    other = need("sklearn.decomposition").PCA(3, svd_solver="full")
    theirs = other.fit_transform(vectors.numpy())
    assert shares.numpy() == pytest.approx(other.explained_variance_ratio_, rel=1e-4)
    assert np.abs(found.numpy()) == pytest.approx(np.abs(theirs), abs=1e-3)
    largest = found.abs().argmax(0)
    assert (found[largest, torch.arange(3)] > 0).all()


def test_frames_of_two_speakers(tmp_path: Path) -> None:
    picture = tmp_path / "pictures/frames.png"
    output = run(
        *("plot", "frames", SOURCE, TARGETS[0], "-o", picture, "--frames", 100, "--link", 7)
    )
    caption, *paths = output.splitlines()
    assert paths == [str(picture), str(picture.with_suffix(".html"))]
    assert "Look whether the two colours lie in each other" in caption
    assert re.search(r"(\d+) % have a nearest frame of the second with the same phone", caption)
    pixels(picture)
    page = picture.with_suffix(".html").read_text()
    assert len(page) < 1_000_000
    assert caption in page
    assert not re.search(r"(src|href)=", page)  # it needs no network
    told = re.search(r'id="scatter3d">(.*?)</script>', page)
    assert told is not None
    data = json.loads(told[1])
    assert [one["name"] for one in data["clouds"]] == ["source", TARGETS[0].stem]
    assert [len(one["points"]) for one in data["clouds"]] == [300, 300]
    reach = max(abs(value) for one in data["clouds"] for value in one["points"])
    assert reach == data["steps"]  # it fills its frame, and nothing lies outside
    assert len(data["links"]) == 7
    assert all(0 <= row < 100 for link in data["links"] for row in link)


def test_names_and_captions_cannot_break_the_page(tmp_path: Path) -> None:
    points = {"</script><b>": np.ones((2, 3), np.float32)}
    path = write_cloud(points, "xyz", "a < b", "c & d", [], tmp_path / "a.html", force=False)
    page = path.read_text()
    assert "</script><b>" not in page
    assert "a &lt; b" in page


def test_the_share_of_same_phones_is_that_of_the_search(mini: VoiceConverter) -> None:
    voices = {path.stem: mini.matching_set(path) for path in TARGETS[:2]}
    found = same_phone(mini, voices)
    assert found is not None
    one, other = voices.values()
    columns, named = mini.encoder.columns, mini.encoder.network.named_columns["posteriors"]  # type: ignore[attr-defined]
    phones = []
    for voice in (one, other):
        told = voice.match[:, named.start - columns.match.start :][:, :STATES]
        phones.append(
            [0 if state == 0 else 1 + (state - 1) // 3 for state in told.argmax(1).tolist()]
        )
    near = (of_set(mini, one) @ of_set(mini, other).T).argmax(1).tolist()
    said = [(p, phones[1][n]) for p, n in zip(phones[0], near, strict=True) if p]
    assert found.value == pytest.approx(np.mean([a == b for a, b in said]), abs=0.01)
    assert found.chance < found.value
    # A voice compared with itself agrees always.
    same = same_phone(mini, {"a": one, "b": one})
    assert same is not None
    assert same.value == 1.0


def test_presets_that_hear_no_phones_give_no_share(tiny: VoiceConverter) -> None:
    voices = {path.stem: tiny.matching_set(path) for path in TARGETS[:2]}
    assert same_phone(tiny, voices) is None


def test_links_join_nearest_frames(mini: VoiceConverter) -> None:
    voices = {path.stem: mini.matching_set(path) for path in TARGETS[:2]}
    found = project(mini, voices, most=60)
    links = links_between(mini, voices, found, 10)
    assert len(links) == 10
    one, other = (of_set(mini, voice)[found.rows[name]] for name, voice in voices.items())
    for row, nearest in links:
        assert one[row] @ other[nearest] == pytest.approx(
            float((one[row] @ other.T).max()), abs=1e-5
        )


def test_a_projection_is_drawn_by_its_seed(mini: VoiceConverter) -> None:
    voices = {path.stem: mini.matching_set(path) for path in TARGETS[:2]}
    found, same = (project(mini, voices, most=50) for _ in range(2))
    other = project(mini, voices, most=50, seed=1)
    for name in voices:
        assert found.points[name].shape == (50, 3)
        assert np.array_equal(found.points[name], same.points[name])
        assert not np.array_equal(found.points[name], other.points[name])
    assert re.fullmatch(r"component 1 \(\d+ %\)", found.axes[0])


def test_umap_is_asked_for_three_dimensions(
    mini: VoiceConverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for UMAP itself, which compiles for a minute when first used."""
    asked: dict[str, object] = {}

    class Reducer:
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
            return vectors[:, :3].astype(np.float64)

    package = SimpleNamespace(UMAP=Reducer)
    monkeypatch.setattr("knnvc.evaluation.plots.need", {"umap": package}.__getitem__)
    voices = {path.stem: mini.matching_set(path) for path in TARGETS[:2]}
    found = project(mini, voices, "umap", most=40, seed=5)
    assert asked == {"n_components": 3, "metric": "cosine", "random_state": 5}
    shapes = {name: points.shape for name, points in found.points.items()}
    assert shapes == dict.fromkeys(voices, (40, 3))


def test_the_vectors_drawn_are_those_compared(mini: VoiceConverter, preset: Path) -> None:
    """What is found in them is what the converter selects, with an acoustic space and without."""
    for converter in (mini, VoiceConverter.from_preset(preset, "cpu")):
        voice = converter.matching_set(TARGETS)
        features = converter.encode((load_audio(SOURCE)[: 2 * SAMPLE_RATE], SAMPLE_RATE))
        _, nearest = Index(of_set(converter, voice)).search(of_features(converter, features), 1)
        rule = converter.converter
        if isinstance(rule, MiniConverter):  # without unit selection, refiner and following
            rule = MiniConverter(rule.config, rule.encoder, prior=rule.space.prior)
            rule.space.options = replace(rule.space.options, candidates=1, pitch_smoothing=0.0)
            rule.space.finish = lambda selected, *_: selected  # type: ignore[method-assign]
        plain = VoiceConverter(converter.encoder, rule, converter.vocoder)
        selected = plain.match(features, voice, k=1, lam=1.0).values
        assert torch.allclose(selected, voice.synth[nearest[:, 0]])


def test_the_heat_map_holds_the_chosen_distances(mini: VoiceConverter) -> None:
    voice = mini.matching_set(TARGETS)
    features = mini.encode((load_audio(SOURCE)[: 2 * SAMPLE_RATE], SAMPLE_RATE))
    found = matching(mini, features, voice, k=3)
    assert found.distances.shape == (MOST_BINS, len(features))
    assert found.neighbours.shape == found.chosen.shape == (len(features), 3)
    # The nearest of all stretches is the nearest neighbour, and lies in its stretch.
    assert found.distances.min(0) == pytest.approx(found.chosen.min(1), abs=1e-5)
    sizes = [len(one) for one in torch.tensor_split(torch.arange(found.frames), MOST_BINS)]
    stretch = np.repeat(np.arange(MOST_BINS), sizes)[found.neighbours[:, 0]]
    at = found.distances[stretch, np.arange(len(features))]
    assert at == pytest.approx(found.chosen[:, 0], abs=1e-5)


def test_pictures_of_a_conversion(tmp_path: Path) -> None:
    for kind in ("matching", "spectrograms"):
        picture = tmp_path / f"{kind}.png"
        run("plot", kind, SOURCE, "--ref", TARGETS[0], "-o", picture)
        pixels(picture)
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".png") == []


def test_spectrograms_with_a_saved_set(mini: VoiceConverter, tmp_path: Path) -> None:
    mini.matching_set(TARGETS[0]).save(tmp_path / "voice.safetensors")
    picture = tmp_path / "set.png"
    run("plot", "spectrograms", SOURCE, "--ref", tmp_path / "voice.safetensors", "-o", picture)
    pixels(picture)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["frames", "none", "none"], "the reference none does not exist"),
        (["frames", "talk.wav", "talk.wav", "--frames", "0"], "--frames is 0"),
        (["frames", "talk.wav", "talk.wav", "-o", "a.pdf"], "end it in .png"),
        (["frames", "talk.wav", "talk.wav", "-o", "there.png"], "there.html exists"),
        (["matching", "talk.wav", "--ref", "talk.wav", "--k", "0"], "--k is 0"),
        (["matching", "none.wav", "--ref", "talk.wav"], "the source none.wav does not exist"),
        (["spectrograms", "talk.wav", "--ref", "talk.wav", "--lam", "3"], "--lam is 3"),
    ],
)
def test_one_sentence_about_a_wrong_plot(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_audio(Path("talk.wav"), torch.zeros(SAMPLE_RATE), SAMPLE_RATE)
    Path("there.html").touch()
    result = CliRunner().invoke(cli, ["plot", *arguments])
    assert result.exit_code == 2
    assert reason in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.wav", "there.html"]


# Probes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken(mini: VoiceConverter) -> list[Spoken]:
    """Real speech of two speakers, labelled with what `mini` itself hears in it."""
    waves = {"reader": load_audio(SOURCE), "allison": load_audio(TARGETS[0])[: 7 * SAMPLE_RATE]}
    found = []
    for speaker, wave in waves.items():
        for number, piece in enumerate(wave.tensor_split(3)):
            said = mini.encode((piece, SAMPLE_RATE))[:, mini.encoder.columns.match][
                :, 2 : 2 + STATES
            ]
            states = said.argmax(1).numpy()
            phones = np.where(states > 0, 1 + (states - 1) // 3, SILENCE)
            found.append(Spoken(f"{number}", speaker, piece.numpy(), phones))
    return found


def test_probe_finds_what_is_there(mini: VoiceConverter, spoken: list[Spoken]) -> None:
    """Labelled by posteriors, these agree best; voice, pitch and level are in the spectra."""
    stages: list[str] = []
    found = probe(spoken, mini.encoder, mini, progress=lambda stage, *_: stages.append(stage))
    scores = {one.layer: one for one in found.layers}
    assert isinstance(mini.encoder, MiniEncoder)
    depth = mini.encoder.network.config.layers
    others = ["log-mel", "posteriors", "content", "compared"]
    assert list(scores) == [*(f"layer {n}" for n in range(depth + 1)), *others]
    assert set(stages) == {"encoding", "probing"}
    assert (found.speakers, found.utterances) == (["allison", "reader"], 6)
    for one in found.layers:
        for share in (one.phone, one.speaker):
            assert 0 <= share.low <= share.value <= share.high <= 1
    phone = {name: one.phone.value for name, one in scores.items()}
    assert phone["posteriors"] == max(phone.values())
    assert phone["posteriors"] > phone[f"layer {depth}"] > phone["log-mel"] > found.phone_chance
    assert scores["log-mel"].speaker.value > 0.8
    assert scores["log-mel"].speaker.value > scores["posteriors"].speaker.value
    assert scores["log-mel"].energy > 0.8
    assert scores["layer 2"].pitch is not None
    assert scores["layer 2"].pitch > 0.4
    assert (scores["log-mel"].dim, scores["posteriors"].dim) == (160, STATES)


def test_probe_of_labels_that_mean_nothing(mini: VoiceConverter, spoken: list[Spoken]) -> None:
    rng = np.random.default_rng(0)
    shuffled = [
        Spoken(one.name, one.speaker, one.wave, rng.permutation(one.phones)) for one in spoken
    ]
    found = probe(shuffled, mini.encoder)
    assert all(one.phone.value < 0.25 for one in found.layers)
    assert found.phone_chance < 0.25


def test_probe_needs_speakers_to_compare(mini: VoiceConverter, spoken: list[Spoken]) -> None:
    for few in (spoken[:3], spoken[:4]):
        with pytest.raises(KnnvcError, match="two speakers with two utterances each"):
            probe(few, mini.encoder)


def test_every_layer_of_a_transformers_checkpoint(tmp_path: Path) -> None:
    """The outputs are those that transformers itself gives before its last layer norm."""
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    model = WavLMModel(
        WavLMConfig(
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
        )
    ).eval()
    model.save_pretrained(tmp_path / "wavlm")
    encoder = ChunkedEncoder(load_every_layer(tmp_path / "wavlm"))
    wave = load_audio(SOURCE)[:SAMPLE_RATE]
    found = layer_outputs(encoder, wave)
    depth = len(model.encoder.layers)
    assert list(found) == [*(f"layer {n}" for n in range(depth + 1)), "features"]
    with torch.inference_mode():
        hidden = model(wave[None], output_hidden_states=True).hidden_states
    for n in range(depth):  # the last one transformers has normalised
        assert torch.allclose(found[f"layer {n}"], hidden[n][0], atol=1e-4)
    assert torch.equal(found[f"layer {depth}"], found["features"])


def corpus(folder: Path, speakers: dict[str, int]) -> Path:
    """Real recordings with made-up alignments, in the recipe's format."""
    lines = []
    for speaker, count in speakers.items():
        for number in range(count):
            wave = load_audio(SOURCE)[number * SAMPLE_RATE :][: SAMPLE_RATE + 5 * HOP]
            name = f"{speaker}/{number}.flac"
            write_audio(folder / name, wave, SAMPLE_RATE)
            phones = {"phones": ["a", "s", "a", "t"], "durations": [2, 10, 10, 12, 8, 2]}
            lines.append({"file": name, "speaker": speaker, "seconds": 1.1, **phones})
    (folder / "alignments-0.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def test_probe_of_a_tiny_corpus(tmp_path: Path, preset: Path) -> None:
    where = corpus(tmp_path / "corpus", {"af_nova": 3, "am_puck": 2, "high": 2})
    output = run("probe", "--corpus", where, "--preset", preset, "-o", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["speakers"] == ["af_nova", "am_puck"]  # those held out
    assert found["utterances"] == 5
    assert found["settings"]["seed"] == 0
    names = [one["layer"] for one in found["layers"]]
    assert names == [f"layer {n}" for n in range(7)]
    for name, one in zip(names, found["layers"], strict=True):
        assert re.search(rf"{name} +\d+ +{100 * one['phone']['value']:.1f}", output)
    pixels(tmp_path / "found.png")


def test_one_sentence_about_a_wrong_probe(tmp_path: Path) -> None:
    where = corpus(tmp_path / "corpus", {"high": 2, "low": 2})
    for arguments, code, reason in (
        (["--corpus", "none"], 2, "the corpus none does not exist"),
        (["--corpus", where, "-o", tmp_path / "a.txt"], 2, "end it in .json"),
        (["--corpus", where, "--most", "1"], 2, "2 --most speakers"),
        (["--corpus", where, "-o", tmp_path / "a.json"], 1, "or probe with --speakers all"),
    ):
        result = CliRunner().invoke(cli, ["probe", *map(str, arguments)])
        assert result.exit_code == code
        assert reason in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_unknown_frames_are_not_counted(mini: VoiceConverter, spoken: list[Spoken]) -> None:
    hidden = [
        Spoken(one.name, one.speaker, one.wave, np.where(one.phones == SILENCE, SILENCE, UNKNOWN))
        for one in spoken
    ]
    with pytest.raises(KnnvcError, match="no speech"):
        probe(hidden, mini.encoder)
