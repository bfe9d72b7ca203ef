"""docs/troubleshooting.md explains every message that the package can print."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import knnvc

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import messages  # noqa: E402

PACKAGE = Path(knnvc.__file__).parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MEND = "run `python docs/tools/messages.py --mend`, then write the remedies"


def test_every_message_is_explained() -> None:
    known = messages.explained(PAGE)
    missing = [one for one in messages.messages(PACKAGE) if not known.get(one.text)]
    assert not missing, f"{missing[0].file}:{missing[0].line}: {missing[0].text!r}; {MEND}"


def test_no_message_is_explained_that_nobody_says() -> None:
    said = {one.text for one in messages.messages(PACKAGE)}
    assert not messages.explained(PAGE).keys() - said, MEND


def test_remedies_are_sentences() -> None:
    for text, remedy in messages.explained(PAGE).items():
        assert remedy[0].isupper() or remedy[0] == "`", text
        assert remedy.endswith((".", "`")), text
        assert len(remedy) > 12, text
        assert messages.HOLE not in remedy, text


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that says something in every way that the finder knows."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "m.py").write_text(
        'HINT = "try again."\n'
        "def _refusal(name):\n    return KnnvcError(f'{name} is refused: leave it')\n"
        "def one(x, kind):\n"
        "    text = 'a local text; mend it'\n"
        "    if x: raise UsageError(text)\n"
        "    if x > 1: raise kind('a kind of error: see')\n"
        "    if x > 2: raise ValueError('only inside')\n"
        "    raise KnnvcError(f'{x} is ' + ('odd' if x else 'even') + '; choose another')\n"
        "def two(say):\n    warnings.warn(f'beware of {say!r}: ' + HINT, KnnvcWarning)\n"
        "    say(f'Warning: {say} happened; look')\n    say('no message')\n"
        "def three():\n    raise UsageError(_why())\n"
        "def _why():\n    return 'because; ask'\n"
    )
    return tmp_path / "p"


def test_messages_are_found_however_they_are_said(package: Path) -> None:
    found = {one.text for one in messages.messages(package)}
    assert found == {
        "… is refused: leave it",
        "a local text; mend it",
        "a kind of error: see",
        "… is odd; choose another",
        "… is even; choose another",
        "beware of …: try again",
        "… happened; look",
        "because; ask",
    }


def test_a_page_is_mended() -> None:
    page = "## The call\n\n| a | b |\n|---|---|\n| `old` | Old. |\n\n## Text\n\n| a | b |\n"
    new = messages.Message("new | thing; do it all at once", "knnvc/cli/x.py", 1)
    made = messages.mended(page, [new, messages.Message("words", "knnvc/text/x.py", 1)])
    assert "old" not in made
    assert "| a | b |\n| `words` |  |\n" in made
    assert made.index("new") < made.index("## Text")
    assert messages.explained(made)["new | thing; do it all at once"] == "Do it all at once."
