"""What the command line is made of; attributor/cli.py holds the commands."""
