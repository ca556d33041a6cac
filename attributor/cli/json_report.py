"""Builds the JSON that `attributor flow --json` prints; docs/cli.md documents every key."""

from collections.abc import Mapping
from typing import Any

from attributor._ask import Answer

__all__ = ["VERSION", "build_report"]

VERSION = 1  # of the keys: goes up when one changes its meaning or goes away


def build_report(
    answered: Answer, *, question: str | None, by: str, how: str, top: int, files: Mapping[str, str]
) -> dict[str, Any]:
    """One JSON object: the answer, the pieces of the prompt that it came from, and what made it."""
    flow = answered.flow
    grouped = flow.by(by, how)
    documents = [
        {"index": i, "title": d.label, "start": d.start, "stop": d.stop, "share": share}
        for i, (d, share) in enumerate(zip(flow.documents, _document_shares(answered), strict=True))
    ]
    hits = []
    for rank, hit in enumerate(grouped.top(top or len(grouped)), 1):
        inside = hit.index if by == "document" else grouped.segments[hit.index].document
        hits.append(
            {
                "rank": rank,
                "share": hit.share,
                "text": hit.text,
                "start": hit.start,
                "stop": hit.stop,
                "index": hit.index,
                "document": inside,
                "title": None if inside is None else flow.documents[inside].label,
            }
        )
    on_answer, missing = flow.on_answer, flow.missing_mass
    return {
        "version": VERSION,
        "question": question,
        "answer": flow.answer,
        "answer_written_by_model": answered.written,
        "prompt_tokens": flow.prompt_length,
        "answer_tokens": int(flow.scores.shape[0]),
        "by": by,
        "how": how,
        "top": hits,
        "documents": documents,
        "rest": {
            "prompt": None if grouped.rest is None else float(grouped.rest.mean()),
            "answer": None if on_answer is None else float(on_answer.mean()),
            "missing": None if missing is None else float(missing.mean()),
        },
        "meta": dict(flow.meta),
        "notes": list(answered.notes),
        "seconds": {name: round(value, 3) for name, value in answered.seconds.items()},
        "files": dict(files),
    }


def _document_shares(answered: Answer) -> list[float]:
    flow = answered.flow
    return flow.by("document").total().tolist() if flow.documents else []
