"""Run a compiler and save its output beside the object: python keep_output.py nvcc ... -o OBJECT writes OBJECT.txt.

Used in editable builds only: tests/kernel/test_cuda_compile.py reads there the reports of ptxas on registers and
serialised products.
"""

import subprocess
import sys
from pathlib import Path

command = sys.argv[1:]
ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
Path(command[command.index("-o") + 1] + ".txt").write_text(ran.stdout, encoding="utf-8")
if ran.returncode:
    print(ran.stdout, file=sys.stderr)
sys.exit(ran.returncode)
