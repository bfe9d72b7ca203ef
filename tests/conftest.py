from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# A process for each core runs tests (see pyproject.toml), with one thread each, and so do those
# that they start. OpenMP reads this once, when torch is imported.
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import soundfile as sf  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from torch import Tensor  # noqa: E402

import knnvc  # noqa: E402
from knnvc.cores import usable  # noqa: E402

if TYPE_CHECKING:
    from knnvc import VoiceConverter


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The cores that this process may use, which in a container are not all."""
    return usable()


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


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither use nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNNVC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(scope="session")
def tiny(preset: Path) -> VoiceConverter:
    """The tiny preset in the published formats, loaded once."""
    from knnvc import VoiceConverter

    return VoiceConverter.from_preset(preset, device="cpu")


def _noise(seconds: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(round(seconds * 16_000), generator=generator)


def _record(path: Path, waveform: Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, waveform.numpy(), 16_000, subtype="FLOAT")
    return path


@pytest.fixture(scope="session")
def anna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two recordings, of which one lies deeper, and a text file."""
    folder = tmp_path_factory.mktemp("voices") / "anna"
    _record(folder / "b.wav", _noise(0.9, seed=1))
    _record(folder / "a" / "a.wav", _noise(0.8, seed=2))
    (folder / "notes.txt").write_text("recorded in May")
    return folder


@pytest.fixture(scope="session")
def ben(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of one second."""
    return _record(tmp_path_factory.mktemp("voices") / "ben.wav", _noise(1.0, seed=3))


@pytest.fixture
def source() -> tuple[np.ndarray, int]:
    """Samples of 0.7 s and their rate."""
    return _noise(0.7, seed=9).numpy(), 16_000
