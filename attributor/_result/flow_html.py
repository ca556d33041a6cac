"""A `Flow` as HTML: the file of `to_html` and the cell of a notebook; `view/standalone_page.py` renders the page."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING

from attributor._io import write_atomically
from attributor._result.grouped import shorten
from attributor._result.view import FlowView
from attributor._result.view.escape import escape_invisible
from attributor._result.view.standalone_page import FILE_LIMIT, render_frame, render_page

if TYPE_CHECKING:
    from attributor._result.flow import Flow

__all__ = ["build_notebook_html", "build_page", "write_page"]


def build_page(flow: Flow, limit: int = FILE_LIMIT) -> str:
    """The page as a string; long flows are shown by sentence, then by larger pieces, to stay under `limit` bytes.

    The text itself is never cut: a prompt longer than the limit gives a page longer than the limit.

    Raises:
        AttributorError: this installation has no front end.
    """
    return render_page(FlowView(flow), limit)


def build_notebook_html(flow: Flow) -> str:
    """The page in a sandboxed frame, or a plain table if the page would be too large for a notebook."""
    return render_frame(FlowView(flow)) or _table(flow)


def write_page(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page as UTF-8, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, text.encode("utf-8"))


def _summary(flow: Flow) -> str:
    parts = [flow.meta["model"]] if "model" in flow.meta else []
    parts.append(f"{flow.prompt_length:,} prompt tokens")
    parts.append(f"{len(flow.scores):,} answer tokens" if flow.answered else "the next token")
    if "weights" in flow.meta:
        parts.append(f"weights {flow.meta['weights']}")
    return " · ".join(parts)


def _table(flow: Flow) -> str:
    kind = "document" if flow.documents else "sentence" if flow.text is not None and flow.sentences else "token"
    rows = "".join(
        f"<tr><td style='text-align:right'>{hit.share:{'.1%' if flow.normalized else '.3g'}}</td>"
        f"<td style='text-align:left'>{html.escape(escape_invisible(hit.label or shorten(hit.text, 160)))}</td></tr>"
        for hit in flow.top(10, by=kind)
    )
    return (
        f"<p>{html.escape(escape_invisible(_summary(flow)))}. Too large for a notebook: "
        "<code>flow.to_html('flow.html')</code> writes the whole page.</p>"
        f"<table><thead><tr><th>share</th><th>{kind}</th></tr></thead><tbody>{rows}</tbody></table>"
    )
