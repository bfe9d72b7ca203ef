"""Makes docs/listen/: what conversions, speech from text and ready voices sound like.

One command, for releases only; a run that was stopped goes on when it is called again:

    python docs/tools/listen.py --bench ../shared/speech/eval --demos ../shared/speech/demos

`--bench` is a folder as `knnvc evaluate --bench` takes it, `--demos` as `knnvc evaluate --demos`.
`--measured` is what `knnvc evaluate --bench` made. Without it the bench is measured here.
Which conversions are shown is a rule: all are sorted by the words that they lose, then by likeness,
and ten are taken at even steps from the best to the worst.
"""

from __future__ import annotations

import argparse
import csv
import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[2]
PAIRS = 10
RATE = 16_000  # Hz
KILOBITS = 24  # a second, of Opus
LONGEST, REFERENCE, PREVIEW = 12.0, 6.0, 4.0  # seconds
MOST_BYTES = 2_000_000  # of all audio
TEXTS = (
    "The birch canoe slid on the smooth planks.",
    "On Nov. 24 the meeting began at 3:30 p.m., and 42 people came.",
)
SPEAKERS = ("emma", "george", "michael")  # ready voices inside the package
CONDITION = {"seconds": 60.0}  # what is shown of a bench with several conditions
HOST = "https://github.com/"  # the manifest's `origin` is a repository there
Terms = tuple[str, str, str]  # what is heard, where it comes from, its licence
CREDITS = (
    "LibriSpeech: V. Panayotov, G. Chen, D. Povey, S. Khudanpur, 2015. VCTK: J. Yamagishi, "
    "C. Veaux, K. MacDonald, University of Edinburgh.",
    "CC BY 4.0 is https://creativecommons.org/licenses/by/4.0/",
    "Changed: cut, coded as Opus, and, where the page says so, converted by knnvc. Converted "
    "recordings are synthetic speech.",
)
STYLE = """
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.2rem;
  color: #222; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.4rem }
.card { border: 1px solid #ddd; border-radius: .5rem; padding: .8rem 1rem; margin: 1rem 0 }
.card h3 { margin: 0 0 .5rem; font-size: 1rem }
.three { display: grid; gap: .6rem 1rem;
  grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)) }
figure { margin: 0 } figcaption { font-size: .85rem; color: #555 }
audio { width: 100%; height: 2.4rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .6rem 0 0;
  font-size: .9rem } dt { color: #555 } dd { margin: 0 }
table { border-collapse: collapse; font-size: .9rem } .wide { overflow-x: auto }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left }
@media (max-width: 30rem) { th, td { padding: .25rem } table { font-size: .8rem } }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr } dd { margin-bottom: .3rem } }
"""


@dataclass(frozen=True)
class Shown:
    """A conversion on the page: its rank of `among`, what was measured, and its audio."""

    rank: int
    among: int
    line: dict[str, Any]
    source: str
    reference: str
    converted: str


def main() -> None:
    """Measure, choose, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--demos", type=Path, required=True)
    parser.add_argument("--measured", type=Path, help="results of `knnvc evaluate --bench`")
    parser.add_argument("--work", type=Path, default=ROOT / "out/listen", help="of the measuring")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/listen")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--speakers", help="take only these, A,B: for trying out")
    options = parser.parse_args()
    if options.measured is None:
        options.measured = options.work / "bench"
        measure(options)
    results = json.loads((options.measured / "results.json").read_text(encoding="utf-8"))
    made = options.work / "page"
    shutil.rmtree(made, ignore_errors=True)
    (made / "audio").mkdir(parents=True)
    pairs = list(show(choose(results["lines"]), options, made))
    spoken = speak(options, made)
    voices = preview(made)
    terms = licences(options.bench, pairs)
    text = page(
        pairs, spoken, voices, published(options.demos), results, terms, lasting(options.demos)
    )
    (made / "index.html").write_text(text, encoding="utf-8")
    (made / "LICENCES.md").write_text(markdown(terms), encoding="utf-8")
    size = sum(path.stat().st_size for path in (made / "audio").iterdir())
    if size > MOST_BYTES:
        sys.exit(f"error: the audio has {size:,} bytes, more than {MOST_BYTES:,}")
    shutil.rmtree(options.out, ignore_errors=True)
    shutil.copytree(made, options.out)
    print(f"{options.out}: {len(pairs)} pairs, {size:,} bytes of audio")


def measure(options: argparse.Namespace) -> None:
    """Convert and measure the bench; what is there already is not made again."""
    call = [sys.executable, "-m", "knnvc", "evaluate", "--bench", str(options.bench)]
    call += ["--sources", "2", "--sweep", "seconds=60", "--no-yardsticks"]
    call += ["--preset", options.preset]
    call += ["--speakers", options.speakers] if options.speakers else []
    subprocess.run([*call, "-o", str(options.measured)], check=True)


def choose(lines: Sequence[dict[str, Any]]) -> list[tuple[int, int, dict[str, Any]]]:
    """Rank, number of all, and line of the conversions at even steps from the best to the worst."""
    converted = [line for line in lines if line["system"] == "converted"]
    if len({line["condition"] for line in converted}) > 1:
        converted = [line for line in converted if line["settings"] == CONDITION]
    ranked = sorted(
        converted,
        key=lambda line: (words_lost(line), -likeness(line), line["source"], line["target"]),
    )
    count = min(PAIRS, len(ranked))
    steps = [round(n * (len(ranked) - 1) / max(1, count - 1)) for n in range(count)]
    return [(step + 1, len(ranked), ranked[step]) for step in steps]


def words_lost(line: dict[str, Any]) -> float:
    """Word errors that the conversion adds to the source's, as a share of the words."""
    first = next(iter(line["recognised"].values()))
    added: int = first["word_errors"] - first["source_word_errors"]
    words: int = first["words"]
    return added / max(1, words)


def likeness(line: dict[str, Any]) -> float:
    """Cosine to the target by the first verifier."""
    return float(next(iter(line["likeness"].values()))["target"])


def show(
    chosen: Sequence[tuple[int, int, dict[str, Any]]], options: argparse.Namespace, made: Path
) -> Iterator[Shown]:
    """Write the audio of the chosen conversions."""
    bench = _manifest(options.bench)
    for rank, among, line in chosen:
        name = f"{rank:02d}"
        source = next(row for row in bench if Path(row["file"]).stem in line["source"])
        target = [row for row in bench if row["speaker"] == line["target"]]
        files = {
            f"{name}-source": (options.bench / source["file"], LONGEST),
            f"{name}-target": (options.bench / target[-1]["file"], REFERENCE),
            f"{name}-converted": (options.measured / line["audio"], LONGEST),
        }
        paths = [_opus(path, made / f"audio/{key}.opus", s) for key, (path, s) in files.items()]
        yield Shown(rank, among, line, *paths)


def speak(options: argparse.Namespace, made: Path) -> list[tuple[str, str, str]]:
    """Speaker, text and audio of what was spoken."""
    from knnvc import VoiceConverter

    converter = VoiceConverter.from_preset(options.preset)
    found = []
    for speaker in SPEAKERS:
        for number, text in enumerate(TEXTS):
            path = made / f"spoken-{speaker}-{number}.wav"
            voice = _voice(speaker)
            converter.speak_file(text, converter.matching_set(voice), path, force=True)
            audio = _opus(path, made / f"audio/{path.stem}.opus", LONGEST)
            path.unlink()
            found.append((speaker, text, audio))
    return found


def preview(made: Path) -> list[tuple[str, str]]:
    """Name and audio of every ready voice."""
    cards = json.loads((ROOT / "matching_sets/cards.json").read_text(encoding="utf-8"))
    cards |= json.loads((ROOT / "knnvc/voices/cards.json").read_text(encoding="utf-8"))
    return [
        (
            f"{name}, {card['sex']}, {card['accent']}",
            _opus(_voice(name), made / f"audio/voice-{name}.opus", PREVIEW),
        )
        for name, card in sorted(cards.items())
    ]


def published(demos: Path) -> list[dict[str, Any]]:
    """Means of what the published outputs measured, by page and system."""
    rows = _manifest(demos)
    keys = dict.fromkeys((row["page"].split("/")[0], row["system"]) for row in rows)
    found = []
    for page_name, system in keys:
        own = [r for r in rows if (r["page"].split("/")[0], r["system"]) == (page_name, system)]
        counted = [float(row["published_wer"]) for row in own if row["published_wer"]]
        found.append(
            {
                "origin": own[0]["origin"],
                "system": system,
                "pairs": len(own),
                "wer": 100 * mean(counted) if counted else None,
                "similarity": mean(float(row["published_similarity"]) for row in own),
                "mos": mean(float(row["published_distillmos"]) for row in own),
            }
        )
    return found


def lasting(demos: Path) -> str:
    """How long the target's recordings on the pages are, as a sentence."""
    import soundfile as sf

    seconds = [
        sum(sf.info(demos / name.strip()).duration for name in row["references"].split(";"))
        for row in _manifest(demos)
    ]
    return f"The pages show {min(seconds):.0f} to {max(seconds):.0f} s of the target."


# The page -----------------------------------------------------------------------------------------


def page(
    pairs: Sequence[Shown],
    spoken: Sequence[tuple[str, str, str]],
    voices: Sequence[tuple[str, str]],
    others: Sequence[dict[str, Any]],
    results: dict[str, Any],
    terms: Sequence[Terms],
    lengths: str = "",
) -> str:
    """The page as HTML; the audio lies beside it."""
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>knnvc: listen</title><style>{STYLE}</style></head><body>",
        "<h1>Listen</h1>",
        f"<p>Made by knnvc {_text(results['knnvc'])} with the preset {_text(results['preset'])}. "
        "Converted and spoken recordings are synthetic speech. "
        '<a href="#licences">Licences of the recordings</a>.</p>',
        "<h2>Converted voices</h2>",
        f"<p>Readers of LibriSpeech and VCTK whom nobody here chose, with 60 s of the target. All "
        f"{pairs[0].among if pairs else 0} conversions are sorted by the words that they lose, "
        f"then by likeness. You hear {len(pairs)} at even steps, from the best to the worst.</p>",
        *(_pair(one) for one in pairs),
        "<h2>Published systems</h2>",
        "<p>Demo pages of other systems have pairs of the same kind. Listen to them there. The "
        f"tables show what their outputs measure with the same instruments. {_text(lengths)}</p>",
        *_tables(others),
        "<h2>Speech from text</h2>",
        '<div class="three">',
        *(_player(f"{name}: {text}", audio) for name, text, audio in spoken),
        "</div>",
        "<h2>Ready voices</h2>",
        "<p>Recordings, not conversions. <code>--ref voice:NAME</code> takes them.</p>",
        '<div class="three">',
        *(_player(name, audio) for name, audio in voices),
        '</div><h2 id="licences">Licences of the recordings</h2><div class="wide"><table>',
        "<tr><th>what</th><th>from</th><th>licence</th></tr>",
        *(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in terms),
        "</table></div>",
        *(f"<p>{_linked(_text(line))}</p>" for line in CREDITS),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _pair(one: Shown) -> str:
    line = one.line
    first = next(iter(line["recognised"].values()))
    errors = 100 * first["word_errors"] / max(1, first["words"])
    before = 100 * first["source_word_errors"] / max(1, first["words"])
    facts = {
        "said": line["said"],
        "heard by Whisper": first["heard"],
        "words wrong": f"{errors:.0f} % (source {before:.0f} %)",
        "like the target": f"{likeness(line):.2f}",
        "DistillMOS": f"{line['distillmos']:.1f}",
    }
    inner = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in facts.items())
    worth = {1: ", the best", one.among: ", the worst"}.get(one.rank, "")
    return (
        f'<section class="card"><h3>{_text(line["speaker"])} to {_text(line["target"])}: '
        f'number {one.rank} of {one.among}{worth}</h3><div class="three">'
        f"{_player('source', one.source)}{_player('target', one.reference)}"
        f"{_player('converted', one.converted)}</div><dl>{inner}</dl></section>"
    )


def _tables(others: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table for each repository that a page of theirs comes from."""
    titles = ("system", "pairs", "WER %", "like target", "DistillMOS")
    head = "".join(f"<th>{title}</th>" for title in titles)
    for origin in dict.fromkeys(row["origin"] for row in others):
        lines = []
        for row in others:
            if row["origin"] == origin:
                wer = f"{row['wer']:.1f}" if row["wer"] is not None else "–"
                cells = (row["pairs"], wer, f"{row['similarity']:.2f}", f"{row['mos']:.2f}")
                figures = "".join(f"<td>{cell}</td>" for cell in cells)
                lines.append(f"<tr><td>{_text(row['system'])}</td>{figures}</tr>")
        name = _text(origin)
        yield f'<h3><a href="{HOST}{name}">{name}</a></h3>'
        yield f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _player(caption: str, audio: str) -> str:
    return (
        f'<figure><audio controls preload="none" src="{_text(audio)}"></audio>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def licences(bench: Path, pairs: Sequence[Shown]) -> list[Terms]:
    """Who reads, and on what terms the recordings may be passed on."""
    rows = {row["speaker"]: row for row in _manifest(bench)}
    names = sorted({name for one in pairs for name in (one.line["speaker"], one.line["target"])})
    return [
        *((f"{name}, reader", rows[name]["origin"], rows[name]["licence"]) for name in names),
        ("ready voices, and speech in them", "Kokoro-82M, hexgrad", "Apache-2.0"),
    ]


def markdown(terms: Sequence[Terms]) -> str:
    """The licences as a page of their own."""
    rows = [f"| {' | '.join(row)} |" for row in terms]
    head = ["# Licences of these recordings", "", "| What | From | Licence |", "|---|---|---|"]
    return "\n".join([*head, *rows, "", *CREDITS, ""])


def _linked(text: str) -> str:
    return re.sub(r"https://[^\s,]+", lambda found: f'<a href="{found[0]}">{found[0]}</a>', text)


def _manifest(folder: Path) -> list[dict[str, str]]:
    text = (folder / "manifest.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(text.splitlines()))


def _voice(name: str) -> Path:
    inside = ROOT / f"knnvc/voices/{name}.opus"
    return inside if inside.is_file() else ROOT / f"matching_sets/{name}.opus"


def _opus(source: Path, target: Path, seconds: float) -> str:
    """Write the beginning of a recording as Opus; its name as the page says it."""
    import av
    import numpy as np

    from knnvc.audio import load_audio

    wave = load_audio(source, RATE).numpy()[: round(seconds * RATE)].copy()
    fade = min(len(wave), RATE // 10)
    wave[len(wave) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    with av.open(str(target), "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = KILOBITS * 1000
        frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return f"audio/{target.name}"


def _text(value: object) -> str:
    return html.escape(str(value))


if __name__ == "__main__":
    main()
