"""`make gpu-check`: build on a machine with a GPU, test both kernels there, and measure. docs/gpu.md explains it."""
