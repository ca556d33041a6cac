"""Which tokens, sentences and documents did a model's answer come from? Exact attention flow, at any length."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attributor._calibration import calibrate
    from attributor._errors import (
        AttributorError,
        DeviceMemoryError,
        FileFormatError,
        ImplementationError,
        InputError,
        ModelLoadError,
        NumericsError,
        OutputError,
        RecordingError,
        UnsupportedModelError,
    )
    from attributor._flow import Recording, flow, record
    from attributor._models import load_model
    from attributor._result import Flow, load
    from attributor._segments import Segment
    from attributor._step import flow_step
    from attributor._weights import Weights

__all__ = [
    "AttributorError",
    "DeviceMemoryError",
    "FileFormatError",
    "Flow",
    "ImplementationError",
    "InputError",
    "ModelLoadError",
    "NumericsError",
    "OutputError",
    "Recording",
    "RecordingError",
    "Segment",
    "UnsupportedModelError",
    "Weights",
    "calibrate",
    "flow",
    "flow_step",
    "load",
    "load_model",
    "record",
]

# where each name lives; imported on first use, so that the command line and the explorer start without torch
_HOMES = {
    "Flow": "_result",
    "Recording": "_flow",
    "Segment": "_segments",
    "Weights": "_weights",
    "calibrate": "_calibration",
    "flow": "_flow",
    "flow_step": "_step",
    "load": "_result",
    "load_model": "_models",
    "record": "_flow",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("attributor")
    if name not in __all__:
        raise AttributeError(f"module 'attributor' has no attribute {name!r}")
    value = getattr(import_module(f"attributor.{_HOMES.get(name, '_errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
