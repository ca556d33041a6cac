"""`python -m attributor.cli`: the command line without the installed script."""

from attributor.cli import main

if __name__ == "__main__":
    main()
