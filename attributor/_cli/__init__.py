"""What the command line is made of; commands.py holds the commands."""
