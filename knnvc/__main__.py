"""Run the command line: `python -m knnvc`."""

from knnvc.cli.start import main

main()
