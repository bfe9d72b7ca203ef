"""A whole audit of anonymising: convert, listen, attack, and write what came out.

Audio and embeddings that are there already are not made again, so a stopped audit goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from knnvc import __version__
from knnvc.audio import SAMPLE_RATE, load_audio, require_audio
from knnvc.errors import KnnvcError, UsageError
from knnvc.evaluation.anonymising import UNPROTECTED, Anonymiser, speakers_of
from knnvc.evaluation.bench import MANIFEST, Utterance
from knnvc.evaluation.instruments import Instruments, Wave, errors, pitch_correlation, plain
from knnvc.evaluation.measure import slug
from knnvc.evaluation.privacy import Attack, Voices, attacks
from knnvc.evaluation.probing.speech_tasks import read_manifest
from knnvc.evaluation.records import SETTINGS, check_settings
from knnvc.evaluation.statistics import Estimate, bootstrap
from knnvc.evaluation.tables import DASH, FORMATS, Table
from knnvc.files import atomic_path

JSON, TABLE = "privacy.json", "privacy"
LEAST_ENROLLED = 2  # recordings of a speaker
PIECE = 4.0  # seconds: a speaker with one recording is heard in pieces of it

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """Who is attacked.

    Attributes:
        enrolment: known to the attackers.
        trials: anonymised, and attacked.
        others: to learn from, for the semi-informed attacker; none learns from the enrolment.
        anonymised: of trials that are there already, by their original; others are made.
        per: "speaker" or "utterance".
    """

    enrolment: list[Utterance]
    trials: list[Utterance]
    others: list[Utterance] = field(default_factory=list)
    anonymised: dict[Path, Path] = field(default_factory=dict)
    per: str = "speaker"

    @property
    def names(self) -> list[str]:
        """The speakers."""
        return sorted({one.speaker for one in self.trials})


@dataclass(frozen=True)
class Audit:
    """What came out; `wer` and `pitch` are by recogniser and means over trials."""

    attacks: list[Attack]
    wer: dict[str, Estimate | None]
    wer_before: dict[str, Estimate | None]
    pitch: Estimate | None
    facts: dict[str, Any]


def plan_audit(
    utterances: Sequence[Utterance],
    trials: int,
    speakers: Sequence[str],
    per: str,
    others: Sequence[Utterance] = (),
) -> Plan:
    """The first `trials` utterances of every speaker are attacked, the rest is known.

    Raises:
        UsageError: a speaker is unknown, or there are fewer than two with enough recordings.
    """
    known = list(dict.fromkeys(one.speaker for one in utterances))
    if unknown := [name for name in speakers if name not in known]:
        raise UsageError(f"there is no speaker {unknown[0]}: choose among {', '.join(known)}")
    plan = Plan([], [], list(others), {}, per)
    for name in speakers or known:
        own = [one for one in utterances if one.speaker == name]
        if len(own) >= trials + LEAST_ENROLLED:
            plan.trials.extend(own[:trials])
            plan.enrolment.extend(own[trials:])
    if len(plan.names) < 2:
        raise UsageError(
            f"an audit needs two speakers with {trials + LEAST_ENROLLED} recordings or more: give "
            "more speech, or fewer --sources"
        )
    return plan


def read_others(folder: Path) -> list[Utterance]:
    """Speech of other people for an attacker to learn from: a manifest, or a folder each.

    Raises:
        UsageError: there are fewer than two speakers.
    """
    if (folder / MANIFEST).is_file():
        found = [
            Utterance(one.speaker, one.path, one.text)
            for one in read_manifest(folder)
            if ":" not in one.speaker and one.seconds >= 2 * PIECE
        ]
    else:
        found = [
            Utterance(name, path, "")
            for name, paths in speakers_of(folder).items()
            for path in paths
        ]
    if len({one.speaker for one in found}) < 2:
        raise UsageError(f"{folder} has fewer than two speakers for an attacker to learn from")
    return found


def clear_audit(folder: Path) -> None:
    """Remove what an earlier audit left."""
    for name in (SETTINGS, JSON):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "audio", ignore_errors=True)


class Auditor:
    """Makes what is attacked, and attacks it.

    Args:
        user: the anonymiser whose key is secret.
        attacker: the same system with a key of the attacker's.
        listener: recognisers and verifiers.
        folder: of the results.
    """

    def __init__(
        self, user: Anonymiser, attacker: Anonymiser, listener: Instruments, folder: Path
    ) -> None:
        self.user = user
        self.attacker = attacker
        self.listener = listener
        self.folder = folder

    def run(self, plan: Plan, tell: Tell, seed: int = 0) -> Audit:
        """Anonymise, listen, attack.

        Raises:
            KnnvcError: a recording cannot be used, or the folder holds other results.
        """
        facts = self._facts(plan)
        check_settings(self.folder, facts)
        enrolment = [one.path for one in plan.enrolment]
        trials = [one.path for one in plan.trials]
        hidden = self._anonymised(self.user, plan.trials, plan, "trials", tell)
        masked = self._anonymised(self.attacker, plan.enrolment, plan, "enrolment", tell)
        heard = {
            "enrolment": (enrolment, plan.enrolment),
            "trials": (trials, plan.trials),
            "anonymised enrolment": (masked, plan.enrolment),
            "anonymised trials": (hidden, plan.trials),
        }
        if plan.others:
            made = self._anonymised(self.attacker, plan.others, plan, "others", tell)
            heard["anonymised others"] = (made, plan.others)
        embedded = self._embedded(heard, tell)
        found: list[Attack] = []
        for verifier, voices in embedded.items():
            found += attacks(verifier, voices, plan.names, seed)
        before, after, pitch = self._heard(plan.trials, hidden, tell, seed)
        return Audit(found, after, before, pitch, facts)

    def _facts(self, plan: Plan) -> dict[str, Any]:
        converter = self.user.converter
        return {
            "knnvc": __version__,
            "preset": converter.name,
            "per": plan.per,
            "blend": self.user.blend,
            "pool": list(self.user.pool),
            "speakers": plan.names,
            "trials": len(plan.trials),
            "enrolment": len(plan.enrolment),
            "others": len(plan.others),
            "anonymised by": "knnvc" if not plan.anonymised else "the folder given",
            "instruments": self.listener.names(),
        }

    def _anonymised(
        self, system: Anonymiser, said: Sequence[Utterance], plan: Plan, what: str, tell: Tell
    ) -> list[Path]:
        """Files of what was made of every utterance."""
        made = []
        voices: dict[str, Any] = {}
        by_speaker: dict[str, list[Path]] = {}
        for one in said:
            by_speaker.setdefault(one.speaker, []).append(one.path)
        for number, one in enumerate(said):
            tell(f"anonymising {what}", number, len(said))
            if one.path in plan.anonymised:
                made.append(plan.anonymised[one.path])
                continue
            name = f"audio/{what}/{slug(one.speaker)}/{slug(one.path.stem)}.flac"
            path = self.folder / name
            if not path.is_file():
                utterance = plan.per == "utterance"
                key = f"{one.speaker}/{one.path.name}" if utterance else one.speaker
                if key not in voices:
                    heard = [one.path] if utterance else by_speaker[one.speaker]
                    voices[key] = system.choose(key, system.embedding(heard))
                system.convert_file(one.path, voices[key], path)
            made.append(path)
        tell(f"anonymising {what}", len(said), len(said))
        return made

    def _embedded(
        self, heard: dict[str, tuple[list[Path], list[Utterance]]], tell: Tell
    ) -> dict[str, dict[str, Voices]]:
        """Embeddings by verifier and by what was heard."""
        found: dict[str, dict[str, Voices]] = {}
        total, done = sum(len(paths) for paths, _ in heard.values()), 0
        for what, (paths, said) in heard.items():
            rows: dict[str, list[Any]] = {}
            who: list[str] = []
            single = {
                one.speaker for one in said if sum(o.speaker == one.speaker for o in said) == 1
            }
            for path, one in zip(paths, said, strict=True):
                tell("listening", done, total)
                done += 1
                for wave in _pieces(load_audio(path).numpy(), one.speaker in single):
                    who.append(one.speaker)
                    for name, vector in self.listener.embed(wave).items():
                        rows.setdefault(name, []).append(vector)
            for name, vectors in rows.items():
                found.setdefault(name, {})[what] = Voices(np.stack(vectors), tuple(who))
        return found

    def _heard(
        self, said: Sequence[Utterance], made: Sequence[Path], tell: Tell, seed: int
    ) -> tuple[dict[str, Estimate | None], dict[str, Estimate | None], Estimate | None]:
        """Word error rates of originals and of what was made, and the correlation of pitch."""
        counts: list[dict[str, list[tuple[int, int]]]] = [{}, {}]
        pitches, groups = [], []
        for number, (one, path) in enumerate(zip(said, made, strict=True)):
            tell("words", number, len(said))
            waves = [load_audio(one.path).numpy(), load_audio(path).numpy()]
            for wave, own in zip(waves, counts, strict=True):
                for name, recogniser in self.listener.recognisers.items():
                    found = errors(plain(one.text), plain(recogniser.hear(wave)))
                    own.setdefault(name, []).append((found.word_errors, found.words))
            pitch = pitch_correlation(waves[0], waves[1])
            if pitch is not None:
                pitches.append(pitch)
                groups.append(one.path.name)
        names = [f"{one.speaker}/{one.path.name}" for one in said]
        rates = [
            {
                name: bootstrap([a for a, _ in own], [b for _, b in own], names, seed)
                for name, own in one.items()
            }
            for one in counts
        ]
        return rates[0], rates[1], bootstrap(pitches, [1.0] * len(pitches), groups, seed)


def _pieces(wave: Wave, single: bool) -> list[Wave]:
    """A recording, or, of a speaker with a single one, its pieces."""
    size = round(PIECE * SAMPLE_RATE)
    if not single or len(wave) < 2 * size:
        return [wave]
    return [wave[start : start + size] for start in range(0, len(wave) - size + 1, size)]


def match_anonymised(plan: Plan, originals: Path, folder: Path) -> None:
    """Note for every trial the file in `folder` that was made of it: same path below, any suffix.

    Raises:
        KnnvcError: one is missing.
    """
    for one in plan.trials:
        below = one.path.resolve().relative_to(originals.resolve())
        found = sorted((folder / below.parent).glob(f"{below.stem}.*"))
        if not found:
            raise KnnvcError(f"{folder} has nothing that was made of {below}: anonymise it first")
        require_audio(load_audio(found[0]), str(found[0]))
        plan.anonymised[one.path] = found[0]


def audit_tables(audit: Audit, intervals: str) -> list[Table]:
    """Attackers by verifier, and what is left of the words."""
    verifiers = list(dict.fromkeys(one.verifier for one in audit.attacks))
    head = ["attacker"]
    for name in verifiers:
        head += [f"EER % {name} ↑", f"named % {name} ↓"]
    lines = []
    for attacker in dict.fromkeys(one.attacker for one in audit.attacks):
        cells = []
        for name in verifiers:
            one = next(a for a in audit.attacks if (a.attacker, a.verifier) == (attacker, name))
            cells += [_percent(one.eer, intervals), f"{100 * one.named:.1f}"]
        lines.append([attacker, *cells])
    words = [
        [f"WER % {name}", _percent(audit.wer_before[name], intervals),
         _percent(audit.wer[name], intervals)]
        for name in audit.wer
    ]  # fmt: skip
    pitch = audit.pitch
    shown = DASH if pitch is None else f"{pitch.value:.2f} [{pitch.low:.2f}, {pitch.high:.2f}]"
    words.append(["pitch, correlation with the original", DASH, shown])
    return [
        Table("Privacy: equal error rate of attackers (50: they guess)", head, lines),
        Table("Utility", ["", "original", "anonymised"], words),
    ]


def _percent(estimate: Estimate | None, intervals: str) -> str:
    if estimate is None:
        return DASH
    value = f"{100 * estimate.value:.1f}"
    if intervals == "ends":
        return f"{value} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{value} ±{50 * (estimate.high - estimate.low):.1f}"


def write_audit(audit: Audit, folder: Path, style: str) -> str:
    """Write privacy.json and the tables into `folder`; the tables as text."""
    suffix, writer, intervals = FORMATS[style]
    text = "\n".join(map(writer, audit_tables(audit, intervals)))
    values = {
        **audit.facts,
        "attacks": [one.to_dict() for one in audit.attacks],
        "wer": {"original": _values(audit.wer_before), "anonymised": _values(audit.wer)},
        "pitch": audit.pitch and vars(audit.pitch),
        "not_protected": UNPROTECTED,
    }
    for name, content in (
        (JSON, json.dumps(values, indent=1, ensure_ascii=False) + "\n"),
        (f"{TABLE}{suffix or '.txt'}", text),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return text


def _values(found: dict[str, Estimate | None]) -> dict[str, Any]:
    return {name: one and vars(one) for name, one in found.items()}
