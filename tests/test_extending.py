"""docs/extending.md runs as it stands: each part is one file, and nothing else has to change."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import knnvc

ROOT = Path(__file__).parents[1]
PACKAGE = Path(knnvc.__file__).parent
BLOCKS = dict(
    re.findall(
        r"```(?:python|json) (\S+)\n(.*?)```",
        (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
)
PARTS = {
    "spectral_encoder.py": ("encoder", "spectral"),
    "nearest_converter.py": ("converter", "nearest"),
    "sine_vocoder.py": ("vocoder", "sines"),
    "letters_front_end.py": ("text_front_end", "letters"),
}


def content(folder: Path) -> dict[Path, str]:
    """What every file of the package holds."""
    paths = (path for path in folder.rglob("*") if path.suffix in (".py", ".json"))
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the parts, the preset and two recordings."""
    for name, text in BLOCKS.items():
        path = tmp_path / ("sketch/preset.json" if name == "preset.json" else name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for number, name in enumerate(("source", "target")):
        noise = np.random.default_rng(number).standard_normal(16_000)
        sf.write(tmp_path / f"{name}.wav", 0.1 * noise, 16_000)
    return tmp_path


def run(code: str, folder: Path) -> list[str]:
    """What Python prints that runs `code` in `folder`, where no file of the repository lies."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"KNNVC_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_one_short_file_with_one_registration(name: str) -> None:
    text = BLOCKS[name]
    assert len(text.splitlines()) <= 60
    assert text.count("register(") == 1


def test_the_parts_work_together_and_nothing_else_had_to_change(folder: Path) -> None:
    before = content(PACKAGE)
    kinds = "".join(f"\nprint({name!r} in names({kind!r}))" for kind, name in PARTS.values())
    report = (
        "\nfrom knnvc.registry import names" + kinds + "\nprint(len(waveform), len(spoken) > 1000)"
        "\nprint(converter)"
    )
    printed = run(BLOCKS["use.py"] + report, folder)
    assert printed[:4] == ["True"] * 4
    assert printed[4] == "16000 True"
    assert printed[5].startswith("VoiceConverter('sketch', NearestConverter, 16000 Hz")
    assert run(BLOCKS["by_hand.py"] + "\nprint(len(waveform))", folder) == ["16000"]
    assert content(PACKAGE) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"bands": 40}', '"bands": 2147483648}', "give a whole number from 1 to 80"),
        ('"bands": 40}', '"band": 40}', "unknown spectral encoder settings: band"),
        ('"type": "sines"', '"type": "sine"', "did you mean sines?"),
        ('"lam": 1.0', '"lam": NaN', "give a number from 0 to 2"),
    ],
)
def test_a_damaged_preset_of_these_parts_is_one_sentence(
    folder: Path, old: str, new: str, words: str
) -> None:
    path = folder / "sketch" / "preset.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    imports = "".join(f"import {name.removesuffix('.py')}\n" for name in PARTS)
    code = (
        imports
        + "from knnvc.errors import KnnvcError\nfrom knnvc.presets.search import find_preset\n"
        "try: find_preset('sketch')\nexcept KnnvcError as error: print(error)"
    )
    (message,) = run(code, folder)
    assert words in message
