"""The types of other APIs' cited answers, as in their packages: keys, types and required keys.

Read from anthropic 2.14.0, cohere 7.3.1, langchain-core 1.8.3 and openai 3.57.0. They are strict and closed: an
unknown key is an error, and so is a number instead of text.
"""

from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import NotRequired, TypedDict

CLOSED = ConfigDict(extra="forbid", strict=True)


class CharLocation(TypedDict):
    """anthropic.types.CitationCharLocation"""

    __pydantic_config__ = CLOSED
    type: Literal["char_location"]
    cited_text: str
    document_index: int
    document_title: NotRequired[str | None]
    start_char_index: int
    end_char_index: int
    file_id: NotRequired[str | None]


class TextBlock(TypedDict):
    """anthropic.types.TextBlock"""

    __pydantic_config__ = CLOSED
    type: Literal["text"]
    text: str
    citations: NotRequired[list[CharLocation] | None]


class FileCitation(TypedDict):
    """openai.types.responses.response_output_text.AnnotationFileCitation"""

    __pydantic_config__ = CLOSED
    type: Literal["file_citation"]
    file_id: str
    filename: str
    index: int


class UrlCitation(TypedDict):
    """openai.types.responses.response_output_text.AnnotationURLCitation"""

    __pydantic_config__ = CLOSED
    type: Literal["url_citation"]
    start_index: int
    end_index: int
    title: str
    url: str


class OutputText(TypedDict):
    """openai.types.responses.ResponseOutputText"""

    __pydantic_config__ = CLOSED
    type: Literal["output_text"]
    text: str
    annotations: list[FileCitation | UrlCitation]


class CohereText(TypedDict):
    """cohere.types.TextAssistantMessageResponseContentItem"""

    __pydantic_config__ = CLOSED
    type: Literal["text"]
    text: str


class DocumentSource(TypedDict):
    """cohere.types.DocumentSource"""

    __pydantic_config__ = CLOSED
    type: Literal["document"]
    id: NotRequired[str | None]
    document: NotRequired[dict[str, Any] | None]


class CohereCitation(TypedDict):
    """cohere.types.Citation"""

    __pydantic_config__ = CLOSED
    start: NotRequired[int | None]
    end: NotRequired[int | None]
    text: NotRequired[str | None]
    sources: NotRequired[list[DocumentSource] | None]
    content_index: NotRequired[int | None]
    type: NotRequired[Literal["TEXT_CONTENT", "THINKING_CONTENT", "PLAN"] | None]


class CohereMessage(TypedDict):
    """cohere.types.AssistantMessageResponse, without the calls of tools"""

    __pydantic_config__ = CLOSED
    role: Literal["assistant"]
    content: NotRequired[list[CohereText] | None]
    citations: NotRequired[list[CohereCitation] | None]


class LangChainCitation(TypedDict):
    """langchain_core.messages.content.Citation"""

    __pydantic_config__ = CLOSED
    type: Literal["citation"]
    id: NotRequired[str]
    url: NotRequired[str]
    title: NotRequired[str]
    start_index: NotRequired[int]
    end_index: NotRequired[int]
    cited_text: NotRequired[str]
    extras: NotRequired[dict[str, Any]]


class LangChainText(TypedDict):
    """langchain_core.messages.content.TextContentBlock"""

    __pydantic_config__ = CLOSED
    type: Literal["text"]
    id: NotRequired[str]
    text: str
    annotations: NotRequired[list[LangChainCitation]]
    index: NotRequired[int | str]
    extras: NotRequired[dict[str, Any]]


SHAPES: dict[str, TypeAdapter[Any]] = {
    "anthropic": TypeAdapter(list[TextBlock]),
    "cohere": TypeAdapter(CohereMessage),
    "langchain": TypeAdapter(list[LangChainText]),
    "openai": TypeAdapter(OutputText),
}
