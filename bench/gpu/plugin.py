"""A pytest plugin for the GPU tests: runs a share of them, records each outcome at once and ends tests that hang.

ATTRIBUTOR_GPU_SHARE=cuda:0/2 selects every second test of the CUDA kernel; "triton" and "all" work alike. Compiling
takes most of the time and one core, so shares run beside one another. Tests with an outcome in the log are not run
again: when a test has ended its process, another process runs the rest. A rehearsal takes the first and the last test
of each function.
"""

import itertools
import os
from pathlib import Path

from gpu import LOST
from gpu.measure import REHEARSAL, device_is_lost, watchdog
from gpu.report import LOG, kernel_of, read, record

SHARE = os.environ.get("ATTRIBUTOR_GPU_SHARE", "all:0/1")
timers = {}


def select(names, share, done):
    """The names of one share, without those that are done."""
    kernel, _, part = share.partition(":")
    index, count = map(int, part.split("/"))
    chosen = [name for name in names if kernel in ("all", kernel_of(name))]
    return [name for name in chosen[index::count] if name not in done]


def pytest_collection_modifyitems(config, items):
    """Deselect everything else."""
    names = [item.nodeid for item in items]
    if REHEARSAL:
        groups = [list(group) for _, group in itertools.groupby(names, key=lambda name: name.partition("[")[0])]
        names = [name for group in groups for name in dict.fromkeys((group[0], group[-1]))]
    done = {line["name"] for line in read(Path(os.environ[LOG])) if line["kind"] == "test"}
    chosen = set(select(names, SHARE, done))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]


def pytest_runtest_logstart(nodeid):
    """A test that waits for a kernel cannot be interrupted: the watchdog ends the process."""
    record("begun", nodeid, share=SHARE)
    timers[nodeid] = watchdog()


def pytest_runtest_logfinish(nodeid):
    """The test has ended."""
    timers.pop(nodeid).cancel()


def pytest_runtest_logreport(report):
    """Record the outcome of a test; one that fails and leaves the device unusable ends the process."""
    if report.when != "call" and report.outcome == "passed":
        return
    why = ""
    if report.failed:
        why = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr).strip()[-400:]
    elif report.skipped:
        why = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)[:200]
    record("test", report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), why=why)
    if report.failed and device_is_lost():
        os._exit(LOST)
