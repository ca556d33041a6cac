"""Render a flow as one HTML file that loads nothing else: the built front end, and the data from `encode.py`."""

import base64
import hashlib
import html
import re
from functools import lru_cache

from attributor._errors import AttributorError
from attributor._result.view.assets import static_folder, static_text
from attributor._result.view.encode import encode_page_view, page_title
from attributor._result.view.escape import escape_invisible
from attributor._result.view.flow_view import FlowView

__all__ = ["FILE_LIMIT", "NOTEBOOK_LIMIT", "render_frame", "render_page"]

FILE_LIMIT = 6_000_000  # bytes of a page
NOTEBOOK_LIMIT = 2_000_000  # bytes of the iframe that a notebook keeps
SMALLEST_ROOM = 100_000  # bytes of scores: if a page is still too large with this, its text is the reason

# webapp/src/share/page.ts writes the same skeleton in the browser
SKELETON = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{policy}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="attributor">
<link rel="icon" href="data:,">
<title>{{title}}</title>
<style>{{style}}</style>
</head>
<body>
<div id="app"></div>
<noscript>This page draws itself with its own script; nothing is loaded from anywhere.
Allow scripts to see it.</noscript>
<script type="application/octet-stream" id="view">{{view}}</script>
<script type="module">{{script}}</script>
</body>
</html>
"""


def render_page(view: FlowView, limit: int = FILE_LIMIT) -> str:
    """The page as a string; long flows are shown by sentence, then by larger pieces, to stay under `limit` bytes.

    The text itself is never cut: a prompt longer than the limit gives a page longer than the limit.

    Raises:
        AttributorError: the front end is missing, or cannot be put into a page.
        FileFormatError: scores that are NaN or infinite.
    """
    room = limit * 3 // 4  # bytes of scores, which base64 makes a third longer; the size of the rest is not known yet
    while True:
        text = _render(page_title(view), encode_page_view(view, room))
        over = len(text.encode("utf-8")) - limit
        if over <= 0 or room <= SMALLEST_ROOM:
            return text
        room = max(room - max(over * 3 // 4, room // 10), SMALLEST_ROOM)  # a smaller step may change nothing


def render_frame(view: FlowView) -> str | None:
    """The page in a sandboxed iframe for a notebook; None if it would be larger than `NOTEBOOK_LIMIT`.

    Raises:
        AttributorError: the front end is missing, or cannot be put into a page.
    """
    inner = render_page(view, limit=NOTEBOOK_LIMIT * 9 // 10)
    source = inner.replace("&", "&amp;").replace("'", "&#39;")
    text = (
        f"<iframe sandbox='allow-scripts' srcdoc='{source}' title='Where the answer came from' "
        "style='width:100%;height:640px;border:1px solid #8885;border-radius:8px'></iframe>"
    )
    return text if len(text.encode()) <= NOTEBOOK_LIMIT else None


def _render(title: str, view: bytes) -> str:
    folder = static_folder()
    changed = tuple(path.stat().st_mtime_ns for path in (folder / "app.js", folder / "app.css") if path.is_file())
    script, style = _code(str(folder), changed)
    parts = {
        "policy": (
            f"default-src 'none'; img-src data: blob:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        "title": html.escape(escape_invisible(title)),
        "style": style,
        "script": script,
        "view": base64.b64encode(view).decode("ascii"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], SKELETON)


@lru_cache(maxsize=2)
def _code(folder: str, changed: tuple[int, ...]) -> tuple[str, str]:
    """The front end's script and style, with the line ends that a browser hashes; read again after a change."""
    script, style = (static_text(name).replace("\r\n", "\n").replace("\r", "\n") for name in ("app.js", "app.css"))
    # text that ends the element early or changes where the parser ends it, and characters that a parser replaces
    for name, text, forbidden in (("app.js", script, r"</script|<!--|\0"), ("app.css", style, r"</style|<!--|\0")):
        match = re.search(forbidden, text, re.IGNORECASE)
        if match:
            raise AttributorError(
                f"the front end in {folder} cannot be put into a page: {name} holds {match.group()!r} at character "
                f"{match.start():,}; write it in two parts in webapp/ and build it again"
            )
    return script, style


def _hash(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
