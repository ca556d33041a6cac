"""Makes foreign text safe for a terminal, and shortens it."""

__all__ = ["escape", "one_line", "shorten"]

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_INVISIBLE = [*range(0x80, 0xA0), *range(0xD800, 0xE000), *range(0xE0000, 0xE0080), *range(0x202A, 0x202F)]
_INVISIBLE += [*range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0x2028, 0x2029, 0xFEFF]
_SAFE = _PICTURES | dict.fromkeys(_INVISIBLE, 0xFFFD)


def escape(text: str) -> str:
    """The text with control, bidi and tag characters shown as visible ones; every character keeps its place."""
    return text.translate(_SAFE)


def one_line(text: str) -> str:
    """The text with every run of white space replaced by one space."""
    return " ".join(text.split())


def shorten(text: str, width: int) -> str:
    """The text, cut to `width` characters with three dots if it is longer."""
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
