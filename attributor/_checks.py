"""Check arguments of any type: numbers, flags, functions, paths; and show a value in a message."""

import math
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from attributor._errors import InputError

__all__ = ["check_callable", "check_flag", "check_index", "check_number", "check_path", "shorten_value"]


def shorten_value(value: Any, width: int = 60) -> str:
    """Format a value for a message: its repr, cut to `width`; type and shape of an array; the type if repr fails."""
    if hasattr(type(value), "__array__"):  # the shape of a tensor says more than its numbers
        return f"{type(value).__name__} {tuple(getattr(value, 'shape', ()))}"
    try:
        text = repr(value)
    except Exception:  # RecursionError for deeply nested lists, or any error from a user's __repr__
        text = type(value).__name__
    return text if len(text) <= width else f"{text[: width - 1]}…"


def check_flag(name: str, value: Any) -> bool:
    """Check that a value is True or False, and return it.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {shorten_value(value)}")
    return value


def check_callable(name: str, value: Any) -> None:
    """Check that a value is a function or None.

    Raises:
        InputError: anything else.
    """
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function, or None, got {shorten_value(value)}")


def check_index(name: str, value: Any, count: int | None = None) -> int:
    """Check that a value is a whole number, from 0 to count - 1 if `count` is given, and return it as an int.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and (count is None or 0 <= int(value) < count):
        return int(value)
    limits = "" if count is None else f" from 0 to {count - 1}"
    raise InputError(f"{name} must be a whole number{limits}, got {shorten_value(value)}")


def check_number(name: str, value: Any, *, positive: bool = False, optional: bool = False) -> float:
    """Check that a value is a finite number, and return it as a float.

    Raises:
        InputError: the value is not a number, is a bool, is not finite, or, with `positive`, is not above 0. `optional`
            only adds to the message that None is accepted.
    """
    try:
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (number > 0 or not positive):
                return number
    except OverflowError:  # an integer beyond every float
        pass
    expected = f"a finite number{' > 0' * positive}{', or None' * optional}"
    raise InputError(f"{name} must be {expected}, got {shorten_value(value)}")


def check_path(path: Any) -> Path:
    """Check that a value can be a file name, and return it as a path with ~ expanded.

    Raises:
        InputError: the value is neither a str nor a path, or no file can have this name.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"path must be a file name, a str or a Path, got {shorten_value(path)}")
    name = os.fspath(path)
    if not _can_be_a_name(name):
        raise InputError(f"path must be a file name, got {shorten_value(name)}, which no file can have")
    return Path(os.path.expanduser(name))  # not Path.expanduser, which raises if ~ names no user


def _can_be_a_name(name: str) -> bool:
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeError:  # a lone surrogate
        return False
