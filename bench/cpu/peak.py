"""One run of one variant in its own process, for its peak memory: python bench/cpu/peak.py VARIANT TOKENS.

Prints one JSON line: peak resident memory in bytes, and seconds of the run.
"""

import json
import re
import sys
import time
from pathlib import Path

import torch
from variants import VARIANTS, load_setting


def main() -> None:
    """Run the variant once and report."""
    variant, tokens = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(2)
    model, ids = load_setting(tokens)
    began = time.perf_counter()
    VARIANTS[variant](model, ids)
    seconds = time.perf_counter() - began
    # not getrusage, which starts with the memory of the parent process
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"peak": int(peak[1]) * 1024 if peak else 0, "seconds": seconds}))


if __name__ == "__main__":
    main()
