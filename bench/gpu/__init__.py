"""`make gpu-check`: build on a machine with a GPU, test both kernels there, and measure. docs/gpu.md explains it."""

# Exit statuses of measure.py and of pytest with plugin.py: something is missing here; the device is of no more use to
# this process; something did not end.
SKIPPED, LOST, HUNG = 5, 70, 71
