#!/usr/bin/env python3
"""The recipe of the preset `mini`: `python vocoder/mini.py --help`."""

from recipe.cli import cli

if __name__ == "__main__":
    cli(prog_name="vocoder/mini.py")
