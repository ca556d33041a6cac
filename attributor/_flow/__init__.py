"""Compute the flow of an answer: `flow()`, `record()`, and the sweep over a recording."""

from attributor._flow.api import flow, flow_of, record
from attributor._flow.memory import gpus_of, is_out_of_memory, out_of_memory_error, peak_memory, recorded_bytes
from attributor._flow.recording import Recording
from attributor._flow.sweep import SweepOptions

__all__ = [
    "Recording",
    "SweepOptions",
    "flow",
    "flow_of",
    "gpus_of",
    "is_out_of_memory",
    "out_of_memory_error",
    "peak_memory",
    "record",
    "recorded_bytes",
]
