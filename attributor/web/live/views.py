"""The routes of views into the network: the head map, one layer, the strongest paths, tiles of a matrix.

Each picture is computed when it is requested, from the recording of its run and only for the requested rows. Pictures
are computed one at a time, in a thread, and cancelled when the client disconnects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from attributor._result import FlowView, pack_safetensors
from attributor.web.http import ApiError
from attributor.web.live import tiles as matrix
from attributor.web.live.attention import MOST_ROWS, Check, choose_rows
from attributor.web.live.heads import compute_head_maps
from attributor.web.live.layers import find_layer_edges
from attributor.web.live.runs import RecordedRun
from attributor.web.live.trace import Extent, mean_start_row, trace
from attributor.web.live.trace_response import TraceAnswer
from attributor.web.live.view_queue import run_in_turn

if TYPE_CHECKING:
    from attributor.web.live.service import LiveService

__all__ = ["MOST_EDGES", "MOST_NODES", "TilesInfo", "create_router"]

MOST_EDGES = 20_000  # a picture has 1,000
MOST_NODES = 64  # of a level
BYTES = "application/octet-stream"
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}

T = TypeVar("T")
Bools = npt.NDArray[np.bool_]

FlowId = Annotated[str, Path(max_length=200)]
Start = Annotated[int, Query(ge=0, description="the first row of the answer")]
Stop = Annotated[int | None, Query(ge=1, description="the one after the last; left out: to the end of the answer")]
UnitStart = Annotated[int | None, Query(ge=0, description="the first selected unit; left out: the whole prompt")]
UnitStop = Annotated[int | None, Query(ge=1, description="the one after the last selected unit")]
Layer = Annotated[int, Query(ge=0, description="counted from 0")]
Head = Annotated[int, Query(ge=0, description="counted from 0")]


class TilesInfo(BaseModel):
    """A matrix of tokens x tokens; at level z a tile has size x size cells of 2^z x 2^z pairs."""

    tokens: int
    size: int
    levels: int


@dataclass(frozen=True)
class Selection:
    """The checked selection of a request.

    Attributes:
        rows: of the answer, evenly chosen if there are many.
        units: [start, stop), or None for the whole prompt.
    """

    recorded: RecordedRun
    view: FlowView
    rows: list[int]
    units: tuple[int, int] | None

    @property
    def positions(self) -> list[int]:
        """The position that predicts each row."""
        positions: list[int] = self.recorded.positions[self.rows].tolist()
        return positions

    @cached_property
    def unit_of(self) -> npt.NDArray[np.int64]:
        """(k,) the unit of each prompt token."""
        bounds = self.view.scores.units.bounds
        return np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))

    @property
    def selected(self) -> Bools:
        """(k,) which prompt tokens lie in the selected units."""
        start, stop = self.units or (0, int(self.unit_of[-1]) + 1)
        return (self.unit_of >= start) & (self.unit_of < stop)

    @property
    def heads(self) -> torch.Tensor:
        """(L, H) the run's weights."""
        return self.recorded.weights.heads


def create_router(live: "LiveService") -> APIRouter:
    """The routes under /flows/{flow}, for the router of `attributor serve`.

    Args:
        live: `runs.get_recorded(id)` and `runs.get_view(id)` return the data; `compute` is the lock of computations.
    """
    routes = APIRouter(prefix="/flows/{flow}", tags=["network"])
    cache = matrix.TileCache()

    async def compute(request: Request, work: Callable[[Check], T]) -> T:
        return await run_in_turn(live.compute, request, work)

    def select(
        flow: str, start: int, stop: int | None, unit_start: int | None, unit_stop: int | None, most: int = MOST_ROWS
    ) -> Selection:
        recorded, view = live.runs.get_recorded(flow), live.runs.get_view(flow)
        o, u = len(recorded.positions), len(view.scores.units)
        end = o if stop is None else stop
        _check_range("rows of the answer", start, end, o)
        units = None
        if unit_start is not None or unit_stop is not None:
            units = unit_start or 0, u if unit_stop is None else unit_stop
            _check_range("units of the prompt", *units, u)
        return Selection(recorded, view, choose_rows(start, end, most), units)

    @routes.get(
        "/heads", **_describe_response("safetensors: mass, entropy, sink, distance, weight F32 (L, H); rows I32 (r)")
    )
    async def heads(
        request: Request,
        flow: FlowId,
        start: Start = 0,
        stop: Stop = None,
        unit_start: UnitStart = None,
        unit_stop: UnitStop = None,
    ) -> Response:
        """The attention of every head at the positions that predict the rows, averaged; NaN for unrecorded heads.

        Attention on the selected units, entropy in nats, attention on token 0, mean distance in tokens, and the head's
        weight in the run. At most 64 rows are averaged, evenly chosen: `rows`; `rows_used` is their number.
        """

        def work(check: Check) -> Response:
            selection = select(flow, start, stop, unit_start, unit_stop)
            recording, weights = selection.recorded.recording, selection.heads
            maps = compute_head_maps(recording, selection.positions, selection.selected, weights, check=check)
            return _send_tensors(vars(maps) | _used_rows(selection))

        return await compute(request, work)

    @routes.get(
        "/layer",
        **_describe_response("safetensors: query, key, head I32 (e), mass F32 (e); totals, relative F32 (heads)"),
    )
    async def layer(
        request: Request,
        flow: FlowId,
        layer: Layer,
        heads: Annotated[str, Query(max_length=4096, description="numbers with commas between: 0,3")],
        start: Start = 0,
        stop: Stop = None,
        limit: Annotated[int, Query(ge=1, le=MOST_EDGES, description="how many edges at most")] = 1_000,
        unit_start: UnitStart = None,
        unit_stop: UnitStop = None,
    ) -> Response:
        """The largest shares of raw attention from rows to units, for some heads of a layer.

        Each head has an equal part of `limit`. `totals` are the heads' total masses to the selected units, over the
        same rows. `relative` is a head's weight as a share of the run's largest weight.
        """

        def work(check: Check) -> Response:
            selection = select(flow, start, stop, unit_start, unit_stop)
            chosen = _parse_heads(heads)
            _check_heads(selection.heads, layer, *chosen)
            edges = find_layer_edges(
                selection.recorded.recording,
                layer,
                chosen,
                selection.positions,
                selection.unit_of,
                selection.heads,
                limit=limit,
                units=selection.units,
                check=check,
            )
            rows = np.asarray(selection.rows, dtype=np.int32)
            return _send_tensors(vars(edges) | {"query": rows[edges.query]} | _used_rows(selection))

        return await compute(request, work)

    @routes.get("/trace")
    async def strongest_paths(
        request: Request,
        flow: FlowId,
        start: Start = 0,
        stop: Stop = None,
        unit_start: UnitStart = None,
        unit_stop: UnitStop = None,
        keep: Annotated[float, Query(gt=0, le=1, description="the share that the drawn routes should carry")] = 0.9,
        nodes: Annotated[int, Query(ge=1, le=MOST_NODES, description="at most so many a level")] = 24,
    ) -> TraceAnswer:
        """The strongest routes from the mean of the rows through the run's heads to the selected units.

        Every row needs nodes of its own, so at most nodes / 2 rows are averaged, evenly chosen.
        """

        def work(check: Check) -> TraceAnswer:
            selection = select(flow, start, stop, unit_start, unit_stop, most=max(1, nodes // 2))
            return _trace_paths(selection, keep, nodes, check)

        return await compute(request, work)

    @routes.get("/tiles")
    async def tiles(flow: FlowId, layer: Layer, head: Head) -> TilesInfo:
        """The size of a head's attention matrix."""
        recorded = live.runs.get_recorded(flow)
        _check_heads(recorded.weights.heads, layer, head)
        return TilesInfo(tokens=recorded.length, size=matrix.SIZE, levels=matrix.count_levels(recorded.length))

    @routes.get("/tile", **_describe_response("safetensors: max, mean U8 (256, 256), scale F32 (2), every I32 (1)"))
    async def tile(
        request: Request,
        flow: FlowId,
        layer: Layer,
        head: Head,
        level: Annotated[int, Query(ge=0, description="0: a cell a pair of tokens; z: 2^z tokens a cell")],
        row: Annotated[int, Query(ge=0, description="which tile, down the queries")],
        col: Annotated[int, Query(ge=0, description="which tile, along the keys")],
    ) -> Response:
        """A tile of a head's attention, 255 * sqrt(P / scale): each cell's largest value, and its mean."""
        recorded = live.runs.get_recorded(flow)  # raises if the recording is gone, also for a cached tile
        place = (flow, layer, head, level, row, col)

        def work(check: Check) -> bytes:
            data = cache.get(place)
            if data is None:
                _check_heads(recorded.weights.heads, layer, head)
                computed = matrix.compute_tile(
                    recorded.recording, layer, head, level, row, col, length=recorded.length, check=check
                )
                scale, every = np.array(computed.scale, np.float32), np.array([computed.every], np.int32)
                data = pack_safetensors({"max": computed.max, "mean": computed.mean, "scale": scale, "every": every})
                cache.put(place, data)
            return data

        known = cache.get(place)
        return Response(await compute(request, work) if known is None else known, media_type=BYTES)

    return routes


def _trace_paths(selection: Selection, keep: float, nodes: int, check: Check) -> TraceAnswer:
    flow, weights, question_ids = selection.recorded.flow, selection.recorded.weights, selection.recorded.question
    question = None if question_ids is None else question_ids.numpy()
    selected = selection.selected
    exact = float(flow.scores[selection.rows].double().mean(0)[torch.from_numpy(selected)].sum())
    if flow.normalized is False:
        exact /= weights.growth
    paths = trace(
        selection.recorded.recording,
        mean_start_row(selection.positions, selection.recorded.length, question, weights.question),
        np.flatnonzero(selected),
        weights,
        exact=exact,
        extent=Extent(keep=keep, nodes=nodes),
        check=check,
    )
    return TraceAnswer.of(paths, selection.unit_of, selection.rows)


def _check_range(what: str, start: int, stop: int, count: int) -> None:
    if not 0 <= start < stop <= count:
        raise ApiError(
            422, "no_such_range", f"{what} are 0 to {count - 1}: start must be below stop, stop at most {count}"
        )


def _parse_heads(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts) or len(set(parts)) != len(parts):
        raise ApiError(422, "invalid_request", "heads are numbers with commas between, each once, such as 0,3")
    return [int(part) for part in parts]


def _check_heads(weights: torch.Tensor, layer: int, *heads: int) -> None:
    L, H = weights.shape
    if not 0 <= layer < L or not all(0 <= head < H for head in heads):
        raise ApiError(422, "no_such_head", f"this model has layers 0 to {L - 1} with heads 0 to {H - 1}")


def _used_rows(selection: Selection) -> dict[str, Any]:
    return {"rows": np.asarray(selection.rows, np.int32), "rows_used": np.array([len(selection.rows)], np.int32)}


def _describe_response(what: str) -> dict[str, Any]:
    """The description of a route's response, for OpenAPI."""
    return {"response_class": Response, "responses": {200: {"description": what, "content": {BYTES: BINARY}}}}


def _send_tensors(tensors: dict[str, Any]) -> Response:
    return Response(pack_safetensors(tensors), media_type=BYTES)
