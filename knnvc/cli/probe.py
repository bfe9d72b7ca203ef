"""`knnvc probe`: what every layer of an encoder knows, to choose layers by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvc.cli.common import DEVICE, FORCE, PRESET, Progress, check_free, existing, say, say_path
from knnvc.cli.probe_tasks import leaderboard, list_tasks, run
from knnvc.errors import KnnvcError, UsageError

if TYPE_CHECKING:
    from knnvc.evaluation.probe import Spoken


class _Layers(click.Group):
    """A group whose command `layers` need not be named: `knnvc probe --corpus DIR`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put "layers" before options that are not the group's own."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["layers", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Layers)
def probe(**_: Any) -> None:
    """Ask what every layer of a frozen encoder knows.

    \b
    knnvc probe layers --corpus corpus              phones, speaker, pitch: where to match in
    knnvc probe run superb --encoder mini           SUPERB-style tasks
    knnvc probe run hear --encoder mini             HEAR-style tasks
    knnvc probe run emotions.csv --encoder mini     a task of your own
    """


@probe.command()
@click.option(
    "--corpus",
    default="corpus",
    show_default=True,
    metavar="DIR",
    help="Aligned speech, as the recipe in the repository's folder vocoder/ makes it.",
)
@PRESET
@click.option(
    "--encoder",
    metavar="NAME",
    help="Instead of a preset's: a WavLM, HuBERT, wav2vec 2.0 or data2vec-audio checkpoint of "
    "transformers (hub name, or folder), all of its layers.",
)
@click.option(
    "--speakers",
    "which",
    type=click.Choice(["held-out", "all"]),
    default="held-out",
    show_default=True,
    help="Speakers that no recipe trains on, or all.",
)
@click.option("--most", default=8, show_default=True, help="Speakers, at most.")
@click.option("--utterances", default=8, show_default=True, help="Of each speaker, at most.")
@click.option("--seed", default=0, show_default=True, help="Of the choice, and of the bootstrap.")
@click.option(
    "-o",
    "--output",
    default="probe.json",
    show_default=True,
    metavar="FILE.json",
    help="The scores; a plot goes beside it, as PNG.",
)
@DEVICE
@FORCE
def layers(
    corpus: str,
    preset: str,
    encoder: str | None,
    which: str,
    most: int,
    utterances: int,
    seed: int,
    output: str,
    device: str,
    force: bool,
) -> None:
    """Ask each layer of an encoder for phones, speaker, pitch and energy.

    Phones: how often the nearest frame of another speaker is of the same phone, which is what
    matching lives on. Speaker, pitch, energy: what a linear probe reads out of the frames of
    utterances that it has not learnt from.
    """
    if most < 2 or utterances < 2:
        raise UsageError("probing needs 2 --most speakers and 2 --utterances of each, or more")
    folder = existing(corpus, "corpus")
    path = Path(output)
    if path.suffix != ".json":
        raise UsageError(f"cannot write {path}: end it in .json")
    picture = path.with_suffix(".png")
    check_free(path, force)
    check_free(picture, force)
    with Progress() as progress:
        from knnvc.extras import require

        require(("matplotlib",))
        from knnvc.encoders.chunked import ChunkedEncoder
        from knnvc.encoders.ssl import load_every_layer
        from knnvc.evaluation.figures import save_png
        from knnvc.evaluation.probe import probe as probe_layers
        from knnvc.evaluation.probe import probe_figure, text_table
        from knnvc.files import atomic_path
        from knnvc.pipeline import VoiceConverter
        from knnvc.presets.loading import choose_device

        spoken = read_corpus(folder, which, most, utterances, seed)
        if encoder is None:
            converter = VoiceConverter.from_preset(preset, device)
            name, listened = f"the encoder of {converter.name}", converter.encoder
        else:
            converter, name = None, encoder
            listened = ChunkedEncoder(load_every_layer(encoder), choose_device(device))
        if not isinstance(listened, ChunkedEncoder):
            raise UsageError(f"{name} has no layers to probe: choose another --preset")
        found = probe_layers(spoken, listened, converter, seed, progress)
        title = f"What {name} knows: {len(found.speakers)} speakers, {found.utterances} utterances"
        facts = {
            "encoder": encoder or f"preset {preset}",
            "corpus": str(folder),
            "speakers": which,
            "seed": seed,
        }
        with atomic_path(path, force=force) as temporary:
            text = json.dumps({"settings": facts, **found.to_dict()}, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        save_png(probe_figure(found, title), picture, force=force)
    say("\n".join(text_table(found)))
    say_path(path)
    say_path(picture)


def read_corpus(folder: Path, which: str, most: int, utterances: int, seed: int) -> list[Spoken]:
    """Draw speakers and utterances of an aligned corpus.

    Raises:
        KnnvcError: there are not enough.
    """
    import numpy as np

    from knnvc.audio import load_audio
    from knnvc.evaluation.probe import UNKNOWN, Spoken
    from knnvc.text.phones import IGNORED
    from knnvc.training.aligned import frame_states, is_held_out, read_alignments

    by_speaker: dict[str, list[dict[str, object]]] = {}
    for record in read_alignments(folder):
        if which == "all" or is_held_out(record):
            by_speaker.setdefault(record["speaker"], []).append(record)
    by_speaker = {name: own for name, own in by_speaker.items() if len(own) >= 2}
    if len(by_speaker) < 2:
        kind = "held-out speakers" if which == "held-out" else "speakers"
        raise KnnvcError(
            f"{folder} has {len(by_speaker)} {kind} with two utterances or more, and probing needs "
            "two: make a longer corpus, or probe with --speakers all"
        )
    rng = np.random.default_rng(seed)
    names = rng.permutation(sorted(by_speaker))[:most]
    spoken = []
    for name in names:
        own = by_speaker[str(name)]
        for number in sorted(rng.permutation(len(own))[:utterances]):
            record = own[number]
            wave = load_audio(folder / str(record["file"])).numpy()
            states = frame_states(record, len(wave) // 320).astype(np.int64)
            # 0 is silence; three states make a phone.
            phones = np.where(states > 0, 1 + (states - 1) // 3, states)
            phones[states == IGNORED] = UNKNOWN
            spoken.append(Spoken(str(record["file"]), str(name), wave, phones))
    return spoken


for _command in (run, list_tasks, leaderboard):
    probe.add_command(_command)
