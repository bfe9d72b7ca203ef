"""Fetch and cut the speech that quality is measured on; all of it comes from package registries.

    pip install -r vocoder/requirements.txt   # apt, dpkg and npm must be there, too
    python benchmarks/evaluation_data.py --out data/

Quality is judged by `knnvc evaluate --bench`; this is speech for what the bench does not ask. A
second call goes on where the first was stopped. What it writes:

    data/real/sources/    a LibriVox reader and a man reading cards (transcripts in .txt files),
                          longer prompts of an Asterisk speaker, and readers of other languages
    data/real/targets/    Asterisk's professional speakers, 20 minutes each, and the narrator of a
                          game, 7 minutes
    data/kokoro/          speakers of Kokoro that no recipe trains on: sources and targets
    data/development.csv  for questions about languages and synthetic voices
    data/report.csv       the same of other targets, on which nothing is tuned
    data/listen.csv       a few lines of it, one source of each kind: a page to listen to
    data/CARD.md          where everything comes from, and the licences

Kokoro takes about half an hour on one core; --no-kokoro leaves it, and its lines of the manifests,
out.

A verifier hears which language is spoken, so the manifests keep apart who speaks the target's
language and who does not. How much that matters for real people, one of them tells: Asterisk's
speaker of English also spoke the Spanish prompts, and stands in report.csv as a yardstick.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from knnvc.audio import SAMPLE_RATE, load_audio, resample, write_audio

# Recipes are no part of knnvc.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vocoder"))
from recipe import downloads, kokoro
from recipe.recordings import tell_apart

Wave = npt.NDArray[np.float32]

ASTERISK = {
    "en": ("en_US_f_Allison", "Allison Smith", "CC BY-SA 3.0"),
    "es": ("es_MX_f_Allison", "Allison Smith", "CC BY-SA 3.0"),
    "it": ("it_IT_m_Carlo", "Carlo Flora", "CC BY 3.0"),
    "fr": ("fr_CA_f_June", "June Wallack", "CC BY-SA 3.0"),
    "ru": ("ru_RU_f_IvrvoiceRU", "ivrvoice.ru", "CC BY 3.0"),
}
DEVELOPMENT, REPORT = ("asterisk-en", "asterisk-it"), ("asterisk-fr", "asterisk-ru")
# Targets of the report, too, but only of who speaks their language.
SAME_LANGUAGE = ("warzone", "tuxpaint-fr", "tuxpaint-ru")
# Who speaks two languages; they are converted to themselves only, from either to the other.
BILINGUAL = ("asterisk-en", "asterisk-es")

# What people recorded for the stamps of a painting program, a language each.
STAMPS, READERS = "tuxpaint-stamps-default", ("fr", "ru")
MENARDI = "asterisk-prompt-it-menardi-wav"
SAME_PERSON, OWN_LANGUAGE = "the same person", "same language"
OTHER_LANGUAGE = "another language"
READINGS = 13  # clips of each reader, as many as there are English ones
# A game's English narrator, at 11 kHz: these folders of its archive are one woman's.
WARZONE, ARCHIVE = "warzone2100-data", "games/warzone2100/base.wz"
NARRATION = ("audio/tutorial/", "audio/memressp/", "audio/proxmessages/")
NO_SPEECH = re.compile(r"(^|/)(silence/|beep|\w*-2tone|tt-monkeys|confbridge-(join|leave)\.)")
SHORT, ENOUGH = 2.5, 4.0  # seconds: shorter prompts are joined, until there is enough
PAUSE = 0.3  # seconds of silence between what is joined
PROMPTS = (5.0, 12.0)  # seconds: prompts that serve as sources
MOST_PROMPTS = 6

# Sources and targets among the voices held out of training, women and men, others for either use.
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
    """A recording of a source, and what it says, if known; `kind` is "real" or "Kokoro"."""

    path: Path
    text: str = ""
    language: str = "en"
    kind: str = "real"

    @property
    def speaker(self) -> str:
        """The folder's name."""
        return self.path.parent.name


@dataclass(frozen=True)
class Goal:
    """The folder of a target, which may be a target of `only` one relation to it."""

    path: Path
    language: str = "en"
    kind: str = "real"
    only: str = ""


def fetch(folder: Path) -> Path:
    """Download and unpack the Debian packages; returns their `usr/share`."""
    packages = [
        *("pocketsphinx-testdata", STAMPS, MENARDI, WARZONE),
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
    names = {path.relative_to(folder): path for path in sorted(folder.rglob("*.g722"))}
    return long_enough(
        (name.with_suffix(""), decode_g722(path))
        for name, path in names.items()
        if not NO_SPEECH.search(name.as_posix())
    )


def long_enough(spoken: Iterable[tuple[Path, Wave]]) -> Iterator[tuple[str, Wave]]:
    """Names and samples of what is long enough, and of short ones of one folder joined."""
    waiting: dict[str, list[tuple[str, Wave]]] = {}
    for path, wave in spoken:
        where = path.parent.name
        if len(wave) >= SHORT * SAMPLE_RATE:
            yield path.as_posix().replace("/", "_"), wave
            continue
        waiting.setdefault(where, []).append((path.name, wave))
        if sum(len(one) for _, one in waiting[where]) >= ENOUGH * SAMPLE_RATE:
            names, waves = zip(*waiting.pop(where), strict=True)
            yield f"short_{names[0]}", join(list(waves))


def narrator(archive: Path) -> Iterator[tuple[str, Wave]]:
    """Names and samples of what the game's narrator says."""
    with zipfile.ZipFile(archive) as game:
        spoken = []
        for name in sorted(game.namelist()):
            if name.startswith(NARRATION) and name.endswith(".ogg"):
                wave, rate = sf.read(io.BytesIO(game.read(name)), dtype="float32")
                ready = resample(torch.from_numpy(wave), rate, SAMPLE_RATE).numpy()
                spoken.append((Path(name).relative_to("audio").with_suffix(""), ready))
    return long_enough(spoken)


def reader(recordings: Iterable[Path]) -> list[tuple[str, Wave]]:
    """Clips of somebody who says a few words in each of the `recordings`, joined.

    Of several people it is the one who says most; what is joined was recorded in a row.
    """
    paths = sorted(recordings)
    waves = [load_audio(path).numpy() for path in paths]
    speakers = tell_apart(waves, "reader")
    known = Counter(filter(None, speakers))
    if not known:
        raise SystemExit(f"nobody says enough in the {len(paths)} recordings of {paths[0].parent}")
    (most, _), *_ = known.most_common(1)
    clips: list[tuple[str, Wave]] = []
    pieces: list[Wave] = []
    for path, wave, speaker in zip(paths, waves, speakers, strict=True):
        if speaker == most:
            pieces.append(wave)
        if sum(map(len, pieces)) >= ENOUGH * SAMPLE_RATE:
            clips.append((f"{len(clips):03d}_{path.stem}", join(pieces)))
            pieces = []
    return clips


def prompts(folder: Path) -> list[tuple[str, Wave]]:
    """MOST_PROMPTS of a speaker's prompts that are long enough to be sources."""
    low, high = (seconds * SAMPLE_RATE for seconds in PROMPTS)
    long = [path for path in sorted(folder.glob("*.flac")) if "short_" not in path.name]
    spoken = [(path.stem, load_audio(path).numpy()) for path in long]
    return evenly([one for one in spoken if low <= len(one[1]) <= high], MOST_PROMPTS)


def evenly(spoken: list[tuple[str, Wave]], count: int) -> list[tuple[str, Wave]]:
    """So many recordings, if there are as many, from beginning to end."""
    return spoken[:: max(1, len(spoken) // count)][:count]


def real(share: Path, out: Path) -> tuple[list[Clip], list[Goal]]:
    """Write the real speakers' recordings; the sources, and the targets."""
    sources, targets = out / "sources", out / "targets"
    clips, goals = [], []
    data = share / "pocketsphinx/test/data"
    for name, wave, text in [*librivox(data / "librivox"), *cards(data / "cards")]:
        path = sources / f"{name}.flac"
        keep(path, wave)
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        clips.append(Clip(path, text))
    for language, (folder, *_) in ASTERISK.items():
        write(targets / f"asterisk-{language}", asterisk(share / "asterisk/sounds" / folder))
        goals.append(Goal(targets / f"asterisk-{language}", language))
    write(targets / "warzone", narrator(share / ARCHIVE))
    goals.append(Goal(targets / "warzone"))
    for speaker in (*BILINGUAL, *(f"asterisk-{code}" for code in READERS)):
        paths = write(sources / speaker, prompts(targets / speaker))
        clips += [Clip(path, language=speaker[-2:]) for path in paths]
    for code in READERS:
        read = reader((share / "tuxpaint/stamps").rglob(f"*_desc_{code}.ogg"))
        paths = write(sources / f"tuxpaint-{code}", evenly(read, READINGS))
        clips += [Clip(path, language=code) for path in paths]
        write(targets / f"tuxpaint-{code}", read)
        goals.append(Goal(targets / f"tuxpaint-{code}", code))
    prompted = reader((share / "asterisk/sounds/it_IT_f_Menardi").glob("*.wav"))
    paths = write(sources / "menardi-it", evenly(prompted, READINGS))
    clips += [Clip(path, language="it") for path in paths]
    return clips, goals


def write(folder: Path, spoken: Iterable[tuple[str, Wave]]) -> list[Path]:
    """Keep recordings in a folder; their paths."""
    paths = []
    for name, wave in spoken:
        paths.append(folder / f"{name}.flac")
        keep(paths[-1], wave)
    return paths


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

    def make(self, manifest: str) -> tuple[list[Clip], list[Goal]]:
        """Sources and targets of a manifest."""
        sources, targets = KOKORO[manifest]
        clips, goals = [], []
        for name in sources:
            for number in range(SOURCE_SENTENCES):
                path, text = self.out / f"sources/{name}/{number}.flac", next(self.long)
                self.speak(name, text, path)
                clips.append(Clip(path, text, kind="Kokoro"))
        for name in targets:
            seconds, folder = 0.0, self.out / "targets" / name
            # Every speaker says something else.
            for number, text in enumerate(self.usual[self.targets.index(name) :: 10]):
                if seconds >= TARGET_SECONDS:
                    break
                seconds += self.speak(name, text, folder / f"{number:03d}.flac")
            print(f"{name}: {seconds:.0f} s", flush=True)
            goals.append(Goal(folder, kind="Kokoro"))
        return clips, goals

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


def relation(clip: Clip, goal: Goal) -> str | None:
    """Which of the manifest's groups a conversion belongs to; None is for those not to be made."""
    speakers = (clip.speaker, goal.path.name)
    if speakers[0] == speakers[1]:
        return None
    if set(speakers) == set(BILINGUAL):
        found, group = SAME_PERSON, f"{SAME_PERSON}, {OTHER_LANGUAGE}"
    elif clip.language == goal.language:
        found, group = OWN_LANGUAGE, f"{clip.kind}, {OWN_LANGUAGE}"
    elif clip.language == "en":
        found, group = OTHER_LANGUAGE, f"{clip.kind}, {OTHER_LANGUAGE}"
    else:  # who speaks neither English nor the target's language tells nothing new
        return None
    return group if goal.only in ("", found) else None


def write_manifest(path: Path, clips: list[Clip], goals: list[Goal]) -> None:
    """What `relation` lets be made of all pairs, those in the same language first."""
    lines = []
    for clip, goal in itertools.product(clips, goals):
        group = relation(clip, goal)
        if group is not None:
            names = [str(one.relative_to(path.parent)) for one in (clip.path, goal.path)]
            lines.append([*names, clip.text, clip.language, group, goal.kind])
    lines.sort(key=lambda line: (line[-1] != "real", not line[-2].endswith(OWN_LANGUAGE)))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["source", "target", "text", "language", "source_group", "target_group"])
        table.writerows(lines)


def write_card(out: Path, with_kokoro: bool) -> None:
    """Say where the speech comes from and on what terms."""
    rows = [
        f"| real/targets/asterisk-{language} | Debian asterisk-core-sounds-{language}-g722, "
        f"{speaker} | {licence} |"
        for language, (_, speaker, licence) in ASTERISK.items()
    ]
    rows += [
        f"| real/targets/warzone | Debian {WARZONE}, the narrator | GPL-2.0-or-later |",
        *(f"| real/sources/{name} | as real/targets/{name} | CC BY-SA 3.0 |" for name in BILINGUAL),
        *(
            f"| real/sources/tuxpaint-{code} | Debian {STAMPS}, names of stamps | GPL-2.0 |"
            for code in READERS
        ),
        f"| real/sources/menardi-it | Debian {MENARDI}, Paola Dal Zot and Marco Menardi, "
        "http://www.voip.ammdomus.it | CC BY-SA 3.0 |",
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
    clips, speakers = real(fetch(out / "packages"), out / "real")
    write_card(out, options.kokoro)
    synthesis = Synthesis(options.parts, out / "kokoro") if options.kokoro else None
    for manifest, names in (("development", DEVELOPMENT), ("report", REPORT)):
        synthetic, held_out = synthesis.make(manifest) if synthesis else ([], [])
        goals = [goal for goal in speakers if goal.path.name in names]
        if manifest == "report":
            for only, whose in ((OWN_LANGUAGE, SAME_LANGUAGE), (SAME_PERSON, BILINGUAL)):
                goals += [replace(goal, only=only) for goal in speakers if goal.path.name in whose]
        write_manifest(out / f"{manifest}.csv", clips + synthetic, goals + held_out)
        print(out / f"{manifest}.csv", flush=True)
    by_speaker = {clip.speaker: clip for clip in reversed(clips + synthetic)}
    few = [by_speaker[name] for name in LISTEN if name in by_speaker]
    heard = [goal for goal in speakers if goal.path.name in REPORT]
    write_manifest(out / "listen.csv", few, heard + held_out[:1])


if __name__ == "__main__":
    main()
