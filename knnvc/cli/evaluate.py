"""`knnvc evaluate`: convert, and measure what became of words, voice and sound."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.common import (
    DEVICE,
    FORCE,
    PRESET,
    Progress,
    check_numbers,
    existing,
    say,
    say_path,
)
from knnvc.errors import UsageError

if TYPE_CHECKING:
    from knnvc.evaluation.plan import Job
    from knnvc.pipeline import VoiceConverter

MANIFESTS = (".csv", ".jsonl")
RESULTS, PAGE = "results.json", "index.html"


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="MANIFEST|SRC...")
@click.option(
    "--targets",
    metavar="DIR",
    help="Folder with a folder of recordings for each target speaker; with SRC, not a manifest.",
)
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder of the results.")
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
    default=300.0,
    show_default=True,
    help="Reference speech used, in seconds.",
)
@click.option(
    "--yardsticks/--no-yardsticks",
    default=True,
    show_default=True,
    help="Also copy-synthesis by WORLD and by Griffin-Lim; that by the preset is always there.",
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
    sources: tuple[str, ...],
    targets: str | None,
    output: str,
    sweeps: tuple[str, ...],
    lam: float | None,
    k: int | None,
    seconds: float,
    yardsticks: bool,
    language: str,
    seed: int,
    preset: str,
    device: str,
    force: bool,
) -> None:
    """Convert and measure: words, speaker, naturalness, pitch, speed.

    MANIFEST is a .csv or .jsonl file with the columns source and target, and optionally text,
    language, reference_seconds, source_group and target_group; paths are relative to it. Otherwise
    every SRC (files or folders; a .txt file beside a recording says what it says) goes to every
    folder inside --targets. The instruments are an extra: pip install 'knnvc[eval]'. Words are
    counted where the language is English (en).

    A verifier hears languages, too: one person's English is not like that person's Spanish. Where
    the EER shall judge conversions, let the sources speak the targets' language.

    A run that was stopped goes on when it is called again.

    \b
    knnvc evaluate talks/ --targets speakers/ -o results/
    knnvc evaluate data/development.csv -o results/ --sweep seconds=5,30,300 --sweep lam=0.7,1
    """
    check_numbers(lam, k, seconds)
    paths = [existing(source, "source") for source in sources]
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the results")
    manifest = paths[0].suffix.lower() in MANIFESTS
    if manifest and (len(paths) > 1 or targets is not None):
        raise UsageError("a manifest stands alone: give no other source and no --targets")
    if not manifest and targets is None:
        raise UsageError("name the folder of the target speakers' folders with --targets")
    with Progress() as progress:
        from knnvc.evaluation.instruments import Instruments
        from knnvc.evaluation.plan import (
            Condition,
            conditions,
            folder_jobs,
            manifest_jobs,
            parse_sweeps,
        )

        swept = parse_sweeps(sweeps)
        for value in swept.get("lam", []):
            check_numbers(value, None, None)
        for value in swept.get("k", []):
            check_numbers(None, int(value), None)
        for value in swept.get("seconds", []):
            check_numbers(None, None, value)
        settings = conditions(Condition(lam, k, seconds), swept)
        if manifest:
            jobs = manifest_jobs(paths[0], settings)
        else:
            voices = existing(targets or "", "folder of targets")
            jobs = folder_jobs(paths, voices, settings, language)
        listener = Instruments()  # says what is missing before anything is loaded
        from knnvc.evaluation.measure import RECORDS
        from knnvc.pipeline import VoiceConverter

        converter = VoiceConverter.from_preset(preset, device)
        if force:
            for name in (RECORDS, "settings.json"):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "audio", ignore_errors=True)
        lines = measure(jobs, converter, listener, folder, seed, yardsticks, progress)
    say("\n".join(lines))
    say_path(folder / RESULTS)
    say_path(folder / PAGE)


def measure(
    jobs: list[Job],
    converter: VoiceConverter,
    listener: Any,
    folder: Path,
    seed: int,
    yardsticks: bool,
    progress: Progress,
) -> list[str]:
    """Run all jobs and write the results into `folder`; the table's lines."""
    import torch

    from knnvc import __version__
    from knnvc.evaluation import page
    from knnvc.evaluation.measure import VOCODERS, YARDSTICKS, Evaluation, check_settings
    from knnvc.evaluation.summary import COLUMNS, summarise, text_table
    from knnvc.files import atomic_path, sha256_file

    weights = sorted(converter.preset.folder.glob("*.safetensors"))
    settings: dict[str, Any] = {
        "knnvc": __version__,
        "preset": converter.preset.name,
        "weights": {path.name: sha256_file(path) for path in weights},
        "seed": seed,
        "reference_seconds": max(job.condition.seconds for job in jobs),
        "instruments": listener.names(),
    }
    check_settings(folder, settings)
    systems = [name for name in YARDSTICKS if yardsticks or name not in VOCODERS]
    evaluation = Evaluation(converter, listener, folder, seed, systems)
    records = evaluation.run(jobs, progress)
    rows = summarise(records, evaluation.targets, seed)
    results = {
        **settings,
        "preset_bytes": sum(path.stat().st_size for path in converter.preset.folder.iterdir()),
        "computed_on": f"{converter.encoder.device}, {torch.get_num_threads()} threads",
        "confidence": "95 %, percentile bootstrap over source utterances",
        "measures": {measure.key: measure.about for measure in COLUMNS},
        "targets": [
            {"name": one.name, "trials": len(one.trials), "trials_are_references": one.overlap}
            for one in evaluation.targets
        ],
        "rows": [row.to_dict() for row in rows],
    }
    with atomic_path(folder / RESULTS) as temporary:
        text = json.dumps(results, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    facts = {
        "preset": f"{settings['preset']}, {results['preset_bytes'] / 1e6:.1f} MB",
        **{f"weights, {name}": f"sha256 {digest}" for name, digest in settings["weights"].items()},
        **listener.names(),
        "seed": str(seed),
        "computed on": results["computed_on"],
        "knnvc": __version__,
    }
    with atomic_path(folder / PAGE) as temporary:
        made = page.build(rows, records, evaluation.targets, facts)
        temporary.write_text(made, encoding="utf-8")
    return [
        *text_table(rows),
        "± half of a 95 % interval, bootstrap over source utterances; seed "
        f"{seed}; {settings['preset']}, {results['preset_bytes'] / 1e6:.1f} MB",
    ]
