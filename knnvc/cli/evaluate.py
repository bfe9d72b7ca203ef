"""`knnvc evaluate`: convert, and measure what became of words, voice and sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.anonymize import BLEND, PER_OPTION, POOL
from knnvc.cli.common import (
    DEVICE,
    FORCE,
    PRESET,
    Progress,
    check_numbers,
    existing,
    say_path,
)
from knnvc.cli.privacy import PrivacyCall, audit
from knnvc.errors import UsageError

if TYPE_CHECKING:
    from knnvc.evaluation.demos import Published
    from knnvc.evaluation.plan import Condition, Job

MANIFESTS = (".csv", ".jsonl")
# Beside Whisper and Resemblyzer; knnvc.evaluation.recognisers and verifiers have the same names.
RECOGNISERS = ("moonshine", "pocketsphinx")
VERIFIERS = ("campplus",)
FORMATS = ("text", "csv", "markdown", "latex")
SECONDS, BENCH_SECONDS, DEMO_SECONDS = 300.0, 60.0, 86_400.0


@dataclass(frozen=True)
class _Call:
    """What is to be converted, as it was asked for."""

    sources: tuple[str, ...]
    bench: str | None
    test_clean: str | None
    inputs: str | None
    demos: str | None
    targets: str | None
    utterances: int
    speakers: str | None
    language: str
    sweeps: tuple[str, ...]
    lam: float | None
    k: int | None
    seconds: float | None
    seed: int

    @property
    def manifest(self) -> bool:
        """Whether a manifest says what to convert."""
        return any(Path(one).suffix.lower() in MANIFESTS for one in self.sources)

    def check(self) -> None:
        """The cheap checks, before anything heavy is imported."""
        check_numbers(self.lam, self.k, self.seconds)
        for source in self.sources:
            existing(source, "source")
        named = (self.bench, self.test_clean, self.demos)
        if sum([*(one is not None for one in named), bool(self.sources)]) != 1:
            raise UsageError(
                "name a manifest, recordings with --targets, --bench DIR, --test-clean DIR, "
                "--demos DIR or --privacy DIR"
            )
        if self.bench is not None:
            existing(self.bench, "bench")
        if self.test_clean is not None:
            existing(self.test_clean, "folder of LibriSpeech")
        if self.inputs is not None:
            if self.test_clean is None:
                raise UsageError("--inputs belongs to --test-clean DIR")
            existing(self.inputs, "list of utterances")
        if self.demos is not None:
            existing(self.demos, "folder of demos")
        if (self.manifest and len(self.sources) > 1) or (
            self.targets is not None and (self.manifest or not self.sources)
        ):
            raise UsageError("a manifest stands alone: give no other source and no --targets")
        if self.sources and not self.manifest and self.targets is None:
            raise UsageError("name the folder of the target speakers' folders with --targets")

    def conditions(self) -> list[Condition]:
        """Every combination of the swept values."""
        from knnvc.evaluation.plan import Condition, conditions, parse_sweeps

        swept = parse_sweeps(self.sweeps)
        for name, values in swept.items():
            for value in values:
                check_numbers(
                    value if name == "lam" else None,
                    int(value) if name == "k" else None,
                    value if name == "seconds" else None,
                )
        usual = BENCH_SECONDS if self.bench else SECONDS if self.sources else DEMO_SECONDS
        base = Condition(self.lam, self.k, usual if self.seconds is None else self.seconds)
        if self.demos is not None and swept:
            raise UsageError("--demos has one condition: give no --sweep")
        return conditions(base, swept)

    def jobs(self) -> tuple[list[Job], list[Published]]:
        """What to convert, and what is published of it."""
        from knnvc.evaluation.bench import bench_jobs, published_jobs, read_bench, read_inputs
        from knnvc.evaluation.demos import read_demos
        from knnvc.evaluation.plan import folder_jobs, manifest_jobs

        settings = self.conditions()
        speakers = [name for name in (self.speakers or "").split(",") if name]
        if self.test_clean is not None:
            found = read_bench(Path(self.test_clean))
            inputs = read_inputs(Path(self.inputs)) if self.inputs else ()
            return published_jobs(found, settings, self.seed, speakers, inputs), []
        if self.bench is not None:
            found = read_bench(Path(self.bench))
            return bench_jobs(found, self.utterances, settings, speakers), []
        if self.demos is not None:
            return read_demos(Path(self.demos), settings)
        paths = [Path(one) for one in self.sources]
        if self.manifest:
            return manifest_jobs(paths[0], settings), []
        voices = existing(self.targets or "", "folder of targets")
        return folder_jobs(paths, voices, settings, self.language), []


@click.command()
@click.argument("sources", nargs=-1, metavar="[MANIFEST|SRC...]")
@click.option(
    "--bench",
    metavar="DIR",
    help="Convert every speaker to every other: a folder with manifest.csv (speaker, file, text), "
    "LibriSpeech, or VCTK.",
)
@click.option(
    "--test-clean",
    metavar="DIR",
    help="The protocol of kNN-VC's authors on LibriSpeech test-clean: five utterances of each of "
    "the 40 speakers to the 39 others, with all the rest of their speech as reference.",
)
@click.option(
    "--inputs",
    metavar="FILE",
    help="With --test-clean: names of the utterances to convert, one a line.  [default: drawn by "
    "--seed]",
)
@click.option("--demos", metavar="DIR", help="Convert the pairs of published demo pages.")
@click.option(
    "--privacy",
    metavar="DIR",
    help="Anonymise speech (as for --bench) and attack it: which share of it can be told whose.",
)
@click.option(
    "--anonymised",
    metavar="DIR",
    help="With --privacy: attack what lies here instead, under the same paths.",
)
@click.option(
    "--attacker",
    metavar="DIR",
    help="With --privacy: speech of other people that the semi-informed attacker learns from. "
    "[default: the enrolment of the others]",
)
@PER_OPTION
@POOL
@BLEND
@click.option(
    "--targets",
    metavar="DIR",
    help="Folder with a folder of recordings for each target speaker; with SRC.",
)
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder of the results.")
@click.option(
    "--sources",
    "utterances",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Utterances of each speaker to convert, with --bench; to attack, with --privacy.",
)
@click.option("--speakers", metavar="A,B", help="Take only these, with --bench.")
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=1,2,3",
    help="Measure at several values of lam, k or seconds (of reference). Repeat for combinations.",
)
@click.option("--lam", type=float, help="0 to 2, see `knnvc convert`.  [default: the preset's]")
@click.option("--k", type=int, help="Neighbours averaged.  [default: the preset's]")
@click.option(
    "--seconds",
    type=float,
    help="Reference speech used.  [default: 300; --bench 60; --test-clean, --demos all]",
)
@click.option(
    "--recogniser",
    "recognisers",
    multiple=True,
    type=click.Choice(RECOGNISERS),
    help="Let another recogniser hear the words, beside Whisper. Repeat for both.",
)
@click.option(
    "--verifier",
    "verifiers",
    multiple=True,
    type=click.Choice(VERIFIERS),
    help="Let another verifier judge the voices, beside Resemblyzer.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Of the table that is printed; others than text are written to table.*, too.",
)
@click.option(
    "--yardsticks/--no-yardsticks",
    default=None,
    help="Copy-synthesis by WORLD and Griffin-Lim, too.  [default: only with SRC]",
)
@click.option(
    "--language",
    default="en",
    show_default=True,
    metavar="CODE",
    help="Of the sources, with SRC; words are counted of English only.",
)
@click.option("--seed", default=0, show_default=True, help="Of choosing recordings and bootstrap.")
@PRESET
@DEVICE
@FORCE
def evaluate(
    output: str,
    recognisers: tuple[str, ...],
    verifiers: tuple[str, ...],
    style: str,
    yardsticks: bool | None,
    seed: int,
    preset: str,
    device: str,
    force: bool,
    privacy: str | None,
    anonymised: str | None,
    attacker: str | None,
    per: str,
    pools: tuple[str, ...],
    blend: int | None,
    **asked: Any,
) -> None:
    """Convert and measure: words, speaker, naturalness, pitch, speed.

    --bench converts the first utterances of every speaker to every other speaker of the language.
    --test-clean does it as kNN-VC's authors do. --demos converts the pairs of published demo pages
    and shows what was published beside. --privacy anonymises, and says what three attackers find.

    MANIFEST is a .csv or .jsonl file with the columns source and target, and optionally text,
    language, reference_seconds, source_group and target_group; paths are relative to it. SRC are
    files or folders; a .txt file beside a recording says what it says. Every SRC goes to every
    folder inside --targets.

    The instruments are an extra: pip install 'knnvc[eval]'. A run that was stopped goes on when it
    is called again.

    \b
    knnvc evaluate --bench LibriSpeech/test-clean -o results/ --sweep seconds=5,10,60
    knnvc evaluate --test-clean LibriSpeech/test-clean -o large/ --preset wavlm-large
    knnvc evaluate --privacy LibriSpeech/test-clean -o privacy/
    knnvc evaluate talks/ --targets speakers/ -o results/
    """
    if privacy is not None:
        if asked["sources"] or any(
            asked[name] for name in ("bench", "test_clean", "inputs", "demos")
        ):
            raise UsageError("--privacy stands alone: give no SRC and no other bench")
        trials, speakers = asked["utterances"], asked["speakers"]
        audit(
            PrivacyCall(privacy, output, anonymised, attacker, per, pools, blend, trials, speakers,
                        recognisers, verifiers, style, seed, preset, device, force)
        )  # fmt: skip
        return
    if anonymised is not None or attacker is not None:
        raise UsageError("--anonymised and --attacker belong to --privacy DIR")
    call = _Call(seed=seed, **asked)
    call.check()
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the results")
    with Progress() as progress:
        jobs, published = call.jobs()
        from knnvc.evaluation.instruments import Instruments

        listener = Instruments(recognisers, verifiers)  # says what is missing before it loads
        from knnvc import VoiceConverter
        from knnvc.evaluation import run

        converter = VoiceConverter.from_preset(preset, device)
        if force:
            run.clear(folder)
        options = run.Options(
            seed=seed,
            classical=bool(call.sources) if yardsticks is None else yardsticks,
            published=tuple(published),
        )
        results = run.evaluate(jobs, converter, listener, folder, options, progress)
        table = run.write(results, folder, style)
    click.echo(table, nl=False)
    if style == "text":
        click.echo(f"± half of a 95 % interval, bootstrap over source utterances; seed {seed}")
    say_path(folder / run.RESULTS)
    say_path(folder / run.PAGE)
