"""Detect changes of a model's parameters or adapters."""

from collections.abc import Hashable
from typing import Any

from attributor._models import adapter_state

__all__ = ["model_state"]


def model_state(model: Any) -> Hashable:
    """A value that changes if a parameter is replaced or written to, or if an adapter is switched.

    It costs some microseconds per parameter, and reads none of their numbers.
    """
    parameters = tuple(
        (id(parameter), 0 if parameter.is_inference() else parameter._version) for parameter in model.parameters()
    )
    adapters = tuple(str(state) for module in model.modules() if (state := adapter_state(module)))
    return parameters, adapters
