"""The JSON form of a path trace."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from attributor.web.live.trace import Edge, Node, PathTrace

__all__ = ["TraceAnswer", "TraceEdge", "TraceLevel", "TraceNode", "TracePath"]


class TraceNode(BaseModel):
    """A position of one level. Position p reads prompt token p (`unit`), or answer token p - k, and predicts `row`."""

    id: int
    position: int
    unit: int | None = Field(description="of the prompt; null behind it")
    row: int | None = Field(description="of the answer, that is predicted here; null within the prompt")
    mass: float = Field(description="of all drawn routes through it; each level's add up to shown * exact")


class TraceLevel(BaseModel):
    """The residual stream on top of `layer` layers; the heads of layer - 1 lead to the next level."""

    layer: int
    nodes: list[TraceNode]


class TraceEdge(BaseModel):
    """A step from a level to the next. The residual and attention to the same position are two edges."""

    start: int = Field(serialization_alias="from")
    stop: int = Field(serialization_alias="to")
    mass: float = Field(description="of all drawn routes along it")
    head: int | None = Field(description="the one that carries most of it; null: the residual connection")
    heads: list[tuple[int, float]] = Field(description="[head, share of this edge], the largest few")


class TracePath(BaseModel):
    """One route, from the answer down to the prompt."""

    nodes: list[int]
    mass: float
    share: float = Field(description="of `exact`")


class TraceAnswer(BaseModel):
    """The strongest routes. Of the mass of all routes, `exact`, the drawn ones carry the share `shown`."""

    levels: list[TraceLevel]
    edges: list[TraceEdge]
    shown: float
    exact: float
    paths: list[TracePath]
    rows: list[int] = Field(description="the rows that were averaged")

    @classmethod
    def of(cls, trace: PathTrace, unit_of: npt.NDArray[np.int64], rows: list[int]) -> "TraceAnswer":
        """The JSON of a trace, with units and rows for positions: `unit_of` (k,) is the unit of each prompt token."""
        k, exact = len(unit_of), trace.exact or 1.0

        def node(one: Node) -> TraceNode:
            unit = int(unit_of[one.position]) if one.position < k else None
            row = one.position - (k - 1)
            return TraceNode(id=one.id, position=one.position, unit=unit, row=row if row >= 0 else None, mass=one.mass)

        def edge(one: Edge) -> TraceEdge:
            head = one.heads[0][0] if one.heads else None
            parts = [(name, _short(share, 3)) for name, share in one.heads]
            return TraceEdge(start=one.start, stop=one.stop, mass=_short(one.mass), head=head, heads=parts)

        return cls(
            levels=[
                TraceLevel(layer=layer, nodes=[node(one) for one in level])
                for layer, level in zip(trace.layers, trace.levels, strict=True)
            ],
            edges=[edge(one) for one in trace.edges],
            shown=min(1.0, trace.mass / exact),
            exact=trace.exact,
            paths=[TracePath(nodes=list(ids), mass=mass, share=min(1.0, mass / exact)) for mass, ids in trace.paths],
            rows=rows,
        )


def _short(value: float, digits: int = 6) -> float:
    """The value rounded to `digits` significant digits, because a response may hold thousands of values."""
    return float(f"{value:.{digits}g}")
