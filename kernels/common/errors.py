"""Errors of the implementations; `attributor._step` raises its own errors with the same text."""

__all__ = ["ImplementationFailure", "UnsupportedCall"]


class UnsupportedCall(ValueError):  # noqa: N818
    """Sizes, a dtype or an option that the implementation does not support; the message says what would work."""


class ImplementationFailure(RuntimeError):  # noqa: N818
    """The implementation cannot run here, or its driver refused; the message says why."""
