"""Check a user's text before it goes into a prompt."""

from attributor._errors import InputError

__all__ = ["clean"]


def clean(what: str, text: str | None, *, empty: bool = False) -> str:
    """Strip white space; check that the text can be encoded and, unless `empty`, is not empty."""
    stripped = (text or "").strip()
    if not stripped and not empty:
        raise InputError(f"{what} is empty")
    try:
        stripped.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds half a character (a lone surrogate) at {error.start}; it is not valid text"
        ) from None
    return stripped
