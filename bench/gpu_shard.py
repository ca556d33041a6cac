"""A pytest plugin for gpu_check.py: one part of the tests, and each outcome noted at once.

Most of the time of the GPU tests goes into compiling, which takes a processor core each: several processes, each with
every n-th test (ATTRIBUTOR_GPU_SHARD=2/6), share the compiler's cache and finish that much sooner. The last of them
(ATTRIBUTOR_GPU_CUDA_SHARDS) have the tests of the CUDA kernel to themselves: one that ends a process, or never ends,
takes none of Triton's with it. A process ends itself after such a test; what has an outcome is not run again. A
rehearsal takes the first and the last test of every function: enough to have run each line.
"""

import itertools
import os
import threading
from pathlib import Path

from gpu_log import note, read

LOST, HUNG = 70, 71  # exit statuses: the device is of no more use to this process; a test did not end
PATIENCE = float(os.environ.get("ATTRIBUTOR_GPU_PATIENCE", "60"))  # seconds for one test


def of_cuda(nodeid):
    """Whether it is a test of the CUDA kernel."""
    file, _, rest = nodeid.partition("::")
    return file.endswith("test_gpu_cuda.py") or "cuda" in rest.partition("[")[2].rstrip("]").split("-")


def known():
    """Tests that have an outcome, and those that were begun."""
    path = os.environ.get("ATTRIBUTOR_GPU_LOG")
    lines = read(Path(path)) if path else []
    return [{line["test"] for line in lines if line["kind"] == kind} for kind in ("test", "begun")]


def left(items):
    """Those that have no outcome yet. One that a process began before and did not end took that process with it."""
    over, begun = known()
    for node in dict.fromkeys(item.nodeid for item in items):
        if node in begun - over:
            note("test", test=node, outcome="failed", when="call", seconds=0.0, said="it ended its process")
    return [item for item in items if item.nodeid not in over | begun]


def share(items, index, count, last):
    """Every n-th test; where `last` shards are for the CUDA kernel, those have all of its, and no others."""
    if not last or count == 1:
        return items[index::count]
    first = count - last
    if index < first:
        return [item for item in items if not of_cuda(item.nodeid)][index::first]
    return [item for item in items if of_cuda(item.nodeid)][index - first :: last]


def pytest_collection_modifyitems(config, items):
    """Keep this process's share."""
    index, _, count = os.environ.get("ATTRIBUTOR_GPU_SHARD", "0/1").partition("/")
    kept = share(items, int(index), int(count), int(os.environ.get("ATTRIBUTOR_GPU_CUDA_SHARDS", "0")))
    tests = bool(items) and items[0].nodeid.startswith("tests")
    if os.environ.get("ATTRIBUTOR_GPU_REHEARSAL") and tests:
        found = [list(tests) for _, tests in itertools.groupby(items, key=lambda item: item.nodeid.partition("[")[0])]
        kept = [test for tests in found for test in dict.fromkeys((tests[0], tests[-1]))]
    elif tests:
        kept = left(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


watch = threading.Timer(0, print)  # of the test that runs


def pytest_runtest_logstart(nodeid):
    """A test that waits for a kernel that never ends cannot be interrupted: the process is."""
    global watch
    watch = threading.Timer(PATIENCE, _give_up, [nodeid])
    watch.daemon = True
    if nodeid.startswith("tests") and not os.environ.get("ATTRIBUTOR_GPU_REHEARSAL"):
        note("begun", test=nodeid)
        watch.start()


def _give_up(nodeid):
    said = f"did not end within {PATIENCE:.0f} s"
    note("test", test=nodeid, outcome="failed", when="call", seconds=PATIENCE, said=said)
    print(f"    {nodeid}: {said}", flush=True)
    os._exit(HUNG)


def pytest_runtest_logfinish(nodeid):
    """It ended."""
    watch.cancel()


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
        if kind == "test" and report.failed and _device_is_lost():
            print(f"    {report.nodeid}: the device is lost to this process", flush=True)
            os._exit(LOST)


def _device_is_lost():
    """An access outside of memory, or the like: every later call of this process would fail too."""
    import torch

    if not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False
