#!/usr/bin/env python3
"""The recipe of the preset `mini`: `python vocoder/mini.py --help`."""

from knnvc.cli.start import guarded


def _run() -> None:
    from recipe.cli import cli

    cli(prog_name="vocoder/mini.py")


if __name__ == "__main__":
    guarded(_run)
