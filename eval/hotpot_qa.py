"""`attributor eval hotpotqa` as a script: python eval/hotpot_qa.py --model M --dtype float16 --device_map cuda."""

import runpy
import sys
from pathlib import Path

__all__: list[str] = []

if __name__ == "__main__":
    # Python puts this folder first in its path, where `data` or `metrics` would hide other packages of that name.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    sys.argv[:] = ["attributor", "eval", "hotpotqa", *sys.argv[1:]]
    runpy.run_module("attributor.cli", run_name="__main__")
