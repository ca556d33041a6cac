"""Starts the command line. It imports the commands late, so that Ctrl-C prints no traceback during their imports."""

import logging
import sys

__all__ = ["main"]

# transformers imports torchao if it is installed, and torchao logs on stderr what this machine lacks for it
CHATTER = ("torchao", "torch.utils._pytree")


def main() -> None:
    """Run the command line. Ctrl-C before a command has begun ends it with status 130 and no message."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        from attributor.cli.commands import app  # imported here, because its imports take a third of a second
    except KeyboardInterrupt:
        sys.exit(130)
    app()
