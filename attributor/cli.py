"""The entry point `attributor`; the commands are in attributor/_cli."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exit status 130, quietly, where Ctrl-C comes before a command has begun."""
    try:
        from attributor._cli.commands import app  # here: its imports take a third of a second
    except KeyboardInterrupt:
        sys.exit(130)
    app()


if __name__ == "__main__":
    main()
