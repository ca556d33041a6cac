"""The JSON that `explore` and `serve` both send; TypeScript types are generated from these models (openapi.py)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ErrorBody", "ErrorDetail", "FlowId", "Session", "SourceFiles", "SourceInfo", "SourceList"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorDetail(_Answer):
    """What went wrong."""

    code: str = Field(description="snake_case, for programs", pattern="^[a-z0-9_]+$")
    message: str = Field(description="a sentence for the user that says what to do")


class ErrorBody(_Answer):
    """Every answer with a status of 400 or more."""

    error: ErrorDetail


class Session(_Answer):
    """What a page needs to know first."""

    door: Literal["explore", "serve"]
    version: str
    csrf: str = Field(description="goes into the header X-Attributor-Token of POST and DELETE")
    opened: str | None = Field(description="the source to show at once")


class SourceFiles(_Answer):
    """Ids of the files of one source: of a run, or of a list, or of a flow."""

    run: str | None = Field(None, description="run.json: a file id")
    cases: list[str] | None = Field(None, description="cases.jsonl and parts of it: file ids")
    list: str | None = Field(None, description="the ancestor's JSON list: a file id")
    flow: str | None = Field(None, description="a flow id")


class SourceInfo(_Answer):
    """Something to look at."""

    id: str
    kind: Literal["run", "flow", "list"]
    name: str
    bytes: int = Field(ge=0)
    files: SourceFiles


class SourceList(_Answer):
    """What was named on the command line."""

    sources: list[SourceInfo]
    note: str | None = Field(description="what was left out, and why")


class FlowId(_Answer):
    """The flow that was kept for a case."""

    flow: str | None
