"""Runs the command line: `python -m attributor.cli`."""

from attributor.cli.entry import main

main()
