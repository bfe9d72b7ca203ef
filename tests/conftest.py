from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import knnvc

if TYPE_CHECKING:
    from knnvc import VoiceConverter

# No deadline: the first example pays for lazy imports. On CI the same examples every time, so that
# a submission fails for what it changed; elsewhere new ones.
settings.register_profile("local", deadline=None, max_examples=100)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Tests that start Python find the package under test, also where it is not installed. The folder of
# installed packages itself must not stand there: Resemblyzer brings a `typing` that would hide
# the standard library's.
SEARCHED = Path(knnvc.__file__).resolve().parents[1]
if Path(sysconfig.get_path("purelib")).resolve() != SEARCHED:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SEARCHED), before]))


@pytest.fixture(scope="session")
def parity() -> Path:
    """Tiny checkpoints in the published file formats, and what published kNN-VC makes of them."""
    return Path(__file__).parent / "assets" / "parity"


@pytest.fixture(scope="session")
def preset(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random weights in the published architecture, imported from the published formats."""
    from knnvc.presets.importing import import_published

    folder = tmp_path_factory.mktemp("presets") / "tiny"
    weights = (parity / "hifigan_tiny.pt", parity / "hifigan_tiny.json")
    import_published(parity / "wavlm_tiny.pt", 6, *weights, folder)
    return folder


@pytest.fixture(scope="session")
def mini() -> VoiceConverter:
    """The bundled preset, loaded once."""
    from knnvc import VoiceConverter

    return VoiceConverter.from_preset("mini", device="cpu")
