"""The routes of one flow, for `explore` and `serve`: view file, citations, sums of scores, never the matrix."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response, StreamingResponse

from attributor._errors import AttributorError, FileFormatError, InputError
from attributor._result import FlowView, Scores, encode_view, pack_flow, pack_safetensors, render_page
from attributor.web.http.errors import LOG, ApiError
from attributor.web.http.schema import CitedAnswer

__all__ = ["MOST_EDGES", "create_router"]

MOST_EDGES = 20_000  # a picture has 1,000
MOST_CITATIONS = 100
BYTES = "application/octet-stream"
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}

Start = Annotated[int, Query(ge=0, description="the first")]
Stop = Annotated[int | None, Query(ge=1, description="the one after the last; left out, up to the end")]


def create_router(find_flow: Callable[[str], FlowView]) -> APIRouter:
    """The routes under /api/flows/{flow}.

    Args:
        find_flow: returns the flow with an id; raises KeyError or an ApiError if there is none. Several threads call it
            at the same time.
    """
    routes = APIRouter(prefix="/api/flows/{flow}", tags=["flows"])

    def look_up_view(flow: Annotated[str, Path(max_length=200)]) -> FlowView:
        try:
            return find_flow(flow)
        except KeyError:
            raise ApiError(404, "unknown_flow", "no flow has this id; open it again from the list") from None

    View = Annotated[FlowView, Depends(look_up_view)]

    def scores_of_view(flow_view: View) -> Scores:
        return flow_view.scores

    ViewScores = Annotated[Scores, Depends(scores_of_view)]

    @routes.get("/view", **_describe_response("the view file, without rows (attributor/_result/view/encode.py)"))
    def view(flow_view: View) -> Response:
        """The data of the page before anything is selected: text, pieces, the mean of all rows."""
        return Response(encode_view(flow_view), media_type=BYTES)

    @routes.get("/rows", **_describe_response("safetensors: scores F32 (u)"))
    def rows(scores: ViewScores, start: Start = 0, stop: Stop = None) -> Response:
        """The mean of rows start ... stop - 1, one number for each unit."""
        with _answer_422_to_bad_ranges():
            return _send_tensors(scores=scores.rows(start, scores.count if stop is None else stop))

    @routes.get("/sums", **_describe_response("safetensors: sums F32 (d or s), rest F32 (1)"))
    def sums(scores: ViewScores, by: Literal["document", "sentence"], start: Start = 0, stop: Stop = None) -> Response:
        """The mean of rows start ... stop - 1, summed over documents or sentences, and the rest outside of them."""
        with _answer_422_to_bad_ranges():
            values, rest = scores.sums(by, start, scores.count if stop is None else stop)
        return _send_tensors(sums=values, rest=np.array([rest], dtype=np.float32))

    @routes.get("/received", **_describe_response("safetensors: received F32 (o)"))
    def received(scores: ViewScores, start: Start = 0, stop: Stop = None) -> Response:
        """The sum of each row over units start ... stop - 1."""
        with _answer_422_to_bad_ranges():
            return _send_tensors(received=scores.sum_over_prompt(start, len(scores.units) if stop is None else stop))

    @routes.get(
        "/edges", **_describe_response("safetensors: rows I32 (e), pieces I32 (e), mass F32 (e), total F32 (1)")
    )
    def edges(
        scores: ViewScores,
        by: Literal["document", "sentence", "token"],
        start: Start = 0,
        stop: Stop = None,
        limit: Annotated[int, Query(ge=1, le=MOST_EDGES, description="how many at most")] = 1_000,
        unit_start: Start = 0,
        unit_stop: Stop = None,
    ) -> Response:
        """The largest connections of these rows and the pieces in these units; piece -1 is the text outside of them."""
        with _answer_422_to_bad_ranges():
            top = scores.edges(by, start, scores.count if stop is None else stop, limit, unit_start, unit_stop)
        return _send_tensors(
            rows=top.rows, pieces=top.pieces, mass=top.mass, total=np.array([top.total], dtype=np.float32)
        )

    @routes.get("/citations", response_model=CitedAnswer)
    def citations(
        flow_view: View,
        scores: ViewScores,
        top: Annotated[int, Query(ge=1, le=MOST_CITATIONS, description="the most citations of a claim")] = 3,
    ) -> dict[str, Any]:
        """The sentences of the documents that each claim of the answer came from: `flow.cite(top=top).to_json()`."""
        scores.check_finite()
        try:
            cited = flow_view.flow.cite(top=top).to_json()
        except InputError as error:
            raise ApiError(422, "no_citations", str(error)) from error
        of_claims = [citation for claim in cited["claims"] for citation in claim["citations"]]
        for part in (*of_claims, *cited["citations"], *cited["documents"]):
            part["metadata"] = _make_sendable(part["metadata"])
        return cited

    @routes.get("/page", **_describe_response("one HTML file that works offline", "text/html"))
    def html(flow_view: View) -> Response:
        """The flow as a standalone page, for saving."""
        try:
            text = render_page(flow_view)
        except FileFormatError:
            raise
        except AttributorError as error:
            LOG.error("%s", error)  # the error names the folder, which the response must not name
            raise ApiError(503, "no_front_end", "this installation cannot make pages; its terminal says why") from error
        return Response(
            text.encode("utf-8"), media_type="text/html; charset=utf-8", headers=_attachment_headers("flow.html")
        )

    @routes.get("/file", **_describe_response("the flow file (docs/flow-file.md)"))
    def file(flow_view: View) -> Response:
        """The flow file, for `attributor.load`."""
        size, chunks = pack_flow(flow_view.flow)
        headers = {"Content-Length": str(size), **_attachment_headers("flow.safetensors")}
        return StreamingResponse(chunks, media_type=BYTES, headers=headers)

    return routes


@contextmanager
def _answer_422_to_bad_ranges() -> Iterator[None]:
    """Answer 422 to a range that the flow does not have; the message says which ranges it has."""
    try:
        yield
    except InputError as error:
        raise ApiError(422, "no_such_range", str(error)) from error


def _make_sendable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as JSON values; a value that JSON cannot hold becomes text."""
    return {str(key): value if _is_json(value) else str(value) for key, value in metadata.items()}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _describe_response(what: str, kind: str = BYTES) -> dict[str, Any]:
    """The description of a route's response, for OpenAPI."""
    return {"response_class": Response, "responses": {200: {"description": what, "content": {kind: BINARY}}}}


def _send_tensors(**tensors: Any) -> Response:
    return Response(pack_safetensors(tensors), media_type=BYTES)


def _attachment_headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
