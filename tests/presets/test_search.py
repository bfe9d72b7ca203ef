"""Where presets are found, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from knnvc.errors import KnnvcError, UsageError
from knnvc.presets.schema import load_preset
from knnvc.presets.search import (
    PUBLISHED,
    bundled_folder,
    downloads_folder,
    find_preset,
    list_presets,
    presets_folder,
)

Minimal = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("own_places")


def sentence(error: KnnvcError) -> str:
    """Return the message in full, after making sure that it is one line."""
    assert str(error)
    assert "\n" not in str(error)
    return error.full


# Finding ----------------------------------------------------------------------------------------


def test_bundled_comes_before_downloaded_before_folder(
    minimal: Minimal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    local = minimal(tmp_path / "here" / "mini")
    assert find_preset("mini").folder.resolve() == local
    pulled = minimal(presets_folder() / "mini")
    assert find_preset("mini").folder == pulled
    bundled = minimal(tmp_path / "bundled" / "mini")
    assert find_preset("mini").folder == bundled
    assert find_preset("./mini").folder.resolve() == local
    assert find_preset(local).folder == local
    assert find_preset(local / "preset.json").folder == local


def test_unknown_name_lists_the_valid_ones(minimal: Minimal, tmp_path: Path) -> None:
    minimal(tmp_path / "bundled" / "mini")
    with pytest.raises(UsageError) as caught:
        find_preset("wavlm-larg")
    message = sentence(caught.value)
    assert "did you mean wavlm-large?" in message
    assert "mini, wavlm-large" in message
    with pytest.raises(UsageError, match="did you mean mini"):
        find_preset("Mimi")
    for text in ("", ".", "..", "a/b", "nothing-like-it"):
        with pytest.raises(UsageError):
            find_preset(text)


def test_known_preset_says_how_to_get_it() -> None:
    with pytest.raises(UsageError) as caught:
        find_preset("wavlm-large")
    message = sentence(caught.value)
    assert "knnvc preset pull wavlm-large" in message
    assert f"putting WavLM-Large.pt and prematch_g_02500000.pt into {downloads_folder()}" in message


def test_folder_without_preset_is_said_to_be_none(tmp_path: Path) -> None:
    for read in (find_preset, load_preset):
        with pytest.raises(UsageError, match=r"no preset\.json"):
            read(tmp_path)


def test_listing_works_with_nothing_and_with_damage(minimal: Minimal, tmp_path: Path) -> None:
    assert [(entry.name, entry.status) for entry in list_presets()] == [
        ("wavlm-large", "available")
    ]
    minimal(tmp_path / "bundled" / "mini")
    minimal(presets_folder() / "mini")  # hidden by the bundled one
    minimal(presets_folder() / "wavlm-large")
    minimal(presets_folder() / "broken", sample_rate="high")
    (presets_folder() / "stray").mkdir()
    entries = {entry.name: entry for entry in list_presets()}
    statuses = {name: entry.status for name, entry in entries.items()}
    assert statuses == {"mini": "bundled", "wavlm-large": "downloaded", "broken": "damaged"}
    assert entries["mini"].description == "A test."
    assert "sample_rate" in entries["broken"].description


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    import knnvc

    assert bundled_folder() == Path(knnvc.__path__[0]) / "presets"
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path))
    assert presets_folder() == tmp_path / "presets"
    assert list_presets()[-1].name in PUBLISHED
