"""Run the command line in tests."""

from typer.testing import CliRunner

from attributor.cli.commands import app

RUNNER = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})


def run(*args, **more):
    return RUNNER.invoke(app, [str(arg) for arg in args], **more)
