"""Command-line options out of the definitions in `knnvc.options`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import click

from knnvc.errors import UsageError
from knnvc.options import Setting, settings

Command = TypeVar("Command", bound=Callable[..., Any])
Made = TypeVar("Made")

_TYPES: dict[str, Any] = {"number": float, "whole": int, "text": str, "any": str, "flag": bool}
_METAVARS = {"seconds": "SECONDS", "chunk": "SECONDS", "lexicon": "FILE", "language": "CODE"}
_METAVARS |= {"loudness": "LUFS|source|none"}


def options(kind: type, *names: str, **helps: str) -> Callable[[Command], Command]:
    """A decorator that gives a command the options of a dataclass.

    Args:
        kind: of `knnvc.options.Checked`.
        names: of its fields; all of them by default.
        helps: other help texts, by field.
    """
    known = settings(kind)
    defaults = {one.name: one.default for one in fields(kind)}
    chosen = names or tuple(known)

    def decorate(command: Command) -> Command:
        for name in reversed(chosen):
            allowed = known[name]
            told = helps.get(name, allowed.help)
            for option in _options(name, allowed, defaults[name], told):
                command = option(command)
        return command

    return decorate


def declared(name: str, allowed: Setting) -> str:
    """How the option of a field is written: `--name`, or `--name/--no-name`."""
    dashed = name.replace("_", "-")
    return f"--{dashed}/--no-{dashed}" if allowed.kind == "flag" else f"--{dashed}"


def click_type(allowed: Setting) -> Any:
    """What click makes of what is given."""
    return click.Choice(allowed.choices) if allowed.kind == "choice" else _TYPES[allowed.kind]


def _options(name: str, allowed: Setting, default: Any, told: str) -> list[Any]:
    """The click options of one field; the last one stands first in the help."""
    flag = declared(name, allowed)
    if allowed.kind == "flag":
        return [click.option(flag, name, default=default, show_default=True, help=told)]
    given: dict[str, Any] = {"help": told, "metavar": _METAVARS.get(name)}
    if default is None:
        given["help"] += f"  [default: {allowed.otherwise}]" if allowed.otherwise else ""
    else:
        given |= {"default": str(default) if allowed.kind == "any" else default}
        given["show_default"] = True
    given["type"] = click_type(allowed)
    made = [click.option(flag, name, **given)]
    if name == "loudness":
        without = click.option(
            "--no-loudness", name, flag_value="none", help="The same as --loudness none."
        )
        made.insert(0, without)
    return made


def collect(kind: type[Made], given: Mapping[str, Any]) -> Made:
    """The dataclass of what was given on the command line; other keys are left alone.

    Raises:
        UsageError: a value is out of range; the message names the option.
    """
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in given.items() if name in names}
    try:
        return kind(**values)
    except UsageError as error:
        name, _, rest = str(error).partition(" ")
        if name in names:
            raise UsageError(f"--{name.replace('_', '-')} {rest}") from error
        raise
