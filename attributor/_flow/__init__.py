"""The flow of an answer: `flow()` and `record()`, the sweep over a recording, and the result put together."""

from attributor._flow.api import flow, flow_of, record
from attributor._flow.memory import devices, is_full, peak, recorded_bytes, too_small
from attributor._flow.recording import Recording
from attributor._flow.sweep import SweepOptions

__all__ = [
    "Recording",
    "SweepOptions",
    "devices",
    "flow",
    "flow_of",
    "is_full",
    "peak",
    "record",
    "recorded_bytes",
    "too_small",
]
