"""Settings inside published checkpoints: namespaces and OmegaConf trees, read without running them.

fairseq keeps an `argparse.Namespace` in its files, Lightning what a training script gave it: for
ssl-vocoders a tree of OmegaConf. `weights_only=True` refuses both. Here the names of those classes
stand for classes that hold values and do nothing, so neither package is imported and no code of a
file runs.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knnvc.tensors import read_pickle

_DEEPEST = 40  # levels of a tree of settings


class Inert:
    """An object of a class that is not imported: it keeps what the file says of it."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        """Take over what was pickled."""
        self.__dict__["values"] = ()
        if isinstance(state, Mapping):
            self.__dict__.update({str(key): value for key, value in state.items()})


_INERT = (
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Bytes", "Enum", "Float")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Integer", "Path", "String", "Union", "Value")),
    "omegaconf.nodes.InterpolationResultNode",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.base.SCMode",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "typing.Any",
    "typing.Union",
    "typing.Optional",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)
_PLAIN = (dict, list, tuple, set, int, float, str, bool, bytes)
KNOWN: list[tuple[Any, str]] = [
    (argparse.Namespace, "argparse.Namespace"),
    (OrderedDict, "collections.OrderedDict"),
    (defaultdict, "collections.defaultdict"),
    *((kind, f"builtins.{kind.__name__}") for kind in _PLAIN),
    *((Inert, name) for name in _INERT),
]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A published checkpoint; settings in it stay as they are until `plain` reads them.

    Raises:
        UsageError: there is no such file.
        KnnvcError: it is damaged, no dict, or carries code, which is never run.
    """
    return read_pickle(path, KNOWN)


def plain(value: Any, depth: int = 0) -> Any:
    """Namespaces and OmegaConf trees as dicts, lists and values; anything else as it is."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    elif isinstance(value, Inert):
        state = vars(value)
        if "_content" in state or "_val" in state:
            return plain(state.get("_content", state.get("_val")), depth + 1)
        if value.values:  # a path: its parts
            return "/".join(map(str, value.values))
        value = state
    if isinstance(value, Mapping):
        return {str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    return value
