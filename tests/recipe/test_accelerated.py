"""Training elsewhere: the corpus in one small file, minutes instead of steps, weights in parts."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner

from knnvc.errors import KnnvcError, UsageError
from knnvc.mini.acoustic_space import AcousticSpace, AcousticSpaceOptions
from knnvc.mini.encoder import PhoneEncoder
from knnvc.tensors import read_tensors, write_tensors
from knnvc.training.runs import Run, cosine_rate
from recipe import packing
from recipe.cli import cli
from recipe.data import MINI_ENCODER, load_corpus
from recipe.drawing import Batches, moved
from recipe.encoder import train_encoder
from recipe.options import EncoderOptions, RefinerOptions, VocoderOptions
from recipe.packing import pack_corpus, unpack_corpus
from recipe.prematch import write_prematched
from recipe.refiner import train_refiner
from recipe.shards import SUMS, join_weights, split_weights
from recipe.vocoder import train_vocoder
from tiny import ENCODER, REFINER, VOCODER, load_encoder

SCRIPT = Path(__file__).parents[2] / "vocoder/accelerated.sh"


def test_spectra_and_alignments_survive(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    weights = {packing.START: trained_encoder}
    done = pack_corpus("encoder", corpus, tmp_path / "packed.zip", weights)
    assert (done["utterances"], done["left_out"], done["kilobits"]) == (7, 0, None)
    assert done["bytes"] == (tmp_path / "packed.zip").stat().st_size
    assert list(tmp_path.iterdir()) == [tmp_path / "packed.zip"]
    made = tmp_path / "made"
    assert unpack_corpus(tmp_path / "packed.zip", made)["utterances"] == 7
    assert not list(made.rglob("*.flac"))
    network = PhoneEncoder(ENCODER)
    pairs = zip(load_corpus(corpus, network), load_corpus(made, network), strict=True)
    for one, other in pairs:
        assert (one.file, one.speaker, one.held_out) == (other.file, other.speaker, other.held_out)
        assert np.array_equal(one.states, other.states)
        assert np.abs(one.mel.astype(float) - other.mel).max() <= 0.5 / packing.STEPS + 1e-3
        assert np.allclose(one.f0, other.f0, rtol=1e-3)
    stored, _ = read_tensors(made / "weights" / packing.START)
    exact, _ = read_tensors(trained_encoder)
    assert stored.keys() == exact.keys()
    # What was unpacked is not touched again.
    kept = next(made.rglob("*.npz"))
    before = kept.stat().st_mtime_ns
    unpack_corpus(tmp_path / "packed.zip", made)
    assert kept.stat().st_mtime_ns == before


def test_waveforms_are_packed_at_the_rate_that_fits(corpus: Path, tmp_path: Path) -> None:
    matched = tmp_path / "matched.safetensors"
    rng = np.random.default_rng(0)
    frames = {f"low/low_00{n}.flac": rng.normal(0, 1, (80, 162)).astype(np.float16) for n in (0, 1)}
    write_prematched(matched, frames)
    done = pack_corpus("vocoder", corpus, tmp_path / "all.zip", None, matched)
    assert (done["utterances"], done["kilobits"], done["matched"]) == (7, packing.OPUS[1], 2)
    made = tmp_path / "made"
    unpack_corpus(tmp_path / "all.zip", made)
    for file in ("low/low_001.flac", "high/high_002.flac"):
        wave, rate = sf.read(made / file)
        real, _ = sf.read(corpus / file)
        assert rate == 16_000
        assert abs(len(wave) - len(real)) < 320
        assert np.corrcoef(wave[: len(real)], real[: len(wave)])[0, 1] > 0.9
    found = packing.read_prematched(made / "weights" / packing.PREMATCHED)
    assert found.keys() == frames.keys()
    for file, values in frames.items():
        inside = values.clip(-127 / packing.STEPS, 127 / packing.STEPS)
        assert np.abs(found[file][:, :-2] - inside[:, :-2]).max() < 0.02
        assert np.array_equal(found[file][:, -2:], values[:, -2:])
    # Too little room for all of it: utterances are left out.
    few = pack_corpus("vocoder", corpus, tmp_path / "few.zip", largest=25_000)
    assert few["bytes"] <= 25_000
    assert few["kilobits"] == packing.OPUS[0]
    assert 0 < few["utterances"] < 7
    assert few["left_out"] == 7 - few["utterances"]


def test_what_cannot_be_packed_is_said(corpus: Path, trained_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="holds no speech"):
        pack_corpus("encoder", tmp_path, tmp_path / "packed.zip")
    weights = {packing.START: trained_encoder}
    with pytest.raises(KnnvcError, match="weights alone"):
        pack_corpus("encoder", corpus, tmp_path / "packed.zip", weights, largest=1000)
    (tmp_path / "packed.zip").write_text("nothing")
    with pytest.raises(KnnvcError, match="no packed corpus"):
        unpack_corpus(tmp_path / "packed.zip", tmp_path / "made")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(packing.FACTS, "{}")
        archive.writestr("tables/../../evil.jsonl", "")
    with pytest.raises(KnnvcError, match="outside its folder"):
        unpack_corpus(tmp_path / "evil.zip", tmp_path / "made")


def test_a_run_of_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    options = EncoderOptions(steps=1000, minutes=2.0)
    run = Run(tmp_path, {}, options, minutes=options.minutes)
    now += 500  # reading the corpus
    run.begin()
    assert (run.share, run.done) == (0.0, False)
    assert run.rate(1.0, warmup=100) == pytest.approx(0.01)
    now += 12
    assert run.share == pytest.approx(0.1)
    assert 0.9 < run.rate(1.0, warmup=100) < 1  # warm-up ends early where steps are slow
    assert run.reached(100)
    assert not run.reached(101)
    run.save()
    other = Run(tmp_path, {}, options, minutes=options.minutes)
    other.resume()
    other.begin()
    now += 60
    assert other.share == pytest.approx(0.6)
    now += 60
    assert other.done
    assert other.rate(1.0, floor=0.05) == pytest.approx(0.05)


def test_what_learns_later_warms_up_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "steps", {}, EncoderOptions(steps=1000))
    rates = []
    for run.step in (0, 199, 200, 249, 299, 1000):
        rates.append(run.rate(1.0, warmup=100, floor=0.1, after=200))
    assert rates[:2] == [0, 0]
    assert rates[2] == pytest.approx(0.01, rel=0.2)  # a hundredth of what is left of the cosine
    assert rates[3] == pytest.approx(rates[4] / 2, rel=0.1)
    assert rates[4] == pytest.approx(cosine_rate(299, 1000, 1.0, warmup=0, floor=0.1), rel=0.01)
    assert rates[5] == pytest.approx(0.1)

    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    options = EncoderOptions(steps=1000, minutes=10.0)
    timed = Run(tmp_path / "minutes", {}, options, minutes=options.minutes)
    timed.begin()
    now += 60
    assert timed.rate(1.0, after=200) == 0
    now += 75  # half of the warm-up, a twentieth of the time, is over
    assert 0.4 < timed.rate(1.0, after=200) < 0.5
    now += 30
    assert timed.rate(1.0, after=200) == timed.rate(1.0, warmup=1)


def test_batches_are_the_same_from_any_number_of_processes() -> None:
    def draw(rng: np.random.Generator) -> tuple[torch.Tensor, None]:
        return torch.from_numpy(rng.normal(size=3)) + torch.randn(3), None

    def first(workers: int) -> list[torch.Tensor]:
        with Batches(draw, np.random.default_rng(0), 5, 10, workers) as batches:
            return [moved(next(batches), torch.device("cpu"))[0] for _ in range(5)]

    one, two = first(1), first(2)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], one[1])
    assert first(0)[0].shape == (3,)


def test_a_process_that_dies_is_reported() -> None:
    def draw(rng: np.random.Generator) -> tuple[None]:
        os._exit(1)

    with (
        pytest.raises(KnnvcError, match="fewer --workers"),
        Batches(draw, np.random.default_rng(0), 0, 0, 1) as batches,
    ):
        next(batches)


def test_every_part_trains_for_minutes_on_what_was_packed(
    corpus: Path, trained_encoder: Path, tmp_path: Path
) -> None:
    quick = {"batch": 2, "frames": 40, "minutes": 0.02, "workers": 1, "bf16": True}
    encoder = load_encoder(trained_encoder)
    space = AcousticSpace(AcousticSpaceOptions(), ENCODER.mels, ENCODER.substeps)
    made = tmp_path / "made"
    pack_corpus("refiner", corpus, tmp_path / "packed.zip", {packing.ENCODER: trained_encoder})
    unpack_corpus(tmp_path / "packed.zip", made)

    options = EncoderOptions(steps=10**9, **quick)  # type: ignore[arg-type]
    weights = train_encoder(made, tmp_path / "encoder", options, ENCODER)
    steps = int(read_tensors(weights)[1]["steps"])
    assert 0 < steps < 10**6
    # Resumed with the same minutes, there is nothing left to do; with more, it goes on.
    train_encoder(made, tmp_path / "encoder", options, ENCODER)
    assert int(read_tensors(weights)[1]["steps"]) == steps
    longer = dataclasses.replace(options, minutes=0.04)
    train_encoder(made, tmp_path / "encoder", longer, ENCODER)
    assert int(read_tensors(weights)[1]["steps"]) > steps

    refining = RefinerOptions(steps=10**9, channels=2, **quick)  # type: ignore[arg-type]
    weights = train_refiner(made, encoder, space, tmp_path / "refiner", refining, REFINER)
    assert 0 < int(read_tensors(weights)[1]["steps"]) < 10**6

    pack_corpus("vocoder", corpus, tmp_path / "sound.zip")
    unpack_corpus(tmp_path / "sound.zip", tmp_path / "sound")
    vocoding = VocoderOptions(steps=100, adversarial_from=50, channels=2, report_every=1, **quick)  # type: ignore[arg-type]
    train_vocoder(tmp_path / "sound", tmp_path / "vocoder", vocoding, config=VOCODER)
    rows = [json.loads(x) for x in (tmp_path / "vocoder/log.jsonl").read_text().splitlines()]
    assert "critics" in rows[-1]  # half of the time has passed


def test_a_device_that_is_not_there(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'abacus' is unknown"):
        train_encoder(corpus, tmp_path, EncoderOptions(device="abacus"), ENCODER)


def test_weights_are_split_and_joined(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    state = {f"layer{n}": torch.randn(200, 300, generator=rng) for n in range(5)}
    write_tensors(tmp_path / "encoder.safetensors", state, {"steps": "7"})
    parts = split_weights(tmp_path / "encoder.safetensors", tmp_path / "parts", 350_000)
    assert [path.name for path in parts] == [f"encoder-{n}-of-3.safetensors" for n in (1, 2, 3)]
    assert all(path.stat().st_size <= 350_000 for path in parts)
    done = subprocess.run(["sha256sum", "--check", SUMS], cwd=tmp_path / "parts", check=False)
    assert done.returncode == 0
    joined, metadata = read_tensors(join_weights(tmp_path / "parts", tmp_path / "joined.st"))
    assert metadata["steps"] == "7"
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[name], state[name].half()) for name in state)
    small = split_weights(tmp_path / "encoder.safetensors", tmp_path / "one")
    assert [path.name for path in small] == ["encoder.safetensors"]

    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(KnnvcError, match="is damaged"):
        join_weights(tmp_path / "parts", tmp_path / "joined.st")
    parts[1].unlink()
    with pytest.raises(KnnvcError, match="is missing"):
        join_weights(tmp_path / "parts", tmp_path / "joined.st")
    with pytest.raises(UsageError, match="holds no SHA256SUMS"):
        join_weights(tmp_path, tmp_path / "joined.st")
    with pytest.raises(KnnvcError, match="alone takes more"):
        split_weights(tmp_path / "encoder.safetensors", tmp_path / "none", 120_000)


def test_the_script_packs_trains_and_splits(corpus: Path, tmp_path: Path) -> None:
    """Mini's own dimensions; a random encoder to begin with."""
    torch.manual_seed(0)
    write_tensors(tmp_path / "start.safetensors", PhoneEncoder(MINI_ENCODER).state_dict())
    places = {"CORPUS": corpus, "PACKED": tmp_path / "packed.zip", "RUN": tmp_path / "run"}
    places |= {"START": tmp_path / "start.safetensors", "PYTHON": Path(sys.executable)}
    given = {name: str(path) for name, path in places.items()} | {"DEVICE": "cpu", "WORKERS": "0"}
    command = [SCRIPT, "encoder", "0.05", "--batch", "1", "--frames", "40"]

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | given | more
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = run(PACK_ONLY="1")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    found = sorted((tmp_path / "run/weights").glob("*.safetensors"))
    assert len(found) > 1
    assert all(path.stat().st_size <= 16_000_000 for path in found)
    out = tmp_path / "joined.safetensors"
    made = CliRunner().invoke(cli, ["join", str(tmp_path / "run/weights"), "--out", str(out)])
    assert made.exit_code == 0, made.output
    joined, _ = read_tensors(out)
    trained, _ = read_tensors(tmp_path / "run/encoder/encoder.safetensors")
    assert all(torch.equal(joined[name], trained[name]) for name in trained)

    command[1] = "nothing"
    done = run()
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    shutil.rmtree(tmp_path / "run")
