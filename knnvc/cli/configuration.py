"""Options of a training step, out of a configuration file and off the command line.

They are the fields of a dataclass. `--config` reads them from a JSON file with one object for each
step; what stands on the command line wins.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from knnvc.cli.derive import click_type, declared
from knnvc.errors import UsageError
from knnvc.options import settings

Chosen = TypeVar("Chosen")
Command = Callable[..., Any]
FILE = click.Path(path_type=Path)
START = click.option("--start", type=FILE, help="Weights to begin with, of an earlier training.")
RUN = "Folder for weights and what a resumed run needs."


def out_to(default: str, text: str = RUN) -> Callable[[Command], Command]:
    """Give a command `--out`, where it writes."""
    return click.option("--out", type=FILE, default=Path(default), show_default=True, help=text)


def options_of(kind: type[Any]) -> Callable[[Command], Command]:
    """Give a command `--config` and one option for each setting of the dataclass `kind`."""
    known = settings(kind)

    def add(command: Command) -> Command:
        for field in reversed(dataclasses.fields(kind)):
            allowed = known[field.name]
            text = f"{allowed.help}  [default: {field.default}]"
            flag, taken = declared(field.name, allowed), click_type(allowed)
            command = click.option(flag, field.name, type=taken, default=None, help=text)(command)
        return click.option("--config", type=FILE, help="JSON file with the options.")(command)

    return add


def read_config(config: Path | None, step: str) -> dict[str, Any]:
    """The object `step` of a configuration file; empty without a file or such an object.

    Raises:
        UsageError: the file is missing or holds something else.
    """
    if config is None:
        return {}
    if not config.is_file():
        raise UsageError(f"the configuration {config} does not exist; check the path")
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{config} is no JSON object: {error}") from error
    found = values.get(step, {}) if isinstance(values, dict) else None
    if not isinstance(found, dict):
        raise UsageError(f"{config} is no JSON object with one object for each step")
    loose = [name for name, value in values.items() if not isinstance(value, dict)]
    if loose:
        raise UsageError(
            f"{', '.join(loose)} of {config} belong to no step: write "
            f'{{"{step}": {{"{loose[0]}": ...}}}}'
        )
    return found


def chosen(kind: type[Chosen], step: str, config: Path | None, given: dict[str, Any]) -> Chosen:
    """`kind` from the object `step` of a configuration file, overridden by what was `given`.

    Raises:
        UsageError: a key is unknown or a value has the wrong type.
    """
    values = read_config(config, step)
    values |= {name: value for name, value in given.items() if value is not None}
    known = {field.name: type(field.default) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        where = f"{config} or the command line" if config else "the command line"
        raise UsageError(
            f"{step} does not know {', '.join(unknown)} (from {where}); "
            f"it knows {', '.join(sorted(known))}"
        )
    for name, value in values.items():
        whole_as_float = known[name] is float and type(value) is int
        if type(value) is not known[name] and not whole_as_float:
            raise UsageError(f"{name} of {step} is {value!r}: give a {known[name].__name__}")
    return kind(**values)


def need(path: Path, made_by: str) -> Path:
    """`path`, or a usage error that names the command which makes it."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; make it with `{made_by}`")
    return path
