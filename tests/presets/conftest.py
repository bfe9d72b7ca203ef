from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knnvc.presets.schema import FORMAT_VERSION


@pytest.fixture
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests away from the user's cache, and from what the package bundles today."""
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    for module in ("search", "importing"):
        monkeypatch.setattr(f"knnvc.presets.{module}.bundled_folder", lambda: tmp_path / "bundled")


@pytest.fixture
def minimal() -> Callable[..., Path]:
    """`minimal(folder, **changes)` writes a preset folder with empty weights."""

    def write(folder: Path, **changes: Any) -> Path:
        values: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "name": folder.name,
            "description": "A test.",
            "sample_rate": 16000,
            "encoder": {"type": "mini", "weights": "encoder.safetensors", "config": {}},
            "converter": {"type": "knn", "config": {"k": 4, "weighting": "mean", "lam": 1.0}},
            "vocoder": {"type": "source-filter", "weights": "vocoder.safetensors", "config": {}},
            "text_front_end": None,
            "licence": "MIT",
            "licences": {},
            "provenance": {},
        }
        values.update(changes)
        folder.mkdir(parents=True)
        (folder / "preset.json").write_text(json.dumps(values))
        (folder / "encoder.safetensors").touch()
        (folder / "vocoder.safetensors").touch()
        return folder

    return write
