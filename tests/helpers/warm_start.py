"""Start a program as a fork of a process with its libraries imported, because importing takes 5 s of CPU each time.

The fork server of the standard library only imports. tests/cli/test_start.py, tests/web/test_start.py and tests that
need another environment test the normal start of programs.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

ENVIRONMENT = dict(os.environ)  # before any test changes it; libraries read it on import


class WarmProcess:
    """The part of subprocess.Popen that the tests use; `stdout` is text."""

    stdout: IO[str]

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: Any,
        env: dict[str, str] | None = None,
        merge_stderr: bool = True,
    ) -> None:
        """Call `function(*arguments)` in a new process; `env` is added to the environment."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["warm_libraries"])
        with patch.dict(os.environ, {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent)}, clear=True):
            forkserver.ensure_running()
        receiver, sender = context.Pipe(duplex=False)
        environment = {**os.environ, **(env or {})}
        self._process = context.Process(
            target=_call, args=(sender, merge_stderr, environment, function, arguments), daemon=True
        )
        self._process.start()
        sender.close()
        self.stdout = os.fdopen(os.dup(receiver.fileno()), encoding="utf-8")
        receiver.close()

    def communicate(self, timeout: float) -> str:
        """Return all output until the process ends; kill it after `timeout` seconds."""
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        with self.stdout:
            text = self.stdout.read()
        timer.cancel()
        return text

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self._process.exitcode


def _call(
    output: Any,
    merge_stderr: bool,
    environment: dict[str, str],
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    assert "warm_libraries" in sys.modules, "the fork server could not import warm_libraries.py"
    for name, number in {"stdout": 1, "stderr": 2}.items():
        if name == "stdout" or merge_stderr:
            os.dup2(output.fileno(), number)
        setattr(sys, name, os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False))
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:
        import torch

        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # torch reads the environment only once
    function(*arguments)


def run_code(text: str) -> None:
    """Run a text like `python -c TEXT`."""
    exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})


def run_module(name: str) -> None:
    """Run a module like `python -m NAME`."""
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def run_command_line(*command: str) -> None:
    """Run the command line like `python -m attributor.cli ...`."""
    from attributor.cli import main

    sys.argv = ["attributor", *command]
    main()
