"""`knnvc evaluate --privacy`: what attackers find out about anonymised speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from knnvc.cli.anonymize import blend_of
from knnvc.cli.common import Progress, existing, say, say_path
from knnvc.errors import UsageError


@dataclass(frozen=True)
class PrivacyCall:
    """What is to be audited, as it was asked for."""

    speech: str
    output: str
    anonymised: str | None
    attacker: str | None
    per: str
    pools: tuple[str, ...]
    blend: int | None
    trials: int
    speakers: str | None
    recognisers: tuple[str, ...]
    verifiers: tuple[str, ...]
    style: str
    seed: int
    preset: str
    device: str
    force: bool

    def check(self) -> None:
        """The cheap checks."""
        existing(self.speech, "speech")
        for path, what in ((self.anonymised, "anonymised speech"), (self.attacker, "speech")):
            if path is not None:
                existing(path, what)
        folder = Path(self.output)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; name a folder for the results")


def audit(call: PrivacyCall) -> None:
    """Anonymise, attack, and print what came out."""
    call.check()
    folder = Path(call.output)
    with Progress() as progress:
        from knnvc.evaluation.anonymising import UNPROTECTED, Anonymiser, find_pool
        from knnvc.evaluation.audit import (
            JSON,
            Auditor,
            clear_audit,
            match_anonymised,
            plan_audit,
            read_others,
            write_audit,
        )
        from knnvc.evaluation.bench import read_bench
        from knnvc.evaluation.instruments import Instruments

        speakers = [name for name in (call.speakers or "").split(",") if name]
        others = read_others(Path(call.attacker)) if call.attacker else []
        utterances = read_bench(Path(call.speech))
        plan = plan_audit(utterances, call.trials, speakers, call.per, others)
        if call.anonymised is not None:
            match_anonymised(plan, Path(call.speech), Path(call.anonymised))
        pool = find_pool(call.pools)
        listener = Instruments(call.recognisers, call.verifiers)
        from knnvc.pipeline import VoiceConverter

        converter = VoiceConverter.from_preset(call.preset, call.device)
        judge = next(iter(listener.verifiers.values()))
        blend = blend_of(call.blend, len(pool))
        # The attacker has the system, the pool and the preset, but not the key.
        user, attacker = (
            Anonymiser(converter, judge, pool, seed, blend) for seed in (call.seed, call.seed + 1)
        )
        if call.force:
            clear_audit(folder)
        found = Auditor(user, attacker, listener, folder).run(plan, progress, call.seed)
        text = write_audit(found, folder, call.style)
    click.echo(text, nl=False)
    if call.style == "text":
        click.echo(f"± half of a 95 % interval, bootstrap over trials; seed {call.seed}")
        say(UNPROTECTED)
    say_path(folder / JSON)
