"""The routes of the explorer: the list of its files, and their bytes. They need neither a model nor torch."""

from typing import Annotated

from fastapi import APIRouter, Header, Query

from attributor.web.explore.sources import Sources
from attributor.web.http import FileRangeResponse, FlowId, SourceFiles, SourceInfo, SourceList

__all__ = ["create_router"]

BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def create_router(sources: Sources) -> APIRouter:
    """The routes under /api/sources and /api/files."""
    routes = APIRouter(prefix="/api", tags=["explore"])

    @routes.get("/sources", response_model_exclude_unset=True)
    def list_sources() -> SourceList:
        """The sources at the path of the command line, in their current state."""
        infos = [
            SourceInfo(
                id=name,
                kind=source.kind,
                name=source.name,
                bytes=source.bytes,
                files=SourceFiles(**sources.file_ids(source)),
            )
            for name, source in sources.scan().items()
        ]
        return SourceList(sources=infos, note=sources.note)

    @routes.get("/sources/{source}/flow")
    def flow_of_case(source: str, case: Annotated[str, Query(max_length=4096)]) -> FlowId:
        """The token-level flow that a run stored for a case, if there is one."""
        return FlowId(flow=sources.find_case_flow(source, case))

    @routes.get(
        "/files/{file}",
        status_code=200,
        response_class=FileRangeResponse,
        responses={
            200: {"description": "the whole file", "content": BYTES},
            206: {"description": "one range of its bytes", "content": BYTES},
        },
    )
    def file_bytes(
        file: str,
        range: Annotated[str | None, Header(max_length=100)] = None,
        if_range: Annotated[str | None, Header(max_length=100)] = None,
    ) -> FileRangeResponse:
        """The bytes of a file of a source: all of them, or one range."""
        return FileRangeResponse(sources.file(file), range, if_range)

    return routes
