from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: the first example pays for lazy imports. On CI the same examples every time, so that
# a submission fails for what it changed; elsewhere new ones.
settings.register_profile("local", deadline=None, max_examples=100)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Tiny checkpoints in the published file formats, and what published kNN-VC makes of them."""
    return Path(__file__).parent / "assets" / "parity"
