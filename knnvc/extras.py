"""Packages that only an extra installs (instruments, plots, recipes), and the sentence without."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterable
from typing import Any

from knnvc.errors import UsageError


def need(module: str, extra: str = "eval") -> Any:
    """Import `module`, which the extra `extra` installs.

    Raises:
        UsageError: it is not installed.
    """
    require((module,), extra)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources (webrtcvad) and other people's deprecations
        return importlib.import_module(module)


def require(modules: Iterable[str], extra: str = "eval") -> None:
    """Raise UsageError if one of the top-level `modules` is missing; imports none of them."""
    for module in modules:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            raise UsageError(f"this needs {module}: run `pip install 'knnvc[{extra}]'`")
