"""Escape control and bidirectional characters of a text; webapp/src/model/text.ts has the same rule."""

import re

__all__ = ["escape_invisible"]

# Control characters, and those that reorder or hide text; joiners stay, because scripts and emoji need them.
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def escape_invisible(text: str) -> str:
    """The text with control and bidirectional characters spelled out, such as ⟦U+202E⟧."""
    return HIDDEN.sub(lambda match: f"⟦U+{ord(match.group()):04X}⟧", text.replace("\r\n", "\n").replace("\r", "\n"))
