"""`flow_step` and `removal_step`, each for one layer: check the arguments, choose an implementation and call it.

The implementations are in `attributor.kernels`, one folder per step.
"""

from attributor._step.dispatch import flow_step
from attributor._step.implementations import choose_impl, describe_instruction_sets, list_availability
from attributor._step.removal import removal_step

__all__ = [
    "choose_impl",
    "describe_instruction_sets",
    "flow_step",
    "list_availability",
    "removal_step",
]
