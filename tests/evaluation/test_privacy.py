"""Anonymising and its audit: no voice near the source, and attackers find what was planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from knnvc import VoiceConverter
from knnvc.audio import load_audio
from knnvc.cli.main import cli
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.anonymising import (
    LEAST_SHARE,
    UNPROTECTED,
    Anonymiser,
    find_pool,
    speakers_of,
    unit,
)
from knnvc.evaluation.audit import (
    Auditor,
    audit_tables,
    match_anonymised,
    plan_audit,
    read_others,
    write_audit,
)
from knnvc.evaluation.bench import Utterance, published_jobs
from knnvc.evaluation.plan import Condition
from knnvc.evaluation.privacy import (
    IGNORANT,
    LAZY,
    SEMI,
    UNPROTECTED_CASE,
    Voices,
    attacks,
    informed_scores,
    plain_scores,
    whitening,
)

Tone = Callable[..., Path]


class Spectrum:
    """A verifier that hears a smooth spectrum, so that near tones sound alike."""

    about = "a stand-in"

    def embed(self, wave: np.ndarray) -> np.ndarray:
        found = np.abs(np.fft.rfft(wave, 16_000))[: 128 * 8].reshape(128, 8).sum(1)
        return unit(np.convolve(found, np.hanning(61), "same"))


@pytest.fixture
def pool(tmp_path: Path, tone: Tone) -> Path:
    """Eight voices of a tone each, half of them low."""
    for number in range(8):
        hertz = 150 + 15 * number if number < 4 else 600 + 40 * number
        tone(tmp_path / "pool" / f"v{number}.flac", seconds=1.0, hertz=hertz)
    return tmp_path / "pool"


@pytest.fixture
def system(tiny: VoiceConverter, pool: Path) -> Anonymiser:
    return Anonymiser(tiny, Spectrum(), find_pool([str(pool)]), seed=3, blend=2)


def test_a_pseudo_voice_is_never_near_the_source(system: Anonymiser, pool: Path) -> None:
    near = {f"v{number}" for number in range(4)}
    source = system.embedding([pool / "v1.flac"])
    chosen = [system.choose(f"speaker {n}", source) for n in range(40)]
    for voice in chosen:
        assert not near & set(voice.names)
        assert len(set(voice.names)) == 2
        assert sum(voice.shares) == pytest.approx(1.0)
        assert min(voice.shares) >= LEAST_SHARE - 1e-9
        assert voice.likeness is not None
        assert voice.likeness < 0.5
    assert len({voice.names for voice in chosen}) > 3
    far = system.embedding([pool / "v6.flac"])
    assert set(system.choose("a", far).names) <= near


def test_the_seed_is_the_key(system: Anonymiser, tiny: VoiceConverter, pool: Path) -> None:
    source = system.embedding([pool / "v0.flac"])
    names = [f"s{n}" for n in range(12)]
    mine = [system.choose(name, source) for name in names]
    assert mine == [system.choose(name, source) for name in names]
    same = Anonymiser(tiny, Spectrum(), system.pool, seed=3, blend=2)
    other = Anonymiser(tiny, Spectrum(), system.pool, seed=4, blend=2)
    assert mine == [same.choose(name, source) for name in names]
    assert mine != [other.choose(name, source) for name in names]


def test_a_small_pool_is_refused(tiny: VoiceConverter, pool: Path) -> None:
    few = dict(list(find_pool([str(pool)]).items())[:5])
    with pytest.raises(UsageError, match="needs a pool of 6 voices, and there are 5"):
        Anonymiser(tiny, Spectrum(), few, seed=0, blend=3)


def test_speakers_are_the_first_folders(tmp_path: Path, tone: Tone) -> None:
    for name in ("in/19/198/a.flac", "in/19/227/b.flac", "in/26/495/c.flac", "in/d.flac"):
        tone(tmp_path / name, seconds=0.3)
    found = speakers_of(tmp_path / "in")
    assert {name: len(paths) for name, paths in found.items()} == {"19": 2, "26": 1, "in": 1}


def test_a_pool_is_made_of_recordings(pool: Path) -> None:
    assert len(find_pool(["voices"])) >= 4
    (pool / "notes.txt").write_text("no voice")
    assert sorted(find_pool([str(pool)])) == [f"v{n}" for n in range(8)]
    (pool / "x.safetensors").touch()
    with pytest.raises(UsageError, match="give recordings"):
        find_pool([str(pool)])
    with pytest.raises(UsageError, match="is no folder"):
        find_pool(["nowhere"])


# Attackers ----------------------------------------------------------------------------------------


def speaking(rng: np.random.Generator, voices: np.ndarray, each: int, noise: np.ndarray) -> Voices:
    """`each` recordings of every row of `voices` [K, D], scattered by `noise` [D]."""
    rows = np.repeat(voices, each, axis=0)
    rows = rows + noise * rng.standard_normal(rows.shape)
    who = [f"{n}" for n in range(len(voices)) for _ in range(each)]
    return Voices(np.stack([unit(row) for row in rows]), tuple(who))


def test_attackers_find_what_is_left() -> None:
    rng = np.random.default_rng(0)
    voices = rng.standard_normal((6, 20))
    even = np.full(20, 0.3)
    strangers = rng.standard_normal((6, 20))
    heard = {
        "enrolment": speaking(rng, voices, 4, even),
        "trials": speaking(rng, voices, 4, even),
        "anonymised trials": speaking(rng, strangers, 4, even),
        "anonymised enrolment": speaking(rng, rng.standard_normal((6, 20)), 4, even),
    }
    names = [f"{n}" for n in range(6)]
    found = {one.attacker: one for one in attacks("v", heard, names, 0)}
    assert list(found) == [UNPROTECTED_CASE, IGNORANT, LAZY, SEMI]
    assert found[UNPROTECTED_CASE].eer.value < 0.02
    assert found[UNPROTECTED_CASE].named == 1.0
    for attacker in (IGNORANT, LAZY):
        assert found[attacker].eer.value > 0.25
        assert found[attacker].named < 0.5
    # A system that gives every speaker the same new voice each time hides nothing from a second
    # look.
    leaky = heard | {"anonymised enrolment": speaking(rng, strangers, 4, even)}
    again = {one.attacker: one for one in attacks("v", leaky, names, 0)}
    assert again[LAZY].eer.value < 0.02
    assert again[IGNORANT].eer == found[IGNORANT].eer


def test_a_semi_informed_attacker_learns_what_does_not_tell_voices() -> None:
    """Voices differ in few columns, recordings in others, and strongly."""
    rng = np.random.default_rng(1)
    noise = np.r_[np.full(16, 1.5), np.full(8, 0.05)]
    where = np.r_[np.zeros(16), np.full(8, 0.4)]
    voices = where * rng.standard_normal((8, 24))
    enrolled, trials = (speaking(rng, voices, 6, noise) for _ in range(2))
    others = speaking(rng, where * rng.standard_normal((30, 24)), 6, noise)
    names = [f"{n}" for n in range(8)]
    own = np.array(trials.speakers)[:, None] == np.array(names)

    def named(scores: np.ndarray) -> float:
        return float(own[np.arange(len(own)), scores.argmax(1)].mean())

    plain = named(plain_scores(enrolled, trials, names))
    learnt = named(informed_scores(enrolled, trials, names, others))
    without = named(informed_scores(enrolled, trials, names))
    assert learnt > plain + 0.2
    assert without > plain


def test_whitening_makes_recordings_scatter_evenly() -> None:
    rng = np.random.default_rng(2)
    noise = np.geomspace(0.1, 2, 6)
    rows = np.repeat(rng.standard_normal((40, 6)), 50, 0)
    vectors = (rows + noise * rng.standard_normal(rows.shape)).astype(np.float32)
    learnt = Voices(vectors, tuple(str(n // 50) for n in range(2000)))
    turned, middle = whitening(learnt)
    within = ((vectors - rows) - (vectors - rows).mean(0)) @ turned
    assert np.cov(within.T) == pytest.approx(np.eye(6), abs=0.15)
    assert middle == pytest.approx(vectors.mean(0), abs=1e-4)


# The audit ----------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path, tone: Tone) -> list[Utterance]:
    """Three speakers of four tones."""
    found = []
    for speaker in range(3):
        for number in range(4):
            path = tmp_path / "speech" / f"s{speaker}" / f"{number}.flac"
            tone(path, seconds=0.8, hertz=150 + 200 * speaker + 5 * number)
            found.append(Utterance(f"s{speaker}", path, "five five"))
    return found


class Counting(Anonymiser):
    made = 0

    def convert(self, *arguments: object, **named: object) -> tuple[object, int]:
        self.made += 1
        return super().convert(*arguments, **named)  # type: ignore[arg-type]


def listener() -> SimpleNamespace:
    verifier = Spectrum()
    return SimpleNamespace(
        recognisers={"whisper": SimpleNamespace(hear=lambda wave: "five five")},
        verifiers={"spectrum": verifier},
        embed=lambda wave: {"spectrum": verifier.embed(wave)},
        names=lambda: {"words": "a stand-in"},
    )


def test_an_audit_from_recordings_to_a_table(
    tiny: VoiceConverter, pool: Path, bench: list[Utterance], tmp_path: Path
) -> None:
    plan = plan_audit(bench, 2, (), "speaker")
    assert [len(plan.trials), len(plan.enrolment)] == [6, 6]
    voices = find_pool([str(pool)])
    user, attacker = (Counting(tiny, Spectrum(), voices, seed, 1) for seed in (0, 1))
    folder = tmp_path / "results"
    auditor = Auditor(user, attacker, listener(), folder)  # type: ignore[arg-type]
    found = auditor.run(plan, lambda *_: None)
    assert (user.made, attacker.made) == (6, 6)
    assert found.wer["whisper"] is not None
    assert found.wer["whisper"].value == 0.0
    by = {one.attacker: one.eer.value for one in found.attacks}
    assert by[UNPROTECTED_CASE] < 0.1
    text = write_audit(found, folder, "markdown")
    assert "EER % spectrum" in text
    values = json.loads((folder / "privacy.json").read_text())
    assert values["not_protected"] == UNPROTECTED
    assert [one["attacker"] for one in values["attacks"]] == list(by)
    assert len(audit_tables(found, "half")) == 2
    # It goes on where it was, and refuses another question in the same folder.
    again = auditor.run(plan, lambda *_: None)
    assert (user.made, attacker.made) == (6, 6)
    assert again.attacks == found.attacks
    with pytest.raises(UsageError, match="another per"):
        auditor.run(replace(plan, per="utterance"), lambda *_: None)


def test_what_others_anonymised_is_attacked(
    bench: list[Utterance], tmp_path: Path, tone: Tone
) -> None:
    plan = plan_audit(bench, 1, ["s0", "s2"], "speaker")
    assert plan.names == ["s0", "s2"]
    for name in plan.names:
        tone(tmp_path / "hidden" / name / "0.wav", seconds=0.8)
    match_anonymised(plan, tmp_path / "speech", tmp_path / "hidden")
    assert {path.suffix for path in plan.anonymised.values()} == {".wav"}
    (tmp_path / "hidden/s2/0.wav").unlink()
    with pytest.raises(KnnvcError, match="has nothing that was made of s2"):
        match_anonymised(plan, tmp_path / "speech", tmp_path / "hidden")


def test_an_audit_needs_speakers(bench: list[Utterance], tmp_path: Path, tone: Tone) -> None:
    with pytest.raises(UsageError, match="there is no speaker s9"):
        plan_audit(bench, 2, ["s9"], "speaker")
    with pytest.raises(UsageError, match="two speakers with 5 recordings"):
        plan_audit(bench, 3, (), "speaker")
    assert len(read_others(tmp_path / "speech")) == 12
    tone(tmp_path / "one" / "a.flac", seconds=0.3)
    with pytest.raises(UsageError, match="fewer than two speakers"):
        read_others(tmp_path / "one")


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_anonymize_a_folder(
    preset: Path, pool: Path, bench: list[Utterance], tmp_path: Path
) -> None:
    source, target = tmp_path / "speech", tmp_path / "hidden"
    for one in bench:
        if one.path.stem in "23":
            one.path.unlink()
    asked = ["anonymize", source, target, "--preset", preset, "--pool", pool, "--blend", 1]
    output = run(*asked, "--seed", 5)
    assert UNPROTECTED in output
    made = sorted(path.relative_to(target) for path in target.rglob("*.wav"))
    assert made == [Path(f"s{s}/{n}.wav") for s in range(3) for n in range(2)]
    for path in made:
        before = load_audio(source / path.with_suffix(".flac"))
        assert len(load_audio(target / path)) == pytest.approx(len(before), abs=2)
    # A stopped run goes on with its key; without it, nothing is overwritten.
    kept = (target / "s0/1.wav").read_bytes()
    (target / "s0/0.wav").unlink()
    run(*asked, "--seed", 5)
    assert (target / "s0/0.wav").is_file()
    assert (target / "s0/1.wav").read_bytes() == kept
    assert "exists; choose another output" in run(*asked, code=2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["anonymize", "none", "out"], "the source none does not exist"),
        (["anonymize", "talk.wav", "out"], "talk.wav is no folder"),
        (["anonymize", "in", "in/out"], "in/out lies in in"),
        (["anonymize", "in", "out", "--pool", "none"], "the pool none is no folder"),
        (["evaluate", "-o", "r", "--privacy", "none"], "the speech none does not exist"),
        (["evaluate", "-o", "r", "--privacy", "in", "--bench", "in"], "--privacy stands alone"),
        (["evaluate", "-o", "r", "--attacker", "in", "--bench", "in"], "belong to --privacy"),
        (["evaluate", "-o", "r", "--test-clean", "none"], "folder of LibriSpeech none does not"),
    ],
)
def test_one_sentence_about_a_wrong_call(
    arguments: list[str], reason: str, tmp_path: Path, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tone(Path("talk.wav"), seconds=0.3)
    tone(Path("in/a.wav"), seconds=0.3)
    assert reason in run(*arguments, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "talk.wav"]


# The protocol of the kNN-VC paper -----------------------------------------------------------------


def test_the_published_protocol() -> None:
    """Five utterances of 40 speakers to 39 others are 7,800 conversions."""
    said = [
        Utterance(f"{speaker}", Path(f"/x/{speaker}/{n}.flac"), "a day")
        for speaker in range(40)
        for n in range(12)
    ]
    jobs = published_jobs(said, [Condition(seconds=86_400.0)], seed=0)
    assert len(jobs) == 7800
    drawn: dict[str, set[str]] = {}
    for job in jobs:
        drawn.setdefault(job.source.who, set()).add(job.source.name)
        assert job.source.path not in job.target.recordings
        assert len(job.target.recordings) == 7
    assert {len(names) for names in drawn.values()} == {5}
    other = published_jobs(said, [Condition(seconds=86_400.0)], seed=1)
    assert {job.source.name for job in other} != {job.source.name for job in jobs}
