"""What a newcomer copies has to run: the example scripts; tests/docs runs what README shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SOURCE = EXAMPLES / "audio/source.wav"
TARGET = EXAMPLES / "audio/target"


def run(*args: str | Path, cwd: Path) -> str:
    """Run Python in `cwd`, where no file of the repository lies; return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seconds(path: Path) -> float:
    info = sf.info(path)
    assert info.samplerate == 16_000
    return info.duration


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The first two seconds of the example."""
    wave, rate = sf.read(SOURCE)
    sf.write(tmp_path / "source.wav", wave[: 2 * rate], rate)
    return tmp_path / "source.wav"


@pytest.fixture
def voices(tmp_path: Path) -> tuple[Path, Path]:
    """Two short references, each a clip in a folder of its own."""
    folders = tmp_path / "first", tmp_path / "second"
    for folder, clip in zip(folders, sorted(TARGET.glob("*.flac")), strict=False):
        folder.mkdir()
        shutil.copy(clip, folder)
    return folders


def test_convert(tmp_path: Path, source: Path, voices: tuple[Path, Path]) -> None:
    run(EXAMPLES / "convert.py", source, voices[0], "out.wav", cwd=tmp_path)
    assert seconds(tmp_path / "out.wav") == pytest.approx(2.0, abs=0.04)


def test_batch(tmp_path: Path, source: Path, voices: tuple[Path, Path]) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    wave, rate = sf.read(source)
    sf.write(sources / "one.wav", wave[:rate], rate)
    sf.write(sources / "two.wav", wave, rate)
    run(EXAMPLES / "batch.py", voices[0], sources, "out", cwd=tmp_path)
    assert seconds(tmp_path / "out/one.wav") == pytest.approx(1.0, abs=0.04)
    assert seconds(tmp_path / "out/two.wav") == pytest.approx(2.0, abs=0.04)


def test_blend(tmp_path: Path, source: Path, voices: tuple[Path, Path]) -> None:
    run(EXAMPLES / "blend.py", source, *voices, "out", cwd=tmp_path)
    made = sorted((tmp_path / "out").iterdir())
    names = ["blend_0.25", "blend_0.5", "blend_0.75", "lam_0.0", "lam_0.5", "lam_1.0"]
    assert [path.stem for path in made] == names
    assert len({path.read_bytes() for path in made}) == len(names)  # no two sound the same


def test_published_preset(
    tmp_path: Path, source: Path, voices: tuple[Path, Path], parity: Path
) -> None:
    run(
        EXAMPLES / "published_preset.py",
        *(source, voices[0], "out.wav"),
        *("--encoder", parity / "wavlm_tiny.pt"),
        *("--vocoder", parity / "hifigan_tiny.pt"),
        *("--vocoder-config", parity / "hifigan_tiny.json"),
        cwd=tmp_path,
    )
    assert seconds(tmp_path / "out.wav") == pytest.approx(2.0, abs=0.04)


BUNDLED = {
    "convert.py": ["converted.wav"],
    "batch.py": ["converted/source.wav"],
    "blend.py": ["blends/blend_0.5.wav", "blends/lam_0.0.wav"],
    "published_preset.py": ["converted.wav"],
    "tts.py": ["spoken.wav", "spoken_own_voice.wav"],
}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_without_arguments_there_is_something_to_play(name: str, tmp_path: Path) -> None:
    """On the example's audio, cut short so that it is quick."""
    examples = tmp_path / "examples"
    (examples / "audio" / "target").mkdir(parents=True)
    shutil.copy(EXAMPLES / name, examples)
    wave, rate = sf.read(SOURCE)
    sf.write(examples / "audio" / "source.wav", wave[:rate], rate)
    for clip in sorted(TARGET.glob("*.flac"))[:2]:
        shutil.copy(clip, examples / "audio" / "target")
    run(examples / name, cwd=tmp_path)
    for path in BUNDLED[name]:
        assert seconds(tmp_path / path) > 0.5
        assert sf.read(tmp_path / path)[0].std() > 0.001


def test_the_notebook(tmp_path: Path) -> None:
    """All its code, in one go, on a short text; what it plays is there."""
    notebook = json.loads((EXAMPLES / "knnvc.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == "code"]
    assert all(not one.get("outputs") for one in notebook["cells"])
    cells.insert(0, "from IPython.display import display")  # a notebook has it
    script = "\n\n".join(cells).replace("This is a voice that nobody has.", "")
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "display.py").write_text(
        "def Audio(path):\n    return path\n\n"
        "def display(path):\n    import soundfile\n"
        "    print(path, soundfile.info(path).duration)\n"
    )
    (tmp_path / "notebook.py").write_text(script, encoding="utf-8")
    played = run("notebook.py", cwd=tmp_path).splitlines()
    names = [line.split()[0] for line in played if line.split()[0].endswith(".wav")]
    assert names == ["spoken.wav", "converted.wav", "blend.wav", "half.wav", "again.wav"]
    first, second = tmp_path / "converted.wav", tmp_path / "again.wav"
    # A saved set has half the digits, so that a frame of equal worth may be chosen.
    assert np.corrcoef(sf.read(first)[0], sf.read(second)[0])[0, 1] > 0.9


def test_tts(tmp_path: Path, preset: Path, parity: Path, voices: tuple[Path, Path]) -> None:
    """With tiny published weights; what it says is noise."""
    from knnvc.presets.importing import add_published_front_end
    from knnvc.presets.schema import load_preset

    folder = tmp_path / "talking"
    shutil.copytree(preset, folder)
    glow = parity / "glow"
    add_published_front_end(
        load_preset(folder), glow / "glow_tts_ssl_tiny.pth", glow / "config.json"
    )
    run(EXAMPLES / "tts.py", "hello", voices[0], "out.wav", folder, cwd=tmp_path)
    assert seconds(tmp_path / "out.wav") > 0
    assert seconds(tmp_path / "out_own_voice.wav") > 0
