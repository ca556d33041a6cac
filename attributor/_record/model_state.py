"""Notice that a model's parameters or adapters are others than before."""

from collections.abc import Hashable
from typing import Any

__all__ = ["model_state"]

ADAPTER_FIELDS = ("_disable_adapters", "_active_adapter", "merged_adapters")  # of peft's layers


def model_state(model: Any) -> Hashable:
    """A value that changes when a parameter is replaced or written to, or an adapter is switched.

    It costs some microseconds a parameter, and reads none of their numbers.
    """
    parameters = tuple(
        (id(parameter), 0 if parameter.is_inference() else parameter._version) for parameter in model.parameters()
    )
    adapters = tuple(
        str(vars(module).get(name)) for module in model.modules() for name in ADAPTER_FIELDS if name in vars(module)
    )
    return parameters, adapters
