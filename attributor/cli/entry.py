"""Starts the command line; it imports the commands late, so that Ctrl-C is quiet during their imports."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exit status 130, quietly, where Ctrl-C comes before a command has begun."""
    try:
        from attributor.cli.commands import app  # here: its imports take a third of a second
    except KeyboardInterrupt:
        sys.exit(130)
    app()
