"""One run of one variant in its own process, for its peak memory: python bench/_peak.py VARIANT TOKENS.

Prints one JSON line: peak resident memory in bytes, and seconds of the run.
"""

import json
import resource
import sys
import time

import torch
from variants import VARIANTS, setting


def main() -> None:
    """Run the variant once and report."""
    variant, tokens = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(2)
    model, ids = setting(tokens)
    began = time.perf_counter()
    VARIANTS[variant](model, ids)
    seconds = time.perf_counter() - began
    # Linux counts ru_maxrss in KiB
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "seconds": seconds}))


if __name__ == "__main__":
    main()
