"""Every exception that attributor raises on purpose.

AttributorError
├── InputError (ValueError)         ids, shapes, dtypes, devices, options: the value that was passed and a valid one
├── UnsupportedModelError           attention that cannot be recorded, with the layers that cannot
├── ModelLoadError (OSError)        a model that could not be found, fetched or read
├── ImplementationError             an implementation of flow_step that is unknown or not usable here
├── RecordingError                  a recording that does not hold the requested sequence
├── DeviceMemoryError (MemoryError) a device that is too small: what was needed, and what would fit
├── NumericsError (ArithmeticError) NaN or infinity where a finite number is needed
├── OutputError (OSError)           a place that cannot be written to
└── FileFormatError (ValueError)    a file that is corrupt, truncated, or from a newer version
"""

__all__ = [
    "AttributorError",
    "DeviceMemoryError",
    "FileFormatError",
    "ImplementationError",
    "InputError",
    "ModelLoadError",
    "NumericsError",
    "OutputError",
    "RecordingError",
    "UnsupportedModelError",
]


class AttributorError(Exception):
    """Base of every error that attributor raises on purpose."""


class InputError(AttributorError, ValueError):
    """An argument that cannot be used; the message says the value that was passed and a valid one."""


class UnsupportedModelError(AttributorError):
    """A model whose attention cannot be recorded exactly; the message names the layers."""


class ModelLoadError(AttributorError, OSError):
    """A model that could not be found, fetched, verified or read."""


class ImplementationError(AttributorError):
    """An implementation of ``flow_step`` that is unknown, or that is not usable on this machine."""


class RecordingError(AttributorError):
    """A recording that is empty, still running, or does not hold the requested sequence."""


class DeviceMemoryError(AttributorError, MemoryError):
    """A device ran out of memory; the message says what was needed and what would fit."""


class NumericsError(AttributorError, ArithmeticError):
    """NaN or infinity appeared where a finite number is needed."""


class OutputError(AttributorError, OSError):
    """A file that cannot be written: the folder is missing, read-only or full."""


class FileFormatError(AttributorError, ValueError):
    """A file that is corrupt, truncated, of another kind, or written by a newer version."""
