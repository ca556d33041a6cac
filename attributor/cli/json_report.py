"""Builds the JSON that `attributor ask --json` prints; docs/citations.md documents every key."""

from collections.abc import Mapping
from typing import Any

from attributor._ask import Answer, AnswerWithout
from attributor.cli.ranked_pieces import rank_pieces

__all__ = ["build_report"]


def build_report(
    answered: Answer, *, by: str, how: str, top: int, files: Mapping[str, str], without: AnswerWithout | None = None
) -> dict[str, Any]:
    """`Answer.to_json()`, with the largest pieces of the prompt and the files that were written."""
    flow = answered.flow
    ranked = rank_pieces(flow, by=by, how=how, top=top)
    hits = []
    for rank, hit in enumerate(ranked.hits, 1):
        inside = hit.index if by == "document" else ranked.grouped.segments[hit.index].document
        hits.append(
            {
                "rank": rank,
                "share" if how == "sum" else "score": hit.share,
                "text": hit.text,
                "start": hit.start,
                "stop": hit.stop,
                "document": inside,
                "title": None if inside is None else flow.documents[inside].label,
            }
        )
    report = answered.to_json()
    report["pieces"] = {"by": by, "how": how, "top": hits}
    report["files"] = dict(files)
    if without is not None:
        report["without"] = without.to_json()
    return report
