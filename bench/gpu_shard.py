"""A pytest plugin for gpu_check.py: one part of the tests, and each outcome noted at once.

Most of the time of the GPU tests goes into compiling, which takes a processor core each: several processes, each with
every n-th test (ATTRIBUTOR_GPU_SHARD=2/6), share the compiler's cache and finish that much sooner. A rehearsal takes
the first and the last test of every function: enough to have run each line.
"""

import itertools
import os

from gpu_log import note


def pytest_collection_modifyitems(config, items):
    """Keep every n-th test."""
    index, _, count = os.environ.get("ATTRIBUTOR_GPU_SHARD", "0/1").partition("/")
    kept = items[int(index) :: int(count)]
    if os.environ.get("ATTRIBUTOR_GPU_REHEARSAL") and items and items[0].nodeid.startswith("tests"):
        found = [list(tests) for _, tests in itertools.groupby(items, key=lambda item: item.nodeid.partition("[")[0])]
        kept = [test for tests in found for test in dict.fromkeys((tests[0], tests[-1]))]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_runtest_logreport(report):
    """What became of each test; what it printed where it says which kernels are trusted."""
    if report.when == "call" or report.outcome != "passed":
        said = ""
        if report.failed:
            said = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr).strip()[-400:]
        elif report.skipped:
            said = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)[:200]
        kind = "bench" if report.nodeid.startswith("bench") else "test"
        note(kind, test=report.nodeid, outcome=report.outcome, when=report.when, seconds=report.duration, said=said)
