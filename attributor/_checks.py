"""Check arguments that are numbers or paths."""

import math
import os
from numbers import Real
from pathlib import Path
from typing import Any

from attributor._errors import InputError

__all__ = ["check_number", "check_path"]


def check_number(name: str, value: Any, *, positive: bool = False, optional: bool = False) -> float:
    """The value as a float.

    Raises:
        InputError: no number, True or False, not finite, or, with `positive`, not above 0. `optional` only says in the
            message that None would do.
    """
    try:
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (number > 0 or not positive):
                return number
    except OverflowError:  # an integer beyond every float
        pass
    expected = f"a finite number{' > 0' * positive}{', or None' * optional}"
    raise InputError(f"{name} must be {expected}, got {repr(value)[:60]}")


def check_path(path: Any) -> Path:
    """The path with ~ expanded.

    Raises:
        InputError: neither text nor a path, or no name that a file can have.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"path must be a file name, a str or a Path, got {repr(path)[:60]}")
    name = os.fspath(path)
    if not _can_be_a_name(name):
        raise InputError(f"path must be a file name, got {repr(name)[:60]}, which no file can have")
    return Path(os.path.expanduser(name))  # not Path.expanduser, which raises where ~ names nobody


def _can_be_a_name(name: str) -> bool:
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeError:  # half of a surrogate pair
        return False
