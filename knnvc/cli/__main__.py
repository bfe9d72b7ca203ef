"""Run the command line as `python -m knnvc.cli`, which profilers and accelerate start."""

from knnvc.cli.start import main

main()
