"""The command line's building blocks and the commands that have a module of their own."""
