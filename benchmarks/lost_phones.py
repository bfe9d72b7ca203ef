"""Which phones an encoder hears wrongly, by class and by speaker: of people, and of conversions.

    python benchmarks/lost_phones.py hear --bench DIR --out heard/mini
    python benchmarks/lost_phones.py hear --bench DIR --out heard/other --preset other
    python benchmarks/lost_phones.py table --bench DIR heard/other heard/mini

`hear` keeps what the encoder of a preset says of every frame of the bench, and of conversions of
every utterance into one other speaker, the next in the order of their names, by the same preset.
What is there is kept. It takes nothing of the recipe, so an older release can run it, too:
PYTHONPATH=its/folder.

`table` aligns the true texts with the recordings, by what one encoder heard (--by; the last one, if
it is not said), and compares all of them frame by frame with that alignment. A conversion keeps its
source's timing, so the alignment holds for it as well. The encoder that aligned is favoured by it:
run it with another --by, too. The phone error rate needs no alignment: it compares the phones that
are heard for two frames or more, in their order, with the phones of the text.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from manners import MANNER_OF, MANNERS

from knnvc.errors import KnnvcError
from knnvc.evaluation.bench import Utterance, read_bench
from knnvc.evaluation.tables import DASH, Table, markdown
from knnvc.text.phones import IGNORED, PHONES, STATES

SILENCE = "silence"
CLASSES = (*MANNERS, SILENCE)
SOURCE, CONVERTED = "source", "converted"
SECONDS = 60.0  # of reference
MOST_PAIRS = 12  # confusions listed
SHORTEST = 2  # frames of a phone that counts as heard

Pair: TypeAlias = tuple[str, str]
"""The phone that is said in a frame, and the phone that is heard; "" is silence."""


def class_of(phone: str) -> str:
    """The class of one of `PHONES`, or of "" for silence."""
    return MANNER_OF[phone] if phone else SILENCE


def phone_of(state: int) -> str:
    """The phone of a state, "" for silence."""
    return PHONES[(state - 1) // 3] if state else ""


def pairs(states: npt.NDArray[np.int16], heard: npt.NDArray[np.floating]) -> Counter[Pair]:
    """What is said and heard in the frames of `states` [T] and posteriors `heard` [T, STATES]."""
    count = min(len(states), len(heard))
    guesses = heard[:count].argmax(1)
    return Counter(
        (phone_of(int(said)), phone_of(int(guess)))
        for said, guess in zip(states[:count], guesses, strict=True)
        if said != IGNORED
    )


def heard_phones(posteriors: npt.NDArray[np.floating]) -> list[str]:
    """The phones in [T, STATES], in their order, without silence and what is too short."""
    phones = [phone_of(int(state)) for state in posteriors.argmax(1)]
    runs = ((phone, len(list(run))) for phone, run in groupby(phones))
    return [phone for phone, frames in runs if phone and frames >= SHORTEST]


# Hearing ------------------------------------------------------------------------------------------


def name_of(utterance: Utterance) -> str:
    """The name of a file for what is heard of an utterance."""
    return f"{utterance.speaker}_{utterance.path.stem}.npy"


def hear(
    utterances: list[Utterance], preset: str, out: Path, seconds: float, convert: bool
) -> None:
    """Write posteriors of every utterance, and of its conversion, into `out`."""
    import torch

    from knnvc import VoiceConverter
    from knnvc.audio import SAMPLE_RATE, load_audio

    torch.set_num_threads(1)
    converter = VoiceConverter.from_preset(preset, device="cpu")

    def keep(path: Path, wave: torch.Tensor) -> None:
        features = converter.encoder.encode(wave)
        said = features[:, converter.encoder.columns.match][:, 2 : 2 + STATES].square()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, said.half().numpy())

    for one in utterances:
        if not (out / SOURCE / name_of(one)).exists():
            keep(out / SOURCE / name_of(one), load_audio(one.path))
    speakers = sorted({one.speaker for one in utterances})
    for index, target in enumerate(speakers if convert else []):
        source = speakers[index - 1]
        missing = [
            one
            for one in utterances
            if one.speaker == source and not (out / CONVERTED / name_of(one)).exists()
        ]
        if not missing:
            continue
        references, left = [], round(seconds * SAMPLE_RATE)
        for one in utterances:
            if one.speaker == target and left > 0:
                references.append(load_audio(one.path)[:left])
                left -= len(references[-1])
        voice = converter.matching_set(references, sample_rate=SAMPLE_RATE)
        for one in missing:
            made, _ = converter.convert(one.path, voice)
            keep(out / CONVERTED / name_of(one), torch.from_numpy(np.asarray(made)))
        print(f"{source} converted to {target}", file=sys.stderr, flush=True)


# Tables -------------------------------------------------------------------------------------------


def recipe() -> ModuleType:
    """The recipe's `people`: recipes are no part of knnvc."""
    folder = str(Path(__file__).resolve().parents[1] / "vocoder")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("recipe.people")


def aligned(
    utterances: list[Utterance], by: Path
) -> Iterator[tuple[Utterance, npt.NDArray[np.int16]]]:
    """States [T] of the utterances whose words are heard; the others are named."""
    from knnvc.training.aligned import frame_states

    for one in utterances:
        heard = np.load(by / SOURCE / name_of(one)).astype(np.float32)
        record = recipe().record_of(heard, one.text)
        if record is None:
            print(f"the words of {one.path} are not heard: left out", file=sys.stderr)
        else:
            yield one, frame_states(record, len(heard))


def shares(found: Counter[Pair], name: str) -> list[float]:
    """Of the frames of a class in per cent: right, another phone of it, then each class."""
    own = {pair: count for pair, count in found.items() if class_of(pair[0]) == name}
    total = sum(own.values())
    if not total:
        return []
    right = sum(count for (said, heard), count in own.items() if said == heard)
    by_class: Counter[str] = Counter()
    for (said, heard), count in own.items():
        by_class[class_of(heard)] += count if said != heard else 0
    taken = [by_class[other] for other in CLASSES]
    return [100 * count / total for count in (right, *taken)]


def class_table(systems: Mapping[str, Counter[Pair]]) -> Table:
    """A line for each class and system: right, and what the rest is taken for."""
    lines: list[list[str]] = []
    for name in CLASSES:
        lines.append([name])
        for system, found in systems.items():
            frames = sum(count for (said, _), count in found.items() if class_of(said) == name)
            cells = [f"{share:.1f}" for share in shares(found, name)] or [DASH] * 7
            lines.append([system, str(frames), *cells])
    lines.append(["speech"])
    for system, found in systems.items():
        lines.append([system, *speech(found)])
    head = ["", "frames", "right %", *(f"as {name} %" for name in CLASSES)]
    return Table("Frames by class, and what those that are not right are taken for", head, lines)


def speech(found: Counter[Pair]) -> list[str]:
    """Frames of speech, and the share of them that is right."""
    spoken = {pair: count for pair, count in found.items() if pair[0]}
    total = sum(spoken.values())
    right = sum(count for (said, heard), count in spoken.items() if said == heard)
    return [str(total), f"{100 * right / total:.1f}" if total else DASH]


def speaker_table(systems: Mapping[str, Mapping[str, Counter[Pair]]]) -> Table:
    """Frames that are right in per cent, by speaker of the source and class."""
    lines = []
    for speaker in sorted({name for found in systems.values() for name in found}):
        for system, by_speaker in systems.items():
            found = by_speaker.get(speaker, Counter())
            cells = [shares(found, name) for name in CLASSES]
            right = [f"{one[0]:.0f}" if one else DASH for one in cells]
            lines.append([f"{speaker}, {system}", speech(found)[1], *right])
    return Table("Right, %, by source speaker", ["", "speech", *CLASSES], lines)


def pair_table(system: str, found: Counter[Pair]) -> Table:
    """The confusions of the most frames, in per cent of the phone that is said."""
    said: Counter[str] = Counter()
    for (one, _), count in found.items():
        said[one] += count
    worst = [(pair, n) for pair, n in found.most_common() if pair[0] != pair[1] and pair[0]]
    lines = [
        [f"{one} → {other or SILENCE}", str(count), f"{100 * count / said[one]:.0f}"]
        for (one, other), count in worst[:MOST_PAIRS]
    ]
    return Table(f"{system}: the confusions of the most frames", ["", "frames", "%"], lines)


def error_table(utterances: list[Utterance], heard: list[Path]) -> Table:
    """Phone error rate in per cent, by speaker, of all utterances; either accent may be right."""
    from knnvc.evaluation.probing.kinds import edits

    wrong: dict[str, Counter[str]] = defaultdict(Counter)
    phones: dict[str, Counter[str]] = defaultdict(Counter)
    for one in utterances:
        accents = ["".join(recipe().words_of(one.text, name)) for name in recipe().ACCENTS]
        for kind in (SOURCE, CONVERTED):
            for folder in heard:
                path = folder / kind / name_of(one)
                if not path.exists():
                    continue
                guess = heard_phones(np.load(path))
                rate, said = min((edits(text, guess) / len(text), text) for text in accents)
                for speaker in (one.speaker, "all"):
                    wrong[f"{kind}, {folder.name}"][speaker] += round(rate * len(said))
                    phones[f"{kind}, {folder.name}"][speaker] += len(said)
    speakers = [*sorted({one.speaker for one in utterances}), "all"]
    lines = [
        [name, *(f"{100 * wrong[name][who] / max(1, count[who]):.1f}" for who in speakers)]
        for name, count in phones.items()
    ]
    return Table("Phone error rate, %, by source speaker", ["", *speakers], lines)


def tables(utterances: list[Utterance], heard: list[Path], by: Path) -> list[Table]:
    """All tables, of every folder that `hear` wrote."""
    counted: dict[str, dict[str, Counter[Pair]]] = defaultdict(lambda: defaultdict(Counter))
    for one, states in aligned(utterances, by):
        for kind in (SOURCE, CONVERTED):
            for folder in heard:
                path = folder / kind / name_of(one)
                if path.exists():
                    counted[f"{kind}, {folder.name}"][one.speaker] += pairs(states, np.load(path))
    whole = {name: sum(found.values(), Counter[Pair]()) for name, found in counted.items()}
    made = [error_table(utterances, heard), class_table(whole), speaker_table(counted)]
    return made + [pair_table(name, found) for name, found in whole.items()]


def main() -> None:
    """Hear, or print tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("hear", "table"):
        step = steps.add_parser(name)
        step.add_argument("--bench", type=Path, required=True, help="as of knnvc evaluate --bench")
    hearing, table = steps.choices["hear"], steps.choices["table"]
    hearing.add_argument("--out", type=Path, required=True)
    hearing.add_argument("--preset", default="mini")
    hearing.add_argument("--seconds", type=float, default=SECONDS, help="of reference")
    hearing.add_argument("--no-convert", action="store_true", help="hear recordings only")
    table.add_argument("heard", type=Path, nargs="+", help="folders that `hear` wrote")
    table.add_argument("--by", type=Path, help="whose hearing aligns  [default: the last]")
    arguments = parser.parse_args()
    try:
        _run(arguments, parser)
    except KnnvcError as error:
        parser.error(str(error))


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    utterances = read_bench(arguments.bench)
    if arguments.step == "hear":
        convert = not arguments.no_convert
        hear(utterances, arguments.preset, arguments.out, arguments.seconds, convert)
        return
    by = arguments.by or arguments.heard[-1]
    missing = [one.path for one in utterances if not (by / SOURCE / name_of(one)).exists()]
    if missing:
        parser.error(f"{by} lacks {missing[0]}: run `hear` with the same bench")
    print("\n".join(map(markdown, tables(utterances, arguments.heard, by))))


if __name__ == "__main__":
    main()
