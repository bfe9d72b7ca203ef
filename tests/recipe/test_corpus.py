"""Kokoro's corpus and its twins, spoken by a hum instead of the model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import recipe
from knnvc.audio.pitch import f0_track
from knnvc.errors import KnnvcError, UsageError
from knnvc.mini.encoder import PhoneEncoder
from recipe import kokoro, twins
from recipe.data import load_corpus, load_twins
from tiny import ENCODER, RATE


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
    monkeypatch.setattr(kokoro, "phonemize", lambda text, _language: text.lower())  # spells
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
    assert load_corpus(out, PhoneEncoder(ENCODER))
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
    network = PhoneEncoder(ENCODER)
    assert len(load_corpus(corpus, network)) == len(originals)
    for name, utterance in load_twins(corpus, network).items():
        assert utterance.speaker == made[name]["speaker"]


def test_new_voices_speak_and_join_the_corpus(spoken: tuple[kokoro.Ingredients, Path]) -> None:
    parts, corpus = spoken
    network = PhoneEncoder(ENCODER)
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
    with pytest.raises(KnnvcError, match=r"vocoder/mini\.py corpus"):
        twins.speak_twins(parts, corpus)


def test_kokoro_speaks_with_one_voice() -> None:
    voices = ["af_heart", "am_adam"]
    assert kokoro.cast_of(voices, "af_heart") == [kokoro.Speaker("af_heart", (("af_heart", 1.0),))]
    assert len(kokoro.cast_of([*voices, "bf_emma", "am_puck"])) == kokoro.SPEAKERS
    with pytest.raises(UsageError, match="did you mean af_heart"):
        kokoro.cast_of(voices, "af_hart")


WORKERS = """
import os, pathlib, sys, time

def work(folder):
    pathlib.Path(folder, str(os.getpid())).touch()
    time.sleep(600)

def run():
    from recipe.kokoro import run_workers
    run_workers(work, [(sys.argv[1],)] * 2)

if __name__ == "__main__":
    from knnvc.cli.start import guarded
    guarded(run)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_workers_end_with_the_command(tmp_path: Path) -> None:
    script, folder = tmp_path / "workers.py", tmp_path / "pids"
    script.write_text(WORKERS)
    folder.mkdir()
    places = [str(Path(recipe.__file__).parents[1]), *sys.path]
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(1200):
        if len(list(folder.iterdir())) == 2 or process.poll() is not None:
            break
        time.sleep(0.1)
    workers = [int(path.name) for path in folder.iterdir()]
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=240)[1]
    assert len(workers) == 2
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "Error: interrupted; nothing half-written was left behind\n"
    for number in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
