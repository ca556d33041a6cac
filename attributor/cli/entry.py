"""Starts the command line; it imports the commands late, so that Ctrl-C is quiet during their imports."""

import logging
import sys

__all__ = ["main"]

# transformers imports torchao where it is installed, which reports on stderr whatever this machine lacks for it
CHATTER = ("torchao", "torch.utils._pytree")


def main() -> None:
    """Run the command line; exit status 130, quietly, where Ctrl-C comes before a command has begun."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        from attributor.cli.commands import app  # here: its imports take a third of a second
    except KeyboardInterrupt:
        sys.exit(130)
    app()
