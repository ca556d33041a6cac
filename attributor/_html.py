"""A flow as one standalone page, for a file or a notebook; the page's own code is in attributor/page."""

import base64
import hashlib
import html
import json
import os
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from attributor._file import write_atomically
from attributor._grouped import shorten
from attributor._result import Flow
from attributor._units import Units, to_units
from attributor._view.visible import visible

__all__ = ["notebook", "page", "visible", "write_page"]

FILE_LIMIT = 6_000_000  # bytes of a page
NOTEBOOK_LIMIT = 2_000_000  # bytes of the iframe that a notebook keeps
SMALLEST_ROOM = 100_000  # bytes of scores: where even these are too many, the text is what is large


def page(flow: Flow, limit: int = FILE_LIMIT) -> str:
    """The page as a string; long flows are shown by sentences, then by larger pieces, to stay under `limit` bytes.

    The text itself is never cut: a prompt longer than the limit makes a page longer than it.
    """
    room = limit * 3 // 4  # bytes of scores, which base64 makes a third longer; the rest of the page is not known yet
    while True:
        text = _render(flow, to_units(flow, room))
        over = len(text.encode("utf-8")) - limit
        if over <= 0 or room <= SMALLEST_ROOM:
            return text
        room = max(room - over, SMALLEST_ROOM)


def _render(flow: Flow, units: Units) -> str:
    parts = {
        "title": html.escape(visible(_title(flow))),
        "style": _asset("flow.css"),
        "script": _asset("flow.js"),
        "style_hash": _hash(_asset("flow.css")),
        "script_hash": _hash(_asset("flow.js")),
        "data": _embed(_data(flow, units)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], _asset("flow.html"))


def notebook(flow: Flow) -> str:
    """The page in a sandboxed frame, or a plain table where it would be too large to keep in a notebook."""
    inner = page(flow, limit=NOTEBOOK_LIMIT * 9 // 10)
    source = inner.replace("&", "&amp;").replace("'", "&#39;")
    frame = (
        f"<iframe sandbox='allow-scripts' srcdoc='{source}' title='Where the answer came from' "
        "style='width:100%;height:640px;border:1px solid #8885;border-radius:8px'></iframe>"
    )
    return frame if len(frame.encode()) <= NOTEBOOK_LIMIT else _table(flow)


def write_page(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page as UTF-8, in one step.

    Raises:
        OutputError: the file cannot be written.
    """

    def write(file: Path) -> None:
        file.write_bytes(text.encode("utf-8"))

    write_atomically(path, write)


@cache
def _asset(name: str) -> str:
    return (files("attributor") / "page" / name).read_text(encoding="utf-8")


def _hash(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")


def _embed(data: dict[str, Any]) -> str:
    """JSON that cannot end its script element, nor hide anything from a reader of the source."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", text)


def _title(flow: Flow) -> str:
    return f"attributor: {shorten(flow.answer)}" if flow.answer and flow.answer.strip() else "attributor: a flow"


def _data(flow: Flow, units: Units) -> dict[str, Any]:
    on_answer, missing = flow.on_answer, flow.missing_mass
    known = on_answer is not None and missing is not None
    notes = list(units.notes)
    if not known:
        notes.append("Percentages are shares of what reached the prompt; the rest of each row is not known.")
    if flow.text is None:
        notes.append("The flow carries no text, so token ids are shown; flow.with_text(tokenizer) attaches it.")
    return {
        "units": [visible(text) for text in units.texts],
        "kind": units.kind,
        "sentence": units.sentence_runs,
        "sentences": units.sentences,
        "document": units.document_runs,
        "documents": [visible(d.label or f"Document {i + 1}") for i, d in enumerate(flow.documents)],
        "answer": [visible(text) for text in units.answer],
        "rows": base64.b64encode(units.quantised.tobytes()).decode("ascii"),
        "steps": 65535 if units.quantised.itemsize == 2 else 255,
        "largest": [float(f"{value:.6g}") for value in units.largest],
        "onAnswer": units.row_means(on_answer) if known else None,
        "missing": units.row_means(missing) if known else None,
        "meta": visible(_summary(flow)),
        "notes": notes,
    }


def _summary(flow: Flow) -> str:
    parts = [flow.meta["model"]] if "model" in flow.meta else []
    parts.append(f"{flow.prompt_length:,} prompt tokens")
    parts.append(f"{len(flow.scores):,} answer tokens" if len(flow.ids) > flow.prompt_length else "the next token")
    if "weights" in flow.meta:
        parts.append(f"weights {flow.meta['weights']}")
    return " · ".join(parts)


def _table(flow: Flow) -> str:
    kind = "document" if flow.documents else "sentence" if flow.text is not None and flow.sentences else "token"
    rows = "".join(
        f"<tr><td style='text-align:right'>{hit.share:{'.1%' if flow.normalized else '.3g'}}</td>"
        f"<td style='text-align:left'>{html.escape(visible(hit.label or shorten(hit.text, 160)))}</td></tr>"
        for hit in flow.top(10, by=kind)
    )
    return (
        f"<p>{html.escape(visible(_summary(flow)))}. Too large for a notebook: <code>flow.to_html('flow.html')</code> "
        f"writes the whole page.</p><table><thead><tr><th>share</th><th>{kind}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
