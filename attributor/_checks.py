"""Check arguments of any type: numbers, flags, functions, paths; and show a value in a message."""

import math
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from attributor._errors import InputError

__all__ = ["check_callable", "check_flag", "check_index", "check_number", "check_path", "shorten_value"]


def shorten_value(value: Any, width: int = 60) -> str:
    """A value for a message: its repr, cut to a width; its type where it has no short one."""
    if hasattr(type(value), "__array__"):  # the numbers of a tensor say less than its shape
        return f"{type(value).__name__} {tuple(getattr(value, 'shape', ()))}"
    try:
        text = repr(value)
    except Exception:  # lists that are nested too deeply, and whatever an object of the user's raises
        text = type(value).__name__
    return text if len(text) <= width else f"{text[: width - 1]}…"


def check_flag(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {shorten_value(value)}")
    return value


def check_callable(name: str, value: Any) -> None:
    """Nothing, for a function or None.

    Raises:
        InputError: anything else.
    """
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function, or None, got {shorten_value(value)}")


def check_index(name: str, value: Any, count: int | None = None) -> int:
    """A whole number, from 0 to count - 1 where a count is given.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and (count is None or 0 <= int(value) < count):
        return int(value)
    limits = "" if count is None else f" from 0 to {count - 1}"
    raise InputError(f"{name} must be a whole number{limits}, got {shorten_value(value)}")


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
    raise InputError(f"{name} must be {expected}, got {shorten_value(value)}")


def check_path(path: Any) -> Path:
    """The path with ~ expanded.

    Raises:
        InputError: neither text nor a path, or no name that a file can have.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"path must be a file name, a str or a Path, got {shorten_value(path)}")
    name = os.fspath(path)
    if not _can_be_a_name(name):
        raise InputError(f"path must be a file name, got {shorten_value(name)}, which no file can have")
    return Path(os.path.expanduser(name))  # not Path.expanduser, which raises where ~ names no user


def _can_be_a_name(name: str) -> bool:
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeError:  # half of a surrogate pair
        return False
