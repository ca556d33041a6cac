"""The JSON that both `explore` and `serve` send; TypeScript types are generated from these models (openapi.py)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Citation",
    "CitedAnswer",
    "Claim",
    "DocumentShare",
    "ErrorBody",
    "ErrorDetail",
    "FlowId",
    "Origin",
    "Session",
    "SourceFiles",
    "SourceInfo",
    "SourceList",
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorDetail(_Answer):
    """The code and the message of an error."""

    code: str = Field(description="snake_case, for programs", pattern="^[a-z0-9_]+$")
    message: str = Field(description="a sentence for the user that says what to do")


class ErrorBody(_Answer):
    """The body of every response with a status of 400 or more."""

    error: ErrorDetail


class Session(_Answer):
    """The facts that a page needs first."""

    door: Literal["explore", "serve"]
    version: str
    csrf: str = Field(description="goes into the header X-Attributor-Token of POST and DELETE")
    opened: str | None = Field(description="the source to show at once")


class SourceFiles(_Answer):
    """Ids of the files of one source: a run, a list or a flow."""

    run: str | None = Field(None, description="run.json: a file id")
    cases: list[str] | None = Field(None, description="cases.jsonl and parts of it: file ids")
    list: str | None = Field(None, description="a JSON list of the previous tool: a file id")
    flow: str | None = Field(None, description="a flow id")


class SourceInfo(_Answer):
    """A run, a list or a flow that the page can show."""

    id: str
    kind: Literal["run", "flow", "list"]
    name: str
    bytes: int = Field(ge=0)
    files: SourceFiles


class SourceList(_Answer):
    """The sources at the path of the command line."""

    sources: list[SourceInfo]
    note: str | None = Field(description="what was left out, and why")


class FlowId(_Answer):
    """The stored flow of a case."""

    flow: str | None


class Citation(_Answer):
    """A sentence of a document that a claim, or the answer, came from."""

    number: int = Field(ge=1, description="as in [1]; the same sentence has the same number in every claim")
    document: int = Field(ge=0, description="the index of the document, from 0")
    start: int = Field(ge=0, description="the first character of the sentence in the document, as Unicode code points")
    stop: int = Field(description="the character after the last")
    quote: str = Field(description="these characters")
    share: float = Field(ge=0, le=1, description="of what came from the documents")
    title: str | None = Field(description="of the document")
    page: int | None = Field(description="from 1, where form feeds separate pages")
    metadata: dict[str, Any] = Field(description="of the document; text where JSON has no such value")
    says: float | None = Field(
        ge=0,
        le=1,
        description="how many of the content words of the claim, or of the answer, the sentence holds; "
        "words only, so that a sentence that denies the claim can have 1",
    )


class Claim(_Answer):
    """A sentence of the answer and its sources."""

    start: int = Field(ge=0, description="its first character in the answer, as Unicode code points")
    stop: int = Field(description="the character after the last")
    text: str
    citations: list[Citation] = Field(description="the largest share first, of what this claim took from the documents")


class DocumentShare(_Answer):
    """The share of one document in what came from all documents; all together have 1."""

    document: int = Field(ge=0, description="its index, from 0")
    title: str | None
    share: float = Field(ge=0, le=1)
    metadata: dict[str, Any] = Field(description="text where JSON has no such value")


class Origin(_Answer):
    """Where the whole flow of the answer came from: fractions that add up to 1."""

    documents: float = Field(description="from the documents, to which the shares refer")
    prompt: float = Field(description="from the rest of the prompt: the question and the chat template")
    answer: float = Field(description="from earlier tokens of the answer itself")
    missing: float = Field(description="attention that was not followed")


class CitedAnswer(_Answer):
    """An answer and its citations: the JSON of `flow.cite().to_json()`."""

    version: int = Field(description="goes up when a key changes its meaning or is removed")
    answer: str
    claims: list[Claim] = Field(description="the sentences of the answer, in order")
    citations: list[Citation] = Field(description="every cited sentence once; shares are those of the whole answer")
    documents: list[DocumentShare] = Field(description="in the order of the prompt")
    origin: Origin | None = Field(description="null where the rows of the flow do not add up to 1")
