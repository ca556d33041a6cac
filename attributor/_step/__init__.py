"""`flow_step`, one layer of the recurrence: the arguments checked, an implementation chosen, and called.

The implementations are in `attributor.kernels.flow_step`.
"""

from attributor._step.dispatch import flow_step
from attributor._step.implementations import availability, choose, instruction_sets

__all__ = [
    "availability",
    "choose",
    "flow_step",
    "instruction_sets",
]
