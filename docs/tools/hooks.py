"""Hooks of mkdocs: pages whose text lies elsewhere in the repository, and links that lead out.

Readers of the repository follow relative links to any file. The site has only its own pages: links
to other files become plain text, links to a page's file become links to the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ELSEWHERE = {  # page: file of the repository
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/model-card.md": "knnvc/presets/mini/MODEL_CARD.md",
    "project/ready-voices.md": "matching_sets/VOICES.md",
    "project/release.md": "packaging/RELEASE.md",
    "project/security.md": "SECURITY.md",
}
PAGES = {file: page for page, file in ELSEWHERE.items()}
LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
# A paragraph of nothing but commands, or of a pipe into one.
EXAMPLES = re.compile(r"<p>((?:echo [^<]*\| |cat [^<]*\| )?knnvc [a-z][^<]*)</p>")
BLOCK = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `ELSEWHERE`."""
    from mkdocs.structure.files import File

    for page, file in ELSEWHERE.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links to files into links to pages, or into text."""
    uri = page.file.src_uri
    return site_links(markdown, ELSEWHERE.get(uri, f"docs/{uri}"), uri)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Show the examples of a command's help as code, a line each."""
    return examples(html) if page.file.src_uri == "reference/cli.md" else html


def examples(page_html: str) -> str:
    """The reference of the command line with paragraphs of commands as blocks of code."""
    return EXAMPLES.sub(
        lambda found: f'<div class="highlight"><pre><code>{found[1]}</code></pre></div>', page_html
    )


def site_links(markdown: str, file: str, page: str, pages: Mapping[str, str] = PAGES) -> str:
    """The text of a page with links that fit the site.

    Args:
        markdown: the text.
        file: where it lies in the repository.
        page: where it lies on the site.
        pages: the page of each file that lies elsewhere.
    """

    def site_link(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = os.path.normpath(PurePosixPath(file).parent / target)
        if path in pages:
            to = pages[path]
        elif path.startswith("docs/") and (ROOT / path).is_file():
            to = path.removeprefix("docs/")
        else:
            return text if text.startswith("`") else f"{text} (`{path}`)"
        there = os.path.relpath(to, PurePosixPath(page).parent)
        return f"{image}[{text}]({PurePosixPath(there).as_posix()}{anchor or ''})"

    # Every second part is a block of code.
    parts = BLOCK.split(markdown)
    parts[::2] = [LINK.sub(site_link, part) for part in parts[::2]]
    return "".join(parts)
