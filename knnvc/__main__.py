"""Run the command line: `python -m knnvc`."""

from knnvc.cli.main import main

main()
