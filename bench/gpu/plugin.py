"""A pytest plugin for the GPU tests: record each outcome at once and end a process whose test does not end.

pytest-xdist reports the test that ended a process as failed and runs the rest in another process. A rehearsal runs only
the first and the last test of each function.
"""

import itertools
import os

import pytest

from gpu.measure import LOG, REHEARSAL, exit_if_lost, watchdog
from gpu.report import record


def pytest_collection_modifyitems(config, items):
    """Deselect all but the first and the last of each function in a rehearsal."""
    if not REHEARSAL:
        return
    groups = [list(group) for _, group in itertools.groupby(items, key=lambda item: item.nodeid.partition("[")[0])]
    chosen = [item for group in groups for item in dict.fromkeys((group[0], group[-1]))]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Run a test under the watchdog, because a test that waits for a kernel cannot be interrupted."""
    with watchdog():
        return (yield)


def pytest_runtest_logreport(report):
    """Record the outcome of a test; end the process if the test failed and left the device unusable."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # the parent process records
        if report.failed:
            exit_if_lost()
    elif report.when == "call" or not report.passed:
        outcome = "crashed" if report.when == "???" else report.outcome  # "???": pytest-xdist saw no phase end
        why = report.longrepr[2] if report.skipped else getattr(report.longrepr, "reprcrash", report.longrepr)
        record(LOG, "test", report.nodeid, outcome=outcome, why=str(why)[-400:])
