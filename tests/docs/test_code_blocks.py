"""What README and docs show runs: every block of code, or at least its options exist."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.docs import blocks as module
from tests.docs.blocks import Block, blocks, check, commands, furnish, pages, run, run_python

ALL = [block for page in pages() for block in blocks(page)]
REASONS = ("network", "hours", "minutes", "needs", "several machines")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the recordings of the examples, in which nothing of the user's is found.

    All of it is short, so one thread is faster than several.
    """
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", sorted({block.page for block in ALL if block.language == "sh"}))
def test_the_commands_of_a_page_run(page: str, folder: Path) -> None:
    for block in blocks(page):
        if block.language == "sh" and block.mark != "not run":
            run(block)


@pytest.mark.parametrize(
    "page", sorted({block.page for block in ALL if block.language == "python"})
)
def test_the_python_of_a_page_runs(page: str, folder: Path) -> None:
    code = [one.text for one in blocks(page) if one.language == "python" and not one.mark]
    run_python("\n".join(code), folder)


@pytest.mark.parametrize("block", [one for one in ALL if one.mark == "not run"], ids=str)
def test_what_is_not_run_exists_and_says_why(block: Block) -> None:
    assert block.note.startswith(REASONS)
    if block.language == "sh":
        for pipeline in commands(block.text):
            for words in pipeline:
                check(words)


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_has_a_language_that_is_checked(block: Block) -> None:
    known = {"sh", "python", "json", "csv", "text", "ssml"}
    assert block.language in known, "give the block a language"
    if block.language == "json":
        json.loads(block.text)
    if block.language == "csv":
        rows = list(csv.reader(block.text.splitlines()))
        assert len({len(row) for row in rows}) == 1


def test_pages_show_something() -> None:
    assert len([block for block in ALL if block.language == "sh" and not block.mark]) >= 20
    shown = {block.page for block in ALL}
    assert {"README.md", "docs/index.md", "docs/speak.md", "docs/batch.md"} <= shown


@pytest.mark.parametrize(
    "command",
    [
        "knnvc convert talk.wav --reference anna/",
        "knnvc sing talk.wav",
        "knnvc voices adopt anna/",
        'pip install "knnvc[everything]"',
        "python benchmarks/batch.py --no-such-option",
        "python benchmarks/missing.py",
        "curl somewhere",
    ],
)
def test_a_wrong_command_is_found(command: str) -> None:
    """The checks of the blocks that are not run are no dummies."""
    import click

    ((words,),) = commands(command)
    with pytest.raises((AssertionError, click.ClickException)):
        check(words)


def test_a_failing_command_is_found(folder: Path) -> None:
    with pytest.raises(AssertionError, match=r"missing\.wav"):
        run(Block("x.md", 1, "sh", "knnvc convert missing.wav --ref anna/\n"))


def test_a_block_is_read_as_it_stands() -> None:
    text = "Before.\n\n<!-- not run: hours -->\n```sh\nknnvc a \\\n    --b  # c\n```\n"
    (hit,) = module.BLOCK.finditer(text)
    assert (hit["mark"], hit["note"], hit["language"]) == ("not run", "hours", "sh")
    assert list(commands(hit["text"])) == [[["knnvc", "a", "--b"]]]
    assert list(commands('echo "a | b" | knnvc x && knnvc y "*.wav"')) == [
        [["echo", "a | b"], ["knnvc", "x"]],
        [["knnvc", "y", "*.wav"]],
    ]
