"""The command line `attributor`; commands.py defines its commands, entry.py starts it."""

from attributor.cli.entry import main

__all__ = ["main"]
