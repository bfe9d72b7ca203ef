"""The code blocks of README and docs, and a small shell that runs those for `sh`.

Above a block may stand `<!-- not run: why -->`: then only its commands' names and options are
checked. `<!-- file: NAME -->` means that the block is the content of that file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import click
import soundfile

from knnvc.cli.main import cli

ROOT = Path(__file__).parents[2]
# Extending has a test of its own that runs all of its blocks; history need not run any more.
ELSEWHERE = ("docs/extending.md", "docs/experiments/")
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>not run|file): (?P<note>.+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*).*?\n"
    r"(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
# Commands of others: whether they are typed rightly is all that can be asked here.
FOREIGN = frozenset(
    "accelerate cd export git mkdocs mypy pip pre-commit python python3 ray ruff lint-imports "
    "tensorboard . vocoder/run.sh .ci/check_sizes.py .ci/run twine".split()
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where it begins in `page`."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    note: str = ""

    def __str__(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README, CONTRIBUTING and the documents."""
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    found += ["README.md", "CONTRIBUTING.md"]
    return sorted(one for one in found if not one.startswith(ELSEWHERE))


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for hit in BLOCK.finditer(text):
        line = text[: hit.start("language")].count("\n") + 1
        indent = len(hit["indent"])
        inner = "".join(one[indent:] for one in hit["text"].splitlines(keepends=True))
        found.append(
            Block(page, line, hit["language"], inner, hit["mark"] or "", hit["note"] or "")
        )
    return found


def commands(text: str) -> Iterator[list[list[str]]]:
    """Pipelines of simple commands, each a list of words; a word's quotes are gone."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split, lexer.commenters = True, "#"
        pipeline: list[list[str]] = [[]]
        for word in lexer:
            if word == "|":
                pipeline.append([])
            elif word in ("&&", ";"):
                yield pipeline
                pipeline = [[]]
            elif "*" in word and f'"{word}"' not in line:
                pipeline[-1] += sorted(map(str, Path().glob(word))) or [word]
            else:
                pipeline[-1].append(word)
        if pipeline != [[]]:
            yield pipeline


def check(words: list[str]) -> None:
    """Fail unless the command and its options exist.

    Raises:
        click.UsageError: an option of ours does not.
        AssertionError: a command, a script, an extra or a script's option does not.
    """
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:3] == ["python", "-m", "knnvc"]:
        words = ["knnvc", *words[3:]]
    if words and words[0] == "knnvc":
        parse(words[1:])
        return
    assert words[0] in FOREIGN | {"echo", "ffmpeg", "ffplay", "sox"}, f"unknown command {words[0]}"
    for extra in re.findall(r"knnvc\[(\w+)\]", " ".join(words)):
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert f"\n{extra} = [" in project, f"no extra {extra}"
    if words[0] == "python" and words[1].endswith(".py"):
        script = ROOT / words[1]
        assert script.is_file() or script.parts[-2] in ("docs",), f"no script {words[1]}"
        source = "".join(one.read_text(encoding="utf-8") for one in _sources(script))
        for option in (one for one in words if one.startswith("--")):
            name = option.removeprefix("--no-").removeprefix("--").replace("-", "[-_]")
            assert re.search(rf"\b{name}\b", source), f"{words[1]} has no {option}"


def _sources(script: Path) -> list[Path]:
    """A script, and what lies beside it: options may be defined there."""
    return [script, *script.parent.glob("recipe/*.py")]


def parse(words: list[str]) -> None:
    """Read a command line of ours without running it."""
    command: click.Command = cli
    name = "knnvc"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    if command is cli:  # its options act at once: --install-completion
        known = {option for one in command.params for option in one.opts}
        assert {word.split("=")[0] for word in words} <= known | {"--help"}
        return
    # A command keeps the names of its help option from the first context that it meets.
    above = click.Context(cli, info_name="knnvc", **cli.context_settings)
    with contextlib.suppress(click.exceptions.Exit):  # --help
        command.make_context(name, words, parent=above)


def run(block: Block) -> None:
    """Run a block in the current folder.

    Raises:
        AssertionError: a command failed.
    """
    for pipeline in commands(block.text):
        given = ""
        for words in pipeline:
            given = _run(words, given, f"{block}: {shlex.join(words)}")


def _run(words: list[str], given: str, where: str) -> str:
    """Run one command with `given` as standard input; what it prints."""
    check(words)
    settings = {}
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        settings[name] = value
    if words[0] == "echo":
        return " ".join(words[1:]) + "\n"
    if words[0] != "knnvc":
        return ""
    # A page may write one name twice.
    if "--force" not in words and _takes_force(words[1:]):
        words = [words[0], *words[1:], "--force"] if "--" not in words else words
    if words[1] == "batch":  # its workers import the script that started them
        code = [sys.executable, "-m", "knnvc", *words[1:]]
        done = subprocess.run(
            code,
            env=os.environ | settings,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{where}\n{done.stderr}"
        return done.stdout
    out, err, stdin = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli(words[1:], prog_name="knnvc", standalone_mode=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdin = stdin
    assert status == 0, f"{where}\n{err.getvalue()}"
    return out.getvalue()


def _takes_force(words: list[str]) -> bool:
    command: click.Command = cli
    for word in words:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
    return any(one.name == "force" for one in command.params)


def furnish(folder: Path) -> None:
    """Put what the pages speak of into a folder: recordings, texts, voices; all of it short."""
    target = sorted((ROOT / "examples/audio/target").glob("*.flac"))
    wave, rate = soundfile.read(ROOT / "examples/audio/source.wav")
    for name in ("talk.wav", "takes/one.wav", "takes/may/two.flac"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, wave[rate : 2 * rate], rate)
    clips = {
        "anna/a.flac": target[0],
        "anna/b.flac": target[1],
        "ben/c.flac": target[2],
        "recordings/a.flac": target[0],
        "recordings/b.flac": target[2],
    }
    for name, clip in clips.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, *_beginning(clip, 2.5))
    for name in ("examples/audio/source.wav", "examples/audio/target/vm-opts.flac"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, *_beginning(ROOT / name, 2.0))
    shutil.copy(ROOT / "examples/audio/target/vm-newuser.flac", folder / "examples/audio/target")
    (folder / "article.txt").write_text("Good news. All is well.\n", encoding="utf-8")
    (folder / "film.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nGood morning.\n")
    for block in (one for page in pages() for one in blocks(page) if one.mark == "file"):
        (folder / block.note).write_text(block.text, encoding="utf-8")


def _beginning(path: Path, seconds: float) -> tuple[object, int]:
    rate = soundfile.info(path).samplerate
    return soundfile.read(path, frames=round(seconds * rate), dtype="float32")


def run_python(code: str, folder: Path) -> None:
    """Run Python in a process of its own, as a page's blocks that follow each other.

    Raises:
        AssertionError: it failed.
    """
    (folder / "page.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
