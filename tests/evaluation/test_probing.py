"""Probing: heads find what was planted in a layer, and nothing where there is nothing."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from knnvc import VoiceConverter
from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.cli.main import cli
from knnvc.encoders.chunked import ChunkedEncoder
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation import hear
from knnvc.evaluation.probing.base import (
    CLASSIFY,
    EVENTS,
    MIXTURE,
    OWN,
    QUERY,
    RECOGNISE,
    REGRESS,
    TEST,
    TRAIN,
    VALID,
    VERIFY,
    Event,
    Example,
    Places,
    Result,
    Task,
    dealt,
)
from knnvc.evaluation.probing.custom import read_task
from knnvc.evaluation.probing.events import onset_counts
from knnvc.evaluation.probing.kinds import collapsed, edits, verification
from knnvc.evaluation.probing.layers import FEATURES, Hearing, every_layer
from knnvc.evaluation.probing.queries import subsequence_costs
from knnvc.evaluation.probing.run import TASKS, Options, choose_tasks, probe_task, read_results
from knnvc.evaluation.statistics import equal_error_rate
from knnvc.extras import need

SOURCE = Path(__file__).parents[2] / "examples" / "audio" / "source.wav"
HOP = 320


class Planted(Hearing):
    """Layers that are known: "layer 1" is a spectrum, "layer 0" and "layer 2" are noise."""

    def __init__(self) -> None:
        self.name, self.sample_rate, self.hop = "planted", SAMPLE_RATE, HOP
        self.heard = 0

    def layers(self, wave: Tensor) -> dict[str, Tensor]:
        self.heard += 1
        count = max(1, len(wave) // HOP)
        blocks = torch.nn.functional.pad(wave, (0, HOP))[: count * HOP].reshape(count, HOP)
        spectra = (torch.fft.rfft(blocks).abs()[:, :40] + 1.0).log()
        generator = torch.Generator().manual_seed(len(wave) + self.heard)
        noise = [torch.randn(count, 40, generator=generator) for _ in range(2)]
        return {"layer 0": noise[0], "layer 1": spectra, "layer 2": noise[1]}


def tone(hertz: float, seconds: float = 0.4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = 0.3 * np.sin(2 * np.pi * hertz * at + rng.uniform(0, 6))
    return (sound + 0.01 * rng.standard_normal(len(at))).astype(np.float32)


def a_task(kind: str, make: Callable[[int], list[Example]], hidden: int = 0) -> Task:
    return Task("planted", OWN, kind, "", "", "", lambda _, seed: make(seed), hidden)


def probed(task: Task, seeds: int = 1) -> dict[str, float]:
    found = probe_task(task, Planted(), Places(), Options(seeds=seeds))
    scores = {}
    for one in found.scores:
        assert one.score is not None
        assert one.score.low <= one.score.value <= one.score.high
        scores[one.layer] = one.score.value
    if found.mixture is not None:
        shares = [one.weight for one in found.scores if one.weight is not None]
        assert sum(shares) == pytest.approx(1.0)
        best = max((one for one in found.scores if one.weight), key=lambda one: one.weight or 0.0)
        assert best.layer == "layer 1"
    return scores


def parts(number: int) -> str:
    return (TRAIN, TRAIN, TRAIN, VALID, TEST)[number % 5]


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_label_is_read_where_it_is(hidden: int) -> None:
    def make(seed: int) -> list[Example]:
        return [
            Example(
                f"{n}", (tone(300 + 400 * (n % 3), seed=n), SAMPLE_RATE), f"{n % 3}", parts(n // 3)
            )
            for n in range(150)
        ]

    scores = probed(a_task(CLASSIFY, make, hidden))
    assert scores["layer 1"] == scores[MIXTURE] == 1.0
    assert scores["layer 0"] < 0.8


def test_a_value_is_read_where_it_is() -> None:
    def loudness(one: Example) -> np.ndarray:
        wave = one.wave(SAMPLE_RATE).numpy()
        blocks = wave[: len(wave) // HOP * HOP].reshape(-1, HOP)
        return np.log(np.square(blocks).mean(1)).astype(np.float32)

    def make(seed: int) -> list[Example]:
        rng = np.random.default_rng(1)
        return [
            Example(
                f"{n}", (tone(500, seed=n) * rng.uniform(0.05, 1), SAMPLE_RATE), loudness, parts(n)
            )
            for n in range(40)
        ]

    scores = probed(a_task(REGRESS, make))
    assert scores["layer 1"] > 0.8
    assert abs(scores["layer 0"]) < 0.3


def test_a_sequence_is_read_where_it_is() -> None:
    units = {"a": 300.0, "b": 700.0, "c": 1200.0}

    def make(seed: int) -> list[Example]:
        rng = np.random.default_rng(2)
        made = []
        for n in range(40):
            said = tuple(rng.choice(list(units), 4))
            silence = np.zeros(2 * HOP, np.float32)
            pieces = [np.r_[tone(units[u], 0.12, n), silence] for u in said]
            made.append(Example(f"{n}", (np.concatenate(pieces), SAMPLE_RATE), said, parts(n)))
        return made

    scores = probed(a_task(RECOGNISE, make))
    assert scores["layer 1"] < 0.1
    assert scores[MIXTURE] < 0.15
    assert scores["layer 0"] > 0.5


def test_onsets_are_heard_where_they_are() -> None:
    notes = {"low": 300.0, "high": 900.0}

    def make(seed: int) -> list[Example]:
        rng = np.random.default_rng(3)
        made = []
        for n in range(20):
            wave, events, at = np.zeros(2 * SAMPLE_RATE, np.float32), [], 0.1
            while at < 1.6:
                name = str(rng.choice(list(notes)))
                sound = tone(notes[name], 0.2, n)
                wave[round(at * SAMPLE_RATE) :][: len(sound)] = sound
                events.append(Event(at, at + 0.2, name))
                at += float(rng.choice([0.3, 0.4]))
            made.append(Example(f"{n}", (wave, SAMPLE_RATE), tuple(events), parts(n)))
        return made

    scores = probed(a_task(EVENTS, make))
    assert scores["layer 1"] > 0.9
    assert scores["layer 0"] < 0.6


def test_speakers_are_told_apart_who_were_not_learnt() -> None:
    def make(seed: int) -> list[Example]:
        made = []
        for speaker in range(8):
            for n in range(6):
                rng = np.random.default_rng(100 * speaker + n)
                sound = tone(350 + 180 * speaker, seed=n) + 0.2 * tone(
                    rng.uniform(200, 1800), seed=n
                )
                part = TEST if speaker % 2 else TRAIN
                made.append(Example(f"{speaker}/{n}", (sound, SAMPLE_RATE), f"{speaker}", part))
        return made

    scores = probed(a_task(VERIFY, make))
    assert scores["layer 1"] < 0.2
    assert scores["layer 0"] > 0.3


def test_a_spoken_word_is_found() -> None:
    words = {"rise": (300.0, 900.0, 1500.0), "fall": (1500.0, 900.0, 300.0), "flat": (600.0,) * 3}

    def make(seed: int) -> list[Example]:
        made = []
        for n in range(24):
            word = list(words)[n % 3]
            pieces = [tone(hertz, 0.1, n) for hertz in words[word]]
            around = [tone(2500 + 50 * n, 0.1, n), *pieces, tone(2500 + 60 * n, 0.1, n)]
            audio = np.concatenate(around if n >= 6 else pieces)
            made.append(Example(f"{n}", (audio, SAMPLE_RATE), word, TRAIN if n < 6 else TEST))
        return made

    scores = probed(a_task(QUERY, make))
    assert scores["layer 1"] > 0.95
    assert scores["layer 0"] < 0.5
    assert MIXTURE not in scores


def test_subsequence_costs_are_those_of_librosa() -> None:
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    query = unit(torch.randn(9, 5, generator=generator), dim=1)
    documents = [unit(torch.randn(n, 5, generator=generator), dim=1) for n in (7, 20, 13)]
    found = subsequence_costs(query, documents)
    for one, cost in zip(documents, found, strict=True):
        table = need("librosa").sequence.dtw(
            C=(1 - query @ one.T).numpy(), subseq=True, backtrack=False
        )
        assert cost == pytest.approx(table[-1].min() / len(query), abs=1e-5)


def test_onsets_are_matched_as_well_as_can_be() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        true, heard = (
            [Event(float(t), float(t) + 0.1, "x") for t in rng.uniform(0, 0.4, rng.integers(1, 5))]
            for _ in range(2)
        )
        best = 0
        for size in range(min(len(true), len(heard)) + 1):
            for ours in itertools.permutations(range(len(heard)), size):
                for theirs in itertools.combinations(range(len(true)), size):
                    near = all(
                        abs(heard[i].start - true[j].start) <= 0.05
                        for i, j in zip(ours, theirs, strict=True)
                    )
                    best = size if near else best
        hits, wrong, missed = onset_counts(true, heard)
        assert (hits, wrong, missed) == (best, len(heard) - best, len(true) - best)


def test_units_are_counted() -> None:
    assert collapsed([0, 1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2]
    assert edits(["a", "b", "c"], ["a", "c"]) == 1
    assert edits(["aː", "b"], ["b", "aː"]) == 2
    assert edits(["a"], []) == 1
    assert edits([], ["a", "b"]) == 2


def test_verification_is_the_equal_error_rate_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    voices = ["a"] * 3 + ["b"] * 3 + ["c"] * 2
    vectors = rng.standard_normal((8, 4)) + np.repeat(rng.standard_normal((3, 4)), (3, 3, 2), 0)
    scores = vectors @ vectors.T
    same, other = [], []
    for i, j in itertools.combinations(range(8), 2):
        (same if voices[i] == voices[j] else other).append(scores[i, j])
    found = verification(scores, voices, 0)
    assert found is not None
    assert found.value == pytest.approx(equal_error_rate(same, other))
    with pytest.raises(KnnvcError, match="two test speakers"):
        verification(scores[:3, :3], voices[:3], 0)


def test_parts_are_never_empty() -> None:
    for count in range(3, 30):
        found = dealt([str(n) for n in range(count)], seed=count)
        assert set(found) == {TRAIN, VALID, TEST}
        assert found.count(TRAIN) >= found.count(VALID)
    names = [str(n) for n in range(20)]
    assert dealt(names, 1) == dealt(names, 1) != dealt(names, 2)


# Layers of real encoders --------------------------------------------------------------------------


def test_layers_of_long_audio_are_put_together(tiny: VoiceConverter) -> None:
    """Heard in pieces, the layer that is matched in equals the features, frame by frame."""
    network = tiny.encoder.network  # type: ignore[attr-defined]
    encoder = ChunkedEncoder(network, chunk_seconds=0.5, context_seconds=0.1)
    wave = load_audio(SOURCE)[: 2 * SAMPLE_RATE]
    found = every_layer(encoder, wave)
    last = f"layer {len(network.stack)}"
    assert torch.allclose(found[last], found[FEATURES], atol=1e-5)
    assert {len(values) for values in found.values()} == {encoder.frames(len(wave))}
    whole = every_layer(ChunkedEncoder(network), wave)
    assert not torch.equal(whole[last], found[last])


def test_an_encoder_without_layers_gives_its_features() -> None:
    class Spectra:
        sample_rate, hop = SAMPLE_RATE, HOP

        def encode(self, wave: Tensor) -> Tensor:
            return Planted().layers(wave)["layer 1"]

    hearing = Hearing(Spectra(), "spectra")  # type: ignore[arg-type]
    wave = torch.from_numpy(tone(400))
    assert list(hearing.layers(wave)) == [FEATURES]
    assert hearing.times(2).tolist() == pytest.approx([0.01, 0.03])


# A task of one's own ------------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Recordings of two tones."""
    for n in range(20):
        wave = torch.from_numpy(tone(400 if n % 2 else 1200, seed=n))
        write_audio(tmp_path / f"{n}.flac", wave, SAMPLE_RATE)
    return tmp_path


def table(
    path: Path, head: str, rows: Iterator[tuple[object, ...]] | list[tuple[object, ...]]
) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head.split(","), *rows])
    return path


def test_the_columns_say_what_a_task_is(clips: Path) -> None:
    rows = [(f"{n}.flac", n % 2) for n in range(20)]
    task = read_task(table(clips / "sex.csv", "file,label", rows))
    assert (task.name, task.kind) == ("sex", CLASSIFY)
    one, other = (task.examples(Places(), seed) for seed in (0, 1))
    assert [e.part for e in one] != [e.part for e in other]
    for label in "01":
        assert {e.part for e in one if e.target == label} == {TRAIN, VALID, TEST}
    kinds = {
        "file,value": (REGRESS, [(f"{n}.flac", n) for n in range(20)]),
        "file,speaker": (VERIFY, [(f"{n}.flac", n // 4) for n in range(20)]),
        "file,units": (RECOGNISE, [(f"{n}.flac", "a b") for n in range(20)]),
        "file,text": (RECOGNISE, [(f"{n}.flac", "good day") for n in range(20)]),
        "file,label,start,end": (EVENTS, [(f"{n}.flac", "x", 0.1, 0.2) for n in range(20)]),
    }
    for head, (kind, lines) in kinds.items():
        assert read_task(table(clips / "one.csv", head, lines)).kind == kind
    speakers = read_task(table(clips / "one.csv", *("file,speaker", kinds["file,speaker"][1])))
    of: dict[str, set[str]] = {}
    for e in speakers.examples(Places(), 0):
        of.setdefault(e.target, set()).add(e.part)
    assert all(len(found) == 1 for found in of.values())  # nobody is in two parts


def test_events_of_a_file_are_one_example(clips: Path) -> None:
    rows = [("0.flac", "x", 0.1, 0.2), ("0.flac", "y", 0.2, 0.3), ("1.flac", "", "", "")]
    rows += [(f"{n}.flac", "x", 0, 0.1) for n in range(2, 6)]
    made = read_task(table(clips / "e.csv", "file,label,start,end", rows)).examples(Places(), 0)
    assert len(made) == 6
    assert made[0].target == (Event(0.1, 0.2, "x"), Event(0.2, 0.3, "y"))
    assert made[1].target == ()


def test_groups_stay_together(clips: Path) -> None:
    rows = [(f"{n}.flac", n % 2, n // 4) for n in range(20)]
    made = read_task(table(clips / "g.csv", "file,label,group", rows)).examples(Places(), 0)
    of: dict[str, set[str]] = {}
    for one in made:
        of.setdefault(one.group, set()).add(one.part)
    assert all(len(found) == 1 for found in of.values())


@pytest.mark.parametrize(
    ("head", "rows", "reason"),
    [
        ("file,what", [("0.flac", 1)], "a task needs file and label, value"),
        ("file,label", [("none.flac", 1)], "row 1: 'none.flac' does not exist"),
        ("file,label", [("0.flac", "")], "row 1: the label is missing"),
        ("file,label", [("0.flac", 1), ("0.flac", 1)], "is there twice"),
        ("file,label,part", [("0.flac", 1, "dev")], "give train, valid, test"),
        ("file,label,part", [("0.flac", 1, "test"), ("1.flac", 1, "")], "every row a part"),
        ("file,value", [("0.flac", "loud")], "a number is missing or wrong"),
        ("file,label,start,end", [("0.flac", "x", 0.3, 0.1)], "ends after it starts"),
        ("file,units", [("0.flac", "")], "there is nothing said"),
        ("file,label", [], "has no rows"),
    ],
)
def test_one_sentence_about_a_wrong_task(
    clips: Path, head: str, rows: list[tuple[object, ...]], reason: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        read_task(table(clips / "t.csv", head, rows))


def test_a_task_in_python(clips: Path) -> None:
    path = clips / "pairs.py"
    path.write_text(
        "from pathlib import Path\n"
        "from knnvc.evaluation.probing.base import Example, Task\n"
        "HERE = Path(__file__).parent\n"
        "def examples(places, seed):\n"
        "    parts = ['train'] * 12 + ['valid'] * 4 + ['test'] * 4\n"
        "    return [Example(f'{n}', HERE / f'{n}.flac', str(n % 2), part)\n"
        "            for n, part in enumerate(parts)]\n"
        "TASK = Task('pairs', 'own', 'classify', 'two tones', 'made up', '', examples)\n"
    )
    (task,) = choose_tasks([str(path)])
    assert probed(task)["layer 1"] == 1.0
    path.write_text("x = 1\n")
    with pytest.raises(UsageError, match="defines no TASK"):
        read_task(path)
    path.write_text("raise ValueError('no')\n")
    with pytest.raises(UsageError, match="cannot be run"):
        read_task(path)


# The command --------------------------------------------------------------------------------------


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_encoders_are_compared_and_a_run_goes_on(clips: Path, preset: Path, tmp_path: Path) -> None:
    rows = [(f"{n}.flac", n % 2) for n in range(20)]
    own = table(clips / "tones.csv", "file,label", rows)
    folder = tmp_path / "probes"
    asked = ["probe", "run", own, "--encoder", preset, "--seeds", 2, "-o", folder]
    output = run(*asked, "--format", "markdown")
    (path,) = folder.glob("results/*/tones.json")
    stamp = path.stat().st_mtime_ns
    found = json.loads(path.read_text())
    assert found["settings"]["seeds"] == 2
    assert found["counts"] == {"train": 12, "valid": 4, "test": 4}
    assert [one["layer"] for one in found["scores"]] == [*(f"layer {n}" for n in range(7)), MIXTURE]
    assert "tones, accuracy % ↑" in output
    assert (folder / "leaderboard.md").read_text() in output
    assert (folder / "layers.png").stat().st_size > 10_000
    run(*asked)
    assert path.stat().st_mtime_ns == stamp  # not measured again
    assert "was measured with another seeds" in run(*asked[:-3], 3, "-o", folder, code=2)
    # A second encoder joins the first on one board.
    other = found | {"encoder": "other"}
    another = folder / "results/other/tones.json"
    another.parent.mkdir()
    another.write_text(json.dumps(other))
    output = run("probe", "leaderboard", folder)
    assert "Leaderboard" in output
    assert len(read_results(folder)) == 2
    assert Result.from_dict({k: v for k, v in other.items() if k != "settings"}).mixture is not None
    another.write_text("{")
    assert "is damaged" in run("probe", "leaderboard", folder, code=1)


def test_tasks_are_listed() -> None:
    output = run("probe", "tasks")
    for task in TASKS.values():
        assert f"{task.name} ({task.benchmark}" in output
        assert task.deviations


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["unknown"], "there is no task 'unknown': choose among superb"),
        (["none.csv"], "the task none.csv does not exist"),
        (["keywords", "--speech", "none"], "name a folder of speech with --speech"),
        (["notes", "--soundfont", "none.sf2"], "none.sf2 does not exist"),
        (["keywords", "--encoder", "a", "--encoder", "a"], "named twice"),
        (["keywords", "--encoder", "hubert-bass"], "hubert-base"),
    ],
)
def test_one_sentence_about_a_wrong_run(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in run("probe", "run", *arguments, code=2)
    assert not list(tmp_path.iterdir())


# The tasks that come along ------------------------------------------------------------------------


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A folder of speech as the tasks read it, of noise."""
    rng = np.random.default_rng(0)

    def write(folder: Path, rows: list[tuple[str, str, float, str]]) -> None:
        for _, name, seconds, _ in rows:
            wave = 0.05 * rng.standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
            write_audio(folder / name, torch.from_numpy(wave), SAMPLE_RATE)
        table(folder / "manifest.csv", "speaker,file,seconds,text", list(rows))

    readers = [(f"r{n}", f"one/{n}.flac", 10.5, "") for n in range(6)]
    said = [("r9", f"many/{n}.flac", 4.5, "GOOD DAY TO YOU ALL") for n in range(22)]
    words = [
        ("x:unknown", f"words/{w}-{n}.flac", 0.4, w)
        for w, count in (("yes", 44), ("no", 41), ("oh yes", 12), ("rare", 3))
        for n in range(count)
    ]
    write(tmp_path / "train", [*readers, *said, *words])
    write(tmp_path / "eval", [(f"e{n % 3}", f"{n}.flac", 1.0, "a fine day") for n in range(9)])
    return tmp_path


def test_tasks_of_speech_keep_their_parts_apart(speech: Path) -> None:
    places = Places(speech)
    made = {
        name: TASKS[name].examples(places, 0)
        for name in ("phones", "keywords", "queries", "speakers", "verification", "pitch", "level")
    }
    for name, examples in made.items():
        if name != "queries":
            names = [one.name for one in examples]
            assert len(set(names)) == len(names)
    assert {one.target for one in made["keywords"]} == {"yes", "no", "other"}
    assert {one.part for one in made["phones"]} == {TRAIN, VALID, TEST}
    assert all(str(one.audio).startswith(str(speech / "eval")) for one in made["phones"]
               if one.part == TEST)  # fmt: skip
    assert made["phones"][0].target == made["phones"][1].target
    learnt = {one.target for one in made["verification"] if one.part == TRAIN}
    assert not learnt & {one.target for one in made["verification"] if one.part == TEST}
    asked = {one.target for one in made["queries"] if one.part == TRAIN}
    assert "yes" in asked
    phrase = next(one for one in made["queries"] if one.target == "oh yes")
    assert phrase.contains == ("oh", "yes")
    heard = {one.group for one in made["pitch"] if one.part == TRAIN}
    assert not heard & {one.group for one in made["pitch"] if one.part == TEST}
    assert [e.part for e in TASKS["keywords"].examples(places, 0)] == [
        e.part for e in made["keywords"]
    ]
    few = TASKS["keywords"].examples(Places(speech, most=30), 0)
    assert 20 < len(few) < 45


def test_targets_of_prosody() -> None:
    task = {name: TASKS[name] for name in ("pitch", "level")}
    assert {one.kind for one in task.values()} == {REGRESS}
    from knnvc.evaluation.probing.speech_tasks import level, log_pitch

    one = Example("a", (tone(200, 1.0), SAMPLE_RATE), None, TRAIN)
    pitch = log_pitch(one)
    assert np.nanmedian(pitch) == pytest.approx(np.log2(200), abs=0.02)
    assert np.median(level(one)) == pytest.approx(10 * np.log10(0.3**2 / 2), abs=0.5)


def test_sounds_by_kind(tmp_path: Path) -> None:
    for kind in ("drum", "bell", "odd"):
        for n in range(9 if kind != "odd" else 2):
            wave = torch.from_numpy(tone(300, 0.2, n))
            write_audio(tmp_path / f"{kind}_{n}.flac", wave, SAMPLE_RATE)
    made = TASKS["samples"].examples(Places(samples=tmp_path), 0)
    assert {one.target for one in made} == {"drum", "bell"}
    with pytest.raises(UsageError, match="--sounds"):
        TASKS["samples"].examples(Places(), 0)
    with pytest.raises(UsageError, match="--soundfont"):
        TASKS["notes"].examples(Places(), 0)


# HEAR ---------------------------------------------------------------------------------------------


def test_the_functions_of_hear(preset: Path) -> None:
    """What HEAR 2021's common interface asks for, and its own validator checks."""
    model = hear.load_model(str(preset))
    assert isinstance(model, torch.nn.Module)
    model.to("cpu")
    assert model.sample_rate in (16000, 22050, 44100, 48000)
    assert type(model.scene_embedding_size) is int
    assert type(model.timestamp_embedding_size) is int
    audio = 2 * torch.rand(3, 2 * model.sample_rate) - 1
    frames, times = hear.get_timestamp_embeddings(audio, model)
    assert frames.dtype == torch.float32
    assert frames.shape[:2] == times.shape
    assert frames.shape[2] == model.timestamp_embedding_size
    gaps = times.diff()
    assert gaps.numpy() == pytest.approx(20.0, abs=1e-2)  # milliseconds
    assert times[0, 0] == 10.0
    scenes = hear.get_scene_embeddings(audio, model)
    assert scenes.shape == (3, model.scene_embedding_size)
    assert torch.allclose(scenes, frames.mean(1))
    alone, _ = hear.get_timestamp_embeddings(audio[1:2], model)
    assert torch.allclose(alone[0], frames[1], atol=1e-5)


def test_hear_takes_a_layer(preset: Path) -> None:
    model = hear.load_model(model_file_path=f"{preset}@0")  # as the kit's --model-options do
    audio = torch.rand(1, SAMPLE_RATE)
    frames, _ = hear.get_timestamp_embeddings(audio, model)
    encoder = model.hearing.encoder
    assert torch.equal(frames[0], every_layer(encoder, audio[0])["layer 0"])
    with pytest.raises(UsageError, match="has no layer 99"):
        hear.load_model(f"{preset}@99")
    with pytest.raises(UsageError, match="sounds, samples"):
        hear.get_scene_embeddings(audio[0], model)
