"""What a release says of itself agrees: versions, dates, pages, links."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import knnvc

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import hooks  # noqa: E402


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_versions_agree() -> None:
    version = knnvc.__version__
    assert f'\nversion = "{version}"\n' in read("pyproject.toml")
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert f'set version = "{version}"' in read("packaging/conda-forge/meta.yaml")
    assert f"knnvc-{version}.tar.gz" in read("packaging/homebrew/knnvc.rb")
    date = re.search(r'date-released: "(\S+)"', read("CITATION.cff"))
    assert date
    assert f"\n## [{version}] - {date[1]}\n" in read("CHANGELOG.md")


def test_the_changelog_has_one_line_for_each_change() -> None:
    body = read("CHANGELOG.md").split("\n## ", 1)[1]
    lines = [line for line in body.splitlines() if line and not line.startswith("#")]
    entries = [line for line in lines if line.startswith("- ")]
    assert len(entries) > 30
    assert max(map(len, entries)) <= 140
    assert not [line for line in lines if line.startswith("  ")]


def test_readme_and_model_card_are_short() -> None:
    assert 500 < len(read("README.md").split()) < 850
    card = (Path(knnvc.__file__).parent / "presets/mini/MODEL_CARD.md").read_text(encoding="utf-8")
    assert len(card.split()) < 800


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_repository_lead_somewhere(name: str) -> None:
    """The site's own links are checked when it is built."""
    for target in re.findall(r"\]\(([^)#\s]+)", read(name)):
        if re.match(r"[a-z]+:", target):
            continue
        inside = target.removeprefix("knnvc/")
        package = Path(knnvc.__file__).parent
        assert (ROOT / target).exists() or (package / inside).exists(), target


def test_links_fit_the_site() -> None:
    text = "See [speak](docs/speak.md#lexicon), [code](knnvc/options.py), [web](https://x.org).\n"
    made = hooks.site_links(text, "CHANGELOG.md", "project/changelog.md")
    assert "[speak](../speak.md#lexicon)" in made
    assert "code (`knnvc/options.py`)" in made
    assert "[web](https://x.org)" in made
    card = hooks.site_links("[c](../knnvc/presets/mini/MODEL_CARD.md)", "docs/a.md", "a.md")
    assert card == "[c](project/model-card.md)"
    block = "```sh\n[x](y.md)\n```"
    assert hooks.site_links(block, "docs/a.md", "a.md") == block


def test_examples_of_the_command_line_are_code() -> None:
    made = hooks.examples("<p>knnvc batch a/\nknnvc batch b/</p><p>The knnvc way</p>")
    assert "<pre><code>knnvc batch a/\nknnvc batch b/</code></pre>" in made
    assert "<p>The knnvc way</p>" in made


def test_every_page_of_the_site_is_in_its_menu() -> None:
    menu = read("mkdocs.yml").split("\nnav:")[1]
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    missing = [page for page in pages if page not in menu and page != "listen/LICENCES.md"]
    assert not missing
