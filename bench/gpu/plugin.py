"""A pytest plugin for the GPU tests: record each outcome at once, and end a process whose test does not end.

pytest-xdist reports the test that ended a process as failed, and runs the rest in another. A rehearsal takes the first
and the last test of each function.
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
    """A test that waits for a kernel cannot be interrupted: the watchdog ends the process."""
    with watchdog():
        return (yield)


def pytest_runtest_logreport(report):
    """Record the outcome of a test; one that fails and leaves the device unusable ends its process."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # the process that started this one records
        if report.failed:
            exit_if_lost()
    elif report.when == "call" or not report.passed:
        outcome = "crashed" if report.when == "???" else report.outcome  # by pytest-xdist: no phase of the test ended
        why = report.longrepr[2] if report.skipped else getattr(report.longrepr, "reprcrash", report.longrepr)
        record(LOG, "test", report.nodeid, outcome=outcome, why=str(why)[-400:])
