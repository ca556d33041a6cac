"""`flow_step`, one layer of the recurrence: check the arguments, choose an implementation and call it.

The implementations are in `attributor.kernels.flow_step`.
"""

from attributor._step.dispatch import flow_step
from attributor._step.implementations import choose_impl, describe_instruction_sets, list_availability

__all__ = [
    "choose_impl",
    "describe_instruction_sets",
    "flow_step",
    "list_availability",
]
