"""Errors of the implementations; the checked functions raise their own errors with the same text."""

__all__ = ["ImplementationFailure", "UnsupportedCall"]


class UnsupportedCall(ValueError):  # noqa: N818
    """Sizes, a dtype or an option that the implementation has no code for; the message says what would work."""


class ImplementationFailure(RuntimeError):  # noqa: N818
    """The implementation cannot run here, or its driver refused; the message says why."""
