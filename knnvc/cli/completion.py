"""`knnvc --install-completion`: the shell completes commands, options and paths."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from knnvc.cli.common import say, say_path
from knnvc.errors import UsageError
from knnvc.files import atomic_path

SHELLS = ("bash", "zsh", "fish")
_FROM_ENVIRONMENT = "auto"


def _install(context: click.Context, _parameter: click.Parameter, shell: str | None) -> None:
    if shell is None or context.resilient_parsing:
        return
    if shell == _FROM_ENVIRONMENT:
        shell = Path(os.environ.get("SHELL", "")).name
        if shell not in SHELLS:
            raise UsageError(
                f"the shell is {shell or 'not known'}: name it, --install-completion=bash, zsh or "
                "fish"
            )
    path, after = _place(shell)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(script(context.find_root().command, shell), encoding="utf-8")
    say_path(path)
    say(after, error=True)
    context.exit()


def script(command: click.Command, shell: str) -> str:
    """What a shell sources to complete `knnvc`."""
    found = get_completion_class(shell)
    assert found is not None
    made = found(command, {}, "knnvc", "_KNNVC_COMPLETE")
    return made.source_template % made.source_vars()


def _place(shell: str) -> tuple[Path, str]:
    """Where the shell looks for it, and what to do next."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if shell == "bash":
        path = data / "bash-completion" / "completions" / "knnvc"
        return path, f"Open a new shell; without the package bash-completion, source {path}."
    if shell == "fish":
        return config / "fish" / "completions" / "knnvc.fish", "Open a new shell."
    path = data / "zsh" / "site-functions" / "_knnvc"
    return path, (
        f"Put this into ~/.zshrc and open a new shell: fpath=({path.parent} $fpath); "
        "autoload -Uz compinit; compinit"
    )


COMPLETION = click.option(
    "--install-completion",
    type=click.Choice([_FROM_ENVIRONMENT, *SHELLS]),
    is_flag=False,
    flag_value=_FROM_ENVIRONMENT,
    expose_value=False,
    is_eager=True,
    callback=_install,
    help="Let the shell complete commands and options, and exit; auto is the one in use.",
)
